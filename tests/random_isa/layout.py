"""Where the fields of a random instruction set stand, and which codes its instructions have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from random_isa.terms import Term, constant, join, variable

T = TypeVar("T")
Bits = list[int]


class Dice:
    """Draws from a seed; every draw of an instruction set goes through it."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([seed, 0x15A])

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def between(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        return int(self.random.integers(low, high + 1))

    def one_of(self, items: Sequence[T]) -> T:
        return items[int(self.random.integers(len(items)))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [items[index] for index in self.random.permutation(len(items))]

    def chunks(self, items: Sequence[T], most: int) -> list[list[T]]:
        """``items`` cut into one to ``most`` runs, none of them empty."""
        count = self.between(1, max(1, min(most, len(items))))
        cuts = sorted(self.random.permutation(len(items) - 1)[: count - 1] + 1) if count > 1 else []
        return [list(items[start:end]) for start, end in zip([0, *cuts], [*cuts, len(items)], strict=True)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Bits of the instruction, a field's least significant first; ``destination`` may be ``first`` (two addresses)."""

    width: int
    opcode: Bits
    function: Bits
    destination: Bits
    first: Bits
    second: Bits
    free: Bits

    def available(self, kind: str, has_function: bool) -> Bits:
        """Bits that an immediate of this kind of instruction may use."""
        used = {"R": "dab", "I": "da", "S": "ab", "U": "d", "J": ""}[kind]
        fields = (("d", self.destination), ("a", self.first), ("b", self.second))
        taken = {bit for name, field in fields if name in used for bit in field} | set(self.opcode)
        taken |= set(self.function) if has_function else set()
        return [bit for bit in range(self.width) if bit not in taken]


def draw_layout(dice: Dice) -> Layout:
    """Sizes that fit, fields cut into pieces, pieces in any order."""
    width = dice.between(16, 40)
    while True:
        opcode, function, register = dice.between(3, 6), dice.between(2, 4), dice.between(2, 5)
        addresses = dice.one_of((2, 3, 3))
        if opcode + function + addresses * register <= width - (width > 18):
            break
    names = ["opcode"] * opcode + ["function"] * function
    names += ["first"] * register + ["second"] * register + ["destination"] * (register if addresses == 3 else 0)
    pieces = dice.chunks(["opcode"] * opcode, 3) + dice.chunks(["function"] * function, 2)
    for field in ("first", "second", *(["destination"] if addresses == 3 else [])):
        pieces += dice.chunks([field] * register, 1 if dice.chance(0.8) else 2)
    if width > len(names):
        pieces += dice.chunks(["free"] * (width - len(names)), 3)
    owners = [name for piece in dice.shuffled(pieces) for name in piece]
    places = {field: [bit for bit, owner in enumerate(owners) if owner == field] for field in {*names, "free"}}
    for field in ("opcode", "function"):
        places[field] = dice.shuffled(places[field])
    return Layout(
        width, places["opcode"], places["function"], places.get("destination", places["first"]), places["first"],
        places["second"], places["free"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Immediate:
    """A constant in the instruction word: its bits, the lowest first, whether it has a sign, and its value."""

    bits: tuple[int, ...]
    is_signed: bool
    value: Term


def draw_immediate(dice: Dice, available: Bits, most: int, width: int) -> Immediate:
    """A constant of at most ``most`` bits scattered over those available, and whether it has a sign."""
    if not available:
        return Immediate((), False, constant(0, 1))
    bits = [bit for chunk in dice.shuffled(dice.chunks(available, 4)) for bit in chunk][:most]
    if dice.chance(0.2) and len(bits) > 4:
        bits = bits[: dice.between(4, len(bits))]
    instruction = variable("instruction", width)
    return Immediate(tuple(bits), dice.chance(0.6), join(*(instruction[bit] for bit in bits)))


def scatter(value: int, places: Bits) -> int:
    """Bit ``i`` of ``value`` at place ``places[i]``."""
    return sum((value >> index & 1) << place for index, place in enumerate(places))
