"""Activations, softmax and normalisation. All compute in f32 at least and round once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tapeout.frontend.torch_ops.elementwise import expm1, log1p
from tapeout.frontend.torch_ops.lowering import Handler, Lowering
from tapeout.frontend.torch_ops.reduction import mean_of, moments
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.types import DType, Shape


def _wide(fn: Callable[..., Value]) -> Handler:
    """fn(builder, x, numbers...) computed wide."""

    def handle(t: Lowering, x: Value, *rest: Any, **named: Any) -> Value:
        return t.narrow(fn(t.b, t.wide(x), *rest, **named))

    return handle


def _zero(b: Builder, x: Value) -> Value:
    return b.scalar(0, x.type.dtype)


def _relu(t: Lowering, x: Value) -> Value:
    return t.b.relu(x)


def _relu6(t: Lowering, x: Value) -> Value:
    return t.b.clamp(x, 0, 6)


def _hardtanh(t: Lowering, x: Value, low: float = -1.0, high: float = 1.0) -> Value:
    return t.b.clamp(x, low, high)


def _leaky_relu(b: Builder, x: Value, negative_slope: float = 0.01) -> Value:
    return b.select(b.compare("gt", x, _zero(b, x)), x, b.binary_scalar("mul", x, negative_slope))


def _elu(b: Builder, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    positive = b.binary_scalar("mul", x, scale) if scale != 1 else x
    scaled = b.binary_scalar("mul", x, input_scale) if input_scale != 1 else x
    negative = b.binary_scalar("mul", expm1(b, scaled), alpha * scale)
    return b.select(b.compare("gt", x, _zero(b, x)), positive, negative)


def _gelu(b: Builder, x: Value, approximate: str = "none") -> Value:
    return b.gelu(x, tanh=approximate == "tanh")


def _silu(b: Builder, x: Value) -> Value:
    return b.mul(x, b.sigmoid(x))


def _softplus(b: Builder, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    scaled = b.binary_scalar("mul", x, beta)
    soft = b.binary_scalar("div", log1p(b, b.unary("exp", scaled)), beta)
    return b.select(b.compare("gt", scaled, b.scalar(threshold, x.type.dtype)), x, soft)


def _mish(b: Builder, x: Value) -> Value:
    return b.mul(x, b.unary("tanh", _softplus(b, x)))


def _hardsigmoid(b: Builder, x: Value) -> Value:
    return b.binary_scalar("div", b.clamp(b.binary_scalar("add", x, 3), 0, 6), 6)


def _hardswish(b: Builder, x: Value) -> Value:
    return b.mul(x, _hardsigmoid(b, x))


def _log_sigmoid(b: Builder, x: Value) -> Value:
    """min(x, 0) - log1p(exp(-|x|))"""
    tail = log1p(b, b.unary("exp", b.unary("neg", b.unary("abs", x))))
    return b.sub(b.binary_scalar("min", x, 0), tail)


def _prelu(t: Lowering, x: Value, weight: Value) -> Value:
    shape = [1] * x.type.rank
    if x.type.rank > 1 and weight.type.rank == 1:
        weight = t.b.reshape(weight, [*shape[:1], weight.type.shape[0], *shape[2:]])
    return t.b.select(t.b.compare("gt", x, _zero(t.b, x)), x, t.b.mul(x, weight))


def _glu(t: Lowering, x: Value, dim: int = -1) -> Value:
    half = t.static(x.type.shape[dim], "the gated dimension") // 2
    left, right = t.b.split(x, dim % x.type.rank, (half, half))
    return t.narrow(t.b.mul(t.wide(left), t.b.sigmoid(t.wide(right))))


# ---- softmax


def _softmax(t: Lowering, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    if x.type.rank == 0:
        return t.full(1, t.out)
    return t.narrow(t.b.softmax(t.float_in(x), dim))


def _log_softmax(t: Lowering, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    if x.type.rank == 0:
        return t.full(0, t.out)
    wide = t.float_in(x)
    shifted = t.b.sub(wide, t.b.reduce("max", wide, [dim], keep=True))
    total = t.b.reduce("sum", t.b.unary("exp", shifted), [dim], keep=True)
    return t.narrow(t.b.sub(shifted, t.b.unary("log", total)))


def safe_softmax(b: Builder, x: Value, dim: int) -> Value:
    """Softmax whose rows of only -inf give 0."""
    top = b.binary_scalar("max", b.reduce("max", x, [dim], keep=True), -3e38)
    powers = b.unary("exp", b.sub(x, top))
    total = b.binary_scalar("max", b.reduce("sum", powers, [dim], keep=True), 1e-37)
    return b.div(powers, total)


def _safe_softmax(t: Lowering, x: Value, dim: int, dtype: DType | None = None) -> Value:
    return t.narrow(safe_softmax(t.b, t.float_in(x), dim))


# ---- normalisation


def _along(t: Lowering, v: Value, rank: int, axis: int) -> Value:
    """A vector laid along one axis of a tensor of `rank`."""
    shape = [v.type.shape[0] if i == axis else 1 for i in range(rank)]
    return t.b.reshape(v, shape)


def _affine(t: Lowering, x: Value, scale: Value | None, bias: Value | None) -> Value:
    x = x if scale is None else t.b.mul(x, t.b.convert(scale, x.type.dtype))
    return x if bias is None else t.b.add(x, t.b.convert(bias, x.type.dtype))


def _rstd(t: Lowering, variance: Value, epsilon: float) -> Value:
    return t.b.unary("rsqrt", t.b.binary_scalar("add", variance, epsilon))


def _native_layer_norm(
    t: Lowering, x: Value, shape: Shape, scale: Value | None, bias: Value | None, epsilon: float
) -> tuple[Value, ...]:
    axes = range(x.type.rank - len(shape), x.type.rank)
    wide = t.wide(x)
    mean, variance = moments(t, wide, axes)
    rstd = _rstd(t, variance, epsilon)
    out = _affine(t, t.b.mul(t.b.sub(wide, mean), rstd), scale, bias)
    return t.b.convert(out, x.type.dtype), mean, rstd


def _rms_norm(t: Lowering, x: Value, shape: Shape, weight: Value | None = None, eps: float | None = None) -> Value:
    wide = t.wide(x)
    axes = range(x.type.rank - len(shape), x.type.rank)
    square = mean_of(t, t.b.mul(wide, wide), axes, keep=True)
    rstd = _rstd(t, square, wide.type.dtype.epsilon if eps is None else eps)
    return t.narrow(_affine(t, t.b.mul(wide, rstd), weight, None))


def _native_group_norm(
    t: Lowering,
    x: Value,
    scale: Value | None,
    bias: Value | None,
    batch: Any,
    channels: int,
    area: Any,
    groups: int,
    epsilon: float,
) -> tuple[Value, ...]:
    wide = t.wide(x)
    split = t.b.reshape(wide, (x.type.shape[0], groups, channels // groups, *x.type.shape[2:]))
    mean, variance = moments(t, split, range(2, split.type.rank))
    rstd = _rstd(t, variance, epsilon)
    normal = t.b.reshape(t.b.mul(t.b.sub(split, mean), rstd), x.type.shape)
    scale, bias = (None if v is None else _along(t, v, x.type.rank, 1) for v in (scale, bias))
    stats = (t.b.reshape(v, (x.type.shape[0], groups)) for v in (mean, rstd))
    return t.b.convert(_affine(t, normal, scale, bias), x.type.dtype), *(t.b.convert(s, x.type.dtype) for s in stats)


def _batch_norm_inference(
    t: Lowering,
    x: Value,
    scale: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    momentum: float,
    epsilon: float,
) -> tuple[Value | None, ...]:
    """x * factor + shift per channel, both from the stored statistics (so they fold into the layer before)."""
    wide = t.wide(x)
    mean, variance = t.b.convert(mean, wide.type.dtype), t.b.convert(variance, wide.type.dtype)
    factor = _affine(t, _rstd(t, variance, epsilon), scale, None)
    shift = t.b.unary("neg", t.b.mul(mean, factor))
    shift = shift if bias is None else t.b.add(shift, t.b.convert(bias, wide.type.dtype))
    out = _affine(t, wide, _along(t, factor, x.type.rank, 1), _along(t, shift, x.type.rank, 1))
    t.unused(1, "the saved mean of batch_norm in inference")
    t.unused(2, "the saved deviation of batch_norm in inference")
    return t.b.convert(out, x.type.dtype), None, None


def _batch_norm_training(
    t: Lowering,
    x: Value,
    scale: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_variance: Value,
    training: bool,
    momentum: float,
    epsilon: float,
) -> tuple[Value | None, ...]:
    """Statistics of the batch; the running ones move by `momentum` (with the unbiased variance)."""
    if not training:
        given = (t, x, scale, bias, running_mean, running_variance, momentum, epsilon)
        return *_batch_norm_inference(*given), running_mean, running_variance
    out, mean, rstd = _batch_norm_no_stats(t, x, scale, bias, True, momentum, epsilon)
    wide = t.wide(x)
    axes = [a for a in range(x.type.rank) if a != 1]
    batch_mean, variance = (t.b.reshape(v, running_mean.type.shape) for v in moments(t, wide, axes))
    count = math.prod(t.static(x.type.shape[a], "an extent of batch_norm in training") for a in axes)
    unbiased = t.b.binary_scalar("mul", variance, count / max(count - 1, 1))
    moved = (
        t.b.add(t.b.binary_scalar("mul", old, 1 - momentum), t.b.binary_scalar("mul", new, momentum))
        for old, new in ((running_mean, batch_mean), (running_variance, unbiased))
    )
    return out, mean, rstd, *moved


def _batch_norm_no_stats(
    t: Lowering, x: Value, scale: Value | None, bias: Value | None, training: bool, momentum: float, epsilon: float
) -> tuple[Value, ...]:
    wide = t.wide(x)
    mean, variance = moments(t, wide, [a for a in range(x.type.rank) if a != 1])
    rstd = _rstd(t, variance, epsilon)
    scale, bias = (None if v is None else _along(t, v, x.type.rank, 1) for v in (scale, bias))
    out = _affine(t, t.b.mul(t.b.sub(wide, mean), rstd), scale, bias)
    flat = (t.b.reshape(v, (x.type.shape[1],)) for v in (mean, rstd))
    return t.b.convert(out, x.type.dtype), *flat


TABLE: Mapping[str, Handler] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "leaky_relu": _wide(_leaky_relu),
    "elu": _wide(_elu),
    "gelu": _wide(_gelu),
    "silu": _wide(_silu),
    "softplus": _wide(_softplus),
    "mish": _wide(_mish),
    "hardsigmoid": _wide(_hardsigmoid),
    "hardswish": _wide(_hardswish),
    "log_sigmoid": _wide(_log_sigmoid),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "glu": _glu,
    "softmax": _softmax,
    "_softmax": _softmax,
    "log_softmax": _log_softmax,
    "_log_softmax": _log_softmax,
    "_safe_softmax": _safe_softmax,
    "native_layer_norm": _native_layer_norm,
    "rms_norm": _rms_norm,
    "native_group_norm": _native_group_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_inference,
    "_native_batch_norm_legit.no_stats": _batch_norm_no_stats,
    "_native_batch_norm_legit_functional": _batch_norm_training,
}
