"""Symbolic dimensions made concrete: the binding from input shapes, and a graph with the symbols replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np

from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir.special import Array
from tapeout.ir.types import Dim, DimExpr, TensorType, bind_dim

OpT = TypeVar("OpT", bound=g.OpBase)


def bind_graph(graph: g.Graph, binding: Mapping[str, int]) -> g.Graph:
    """`graph` with the symbols of `binding` replaced by numbers; the same object when there are none.

    Symbols that `binding` leaves out stay. `UserError` when a number is outside the bounds of its symbol.
    """
    check_bounds(graph, binding)
    if not any(s.name in binding for s in graph.symbols):
        return graph
    binder = _Binder(binding)
    return g.Graph(
        graph.name,
        tuple(s for s in graph.symbols if s.name not in binding),
        binder.values(graph.inputs),
        tuple(binder.state(s) for s in graph.states),
        tuple(binder.op(op) for op in graph.ops),
        tuple((name, binder.value(v)) for name, v in graph.outputs),
    )


def check_bounds(graph: g.Graph, binding: Mapping[str, int]) -> None:
    """`UserError` when a number of `binding` is outside the bounds of its symbol."""
    for s in graph.symbols:
        if s.name in binding and not s.lo <= binding[s.name] <= s.hi:
            what = f"{s.name} = {binding[s.name]} is outside [{s.lo}, {s.hi}]"
            action = "give inputs within these bounds or export the model with wider ones"
            raise UserError(what, graph.name, action)


class _Binder:
    """Rewrites ops field by field; values keep their names and get concrete types."""

    def __init__(self, binding: Mapping[str, int]) -> None:
        self.binding = binding
        self.made: dict[g.Value, g.Value] = {}

    def value(self, value: g.Value) -> g.Value:
        if value not in self.made:
            self.made[value] = g.Value(value.name, self.type(value.type))
        return self.made[value]

    def values(self, values: tuple[g.Value, ...]) -> tuple[g.Value, ...]:
        return tuple(self.value(v) for v in values)

    def type(self, type_: TensorType) -> TensorType:
        return type_.with_shape(bind_dim(d, self.binding) for d in type_.shape)

    def state(self, state: g.State) -> g.State:
        return dataclasses.replace(state, entry=self.value(state.entry), exit=self.value(state.exit))

    def op(self, op: OpT) -> OpT:
        changes = {name: self.held(getattr(op, name)) for name in g.op_fields(type(op))}
        return dataclasses.replace(op, outs=self.values(op.outs), **changes)

    def held(self, held: Any) -> Any:
        """What a field holds, bound."""
        match held:
            case g.Value():
                return self.value(held)
            case TensorType():
                return self.type(held)
            case DimExpr():
                return bind_dim(held, self.binding)
            case g.Region():
                ops = tuple(self.op(op) for op in held.ops)
                return g.Region(self.values(held.params), ops, self.values(held.results))
            case tuple():
                return tuple(self.held(item) for item in cast("tuple[Any, ...]", held))
            case _:
                return held


def infer_binding(graph: g.Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The number of every symbol that the shapes of the named inputs decide.

    `UserError` names the input and the dimension that contradicts the graph, another input, or the bounds
    of a symbol.
    """
    binding: dict[str, int] = {}
    dims: list[tuple[g.Value, int, Dim, int]] = []
    for value in graph.inputs:
        shape = shapes[value.name]
        if len(shape) != value.type.rank:
            action = f"give {value.type.rank} dimensions: {value.type}"
            raise UserError(f"input has shape {list(shape)}", value.name, action)
        dims += [(value, i, d, n) for i, (d, n) in enumerate(zip(value.type.shape, shape, strict=True))]
    progress = True
    while progress:  # a dimension of two symbols waits until another decides one of them
        progress = False
        for value, i, dim, extent in dims:
            rest = bind_dim(dim, binding)
            if isinstance(rest, DimExpr) and len(rest.terms) == 1:
                binding[rest.terms[0][0]] = _solve(rest, extent, value, i)
                progress = True
    for value, i, dim, extent in dims:
        _check_dim(dim, extent, binding, value, i)
    check_bounds(graph, binding)
    return binding


def _solve(dim: DimExpr, extent: int, value: g.Value, position: int) -> int:
    ((_, coef),) = dim.terms
    number, rest = divmod(extent - dim.const, coef)
    if rest:
        what = f"dimension {position} is {extent}"
        raise UserError(what, value.name, f"give an extent of the form {dim}")
    return number


def _check_dim(dim: Dim, extent: int, binding: Mapping[str, int], value: g.Value, position: int) -> None:
    wanted = bind_dim(dim, binding)
    if wanted == extent:
        return
    known = ", ".join(f"{name} = {n}" for name, n in binding.items())
    told = f"{wanted}" if isinstance(dim, int) else f"{dim} = {wanted} (with {known})"
    raise UserError(f"dimension {position} is {extent}", value.name, f"give {told}, as in {value.type}")


def check_arrays(values: Mapping[str, TensorType], arrays: Mapping[str, Array], what: str, wide: bool) -> None:
    """`UserError` unless `arrays` has just the named arrays with the right element types and ranks.

    `wide` lets float64 stand for every float type.
    """
    for name in arrays:
        if name not in values:
            raise UserError(f"there is no {what} of this name", name, f"use {', '.join(values) or 'none'}")
    for name, type_ in values.items():
        if name not in arrays:
            raise UserError(f"{what} is missing", name, f"give an array {type_}")
        found = arrays[name].dtype
        if found != type_.dtype.numpy and not (wide and type_.dtype.is_float and found == np.float64):
            raise UserError(f"{what} is of type {found}", name, f"give {type_.dtype.numpy} for {type_}")
