"""Result types of every op, from its operands and attributes alone. The verifier and the builder both use this."""

from __future__ import annotations

from typing import assert_never

from tapeout.errors import VerifyError
from tapeout.ir import graph as g
from tapeout.ir.types import Dim, DType, Shape, TensorType, dim_add, dim_sub, product

FLOAT_ONLY = frozenset("exp log sqrt rsqrt sin cos tanh erf floor ceil round".split())
BITWISE = frozenset("and or xor shl shr not".split())


def _require(condition: bool, op: g.Op, message: str) -> None:
    if not condition:
        raise VerifyError(f"{type(op).__name__}: {message}", value=op.source or None)


def _same(op: g.Op, *values: g.Value) -> TensorType:
    first = values[0].type
    for v in values[1:]:
        _require(v.type.shape == first.shape, op, f"shapes differ: {first} and {v.type}")
    return first


def window_extent(size: int, window: int, stride: int, pad: tuple[int, int], dilation: int) -> int:
    """Number of window positions along one dimension of `size` elements."""
    return (size + sum(pad) - (window - 1) * dilation - 1) // stride + 1


def _window_shape(
    op: g.Conv | g.Pool, spatial: Shape, window: tuple[int, ...], x_dilation: tuple[int, ...]
) -> Shape:
    shape: list[Dim] = []
    for d, w, s, p, r, b in zip(spatial, window, op.strides, op.pads, op.dilation, x_dilation, strict=True):
        if isinstance(d, int):
            shape.append(window_extent((d - 1) * b + 1, w, s, p, r))
        else:
            _require(s == 1 and b == 1, op, f"symbolic dimension {d} under a stride")
            shape.append(dim_add(d, sum(p) - (w - 1) * r))
        last = shape[-1]
        _require(not isinstance(last, int) or last > 0, op, f"window {w} is larger than the padded extent {d}")
    return tuple(shape)


def _dot(op: g.Dot) -> TensorType:
    lhs, rhs = op.lhs.type.shape, op.rhs.type.shape
    for a, b in zip(op.lhs_batch + op.lhs_contract, op.rhs_batch + op.rhs_contract, strict=True):
        _require(lhs[a] == rhs[b], op, f"dimension {a} of {op.lhs.type} is not dimension {b} of {op.rhs.type}")
    taken_l, taken_r = {*op.lhs_batch, *op.lhs_contract}, {*op.rhs_batch, *op.rhs_contract}
    free_l = tuple(d for i, d in enumerate(lhs) if i not in taken_l)
    free_r = tuple(d for i, d in enumerate(rhs) if i not in taken_r)
    return TensorType(op.dtype, tuple(lhs[i] for i in op.lhs_batch) + free_l + free_r)


def _conv(op: g.Conv) -> TensorType:
    x, w = op.x.type.shape, op.w.type.shape
    _require(len(x) == len(w) >= 2, op, f"ranks differ: {op.x.type} and {op.w.type}")
    channels, out, group_in = x[1], w[0], w[1]
    _require(isinstance(channels, int) and isinstance(out, int) and isinstance(group_in, int), op, "symbolic channels")
    assert isinstance(group_in, int)
    assert isinstance(out, int)
    _require(channels == group_in * op.groups, op, f"{channels} channels are not {op.groups} groups of {group_in}")
    _require(out % op.groups == 0, op, f"{out} outputs do not divide into {op.groups} groups")
    window = tuple(d for d in w[2:] if isinstance(d, int))
    return TensorType(op.dtype, (x[0], out, *_window_shape(op, x[2:], window, op.x_dilation)))


def _broadcast(op: g.Broadcast) -> TensorType:
    for d, axis in zip(op.x.type.shape, op.dims, strict=True):
        _require(d == 1 or d == op.shape[axis], op, f"{op.x.type} does not broadcast to {op.shape} by {op.dims}")
    return op.x.type.with_shape(op.shape)


def _concat(op: g.Concat) -> TensorType:
    first = op.xs[0].type
    total: Dim = 0
    for x in op.xs:
        same = all(a == b for i, (a, b) in enumerate(zip(x.type.shape, first.shape, strict=True)) if i != op.axis)
        _require(same and x.type.dtype == first.dtype, op, f"{x.type} does not continue {first} along {op.axis}")
        total = dim_add(total, x.type.shape[op.axis])
    return first.with_shape(total if i == op.axis else d for i, d in enumerate(first.shape))


def _gather(op: g.Gather | g.Scatter) -> TensorType:
    batch = op.batch if isinstance(op, g.Gather) else 0
    x, indices = op.x.type.shape, op.indices.type
    _require(indices.dtype.is_int, op, f"indices are {indices.dtype}")
    _require(batch <= op.axis < len(x), op, f"axis {op.axis} of {op.x.type}")
    return op.x.type.with_shape(x[: op.axis] + indices.shape[batch:] + x[op.axis + 1 :])


def _removed(t: TensorType, axes: tuple[int, ...]) -> Shape:
    return tuple(d for i, d in enumerate(t.shape) if i not in axes)


def _region(op: g.Op, region: g.Region, given: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    _require(tuple(p.type for p in region.params) == given, op, f"region takes other types than {given}")
    return tuple(r.type for r in region.results)


def _scan(op: g.Scan) -> tuple[TensorType, ...]:
    carry = tuple(v.type for v in op.carries)
    for x in op.xs:
        _require(x.type.shape[0] == op.length, op, f"{x.type} is not {op.length} long")
    results = _region(op, op.body, carry + tuple(x.type.with_shape(x.type.shape[1:]) for x in op.xs))
    _require(results[: len(carry)] == carry, op, "the body does not return the carries' types")
    return carry + tuple(t.with_shape((op.length, *t.shape)) for t in results[len(carry) :])


def infer(op: g.Op) -> tuple[TensorType, ...]:
    """Types of the results of `op`; `VerifyError` when its operands do not fit it."""
    match op:
        case g.Constant():
            return (TensorType(DType.of(op.data.dtype), tuple(op.data.shape)),)
        case g.Iota() | g.RandomBits():
            return (op.type,)
        case g.Unary():
            _require(op.fn in g.UNARY, op, f"no function {op.fn}")
            _require(op.fn not in FLOAT_ONLY or op.x.type.dtype.is_float, op, f"{op.fn} of {op.x.type}")
            _require(op.fn not in BITWISE or not op.x.type.dtype.is_float, op, f"{op.fn} of {op.x.type}")
            return (op.x.type,)
        case g.Binary():
            _require(op.fn in g.BINARY, op, f"no function {op.fn}")
            _require(op.x.type.dtype == op.y.type.dtype, op, f"types differ: {op.x.type} and {op.y.type}")
            _require(op.fn not in BITWISE or not op.x.type.dtype.is_float, op, f"{op.fn} of {op.x.type}")
            return (_same(op, op.x, op.y),)
        case g.Compare():
            _require(op.fn in g.COMPARE, op, f"no function {op.fn}")
            _require(op.x.type.dtype == op.y.type.dtype, op, f"types differ: {op.x.type} and {op.y.type}")
            return (_same(op, op.x, op.y).with_dtype(DType.b1),)
        case g.Select():
            _require(op.cond.type.dtype is DType.b1, op, f"condition is {op.cond.type}")
            _require(op.x.type.dtype == op.y.type.dtype, op, f"types differ: {op.x.type} and {op.y.type}")
            return (_same(op, op.x, op.y, op.cond),)
        case g.Convert():
            return (op.x.type.with_dtype(op.dtype),)
        case g.Bitcast():
            _require(op.dtype.bytes == op.x.type.dtype.bytes, op, f"{op.x.type} to {op.dtype} changes the size")
            return (op.x.type.with_dtype(op.dtype),)
        case g.Reduce():
            _require(op.fn in g.REDUCE, op, f"no function {op.fn}")
            _require(all(0 <= a < op.x.type.rank for a in op.axes), op, f"axes {op.axes} of {op.x.type}")
            return (op.x.type.with_shape(_removed(op.x.type, op.axes)),)
        case g.ArgReduce():
            return (TensorType(DType.i64, _removed(op.x.type, (op.axis,))),)
        case g.Cumulate():
            _require(0 <= op.axis < op.x.type.rank, op, f"axis {op.axis} of {op.x.type}")
            return (op.x.type,)
        case g.Dot():
            return (_dot(op),)
        case g.Conv():
            return (_conv(op),)
        case g.Pool():
            kept = op.x.type.rank - len(op.window)
            ones = (1,) * len(op.window)
            shape = op.x.type.shape
            return (op.x.type.with_shape(shape[:kept] + _window_shape(op, shape[kept:], op.window, ones)),)
        case g.Reshape():
            _require(
                product(op.x.type.shape) == product(op.shape), op, f"{op.x.type} to {op.shape} changes the count"
            )
            return (op.x.type.with_shape(op.shape),)
        case g.Transpose():
            _require(sorted(op.perm) == list(range(op.x.type.rank)), op, f"permutation {op.perm} of {op.x.type}")
            return (op.x.type.with_shape(op.x.type.shape[i] for i in op.perm),)
        case g.Broadcast():
            return (_broadcast(op),)
        case g.Slice():
            for d, start, size, step in zip(op.x.type.shape, op.starts, op.sizes, op.steps, strict=True):
                if isinstance(d, int) and isinstance(start, int) and isinstance(size, int) and size:
                    inside = 0 <= start < d and 0 <= start + (size - 1) * step < d
                    _require(inside, op, f"[{start}:+{size}:{step}] leaves the extent {d}")
            return (op.x.type.with_shape(op.sizes),)
        case g.Pad():
            _require(op.value.type == TensorType(op.x.type.dtype, ()), op, f"fill value is {op.value.type}")
            total = zip(op.x.type.shape, op.lo, op.hi, strict=True)
            return (op.x.type.with_shape(dim_add(d, lo + hi) for d, lo, hi in total),)
        case g.Concat():
            return (_concat(op),)
        case g.Gather():
            return (_gather(op),)
        case g.Scatter():
            _require(_gather(op) == op.updates.type, op, f"updates are {op.updates.type}, not {_gather(op)}")
            return (op.x.type,)
        case g.DynamicSlice():
            _require(len(op.starts) == op.x.type.rank, op, "one start per dimension")
            return (op.x.type.with_shape(op.sizes),)
        case g.DynamicUpdate():
            _require(len(op.starts) == op.x.type.rank == op.update.type.rank, op, "one start per dimension")
            return (op.x.type,)
        case g.Sort():
            return (op.x.type, op.x.type.with_dtype(DType.i64))
        case g.If():
            given = tuple(v.type for v in op.operands)
            results = _region(op, op.then, given)
            _require(results == _region(op, op.orelse, given), op, "the two regions return different types")
            return results
        case g.While():
            given = tuple(v.type for v in op.operands)
            _require(_region(op, op.cond, given) == (TensorType(DType.b1, ()),), op, "condition is not b1[]")
            _require(_region(op, op.body, given) == given, op, "the body does not return the carries' types")
            return given
        case g.Scan():
            return _scan(op)
        case g.HostCall():
            return op.types
        case _:
            assert_never(op)


def slice_size(extent: Dim, start: int, stop: int, step: int) -> Dim:
    """Elements of `range(start, stop, step)`; symbolic only for whole tails with step 1."""
    if isinstance(extent, int):
        return len(range(start, stop, step))
    return dim_sub(extent, start)
