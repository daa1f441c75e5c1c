"""Gathers, scatters and updates of parts of a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tapeout.frontend.torch_ops.lowering import Handler, Lowering, Operand, inverse, moved, per_axis
from tapeout.ir.build import broadcast_shapes
from tapeout.ir.graph import Value
from tapeout.ir.types import Dim, DType, TensorType, dim_add, product


def _embedding(t: Lowering, weight: Value, indices: Value, *_: Any) -> Value:
    return t.b.gather(weight, indices, 0)


def _index_select(t: Lowering, x: Value, dim: int, index: Value) -> Value:
    if x.type.rank == 0:
        return x
    return t.b.gather(x, t.b.reshape(index, (product(index.type.shape),)), dim)


# ---- x[i, :, j]: the indexed dimensions are merged into one


class _Places:
    """Where an index list points: x permuted and merged so that one axis is indexed by one tensor."""

    def __init__(self, t: Lowering, x: Value, indices: Sequence[Value | None]) -> None:
        axes = [i for i, index in enumerate(indices) if index is not None]
        given = [index for index in indices if index is not None]
        together = axes == list(range(axes[0], axes[0] + len(axes)))
        self.t, self.shape = t, x.type.shape
        self.axis = axes[0] if together else 0
        rest = [i for i in range(x.type.rank) if i not in axes]
        self.perm = [*rest[: self.axis], *axes, *rest[self.axis :]]
        permuted = [x.type.shape[i] for i in self.perm]
        self.permuted = tuple(permuted)
        merged = [t.static(x.type.shape[a], "an indexed dimension") for a in axes[1:]]
        extent = product([x.type.shape[axes[0]], *merged])
        self.merged = (*permuted[: self.axis], extent, *permuted[self.axis + len(axes) :])
        self.index = self._linear(given, [x.type.shape[a] for a in axes])

    def _linear(self, given: Sequence[Value], extents: Sequence[Dim]) -> Value:
        t = self.t
        if len(given) == 1:
            return given[0]
        total: Value | None = None
        for index, extent in zip(given, extents, strict=True):
            index = _from_front(t, t.b.convert(index, DType.i64), extent)
            total = index if total is None else t.b.add(t.b.mul(total, t.extent(extent)), index)
        assert total is not None
        return total

    def view(self, x: Value) -> Value:
        """x in the merged form."""
        return self.t.b.reshape(self.t.b.transpose(x, self.perm), self.merged)

    def unview(self, x: Value) -> Value:
        """The inverse of `view`."""
        return self.t.b.transpose(self.t.b.reshape(x, self.permuted), inverse(self.perm))


def _from_front(t: Lowering, index: Value, extent: Dim) -> Value:
    """Indices below 0 count from the end."""
    negative = t.b.compare("lt", index, t.b.scalar(0, index.type.dtype))
    return t.b.select(negative, t.b.add(index, t.extent(extent, index.type.dtype)), index)


def _index(t: Lowering, x: Value, indices: Sequence[Value | None]) -> Value:
    if any(i is not None and i.type.dtype is DType.b1 for i in indices):
        raise t.refuse("a selection by a mask has no fixed shape", "use torch.where or multiply by the mask")
    if all(i is None for i in indices):
        return x
    places = _Places(t, x, indices)
    return t.b.gather(places.view(x), places.index, places.axis)


def _mask(t: Lowering, x: Value, indices: Sequence[Value | None]) -> Value | None:
    """The only index when it is a mask, shaped to broadcast against x."""
    lead = 0
    while lead < len(indices) and indices[lead] is None:
        lead += 1
    rest = [i for i in indices[lead:] if i is not None]
    if len(rest) != 1 or rest[0].type.dtype is not DType.b1:
        return None
    ones = (1,) * (x.type.rank - lead - rest[0].type.rank)
    return t.b.reshape(rest[0], rest[0].type.shape + ones)


def _index_put(
    t: Lowering, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    mask = _mask(t, x, indices)
    if mask is not None:
        if product(values.type.shape) != 1:
            raise t.refuse("assignment of a list of values by a mask", "use torch.where")
        scalar = t.b.reshape(values, ())
        return t.b.select(mask, t.b.add(x, scalar) if accumulate else scalar, x)
    places = _Places(t, x, indices)
    merged, index = places.view(x), places.index
    shape = merged.type.shape[: places.axis] + index.type.shape + merged.type.shape[places.axis + 1 :]
    updates = t.b.broadcast_to(t.b.convert(values, x.type.dtype), shape)
    if product(index.type.shape) == 1 and not accumulate:
        box = t.b.reshape(updates, (*shape[: places.axis], 1, *merged.type.shape[places.axis + 1 :]))
        start = _from_front(t, t.index(index), merged.type.shape[places.axis])
        return places.unview(_put(t, merged, box, places.axis, start))
    return places.unview(t.b.scatter("add" if accumulate else "set", merged, index, updates, places.axis))


def _put(t: Lowering, x: Value, box: Value, axis: int, start: Any) -> Value:
    """x with `box` written from a position along one axis."""
    return t.b.dynamic_update(x, box, [t.index(start if i == axis else 0) for i in range(x.type.rank)])


def _index_copy(t: Lowering, x: Value, dim: int, index: Value, source: Value) -> Value:
    axis = dim % x.type.rank
    return _index_put(t, x, [None] * axis + [index], source)


def _index_fill(t: Lowering, x: Value, dim: int, index: Value, value: Operand) -> Value:
    return _index_copy(t, x, dim, index, t.b.reshape(t.cast(value, x.type.dtype), (1,) * x.type.rank))


def _index_add(t: Lowering, x: Value, dim: int, index: Value, source: Value, alpha: float = 1) -> Value:
    scaled = source if alpha == 1 else t.b.binary_scalar("mul", source, alpha)
    return t.b.scatter("add", x, index, scaled, dim)


# ---- gather and scatter with one index per element


def _gather(t: Lowering, x: Value, dim: int, index: Value, *_: Any, **__: Any) -> Value:
    if x.type.rank == 0:
        return x
    rank, axis = x.type.rank, dim % x.type.rank
    sizes = [d if i == axis else index.type.shape[i] for i, d in enumerate(x.type.shape)]
    last = moved(rank, axis, rank - 1)
    rows = t.b.transpose(t.b.slice(x, [0] * rank, sizes), last)
    out = t.b.gather(rows, t.b.transpose(index, last), rank - 1, batch=rank - 1)
    return t.b.transpose(out, inverse(last))


def _scatter(fn: str) -> Handler:
    """Over flattened tensors: element by element at row-major positions."""

    def handle(t: Lowering, x: Value, dim: int, index: Value, source: Operand, **named: Any) -> Value:
        if x.type.rank == 0:
            x1, index1 = t.b.reshape(x, (1,)), t.b.reshape(index, (1,))
            value = t.b.reshape(t.cast(source, x.type.dtype), (1,))
            return t.b.reshape(t.b.scatter(fn, x1, index1, value, 0), ())
        axis = dim % x.type.rank
        grid = index.type.with_dtype(DType.i64)
        at: Value | None = None
        for i, extent in enumerate(x.type.shape):
            here = _from_front(t, t.b.convert(index, DType.i64), extent) if i == axis else t.b.iota(grid, i)
            at = here if at is None else t.b.add(t.b.mul(at, t.extent(extent)), here)
        assert at is not None
        updates = t.cast(source, x.type.dtype)
        if updates.type.rank:
            updates = t.b.slice(updates, [0] * updates.type.rank, grid.shape)
        count = (product(grid.shape),)
        updates = t.b.reshape(t.b.broadcast_to(updates, grid.shape), count)
        flat = t.b.reshape(x, (product(x.type.shape),))
        return t.b.reshape(t.b.scatter(fn, flat, t.b.reshape(at, count), updates, 0), x.type.shape)

    return handle


def _scatter_reduce(
    t: Lowering, x: Value, dim: int, index: Value, source: Value, reduce: str, include_self: bool = True
) -> Value:
    fn = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}.get(reduce)
    if fn is None or not include_self:
        raise t.refuse(f"scatter_reduce by {reduce} with include_self={include_self}")
    return _scatter(fn)(t, x, dim, index, source)


def _scatter_named(t: Lowering, x: Value, dim: int, index: Value, source: Operand, reduce: str) -> Value:
    return _scatter({"add": "add", "multiply": "mul"}[reduce])(t, x, dim, index, source)


# ---- updates of views


def _slice_scatter(
    t: Lowering, x: Value, source: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    axis = dim % x.type.rank
    extent = x.type.shape[axis]
    source = t.b.convert(source, x.type.dtype)
    if isinstance(start, int) and start < 0:
        start = dim_add(extent, start)
    start = 0 if start is None else start
    if source.type.shape == x.type.shape:
        return source
    if step == 1:
        return _put(t, x, source, axis, start)
    first = t.static(start, "the start of a slice with a step")
    count = t.static(source.type.shape[axis], "the length of a slice with a step")
    at = t.b.constant(np.arange(count, dtype=np.int64) * step + first)
    return t.b.scatter("set", x, at, source, axis)


def _select_scatter(t: Lowering, x: Value, source: Value, dim: int, index: Any) -> Value:
    axis = dim % x.type.rank
    if isinstance(index, int) and index < 0:
        index = dim_add(x.type.shape[axis], index)
    box = t.b.reshape(source, (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :]))
    return _put(t, x, t.b.convert(box, x.type.dtype), axis, index)


def _masked_scatter(t: Lowering, x: Value, mask: Value, source: Value) -> Value:
    """The i-th true place of the mask takes element i of the source."""
    mask = t.b.broadcast_to(mask, x.type.shape)
    count = (product(x.type.shape),)
    flat = t.b.reshape(mask, count)
    rank = t.b.cumulate("sum", t.b.convert(flat, DType.i64), 0, exclusive=True)
    taken = t.b.gather(t.b.reshape(source, (product(source.type.shape),)), rank, 0)
    return t.b.reshape(t.b.select(flat, taken, t.b.reshape(x, count)), x.type.shape)


def _diagonal_scatter(t: Lowering, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    rank = x.type.rank
    a, b = dim1 % rank, dim2 % rank
    last = [*(i for i in range(rank) if i not in (a, b)), a, b]
    rows, columns = (t.static(x.type.shape[i], "a dimension of diagonal_scatter") for i in (a, b))
    lead = tuple(x.type.shape[i] for i in last[:-2])
    count = t.static(source.type.shape[-1], "the diagonal's length")
    at = np.arange(count) * (columns + 1) + (offset if offset >= 0 else -offset * columns)
    flat = t.b.reshape(t.b.transpose(x, last), (*lead, rows * columns))
    out = t.b.scatter("set", flat, t.b.constant(at.astype(np.int64)), t.b.convert(source, x.type.dtype), len(lead))
    return t.b.transpose(t.b.reshape(out, (*lead, rows, columns)), inverse(last))


def _col2im(t: Lowering, x: Value, size: Sequence[int], kernel: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    """Adds every window's elements where they came from; those in the padding are dropped."""
    steps = [per_axis(v, 2) for v in (kernel, dilation, padding, stride)]
    axes = [_window_rows(int(size[i]), *(s[i] for s in steps)) for i in (0, 1)]
    rows, columns = axes[0][:, None, :, None], axes[1][None, :, None, :]  # kernel row, column, window row, column
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    area = int(size[0]) * int(size[1])
    at = np.where(inside, rows * int(size[1]) + columns, area).reshape(-1)
    lead = t.out.shape[:-2]
    updates = t.b.reshape(x, (*lead, len(at)))
    zeros = t.full(0, t.out.with_shape((*lead, area)))
    out = t.b.scatter("add", zeros, t.b.constant(at.astype(np.int64)), updates, len(lead))
    return t.b.reshape(out, t.out.shape)


def _window_rows(extent: int, kernel: int, dilation: int, padding: int, stride: int) -> np.ndarray:
    """positions[kernel, window] along one dimension of the image."""
    count = (extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return np.arange(kernel)[:, None] * dilation - padding + np.arange(count)[None, :] * stride


def _one_hot(t: Lowering, x: Value, classes: int = -1) -> Value:
    if classes < 0:
        raise t.refuse("one_hot without a number of classes", "pass num_classes")
    grid = TensorType(x.type.dtype, (*x.type.shape, classes))
    column = t.b.reshape(x, (*x.type.shape, 1))
    return t.narrow(t.b.compare("eq", t.b.iota(grid, len(grid.shape) - 1), column))


def _searchsorted(
    t: Lowering,
    edges: Value,
    x: Operand,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    """How many edges lie before each x."""
    if sorter is not None:
        raise t.refuse("searchsorted with a sorter", "gather the edges first")
    right = right or side == "right"
    dtype = t.promote(edges, x)
    wanted = t.cast(x, dtype)
    column = t.b.reshape(wanted, (*wanted.type.shape, 1))
    lead = edges.type.shape[:-1]
    rows = t.b.convert(edges, dtype)
    if lead:
        rows = t.b.reshape(rows, (*lead, 1, edges.type.shape[-1]))
    shape = broadcast_shapes(column.type.shape, rows.type.shape)
    before = t.b.compare("le" if right else "lt", t.b.broadcast_to(rows, shape), t.b.broadcast_to(column, shape))
    return t.narrow(t.b.reduce("sum", t.b.convert(before, DType.i64), [-1]))


def _bucketize(t: Lowering, x: Operand, edges: Value, **named: Any) -> Value:
    return _searchsorted(t, edges, x, **named)


def _no_shape(t: Lowering, *_: Any, **__: Any) -> Value:
    raise t.refuse("the shape of the result depends on values", "use torch.where, topk or a fixed size instead")


TABLE: Mapping[str, Handler] = {
    "embedding": _embedding,
    "index_select": _index_select,
    "index": _index,
    "_unsafe_index": _index,
    "index_put": _index_put,
    "_unsafe_index_put": _index_put,
    "index_copy": _index_copy,
    "index_add": _index_add,
    "index_fill": _index_fill,
    "gather": _gather,
    "scatter": _scatter("set"),
    "scatter_add": _scatter("add"),
    "scatter_reduce": _scatter_reduce,
    "scatter.reduce": _scatter_named,
    "scatter.value_reduce": _scatter_named,
    "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter,
    "masked_scatter": _masked_scatter,
    "diagonal_scatter": _diagonal_scatter,
    "one_hot": _one_hot,
    "col2im": _col2im,
    "bucketize": _bucketize,
    "searchsorted": _searchsorted,
    **dict.fromkeys(("nonzero", "masked_select", "unique", "_unique2", "unique_consecutive"), _no_shape),
}
