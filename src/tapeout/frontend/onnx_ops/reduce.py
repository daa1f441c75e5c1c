"""Reductions, running sums, arg-extrema and top-k."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tapeout.frontend.onnx_ops.call import Call, Handler, is_half, table
from tapeout.ir import graph as g
from tapeout.ir.types import Dim, DType, product

Body = Callable[[Call, g.Value, list[int]], g.Value]
"""Reduces a value over axes, keeping them with extent 1."""


def reduction(body: Body) -> Handler:
    """Handler of one Reduce op; its axes are an attribute in older opsets, an operand in newer ones."""

    def handler(c: Call) -> g.Value:
        x = c.x()
        axes = c.axes(x.type.rank)
        if not axes and c.flag("noop_with_empty_axes"):
            axes = []
        elif not axes:
            axes = list(range(x.type.rank))
        dtype = x.type.dtype
        out = c.b.convert(body(c, c.b.convert(x, DType.f32) if is_half(dtype) else x, axes), dtype)
        if c.flag("keepdims", True):
            return out
        return c.b.reshape(out, [d for i, d in enumerate(out.type.shape) if i not in axes])

    return handler


def plain(fn: str) -> Body:
    return lambda c, x, axes: c.b.reduce(fn, x, axes, keep=True)


def _extremum(fn: str) -> Body:
    def body(c: Call, x: g.Value, axes: list[int]) -> g.Value:
        logic = {"max": "or", "min": "and"}[fn]
        return c.b.reduce(logic if x.type.dtype is DType.b1 else fn, x, axes, keep=True)

    return body


def mean(c: Call, x: g.Value, axes: list[int]) -> g.Value:
    """Mean over axes that may be symbolic."""
    count = product(x.type.shape[a] for a in axes)
    total = c.b.reduce("sum", x, axes, keep=True)
    if isinstance(count, int) and x.type.dtype.is_float:
        return c.b.binary_scalar("mul", total, 1 / count)
    return c.b.div(total, c.b.convert(c.b.dim(count), x.type.dtype))


def _sum_square(c: Call, x: g.Value, axes: list[int]) -> g.Value:
    return c.b.reduce("sum", c.b.mul(x, x), axes, keep=True)


def _l1(c: Call, x: g.Value, axes: list[int]) -> g.Value:
    return c.b.reduce("sum", c.b.unary("abs", x), axes, keep=True)


def _l2(c: Call, x: g.Value, axes: list[int]) -> g.Value:
    squares = _sum_square(c, x, axes)
    root = c.b.unary("sqrt", squares if x.type.dtype.is_float else c.b.convert(squares, DType.f64))
    return c.b.convert(root, x.type.dtype)


def _log_sum(c: Call, x: g.Value, axes: list[int]) -> g.Value:
    return c.b.unary("log", c.b.reduce("sum", x, axes, keep=True))


def _log_sum_exp(c: Call, x: g.Value, axes: list[int]) -> g.Value:
    """log(sum(exp(x))) about the maximum, which is taken as 0 where it is infinite."""
    top = c.b.reduce("max", x, axes, keep=True)
    infinite = c.b.compare("eq", c.b.unary("abs", top), c.b.scalar(float("inf"), x.type.dtype))
    top = c.b.select(infinite, c.b.scalar(0, x.type.dtype), top)
    return c.b.add(_log_sum(c, c.b.unary("exp", c.b.sub(x, top)), axes), top)


def arg_extremum(fn: str) -> Handler:
    def handler(c: Call) -> g.Value:
        x = c.x()
        axis = c.axis(0, x.type.rank)
        last = c.flag("select_last_index")
        out = c.b.arg_reduce(fn, reversed_along(c, x, axis) if last else x, axis)
        if last:
            out = c.b.sub(c.b.dim(_less_one(x, axis)), out)
        return c.b.reshape(out, _kept(x, axis)) if c.flag("keepdims", True) else out

    return handler


def _less_one(x: g.Value, axis: int) -> int:
    extent = x.type.shape[axis]
    if not isinstance(extent, int):
        raise ValueError(f"the last index along the symbolic extent {extent}")
    return extent - 1


def _kept(x: g.Value, axis: int) -> list[Dim]:
    return [1 if i == axis else d for i, d in enumerate(x.type.shape)]


def reversed_along(c: Call, x: g.Value, axis: int) -> g.Value:
    """x with its elements along `axis` in reverse order."""
    starts, steps = [0] * x.type.rank, [1] * x.type.rank
    starts[axis], steps[axis] = _less_one(x, axis), -1
    return c.b.slice(x, starts, x.type.shape, steps)


def cumulative(fn: str) -> Handler:
    def handler(c: Call) -> g.Value:
        x = c.x()
        axis = c.wrap(int(c.number(1, 0)), x.type.rank)
        return c.b.cumulate(fn, x, axis, c.flag("exclusive"), c.flag("reverse"))

    return handler


def top_k(c: Call) -> tuple[g.Value, g.Value]:
    x = c.x()
    axis = c.axis(-1, x.type.rank)
    k = int(c.number(1, 0)) if c.has(1) else c.attr_int("k", 0)
    ordered, places = c.b.sort(x, axis, descending=c.flag("largest", True))
    return c.b.slice_axis(ordered, axis, 0, k), c.b.slice_axis(places, axis, 0, k)


OPS: Mapping[tuple[str, str], Handler] = table(
    ReduceSum=reduction(plain("sum")),
    ReduceProd=reduction(plain("prod")),
    ReduceMax=reduction(_extremum("max")),
    ReduceMin=reduction(_extremum("min")),
    ReduceMean=reduction(mean),
    ReduceSumSquare=reduction(_sum_square),
    ReduceL1=reduction(_l1),
    ReduceL2=reduction(_l2),
    ReduceLogSum=reduction(_log_sum),
    ReduceLogSumExp=reduction(_log_sum_exp),
    ArgMax=arg_extremum("max"),
    ArgMin=arg_extremum("min"),
    CumSum=cumulative("sum"),
    CumProd=cumulative("prod"),
    TopK=top_k,
)
