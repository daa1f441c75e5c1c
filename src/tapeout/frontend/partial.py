"""A graph builder that computes ahead what does not depend on data.

Front ends meet shape arithmetic as ordinary ops (ONNX: Shape -> Gather -> Concat -> Reshape). `PartialBuilder` knows
the contents of every tensor that depends only on constants and shapes: numbers, or dimensions with symbols in them
(then the array has dtype object and holds `Dim`s). Known numbers become constants at once (but for broadcasts, which
stay small), and `finish` drops what nothing reads.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tapeout.errors import VerifyError
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.infer import describe, infer
from tapeout.ir.interp import evaluate
from tapeout.ir.types import (
    Dim,
    DType,
    Symbol,
    TensorType,
    dim_add,
    dim_div,
    dim_mul,
    dim_range,
    dim_scale,
    dim_sub,
    symbol,
)

Array = np.ndarray[Any, np.dtype[Any]]

FOLD_LIMIT = 1 << 14
"""Results of more elements are left to the compiler's folding, but for views, which cost nothing."""


class PartialBuilder(Builder):
    """Builder whose `known` holds the contents of values that are the same in every run."""

    def __init__(self, name: str = "graph") -> None:
        super().__init__(name)
        self.known: dict[g.Value, Array] = {}

    @property
    def symbols(self) -> Mapping[str, Symbol]:
        """The symbols declared so far."""
        return self._symbols

    def emit(self, op: g.Op, name: str = "v") -> tuple[g.Value, ...]:
        types = infer(op)
        if any(isinstance(d, int) and d < 0 for t in types for d in t.shape):
            raise VerifyError("building", describe(op), f"negative extent in {types[0]}")
        contents = self._contents(op, types[0]) if types else None
        if contents is None:
            return super().emit(op, name)
        kept = contents.dtype == object or isinstance(op, g.Constant | g.Broadcast | g.Iota)
        outs = super().emit(op if kept else g.Constant(contents), name)
        self.known[outs[0]] = contents
        return outs

    def _contents(self, op: g.Op, type_: TensorType) -> Array | None:
        operands = g.operands(op)
        if isinstance(op, g.Constant):
            return op.data
        if any(v not in self.known for v in operands) or any(not isinstance(d, int) for d in type_.shape):
            return None
        if isinstance(op, g.Convert) and op.dtype.is_float and op.x.type.dtype.bytes == 1 and op.x.type.rank:
            return None  # quantised weights stay visible: the compiler makes integer contractions of them
        given = [self.known[v] for v in operands]
        if not (isinstance(op, g.Transpose | g.Slice) or type_.elements <= FOLD_LIMIT or _is_view(op, given)):
            return None
        if isinstance(op, g.Convert) and op.dtype.is_float and op.x.type.dtype.bytes == 1 and type_.rank > 1:
            return None  # a quantised weight: the compiler looks for it as it is stored
        if isinstance(op, g.Reduce | g.Dot) and max(a.size for a in given) > 4 * FOLD_LIMIT:
            return None
        try:
            return _evaluate(op, type_, given, self._symbols)
        except (UndecidedError, ValueError, IndexError):  # not affine, or it depends on a symbol: left to the run
            return None

    def region(self, types: Sequence[TensorType], body: Callable[..., tuple[g.Value, ...]]) -> g.Region:
        inner = PartialBuilder(self.name)
        inner._taken, inner._symbols, inner.source = self._taken, self._symbols, self.source
        params = tuple(inner._fresh("p", t) for t in types)
        results = tuple(body(inner, *params))
        return g.Region(params, inner._live(results), results)

    def finish(self) -> g.Graph:
        graph = super().finish()
        return dataclasses.replace(graph, ops=self._live(graph.exits))

    def _live(self, results: Sequence[g.Value]) -> tuple[g.Op, ...]:
        needed = set(results)
        kept: list[g.Op] = []
        for op in reversed(self._ops):
            if any(v in needed for v in op.outs):
                needed.update(g.operands(op))
                kept.append(op)
        return tuple(reversed(kept))

    def roots(self, value: g.Value) -> list[str]:
        """Names of the inputs that `value` depends on."""
        needed = {value}
        for op in reversed(self._ops):
            if any(v in needed for v in op.outs):
                needed.update(g.operands(op))
        return [v.name for v in self._inputs if v in needed]

    # ---- dimensions as values

    def dim(self, dim: Dim) -> g.Value:
        """The scalar i64 that a dimension is when the model runs."""
        if isinstance(dim, int):
            return self.scalar(dim, DType.i64)
        total = self.scalar(dim.const, DType.i64)
        for name, coef in dim.terms:
            ones = self.full(coef, TensorType(DType.i64, (symbol(name),)))
            total = self.add(total, self.reduce("sum", ones, [0]))
        self.known[total] = _boxed([dim]).reshape(())
        return total

    def dims(self, dims: Sequence[Dim]) -> g.Value:
        """The i64[n] that a shape is when the model runs."""
        if all(isinstance(d, int) for d in dims):
            return self.constant(np.array(dims, np.int64))
        parts = [self.reshape(self.dim(d), (1,)) for d in dims]
        out = self.concat(parts, 0)
        self.known[out] = _boxed(dims)
        return out


class UndecidedError(Exception):
    """A comparison of dimensions whose outcome depends on the value of a symbol."""


def _boxed(dims: Sequence[Dim]) -> Array:
    box = np.empty(len(dims), object)
    box[:] = dims
    return box


def _is_view(op: g.Op, given: Sequence[Array]) -> bool:
    return isinstance(op, g.Reshape) and given[0].flags.c_contiguous


def _evaluate(op: g.Op, type_: TensorType, given: Sequence[Array], symbols: Mapping[str, Symbol]) -> Array | None:
    """Contents of the result, or None for an op that is not computed ahead."""
    match op:
        case g.If() | g.While() | g.Scan() | g.HostCall() | g.Sort() | g.RandomBits():
            return None
        case _ if any(a.dtype == object for a in given):
            out = _symbolic(op, given, symbols)
        case _:
            out = evaluate(op, given)[0]
    if out is None or any(not isinstance(d, int) for d in (out.flat if out.dtype == object else ())):
        return out
    return out.astype(type_.dtype.numpy, copy=False)


def _box(op: g.Slice) -> tuple[slice, ...]:
    box: list[slice] = []
    for start, size, step in zip(op.starts, op.sizes, op.steps, strict=True):
        stop = start + size * step
        box.append(slice(start, None if stop < 0 else stop, step))
    return tuple(box)


# ---- dimensions with symbols


def _symbolic(op: g.Op, given: Sequence[Array], symbols: Mapping[str, Symbol]) -> Array | None:
    """`op` on arrays of dimensions."""
    x = given[0]
    match op:
        case g.Reshape():
            return x.reshape(op.shape)
        case g.Transpose():
            return x.transpose(op.perm)
        case g.Broadcast():
            shape = [1] * len(op.shape)
            for axis, extent in zip(op.dims, x.shape, strict=True):
                shape[axis] = extent
            return np.broadcast_to(x.reshape(shape), op.shape)
        case g.Slice() if all(isinstance(s, int) for s in op.starts):
            return x[_box(op)]
        case g.Concat():
            return np.concatenate(given, axis=op.axis)
        case g.Gather() if not op.batch and given[1].dtype != object:
            return np.take(x, given[1], axis=op.axis)
        case g.Convert():
            return given[0] if op.dtype in (DType.i64, DType.i32) else None
        case g.Unary() if op.fn == "neg":
            return _each(_negated, given)
        case g.Binary() if op.fn in ("max", "min"):
            keeps_first = "ge" if op.fn == "max" else "le"

            def extremum(x: Dim, y: Dim) -> Dim:
                return x if _holds(keeps_first, x, y, symbols) else y

            return _each(extremum, given)
        case g.Binary() if op.fn in _SYMBOLIC:
            return _each(_SYMBOLIC[op.fn], given)
        case g.Compare():

            def truth(x: Dim, y: Dim) -> bool:
                return _holds(op.fn, x, y, symbols)

            return _each(truth, given).astype(bool)
        case g.Select() if given[0].dtype != object:
            return _each(_chosen, given)
        case g.Reduce() if op.fn in ("sum", "prod") and op.axes == (0,) and given[0].ndim == 1:
            combine = dim_add if op.fn == "sum" else dim_mul
            total: Dim = 0 if op.fn == "sum" else 1
            for dim in given[0]:
                total = combine(total, dim)
            return _boxed([total]).reshape(())
        case _:
            return None


def _negated(x: Dim) -> Dim:
    return dim_scale(x, -1)


def _chosen(cond: bool, x: Dim, y: Dim) -> Dim:
    return x if cond else y


def _div(x: Dim, y: Dim) -> Dim:
    if x == y:
        return 1
    if not isinstance(y, int):
        raise UndecidedError
    if isinstance(x, int):
        return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    return dim_div(x, y)


def _rem(x: Dim, y: Dim) -> Dim:
    if x == y:
        return 0
    if isinstance(x, int) and isinstance(y, int):
        return int(math.fmod(x, y))
    if not isinstance(y, int):
        raise UndecidedError
    dim_div(x, y)  # raises unless every term is a multiple
    return 0


_SYMBOLIC: dict[str, Callable[[Any, Any], Dim]] = {
    "add": dim_add,
    "sub": dim_sub,
    "mul": dim_mul,
    "div": _div,
    "rem": _rem,
}


def _holds(fn: str, x: Dim, y: Dim, symbols: Mapping[str, Symbol]) -> bool:
    """`x fn y` where it has the same truth for every value of the symbols."""
    lo, hi = dim_range(dim_sub(x, y), symbols)
    match fn:
        case "lt" | "ge":
            always, never = hi < 0, lo >= 0
        case "le" | "gt":
            always, never = hi <= 0, lo > 0
        case _:
            always, never = lo == hi == 0, lo > 0 or hi < 0
    if not always and not never:
        raise UndecidedError
    return always == (fn in ("lt", "le", "eq"))


def _each(fn: Callable[..., Any], given: Sequence[Array]) -> Array:
    """fn of every element, in plain Python."""
    shape = np.broadcast_shapes(*(a.shape for a in given))
    columns = [np.broadcast_to(a, shape).ravel().tolist() for a in given]
    return _boxed([fn(*items) for items in zip(*columns, strict=True)]).reshape(shape)
