"""The verifier of the graph IR. A graph is valid when

1. every value has a name, no two values of the graph (those inside regions too) have the same one;
2. every value is defined once, by an input, a state, a region's parameter or an op, and before it is used;
3. regions are closed: their ops and results use their own parameters and values only;
4. operands and attributes fit the op, and the declared types of its results are the inferred ones;
5. every symbol is an identifier, declared once with 0 <= lo <= hi; every symbol in a type or attribute is
   declared; no dimension can be negative within the bounds;
6. the name of a state is unique, and its entry, exit and initial contents have one type, without symbols,
   so that they can share one memory;
7. outputs have unique names and are defined values;
8. a host call has a kind, a callable function, and types equal to those of its results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from tapeout.errors import VerifyError
from tapeout.ir import graph as g
from tapeout.ir.infer import describe, infer
from tapeout.ir.types import Dim, DimExpr, DType, Symbol, TensorType, dim_range


def verify(graph: g.Graph, stage: str = "building") -> None:
    """Raises `VerifyError` naming `stage`, the value and the invariant that `graph` breaks."""
    _Verifier(graph, stage).run()


class _Verifier:
    def __init__(self, graph: g.Graph, stage: str) -> None:
        self.graph = graph
        self.stage = stage
        self.symbols: dict[str, Symbol] = {}
        self.names: set[str] = set()

    def fail(self, value: object, what: str) -> VerifyError:
        return VerifyError(self.stage, str(value), what)

    def run(self) -> None:
        self.declare_symbols()
        known: set[g.Value] = set()
        for value in self.graph.entries:
            self.define(value, known, "the graph's entries")
        self.check_ops(self.graph.ops, known)
        self.check_states(known)
        names: set[str] = set()
        for name, value in self.graph.outputs:
            if name in names:
                raise self.fail(value, f"two outputs are named {name!r}")
            names.add(name)
            if value not in known:
                raise self.fail(value, f"output {name!r} is not defined")

    def declare_symbols(self) -> None:
        for s in self.graph.symbols:
            if not re.fullmatch(r"[A-Za-z_]\w*", s.name):
                raise self.fail(s.name, "the name of a symbol must be an identifier")
            if s.name in self.symbols:
                raise self.fail(s.name, "symbol declared twice")
            if not 0 <= s.lo <= s.hi:
                raise self.fail(s.name, f"symbol has the bounds [{s.lo}, {s.hi}]")
            self.symbols[s.name] = s

    def define(self, value: g.Value, known: set[g.Value], where: str) -> None:
        """Adds `value` to what is known from here on."""
        if value in known:
            raise self.fail(value, f"defined twice, the second time by {where}")
        if not value.name:
            raise self.fail(value, f"a value of {where} has no name")
        if value.name in self.names:
            raise self.fail(value, f"two values have this name, the second is of {where}")
        self.names.add(value.name)
        known.add(value)
        self.check_shape(value, value.type)

    def check_shape(self, value: object, type_: TensorType) -> None:
        for dim in type_.shape:
            self.check_symbols(value, dim)
            if dim_range(dim, self.symbols)[0] < 0:
                raise self.fail(value, f"dimension {dim} of {type_} can be negative")

    def check_symbols(self, value: object, dim: Dim) -> None:
        for name, _ in dim.terms if isinstance(dim, DimExpr) else ():
            if name not in self.symbols:
                raise self.fail(value, f"symbol {name} is not declared")

    def check_ops(self, ops: tuple[g.Op, ...], known: set[g.Value]) -> None:
        """Checks `ops` in order and adds their results to `known`."""
        for op in ops:
            self.check_op(op, known)
            for value in op.outs:
                self.define(value, known, describe(op))

    def check_op(self, op: g.Op, known: set[g.Value]) -> None:
        for value in g.operands(op):
            if value not in known:
                raise self.fail(value, f"used by {describe(op)} but not defined before it")
        for name in g.op_fields(type(op)):
            for part in _parts(getattr(op, name)):
                if isinstance(part, TensorType):
                    self.check_shape(describe(op), part)
                else:
                    self.check_symbols(describe(op), part)
        if isinstance(op, g.Constant) and op.data.dtype not in _NUMPY_TYPES:
            raise self.fail(describe(op), f"no element type for {op.data.dtype}")
        for region in g.regions(op):
            self.check_region(op, region)
        try:
            types = infer(op)
        except VerifyError as error:
            raise self.fail(error.value, error.what) from error
        declared = tuple(v.type for v in op.outs)
        if declared != types:
            told = [", ".join(str(t) for t in side) or "none" for side in (declared, types)]
            raise self.fail(describe(op), f"results are declared {told[0]} but inferred {told[1]}")
        if isinstance(op, g.HostCall) and (not op.kind or not callable(op.fn)):
            raise self.fail(describe(op), "a host call needs a kind and a function")

    def check_region(self, op: g.Op, region: g.Region) -> None:
        inside: set[g.Value] = set()
        for value in region.params:
            self.define(value, inside, f"a region of {describe(op)}")
        self.check_ops(region.ops, inside)
        for value in region.results:
            if value not in inside:
                raise self.fail(value, f"result of a region of {describe(op)} but not defined in it")

    def check_states(self, known: set[g.Value]) -> None:
        names: set[str] = set()
        for s in self.graph.states:
            if not s.name or s.name in names:
                raise self.fail(s.entry, f"state name {s.name!r} is empty or taken")
            names.add(s.name)
            if s.exit not in known:
                raise self.fail(s.exit, f"exit of state {s.name!r} is not defined")
            if s.initial.dtype not in _NUMPY_TYPES:
                raise self.fail(s.entry, f"no element type for {s.initial.dtype} in state {s.name!r}")
            initial = TensorType(DType.of(s.initial.dtype), tuple(s.initial.shape))
            for what, type_ in (("exit", s.exit.type), ("initial contents", initial)):
                if type_ != s.entry.type:
                    raise self.fail(s.entry, f"state {s.name!r} is {s.entry.type} but its {what} {type_}")


_NUMPY_TYPES = frozenset(dtype.numpy for dtype in DType)


def _parts(held: Any) -> Iterator[TensorType | DimExpr]:
    """The types and symbolic dimensions in the field of an op."""
    if isinstance(held, TensorType | DimExpr):
        yield held
    elif isinstance(held, tuple):
        for item in cast("tuple[Any, ...]", held):
            yield from _parts(item)
