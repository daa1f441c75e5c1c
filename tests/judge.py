"""Judges what was learned: counts wrong rows of rows that are drawn by rules which the learner does not share.

A quarter of the rows is uniform. In the others each word is a corner value (powers of two and their neighbours, sign
boundaries, small numbers of either sign, byte patterns, sequences, numbers of any length) or in a relation to a word
before it (equal, one more, one less, complement, negative, one bit flipped, one half equal, moved by a byte). For an
instruction set each operation is drawn equally often, also damaged in one or two bits, and words equal to the
instruction's constant or next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.columns import Column, columns_to_rows, rows_to_columns
from tapeout.circuit.functions import limbs as L
from tapeout.circuit.functions.limbs import Limbs
from tapeout.circuit.words import Interface, Rows, Word


class Code(NamedTuple):
    """One encoding of an operation: ``instruction & mask == match``; its constant's bits, the lowest first."""

    mask: int
    match: int
    constant: tuple[int, ...] = ()
    is_signed: bool = False


Codes = Mapping[str, Sequence[Code]]
"""The encodings of each operation."""
Index = NDArray[np.intp]
BATCH = 1 << 16
_PATTERNS = np.array([0x00, 0xFF, 0x55, 0xAA, 0x0F, 0xF0, 0x33, 0x80, 0x7F, 0x01], np.uint64)


class Answers(Protocol):
    """Whatever answers rows: a black box, or a netlist that evaluates itself."""

    def __call__(self, rows: Rows) -> Rows: ...


@dataclass(slots=True)
class Verdict:
    """Rows asked, rows answered wrong, both by operation; wrong answers by output word; the first wrong question."""

    rows: int = 0
    wrong: int = 0
    by_operation: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    by_output: dict[str, int] = field(default_factory=dict[str, int])
    first: Rows | None = None

    @property
    def bound(self) -> float:
        """The rate of wrong rows stays below this with 95 % confidence, if none of the rows asked was wrong."""
        return 3.0 / self.rows if self.rows and not self.wrong else 1.0


def judge(
    oracle: Answers, candidate: Answers, interface: Interface, rows: int, seed: int = 0, codes: Codes | None = None
) -> Verdict:
    """Asks both the same ``rows`` questions and counts the answers that differ."""
    draw = Draw(interface, seed, codes)
    verdict = Verdict()
    while verdict.rows < rows:
        count = min(BATCH, rows - verdict.rows)
        questions, groups = draw(count)
        meant = oracle(questions)
        given = candidate(questions)
        wrong = np.flatnonzero((meant != given).any(axis=1))
        verdict.rows += count
        verdict.wrong += len(wrong)
        for group, name in enumerate(draw.names):
            asked, failed = verdict.by_operation.get(name, (0, 0))
            more = int(np.count_nonzero(groups == group)), int(np.count_nonzero(groups[wrong] == group))
            verdict.by_operation[name] = asked + more[0], failed + more[1]
        if len(wrong):
            if verdict.first is None:
                verdict.first = questions[wrong[:1]]
            pairs = zip(*(rows_to_columns(answer[wrong], interface.outputs) for answer in (meant, given)), strict=True)
            for word, (a, b) in zip(interface.outputs, pairs, strict=True):
                differ = int(np.count_nonzero((a != b).reshape(len(wrong), -1).any(axis=1)))
                if differ:
                    verdict.by_output[word.name] = verdict.by_output.get(word.name, 0) + differ
    return verdict


class Draw:
    """Rows for an interface; with ``codes``, the word ``instruction`` is drawn operation by operation."""

    def __init__(self, interface: Interface, seed: int, codes: Codes | None = None, word: str = "instruction") -> None:
        self.interface = interface
        self.random = np.random.default_rng([seed, 0x10D6E])
        self.codes = codes
        self.word = word
        self.names = [*codes, "any", "damaged"] if codes else ["any"]

    def __call__(self, count: int) -> tuple[Rows, Index]:
        """``count`` rows, and for each the index in `names` of what it was drawn for."""
        words = self.interface.inputs
        drawn: list[Limbs] = []
        for index, word in enumerate(words):
            limbs = corners(self.random, count, word.width)
            if index:
                self._relate(limbs, word, drawn, words)
            drawn.append(limbs)
        plain = np.flatnonzero(self.random.integers(0, 4, count) == 0)
        for word, limbs in zip(words, drawn, strict=True):
            for limb, random in zip(limbs, uniform(self.random, len(plain), word.width), strict=True):
                limb[plain] = random
        groups = np.zeros(count, np.intp)
        if self.codes:
            place = [word.name for word in words].index(self.word)
            groups = self._encode(drawn, place, self.codes)
        return columns_to_rows([L.join(limbs) for limbs in drawn], words, count, "judge"), groups

    def _relate(self, limbs: Limbs, word: Word, earlier: list[Limbs], words: Sequence[Word]) -> None:
        """Replaces half of the values by relatives of an earlier word, of the same width where there is one."""
        count = len(limbs[0])
        same = [index for index in range(len(earlier)) if words[index].width == word.width]
        related = self.random.integers(0, 2, count) == 0
        partner = self.random.integers(0, len(earlier), count)
        if same:
            partner = np.where(self.random.integers(0, 4, count) > 0, self.random.choice(same, count), partner)
        for other in range(len(earlier)):
            where = np.flatnonzero(related & (partner == other))
            source = [limb[where] for limb in earlier[other]]
            for limb, value in zip(limbs, self._relative(source, word.width, limbs, where), strict=True):
                limb[where] = value

    def _relative(self, source: Limbs, width: int, own: Limbs, where: Index) -> Limbs:
        """For each row one relation to ``source``, brought to ``width``."""
        count = len(where)
        zero = np.zeros(count, np.uint64)
        base = L.trim([*source, *[zero] * len(own)][: len(own)], width)
        one = L.constant(1, base)
        half = L.constant(L.mask(width // 2), base)
        mine = [limb[where] for limb in own]
        relatives = [
            base, base, L.add(base, one, width)[0], L.subtract(base, one, width)[0], L.invert(base, width),
            L.add(L.invert(base, width), one, width)[0], _flip(self.random, base, width),
            _mix(base, mine, half), _mix(mine, base, half),
            L.shift_left(base, min(8, width - 1), width), L.shift_right(base, min(8, width - 1)),
        ]  # fmt: skip
        kind = self.random.integers(0, len(relatives), count)
        return [np.choose(kind, [relative[index] for relative in relatives]) for index in range(len(base))]

    def _encode(self, drawn: list[Limbs], place: int, codes: Codes) -> Index:
        """Puts codes into the instruction words, in place; all operations equally often."""
        instruction, width = drawn[place][0], self.interface.inputs[place].width
        count = len(instruction)
        operation = self.random.integers(0, len(self.names), count)
        damaged = operation == len(codes) + 1
        source = np.where(damaged, self.random.integers(0, len(codes), count), operation)
        extreme = self.random.integers(0, 8, count)
        instruction[extreme == 0] = 0
        instruction[extreme == 1] = L.mask(width)
        for index, encodings in enumerate(codes.values()):
            here = np.flatnonzero(source == index)
            which = self.random.integers(0, len(encodings), len(here))
            for number, code in enumerate(encodings):
                where = here[which == number]
                instruction[where] = instruction[where] & np.uint64(L.mask(width) & ~code.mask) | np.uint64(code.match)
                if code.constant:
                    self._copy_constant(instruction[where], code, drawn, place, where)
        bits = np.uint64(1) << self.random.integers(0, width, (2, count), np.uint64)
        once = self.random.integers(0, 2, count) == 0
        instruction[:] ^= np.where(damaged, np.where(once, bits[0], bits[0] | bits[1]), 0)
        return operation

    def _copy_constant(self, instruction: Column, code: Code, drawn: list[Limbs], place: int, where: Index) -> None:
        """In an eighth of the rows some other word is the instruction's constant, one more, or one less."""
        words = self.interface.inputs
        others = [index for index, word in enumerate(words) if index != place and 1 < word.width <= 64]
        chosen = self.random.integers(0, 8 * len(others), len(where)) if others else np.zeros(0, np.intp)
        for choice, other in enumerate(others):
            rows = np.flatnonzero(chosen == choice)
            value = np.zeros(len(rows), np.uint64)
            for target, bit in enumerate(code.constant):
                value |= (instruction[rows] >> np.uint64(bit) & np.uint64(1)) << np.uint64(target)
            if code.is_signed:
                value -= (value >> np.uint64(len(code.constant) - 1)) << np.uint64(len(code.constant))
            value += self.random.integers(0, 3, len(rows), np.uint64) - np.uint64(1)
            drawn[other][0][where[rows]] = value & np.uint64(L.mask(words[other].width))


def uniform(random: np.random.Generator, count: int, width: int) -> Limbs:
    """Uniform values of ``width`` bits."""
    return L.trim([random.integers(0, 1 << 64, count, np.uint64) for _ in range((width + 63) // 64)], width)


def corners(random: np.random.Generator, count: int, width: int) -> Limbs:
    """For each row a corner value of ``width`` bits."""
    limbs = uniform(random, count, width)
    kind = random.integers(0, len(_CORNERS) + 1, count)
    for index, make in enumerate(_CORNERS):
        where = np.flatnonzero(kind == index)
        for limb, value in zip(limbs, make(random, len(where), width), strict=True):
            limb[where] = value
    return limbs


def _one_hot(place: Column, width: int) -> Limbs:
    """2**place"""
    value = np.uint64(1) << (place & np.uint64(63))
    return [np.where(place >> np.uint64(6) == index, value, np.uint64(0)) for index in range((width + 63) // 64)]


def _power(random: np.random.Generator, count: int, width: int) -> Limbs:
    """2**k, with k chosen anew for each row."""
    return _one_hot(random.integers(0, width, count, np.uint64), width)


def _small(random: np.random.Generator, count: int, width: int, most: int) -> Limbs:
    """A number below ``most``, or its negative."""
    low = random.integers(0, most, count, np.uint64)
    negative = random.integers(0, 2, count) == 1
    limbs = [np.where(negative, np.uint64(0) - low, low)]
    sign = np.where(negative & (low != 0), np.uint64(L.mask(64)), np.uint64(0))
    return L.trim(limbs + [sign] * ((width + 63) // 64 - 1), width)


def _near_power(random: np.random.Generator, count: int, width: int) -> Limbs:
    power = _power(random, count, width)
    near = L.add(power, _small(random, count, width, 2), width)[0]
    negative = L.subtract(L.constant(0, near), near, width)[0]
    return L.select(random.integers(0, 3, count) == 0, negative, near)


def _boundary(random: np.random.Generator, count: int, width: int) -> Limbs:
    """Close to where a sign changes: of the word, or of its half, its quarter."""
    places = np.array([width - 1, width - 1, width // 2 - (width > 1), width // 4], np.uint64)
    one = _one_hot(places[random.integers(0, 4, count)], width)
    return L.add(one, _small(random, count, width, 4), width)[0]


def _length(random: np.random.Generator, count: int, width: int) -> Limbs:
    """Any number of any length: below a power of two that is drawn first."""
    power = _power(random, count, width)
    below = L.subtract(power, L.constant(1, power), width)[0]
    return [value & (low | top) for value, low, top in zip(uniform(random, count, width), below, power, strict=True)]


def _bytes(random: np.random.Generator, count: int, width: int) -> Limbs:
    """One byte pattern repeated, or two of them by turns."""
    picked = _PATTERNS[random.integers(0, len(_PATTERNS), (2, count))]
    picked[1] = np.where(random.integers(0, 2, count) == 1, picked[0], picked[1])
    even, odd = picked * np.uint64(0x0001000100010001)
    return L.trim([even | odd << np.uint64(8)] * ((width + 63) // 64), width)


def _sequence(random: np.random.Generator, count: int, width: int) -> Limbs:
    """Counting from somewhere by a small step, as addresses and counters do."""
    start = uniform(random, 1, width)[0]
    step = np.uint64(random.choice([1, 2, 4, 8]))
    low = start + step * np.arange(count, dtype=np.uint64)
    return L.trim([low] + [np.zeros(count, np.uint64)] * ((width + 63) // 64 - 1), width)


_CORNERS: tuple[Callable[[np.random.Generator, int, int], Limbs], ...] = (
    _near_power, _near_power, _boundary, lambda r, n, w: _small(r, n, w, 2), lambda r, n, w: _small(r, n, w, 40),
    _length, _length, _bytes, _sequence,
)  # fmt: skip


def _flip(random: np.random.Generator, base: Limbs, width: int) -> Limbs:
    return [limb ^ bit for limb, bit in zip(base, _power(random, len(base[0]), width), strict=True)]


def _mix(low: Limbs, high: Limbs, half: Limbs) -> Limbs:
    return [x & m | y & ~m for x, y, m in zip(low, high, half, strict=True)]
