"""What a handler sees: one node with its operands looked up, its attributes typed, and the builder to emit to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tapeout.errors import InvalidModel, UnsupportedOp
from tapeout.frontend.onnx_proto import DTYPES, Array, GraphView, Node
from tapeout.frontend.partial import PartialBuilder
from tapeout.ir import graph as g
from tapeout.ir.types import Dim, DimExpr, DType, TensorType


class TensorSequence(list[g.Value]):
    """An ONNX sequence of tensors, which exists during the import only."""


Item = g.Value | TensorSequence | None
"""What an ONNX name stands for; None is an optional operand left out, or an empty optional."""
Result = Item | Sequence[Item]
Handler = Callable[["Call"], Result]


class NeedsConstant(UnsupportedOp):
    """An operand that must be the same in every run is not. `operand` names an input it depends on."""

    def __init__(self, what: str, where: str, operand: str) -> None:
        super().__init__(what, where, f"give the input '{operand}' with constants=, or make it a constant of the model")
        self.operand = operand


class NotTensorsError(Exception):
    """A region would return a sequence or an optional."""


class Scope(Protocol):
    """The importer as handlers of control flow see it."""

    def lookup(self, name: str) -> Item: ...

    def inline(self, body: GraphView, given: Sequence[Item]) -> list[Item]: ...

    def region(
        self, bodies: Sequence[GraphView], types: Sequence[TensorType], lead: int
    ) -> tuple[list[g.Region], list[g.Value]]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One node being lowered. `opset` is the version of its domain."""

    b: PartialBuilder
    node: Node
    opset: int
    items: tuple[Item, ...]
    scope: Scope
    where: str

    # ---- errors

    def invalid(self, what: str) -> InvalidModel:
        return InvalidModel(f"{self.node.op} {what}", self.where)

    def unsupported(self, what: str, action: str = "") -> UnsupportedOp:
        return UnsupportedOp(f"{self.node.op} {what}", self.where, action)

    # ---- operands

    def has(self, i: int) -> bool:
        return i < len(self.items) and self.items[i] is not None

    def x(self, i: int = 0) -> g.Value:
        """Operand i, which must be a tensor."""
        item = self.items[i] if i < len(self.items) else None
        if not isinstance(item, g.Value):
            raise self.invalid(f"needs a tensor as operand {i}")
        return item

    def maybe(self, i: int) -> g.Value | None:
        """Operand i, or None when it is left out."""
        return self.x(i) if self.has(i) else None

    def xs(self) -> list[g.Value]:
        """All operands, at least one."""
        return [self.x(i) for i in range(max(1, len(self.items)))]

    def sequence(self, i: int) -> TensorSequence:
        item = self.items[i] if i < len(self.items) else None
        if not isinstance(item, TensorSequence):
            raise self.invalid(f"needs a sequence as operand {i}")
        return item

    def known(self, i: int) -> Array | None:
        """Contents of operand i as numbers, or None when they depend on the run."""
        contents = self.b.known.get(self.x(i)) if self.has(i) else None
        return None if contents is None or contents.dtype == object else contents

    def array(self, i: int) -> Array:
        """Contents of operand i, which must be constant."""
        contents = self.known(i)
        if contents is None:
            raise self.needs_constant(i)
        return contents

    def needs_constant(self, i: int) -> UnsupportedOp:
        operand = self.node.inputs[i]
        roots = self.b.roots(self.x(i)) or [operand]
        return NeedsConstant(f"{self.node.op} with operand '{operand}' known only at run time", self.where, roots[0])

    def ints(self, i: int) -> list[int]:
        """Contents of an integer operand, flattened."""
        return [int(v) for v in self.array(i).ravel()]

    def dims(self, i: int) -> list[Dim]:
        """Contents of an integer operand of which each may be a symbolic dimension, flattened."""
        contents = self.b.known.get(self.x(i))
        if contents is None:
            raise self.needs_constant(i)
        return [d if isinstance(d, DimExpr) else int(d) for d in contents.ravel().tolist()]

    def number(self, i: int, default: float) -> float:
        """Contents of a scalar operand."""
        if not self.has(i):
            return default
        contents = self.array(i)
        if contents.size != 1:
            raise self.invalid(f"operand {i} has {contents.size} elements, not 1")
        return contents.reshape(()).item()

    # ---- attributes

    def _attribute(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self.node.attributes.get(name, default)
        if value is not default and not isinstance(value, kind):
            raise self.invalid(f"has attribute {name} of the wrong type")
        return value

    def attr_int(self, name: str, default: int) -> int:
        return self._attribute(name, int, default)

    def attr_float(self, name: str, default: float) -> float:
        return self._attribute(name, float, default)

    def attr_text(self, name: str, default: str) -> str:
        return self._attribute(name, str, default)

    def attr_ints(self, name: str) -> list[int] | None:
        value = self._attribute(name, tuple, None)
        return None if value is None else list(value)

    def attr_dtype(self, name: str, default: DType | None = None) -> DType:
        """An element type."""
        kind = self.attr_int(name, 0)
        if not kind and default is not None:
            return default
        if kind not in DTYPES:
            raise self.unsupported(f"to element type {kind}", "use a numeric type of 8 bits or more")
        return DTYPES[kind]

    def attr_choice(self, name: str, choices: Mapping[str, str], default: str) -> str:
        """What `choices` has for a text attribute."""
        text = self.attr_text(name, default)
        if text not in choices:
            raise self.unsupported(f"with {name} '{text}'", f"use one of {', '.join(choices)}")
        return choices[text]

    def attr_array(self, name: str) -> Array:
        """A tensor attribute, which must be there."""
        value = self._attribute(name, np.ndarray, None)
        if value is None:
            raise self.invalid(f"lacks the tensor {name}")
        return value

    def body(self, name: str) -> GraphView:
        """A subgraph, which must be there."""
        value = self._attribute(name, GraphView, None)
        if value is None:
            raise self.invalid(f"lacks the subgraph {name}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.attr_int(name, default))

    # ---- what several families need

    def axis(self, default: int, rank: int, name: str = "axis") -> int:
        """A checked, non-negative axis attribute."""
        return self.wrap(self.attr_int(name, default), rank)

    def wrap(self, axis: int, rank: int) -> int:
        """`axis` counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise self.invalid(f"axis {axis} is out of range for rank {rank}")
        return axis % max(rank, 1)

    def axes(self, rank: int, i: int = 1) -> list[int] | None:
        """Axes from operand i or, in older opsets, the attribute; None when neither is given."""
        given = self.ints(i) if self.has(i) else self.attr_ints("axes")
        return None if given is None else [self.wrap(a, rank) for a in given]


def table(**handlers: Handler) -> Mapping[tuple[str, str], Handler]:
    """Handlers of ops of the standard domain by name."""
    return {("", op): handler for op, handler in handlers.items()}


def is_half(dtype: DType) -> bool:
    """Floats of 16 bits or fewer, in which a composite would round at each step: it is computed in f32 instead."""
    return dtype.is_float and dtype.bytes <= 2


def widened(fn: Callable[[Call, g.Value], g.Value]) -> Handler:
    """Handler for fn(operand 0) computed at no less than f32."""

    def handler(c: Call) -> g.Value:
        x = c.x()
        dtype = x.type.dtype
        return c.b.convert(fn(c, c.b.convert(x, DType.f32) if is_half(dtype) else x), dtype)

    return handler
