"""Arithmetic, comparisons, logic and elementary functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import ml_dtypes

from tapeout.frontend.torch_ops.lowering import (
    Handler,
    Lowering,
    OneOperand,
    OneTensor,
    Operand,
    TwoOperands,
)
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.types import DType

# ---- arithmetic


def _binary(fn: str) -> TwoOperands:
    return lambda t, x, y: t.binary(fn, x, y)


def _scaled(fn: str) -> Handler:
    """add and sub: fn(x, alpha * y)."""

    def handle(t: Lowering, x: Operand, y: Operand, alpha: float = 1) -> Value:
        if t.out.dtype is DType.b1:
            return t.b.binary("or", t.cast(x, DType.b1), t.cast(y, DType.b1))
        if alpha == 1:
            return t.binary(fn, x, y)
        inner = t.opmath(t.out.dtype)
        scaled = t.b.binary_scalar("mul", t.cast(y, inner), alpha)
        return t.narrow(t.b.binary(fn, t.cast(x, inner), scaled))

    return handle


def _rsub(t: Lowering, x: Operand, y: Operand, alpha: float = 1) -> Value:
    return _scaled("sub")(t, y, x, alpha)


def _mul(t: Lowering, x: Operand, y: Operand) -> Value:
    return t.binary("and" if t.out.dtype is DType.b1 else "mul", x, y)


def _div(t: Lowering, x: Operand, y: Operand, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return t.binary("div", x, y)
    if rounding_mode == "floor":
        return _floor_divide(t, x, y)
    if t.out.dtype.is_int:
        return t.binary("div", x, y)
    return t.narrow(_trunc(t.b, t.b.div(t.float_in(x), t.float_in(y))))


def _floor_divide(t: Lowering, x: Operand, y: Operand) -> Value:
    """(x - x mod y) / y, which is exact up to the last rounding; x / 0 stays what the division gives."""
    inner = t.opmath(t.out.dtype)
    wx, wy = t.b.broadcast_together(t.cast(x, inner), t.cast(y, inner))
    rest = _modulo(t.b, wx, wy)
    quotient = t.b.div(t.b.sub(wx, rest), wy)
    if inner.is_int:
        return t.narrow(quotient)
    whole = t.b.unary("round", quotient)
    if isinstance(y, Value):
        whole = t.b.select(t.b.compare("eq", wy, t.b.scalar(0, inner)), t.b.div(wx, wy), whole)
    return t.narrow(whole)


def _modulo(b: Builder, x: Value, y: Value) -> Value:
    """Remainder with the sign of y."""
    rest = b.binary("rem", x, y)
    zero = b.scalar(0, x.type.dtype)
    negative_rest, negative_y = b.compare("lt", rest, zero), b.compare("lt", y, zero)
    wrong = b.binary("and", b.compare("ne", rest, zero), b.binary("xor", negative_rest, negative_y))
    return b.select(wrong, b.add(rest, y), rest)


def _remainder(t: Lowering, x: Operand, y: Operand) -> Value:
    inner = t.opmath(t.out.dtype)
    return t.narrow(_modulo(t.b, *t.b.broadcast_together(t.cast(x, inner), t.cast(y, inner))))


def _pow(t: Lowering, x: Operand, y: Operand) -> Value:
    if y in (0, 1) and not isinstance(y, Value):
        return t.full(1, t.out) if y == 0 else t.cast(x, t.out.dtype)
    inner = t.opmath(t.out.dtype)
    base = t.cast(x, inner)
    if not isinstance(y, Value) and y in (2, 3):
        square = t.b.mul(base, base)
        return t.narrow(square if y == 2 else t.b.mul(square, base))
    if isinstance(y, float) and y in (0.5, -0.5, -1.0):
        return t.narrow(_reciprocal(t.b, base) if y == -1 else t.b.unary("sqrt" if y > 0 else "rsqrt", base))
    return t.narrow(t.b.binary("pow", base, t.cast(y, inner)))


def _lerp(t: Lowering, x: Value, y: Value, weight: Operand) -> Value:
    wx, wy = t.float_in(x), t.float_in(y)
    return t.narrow(t.b.add(wx, t.b.mul(t.float_in(weight), t.b.sub(wy, wx))))


def _fused(fn: str) -> Handler:
    """addcmul and addcdiv: x + value * fn(y, z)."""

    def handle(t: Lowering, x: Value, y: Value, z: Value, value: float = 1) -> Value:
        inner = t.opmath(t.out.dtype)
        scaled = t.b.binary_scalar("mul", t.cast(y, inner), value)
        return t.narrow(t.b.add(t.cast(x, inner), t.b.binary(fn, scaled, t.cast(z, inner))))

    return handle


def _clamp(t: Lowering, x: Operand, low: Operand | None = None, high: Operand | None = None) -> Value:
    out = t.cast(x, t.out.dtype)
    out = out if low is None else t.binary("max", out, low)
    return out if high is None else t.binary("min", out, high)


def _f_extreme(fn: str) -> Handler:
    """fmax and fmin: the other operand where one is NaN."""

    def handle(t: Lowering, x: Operand, y: Operand) -> Value:
        x, y = t.b.broadcast_together(t.cast(x, t.out.dtype), t.cast(y, t.out.dtype))
        if not t.out.dtype.is_float:
            return t.b.binary(fn, x, y)
        of_y = t.b.select(t.b.compare("ne", y, y), x, t.b.binary(fn, x, y))
        return t.b.select(t.b.compare("ne", x, x), y, of_y)

    return handle


# ---- comparisons and logic


def _compare(fn: str) -> Handler:
    def handle(t: Lowering, x: Operand, y: Operand) -> Value:
        dtype = t.promote(x, y)
        inner = dtype if t.exact(x, dtype) and t.exact(y, dtype) else t.opmath(dtype)
        return t.b.compare(fn, t.cast(x, inner), t.cast(y, inner))

    return handle


def _logical(fn: str) -> TwoOperands:
    return lambda t, x, y: t.b.binary(fn, t.cast(x, DType.b1), t.cast(y, DType.b1))


def _where(t: Lowering, cond: Value, x: Operand, y: Operand) -> Value:
    return t.b.select(t.cast(cond, DType.b1), t.cast(x, t.out.dtype), t.cast(y, t.out.dtype))


def _masked_fill(t: Lowering, x: Value, mask: Value, value: Operand) -> Value:
    return t.b.select(mask, t.cast(value, t.out.dtype), x)


def _isinf(t: Lowering, x: Value) -> Value:
    if not x.type.dtype.is_float:
        return t.full(False, t.out)
    return t.b.compare("eq", t.b.unary("abs", x), t.b.scalar(math.inf, x.type.dtype))


def _isnan(t: Lowering, x: Value) -> Value:
    return t.b.compare("ne", x, x)


def _isfinite(t: Lowering, x: Value) -> Value:
    if not x.type.dtype.is_float:
        return t.full(True, t.out)
    return t.b.compare("lt", t.b.unary("abs", x), t.b.scalar(math.inf, x.type.dtype))


# ---- functions of one float; each computes in f32 at least and its result is rounded once

Float1 = Callable[[Builder, Value], Value]


def _float1(fn: Float1) -> OneOperand:
    return lambda t, x: t.narrow(fn(t.b, t.float_in(x)))


def _primitive(fn: str) -> OneOperand:
    return lambda t, x: t.narrow(t.b.unary(fn, t.float_in(x)))


def _reciprocal(b: Builder, x: Value) -> Value:
    return b.div(b.scalar(1, x.type.dtype), x)


def _trunc(b: Builder, x: Value) -> Value:
    negative = b.compare("lt", x, b.scalar(0, x.type.dtype))
    return b.select(negative, b.unary("ceil", x), b.unary("floor", x))


def _scaled_log(factor: float) -> Float1:
    return lambda b, x: b.binary_scalar("mul", b.unary("log", x), factor)


def log1p(b: Builder, x: Value) -> Value:
    """log(1 + x) exact for small x: u = 1 + x rounded, then log(u) * x / (u - 1) (Kahan; Goldberg 1991, theorem 4)."""
    one = b.scalar(1, x.type.dtype)
    u = b.add(x, one)
    excess = b.sub(u, one)
    ratio = b.mul(b.unary("log", u), b.div(x, excess))
    tiny, huge = b.compare("eq", excess, b.scalar(0, x.type.dtype)), b.compare("gt", x, b.scalar(1e9, x.type.dtype))
    return b.select(tiny, x, b.select(huge, b.unary("log", u), ratio))


def expm1(b: Builder, x: Value) -> Value:
    """exp(x) - 1 exact for small x: (u - 1) * x / log(u) with u = exp(x) rounded (Kahan)."""
    one = b.scalar(1, x.type.dtype)
    u = b.unary("exp", x)
    ratio = b.mul(b.sub(u, one), b.div(x, b.unary("log", u)))
    near = b.compare("lt", b.unary("abs", x), b.scalar(1, x.type.dtype))
    return b.select(b.compare("eq", u, one), x, b.select(near, ratio, b.sub(u, one)))


def _signed(fn: Float1) -> Float1:
    """The odd function that is `fn` for x >= 0."""

    def build(b: Builder, x: Value) -> Value:
        size = fn(b, b.unary("abs", x))
        return b.select(b.compare("lt", x, b.scalar(0, x.type.dtype)), b.unary("neg", size), size)

    return build


def _sinh(b: Builder, x: Value) -> Value:
    e = expm1(b, x)
    rest = b.div(e, b.binary_scalar("add", e, 1))
    small = b.binary_scalar("mul", b.add(e, rest), 0.5)
    large = b.unary("exp", b.binary_scalar("sub", x, math.log(2)))
    return b.select(b.compare("gt", x, b.scalar(20, x.type.dtype)), large, small)


def _cosh(b: Builder, x: Value) -> Value:
    half = b.unary("exp", b.binary_scalar("sub", b.unary("abs", x), math.log(2)))
    return b.add(half, b.div(b.scalar(0.25, x.type.dtype), half))


def _asinh(b: Builder, x: Value) -> Value:
    """log1p(x + x^2 / (1 + sqrt(1 + x^2))), and log(2x) where the square would overflow."""
    capped = b.binary_scalar("min", x, 1e9)
    square = b.mul(capped, capped)
    root = b.unary("sqrt", b.binary_scalar("add", square, 1))
    near = log1p(b, b.add(capped, b.div(square, b.binary_scalar("add", root, 1))))
    far = b.binary_scalar("add", b.unary("log", x), math.log(2))
    return b.select(b.compare("gt", x, b.scalar(1e9, x.type.dtype)), far, near)


def _acosh(b: Builder, x: Value) -> Value:
    above = b.binary_scalar("sub", x, 1)
    capped = b.binary_scalar("min", above, 1e9)
    root = b.mul(b.unary("sqrt", capped), b.unary("sqrt", b.binary_scalar("add", capped, 2)))  # NaN below 1
    far = b.binary_scalar("add", b.unary("log", x), math.log(2))
    return b.select(b.compare("gt", x, b.scalar(1e9, x.type.dtype)), far, log1p(b, b.add(capped, root)))


def _atanh(b: Builder, x: Value) -> Value:
    ratio = b.div(b.binary_scalar("mul", x, 2), b.sub(b.scalar(1, x.type.dtype), x))
    inner = b.select(b.compare("eq", x, b.scalar(1, x.type.dtype)), b.full(math.inf, x.type), ratio)
    one = b.binary_scalar("mul", log1p(b, inner), 0.5)
    return b.select(b.compare("eq", x, b.scalar(1, x.type.dtype)), inner, one)


def _cosine_leg(b: Builder, x: Value) -> Value:
    """sqrt(1 - x^2) without cancellation."""
    one = b.scalar(1, x.type.dtype)
    return b.unary("sqrt", b.mul(b.sub(one, x), b.add(one, x)))


def _erfc(b: Builder, x: Value) -> Value:
    return b.sub(b.scalar(1, x.type.dtype), b.unary("erf", x))


_FLOAT1: Mapping[str, Float1] = {
    "reciprocal": _reciprocal,
    "log2": _scaled_log(1 / math.log(2)),
    "log10": _scaled_log(1 / math.log(10)),
    "log1p": log1p,
    "expm1": expm1,
    "exp2": lambda b, x: b.binary("pow", b.scalar(2, x.type.dtype), x),
    "sinh": _signed(_sinh),
    "cosh": _cosh,
    "asinh": _signed(_asinh),
    "acosh": _acosh,
    "atanh": _signed(_atanh),
    "tan": lambda b, x: b.div(b.unary("sin", x), b.unary("cos", x)),
    "asin": lambda b, x: b.binary("atan2", x, _cosine_leg(b, x)),
    "acos": lambda b, x: b.binary("atan2", _cosine_leg(b, x), x),
    "atan": lambda b, x: b.binary("atan2", x, b.scalar(1, x.type.dtype)),
    "erfc": _erfc,
    "sigmoid": Builder.sigmoid,
}

# ---- functions that also take integers


def _abs(t: Lowering, x: Value) -> Value:
    return x if x.type.dtype is DType.b1 else t.b.unary("abs", x)


def _sign(t: Lowering, x: Value) -> Value:
    """PyTorch's sign of NaN is 0."""
    if x.type.dtype is DType.b1:
        return x
    sign = t.b.unary("sign", x)
    number = t.b.compare("eq", x, x)
    return t.b.select(number, sign, t.b.scalar(0, x.type.dtype)) if x.type.dtype.is_float else sign


def _rounding(fn: str) -> OneTensor:
    return lambda t, x: t.b.unary(fn, x) if x.type.dtype.is_float else x


def _round(t: Lowering, x: Value, decimals: int = 0) -> Value:
    if not x.type.dtype.is_float or decimals == 0:
        return t.b.unary("round", x) if x.type.dtype.is_float else x
    shift, back = ("mul", "div") if decimals > 0 else ("div", "mul")
    scaled = t.b.binary_scalar(shift, t.wide(x), 10.0 ** abs(decimals))
    return t.narrow(t.b.binary_scalar(back, t.b.unary("round", scaled), 10.0 ** abs(decimals)))


def _truncate(t: Lowering, x: Value) -> Value:
    return _trunc(t.b, x) if x.type.dtype.is_float else x


def _square(t: Lowering, x: Value) -> Value:
    return t.b.mul(x, x)


def _nan_to_num(
    t: Lowering, x: Value, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Value:
    if not x.type.dtype.is_float:
        return x
    limits = cast("Any", ml_dtypes).finfo(x.type.dtype.numpy)
    top = float(limits.max)
    x = t.b.select(t.b.compare("ne", x, x), t.cast(nan or 0.0, x.type.dtype), x)
    for limit, value in ((math.inf, posinf), (-math.inf, neginf)):
        given = math.copysign(top, limit) if value is None else value
        x = t.b.select(t.b.compare("eq", x, t.b.scalar(limit, x.type.dtype)), t.cast(given, x.type.dtype), x)
    return x


def _convert(t: Lowering, x: Value, *_: object, **__: object) -> Value:
    """_to_copy, type_as and the like: PyTorch gives the result's dtype."""
    return t.narrow(x)


def _same(t: Lowering, x: Value, *_: object, **__: object) -> Value:
    return x


def _clamp_max(t: Lowering, x: Operand, high: Operand) -> Value:
    return _clamp(t, x, None, high)


def _atan2(t: Lowering, x: Operand, y: Operand) -> Value:
    return t.narrow(t.b.binary("atan2", t.float_in(x), t.float_in(y)))


def _hypot(t: Lowering, x: Operand, y: Operand) -> Value:
    """large * sqrt(1 + (small / large)^2), which cannot overflow in between."""
    a, c = (t.b.unary("abs", v) for v in t.b.broadcast_together(t.float_in(x), t.float_in(y)))
    large, small = t.b.binary("max", a, c), t.b.binary("min", a, c)
    ratio = t.b.div(small, t.b.select(t.b.compare("eq", large, _zero_of(t, a)), t.full(1, a.type), large))
    return t.narrow(t.b.mul(large, t.b.unary("sqrt", t.b.binary_scalar("add", t.b.mul(ratio, ratio), 1))))


def _zero_of(t: Lowering, x: Value) -> Value:
    return t.b.scalar(0, x.type.dtype)


def _signbit(t: Lowering, x: Value) -> Value:
    """The highest bit of a float, which -0.0 has too."""
    carriers = {8: DType.i64, 4: DType.i32, 2: DType.i16, 1: DType.i8}
    bits = t.b.bitcast(x, carriers[x.type.dtype.bytes]) if x.type.dtype.is_float else x
    return t.b.compare("lt", bits, _zero_of(t, bits))


def _dropout(t: Lowering, x: Value, p: float = 0.5, train: bool = False) -> Value:
    if train and p > 0:
        raise t.refuse("dropout in training mode", "call model.eval() before the export")
    return x


def _native_dropout(t: Lowering, x: Value, p: float = 0.5, train: bool | None = True) -> tuple[Value, Value]:
    return _dropout(t, x, p, bool(train)), t.full(True, t.out[1])


_ONE: Mapping[str, OneTensor] = {
    "neg": lambda t, x: t.b.unary("neg", x),
    "logical_not": lambda t, x: t.b.unary("not", t.cast(x, DType.b1)),
    "bitwise_not": lambda t, x: t.b.unary("not", x),
}

TABLE: Mapping[str, Handler] = {
    "add": _scaled("add"),
    "sub": _scaled("sub"),
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "floor_divide": _floor_divide,
    "fmod": _binary("rem"),
    "remainder": _remainder,
    "pow": _pow,
    "lerp": _lerp,
    "addcmul": _fused("mul"),
    "addcdiv": _fused("div"),
    "maximum": _binary("max"),
    "minimum": _binary("min"),
    "fmax": _f_extreme("max"),
    "fmin": _f_extreme("min"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp_max,
    "atan2": _atan2,
    **{fn: _compare(fn) for fn in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{f"logical_{fn}": _logical(fn) for fn in ("and", "or", "xor")},
    **{f"bitwise_{fn}": _binary(fn) for fn in ("and", "or", "xor")},
    "bitwise_left_shift": _binary("shl"),
    "bitwise_right_shift": _binary("shr"),
    "__lshift__": _binary("shl"),
    "__rshift__": _binary("shr"),
    "where": _where,
    "masked_fill": _masked_fill,
    "isinf": _isinf,
    "isnan": _isnan,
    "isfinite": _isfinite,
    **{fn: _primitive(fn) for fn in ("exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf")},
    **{name: _float1(fn) for name, fn in _FLOAT1.items()},
    **_ONE,
    "abs": _abs,
    "sign": _sign,
    "sgn": _sign,
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "round": _round,
    "trunc": _truncate,
    "square": _square,
    "nan_to_num": _nan_to_num,
    **dict.fromkeys(("_to_copy", "type_as", "to"), _convert),
    **dict.fromkeys(("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "lift_fresh"), _same),
    "hypot": _hypot,
    "signbit": _signbit,
    "dropout": _dropout,
    "native_dropout": _native_dropout,
}
