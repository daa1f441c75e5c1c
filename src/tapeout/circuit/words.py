"""Named words, and how they are packed into rows of bits.

A row is one input or output vector of a circuit: its words stand one behind the other in the order of the interface,
bit 0
of the first word is bit 0 of the row. Rows are NumPy arrays ``[rows, ceil(bits / 64)] uint64``; bit ``i`` of a row is
bit
``i % 64`` of element ``i // 64``, and the padding is zero.

A circuit with state takes it as input words and gives it back as output words: the next value of input ``NAME`` is the
output ``NAME.next``. Words of an array are named ``NAME[0]``, ``NAME[1]``, ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeout.errors import UserError

Rows = NDArray[np.uint64]
NEXT = ".next"
_WORD = re.compile(r"([A-Za-z_][\w.]*(?:\[\d+\])?(?:\.next)?)(?::(\d+))?")


@dataclass(frozen=True, slots=True)
class Word:
    """A named group of bits, the least significant first."""

    name: str
    width: int = 1

    def __str__(self) -> str:
        return self.name if self.width == 1 else f"{self.name}:{self.width}"


@dataclass(frozen=True, slots=True)
class Interface:
    """The words of a circuit. Text form: ``a:32 b:32 carry -> sum:32``."""

    inputs: tuple[Word, ...]
    outputs: tuple[Word, ...]

    def __str__(self) -> str:
        return f"{' '.join(map(str, self.inputs))} -> {' '.join(map(str, self.outputs))}".strip()

    @property
    def input_bits(self) -> int:
        return sum(word.width for word in self.inputs)

    @property
    def output_bits(self) -> int:
        return sum(word.width for word in self.outputs)


def parse_words(text: str, where: str = "words") -> tuple[Word, ...]:
    """``"a:32 b:32 carry"`` as words; commas may stand for spaces.

    Raises:
        UserError: a word that is not ``name`` or ``name:width``, a width of zero, or a name given twice.
    """
    words: list[Word] = []
    for item in text.replace(",", " ").split():
        match = _WORD.fullmatch(item)
        if match is None:
            raise UserError(f"{item!r} is not a word", where, "write name or name:width, for example carry or sum:32")
        words.append(Word(match[1], int(match[2] or 1)))
    for word in words:
        if word.width < 1:
            raise UserError(f"word {word.name!r} has width {word.width}", where, "give it at least one bit")
        if sum(other.name == word.name for other in words) > 1:
            raise UserError(f"word {word.name!r} is given twice", where, "give every word a name of its own")
    return tuple(words)


def parse_interface(text: str) -> Interface:
    """The text form ``"inputs -> outputs"`` as an interface."""
    inputs, arrow, outputs = text.partition("->")
    if not arrow:
        raise UserError(f"{text!r} has no '->'", "interface", "write it as 'a:32 b:32 -> sum:32'")
    return Interface(parse_words(inputs, "input words"), parse_words(outputs, "output words"))


def row_words(bits: int) -> int:
    """How many 64-bit elements a row of ``bits`` bits takes."""
    return (bits + 63) // 64


def pack(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Rows:
    """Bits ``[rows, bits]`` (0 or 1) as rows ``[rows, ceil(bits / 64)]``."""
    rows, width = bits.shape
    padded = np.zeros((rows, 64 * row_words(width)), np.uint8)
    padded[:, :width] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def unpack(rows: Rows, bits: int) -> NDArray[np.uint8]:
    """Rows as bits ``[rows, bits]``."""
    data = np.ascontiguousarray(rows, dtype="<u8").view(np.uint8)
    return np.unpackbits(data, axis=1, bitorder="little")[:, :bits]
