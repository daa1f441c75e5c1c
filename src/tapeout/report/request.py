"""What a user asks to run: a built-in model or a file, with options, symbols and shapes, as one graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tapeout.errors import InvalidModel, UserError
from tapeout.ir import graph as g
from tapeout.ir.batch import with_batch
from tapeout.ir.types import DimExpr, bind_dim
from tapeout.models import NAMES, TABLE, build_apart, choices


@dataclass(frozen=True, slots=True)
class Request:
    """A model by name or path; `options` are batch and precision, and height and width of a built-in model; `sets`
    (`name=value`) are further options of its builder or symbols, `shapes` (`name=4x3x224x224`) those of inputs."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sets: Sequence[str] = ()
    shapes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """The graph of a request, the symbols that it gives a value, and what the model is called in reports. `precision`
    is what the graph is still to be brought to, once its symbols are bound."""

    graph: g.Graph
    binding: dict[str, int]
    label: str
    precision: str = ""

    def rebatched(self, batch: int | None) -> Asked:
        """The same for another batch than the model's own; a symbol that was given a value keeps it."""
        if batch is None:
            return self
        graph, found = with_batch(self.graph, batch)
        return replace(self, graph=graph, binding={**found, **self.binding})


def load(request: Request, values: bool = True) -> Asked:
    """Reads or builds the model. With `values=False` large weights of a built-in one have no contents. `UserError` for
    whatever is wrong with the request."""
    sets = dict(_pair(text, "--set") for text in request.sets)
    shapes = {name: _shape(value, name) for name, value in (_pair(text, "--shape") for text in request.shapes)}
    if request.model in TABLE:
        return _built_in(request, sets, shapes, values)
    for name in ("height", "width"):
        if name in request.options:
            raise UserError("is for built-in models", f"--{name}", "set a file's symbols with --set and --shape")
    batch = request.options.get("batch")
    asked = _of_file(request.model, sets, shapes, batch)
    precision = request.options.get("precision", "")
    return replace(asked, precision=precision, label=f"{asked.label} {precision}".rstrip()).rebatched(batch)


def _of_file(model: str, sets: dict[str, str], shapes: dict[str, tuple[int, ...]], batch: int | None) -> Asked:
    path = Path(model)
    if ":" in model and path.suffix not in (".onnx", ".pt2"):
        return _made(model, sets, shapes)
    if path.suffix not in (".onnx", ".pt2"):
        known = ", ".join(NAMES)
        action = f"use one of {known}, an .onnx or .pt2 file, or package.module:factory"
        raise InvalidModel(f"no model '{model}'", "", action)
    if not path.is_file():
        raise InvalidModel("there is no such file", model, "give the path of a model")
    numbers = {name: _number(value, name) for name, value in sets.items()}
    from tapeout.runtime.model import load as load_graph

    graph, _ = load_graph(path, shapes={**numbers, **shapes}, batch=batch)
    left = {name: n for name, n in numbers.items() if any(s.name == name for s in graph.symbols)}
    return Asked(graph, {**left, **_solved(graph, shapes)}, path.stem)


def _built_in(request: Request, sets: dict[str, str], shapes: dict[str, tuple[int, ...]], values: bool) -> Asked:
    """Options that the builder does not have are those of any graph."""
    from tapeout.frontend.onnx_import import import_onnx

    entry = TABLE[request.model]
    own = dict(request.options)
    batch = None if "batch" in choices(request.model) else own.pop("batch", None)
    asked = own.get("precision", "fp32")
    precision = "" if asked in entry.precisions else own.pop("precision")
    further = {k: _option(v) for k, v in sets.items() if k not in entry.symbols}
    built = build_apart(request.model, values, **{**own, **further})
    graph = import_onnx(built.model, weights=built.weights)
    given = {k: _number(v, k) for k, v in sets.items() if k in entry.symbols}
    binding = {**entry.symbols, **_solved(graph, shapes), **given}
    return Asked(graph, binding, f"{request.model} {asked}", precision).rebatched(batch)


def _made(text: str, sets: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> Asked:
    """What a factory returns; `sets` are its arguments where it has such, else symbols."""
    from tapeout.report.factory import Factory
    from tapeout.runtime.model import load as load_graph

    factory = Factory(text)
    model, example = factory.make({k: _option(v) for k, v in sets.items() if k in factory.parameters}, shapes)
    graph, _ = load_graph(model, example)
    numbers = {k: _number(v, k) for k, v in sets.items() if k not in factory.parameters}
    return Asked(graph, {**numbers, **(_solved(graph, shapes) if graph.symbols else {})}, text)


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UserError(f"'{text}' is not name=value", flag, "write for example sequence=128")
    return name, value


def _number(text: str, name: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"'{text}' is not a positive number", f"--set {name}", "write for example sequence=128")
    return int(text)


def _option(text: str) -> Any:
    """A builder's option: a number, a tuple of them (1,2,3) or a word."""
    if "," in text:
        return tuple(_option(part) for part in text.split(",") if part)
    return int(text) if text.isdecimal() else text


def _shape(text: str, name: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise UserError(f"'{text}' is not a shape", f"--shape {name}", "write for example 4x3x224x224")
    return tuple(int(p) for p in parts)


def _solved(graph: g.Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The symbols that shapes of inputs decide; `UserError` where a shape contradicts the graph."""
    known = {v.name: v for v in graph.inputs}
    binding: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in known:
            raise UserError(f"there is no input '{name}'", "--shape", f"use {', '.join(known) or 'none'}")
        declared = known[name].type
        if len(shape) != declared.rank:
            raise UserError(f"{name} has {declared.rank} dimensions", "--shape", f"it is {declared}")
        for dim, n in zip(declared.shape, shape, strict=True):
            rest = bind_dim(dim, binding)
            if isinstance(rest, DimExpr) and len(rest.terms) == 1:
                (symbol, coef), *_ = rest.terms
                binding[symbol] = (n - rest.const) // coef
            if bind_dim(dim, binding) != n:
                raise UserError(f"{name} cannot have the shape {list(shape)}", "--shape", f"it is {declared}")
    return binding
