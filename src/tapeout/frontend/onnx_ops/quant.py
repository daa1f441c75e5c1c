"""Quantisation, lowered to one regular pattern that the compiler fuses.

QuantizeLinear is div, round, add zero point, clamp, convert; DequantizeLinear is convert, subtract zero point,
multiply. A zero point that is known to be zero leaves out its step.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, is_half, table
from tapeout.frontend.onnx_ops.contract import convolve, per_channel
from tapeout.frontend.onnx_ops.elementwise import cast_to
from tapeout.ir import graph as g
from tapeout.ir.types import DType


def _limits(dtype: DType) -> tuple[int, int]:
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def _is_zero(c: Call, zero: g.Value) -> bool:
    known = c.b.known.get(zero)
    return known is not None and not known.astype(np.float32).any()


def _along(c: Call, v: g.Value, x: g.Value) -> g.Value:
    """A scale or zero point shaped to broadcast over x: one number, one per index of `axis`, or one per block."""
    block = c.attr_int("block_size", 0)
    if v.type.rank == 0 or (v.type.shape == (1,) and not block):
        return c.b.reshape(v, ())
    axis = c.axis(1, x.type.rank)
    if v.type.rank == 1 and not block:
        return per_channel(c, v, x.type.rank, axis)
    shape = list(v.type.static_shape)
    split = [*shape[: axis + 1], 1, *shape[axis + 1 :]]
    wide = [*shape[: axis + 1], block, *shape[axis + 1 :]]
    repeated = c.b.broadcast_to(c.b.reshape(v, split), wide)
    merged = c.b.reshape(repeated, [d * block if i == axis else d for i, d in enumerate(shape)])
    extent = x.type.static_shape[axis]
    return c.b.slice_axis(merged, axis, 0, extent)


def quantised(c: Call, scaled: g.Value, zero: g.Value | None, dtype: DType) -> g.Value:
    """round(scaled) + zero point, clamped to `dtype`."""
    if dtype.is_float:
        return cast_to(c, scaled, dtype)
    rounded = c.b.unary("round", scaled)
    if zero is not None and not _is_zero(c, zero):
        rounded = c.b.add(rounded, c.b.convert(zero, scaled.type.dtype))
    return c.b.convert(c.b.clamp(rounded, *_limits(dtype)), dtype)


def quantize_linear(c: Call) -> g.Value:
    x, zero = c.x(0), c.maybe(2)
    dtype = zero.type.dtype if zero is not None else c.attr_dtype("output_dtype", DType.u8)
    scale = _along(c, c.x(1), x)
    work = DType.f32 if is_half(x.type.dtype) or x.type.dtype.is_int else x.type.dtype
    scaled = c.b.div(c.b.convert(x, work), c.b.convert(scale, work))
    return quantised(c, scaled, _along(c, zero, x) if zero is not None else None, dtype)


def dequantize_linear(c: Call) -> g.Value:
    x, zero = c.x(0), c.maybe(2)
    scale = _along(c, c.x(1), x)
    dtype = c.attr_dtype("output_dtype", scale.type.dtype)
    work = DType.f32 if is_half(scale.type.dtype) else scale.type.dtype
    wide = c.b.convert(x, work)
    if zero is not None and not _is_zero(c, zero):
        wide = c.b.sub(wide, c.b.convert(_along(c, zero, x), work))
    return c.b.convert(c.b.mul(wide, c.b.convert(scale, work)), dtype)


def dynamic_quantize(c: Call) -> list[g.Value]:
    """u8 over the range of x widened to hold 0; also its scale and zero point."""
    x = c.x()
    zero = c.b.scalar(0.0, DType.f32)
    axes = range(x.type.rank)
    low = c.b.binary("min", c.b.reduce("min", x, axes), zero)
    high = c.b.binary("max", c.b.reduce("max", x, axes), zero)
    scale = c.b.binary_scalar("div", c.b.sub(high, low), 255.0)
    point = quantised(c, c.b.div(c.b.unary("neg", low), scale), None, DType.u8)
    return [quantised(c, c.b.div(x, scale), point, DType.u8), scale, point]


def _centred(c: Call, x: g.Value, i: int, axis: int) -> g.Value:
    """x - zero point (operand i): x itself where that is known to be zero, else in i32."""
    if not c.has(i) or _is_zero(c, c.x(i)):
        return x
    zero = c.b.convert(c.x(i), DType.i32)
    if zero.type.rank == 1:
        zero = c.b.reshape(zero, ()) if zero.type.shape == (1,) else per_channel(c, zero, x.type.rank, axis)
    return c.b.sub(c.b.convert(x, DType.i32), zero)


def matmul_integer(c: Call) -> g.Value:
    x, y = c.x(0), c.x(1)
    x, y = _centred(c, x, 2, x.type.rank - 2), _centred(c, y, 3, y.type.rank - 1)
    return c.b.matmul(x, y)


def conv_integer(c: Call) -> g.Value:
    return convolve(c, _centred(c, c.x(0), 2, 1), _centred(c, c.x(1), 3, 0), DType.i32)


def _requantised(c: Call, total: g.Value, scales: tuple[int, int, int], zero: int, axis: int) -> g.Value:
    """i32 sums -> the output's type: times x scale * w scale / y scale, rounded, plus the zero point."""
    first, second, out = (c.b.convert(c.x(i), DType.f32) for i in scales)
    ratio = c.b.div(c.b.mul(c.b.reshape(first, ()), _channels(c, second, total, axis)), c.b.reshape(out, ()))
    scaled = c.b.mul(c.b.convert(total, DType.f32), ratio)
    return quantised(c, scaled, c.b.reshape(c.x(zero), ()), c.x(zero).type.dtype)


def _channels(c: Call, v: g.Value, like: g.Value, axis: int) -> g.Value:
    return c.b.reshape(v, ()) if v.type.shape in ((), (1,)) else per_channel(c, v, like.type.rank, axis)


def qlinear_matmul(c: Call) -> g.Value:
    x, y = c.x(0), c.x(3)
    total = c.b.matmul(_centred(c, x, 2, x.type.rank - 2), _centred(c, y, 5, y.type.rank - 1))
    return _requantised(c, total, (1, 4, 6), 7, total.type.rank - 1)


def qlinear_conv(c: Call) -> g.Value:
    total = convolve(c, _centred(c, c.x(0), 2, 1), _centred(c, c.x(3), 5, 0), DType.i32)
    if c.has(8):
        total = c.b.add(total, per_channel(c, c.x(8), total.type.rank))
    return _requantised(c, total, (1, 4, 6), 7, 1)


def qlinear_binary(fn: str) -> Handler:
    """Handler for operands A, scale, zero, B, scale, zero, scale of the result, zero."""

    def handler(c: Call) -> g.Value:
        left, right = (_real(c, i) for i in (0, 3))
        scaled = c.b.div(c.b.binary(fn, left, right), c.b.reshape(c.x(6), ()))
        dtype = c.x(0).type.dtype
        return quantised(c, scaled, c.b.reshape(c.x(7), ()) if c.has(7) else None, dtype)

    return handler


def _real(c: Call, i: int) -> g.Value:
    """What the quantised operand i, with its scale and zero point after it, stands for."""
    wide = c.b.convert(c.x(i), DType.f32)
    if c.has(i + 2) and not _is_zero(c, c.x(i + 2)):
        wide = c.b.sub(wide, c.b.convert(c.b.reshape(c.x(i + 2), ()), DType.f32))
    return c.b.mul(wide, c.b.reshape(c.x(i + 1), ()))


_STANDARD = table(
    QuantizeLinear=quantize_linear,
    DequantizeLinear=dequantize_linear,
    DynamicQuantizeLinear=dynamic_quantize,
    MatMulInteger=matmul_integer,
    ConvInteger=conv_integer,
    QLinearMatMul=qlinear_matmul,
    QLinearConv=qlinear_conv,
)
OPS: Mapping[tuple[str, str], Handler] = {
    **_STANDARD,
    ("com.microsoft", "QuantizeLinear"): quantize_linear,
    ("com.microsoft", "DequantizeLinear"): dequantize_linear,
    ("com.microsoft", "QLinearAdd"): qlinear_binary("add"),
    ("com.microsoft", "QLinearMul"): qlinear_binary("mul"),
}
