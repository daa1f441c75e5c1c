"""ONNX models -> graph IR.

The nodes are lowered in order by the handlers of `onnx_ops`, each to a few primitive ops; shapes are computed during
the import (see `partial`). Nodes that no output depends on are not looked at. An op without a handler is expanded by
its function body, the model's own or the one by which the ONNX standard defines it.

Model metadata: `tapeout.symbols` bounds symbolic dimensions ("sequence=1:1024;batch=1:8"), `tapeout.state` pairs
inputs with the outputs that replace them ("past_k_0=present_k_0;...").
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeout.errors import InvalidModel, UnsupportedOp, VerifyError
from tapeout.frontend.onnx_ops import HANDLERS
from tapeout.frontend.onnx_ops.call import Call, Item, NotTensorsError, Result, TensorSequence
from tapeout.frontend.onnx_proto import Array, GraphView, ModelView, Node, Reader, read_model, schema_function
from tapeout.frontend.partial import PartialBuilder
from tapeout.ir import graph as g
from tapeout.ir.types import Dim, TensorType, symbol

if TYPE_CHECKING:
    import onnx

OPSETS = (7, 28)
SYMBOL_BOUNDS = (1, 4096)

PIN = "pin the symbolic dimensions with shapes="

Bound = int | tuple[int, int] | Sequence[int | str | None]


def import_onnx(
    source: str | Path | onnx.ModelProto,
    name: str | None = None,
    shapes: Mapping[str, Bound] | None = None,
    constants: Mapping[str, Array] | None = None,
    batch: int | None = None,
    weights: Mapping[str, Array] | None = None,
) -> g.Graph:
    """The graph of an ONNX file or model.

    `shapes` pins or bounds dimensions: by symbol (`{"sequence": 128}`, `{"sequence": (1, 512)}`) or by input
    (`{"input_ids": (1, 128)}`). `batch` pins the symbol that the first dimensions of inputs begin with, and those that
    have no name. `constants` fixes inputs, `weights` are initializers that the model has without contents. Raises
    `InvalidModel` for a file that is no valid model and `UnsupportedOp` for what cannot be lowered.
    """
    model, reader = read_model(source, weights)
    opset = model.opsets.get("", OPSETS[1])
    if not OPSETS[0] <= opset <= OPSETS[1]:
        action = "convert it with onnx.version_converter"
        raise UnsupportedOp(f"opset {opset} is not within {OPSETS[0]} to {OPSETS[1]}", model.where, action)
    return _Importer(model, reader, {**_first(model, batch), **(shapes or {})}, constants or {}).run(
        name or model.graph.name or "model"
    )


@dataclass(frozen=True, slots=True)
class _Scope:
    """Names visible while the nodes of one graph are lowered, and where its ops go."""

    importer: _Importer
    b: PartialBuilder
    opsets: Mapping[str, int]
    names: dict[str, Item] = field(default_factory=dict[str, Item])
    weights: Mapping[str, Any] = field(default_factory=dict[str, Any])
    caller: str = ""
    """Name of the function call that the nodes stand in."""

    def lookup(self, name: str) -> Item:
        """What `name` stands for; a weight becomes a constant when it is first read."""
        if not name:
            return None
        if name not in self.names and name in self.weights:
            self.names[name] = self.b.constant(self.weights[name](), name)
        if name not in self.names:
            raise InvalidModel(f"'{name}' is read and nothing defines it", self.importer.model.where)
        return self.names[name]

    def inline(self, body: GraphView, given: Sequence[Item]) -> list[Item]:
        """Lowers a subgraph in place and returns its results."""
        if len(given) > len(body.parameters):
            raise InvalidModel(f"subgraph '{body.name}' takes {len(body.parameters)} inputs", self.importer.model.where)
        names = {**self.names, **dict(zip(body.parameters, given, strict=False))}
        weights = {**self.weights, **body.weights}
        inner = _Scope(self.importer, self.b, self.opsets, names, weights, self.caller)
        self.importer.lower(body, inner)
        return [inner.lookup(o) for o in body.outputs]

    def region(
        self, bodies: Sequence[GraphView], types: Sequence[TensorType], lead: int
    ) -> tuple[list[g.Region], list[g.Value]]:
        """Subgraphs as closed regions of `types` and of what any of them reads from outside, which is returned too.

        The captured values stand after the first `lead` parameters.
        """
        free = sorted({n for body in bodies for n in body.free})
        outside = {n: v for n in free if isinstance(v := self.lookup(n), g.Value)}
        captured = {n: v for n, v in outside.items() if not _is_number(self.b, v)}
        all_types = [*types[:lead], *(v.type for v in captured.values()), *types[lead:]]

        def build(body: GraphView, b: PartialBuilder, params: Sequence[g.Value]) -> tuple[g.Value, ...]:
            count = len(captured)
            names: dict[str, Item] = {
                n: b.constant(self.b.known[v], n) for n, v in outside.items() if n not in captured
            }
            for (n, v), p in zip(captured.items(), params[lead : lead + count], strict=True):
                names[n] = p
                if v in self.b.known:
                    b.known[p] = self.b.known[v]
            inner = _Scope(self.importer, b, self.opsets, names, {}, self.caller)
            results = inner.inline(body, [*params[:lead], *params[lead + count :]][: len(body.parameters)])
            tensors = tuple(r for r in results if isinstance(r, g.Value))
            if len(tensors) < len(results):
                raise NotTensorsError
            return tensors

        def close(body: GraphView) -> g.Region:
            def closed(b: PartialBuilder, *params: g.Value) -> tuple[g.Value, ...]:
                return build(body, b, params)

            return self.b.region(all_types, closed)

        return [close(body) for body in bodies], list(captured.values())


def _is_number(b: PartialBuilder, value: g.Value) -> bool:
    return value in b.known and b.known[value].dtype != object


class _Importer:
    def __init__(
        self, model: ModelView, reader: Reader, shapes: Mapping[str, Bound], constants: Mapping[str, Array]
    ) -> None:
        self.model, self.reader, self.shapes, self.constants = model, reader, shapes, constants
        self.bounds = _pairs(model, "tapeout.symbols")
        self.states = _pairs(model, "tapeout.state")

    def run(self, name: str) -> g.Graph:
        """Declares inputs and states, lowers the live nodes, names the outputs."""
        graph = self.model.graph
        scope = _Scope(self, PartialBuilder(name), self.model.opsets, {}, graph.weights)
        declared = {v.name: v for v in graph.inputs}
        for v in graph.inputs:
            if v.name in self.constants:
                scope.names[v.name] = scope.b.constant(np.asarray(self.constants[v.name]), v.name)
                continue
            type_ = TensorType(v.dtype, tuple(self.dim(scope.b, v.name, i, d) for i, d in enumerate(v.dims)))
            if v.name in self.states:
                scope.names[v.name] = scope.b.state(v.name, np.zeros(self.static(v.name, type_), v.dtype.numpy))
            else:
                scope.names[v.name] = scope.b.input(v.name, type_)
        for entry in self.states:
            if entry in graph.weights:
                scope.names[entry] = scope.b.state(entry, graph.weights[entry]())
            elif entry not in declared:
                raise InvalidModel(f"state '{entry}' is no input", self.model.where, "correct tapeout.state")
        self.lower(graph, scope)
        self.finish(scope)
        return scope.b.finish()

    def finish(self, scope: _Scope) -> None:
        """Names the outputs; those paired with an input are what its state becomes."""
        exits = {exit_: entry for entry, exit_ in self.states.items()}
        for missing in set(exits) - set(self.model.graph.outputs):
            raise InvalidModel(f"state exit '{missing}' is no output", self.model.where, "correct tapeout.state")
        for name in self.model.graph.outputs:
            value = scope.lookup(name)
            if not isinstance(value, g.Value):
                raise UnsupportedOp(f"output '{name}' is not a tensor", self.model.where, "export plain tensors")
            if name in exits:
                entry = scope.lookup(exits[name])
                if not isinstance(entry, g.Value) or entry.type != value.type:
                    what = f"state '{exits[name]}' becomes {value.type} by output '{name}'"
                    raise InvalidModel(what, self.model.where, "correct tapeout.state")
                scope.b.set_state(exits[name], value)
            else:
                scope.b.output(name, value)

    # ---- dimensions

    def dim(self, b: PartialBuilder, owner: str, axis: int, declared: int | str | None) -> Dim:
        """A declared dimension of input `owner` under what `shapes` says."""
        given = self.shapes.get(owner)
        if isinstance(given, Sequence):
            if axis >= len(given):
                raise InvalidModel(f"shapes['{owner}'] has {len(given)} dimensions", self.model.where)
            declared = declared if given[axis] is None else given[axis]
        if isinstance(declared, int):
            return declared
        source = declared or f"{owner}_{axis}"
        name = re.sub(r"^(?=\d)|\W", "_", source)
        pinned = self.shapes.get(source, self.shapes.get(name))
        if isinstance(pinned, int):
            return pinned
        lo, hi = self.bound(source, pinned)
        if lo == hi:
            return lo
        b.symbol(name, lo, hi)
        return symbol(name)

    def bound(self, name: str, given: Bound | None) -> tuple[int, int]:
        """Bounds of the symbol `name`, from the caller or the metadata."""
        if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], int) and isinstance(given[1], int):
            lo, hi = given[0], given[1]
        elif name in self.bounds:
            found = re.fullmatch(r"(\d+):(\d+)", self.bounds[name])
            if not found:
                raise InvalidModel(f"bounds '{self.bounds[name]}' of {name}", self.model.where, "write them as 1:1024")
            lo, hi = int(found[1]), int(found[2])
        else:
            lo, hi = SYMBOL_BOUNDS
        if lo > hi or lo < 0:
            raise InvalidModel(f"bounds {lo}:{hi} of {name} are empty", self.model.where)
        return lo, hi

    def static(self, name: str, type_: TensorType) -> tuple[int, ...]:
        try:
            return type_.static_shape
        except ValueError:
            raise UnsupportedOp(
                f"state '{name}' of shape {type_}", self.model.where, "pin its symbols with shapes="
            ) from None

    # ---- nodes

    def lower(self, graph: GraphView, scope: _Scope) -> None:
        """Lowers the nodes of `graph` that its outputs depend on."""
        known = {*scope.names, *scope.weights}
        for node in _live(_ordered(graph.nodes, known, self.model.where), graph.outputs):
            source, scope.b.source = scope.b.source, self.source_name(node, graph, scope)
            items = tuple(scope.lookup(n) for n in node.inputs)
            for output, item in zip(node.outputs, self.call(node, items, scope), strict=False):
                if output:
                    scope.names[output] = item
            scope.b.source = source

    def source_name(self, node: Node, graph: GraphView, scope: _Scope) -> str:
        if scope.caller:
            return scope.caller
        return node.name or f"{node.op}#{graph.nodes.index(node)}"

    def call(self, node: Node, items: tuple[Item, ...], scope: _Scope) -> Sequence[Item]:
        """Results of one node."""
        where = f"{self.model.where}: node '{scope.b.source}'"
        function = self.model.functions.get((node.domain, node.op))
        handler = None if function is not None else HANDLERS.get((node.domain, node.op))
        opset = scope.opsets.get(node.domain, 1)
        if handler is None:
            function = function or schema_function(node, opset, map(_type, items))
            if function is None:
                op = f"{node.domain}.{node.op}" if node.domain else node.op
                action = "export the model without it, or add a handler (docs/recipes/add-an-op.md)"
                raise UnsupportedOp(f"op {op} is not supported", where, action)
            return self.expand(function, node, items, scope)
        try:
            return _as_items(handler(Call(scope.b, node, opset, items, scope, where)))
        except NotTensorsError:
            raise UnsupportedOp(
                f"{node.op} at run time of what is not a tensor", where, "export plain tensors"
            ) from None
        except VerifyError as error:
            if scope.b.symbols and ("symbolic" in error.what or "affine" in error.what):
                raise UnsupportedOp(f"{node.op}: {error.what}", where, PIN) from None
            raise InvalidModel(f"{node.op} does not fit its operands ({error.what})", where) from None
        except (ValueError, IndexError, ZeroDivisionError) as error:  # extents and axes that make no sense
            if scope.b.symbols:
                raise UnsupportedOp(f"{node.op}: {error}", where, PIN) from error
            raise InvalidModel(f"{node.op}: {error}", where) from error

    def expand(self, function: Any, node: Node, items: tuple[Item, ...], scope: _Scope) -> Sequence[Item]:
        """Lowers the body of a function in place of a call to it."""
        body = self.reader.function(function, node.proto)
        padded = [*items, *[None] * (len(body.parameters) - len(items))]
        opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
        inner = _Scope(self, scope.b, opsets, dict(zip(body.parameters, padded, strict=False)), {}, scope.b.source)
        self.lower(body, inner)
        wanted = list(zip(body.outputs, node.outputs, strict=False))
        return [inner.lookup(o) if name else None for o, name in wanted]


def _first(model: ModelView, batch: int | None) -> dict[str, Bound]:
    """The symbols of first dimensions that are the batch, pinned to it."""
    leads = {v.name: v.dims[0] for v in model.graph.inputs if v.dims and not isinstance(v.dims[0], int)}
    if batch is None or not leads:
        return {}
    symbol = next((d for d in leads.values() if d), None)
    return {**({symbol: batch} if symbol else {}), **{f"{name}_0": batch for name, d in leads.items() if d is None}}


def _as_items(result: Result) -> Sequence[Item]:
    if result is None or isinstance(result, g.Value | TensorSequence):
        return (result,)
    return result


def _type(item: Item) -> TensorType | None:
    return item.type if isinstance(item, g.Value) else None


def _pairs(model: ModelView, key: str) -> dict[str, str]:
    """The metadata `a=b;c=d` as a dictionary."""
    pairs: dict[str, str] = {}
    for part in filter(None, re.split(r"[;,\s]+", model.metadata.get(key, ""))):
        left, equals, right = part.partition("=")
        if not equals:
            raise InvalidModel(f"metadata {key} has the part '{part}'", model.where, "write name=value;name=value")
        pairs[left] = right
    return pairs


def _ordered(nodes: Sequence[Node], known: Iterable[str], where: str) -> Sequence[Node]:
    """The nodes so that each comes after what it reads; `InvalidModel` when they form a circle."""
    seen = set(known)
    producer: dict[str, Node] = {}
    for node in nodes:
        for output in filter(None, node.outputs):
            if output in producer:
                raise InvalidModel(f"'{output}' is defined twice", where)
            producer[output] = node
    in_order = True
    for node in nodes:
        in_order = in_order and all(r in seen or r not in producer for r in node.reads)
        seen.update(node.outputs)
    if in_order:
        return nodes
    sorter = graphlib.TopologicalSorter({n: {producer[r] for r in n.reads if r in producer} for n in nodes})
    try:
        return tuple(sorter.static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(n.name or n.op for n in error.args[1])
        raise InvalidModel(f"nodes depend on each other in a circle: {circle}", where) from None


def _live(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    needed = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if any(o in needed for o in node.outputs):
            needed.update(node.reads)
            kept.append(node)
    return kept[::-1]
