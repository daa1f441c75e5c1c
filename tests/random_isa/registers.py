"""A random instruction set with its registers inside: the whole state in, the whole state out."""

from __future__ import annotations

from pathlib import Path

from random_isa import RandomIsa, random_isa
from random_isa.layout import Dice, draw_layout
from tapeout.circuit.functions import c_source, compile_library
from tapeout.circuit.words import Interface, Word


class WithRegisters:
    """Words ``r[...]`` in place of ``rs1``, ``rs2``, ``old``, ``result`` and ``write``.

    Drawn are which word each number names, whether number 0 is a word or always 0, and where the words stand.
    ``fields`` are the instruction bits of ``rs1``, ``rs2`` and ``rd``, the lowest first; ``numbers`` the words by
    number, -1 for none.
    """

    def __init__(self, seed: int) -> None:
        self.isa: RandomIsa = random_isa(seed)
        layout = draw_layout(Dice(seed))
        self.fields = {"rs1": layout.first, "rs2": layout.second, "rd": layout.destination}
        dice = Dice(seed + 1_000_000)
        count = 1 << len(layout.first)
        self.has_zero = dice.chance(0.5)
        order = dice.shuffled(range(count - self.has_zero))
        self.numbers = [-1, *order] if self.has_zero else order
        width = self.isa.drawn.inputs["rs1"]
        words = tuple(Word(f"r[{index}]", width) for index in range(len(order)))
        after = tuple(Word(f"r[{index}].next", width) for index in range(len(order)))
        inputs = [word for word in self.isa.interface.inputs if word.name not in ("rs1", "rs2", "old")]
        outputs = [word for word in self.isa.interface.outputs if word.name not in ("result", "write")]
        at, to = dice.between(0, len(inputs)), dice.between(0, len(outputs))
        self.interface = Interface((*inputs[:at], *words, *inputs[at:]), (*outputs[:to], *after, *outputs[to:]))

    def input_bits(self, name: str) -> tuple[int, ...]:
        """The input bits of a field, the lowest first."""
        names = [word.name for word in self.interface.inputs]
        start = sum(word.width for word in self.interface.inputs[: names.index("instruction")])
        return tuple(start + bit for bit in self.fields[name])

    def library(self, folder: Path) -> Path:
        """Compiles the step into ``folder``; for `LibraryOracle`."""
        statements, helpers = self.isa.c_parts()
        number = {
            name: " | ".join(f"(instruction >> {bit} & 1) << {place}" for place, bit in enumerate(bits))
            for name, bits in self.fields.items()
        }
        table = f"static const int numbers[] = {{{', '.join(map(str, self.numbers))}}};"
        reads = [
            f"uint64_t {name} = numbers[{number[field]}] < 0 ? 0 : r[numbers[{number[field]}]]; (void){name};"
            for name, field in (("rs1", "rs1"), ("rs2", "rs2"), ("old", "rd"))
        ]
        writes = f"if (write && numbers[{number['rd']}] >= 0) r_next[numbers[{number['rd']}]] = result;"
        step = ["uint64_t result = 0, write = 0;", *reads, "{", statements, "}", "memcpy(r_next, r, sizeof r);", writes]
        source = c_source(self.interface, "\n".join(step), f"{helpers}\n{table}")
        return compile_library(source, folder / f"registers{self.isa.name}.so")
