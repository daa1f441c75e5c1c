"""Result types of every op, from its operands and attributes alone. The verifier and the builder both use this."""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from tapeout.errors import VerifyError
from tapeout.ir import graph as g
from tapeout.ir.types import Dim, DType, Shape, TensorType, dim_add, dim_sub, product

FLOAT_ONLY = frozenset("exp log sqrt rsqrt sin cos tanh erf floor ceil round atan2".split())
BITWISE = frozenset("and or xor shl shr not".split())
BOOLEAN = frozenset("and or xor not max min set".split())


def _require(condition: bool, op: g.Op, message: str) -> None:
    if not condition:
        raise VerifyError("inference", describe(op), message)


def describe(op: g.Op) -> str:
    """How errors name an op: its kind, its first result where it has one, and where it came from."""
    result = f" {op.outs[0]}" if op.outs else ""
    return f"{type(op).__name__}{result}" + (f" (from {op.source})" if op.source else "")


def _same(op: g.Op, *values: g.Value) -> TensorType:
    first = values[0].type
    for v in values[1:]:
        _require(v.type.shape == first.shape, op, f"shapes differ: {first} and {v.type}")
    return first


def _axes(op: g.Op, axes: tuple[int, ...], rank: int) -> None:
    _require(all(0 <= a < rank for a in axes), op, f"axes {axes} of rank {rank}")
    _require(len({*axes}) == len(axes), op, f"axes {axes} repeat")


def _function(op: g.Op, fn: str, known: Collection[str], dtype: DType) -> None:
    """`fn` exists and is meant for elements of `dtype`."""
    _require(fn in known, op, f"no function {fn!r}")
    _require(fn not in FLOAT_ONLY or dtype.is_float, op, f"{fn} of {dtype}")
    _require(fn not in BITWISE or not dtype.is_float, op, f"{fn} of {dtype}")
    _require(dtype is not DType.b1 or fn in BOOLEAN, op, f"{fn} of b1")


def _starts(op: g.DynamicSlice | g.DynamicUpdate, sizes: Shape) -> None:
    _require(len(op.starts) == op.x.type.rank == len(sizes), op, "one start and one size per dimension")
    for v in op.starts:
        _require(v.type.rank == 0 and v.type.dtype.is_int, op, f"start {v} is {v.type}")
    for size, extent in zip(sizes, op.x.type.shape, strict=True):
        inside = not isinstance(size, int) or not isinstance(extent, int) or 0 <= size <= extent
        _require(inside, op, f"{size} elements of an extent {extent}")


def _same_count(a: Shape, b: Shape) -> bool:
    """Whether two shapes have equally many elements; symbolic dimensions may be cancelled one for one."""
    rest = list(b)
    kept: list[Dim] = []
    for d in a:
        if not isinstance(d, int) and d in rest:
            rest.remove(d)
        else:
            kept.append(d)
    return product(kept) == product(rest)


def window_extent(size: int, window: int, stride: int, pad: tuple[int, int], dilation: int) -> int:
    """Number of window positions along one dimension of `size` elements."""
    return (size + sum(pad) - (window - 1) * dilation - 1) // stride + 1


def _window_shape(op: g.Conv | g.Pool, spatial: Shape, window: tuple[int, ...], x_dilation: tuple[int, ...]) -> Shape:
    shape: list[Dim] = []
    _require(min((*op.strides, *op.dilation, *x_dilation, *window), default=1) > 0, op, "a step or window below 1")
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
    _axes(op, op.lhs_batch + op.lhs_contract, len(lhs))
    _axes(op, op.rhs_batch + op.rhs_contract, len(rhs))
    _number_kinds(op, op.lhs.type.dtype, op.rhs.type.dtype)
    for a, b in zip(op.lhs_batch + op.lhs_contract, op.rhs_batch + op.rhs_contract, strict=True):
        _require(lhs[a] == rhs[b], op, f"dimension {a} of {op.lhs.type} is not dimension {b} of {op.rhs.type}")
    taken_l, taken_r = {*op.lhs_batch, *op.lhs_contract}, {*op.rhs_batch, *op.rhs_contract}
    free_l = tuple(d for i, d in enumerate(lhs) if i not in taken_l)
    free_r = tuple(d for i, d in enumerate(rhs) if i not in taken_r)
    return TensorType(op.dtype, tuple(lhs[i] for i in op.lhs_batch) + free_l + free_r)


def _number_kinds(op: g.Dot | g.Conv, a: DType, b: DType) -> None:
    both = (a.is_float and b.is_float) or (a.is_int and b.is_int)
    _require(both, op, f"{a} times {b}")


def _conv(op: g.Conv) -> TensorType:
    x, w = op.x.type.shape, op.w.type.shape
    _number_kinds(op, op.x.type.dtype, op.w.type.dtype)
    _require(op.groups > 0, op, f"{op.groups} groups")
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
    _axes(op, op.dims, len(op.shape))
    for d, axis in zip(op.x.type.shape, op.dims, strict=True):
        _require(d == 1 or d == op.shape[axis], op, f"{op.x.type} does not broadcast to {op.shape} by {op.dims}")
    return op.x.type.with_shape(op.shape)


def _concat(op: g.Concat) -> TensorType:
    first = op.xs[0].type
    total: Dim = 0
    _axes(op, (op.axis,), first.rank)
    for x in op.xs:
        _require(x.type.rank == first.rank, op, f"{x.type} does not continue {first}")
        same = all(a == b for i, (a, b) in enumerate(zip(x.type.shape, first.shape, strict=True)) if i != op.axis)
        _require(same and x.type.dtype == first.dtype, op, f"{x.type} does not continue {first} along {op.axis}")
        total = dim_add(total, x.type.shape[op.axis])
    return first.with_shape(total if i == op.axis else d for i, d in enumerate(first.shape))


def _gather(op: g.Gather | g.Scatter) -> TensorType:
    batch = op.batch if isinstance(op, g.Gather) else 0
    x, indices = op.x.type.shape, op.indices.type
    _require(indices.dtype.is_int, op, f"indices are {indices.dtype}")
    _require(0 <= batch <= op.axis < len(x), op, f"axis {op.axis} of {op.x.type}")
    _require(x[:batch] == indices.shape[:batch], op, f"batch {batch} of {op.x.type} and {indices}")
    return op.x.type.with_shape(x[: op.axis] + indices.shape[batch:] + x[op.axis + 1 :])


def _removed(t: TensorType, axes: tuple[int, ...]) -> Shape:
    return tuple(d for i, d in enumerate(t.shape) if i not in axes)


def _region(op: g.Op, region: g.Region, given: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    _require(tuple(p.type for p in region.params) == given, op, f"region takes other types than {given}")
    return tuple(r.type for r in region.results)


def _scan(op: g.Scan) -> tuple[TensorType, ...]:
    carry = tuple(v.type for v in op.carries)
    for x in op.xs:
        _require(x.type.rank > 0, op, f"{x.type} has no dimension to walk along")
        _require(x.type.shape[0] == op.length, op, f"{x.type} is not {op.length} long")
    results = _region(op, op.body, carry + tuple(x.type.with_shape(x.type.shape[1:]) for x in op.xs))
    _require(results[: len(carry)] == carry, op, "the body does not return the carries' types")
    return carry + tuple(t.with_shape((op.length, *t.shape)) for t in results[len(carry) :])


def infer(op: g.Op) -> tuple[TensorType, ...]:
    """Types of the results of `op`; `VerifyError` when its operands or attributes do not fit it."""
    try:
        return _infer(op)
    except (ValueError, IndexError, KeyError) as error:  # tuples of unequal length, products that are not affine
        raise VerifyError("inference", describe(op), str(error)) from error


def _infer(op: g.Op) -> tuple[TensorType, ...]:
    match op:
        case g.Constant():
            return (TensorType(DType.of(op.data.dtype), tuple(op.data.shape)),)
        case g.Iota():
            _require(op.type.dtype is not DType.b1, op, "positions as b1")
            _axes(op, (op.axis,), op.type.rank)
            return (op.type,)
        case g.RandomBits():
            _require(op.key.type == TensorType(DType.u32, (2,)), op, f"key is {op.key.type}, not u32[2]")
            _require(op.offset.type == TensorType(DType.u64, ()), op, f"offset is {op.offset.type}, not u64[]")
            _require(op.type.dtype is DType.u32, op, f"random words of {op.type.dtype}, not u32")
            return (op.type,)
        case g.Unary():
            _function(op, op.fn, g.UNARY, op.x.type.dtype)
            return (op.x.type,)
        case g.Binary():
            _function(op, op.fn, g.BINARY, op.x.type.dtype)
            _require(op.x.type.dtype == op.y.type.dtype, op, f"types differ: {op.x.type} and {op.y.type}")
            return (_same(op, op.x, op.y),)
        case g.Compare():
            _require(op.fn in g.COMPARE, op, f"no function {op.fn!r}")
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
            _function(op, op.fn, g.REDUCE, op.x.type.dtype)
            _axes(op, op.axes, op.x.type.rank)
            return (op.x.type.with_shape(_removed(op.x.type, op.axes)),)
        case g.ArgReduce():
            _require(op.fn in ("max", "min"), op, f"no function {op.fn!r}")
            _axes(op, (op.axis,), op.x.type.rank)
            return (TensorType(DType.i64, _removed(op.x.type, (op.axis,))),)
        case g.Cumulate():
            _function(op, op.fn, ("sum", "prod", "max", "min"), op.x.type.dtype)
            _axes(op, (op.axis,), op.x.type.rank)
            return (op.x.type,)
        case g.Dot():
            return (_dot(op),)
        case g.Conv():
            return (_conv(op),)
        case g.Pool():
            _function(op, op.fn, ("max", "min", "sum"), op.x.type.dtype)
            kept = op.x.type.rank - len(op.window)
            _require(kept >= 0, op, f"window {op.window} over {op.x.type}")
            ones = (1,) * len(op.window)
            shape = op.x.type.shape
            return (op.x.type.with_shape(shape[:kept] + _window_shape(op, shape[kept:], op.window, ones)),)
        case g.Reshape():
            same = _same_count(op.x.type.shape, op.shape)
            _require(same, op, f"{op.x.type} to {op.x.type.with_shape(op.shape)} changes the count")
            return (op.x.type.with_shape(op.shape),)
        case g.Transpose():
            _require(sorted(op.perm) == list(range(op.x.type.rank)), op, f"permutation {op.perm} of {op.x.type}")
            return (op.x.type.with_shape(op.x.type.shape[i] for i in op.perm),)
        case g.Broadcast():
            return (_broadcast(op),)
        case g.Slice():
            _require(0 not in op.steps, op, "step 0")
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
            _function(op, op.fn, ("set", "add", "mul", "max", "min"), op.x.type.dtype)
            _require(_gather(op) == op.updates.type, op, f"updates are {op.updates.type}, not {_gather(op)}")
            return (op.x.type,)
        case g.DynamicSlice():
            _starts(op, op.sizes)
            return (op.x.type.with_shape(op.sizes),)
        case g.DynamicUpdate():
            _starts(op, op.update.type.shape)
            _require(op.update.type.dtype == op.x.type.dtype, op, f"{op.update.type} into {op.x.type}")
            return (op.x.type,)
        case g.Sort():
            _axes(op, (op.axis,), op.x.type.rank)
            return (op.x.type, op.x.type.with_dtype(DType.i64))
        case g.If():
            _require(op.cond.type == TensorType(DType.b1, ()), op, f"condition is {op.cond.type}, not b1[]")
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
