"""Normalisations. Statistics of 16-bit floats are computed in f32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapeout.frontend.onnx_ops.call import Call, Handler, is_half, table, widened
from tapeout.frontend.onnx_ops.contract import per_channel
from tapeout.frontend.onnx_ops.reduce import mean
from tapeout.ir import graph as g
from tapeout.ir.types import DType


def batch_norm(c: Call) -> g.Value | list[g.Value]:
    """x * s + t with s = scale / sqrt(variance + epsilon), t = bias - mean * s."""
    x, epsilon = c.x(0), c.attr_float("epsilon", 1e-5)
    scale, bias, average, variance = (c.x(i) for i in range(1, 5))
    running: list[g.Value] = []
    if c.flag("training_mode"):
        running = [average, variance]
        average, variance = _batch_statistics(c, x)
        momentum = c.attr_float("momentum", 0.9)
        running = [_blend(c, old, new, momentum) for old, new in zip(running, (average, variance), strict=True)]
    wide = DType.f32 if is_half(scale.type.dtype) else scale.type.dtype
    scale, bias, average, variance = (c.b.convert(v, wide) for v in (scale, bias, average, variance))
    factor = c.b.mul(scale, c.b.unary("rsqrt", c.b.binary_scalar("add", variance, epsilon)))
    offset = c.b.sub(bias, c.b.mul(average, factor))
    factor, offset = (per_channel(c, c.b.convert(v, x.type.dtype), max(x.type.rank, 2)) for v in (factor, offset))
    out = c.b.add(c.b.mul(x, factor), offset)
    return [out, *running] if running else out


def _batch_statistics(c: Call, x: g.Value) -> tuple[g.Value, g.Value]:
    axes = [a for a in range(x.type.rank) if a != 1]
    wide = c.b.convert(x, DType.f32) if is_half(x.type.dtype) else x
    average = mean(c, wide, axes)
    centred = c.b.sub(wide, average)
    variance = mean(c, c.b.mul(centred, centred), axes)
    channels = x.type.shape[1:2]
    return c.b.reshape(average, channels), c.b.reshape(variance, channels)


def _blend(c: Call, old: g.Value, new: g.Value, momentum: float) -> g.Value:
    kept = c.b.binary_scalar("mul", old, momentum)
    return c.b.add(kept, c.b.binary_scalar("mul", c.b.convert(new, old.type.dtype), 1 - momentum))


def _statistics(c: Call, x: g.Value, axes: Sequence[int], epsilon: float) -> tuple[g.Value, g.Value, g.Value]:
    """(x - mean) / sqrt(variance + epsilon), mean, and 1 / sqrt(variance + epsilon)."""
    average = mean(c, x, list(axes))
    centred = c.b.sub(x, average)
    variance = mean(c, c.b.mul(centred, centred), list(axes))
    inverse = c.b.unary("rsqrt", c.b.binary_scalar("add", variance, epsilon))
    return c.b.mul(centred, inverse), average, inverse


def _layer_norm(c: Call, x: g.Value, scale: g.Value | None, bias: g.Value | None, axis: int) -> list[g.Value]:
    """Y, Mean and InvStdDev."""
    wide = c.b.convert(x, DType.f32) if is_half(x.type.dtype) else x
    epsilon = c.attr_float("epsilon", 1e-5)
    normal, average, inverse = _statistics(c, wide, range(axis, x.type.rank), epsilon)
    out = c.b.convert(normal, x.type.dtype)
    if scale is not None:
        out = c.b.mul(out, scale)
    return [c.b.add(out, bias) if bias is not None else out, average, inverse]


def layer_norm(c: Call) -> list[g.Value]:
    return _layer_norm(c, c.x(0), c.maybe(1), c.maybe(2), c.axis(-1, c.x().type.rank))


def _rms(c: Call, x: g.Value, scale: g.Value, axis: int) -> g.Value:
    wide = c.b.convert(x, DType.f32) if is_half(x.type.dtype) else x
    square = mean(c, c.b.mul(wide, wide), list(range(axis, x.type.rank)))
    inverse = c.b.unary("rsqrt", c.b.binary_scalar("add", square, c.attr_float("epsilon", 1e-5)))
    return c.b.mul(c.b.convert(c.b.mul(wide, inverse), x.type.dtype), scale)


def rms_norm(c: Call) -> g.Value:
    return _rms(c, c.x(0), c.x(1), c.axis(-1, c.x().type.rank))


def skip_layer_norm(c: Call) -> list[g.Value | None]:
    """Layer norm of input + skip (+ bias); the sum is the fourth result."""
    total = c.b.add(c.x(0), c.x(1))
    total = c.b.add(total, c.x(4)) if c.has(4) else total
    return [*_layer_norm(c, total, c.x(2), c.maybe(3), total.type.rank - 1), total]


def skip_rms_norm(c: Call) -> list[g.Value | None]:
    total = c.b.add(c.x(0), c.x(1))
    total = c.b.add(total, c.x(3)) if c.has(3) else total
    return [_rms(c, total, c.x(2), total.type.rank - 1), None, None, total]


def _instance(c: Call, x: g.Value) -> g.Value:
    normal, _, _ = _statistics(c, x, range(2, x.type.rank), c.attr_float("epsilon", 1e-5))
    scale, bias = (per_channel(c, c.b.convert(c.x(i), x.type.dtype), x.type.rank) for i in (1, 2))
    return c.b.add(c.b.mul(normal, scale), bias)


def _group_norm(c: Call, x: g.Value) -> g.Value:
    """Scale and bias have one element a group before opset 21, one a channel from then on."""
    groups, shape = c.attr_int("num_groups", 1), x.type.shape
    channels = x.type.shape[1]
    if not isinstance(channels, int) or channels % groups:
        raise c.invalid(f"has {channels} channels in {groups} groups")
    grouped = c.b.reshape(x, (shape[0], groups, channels // groups, *shape[2:]))
    normal, _, _ = _statistics(c, grouped, range(2, grouped.type.rank), c.attr_float("epsilon", 1e-5))
    scale, bias = (c.b.convert(c.x(i), x.type.dtype) for i in (1, 2))
    if c.opset < 21:
        out = c.b.mul(normal, per_channel(c, scale, grouped.type.rank))
        return c.b.reshape(c.b.add(out, per_channel(c, bias, grouped.type.rank)), shape)
    out = c.b.mul(c.b.reshape(normal, shape), per_channel(c, scale, x.type.rank))
    return c.b.add(out, per_channel(c, bias, x.type.rank))


def _lrn(c: Call, x: g.Value) -> g.Value:
    """x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ** beta."""
    size, spatial = c.attr_int("size", 1), x.type.rank - 2
    lo = (size - 1) // 2
    ones = [1] * spatial
    pads = [(lo, size - 1 - lo), *[(0, 0)] * spatial]
    squares = c.b.pool("sum", c.b.mul(x, x), [size, *ones], [1, *ones], pads)
    scaled = c.b.binary_scalar("mul", squares, c.attr_float("alpha", 1e-4) / size)
    base = c.b.binary_scalar("add", scaled, c.attr_float("bias", 1.0))
    return c.b.div(x, c.b.binary_scalar("pow", base, c.attr_float("beta", 0.75)))


def _lp_norm(c: Call, x: g.Value) -> g.Value:
    axis = c.axis(-1, x.type.rank)
    if c.attr_int("p", 2) == 1:
        size = c.b.reduce("sum", c.b.unary("abs", x), [axis], keep=True)
    else:
        size = c.b.unary("sqrt", c.b.reduce("sum", c.b.mul(x, x), [axis], keep=True))
    zero = c.b.scalar(0, x.type.dtype)
    return c.b.select(c.b.compare("eq", size, zero), zero, c.b.div(x, size))


OPS: Mapping[tuple[str, str], Handler] = {
    **table(
        BatchNormalization=batch_norm,
        LayerNormalization=layer_norm,
        RMSNormalization=rms_norm,
        InstanceNormalization=widened(_instance),
        GroupNormalization=widened(_group_norm),
        LRN=widened(_lrn),
        LpNormalization=widened(_lp_norm),
    ),
    ("", "SimplifiedLayerNormalization"): rms_norm,
    ("com.microsoft", "SkipLayerNormalization"): skip_layer_norm,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): skip_rms_norm,
}
