"""Reductions, scans, sorting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tapeout.frontend.torch_ops.lowering import Handler, Lowering, Operand, axes_of
from tapeout.ir.graph import Value
from tapeout.ir.types import DType, product

Axes = int | Sequence[int] | None


def mean_of(t: Lowering, x: Value, axes: Sequence[int], keep: bool = False) -> Value:
    """Mean over axes whose extents may be symbolic."""
    total = t.b.reduce("sum", x, axes, keep)
    return divided(t, total, x, axes)


def divided(t: Lowering, total: Value, x: Value, axes: Sequence[int], correction: float = 0) -> Value:
    """total / (elements of x along the axes - correction)."""
    count = product(x.type.shape[a] for a in axes)
    if isinstance(count, int):
        left = count - correction
        return t.b.binary_scalar("div" if left <= 0 else "mul", total, 1 / left if left > 0 else 0.0)
    return t.b.div(total, t.b.binary_scalar("sub", t.extent(count, total.type.dtype), correction))


def moments(t: Lowering, x: Value, axes: Sequence[int]) -> tuple[Value, Value]:
    """Mean and biased variance, the reduced dimensions kept with extent 1."""
    mean = mean_of(t, x, axes, keep=True)
    centred = t.b.sub(x, mean)
    return mean, mean_of(t, t.b.mul(centred, centred), axes, keep=True)


def _sum(t: Lowering, x: Value, dim: Axes = None, keepdim: bool = False, dtype: Any = None) -> Value:
    return t.b.reduce("sum", t.narrow(x), axes_of(x.type.rank, dim), keepdim)


def _prod(t: Lowering, x: Value, dim: Axes = None, keepdim: bool = False, dtype: Any = None) -> Value:
    return t.narrow(t.b.reduce("prod", t.float_in(x), axes_of(x.type.rank, dim), keepdim))


def _mean(t: Lowering, x: Value, dim: Axes = None, keepdim: bool = False, dtype: Any = None) -> Value:
    return t.narrow(mean_of(t, t.float_in(x), axes_of(x.type.rank, dim), keepdim))


def _extreme(fn: str) -> Handler:
    def handle(t: Lowering, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
        return t.b.reduce(_boolean(fn, x), x, axes_of(x.type.rank, dim), keepdim)

    return handle


def _boolean(fn: str, x: Value) -> str:
    return {"max": "or", "min": "and"}[fn] if x.type.dtype is DType.b1 else fn


def _extreme_with_index(fn: str) -> Handler:
    def handle(t: Lowering, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
        if x.type.rank == 0:
            return x, t.b.scalar(0, DType.i64)
        return t.b.reduce(_boolean(fn, x), x, [dim], keepdim), _arg(t, fn, x, dim, keepdim)

    return handle


def _arg(t: Lowering, fn: str, x: Value, dim: int, keepdim: bool) -> Value:
    kept = tuple(1 if i == dim % x.type.rank else d for i, d in enumerate(x.type.shape))
    index = t.b.arg_reduce(fn, t.b.convert(x, DType.u8) if x.type.dtype is DType.b1 else x, dim)
    return t.b.reshape(index, kept) if keepdim else index


def _arg_extreme(fn: str) -> Handler:
    def handle(t: Lowering, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None or x.type.rank == 0:
            flat = t.b.reshape(x, (product(x.type.shape),))
            return t.b.reshape(t.b.arg_reduce(fn, flat, 0), t.out.shape)
        return _arg(t, fn, x, dim, keepdim)

    return handle


def _aminmax(t: Lowering, x: Value, dim: int | None = None, keepdim: bool = False) -> tuple[Value, ...]:
    return tuple(_extreme(fn)(t, x, dim, keepdim) for fn in ("min", "max"))


def _truth(fn: str) -> Handler:
    def handle(t: Lowering, x: Value, dim: Axes = None, keepdim: bool = False) -> Value:
        return t.narrow(t.b.reduce(fn, t.cast(x, DType.b1), axes_of(x.type.rank, dim), keepdim))

    return handle


def _spread(t: Lowering, x: Value, dim: Axes, correction: float | None, keepdim: bool) -> tuple[Value, Value]:
    """Variance and mean in the wide dtype."""
    axes = axes_of(x.type.rank, dim)
    wide = t.wide(x)
    mean = mean_of(t, wide, axes, keep=True)
    centred = t.b.sub(wide, mean)
    squares = t.b.reduce("sum", t.b.mul(centred, centred), axes, keepdim)
    variance = divided(t, squares, x, axes, 1 if correction is None else correction)
    return variance, mean if keepdim else t.b.reshape(mean, squares.type.shape)


def _unbiased(dim: Any, unbiased: Any) -> tuple[Axes, int | None]:
    """var(x, unbiased) and var(x, dim, unbiased) of old."""
    if isinstance(dim, bool):
        return None, int(dim)
    return dim, None if unbiased is None else int(unbiased)


def _var(
    t: Lowering, x: Value, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: float | None = None
) -> Value:
    axes, legacy = _unbiased(dim, unbiased)
    return t.narrow(_spread(t, x, axes, legacy if correction is None else correction, keepdim)[0])


def _std(t: Lowering, *args: Any, **named: Any) -> Value:
    return t.b.unary("sqrt", _var(t, *args, **named))


def _var_mean(
    t: Lowering, x: Value, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: float | None = None
) -> tuple[Value, ...]:
    axes, legacy = _unbiased(dim, unbiased)
    both = _spread(t, x, axes, legacy if correction is None else correction, keepdim)
    return tuple(t.b.convert(v, x.type.dtype) for v in both)


def _logsumexp(t: Lowering, x: Value, dim: Axes, keepdim: bool = False) -> Value:
    axes = axes_of(x.type.rank, dim)
    wide = t.float_in(x)
    top = t.b.reduce("max", wide, axes, keep=True)
    finite = t.b.compare("lt", t.b.unary("abs", top), t.b.scalar(math.inf, top.type.dtype))
    top = t.b.select(finite, top, t.b.scalar(0, top.type.dtype))
    total = t.b.reduce("sum", t.b.unary("exp", t.b.sub(wide, top)), axes, keepdim)
    return t.narrow(t.b.add(t.b.unary("log", total), t.b.reshape(top, total.type.shape)))


def _vector_norm(
    t: Lowering, x: Value, order: float = 2, dim: Axes = None, keepdim: bool = False, dtype: Any = None
) -> Value:
    axes = axes_of(x.type.rank, dim)
    size = t.b.unary("abs", t.float_in(x))
    if math.isinf(order):
        return t.narrow(t.b.reduce("max" if order > 0 else "min", size, axes, keepdim))
    if order == 0:
        present = t.b.compare("ne", size, t.b.scalar(0, size.type.dtype))
        return t.narrow(t.b.reduce("sum", t.b.convert(present, size.type.dtype), axes, keepdim))
    if order == 1:
        return t.narrow(t.b.reduce("sum", size, axes, keepdim))
    if order == 2:
        return t.narrow(t.b.unary("sqrt", t.b.reduce("sum", t.b.mul(size, size), axes, keepdim)))
    total = t.b.reduce("sum", t.b.binary_scalar("pow", size, order), axes, keepdim)
    return t.narrow(t.b.binary_scalar("pow", total, 1 / order))


def _cumulate(fn: str) -> Handler:
    def handle(t: Lowering, x: Value, dim: int, dtype: Any = None) -> Value:
        return t.narrow(t.b.cumulate(fn, t.float_in(x), dim)) if x.type.rank else t.narrow(x)

    return handle


def _running_extreme(fn: str) -> Handler:
    def handle(t: Lowering, x: Value, dim: int) -> tuple[Value, None]:
        t.unused(1, f"the positions of cum{fn}")
        return (t.b.cumulate(fn, x, dim) if x.type.rank else x), None

    return handle


def _logcumsumexp(t: Lowering, x: Value, dim: int) -> Value:
    wide = t.float_in(x)
    top = t.b.reduce("max", wide, [dim], keep=True)
    total = t.b.cumulate("sum", t.b.unary("exp", t.b.sub(wide, top)), dim)
    return t.narrow(t.b.add(t.b.unary("log", total), top))


def _sort(t: Lowering, x: Value, *args: Any, stable: bool | None = None, **named: Any) -> tuple[Value, ...]:
    """sort(x, dim, descending) and sort(x, stable, dim, descending): the booleans tell them apart."""
    rest = list(args[1:] if args and (args[0] is None or isinstance(args[0], bool)) else args)
    dim = named.get("dim", rest[0] if rest else -1)
    descending = named.get("descending", rest[1] if len(rest) > 1 else False)
    return t.b.sort(x, dim, descending) if x.type.rank else (x, t.b.scalar(0, DType.i64))


def _argsort(t: Lowering, *args: Any, **named: Any) -> Value:
    return _sort(t, *args, **named)[1]


def _topk(t: Lowering, x: Value, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Value, ...]:
    if x.type.rank == 0:
        return x, t.b.scalar(0, DType.i64)
    sizes = list(x.type.shape)
    sizes[dim] = k
    return tuple(t.b.slice(v, [0] * x.type.rank, sizes) for v in t.b.sort(x, dim, largest))


def _kth(t: Lowering, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Value, ...]:
    axis = dim % x.type.rank
    pair = (t.b.slice_axis(v, axis, k - 1, k) for v in t.b.sort(x, axis))
    return tuple(v if keepdim else t.b.reshape(v, _without(v, axis)) for v in pair)


def _median(t: Lowering, x: Value, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        flat = t.b.reshape(x, (product(x.type.shape),))
        return _kth(t, flat, (t.static(flat.type.shape[0], "the count of median") + 1) // 2, 0)[0]
    return _kth(t, x, (t.static(x.type.shape[dim], "the median's dimension") + 1) // 2, dim, keepdim)


def _larger(t: Lowering, x: Operand, y: Operand) -> Value:
    return t.binary("max", x, y)


def _smaller(t: Lowering, x: Operand, y: Operand) -> Value:
    return t.binary("min", x, y)


def _without(x: Value, axis: int) -> list[Any]:
    return [d for i, d in enumerate(x.type.shape) if i != axis]


TABLE: Mapping[str, Handler] = {
    "sum": _sum,
    "prod": _prod,
    "mean": _mean,
    "amax": _extreme("max"),
    "amin": _extreme("min"),
    "max": _extreme("max"),
    "min": _extreme("min"),
    "max.dim": _extreme_with_index("max"),
    "min.dim": _extreme_with_index("min"),
    "max.other": _larger,
    "min.other": _smaller,
    "aminmax": _aminmax,
    "argmax": _arg_extreme("max"),
    "argmin": _arg_extreme("min"),
    "any": _truth("or"),
    "all": _truth("and"),
    "var": _var,
    "std": _std,
    "var_mean": _var_mean,
    "logsumexp": _logsumexp,
    "linalg_vector_norm": _vector_norm,
    "cumsum": _cumulate("sum"),
    "cumprod": _cumulate("prod"),
    "logcumsumexp": _logcumsumexp,
    "cummax": _running_extreme("max"),
    "cummin": _running_extreme("min"),
    "sort": _sort,
    "argsort": _argsort,
    "topk": _topk,
    "kthvalue": _kth,
    "median": _median,
}
