"""Arrays larger than memory: those in files are read piece by piece, and large new ones lie in files, too.

A mapped page that was read stays in memory until the system needs the room. Whoever walks over a whole array lets go
of each piece's pages, so that a run's memory does not grow with its weights.

What repeats along a dimension (its stride is 0) is there once, and what is computed of it is computed once. A weight
whose contents do not matter is the extreme: one number that repeats along all dimensions, a *stand-in*. It has a shape
and a type like any other, and so has what is made of it, but it takes no memory. Two are different weights even where
their numbers are equal.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

PIECE_BYTES = 1 << 24
LARGE_BYTES = 1 << 24
"""New arrays of at least that many bytes are made in files in `$TMPDIR`, which have no name and end with the array."""
STAND_IN_ELEMENTS = 1 << 22
"""The least that a weight has whose contents are left out. Smaller ones cost little, and are folded into others."""


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


def elementwise(data: Array, dtype: np.dtype[Any], fn: Callable[[Array], Array]) -> Array:
    """fn, which looks at each element alone, of all of them, as an array of `dtype`; what repeats still does."""
    (once,) = without_repeats(data)
    made = made_of(once, dtype, lambda _, piece: fn(piece))
    return made if once is data else np.broadcast_to(made, data.shape)


def packed(data: Array) -> Array:
    """`data` in row-major order: itself where it is."""
    return data if data.flags.c_contiguous else made_of(data, data.dtype, lambda _, piece: piece)


def reshaped(data: Array, shape: tuple[int, ...]) -> Array:
    """The elements in row-major order in another shape; a copy only where they do not lie so. A stand-in stays one."""
    return np.broadcast_to(data[(0,) * data.ndim], shape) if is_stand_in(data) else packed(data).reshape(shape)


def count_nonzero(data: Array) -> int:
    (once,) = without_repeats(data)
    repeats = data.size // max(1, once.size)
    return repeats * sum(int(np.count_nonzero(p)) for _, p in pieces(once)) if data.ndim else int(data != 0)


def may_stand_in(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is large enough to be left out."""
    return prod(shape) >= STAND_IN_ELEMENTS


def stand_in(number: np.generic, shape: tuple[int, ...]) -> Array:
    """`number` everywhere, for contents that nobody looks at."""
    return np.broadcast_to(number, shape)


def is_stand_in(data: Array) -> bool:
    """Whether a large array is one number that repeats along all dimensions."""
    repeats = (n == 1 or not stride for n, stride in zip(data.shape, data.strides, strict=True))
    return may_stand_in(data.shape) and all(repeats)


def without_repeats(*arrays: Array) -> tuple[Array, ...]:
    """Arrays of one shape with a single element of each dimension along which all of them repeat (themselves where
    there is none): what is done to each element of the whole is done to these."""
    shape = arrays[0].shape
    repeating = [n > 1 and not any(a.strides[d] for a in arrays) for d, n in enumerate(shape)]
    box = tuple(slice(0, 1) if r else slice(None) for r in repeating)
    return tuple(a[box] for a in arrays) if any(repeating) else arrays


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
