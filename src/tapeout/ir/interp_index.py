"""Movement by position of the interpreter: slices, gather, scatter, boxes at run-time positions, sorting."""

from __future__ import annotations

import math

import numpy as np

from tapeout.ir.interp_math import lift, reducer, settle
from tapeout.ir.special import Array


def strided(x: Array, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> Array:
    """`Slice` as a view."""
    where: list[slice] = []
    for start, size, step in zip(starts, sizes, steps, strict=True):
        stop = start + size * step
        where.append(slice(start, stop if stop >= 0 else None, step) if size else slice(0, 0))
    return x[tuple(where)]


def broadcast(x: Array, shape: tuple[int, ...], dims: tuple[int, ...]) -> Array:
    """`Broadcast` as a view."""
    order = sorted(range(x.ndim), key=lambda d: dims[d])
    placed = dict(zip(dims, x.shape, strict=True))
    aligned = x.transpose(order).reshape([placed.get(i, 1) for i in range(len(shape))])
    return np.broadcast_to(aligned, shape)


def _located(indices: Array, extent: int) -> tuple[Array, Array]:
    """Indices as i64 counted from the front, and which of them are inside the extent."""
    at = indices.astype(np.int64)
    if indices.dtype == np.uint64:
        at = np.where(indices > np.uint64(np.iinfo(np.int64).max), extent, at)
    at = np.where(at < 0, at + extent, at)
    return at, (at >= 0) & (at < extent)


def gather(x: Array, indices: Array, axis: int, batch: int) -> Array:
    """`Gather`."""
    at, inside = _located(indices, x.shape[axis])
    shape = x.shape[:axis] + indices.shape[batch:] + x.shape[axis + 1 :]
    outer, middle = math.prod(x.shape[:batch]), math.prod(x.shape[batch:axis])
    boxes = x.reshape(outer, middle, x.shape[axis], math.prod(x.shape[axis + 1 :]))
    at, inside = at.reshape(outer, -1), inside.reshape(outer, -1)
    if not inside.any():
        return np.zeros(shape, x.dtype)
    safe = np.where(inside, at, 0)
    if outer == 1:
        out = np.take(boxes[0], safe[0], axis=1)[None]
    else:
        out = boxes[np.arange(outer)[:, None], :, safe].transpose(0, 2, 1, 3)
    if not inside.all():
        out = np.where(inside[:, None, :, None], out, np.zeros((), x.dtype))
    return out.reshape(shape)


def scatter(fn: str, x: Array, indices: Array, updates: Array, axis: int) -> Array:
    """`Scatter`; narrow floats are combined in f32 and rounded at the end."""
    at, inside = _located(indices.reshape(-1), x.shape[axis])
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    out: Array = lift(x).reshape(outer, x.shape[axis], inner).swapaxes(0, 1).copy()
    new = lift(updates).reshape(outer, at.size, inner).swapaxes(0, 1)[inside]
    at = at[inside]
    if fn == "set":
        out[at] = new
    else:
        combine = {"add": "sum", "mul": "prod"}.get(fn, fn)
        reducer(combine).at(out, at, new)
    return settle(out.swapaxes(0, 1).reshape(x.shape), x.dtype)


def _box(shape: tuple[int, ...], starts: list[Array], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    """The box of `sizes` at `starts`, moved inside `shape`."""
    first = [min(max(int(s), 0), n - size) for s, n, size in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(s, s + size) for s, size in zip(first, sizes, strict=True))


def dynamic_slice(x: Array, starts: list[Array], sizes: tuple[int, ...]) -> Array:
    """`DynamicSlice` as a view."""
    return x[_box(x.shape, starts, sizes)]


def dynamic_update(x: Array, update: Array, starts: list[Array]) -> Array:
    """`DynamicUpdate`."""
    out = x.copy()
    out[_box(x.shape, starts, update.shape)] = update
    return out


def sort(x: Array, axis: int, descending: bool) -> tuple[Array, Array]:
    """`Sort`: NumPy's stable sort puts NaN last; descending is the reversed sort of the reversed array."""
    keys = lift(x)
    if descending:
        backward = np.argsort(np.flip(keys, axis), axis=axis, kind="stable")
        order = x.shape[axis] - 1 - np.flip(backward, axis)
    else:
        order = np.argsort(keys, axis=axis, kind="stable")
    return np.take_along_axis(x, order, axis), order.astype(np.int64)
