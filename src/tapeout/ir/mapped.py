"""Arrays larger than memory: those in files are read piece by piece, and large new ones lie in files, too.

A mapped page that was read stays in memory until the system needs the room. Whoever walks over a whole array lets go
of each piece's pages, so that a run's memory does not grow with its weights.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

PIECE_BYTES = 1 << 24
LARGE_BYTES = 1 << 26
"""New arrays of at least that many bytes are made in files in `$TMPDIR`, which have no name and end with the array."""


def pieces(data: Array) -> Iterator[tuple[slice, Array]]:
    """Slices along the first dimension, of about `PIECE_BYTES` each."""
    rows = len(data) if data.ndim else 0
    step = max(1, PIECE_BYTES * rows // max(1, data.nbytes))
    for begin in range(0, max(rows, min(1, data.ndim)), step):  # one piece of nothing is a piece
        part = slice(begin, min(begin + step, rows))
        yield part, data[part]
        let_go(data)


def made_of(data: Array, dtype: np.dtype[Any], fn: Callable[[slice, Array], Array]) -> Array:
    """fn of each of the pieces, as one array of `dtype`. fn keeps shapes."""
    out = empty(data.shape, dtype)
    if not data.ndim:
        out[...] = fn(slice(0, 1), data)
    for part, piece in pieces(data):
        out[part] = fn(part, piece)
        let_go(out)
    return out


def packed(data: Array) -> Array:
    """`data` in row-major order: itself where it is."""
    return data if data.flags.c_contiguous else made_of(data, data.dtype, lambda _, piece: piece)


def count_nonzero(data: Array) -> int:
    return sum(int(np.count_nonzero(piece)) for _, piece in pieces(data)) if data.ndim else int(data != 0)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory for an array, or a file where it is large."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < LARGE_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8).view(dtype).reshape(shape)


def let_go(data: Array) -> None:
    """Gives back the pages of a file that were read or written; they are read again when needed. Of other arrays
    nothing."""
    base: Any = data
    while isinstance(base, np.ndarray):
        base = cast("Any", base).base
    if isinstance(base, memoryview):
        base = cast("Any", base).obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
