"""Expansions: what no engine does by itself, written with what one does; and values that need no engine at all."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.infer import infer
from tapeout.ir.interp import evaluate
from tapeout.ir.interp_math import identity
from tapeout.ir.types import DType, TensorType

if TYPE_CHECKING:
    from tapeout.compiler.canonicalize import Rewriter

LISTED = (DType.i32, DType.i64)
"""Element types of index lists."""


def everywhere(r: Rewriter, value: object, type_: TensorType) -> g.Value:
    """`value` everywhere."""
    number = r.array(np.asarray(value).astype(type_.dtype.numpy).reshape(()))
    return r.add(g.Broadcast(number, type_.static_shape, ()))


def drop_empty(op: g.Op, r: Rewriter) -> g.Value | None:
    """Nothing is computed for values without elements, and nothing is read from them."""
    if isinstance(op, g.If | g.While | g.Scan | g.HostCall | g.Sort):
        return None
    type_ = infer(op)[0]
    if not type_.elements and not isinstance(op, g.Constant):
        return r.array(np.zeros(type_.static_shape, type_.dtype.numpy))
    match op:
        case g.Concat() if any(not x.type.elements for x in op.xs):
            return r.add(dataclasses.replace(op, xs=tuple(x for x in op.xs if x.type.elements), outs=()))
        case g.Pad() if not op.x.type.elements:
            return r.add(g.Broadcast(op.value, type_.static_shape, ()))
        case g.Gather() if not op.x.type.elements:
            return everywhere(r, 0, type_)
        case g.Scatter() if not op.updates.type.elements:
            return op.x
        case g.DynamicUpdate() if not op.update.type.elements:
            return op.x
        case g.Dot() | g.Conv() if not g.operands(op)[0].type.elements:
            return everywhere(r, 0, type_)
        case _:
            return None


def move_uniform(op: g.Op, r: Rewriter) -> g.Value | None:
    """One number everywhere stays that, however it is moved."""
    if not isinstance(op, g.Reshape | g.Transpose | g.Slice):
        return None
    inner = r.op(op.x)
    if not isinstance(inner, g.Broadcast) or (data := r.constant(inner.x)) is None or data.size != 1:
        return None
    return r.add(g.Broadcast(r.array(data.reshape(())), infer(op)[0].static_shape, (), source=op.source))


def fold_repeated(op: g.Op, r: Rewriter) -> g.Value | None:
    """Reductions of a constant that repeats: along what repeats they are closed formulas."""
    if not isinstance(op, g.Reduce | g.ArgReduce | g.Cumulate) or r.spread(op.x) is None:
        return None
    data, dims = r.spread(op.x) or (np.zeros(()), ())
    shape = op.x.type.static_shape
    if isinstance(op, g.Cumulate):
        dims, data = _with_dim(data, dims, op.axis, shape[op.axis])
        return _on_small(op, dataclasses.replace(op, axis=dims.index(op.axis), outs=()), data, dims, r)
    axes = op.axes if isinstance(op, g.Reduce) else (op.axis,)
    for axis in axes:
        dims, data = _with_dim(data, dims, axis, shape[axis]) if axis not in dims else (dims, data)
    inner = tuple(dims.index(a) for a in axes)
    small = (
        dataclasses.replace(op, axes=inner, outs=())
        if isinstance(op, g.Reduce)
        else dataclasses.replace(op, axis=inner[0], outs=())
    )
    return _on_small(op, small, data, dims, r)


def _identity(fn: str, dtype: DType) -> object:
    """The element that fn leaves others alone with; f8e4m3 has no infinity."""
    if dtype is DType.f8e4m3 and fn in ("max", "min"):
        return -448.0 if fn == "max" else 448.0
    return identity(fn, dtype.numpy)


def _with_dim(data: np.ndarray, dims: tuple[int, ...], axis: int, extent: int) -> tuple[tuple[int, ...], np.ndarray]:
    """The constant with dimension `axis` of the value written out."""
    if axis in dims:
        return dims, data
    return (*dims, axis), np.broadcast_to(data[..., None], (*data.shape, extent))


def _on_small(op: g.Op, small: g.Op, data: np.ndarray, dims: tuple[int, ...], r: Rewriter) -> g.Value:
    """`small` is `op` on a constant without the dimensions that repeat: its result, repeated along them."""
    value = g.Value("_", TensorType(DType.of(data.dtype), data.shape))
    small = dataclasses.replace(small, x=value)  # type: ignore[call-arg]
    result = evaluate(dataclasses.replace(small, outs=tuple(g.Value("_", t) for t in infer(small))), [data])[0]  # type: ignore[arg-type]
    removed = op.axes if isinstance(op, g.Reduce) else (op.axis,) if isinstance(op, g.ArgReduce) else ()
    left = [d for d in dims if d not in removed]
    kept = [d for d in range(g.operands(op)[0].type.rank) if d not in removed]
    placed = tuple(kept.index(d) for d in left)
    return r.add(g.Broadcast(r.array(result), infer(op)[0].static_shape, placed, source=op.source))


def arg_of_one(op: g.Op, r: Rewriter) -> g.Value | None:
    """The position of the extreme of one element is 0."""
    if not isinstance(op, g.ArgReduce) or op.x.type.shape[op.axis] != 1:
        return None
    return everywhere(r, 0, infer(op)[0])


def batched_gather(op: g.Op, r: Rewriter) -> g.Value | None:
    """Batch dimensions join the gathered one: element i of batch b is row b * extent + i."""
    if not isinstance(op, g.Gather) or not op.batch:
        return None
    batch, axis, x = op.batch, op.axis, op.x
    shape, listed = x.type.static_shape, op.indices.type.static_shape[op.batch :]
    middle = tuple(range(batch, axis))
    moved = r.add(g.Transpose(x, (*range(batch), axis, *middle, *range(axis + 1, len(shape)))))
    count, extent = int(np.prod(shape[:batch])), shape[axis]
    rest = [shape[d] for d in middle] + list(shape[axis + 1 :])
    rows = r.add(g.Reshape(moved, (count * extent, *rest)))
    inside = from_front(op.indices, extent, r)
    full = inside.type
    first = r.array((np.arange(count) * extent).reshape(shape[:batch]).astype(full.dtype.numpy))
    shifted = r.add(g.Binary("add", inside, r.add(g.Broadcast(first, full.static_shape, tuple(range(batch))))))
    out_of = r.add(g.Compare("lt", inside, everywhere(r, 0, full)))
    beyond = r.add(g.Compare("ge", inside, everywhere(r, extent, full)))
    either = r.add(g.Binary("or", out_of, beyond))
    at = r.add(g.Select(either, everywhere(r, count * extent, full), shifted))
    found = r.add(g.Gather(rows, r.add(g.Reshape(at, (at.type.elements,))), 0, source=op.source))
    boxes = r.add(g.Reshape(found, (*shape[:batch], *listed, *rest)))
    ends = batch + len(listed)
    behind = ends + len(middle)
    back = (*range(batch), *range(ends, behind), *range(batch, ends), *range(behind, boxes.type.rank))
    return r.add(g.Transpose(boxes, back))


def from_front(indices: g.Value, extent: int, r: Rewriter) -> g.Value:
    """Indices that count from the front, as i32 or i64: those that counted from the end have `extent` added."""
    dtype = indices.type.dtype
    if dtype not in LISTED:
        indices = as_listed(indices, extent, r)
    if not dtype.is_signed:
        return indices
    wrapped = r.add(g.Binary("add", indices, everywhere(r, extent, indices.type)))
    return r.add(g.Select(r.add(g.Compare("lt", indices, everywhere(r, 0, indices.type))), wrapped, indices))


def listed_indices(op: g.Op, r: Rewriter) -> g.Value | None:
    """Index lists and starts are i32 or i64."""
    match op:
        case g.Gather() | g.Scatter() if op.indices.type.dtype not in LISTED:
            extent = op.x.type.static_shape[op.axis]
            return r.add(dataclasses.replace(op, indices=from_front(op.indices, extent, r), outs=()))
        case g.DynamicSlice() | g.DynamicUpdate() if any(s.type.dtype not in LISTED for s in op.starts):
            starts = tuple(as_listed(s, n, r) for s, n in zip(op.starts, op.x.type.static_shape, strict=True))
            return r.add(dataclasses.replace(op, starts=starts, outs=()))
        case _:
            return None


def as_listed(indices: g.Value, extent: int, r: Rewriter) -> g.Value:
    """Indices as i32 or i64; unsigned ones that i64 cannot hold become `extent`, out of range as they are."""
    if indices.type.dtype in LISTED:
        return indices
    if indices.type.dtype is not DType.u64:
        return r.add(g.Convert(indices, DType.i64))
    signed = r.add(g.Bitcast(indices, DType.i64))
    huge = r.add(g.Compare("lt", signed, everywhere(r, 0, signed.type)))
    return r.add(g.Select(huge, everywhere(r, extent, signed.type), signed))


def combining_scatter(op: g.Op, r: Rewriter) -> g.Value | None:
    """mul, max and min: every row is combined with all updates, those of other rows replaced by the identity."""
    if not isinstance(op, g.Scatter) or op.fn not in ("mul", "max", "min"):
        return None
    if op.indices.type.rank != 1:
        return None  # `plain_indices` comes first
    axis, shape = op.axis, op.x.type.static_shape
    wide = (*shape[: axis + 1], op.indices.type.static_shape[0], *shape[axis + 1 :])
    at = from_front(op.indices, shape[axis], r)
    row = r.array(np.arange(shape[axis]).astype(at.type.dtype.numpy))
    mine = r.add(g.Compare("eq", r.add(g.Broadcast(at, wide, (axis + 1,))), r.add(g.Broadcast(row, wide, (axis,)))))
    kept = tuple(d for d in range(len(wide)) if d != axis)
    updates = r.add(g.Broadcast(op.updates, wide, kept))
    fn = "prod" if op.fn == "mul" else op.fn
    none = everywhere(r, _identity(fn, op.x.type.dtype), updates.type)
    total = r.add(g.Reduce(fn, r.add(g.Select(mine, updates, none)), (axis + 1,), source=op.source))
    return r.add(g.Binary(op.fn, op.x, total, source=op.source))


def update_several(op: g.Op, r: Rewriter) -> g.Value | None:
    """A box that moves along several dimensions: the rows along the first are read, updated and put back."""
    if not isinstance(op, g.DynamicUpdate):
        return None
    sizes, extents = op.update.type.static_shape, op.x.type.static_shape
    moving = [d for d in range(len(sizes)) if sizes[d] != extents[d]]
    if len(moving) < 2:
        return None
    axis = moving[0]
    zero = r.array(np.zeros((), op.starts[axis].type.dtype.numpy))
    only = tuple(s if d == axis else zero for d, s in enumerate(op.starts))
    rest = tuple(zero if d == axis else s for d, s in enumerate(op.starts))
    box = tuple(sizes[d] if d == axis else n for d, n in enumerate(extents))
    old = r.add(g.DynamicSlice(op.x, only, box, source=op.source))
    new = r.add(g.DynamicUpdate(old, op.update, rest, source=op.source))
    return r.add(g.DynamicUpdate(op.x, new, only, source=op.source))


def plain_cumulate(op: g.Op, r: Rewriter) -> g.Value | None:
    """Running sums walk forwards and include their own element."""
    if not isinstance(op, g.Cumulate):
        return None
    x, shape = op.x, op.x.type.static_shape
    if op.reverse:
        backwards = r.add(dataclasses.replace(op, x=_flip(x, op.axis, r), reverse=False, outs=()))
        return _flip(backwards, op.axis, r)
    if op.exclusive:
        running = r.add(dataclasses.replace(op, exclusive=False, outs=()))
        none = r.array(np.asarray(identity(op.fn, x.type.dtype.numpy)).astype(x.type.dtype.numpy).reshape(()))
        lo, hi = ([n if d == op.axis else 0 for d in range(len(shape))] for n in (1, -1))
        return r.add(g.Pad(running, none, tuple(lo), tuple(hi), source=op.source))
    return op.x if shape[op.axis] == 1 else None


def _flip(x: g.Value, axis: int, r: Rewriter) -> g.Value:
    shape = x.type.static_shape
    starts = tuple(n - 1 if d == axis else 0 for d, n in enumerate(shape))
    return r.add(g.Slice(x, starts, shape, tuple(-1 if d == axis else 1 for d in range(len(shape)))))


def plain_sort(op: g.Op, r: Rewriter) -> tuple[g.Value, ...] | None:
    """Sorting downwards is sorting reversed rows upwards and reversing the result: equals keep their order."""
    if not isinstance(op, g.Sort):
        return None
    extent = op.x.type.static_shape[op.axis]
    if extent <= 1:
        return op.x, everywhere(r, 0, infer(op)[1])
    if not op.descending:
        return None
    ordered, positions = r.rewrite(g.Sort(_flip(op.x, op.axis, r), op.axis, source=op.source))
    last = everywhere(r, extent - 1, positions.type)
    return _flip(ordered, op.axis, r), r.add(g.Binary("sub", last, _flip(positions, op.axis, r), source=op.source))


def bits_of_truth(op: g.Op, r: Rewriter) -> g.Value | None:
    """Bytes read as truth values are compared with 0, as a truth value is stored as 0 or 1."""
    if not isinstance(op, g.Bitcast) or op.dtype is not DType.b1 or op.x.type.dtype is DType.b1:
        return None
    byte = op.x if op.x.type.dtype in (DType.i8, DType.u8) else r.add(g.Bitcast(op.x, DType.u8))
    return r.add(g.Compare("ne", byte, everywhere(r, 0, byte.type)))


def leaky_maximum(op: g.Op, r: Rewriter) -> g.Value | None:
    """x where it is positive, else a * x, is the larger of both for constant slopes 0 < a <= 1, and the smaller for
    slopes from 1 on; a slope of 0 would make infinities NaN."""
    if not isinstance(op, g.Select) or not isinstance(test := r.op(op.cond), g.Compare) or not op.x.type.dtype.is_float:
        return None
    bound = r.spread(test.y)
    if bound is None or bound[0].any() or test.fn not in ("lt", "le", "gt", "ge"):
        return None
    low, high = (op.x, op.y) if test.fn in ("lt", "le") else (op.y, op.x)
    product = r.op(low)
    if high is not test.x or not isinstance(product, g.Binary) or product.fn != "mul" or product.x is not high:
        return None
    slope = r.spread(product.y)
    if slope is None or not (slope[0] > 0).all() or not np.isfinite(slope[0]).all():
        return None
    fn = "max" if (slope[0] <= 1).all() else "min" if (slope[0] >= 1).all() else None
    return None if fn is None else r.add(g.Binary(fn, high, low, source=op.source))


def whole_numbers(op: g.Op, r: Rewriter) -> g.Value | None:
    """Integers are whole, lie within the limits of their type, and come back from a float that holds them."""
    inner = r.op(op.x) if isinstance(op, g.Unary | g.Binary | g.Convert) else None
    if not isinstance(inner, g.Convert) or not inner.x.type.dtype.is_int or not inner.dtype.is_float:
        return None
    integer = inner.x.type.dtype
    exact = integer.bytes <= (2 if inner.dtype.bytes >= 4 else 1) and inner.dtype.bytes > 1
    match op:
        case g.Unary(fn="round" | "floor" | "ceil"):
            return op.x
        case g.Binary(fn="max" | "min") if exact and (bound := r.spread(op.y)) is not None:
            limits = np.iinfo(integer.numpy)
            idle = bound[0] <= limits.min if op.fn == "max" else bound[0] >= limits.max
            return op.x if idle.all() else None
        case g.Convert() if exact and op.dtype is integer:
            return inner.x
        case _:
            return None


EXPANSIONS = (
    drop_empty,
    move_uniform,
    fold_repeated,
    arg_of_one,
    listed_indices,
    batched_gather,
    combining_scatter,
    update_several,
    plain_cumulate,
    plain_sort,
    bits_of_truth,
    leaky_maximum,
    whole_numbers,
)
"""In order of trial."""
