"""Rows of bits as one array per word, and back: the form in which people write functions and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.words import Rows, Word, row_words
from tapeout.errors import UserError

Column = NDArray[np.uint64]
"""Values of one word: ``uint64[rows]`` up to 64 bits, ``uint64[rows, ceil(width / 64)]`` beyond."""


def rows_to_columns(rows: Rows, words: Sequence[Word]) -> list[Column]:
    """The values of each word of ``rows[n, ceil(bits / 64)]``."""
    columns: list[Column] = []
    start = 0
    for word in words:
        limbs = [_limb(rows, start + at, min(64, word.width - at)) for at in range(0, word.width, 64)]
        columns.append(limbs[0] if word.width <= 64 else np.stack(limbs, axis=1))
        start += word.width
    return columns


def columns_to_rows(columns: Sequence[Any], words: Sequence[Word], count: int, where: str) -> Rows:
    """Rows of ``count`` values for each word: arrays of bools or integers, one number standing for all rows.

    Raises:
        UserError: a column of another length or kind, or a value that its word does not hold.
    """
    if len(columns) != len(words):
        raise UserError(f"{len(columns)} arrays for {len(words)} words", where, "give one array for each output word")
    rows = np.zeros((count, row_words(sum(word.width for word in words))), np.uint64)
    start = 0
    for word, values in zip(words, columns, strict=True):
        limbs = _limbs(values, word, count, where)
        for index in range(limbs.shape[1]):
            _place(rows, start + 64 * index, limbs[:, index], min(64, word.width - 64 * index))
        start += word.width
    return rows


def describe_row(row: Rows, words: Sequence[Word]) -> str:
    """``row[1, ceil(bits / 64)]`` as text: ``a=0x1f b=0x0 carry=1``."""
    parts: list[str] = []
    for word, values in zip(words, rows_to_columns(row, words), strict=True):
        limbs: list[int] = np.atleast_1d(values[0]).tolist()
        value = sum(limb << 64 * index for index, limb in enumerate(limbs))
        parts.append(f"{word.name}={value:#x}" if word.width > 1 else f"{word.name}={value}")
    return " ".join(parts)


def _limb(rows: Rows, start: int, width: int) -> Column:
    element, shift = divmod(start, 64)
    value = rows[:, element] >> np.uint64(shift)
    if shift + width > 64:
        value = value | rows[:, element + 1] << np.uint64(64 - shift)
    return value & _mask(width)


def _place(rows: Rows, start: int, values: Column, width: int) -> None:
    element, shift = divmod(start, 64)
    rows[:, element] |= values << np.uint64(shift)
    if shift + width > 64:
        rows[:, element + 1] |= values >> np.uint64(64 - shift)


def _mask(width: int) -> np.uint64:
    return np.uint64((1 << width) - 1)


def _limbs(values: Any, word: Word, count: int, where: str) -> Rows:
    """``values`` of ``word`` as ``uint64[count, ceil(width / 64)]``."""
    array = np.asarray(values)
    if array.dtype.kind not in "bui":
        raise UserError(f"word {word.name!r} has values of type {array.dtype}", where, "give bools or integers")
    limbs = row_words(word.width)
    shape = (count,) if word.width <= 64 else (count, limbs)
    if array.shape not in (shape, ()):
        raise UserError(f"word {word.name!r} has shape {array.shape}", where, f"give an array of shape {shape}")
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise UserError(f"word {word.name!r} has the negative value {int(array.min())}", where, _fits(word))
    array = np.broadcast_to(array.astype(np.uint64), shape).reshape(count, limbs)
    top = word.width - 64 * (limbs - 1)
    if count and int(array[:, -1].max()) >> top:
        raise UserError(f"word {word.name!r} has the value {int(array[:, -1].max())}", where, _fits(word))
    return array


def _fits(word: Word) -> str:
    return f"mask it to its {word.width} bits, or correct the width of the interface"
