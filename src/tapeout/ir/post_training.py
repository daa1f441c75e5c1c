"""Quantisation of a trained graph's contractions, in the form that ONNX writes as QuantizeLinear and DequantizeLinear.

`int8`: both operands of every contraction, symmetric; one scale for an activation, from its largest magnitude in a
run; one for each output channel of weights. An activation is rounded where it is made, so that bytes are what goes
through memory. `int4w`: weights only, one scale for each group of `GROUP` inputs. `tf32`: operands are rounded to the
11 significant bits of that type.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.contraction import (
    Contraction,
    channel,
    float_contractions,
    origin,
    producers,
    rebuilt,
    sides,
    split,
    weights,
)
from tapeout.ir.interp import interpret
from tapeout.ir.mapped import elementwise, made_of, pieces, reshaped, without_repeats
from tapeout.ir.types import DType, TensorType
from tapeout.ir.unroll import unroll_scans

GROUP = 32
"""Inputs that share a scale of four-bit weights."""
PEAK = 8.0
"""Magnitude that an activation is taken to have where nothing was measured."""
TINY = 1e-9
"""Least scale: that of weights which are all zero."""
VELTKAMP = float((1 << 13) + 1)
"""x * V - (x * V - x) keeps 24 - 13 significant bits of x (Dekker 1971, doi:10.1007/BF01397083)."""

Arrays = Mapping[str, np.ndarray]
Made = Mapping[g.Value, g.Value]


# ---- int8


def int8(graph: g.Graph, inputs: Arrays | None) -> g.Graph:
    """Contractions of f32 as contractions of bytes; `inputs` are run to find the scales of activations.

    Without inputs every activation has the same scale: cycles do not depend on it, values do.
    """
    graph = unroll_scans(graph)
    held, producer = weights(graph), producers(graph)
    chosen = {op for op in float_contractions(graph) if not all(v in held for v in sides(op))}
    rounded = {origin(v, producer) for op in chosen for v in sides(op) if v not in held} | _meeting(graph)
    peaks = None if inputs is None else _peaks(graph, inputs, rounded)
    stored: dict[tuple[g.Value, int], g.Value] = {}

    def rewritten(b: Builder, op: g.Op, made: Made) -> g.Op:
        if not isinstance(op, g.Dot | g.Conv) or op not in chosen:
            return b.adopted(op, made)
        found: dict[g.Value, g.Value] = {}
        for side, value in enumerate(sides(op)):
            if value in held:
                axis = channel(op)[0] if side else -1  # only the second operand may have a scale for each channel
                if (value, axis) not in stored:
                    stored[value, axis] = _bytes(b, held[value], axis)
                found[value] = stored[value, axis]
        return b.adopted(g.substitute(op, found), made)

    def after(b: Builder, old: g.Value, new: g.Value) -> g.Value:
        return _rounded(b, new, peaks[old.name] if peaks else PEAK) if old in rounded else new

    return rebuilt(graph, rewritten, after)


def _meeting(graph: g.Graph) -> set[g.Value]:
    """Where results of two contractions meet, one of them waits in memory: the earlier one."""
    fixed: set[g.Value] = set()
    made_by: dict[g.Value, int] = {}  # the number of the contraction that alone made a value, element by element
    found: set[g.Value] = set()
    for number, op in enumerate(graph.ops):
        operands = g.operands(op)
        if isinstance(op, g.Dot | g.Conv):
            made_by[op.out] = number
        elif all(v in fixed for v in operands):
            fixed.update(op.outs)
        elif isinstance(op, g.Unary | g.Binary) and all(v in fixed or v in made_by for v in operands):
            sources = {made_by[v] for v in operands if v in made_by}
            if len(sources) == 1:
                made_by[op.out] = sources.pop()
            else:
                found.add(min(operands, key=made_by.__getitem__))
    return found


def _peaks(graph: g.Graph, inputs: Arrays, wanted: set[g.Value]) -> dict[str, float]:
    """The largest finite magnitude of each value in a run."""
    names = {v.name for v in wanted}
    peaks: dict[str, float] = {}

    def observe(name: str, data: np.ndarray) -> None:
        if name in names:
            magnitude = np.abs(data.astype(np.float32, copy=False))
            peaks[name] = float(np.max(magnitude, initial=0.0, where=np.isfinite(magnitude)))

    interpret(graph, inputs, observe=observe)
    return peaks


def _rounded(b: Builder, x: g.Value, peak: float) -> g.Value:
    """x rounded to a byte and back, one symmetric scale."""
    scale = b.scalar(max(peak / 127, TINY), DType.f32)
    whole = b.clamp(b.unary("round", b.div(x, scale)), -128, 127)
    return b.mul(b.convert(b.convert(whole, DType.i8), DType.f32), scale)


def _bytes(b: Builder, data: np.ndarray, axis: int) -> g.Value:
    """Weights as bytes with a scale for each index of `axis` (-1: one for all)."""
    others = tuple(d for d in range(data.ndim) if d != axis)
    stored, scales = symmetric(data, others, 127)
    return b.mul(b.convert(b.constant(stored), DType.f32), b.constant(scales))


def symmetric(data: np.ndarray, axes: tuple[int, ...], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of -most..most and what to multiply them with, one for all along `axes`."""
    (once,) = without_repeats(data)
    if once is not data:
        numbers, factors = symmetric(once, axes, most)
        kept = tuple(1 if d in axes else n for d, n in enumerate(data.shape))
        return np.broadcast_to(numbers, data.shape), np.broadcast_to(factors, kept)
    own = 0 not in axes  # then each piece has scales of its own
    tops = [_magnitudes(piece, axes) for _, piece in pieces(data)]
    top = np.concatenate(tops) if own else np.maximum.reduce(tops)
    scales = np.maximum(top / np.float32(most), np.float32(TINY))

    def stored(rows: slice, piece: np.ndarray) -> np.ndarray:
        return np.rint(piece / (scales[rows] if own else scales)).astype(np.int8)

    return made_of(data, np.dtype(np.int8), stored), scales


def _magnitudes(data: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    highest, lowest = (fn(data, axes, keepdims=True, initial=0) for fn in (np.max, np.min))
    return np.maximum(highest, -lowest).astype(np.float32)


# ---- int4w


def int4w(graph: g.Graph) -> g.Graph:
    """Weights that only contractions read as numbers of four bits, each `GROUP` inputs with a scale."""
    held, producer = weights(graph), producers(graph)
    readers = g.users(graph)
    only = {
        v for v in held if all(isinstance(op, g.Dot | g.Conv | g.Reshape | g.Transpose) for op in readers.get(v, ()))
    }
    chosen = {
        op: value
        for op in float_contractions(graph)
        for value in sides(op)
        if value in only and origin(value, producer) in only and value.type.rank > 1
    }
    stored: dict[tuple[g.Value, int], g.Value] = {}

    def rewritten(b: Builder, op: g.Op, made: Made) -> g.Op:
        if not isinstance(op, g.Dot | g.Conv) or op not in chosen:
            return b.adopted(op, made)
        value = chosen[op]
        data = held[value]
        axis = _inputs(op, value)
        group = GROUP if isinstance(op, g.Dot) and data.shape[axis] % GROUP == 0 else 0
        if (value, axis) not in stored:
            stored[value, axis] = _four_bits(b, _apart(data, axis, group), _summed(op, value, axis, group))
        if not group or not isinstance(op, g.Dot):
            return b.adopted(g.substitute(op, {value: stored[value, axis]}), made)
        (other,) = (v for v in sides(op) if v is not value)
        at = (op.lhs_contract if other is op.lhs else op.rhs_contract)[-1]
        shape = other.type.shape
        wide = b.reshape(made[other], (*shape[:at], data.shape[axis] // group, group, *shape[at + 1 :]))
        return b.adopted(split(op), {value: stored[value, axis], other: wide})

    return rebuilt(graph, rewritten)


def _inputs(op: Contraction, value: g.Value) -> int:
    """The dimension of the weights along which products are summed."""
    if isinstance(op, g.Conv):
        return 1
    return (op.lhs_contract if value is op.lhs else op.rhs_contract)[-1]


def _summed(op: Contraction, value: g.Value, axis: int, group: int) -> tuple[int, ...]:
    """The dimensions of stored weights that share a scale: a group, or all that an output channel sums."""
    if group:
        return (axis + 1,)
    if isinstance(op, g.Conv):
        return tuple(range(1, value.type.rank))
    return op.lhs_contract if value is op.lhs else op.rhs_contract


def _apart(data: np.ndarray, axis: int, group: int) -> np.ndarray:
    """Weights with their inputs in groups; all in one for 0."""
    if not group:
        return data
    return reshaped(data, (*data.shape[:axis], data.shape[axis] // group, group, *data.shape[axis + 1 :]))


def _four_bits(b: Builder, data: np.ndarray, axes: tuple[int, ...]) -> g.Value:
    stored, scales = symmetric(data, axes, 7)
    wide = b.mul(b.convert(b.constant(stored), DType.f32), b.constant(scales))
    return b.convert(wide, DType.of(data.dtype))


# ---- tf32


def tf32(graph: g.Graph) -> g.Graph:
    """Operands of contractions rounded to tf32."""
    graph = unroll_scans(graph)
    held = weights(graph)
    chosen = {op for op in float_contractions(graph) if sides(op)[0].type.dtype is sides(op)[1].type.dtype is DType.f32}
    rounded: dict[g.Value, g.Value] = {}

    def rewritten(b: Builder, op: g.Op, made: Made) -> g.Op:
        if not isinstance(op, g.Dot | g.Conv) or op not in chosen:
            return b.adopted(op, made)
        for value in sides(op):
            if value not in rounded:
                known = value in held
                rounded[value] = b.constant(_tf32(held[value])) if known else _tf32_value(b, made[value])
        return b.adopted(op, rounded)

    return rebuilt(graph, rewritten)


def _tf32(data: np.ndarray) -> np.ndarray:
    """f32 with its last 13 bits rounded off, to nearest even."""
    last, dropped = np.uint32(1), np.uint32(13)

    def kept(piece: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(piece).view(np.uint32)
        up = (last << (dropped - last)) - last + (bits >> dropped & last)
        made = ((bits + up) >> dropped << dropped).view(np.float32)
        return np.where(np.isfinite(piece), made, piece)

    return elementwise(data, data.dtype, kept)


def _tf32_value(b: Builder, x: g.Value) -> g.Value:
    large = b.mul(x, b.full(VELTKAMP, TensorType(DType.f32, x.type.shape)))
    return b.sub(large, b.sub(large, x))
