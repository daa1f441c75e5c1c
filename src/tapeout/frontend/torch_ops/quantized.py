"""Quantised tensors of PyTorch's export flow (`quantized_decomposed`): integers with a scale and a zero point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tapeout.frontend.torch_ops.lowering import Handler, Lowering, Operand
from tapeout.ir.graph import Value
from tapeout.ir.types import DType


def _laid(t: Lowering, v: Operand, like: Value, axis: int | None) -> Value:
    """A scale or zero point in f32, along `axis` when there is one per channel."""
    wide = t.cast(v, DType.f32)
    if axis is None:
        return t.b.reshape(wide, ())
    return t.b.reshape(wide, [like.type.shape[i] if i == axis else 1 for i in range(like.type.rank)])


def _quantize(t: Lowering, x: Value, scale: Operand, zero: Operand, axis: int | None, low: int, high: int) -> Value:
    """clamp(round(x / scale) + zero, low, high)"""
    steps = t.b.unary("round", t.b.div(t.b.convert(x, DType.f32), _laid(t, scale, x, axis)))
    return t.narrow(t.b.clamp(t.b.add(steps, _laid(t, zero, x, axis)), low, high))


def _dequantize(t: Lowering, x: Value, scale: Operand, zero: Operand | None, axis: int | None) -> Value:
    """(x - zero) * scale"""
    wide = t.b.convert(x, DType.f32)
    wide = wide if zero is None else t.b.sub(wide, _laid(t, zero, x, axis))
    return t.narrow(t.b.mul(wide, _laid(t, scale, x, axis)))


def _q_tensor(t: Lowering, x: Value, scale: Operand, zero: Operand, low: int, high: int, *_: Any, **__: Any) -> Value:
    return _quantize(t, x, scale, zero, None, low, high)


def _dq_tensor(t: Lowering, x: Value, scale: Operand, zero: Operand, *_: Any, **__: Any) -> Value:
    return _dequantize(t, x, scale, zero, None)


def _q_channel(
    t: Lowering, x: Value, scale: Value, zero: Value, axis: int, low: int, high: int, *_: Any, **__: Any
) -> Value:
    return _quantize(t, x, scale, zero, axis % x.type.rank, low, high)


def _dq_channel(t: Lowering, x: Value, scale: Value, zero: Value | None, axis: int, *_: Any, **__: Any) -> Value:
    return _dequantize(t, x, scale, zero, axis % x.type.rank)


TABLE: Mapping[str, Handler] = {
    "quantize_per_tensor": _q_tensor,
    "dequantize_per_tensor": _dq_tensor,
    "quantize_per_channel": _q_channel,
    "dequantize_per_channel": _dq_channel,
}
