"""Views, joins, repetition, padding and tensors made from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tapeout.frontend.torch_ops.lowering import Handler, Lowering, Operand, axes_of
from tapeout.ir.graph import Value
from tapeout.ir.types import Dim, DType, TensorType, dim_add, dim_sub, product

# ---- views: PyTorch already knows the result's shape


def _reshape(t: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    if t.out.dtype is not x.type.dtype:  # view.dtype
        return t.b.bitcast(x, t.out.dtype)
    return t.b.reshape(x, t.out.shape)


def _expand(t: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    return t.b.broadcast_to(x, t.out.shape)


def _permute(t: Lowering, x: Value, dims: Sequence[int]) -> Value:
    return t.b.transpose(x, [d % x.type.rank for d in dims])


def _transpose(t: Lowering, x: Value, a: int = 0, b: int = 1) -> Value:
    order = list(range(x.type.rank))
    if order:
        a, b = a % x.type.rank, b % x.type.rank
        if a < len(order) and b < len(order):
            order[a], order[b] = order[b], order[a]
    return t.b.transpose(x, order)


def _t(t: Lowering, x: Value) -> Value:
    return t.b.transpose(x, range(x.type.rank)[::-1])


def _diagonal(t: Lowering, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The two dimensions flattened, then every (columns + 1)-th element."""
    rank = x.type.rank
    a, b = dim1 % rank, dim2 % rank
    rest = [i for i in range(rank) if i not in (a, b)]
    columns = t.static(x.type.shape[b], "a dimension of diagonal")
    rows = t.static(x.type.shape[a], "a dimension of diagonal")
    lead = tuple(x.type.shape[i] for i in rest)
    flat = t.b.reshape(t.b.transpose(x, [*rest, a, b]), (*lead, rows * columns))
    start = offset if offset >= 0 else -offset * columns
    steps = [1] * len(lead) + [columns + 1]
    return t.b.slice(flat, [0] * len(lead) + [start], t.out.shape, steps)


def _as_strided(t: Lowering, x: Value, size: Any, stride: Sequence[int], offset: Any = 0) -> Value:
    """Reads x, taken as contiguous, at offset + sum(i * stride)."""
    shape = TensorType(DType.i64, t.out.shape).static_shape
    at = np.full(shape, offset or 0, np.int64)
    for axis, step in enumerate(stride):
        at += (np.arange(shape[axis]) * step).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    flat = t.b.reshape(x, (product(x.type.shape),))
    return t.b.gather(flat, t.b.constant(at), 0)


def _unfold(t: Lowering, x: Value, dim: int, size: int, step: int) -> Value:
    axis = dim % x.type.rank
    count = t.static(t.out.shape[axis], "the windows of unfold")
    at = np.arange(count)[:, None] * step + np.arange(size)
    out = t.b.gather(x, t.b.constant(at.astype(np.int64)), axis)
    order = [i for i in range(out.type.rank) if i != axis + 1]
    return t.b.transpose(out, [*order, axis + 1])


# ---- pieces


def _bounds(extent: Dim, start: Any, end: Any) -> tuple[Dim, Dim | None]:
    """PyTorch's slice bounds for positions that are numbers: negative ones count from the end, all are clamped."""
    if isinstance(start, int) and start < 0:
        start = max(extent + start, 0) if isinstance(extent, int) else dim_add(extent, start)
    if isinstance(start, int) and isinstance(extent, int):
        start = min(start, extent)
    return start or 0, end


def slice_of(t: Lowering, x: Value, axis: int, start: Any, size: Dim, step: int = 1) -> Value:
    """`size` elements along one axis from a position that may be known only at run time."""
    sizes = list(x.type.shape)
    sizes[axis] = size
    if isinstance(start, Value):
        if step != 1:
            raise t.refuse("a slice with a step from a position known only at run time")
        return t.b.dynamic_slice(x, [t.index(start if i == axis else 0) for i in range(x.type.rank)], sizes)
    starts: list[Dim] = [0] * x.type.rank
    starts[axis] = start
    return t.b.slice(x, starts, sizes, [step if i == axis else 1 for i in range(x.type.rank)])


def _slice(t: Lowering, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Value:
    axis = dim % x.type.rank
    start = start if isinstance(start, Value) else _bounds(x.type.shape[axis], start or 0, end)[0]
    return slice_of(t, x, axis, start, t.out.shape[axis], step)


def _select(t: Lowering, x: Value, dim: int, index: Any) -> Value:
    axis = dim % x.type.rank
    if isinstance(index, int) and index < 0:
        index = dim_add(x.type.shape[axis], index)
    return t.b.reshape(slice_of(t, x, axis, index, 1), t.out.shape)


def _narrow(t: Lowering, x: Value, dim: int, start: Any, length: Dim) -> Value:
    axis = dim % x.type.rank
    return slice_of(
        t, x, axis, start if isinstance(start, Value) else _bounds(x.type.shape[axis], start, None)[0], length
    )


def _pieces(t: Lowering, x: Value, sizes: Any, dim: int = 0) -> tuple[Value, ...]:
    """split, split_with_sizes, chunk: PyTorch knows the shapes."""
    axis = dim % x.type.rank
    start: Dim = 0
    pieces: list[Value] = []
    for out in t.out:
        pieces.append(slice_of(t, x, axis, start, out.shape[axis]))
        start = dim_add(start, out.shape[axis])
    return tuple(pieces)


def _unbind(t: Lowering, x: Value, dim: int = 0) -> tuple[Value, ...]:
    axis = dim % x.type.rank
    return tuple(t.b.reshape(slice_of(t, x, axis, i, 1), out.shape) for i, out in enumerate(t.out))


# ---- joins


def _cat(t: Lowering, xs: Sequence[Value], dim: int = 0) -> Value:
    kept = [x for x in xs if x.type.shape != (0,)] or list(xs)
    return t.b.concat([t.narrow(x) for x in kept], dim)


def _stack(t: Lowering, xs: Sequence[Value], dim: int = 0) -> Value:
    axis = dim % len(t.out.shape)
    shape = (*t.out.shape[:axis], 1, *t.out.shape[axis + 1 :])
    return t.b.concat([t.b.reshape(t.narrow(x), shape) for x in xs], axis)


def _repeat(t: Lowering, x: Value, times: Sequence[Dim]) -> Value:
    lead = len(times) - x.type.rank
    shape = (1,) * lead + x.type.shape
    spread: list[Dim] = []
    for count, extent in zip(times, shape, strict=True):
        spread += [count, extent]
    dims = [2 * i + 1 for i in range(lead, len(times))]
    return t.b.reshape(t.b.broadcast(x, spread, dims), t.out.shape)


def _repeat_interleave(t: Lowering, x: Value, times: int, dim: int | None = None, output_size: Any = None) -> Value:
    if isinstance(times, Value):
        raise t.refuse("repeat_interleave with counts in a tensor")
    flat = x if dim is not None else t.b.reshape(x, (product(x.type.shape),))
    axis = 0 if dim is None else dim % x.type.rank
    shape = flat.type.shape
    dims = [d if d <= axis else d + 1 for d in range(flat.type.rank)]
    return t.b.reshape(t.b.broadcast(flat, (*shape[: axis + 1], times, *shape[axis + 1 :]), dims), t.out.shape)


def _flip(t: Lowering, x: Value, dims: Sequence[int]) -> Value:
    axes = axes_of(x.type.rank, dims) if dims else ()
    for axis in axes:
        extent = x.type.shape[axis]
        x = slice_of(t, x, axis, dim_sub(extent, 1), extent, -1) if extent != 1 else x
    return x


def _roll(t: Lowering, x: Value, shifts: int | Sequence[int], dims: int | Sequence[int] = ()) -> Value:
    moves = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    flat = x if axes else t.b.reshape(x, (product(x.type.shape),))
    for shift, dim in zip(moves, axes or [0], strict=True):
        extent = flat.type.shape[dim]
        cut = -shift % extent if isinstance(extent, int) and extent else -shift
        if cut:
            cut = dim_add(extent, cut) if cut < 0 else cut
            axis = dim % flat.type.rank
            tail = slice_of(t, flat, axis, cut, dim_sub(extent, cut))
            flat = t.b.concat([tail, slice_of(t, flat, axis, 0, cut)], axis)
    return t.b.reshape(flat, x.type.shape)


# ---- padding; PyTorch lists (lo, hi) from the last dimension backwards


def _amounts(rank: int, pad: Sequence[int]) -> tuple[list[int], list[int]]:
    lo, hi = [0] * rank, [0] * rank
    for i in range(len(pad) // 2):
        lo[rank - 1 - i], hi[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    return lo, hi


def _constant_pad(t: Lowering, x: Value, pad: Sequence[int], value: float = 0.0) -> Value:
    return t.b.pad(x, value, *_amounts(x.type.rank, pad))


def _edge_pad(mode: Any) -> Handler:
    """Pads with copies of inner elements: joins of runs of x that go up or down by one."""

    def handle(t: Lowering, x: Value, pad: Sequence[int], *_: Any) -> Value:
        for axis, (lo, hi) in enumerate(zip(*_amounts(x.type.rank, pad), strict=True)):
            if lo or hi:
                extent = t.static(x.type.shape[axis], "a padded dimension")
                kept = np.arange(max(-lo, 0), extent - max(-hi, 0))
                x = _taken(t, x, axis, np.pad(kept, (max(lo, 0), max(hi, 0)), mode))
        return x

    return handle


def _taken(t: Lowering, x: Value, axis: int, index: np.ndarray) -> Value:
    """x at the given positions along an axis, as a join of slices."""
    pieces: list[Value] = []
    start = 0
    while start < len(index):
        step = int(index[start + 1] - index[start]) if start + 1 < len(index) else 1
        step = step if step in (-1, 0, 1) else 1
        end = start + 1
        while end < len(index) and index[end] - index[end - 1] == step:
            end += 1
        if step:
            pieces.append(slice_of(t, x, axis, int(index[start]), end - start, step))
        else:
            one = slice_of(t, x, axis, int(index[start]), 1)
            shape = tuple(end - start if i == axis else d for i, d in enumerate(one.type.shape))
            pieces.append(t.b.broadcast(one, shape, range(one.type.rank)))
        start = end
    return t.b.concat(pieces, axis)


# ---- tensors made from nothing


def _full(t: Lowering, size: Any, value: Operand = 0, **_: Any) -> Value:
    return t.full(value, t.out)


def _new_full(t: Lowering, x: Value, size: Any, value: Operand, **_: Any) -> Value:
    return t.full(value, t.out)


def _fill(t: Lowering, x: Value, value: Operand) -> Value:
    return t.full(t.b.reshape(value, ()) if isinstance(value, Value) else value, t.out)


def _filled(value: float) -> Handler:

    def handle(t: Lowering, *_: Any, **__: Any) -> Value:
        return t.full(value, t.out)

    return handle


def _scalar_tensor(t: Lowering, value: Operand, **_: Any) -> Value:
    return t.cast(value, t.out.dtype)


def _arange(t: Lowering, *args: Any, **named: Any) -> Value:
    """arange(end), arange(start, end), arange(start, end, step)."""
    start, step = (args[0] if len(args) > 1 else 0), (args[2] if len(args) > 2 else named.get("step", 1))
    start = named.get("start", start)
    dtype = t.out.dtype
    inner = dtype if dtype.is_int else t.opmath(dtype)
    whole = all(not isinstance(v, float) or v.is_integer() for v in (start, step))
    steps = t.b.iota(t.out.with_dtype(DType.i64 if whole else inner), 0)
    out = t.b.mul(steps, t.cast(int(step) if whole else step, steps.type.dtype)) if step != 1 else steps
    if not isinstance(start, int | float) or start != 0:
        first = int(start) if whole and isinstance(start, float) else start
        out = t.b.add(out, t.cast(first, steps.type.dtype))
    return t.narrow(out)


def _linspace(t: Lowering, start: float, end: float, steps: int, **_: Any) -> Value:
    at = np.linspace(start, end, steps, dtype=np.float64)
    return t.b.constant(at.astype(t.out.dtype.numpy))


def _eye(t: Lowering, *_: Any, **__: Any) -> Value:
    grid = t.out.with_dtype(DType.i64)
    return t.narrow(t.b.compare("eq", t.b.iota(grid, 0), t.b.iota(grid, 1)))


def _triangle(fn: str) -> Handler:
    """tril keeps column - row <= diagonal, triu >=."""

    def handle(t: Lowering, x: Value, diagonal: int = 0) -> Value:
        grid = TensorType(DType.i64, x.type.shape[-2:])
        beyond = t.b.sub(t.b.iota(grid, 1), t.b.iota(grid, 0))
        kept = t.b.compare(fn, beyond, t.b.scalar(diagonal, DType.i64))
        return t.b.select(kept, x, t.b.scalar(0, x.type.dtype))

    return handle


def _copy(t: Lowering, x: Value, source: Value, *_: Any) -> Value:
    return t.b.broadcast_to(t.b.convert(source, x.type.dtype), x.type.shape)


def _random(t: Lowering, *_: Any, **__: Any) -> Value:
    raise t.refuse("random numbers in a model", "pass them in as an input")


TABLE: Mapping[str, Handler] = {
    **dict.fromkeys(
        ("view", "_unsafe_view", "reshape", "view_copy", "unsqueeze", "squeeze", "flatten", "unflatten"), _reshape
    ),
    **dict.fromkeys(("expand", "expand_as", "expand_copy", "broadcast_to"), _expand),
    **dict.fromkeys(("permute", "permute_copy"), _permute),
    **dict.fromkeys(("transpose", "swapaxes"), _transpose),
    "t": _t,
    "numpy_T": _t,
    "diagonal": _diagonal,
    "as_strided": _as_strided,
    "unfold": _unfold,
    "slice": _slice,
    "slice_copy": _slice,
    "select": _select,
    "select_copy": _select,
    "narrow": _narrow,
    **dict.fromkeys(("split", "split_with_sizes", "split_with_sizes_copy", "chunk", "tensor_split"), _pieces),
    "unbind": _unbind,
    "cat": _cat,
    "stack": _stack,
    "repeat": _repeat,
    "repeat_interleave": _repeat_interleave,
    "flip": _flip,
    "roll": _roll,
    "constant_pad_nd": _constant_pad,
    **{f"reflection_pad{n}d": _edge_pad("reflect") for n in (1, 2, 3)},
    **{f"replication_pad{n}d": _edge_pad("edge") for n in (1, 2, 3)},
    **dict.fromkeys(("full", "full_like"), _full),
    "new_full": _new_full,
    "fill": _fill,
    **dict.fromkeys(
        ("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "empty_strided", "new_empty"), _filled(0)
    ),
    **dict.fromkeys(("new_empty_strided", "empty_permuted"), _filled(0)),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), _filled(1)),
    "scalar_tensor": _scalar_tensor,
    "arange": _arange,
    "linspace": _linspace,
    "eye": _eye,
    "tril": _triangle("le"),
    "triu": _triangle("ge"),
    "copy": _copy,
    **dict.fromkeys(
        ("rand", "randn", "randint", "rand_like", "randn_like", "randperm", "bernoulli", "multinomial"), _random
    ),
}
