"""Element-by-element arithmetic, comparisons, logic and casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import ml_dtypes
import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, table, widened
from tapeout.ir import graph as g
from tapeout.ir.types import DType


def unary(fn: str) -> Handler:
    return lambda c: c.b.unary(fn, c.x())


def binary(fn: str) -> Handler:
    return lambda c: c.b.binary(fn, c.x(0), c.x(1))


def compare(fn: str) -> Handler:
    return lambda c: c.b.compare(fn, c.x(0), c.x(1))


def variadic(fn: str) -> Handler:
    return lambda c: reduce(lambda x, y: c.b.binary(fn, x, y), c.xs())


def mean(c: Call) -> g.Value:
    return c.b.binary_scalar("mul", variadic("add")(c), 1 / len(c.items))  # pyright: ignore[reportArgumentType]


def neg(c: Call) -> g.Value:
    return c.b.unary("neg", c.x())


def reciprocal(c: Call) -> g.Value:
    return c.b.div(c.b.scalar(1, c.x().type.dtype), c.x())


def power(c: Call) -> g.Value:
    """x ** y in x's type; small whole powers of known y are products, as runtimes compute them."""
    x, y = c.x(0), c.x(1)
    exponent = c.known(1)
    if exponent is not None and exponent.size == 1 and y.type.rank <= x.type.rank and x.type.dtype.is_float:
        match float(exponent.reshape(())):
            case 2.0:
                return c.b.mul(x, x)
            case 3.0:
                return c.b.mul(c.b.mul(x, x), x)
            case 0.5:
                return c.b.unary("sqrt", x)
            case _:
                pass
    work = DType.f64 if x.type.dtype.is_int and y.type.dtype.is_float else x.type.dtype
    return c.b.convert(c.b.binary("pow", c.b.convert(x, work), c.b.convert(y, work)), x.type.dtype)


def modulo(c: Call) -> g.Value:
    """fmod=1: the remainder has the sign of x, as in C; else that of y, as in Python."""
    x, y = c.b.broadcast_together(c.x(0), c.x(1))
    remainder = c.b.binary("rem", x, y)
    if c.flag("fmod") or not x.type.dtype.is_signed:
        return remainder
    zero = c.b.scalar(0, x.type.dtype)
    differs = c.b.binary("xor", c.b.compare("lt", remainder, zero), c.b.compare("lt", y, zero))
    wrong = c.b.binary("and", c.b.compare("ne", remainder, zero), differs)
    return c.b.select(wrong, c.b.add(remainder, y), remainder)


def bit_shift(c: Call) -> g.Value:
    return c.b.binary("shl" if c.attr_text("direction", "") == "LEFT" else "shr", c.x(0), c.x(1))


def clip(c: Call) -> g.Value:
    x = c.x()
    for fn, i, name in (("max", 1, "min"), ("min", 2, "max")):
        if c.has(i):
            x = c.b.binary(fn, x, c.x(i))
        elif name in c.node.attributes:
            x = c.b.binary_scalar(fn, x, c.attr_float(name, 0.0))
    return x


def is_inf(c: Call) -> g.Value:
    x, both = c.x(), c.flag("detect_positive", True) and c.flag("detect_negative", True)
    if both:
        return c.b.compare("eq", c.b.unary("abs", x), c.b.scalar(np.inf, x.type.dtype))
    if not c.flag("detect_positive", True) and not c.flag("detect_negative", True):
        return c.b.compare("ne", c.b.unary("abs", x), c.b.unary("abs", x))
    bound = np.inf if c.flag("detect_positive", True) else -np.inf
    return c.b.compare("eq", x, c.b.scalar(bound, x.type.dtype))


def where(c: Call) -> g.Value:
    return c.b.select(c.x(0), c.x(1), c.x(2))


def cast_to(c: Call, x: g.Value, dtype: DType) -> g.Value:
    """Conversion; to an 8-bit float it saturates unless the node says otherwise."""
    if dtype in (DType.f8e4m3, DType.f8e5m2) and c.flag("saturate", True) and x.type.dtype is not dtype:
        limit = float(ml_dtypes.finfo(dtype.numpy).max)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        wide = c.b.convert(x, DType.f32)
        return c.b.convert(c.b.clamp(wide, -limit, limit), dtype)
    return c.b.convert(x, dtype)


def cast(c: Call) -> g.Value:
    return cast_to(c, c.x(), c.attr_dtype("to"))


def bit_cast(c: Call) -> g.Value:
    return c.b.bitcast(c.x(), c.attr_dtype("to"))


# ---- trigonometry from the primitive functions


def _tan(c: Call, x: g.Value) -> g.Value:
    return c.b.div(c.b.unary("sin", x), c.b.unary("cos", x))


def _sinh(c: Call, x: g.Value) -> g.Value:
    grown, shrunk = c.b.unary("exp", x), c.b.unary("exp", c.b.unary("neg", x))
    return c.b.binary_scalar("mul", c.b.sub(grown, shrunk), 0.5)


def _cosh(c: Call, x: g.Value) -> g.Value:
    grown, shrunk = c.b.unary("exp", x), c.b.unary("exp", c.b.unary("neg", x))
    return c.b.binary_scalar("mul", c.b.add(grown, shrunk), 0.5)


def _cofunction(c: Call, x: g.Value) -> g.Value:
    """sqrt(1 - x^2)."""
    one = c.b.scalar(1, x.type.dtype)
    return c.b.unary("sqrt", c.b.mul(c.b.sub(one, x), c.b.add(one, x)))


def _asin(c: Call, x: g.Value) -> g.Value:
    return c.b.binary("atan2", x, _cofunction(c, x))


def _acos(c: Call, x: g.Value) -> g.Value:
    return c.b.binary("atan2", _cofunction(c, x), x)


def _atan(c: Call, x: g.Value) -> g.Value:
    return c.b.binary("atan2", x, c.b.scalar(1, x.type.dtype))


def _asinh(c: Call, x: g.Value) -> g.Value:
    size = c.b.unary("abs", x)
    root = c.b.unary("sqrt", c.b.binary_scalar("add", c.b.mul(x, x), 1))
    return c.b.mul(c.b.unary("sign", x), c.b.unary("log", c.b.add(size, root)))


def _acosh(c: Call, x: g.Value) -> g.Value:
    root = c.b.unary("sqrt", c.b.binary_scalar("sub", c.b.mul(x, x), 1))
    return c.b.unary("log", c.b.add(x, root))


def _atanh(c: Call, x: g.Value) -> g.Value:
    one = c.b.scalar(1, x.type.dtype)
    ratio = c.b.div(c.b.add(one, x), c.b.sub(one, x))
    return c.b.binary_scalar("mul", c.b.unary("log", ratio), 0.5)


_WIDE: dict[str, Callable[[Call, g.Value], g.Value]] = {
    "Tan": _tan,
    "Sinh": _sinh,
    "Cosh": _cosh,
    "Asin": _asin,
    "Acos": _acos,
    "Atan": _atan,
    "Asinh": _asinh,
    "Acosh": _acosh,
    "Atanh": _atanh,
}
_NAMED: dict[str, str] = {
    fn.capitalize(): fn for fn in "abs sign floor ceil round exp log sqrt sin cos tanh erf".split()
}
_LOGIC = {"And": "and", "Or": "or", "Xor": "xor", "BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor"}
_ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_COMPARE = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}

OPS: Mapping[tuple[str, str], Handler] = table(
    **{op: unary(fn) for op, fn in _NAMED.items()},
    **{op: binary(fn) for op, fn in (_LOGIC | _ARITHMETIC).items()},
    **{op: compare(fn) for op, fn in _COMPARE.items()},
    **{op: widened(fn) for op, fn in _WIDE.items()},
    Neg=neg,
    Not=unary("not"),
    BitwiseNot=unary("not"),
    Reciprocal=reciprocal,
    Pow=power,
    Mod=modulo,
    BitShift=bit_shift,
    Sum=variadic("add"),
    Max=variadic("max"),
    Min=variadic("min"),
    Mean=mean,
    Clip=clip,
    IsNaN=lambda c: c.b.compare("ne", c.x(), c.x()),
    IsInf=is_inf,
    Where=where,
    Cast=cast,
    CastLike=lambda c: cast_to(c, c.x(0), c.x(1).type.dtype),
    BitCast=bit_cast,
)
