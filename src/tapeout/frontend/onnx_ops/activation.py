"""Activation functions and the softmax family. Composites of 16-bit floats are computed in f32 and rounded once."""

from __future__ import annotations

from collections.abc import Mapping

from tapeout.frontend.onnx_ops.call import Call, Handler, table, widened
from tapeout.ir import graph as g
from tapeout.ir.types import TensorType, product


def _zero(c: Call, x: g.Value) -> g.Value:
    return c.b.scalar(0, x.type.dtype)


def relu(c: Call) -> g.Value:
    return c.b.relu(c.x())


def _sigmoid(c: Call, x: g.Value) -> g.Value:
    return c.b.sigmoid(x)


def _hard_sigmoid(c: Call, x: g.Value) -> g.Value:
    scaled = c.b.binary_scalar("mul", x, c.attr_float("alpha", 0.2))
    return c.b.clamp(c.b.binary_scalar("add", scaled, c.attr_float("beta", 0.5)), 0, 1)


def _hard_swish(c: Call, x: g.Value) -> g.Value:
    gate = c.b.binary_scalar("add", c.b.binary_scalar("mul", x, 1 / 6), 0.5)
    return c.b.mul(x, c.b.clamp(gate, 0, 1))


def _where_negative(c: Call, x: g.Value, negative: g.Value, positive: g.Value | None = None) -> g.Value:
    return c.b.select(c.b.compare("lt", x, _zero(c, x)), negative, positive or x)


def leaky_relu(c: Call) -> g.Value:
    x = c.x()
    return _where_negative(c, x, c.b.binary_scalar("mul", x, c.attr_float("alpha", 0.01)))


def prelu(c: Call) -> g.Value:
    x = c.x(0)
    return _where_negative(c, x, c.b.mul(x, c.b.broadcast_to(c.x(1), x.type.shape)))


def _exp_minus_one(c: Call, x: g.Value) -> g.Value:
    """exp(min(x, 0)) - 1."""
    return c.b.binary_scalar("sub", c.b.unary("exp", c.b.binary_scalar("min", x, 0)), 1)


def _elu(c: Call, x: g.Value) -> g.Value:
    return _where_negative(c, x, c.b.binary_scalar("mul", _exp_minus_one(c, x), c.attr_float("alpha", 1.0)))


def _selu(c: Call, x: g.Value) -> g.Value:
    alpha = c.attr_float("alpha", 1.67326319217681884765625)
    gamma = c.attr_float("gamma", 1.05070102214813232421875)
    negative = c.b.binary_scalar("mul", _exp_minus_one(c, x), alpha)
    return c.b.binary_scalar("mul", _where_negative(c, x, negative), gamma)


def _celu(c: Call, x: g.Value) -> g.Value:
    alpha = c.attr_float("alpha", 1.0)
    grown = _exp_minus_one(c, c.b.binary_scalar("mul", x, 1 / alpha))
    return c.b.add(c.b.relu(x), c.b.binary_scalar("mul", grown, alpha))


def softplus(c: Call, x: g.Value) -> g.Value:
    """log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    shrunk = c.b.unary("exp", c.b.unary("neg", c.b.unary("abs", x)))
    return c.b.add(c.b.relu(x), c.b.unary("log", c.b.binary_scalar("add", shrunk, 1)))


def _softsign(c: Call, x: g.Value) -> g.Value:
    return c.b.div(x, c.b.binary_scalar("add", c.b.unary("abs", x), 1))


def _mish(c: Call, x: g.Value) -> g.Value:
    return c.b.mul(x, c.b.unary("tanh", softplus(c, x)))


def _swish(c: Call, x: g.Value) -> g.Value:
    return c.b.mul(x, c.b.sigmoid(c.b.binary_scalar("mul", x, c.attr_float("alpha", 1.0))))


def _quick_gelu(c: Call, x: g.Value) -> g.Value:
    return c.b.mul(x, c.b.sigmoid(c.b.binary_scalar("mul", x, c.attr_float("alpha", 1.702))))


def _gelu(c: Call, x: g.Value) -> g.Value:
    return c.b.gelu(x, tanh=c.attr_text("approximate", "none") == "tanh")


def _biased_gelu(tanh: bool) -> Handler:
    def handler(c: Call, x: g.Value) -> g.Value:
        return c.b.gelu(c.b.add(x, c.b.convert(c.x(1), x.type.dtype)) if c.has(1) else x, tanh)

    return widened(handler)


def thresholded_relu(c: Call) -> g.Value:
    x = c.x()
    alpha = c.b.scalar(c.attr_float("alpha", 1.0), x.type.dtype)
    return c.b.select(c.b.compare("gt", x, alpha), x, _zero(c, x))


def shrink(c: Call) -> g.Value:
    """x + bias below -lambd, x - bias above lambd, else 0."""
    x = c.x()
    bias, edge = c.attr_float("bias", 0.0), c.attr_float("lambd", 0.5)
    zero, dtype = _zero(c, x), x.type.dtype
    high = c.b.select(c.b.compare("gt", x, c.b.scalar(edge, dtype)), c.b.binary_scalar("sub", x, bias), zero)
    return c.b.select(c.b.compare("lt", x, c.b.scalar(-edge, dtype)), c.b.binary_scalar("add", x, bias), high)


# ---- over an axis. Before opset 13 they flatten to a matrix at `axis` (default 1) and work on its rows.


def _softmax(c: Call, x: g.Value, axis: int) -> g.Value:
    return c.b.softmax(x, axis)


def _log_softmax(c: Call, x: g.Value, axis: int) -> g.Value:
    centred = c.b.sub(x, c.b.reduce("max", x, [axis], keep=True))
    total = c.b.reduce("sum", c.b.unary("exp", centred), [axis], keep=True)
    return c.b.sub(centred, c.b.unary("log", total))


def _hardmax(c: Call, x: g.Value, axis: int) -> g.Value:
    place = c.b.arg_reduce("max", x, axis)
    shape = [1 if i == axis else d for i, d in enumerate(x.type.shape)]
    positions = c.b.iota(TensorType(place.type.dtype, x.type.shape), axis)
    return c.b.convert(c.b.compare("eq", positions, c.b.reshape(place, shape)), x.type.dtype)


def _rows(c: Call, x: g.Value, kind: str) -> g.Value:
    fn = {"Softmax": _softmax, "LogSoftmax": _log_softmax, "Hardmax": _hardmax}[kind]
    rank = x.type.rank
    axis = c.axis(-1 if c.opset >= 13 else 1, rank)
    if c.opset >= 13 or axis == rank - 1:
        return fn(c, x, axis)
    shape = x.type.shape
    flat = c.b.reshape(x, (product(shape[:axis]), product(shape[axis:])))
    return c.b.reshape(fn(c, flat, 1), shape)


def over_axis(kind: str) -> Handler:
    return widened(lambda c, x: _rows(c, x, kind))


OPS: Mapping[tuple[str, str], Handler] = {
    **table(
        Relu=relu,
        Sigmoid=widened(_sigmoid),
        HardSigmoid=widened(_hard_sigmoid),
        HardSwish=widened(_hard_swish),
        LeakyRelu=leaky_relu,
        PRelu=prelu,
        Elu=widened(_elu),
        Selu=widened(_selu),
        Celu=widened(_celu),
        Softplus=widened(softplus),
        Softsign=widened(_softsign),
        Mish=widened(_mish),
        Swish=widened(_swish),
        Gelu=widened(_gelu),
        ThresholdedRelu=thresholded_relu,
        Shrink=shrink,
        Softmax=over_axis("Softmax"),
        LogSoftmax=over_axis("LogSoftmax"),
        Hardmax=over_axis("Hardmax"),
    ),
    ("com.microsoft", "Gelu"): _biased_gelu(tanh=False),
    ("com.microsoft", "BiasGelu"): _biased_gelu(tanh=False),
    ("com.microsoft", "FastGelu"): _biased_gelu(tanh=True),
    ("com.microsoft", "QuickGelu"): widened(_quick_gelu),
}
