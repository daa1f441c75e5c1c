"""The input space of the processor in parts, each small enough to be proved by itself.

Classes are tried in order and an input belongs to the first that it matches: interrupts, then each instruction, then
what is illegal, opcode by opcode.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapeout.circuit.bitvector import Bits, any_of, constant
from tapeout.circuit.miter import Cones
from tapeout.circuit.netlist import Builder
from tapeout.circuit.words import Interface
from tapeout.cpu.encodings import encodings
from tapeout.cpu.reference import interface
from tapeout.errors import VerifyError

OPCODE = 0x7F


@dataclass(frozen=True, slots=True)
class Cube:
    """The rows with ``row & mask == match``; bit ``i`` of a row is input bit ``i``."""

    mask: int
    match: int

    def meets(self, other: Cube) -> bool:
        """Whether some row is in both."""
        return not (self.match ^ other.match) & self.mask & other.mask

    def literals(self, width: int, inputs: list[int] | None = None) -> list[int]:
        """Inputs with the bits that the cube fixes as constants, the others as they are."""
        free = inputs or [2 * (1 + bit) for bit in range(width)]
        return [self.match >> bit & 1 if self.mask >> bit & 1 else free[bit] for bit in range(width)]

    def predicate(self, builder: Builder, inputs: list[int]) -> Bits:
        """1 for the rows of the cube."""
        fixed = [bit for bit in range(len(inputs)) if self.mask >> bit & 1]
        return Bits(builder, tuple(inputs[bit] ^ 1 ^ self.match >> bit & 1 for bit in fixed)).all()


@dataclass(frozen=True, slots=True)
class InstructionClass:
    """The rows of ``cube`` that are in none of ``excluded``."""

    name: str
    cube: Cube
    excluded: tuple[Cube, ...]

    def predicate(self, builder: Builder, inputs: list[int]) -> Bits:
        """1 for the rows of the class. Bits of the cube may be constants in ``inputs`` already."""
        others = [cube.predicate(builder, inputs) for cube in self.excluded]
        return self.cube.predicate(builder, inputs) & ~any_of([constant(builder, 0, 1), *others])


def instruction_classes(variant: str) -> tuple[InstructionClass, ...]:
    """The classes of a variant in port form.

    Raises:
        UserError: no such variant.
    """
    table = encodings(variant).values()
    words = interface(variant)
    opcodes = sorted({encoding.match & OPCODE for encoding in table})
    ordered = [*(_interrupts(words) if "machine" in variant else [])]
    ordered += [(row.name, _cube(words, {"instruction": (row.mask, row.match)})) for row in table]
    ordered += [(f"illegal {code:07b}", _cube(words, {"instruction": (OPCODE, code)})) for code in opcodes]
    ordered += [("illegal opcode", Cube(0, 0))]
    return tuple(
        InstructionClass(name, cube, tuple(before for _, before in ordered[:place] if before.meets(cube)))
        for place, (name, cube) in enumerate(ordered)
    )


def prove_partition(classes: tuple[InstructionClass, ...], words: Interface) -> None:
    """Proves that every input row is in exactly one class.

    Raises:
        VerifyError: with a row that is in none or in two.
    """
    builder = Builder(Interface(words.inputs, ()))
    inputs = Cube(0, 0).literals(words.input_bits)
    some = twice = constant(builder, 0, 1)
    for part in classes:
        inside = part.predicate(builder, inputs)
        twice, some = twice | some & inside, some | inside
    cones = Cones(builder.finish({}))
    for what, literal in (("none", (~some).literals[0]), ("two", twice.literals[0])):
        if cones.satisfiable([literal], conflicts=1_000_000) is not False:
            raise VerifyError("instruction_classes", f"row {cones.row():#x}", f"it is in {what} of the classes")
    cones.close()


def _interrupts(words: Interface) -> list[tuple[str, Cube]]:
    """Pending and enabled, for each line and mode."""
    found: list[tuple[str, Cube]] = []
    for name, enable in (("software", "msie"), ("timer", "mtie")):
        pending = {f"{name}_interrupt": (1, 1), enable: (1, 1)}
        found.append((f"{name} interrupt in U", _cube(words, {**pending, "machine_mode": (1, 0)})))
        found.append((f"{name} interrupt in M", _cube(words, {**pending, "machine_mode": (1, 1), "mie": (1, 1)})))
    return found


def _cube(words: Interface, fixed: dict[str, tuple[int, int]]) -> Cube:
    """A cube from ``(mask, match)`` of some input words."""
    mask = match = start = 0
    for word in words.inputs:
        word_mask, word_match = fixed.get(word.name, (0, 0))
        mask |= word_mask << start
        match |= word_match << start
        start += word.width
    return Cube(mask, match)
