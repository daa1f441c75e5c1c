"""Gathers, scatters and the cache update, all by positions along one flattened axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, table
from tapeout.ir import graph as g
from tapeout.ir.types import Dim, DType, TensorType, dim_add, product

_SCATTER = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def gather(c: Call) -> g.Value:
    """One known position is a slice; anything else a gather."""
    x, indices = c.x(0), c.x(1)
    axis = c.axis(0, x.type.rank)
    known = c.known(1)
    if known is None or known.ndim or (0 in x.type.shape):
        return c.b.gather(x, indices, axis)
    at: Dim = int(known)
    at = dim_add(at, x.type.shape[axis]) if at < 0 else at
    starts: list[Dim] = [at if i == axis else 0 for i in range(x.type.rank)]
    taken = c.b.slice(x, starts, [1 if i == axis else d for i, d in enumerate(x.type.shape)])
    return c.b.reshape(taken, [d for i, d in enumerate(x.type.shape) if i != axis])


def _from_end(c: Call, indices: g.Value, extent: Dim) -> g.Value:
    """i64 positions with negative ones counted from the end."""
    at = c.b.convert(indices, DType.i64)
    known = c.b.known.get(at)
    if known is not None and known.dtype != object and (known >= 0).all():
        return at
    return c.b.select(c.b.compare("lt", at, c.b.scalar(0, DType.i64)), c.b.add(at, c.b.dim(extent)), at)


def _strides(shape: Sequence[Dim]) -> list[Dim]:
    return [product(shape[i + 1 :]) for i in range(len(shape))]


def _times(c: Call, x: g.Value, factor: Dim) -> g.Value:
    return x if factor == 1 else c.b.mul(x, c.b.dim(factor))


def element_positions(c: Call, shape: Sequence[Dim], indices: g.Value, axis: int) -> g.Value:
    """Flat position in a tensor of `shape` of the element that each index picks along `axis`."""
    strides = _strides(shape)
    flat = _times(c, _from_end(c, indices, shape[axis]), strides[axis])
    for i, stride in enumerate(strides):
        if i != axis and indices.type.shape[i] != 1:
            place = c.b.iota(TensorType(DType.i64, indices.type.shape), i)
            flat = c.b.add(flat, _times(c, place, stride))
    return flat


def gather_elements(c: Call) -> g.Value:
    x, indices = c.x(0), c.x(1)
    axis = c.axis(0, x.type.rank)
    flat = c.b.reshape(x, (product(x.type.shape),))
    return c.b.gather(flat, element_positions(c, x.type.shape, indices, axis), 0)


def _scatter_at(c: Call, fn: str, x: g.Value, places: g.Value, updates: g.Value) -> g.Value:
    """x with its flat positions `places` set to (or combined with) `updates`."""
    flat = c.b.reshape(x, (product(x.type.shape),))
    count = (product(places.type.shape),)
    out = c.b.scatter(fn, flat, c.b.reshape(places, count), c.b.reshape(updates, count), 0)
    return c.b.reshape(out, x.type.shape)


def scatter_elements(c: Call) -> g.Value:
    x, indices, updates = c.x(0), c.x(1), c.x(2)
    axis = c.axis(0, x.type.rank)
    fn = c.attr_choice("reduction", _SCATTER, "none")
    return _scatter_at(c, fn, x, element_positions(c, x.type.shape, indices, axis), updates)


def _tuple_positions(c: Call, shape: Sequence[Dim], indices: g.Value) -> g.Value:
    """Flat position among the dimensions `shape` of each index tuple (the last dimension of `indices`)."""
    last = indices.type.rank - 1
    total: g.Value | None = None
    for i, stride in enumerate(_strides(shape)):
        part = c.b.slice_axis(indices, last, i, i + 1)
        part = _times(c, _from_end(c, c.b.reshape(part, part.type.shape[:-1]), shape[i]), stride)
        total = part if total is None else c.b.add(total, part)
    return total if total is not None else c.b.full(0, TensorType(DType.i64, indices.type.shape[:-1]))


def _depth(c: Call, indices: g.Value) -> int:
    depth = indices.type.shape[-1]
    if not isinstance(depth, int):
        raise c.unsupported(f"with index tuples of {depth} elements", "pin the symbols with shapes=")
    return depth


def gather_nd(c: Call) -> g.Value:
    x, indices = c.x(0), c.x(1)
    batch, depth = c.attr_int("batch_dims", 0), _depth(c, indices)
    shape = x.type.shape
    places = _tuple_positions(c, shape[batch : batch + depth], indices)
    flat = c.b.reshape(x, (*shape[:batch], product(shape[batch : batch + depth]), *shape[batch + depth :]))
    return c.b.gather(flat, places, batch, batch)


def scatter_nd(c: Call) -> g.Value:
    x, indices, updates = c.x(0), c.x(1), c.x(2)
    depth, shape = _depth(c, indices), x.type.shape
    places = _tuple_positions(c, shape[:depth], indices)
    flat = c.b.reshape(x, (product(shape[:depth]), *shape[depth:]))
    out = c.b.scatter(c.attr_choice("reduction", _SCATTER, "none"), flat, places, updates, 0)
    return c.b.reshape(out, shape)


def tensor_scatter(c: Call) -> g.Value:
    """The cache with `update` written from position `write_indices[b]` on along `axis`."""
    past, update = c.x(0), c.x(1)
    axis = c.axis(-2, past.type.rank)
    circular = c.attr_text("mode", "linear") == "circular"
    if not circular and (not c.has(2) or past.type.shape[0] == 1):
        zero = c.b.scalar(0, DType.i64)
        start = c.b.reshape(c.x(2), ()) if c.has(2) else zero
        return c.b.dynamic_update(past, update, [start if i == axis else zero for i in range(past.type.rank)])
    grid = TensorType(DType.i64, update.type.shape)
    at = c.b.iota(grid, axis)
    if c.has(2):
        first = c.b.convert(c.x(2), DType.i64)
        at = c.b.add(at, c.b.reshape(first, [d if i == 0 else 1 for i, d in enumerate(update.type.shape)]))
    if circular:
        at = c.b.binary("rem", at, c.b.dim(past.type.shape[axis]))
    return _scatter_at(c, "set", past, element_positions(c, past.type.shape, at, axis), update)


def compress(c: Call) -> g.Value:
    """The elements or slices whose condition, which must be constant, holds."""
    x = c.x(0)
    places = c.b.constant(np.flatnonzero(c.array(1)))
    if "axis" in c.node.attributes:
        return c.b.gather(x, places, c.axis(0, x.type.rank))
    return c.b.gather(c.b.reshape(x, (product(x.type.shape),)), places, 0)


def non_zero(c: Call) -> g.Value:
    return c.b.constant(np.array(np.nonzero(c.array(0)), np.int64))


OPS: Mapping[tuple[str, str], Handler] = table(
    Gather=gather,
    GatherElements=gather_elements,
    GatherND=gather_nd,
    Scatter=scatter_elements,
    ScatterElements=scatter_elements,
    ScatterND=scatter_nd,
    TensorScatter=tensor_scatter,
    Compress=compress,
    NonZero=non_zero,
)
