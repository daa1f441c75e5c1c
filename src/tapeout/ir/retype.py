"""A graph in another float type: inputs, states, constants, what is computed, and outputs.

What frameworks keep in f32 stays f32 here: values inside one operation of the source model (a norm, a softmax; ops of
one `source`), the results of contractions until they leave theirs, and what only a sum reads. Contractions read the
narrow type. So each value that passes from operation to operation is rounded once, as in PyTorch and ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.mapped import elementwise
from tapeout.ir.types import DType, TensorType

WIDE = DType.f32
MOVES = (
    g.Reshape, g.Transpose, g.Broadcast, g.Slice, g.Pad, g.Concat, g.Gather, g.Scatter, g.DynamicSlice,
    g.DynamicUpdate,
)  # fmt: skip
SUMS = ("sum", "prod")


def retype(graph: g.Graph, dtype: DType) -> g.Graph:
    """`graph` with `dtype` for every float; values far out of its range become its largest finite ones."""
    b = Builder(graph.name)
    for s in graph.symbols:
        b.symbol(s.name, s.lo, s.hi)
    made = {v: b.input(v.name, _type(v.type, dtype)) for v in graph.inputs}
    for state in graph.states:
        made[state.entry] = b.state(state.name, rounded(state.initial, dtype))
    _Retyper(b, dtype, made, wide_values(graph.ops, graph.exits)).run(graph.ops)
    for name, value in graph.outputs:
        b.output(name, made[value])
    for state in graph.states:
        b.set_state(state.name, made[state.exit])
    return b.finish()


def rounded(data: np.ndarray, dtype: DType) -> np.ndarray:
    """Floats as `dtype`; finite ones stay finite. Other arrays as they are."""
    if not DType.of(data.dtype).is_float or data.dtype == dtype.numpy:
        return data
    largest = float(cast("Any", ml_dtypes.finfo(dtype.numpy)).max)

    def narrow(piece: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            made = piece.astype(dtype.numpy)
        over = np.isinf(made) & np.isfinite(piece)
        return np.where(over, np.copysign(largest, piece).astype(dtype.numpy), made) if over.any() else made

    return elementwise(data, dtype.numpy, narrow)


def wide_values(ops: Sequence[g.Op], exits: Iterable[g.Value]) -> set[g.Value]:
    """The values that stay in f32."""
    kept = set(exits)
    readers: dict[g.Value, list[g.Op]] = {}
    for op in ops:
        for value in g.operands(op):
            readers.setdefault(value, []).append(op)
    found: set[g.Value] = set()
    for op in reversed(ops):
        for out in op.outs:
            fits = out.type.dtype.is_float and out.type.dtype.bytes >= WIDE.bytes and out not in kept
            reading = readers.get(out, [])
            if fits and reading and not g.regions(op) and all(_reads_wide(op, r, found) for r in reading):
                found.add(out)
    return found


def _reads_wide(op: g.Op, reader: g.Op, found: set[g.Value]) -> bool:
    """Whether `reader` takes the result of `op` in f32."""
    if isinstance(reader, g.Dot | g.Conv | g.HostCall) or g.regions(reader):
        return False
    if isinstance(op, (g.Constant, g.Iota, *MOVES)):
        return any(out in found for out in reader.outs)
    inside = bool(op.source) and op.source == reader.source
    return inside or (isinstance(reader, g.Reduce) and reader.fn in SUMS)


def _type(type_: TensorType, dtype: DType) -> TensorType:
    return type_.with_dtype(dtype) if type_.dtype.is_float else type_


@dataclasses.dataclass(frozen=True, slots=True)
class _Retyper:
    """Emits ops to `b`; `made` has what stands for each value."""

    b: Builder
    dtype: DType
    made: dict[g.Value, g.Value]
    wide: set[g.Value]

    def run(self, ops: Sequence[g.Op]) -> None:
        for op in ops:
            self.b.source = op.source
            for out, value in zip(op.outs, self.op(op), strict=True):
                self.made[out] = self.b.convert(value, self.wanted(out))

    def wanted(self, value: g.Value) -> DType:
        if not value.type.dtype.is_float:
            return value.type.dtype
        return WIDE if value in self.wide else self.dtype

    def op(self, op: g.Op) -> tuple[g.Value, ...]:
        """What computes the same, in whatever types."""
        match op:
            case g.Constant():
                return self.b.emit(g.Constant(rounded(op.data, self.wanted(op.out))))
            case g.Iota():
                return self.b.emit(g.Iota(op.type.with_dtype(self.wanted(op.out)), op.axis))
            case g.Convert():
                return (self.b.convert(self.made[op.x], self.wanted(op.out)),)
            case g.Dot() | g.Conv():
                return self.emit(dataclasses.replace(op, dtype=self.wanted(op.out)), self.dtype)
            case g.Bitcast() | g.HostCall():  # their meaning hangs on the type
                return self.emit(op, None)
            case g.If() | g.While() | g.Scan():
                changes = {
                    n: self.region(r) for n in g.op_fields(type(op)) if isinstance(r := getattr(op, n), g.Region)
                }
                return self.emit(dataclasses.replace(op, **changes), self.dtype)
            case _:
                return self.emit(op, self.work_type(op))

    def work_type(self, op: g.Op) -> DType:
        """The type that an op works in: f32 where an operand or the result is. Moves keep their operands' own."""
        types = {self.made[v].type.dtype for v in g.operands(op) if v.type.dtype.is_float}
        if isinstance(op, MOVES) and len(types) == 1:
            return types.pop()
        return WIDE if WIDE in types or any(out in self.wide for out in op.outs) else self.dtype

    def emit(self, op: g.Op, dtype: DType | None) -> tuple[g.Value, ...]:
        """Emits `op` on float operands of `dtype`, or of the types that the source graph has."""
        mapping = {
            v: self.b.convert(self.made[v], dtype or v.type.dtype) if v.type.dtype.is_float else self.made[v]
            for v in g.operands(op)
        }
        return self.b.emit(dataclasses.replace(g.substitute(op, mapping), outs=()))

    def region(self, region: g.Region) -> g.Region:
        """Parameters and results are narrow."""

        def body(b: Builder, *params: g.Value) -> tuple[g.Value, ...]:
            made = dict(zip(region.params, params, strict=True))
            inner = _Retyper(b, self.dtype, made, wide_values(region.ops, region.results))
            inner.run(region.ops)
            return tuple(made[r] for r in region.results)

        return self.b.region([_type(p.type, self.dtype) for p in region.params], body)
