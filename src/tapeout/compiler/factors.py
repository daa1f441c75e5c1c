"""Factors move to where they cost nothing: into constants that are there anyway.

A number behind an activation function (the scale of a quantisation, most often) is one more pass over all elements. For
f(x) * s = f(x * s), s > 0, it moves up until it meets a constant: the scale and bias behind a contraction, the
coefficients of a sum, a numerator. In the same way a sign or a power of two that one of several readers wants moves
into the value itself, where all others can take it back for nothing: x / (1 + exp(-x)) is z / (-1 - exp(z)) with
z = -x.

A factor goes into a sum only where both terms take it, or have one sign, or it is exact, so that nothing cancels that
did not before. Constants are multiplied when compiling, with one rounding, in place of one rounding at run time.
"""

from __future__ import annotations

import dataclasses
from math import frexp

import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.mapped import elementwise
from tapeout.ir.types import DType, TensorType

MODEST = 1e6
"""Larger factors, and inverses of smaller ones, stay where they are, as what they are moved to could overflow."""
POSITIVE = ("exp", "abs", "sqrt", "rsqrt")
"""Functions without negative results."""
Edits = list[tuple[g.Op, str, float]]
"""Operands, by op and field, that are to be multiplied with a number."""
Spread = tuple[np.ndarray, tuple[int, ...]]
"""A constant, and the dimensions of the value that its own are."""


def move_factors(graph: g.Graph) -> g.Graph:
    """The same graph with factors in constants."""
    factors = _Factors(graph)
    for op in graph.ops:
        factors.visit(op)
    return factors.rebuilt() if factors.times or factors.gone else graph


def _exact(factor: float) -> bool:
    """Whether a product with it has no rounding."""
    return abs(frexp(factor)[0]) == 0.5


class _Factors:
    """What is decided about a graph, and the graph that follows."""

    def __init__(self, graph: g.Graph) -> None:
        self.graph = graph
        self.users, self.exits = g.users(graph), set(graph.exits)
        self.producer: dict[g.Value, g.Op] = {out: op for op in graph.ops for out in op.outs}
        self.times: dict[tuple[g.Op, str], float] = {}
        self.gone: dict[g.Value, g.Value] = {}
        """Products whose factor is in their operand now, and these operands."""

    # ---- facts

    def spread(self, value: g.Value) -> Spread | None:
        """The constant that a value is, or repeats."""
        op = self.producer.get(value)
        if isinstance(op, g.Constant):
            return op.data, tuple(range(op.data.ndim))
        if isinstance(op, g.Broadcast) and isinstance(inner := self.producer.get(op.x), g.Constant):
            return inner.data, op.dims
        return None

    def number(self, value: g.Value) -> float | None:
        """The one number that a value is everywhere."""
        found = self.spread(value)
        return float(found[0].reshape(())) if found is not None and found[0].size == 1 else None

    def _positive(self, value: g.Value) -> bool:
        op = self.producer.get(value)
        return isinstance(op, g.Unary) and op.fn in POSITIVE

    # ---- decisions

    def visit(self, op: g.Op) -> None:
        """Moves the factor of a product, or a sign, where it can go."""
        match op:
            case g.Unary(fn="neg"):
                self._move(op, op.x, -1.0)
            case g.Binary(fn="mul") if (factor := self.number(op.y)) and 1 / MODEST < abs(factor) < MODEST:
                self._move(op, op.x, factor)
            case _:
                pass

    def _move(self, op: g.Unary | g.Binary, value: g.Value, factor: float) -> None:
        """Moves the factor of `op` into `value`, and back out of it for its other readers."""
        self.gone[op.out] = value  # nobody may count on its factor any more
        edits = self._moved(op, value, factor)
        if edits is None:
            del self.gone[op.out]
            return
        for key, name, by in edits:
            self.times[key, name] = self.times.get((key, name), 1.0) * by

    def _moved(self, op: g.Unary | g.Binary, value: g.Value, factor: float) -> Edits | None:
        own = value
        while (made := self.producer.get(own)) and isinstance(made, g.Convert) and factor == -1.0 and _floats(made):
            own = made.x
        edits = self._into(own, factor, len(self.users[own]))
        readers = self._readers(own, factor == -1.0)
        if edits is None or readers is None:
            return None
        for reader in readers:
            if reader is op:
                continue
            back = self._back(reader, own, factor) if _exact(factor) else None
            if back is None:
                return None
            edits += back
        return edits

    def _readers(self, value: g.Value, signed: bool) -> list[g.Op] | None:
        """Ops that read a value, and where only its sign is to change also as another float type, which need not hold
        multiples of it; None where it leaves the graph."""
        found: list[g.Op] = []
        if value in self.exits:
            return None
        for op in self.users.get(value, ()):
            inner = self._readers(op.out, signed) if signed and isinstance(op, g.Convert) and _floats(op) else [op]
            if inner is None:
                return None
            found += inner
        return found

    def _back(self, reader: g.Op, value: g.Value, factor: float) -> Edits | None:
        """How a reader of `value` gets along with value * factor, for nothing."""
        if not isinstance(reader, g.Binary) or reader.fn not in ("mul", "div") or reader.out in self.gone:
            return None
        first = self._is(reader.x, value)
        if first and self._is(reader.y, value):
            return None
        other = reader.y if first else reader.x
        by = factor if reader.fn == "div" else 1 / factor
        return [(reader, "y" if first else "x", by)] if self.spread(other) is not None else self._into(other, by)

    def _is(self, value: g.Value, source: g.Value) -> bool:
        """Whether `value` is `source`, maybe as another float type."""
        while value is not source and isinstance(op := self.producer.get(value), g.Convert) and _floats(op):
            value = op.x
        return value is source

    def _into(self, value: g.Value, factor: float, readers: int = 1) -> Edits | None:
        """What makes a value, which has so many readers, `factor` times as large without a further op."""
        if value in self.exits or len(self.users[value]) != readers or value in self.gone:
            return None
        op = self.producer.get(value)
        if isinstance(op, g.Convert) and _floats(op) and abs(factor) == 1.0:
            return self._into(op.x, factor)
        if value.type.dtype is not DType.f32 and not (value.type.dtype.is_float and abs(factor) == 1.0):
            return None
        match op:
            case g.Unary(fn="neg"):
                return self._into(op.x, factor) or [(op, "x", factor)]
            case g.Binary(fn="mul"):
                return self._into_product(op, factor)
            case g.Binary(fn="div"):
                return self._into_quotient(op, factor)
            case g.Binary(fn="add" | "sub"):
                return self._into_sum(op, factor)
            case g.Binary(fn="max" | "min"):
                return self._into_limit(op, factor)
            case g.Reshape() | g.Transpose():
                return self._into(op.x, factor)
            case g.Conv() if op.dtype is DType.f32 and isinstance(self.producer.get(op.w), g.Constant):
                kept = op.w.type.dtype is DType.f32 or abs(factor) == 1.0  # narrow weights would be rounded once more
                return [(op, "w", factor)] if kept else None
            case _:
                return None

    def _operand(self, op: g.Binary, name: str, factor: float) -> Edits | None:
        value: g.Value = getattr(op, name)
        return [(op, name, factor)] if self.spread(value) is not None else self._into(value, factor)

    def _into_product(self, op: g.Binary, factor: float) -> Edits | None:
        found = self._operand(op, "y", factor)
        return self._operand(op, "x", factor) if found is None else found

    def _into_quotient(self, op: g.Binary, factor: float) -> Edits | None:
        """Below before above where the whole is multiplied with something: that takes the numerator's place then."""
        below = self._operand(op, "y", 1 / factor)
        reader = self.users[op.out][0]
        product = isinstance(reader, g.Binary | g.Convert) and self.spread(g.operands(reader)[-1]) is None
        above = None if product and below is not None else self._operand(op, "x", factor)
        return below if above is None else above

    def _into_sum(self, op: g.Binary, factor: float) -> Edits | None:
        x, y = self._operand(op, "x", factor), self._operand(op, "y", factor)
        if x is not None and y is not None:
            return [*x, *y]
        addend = self.spread(op.y if x is None else op.x)
        other = op.x if x is None else op.y
        if addend is None or op.fn == "sub":
            return None
        if _exact(factor) or (self._positive(other) and bool((addend[0] >= 0).all())):
            return [(op, "x", factor), (op, "y", factor)]  # a product and a sum are one multiply-add
        return None

    def _into_limit(self, op: g.Binary, factor: float) -> Edits | None:
        """max(x, c) * s = max(x * s, c * s) for s > 0, min(x * s, c * s) for s < 0; and so with c = a * x, s > 0."""
        x, y = op.x, op.y
        if self.spread(y) is not None:
            inner = self._into(x, factor)
            return None if inner is None else [*inner, (op, "y", factor)]
        slope = self.producer.get(y)
        sloped = isinstance(slope, g.Binary) and slope.fn == "mul" and slope.x is x and self.spread(slope.y) is not None
        if factor < 0 or not sloped or len(self.users[y]) != 1 or y in self.exits:
            return None
        return self._into(x, factor, readers=2)

    # ---- the new graph

    def rebuilt(self) -> g.Graph:
        """The graph with all edits."""
        ops: list[g.Op] = []
        mapping: dict[g.Value, g.Value] = {}
        for op in self.graph.ops:
            if op.outs[0] in self.gone:
                source = self.gone[op.outs[0]]
                mapping[op.outs[0]] = mapping.get(source, source)
                continue
            new = g.substitute(op, mapping)
            for name in ("x", "y", "w"):
                if (op, name) in self.times:
                    new = self._edited(op, new, name, self.times[op, name], ops)
            ops.append(new)
        outputs = tuple((name, mapping.get(v, v)) for name, v in self.graph.outputs)
        states = tuple(dataclasses.replace(s, exit=mapping.get(s.exit, s.exit)) for s in self.graph.states)
        return g.drop_dead(dataclasses.replace(self.graph, ops=tuple(ops), outputs=outputs, states=states))

    def _edited(self, op: g.Op, new: g.Op, name: str, factor: float, ops: list[g.Op]) -> g.Op:
        """`new`, made of `op`, with one operand multiplied; limits change sides with their sign."""
        value: g.Value = getattr(new, name)
        if isinstance(new, g.Binary) and new.fn in ("max", "min") and factor < 0:
            new = dataclasses.replace(new, fn="min" if new.fn == "max" else "max")
        made = g.Value(f"{op.outs[0].name}.{name}", value.type)
        constant = self.spread(getattr(op, name))
        if constant is None:
            number = self._constant(f"{made.name}.n", np.asarray(factor, value.type.dtype.numpy), (), value, ops)
            ops.append(g.Binary("mul", value, number, outs=(made,), source=op.source))
        else:
            data, dims = constant
            made = self._constant(made.name, _multiplied(data, factor), dims, value, ops)
        return dataclasses.replace(new, **{name: made})  # type: ignore[arg-type]

    def _constant(self, name: str, data: np.ndarray, dims: tuple[int, ...], like: g.Value, ops: list[g.Op]) -> g.Value:
        """A constant that repeats over the shape of a value."""
        small = g.Value(name, TensorType(like.type.dtype, data.shape))
        ops.append(g.Constant(data, outs=(small,)))
        if data.shape == like.type.static_shape:
            return small
        full = g.Value(f"{name}.b", like.type)
        ops.append(g.Broadcast(small, like.type.static_shape, dims, outs=(full,)))
        return full


def _floats(op: g.Convert) -> bool:
    """Whether a conversion is between floats: it commutes with a sign."""
    return op.dtype.is_float and op.x.type.dtype.is_float


def _multiplied(data: np.ndarray, factor: float) -> np.ndarray:
    return elementwise(data, data.dtype, lambda piece: (piece.astype(np.float64) * factor).astype(data.dtype))
