"""Views: which graph values are nothing but another way to look at a buffer, so that moving them costs nothing.

A `Place` says where a value lies: a strided window into a buffer. Transpose, slice, broadcast, pad and most reshapes
only change the place; the consumers' DMA does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.kernel import Buffer
from tapeout.ir.types import DType


@dataclass(frozen=True, slots=True)
class Place:
    """Element i of a value is at `offset + sum((i[d] - shift[d]) * strides[d])` elements of the buffer where every
    `0 <= i[d] - shift[d] < extents[d]`, and `fill` elsewhere."""

    buffer: Buffer
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    shift: tuple[int, ...] = ()
    fill: float = 0.0
    read_as: DType | None = None
    """The element type that the bytes are taken for, where it is not the buffer's own."""

    @property
    def dtype(self) -> DType:
        return self.read_as or self.buffer.dtype

    @property
    def shifts(self) -> tuple[int, ...]:
        return self.shift or (0,) * len(self.extents)

    @property
    def padded(self) -> bool:
        return bool(self.shift)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a packed row-major array."""
    strides = [1] * len(shape)
    for d in range(len(shape) - 2, -1, -1):
        strides[d] = strides[d + 1] * max(1, shape[d + 1])
    return tuple(strides)


def whole(buffer: Buffer, shape: Sequence[int], order: Sequence[int]) -> Place:
    """The place of a value of logical `shape` that fills a buffer whose dimensions are in `order`."""
    packed = row_major([shape[d] for d in order])
    strides = [0] * len(shape)
    for position, d in enumerate(order):
        strides[d] = packed[position]
    return Place(buffer, tuple(shape), tuple(strides))


def _reshape(place: Place, shape: tuple[int, ...]) -> Place | None:
    """The same elements under another shape, or None where strides cannot say it."""
    if place.padded:
        return None
    if 0 in shape:
        return replace(place, extents=shape, strides=(0,) * len(shape))
    old = [(n, s) for n, s in zip(place.extents, place.strides, strict=True) if n != 1]
    strides: list[int] = []
    at = 0
    left = 1  # what is not yet used of the old dimension group
    stride = 0
    for n in shape:
        if n == 1:
            strides.append(0)
            continue
        if left == 1:
            if at == len(old):
                return None
            left, at = old[at][0], at + 1
            # merge following old dimensions as long as the new one needs them
            while left % n and at < len(old) and old[at - 1][1] == old[at][0] * old[at][1]:
                left, at = left * old[at][0], at + 1
        while left < n and at < len(old) and old[at - 1][1] == old[at][0] * old[at][1]:
            left, at = left * old[at][0], at + 1
        if left % n:
            return None
        left //= n
        stride = old[at - 1][1] * left
        # a dimension that spans several old ones must be packed down to the last of them
        strides.append(stride)
    return replace(place, extents=shape, strides=tuple(strides), shift=()) if _same(place, shape, strides) else None


def _same(place: Place, shape: tuple[int, ...], strides: list[int]) -> bool:
    """Checks a reshape by its corner elements and its unit steps, which fixes every element of a strided view."""
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return True
    probes = {0, count - 1}
    for packed in (*row_major(shape), *row_major(place.extents)):
        probes.update(p for p in (packed, packed - 1, count - 1 - packed) if 0 <= p < count)
    return all(_at(place.extents, place.strides, e) == _at(shape, strides, e) for e in probes)


def _at(shape: Sequence[int], strides: Sequence[int], element: int) -> int:
    total = 0
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        element, digit = divmod(element, n)
        total += digit * s
    return total


def _moved(place: Place, by: Sequence[int], sizes: Sequence[int]) -> Place:
    """What coordinate i held is at i + by; of that a box of `sizes` at 0 is kept, the fill where nothing was."""
    offset = place.offset
    extents, shifts = list(place.extents), list(place.shifts)
    for d, (step, size) in enumerate(zip(by, sizes, strict=True)):
        cut = max(0, -(shifts[d] + step))  # cropped in front: the base moves
        offset += cut * place.strides[d]
        shifts[d] = shifts[d] + step + cut
        extents[d] = max(0, min(extents[d] - cut, size - shifts[d]))
    whole_box = extents == list(sizes)
    return replace(place, extents=tuple(extents), offset=offset, shift=() if whole_box else tuple(shifts))


def _slice(op: g.Slice, place: Place) -> Place | None:
    if not place.padded:
        offset = place.offset + sum(start * s for start, s in zip(op.starts, place.strides, strict=True))
        strides = tuple(s * step for s, step in zip(place.strides, op.steps, strict=True))
        return replace(place, extents=tuple(op.sizes), strides=strides, offset=offset)
    if any(step != 1 for step in op.steps):
        return None
    return _moved(place, [-start for start in op.starts], op.sizes)


def _pad(op: g.Pad, place: Place, fill: float) -> Place | None:
    if place.padded and place.fill != fill:
        return None
    return replace(_moved(place, op.lo, op.out.type.static_shape), fill=fill)


def view(op: g.Op, place: Place, fill: float | None = None) -> Place | None:
    """The place of `op`'s result when its operand lies at `place`; None where it needs a copy."""
    match op:
        case g.Reshape():
            return _reshape(place, tuple(op.shape))
        case g.Transpose():
            shift = tuple(place.shifts[p] for p in op.perm) if place.padded else ()
            extents = tuple(place.extents[p] for p in op.perm)
            return replace(place, extents=extents, strides=tuple(place.strides[p] for p in op.perm), shift=shift)
        case g.Broadcast():
            if place.padded:
                return None
            strides = [0] * len(op.shape)
            for d, axis in enumerate(op.dims):
                strides[axis] = place.strides[d] if place.extents[d] != 1 else 0
            return replace(place, extents=tuple(op.shape), strides=tuple(strides))
        case g.Slice():
            return _slice(op, place)
        case g.Pad():
            return _pad(op, place, fill) if fill is not None else None
        case g.Bitcast():
            return None if place.padded else replace(place, read_as=op.dtype)
        case _:
            return None


VIEWS = (g.Reshape, g.Transpose, g.Broadcast, g.Slice, g.Pad, g.Bitcast)
"""Op kinds that `view` may resolve."""
