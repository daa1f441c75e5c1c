"""Python arithmetic on numbers that are known only when the model runs (`item()`, integer inputs)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tapeout.frontend.torch_ops.lowering import Handler, Lowering, OneOperand, Operand
from tapeout.ir.graph import Value
from tapeout.ir.types import DType


def _arith(fn: str) -> Handler:
    def handle(t: Lowering, x: Operand, y: Operand) -> Value:
        dtype = t.promote(x, y)
        return t.b.binary(fn, t.cast(x, dtype), t.cast(y, dtype))

    return handle


def _compare(fn: str) -> Handler:
    def handle(t: Lowering, x: Operand, y: Operand) -> Value:
        dtype = t.promote(x, y)
        return t.b.compare(fn, t.cast(x, dtype), t.cast(y, dtype))

    return handle


def _truediv(t: Lowering, x: Operand, y: Operand) -> Value:
    dtype = t.promote(x, y, 1.0)
    return t.b.div(t.cast(x, dtype), t.cast(y, dtype))


def _floordiv(t: Lowering, x: Operand, y: Operand) -> Value:
    """Rounds down: (x - x mod y) / y with the remainder's sign taken from y."""
    dtype = t.promote(x, y)
    wx, wy = t.cast(x, dtype), t.cast(y, dtype)
    return t.b.div(t.b.sub(wx, _mod(t, wx, wy)), wy)


def _mod(t: Lowering, x: Operand, y: Operand) -> Value:
    dtype = t.promote(x, y)
    wx, wy = t.cast(x, dtype), t.cast(y, dtype)
    rest = t.b.binary("rem", wx, wy)
    zero = t.b.scalar(0, dtype)
    signs = t.b.binary("xor", t.b.compare("lt", rest, zero), t.b.compare("lt", wy, zero))
    wrong = t.b.binary("and", t.b.compare("ne", rest, zero), signs)
    return t.b.select(wrong, t.b.add(rest, wy), rest)


def _float(t: Lowering, x: Operand) -> Value:
    return t.cast(x, DType.f32)


def _rounded(fn: str) -> OneOperand:
    return lambda t, x: t.b.convert(t.b.unary(fn, t.cast(x, DType.f32)), DType.i64)


def _sqrt(t: Lowering, x: Operand) -> Value:
    return t.b.unary("sqrt", t.cast(x, DType.f32))


def _item(t: Lowering, x: Value) -> Value:
    dtype = DType.f32 if x.type.dtype.is_float else x.type.dtype
    wide = dtype if dtype in (DType.f32, DType.b1) else DType.i64
    return t.b.convert(t.b.reshape(x, ()), wide)


def _sum(t: Lowering, xs: Any) -> Value:
    total = t.cast(0, DType.i64)
    for x in xs:
        total = t.b.add(total, t.cast(x, DType.i64))
    return total


def _nothing(t: Lowering, *_: Any, **__: Any) -> None:
    """Assertions for PyTorch's own tracing."""


_ONE: Mapping[str, OneOperand] = {
    "neg": lambda t, x: t.b.unary("neg", t.cast(x, t.promote(x))),
    "abs": lambda t, x: t.b.unary("abs", t.cast(x, t.promote(x))),
    "sym_not": lambda t, x: t.b.unary("not", t.cast(x, DType.b1)),
    "sym_int": lambda t, x: t.b.convert(t.cast(x, t.promote(x)), DType.i64),
    "trunc": lambda t, x: t.b.convert(t.cast(x, t.promote(x)), DType.i64),
}

TABLE: Mapping[str, Handler] = {
    **{name: _arith(name) for name in ("add", "sub", "mul", "pow")},
    **{name: _compare(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: _arith(name.removeprefix("sym_")) for name in ("sym_max", "sym_min")},
    **{name: _arith(fn) for name, fn in (("and_", "and"), ("or_", "or"))},
    "truediv": _truediv,
    "floordiv": _floordiv,
    "mod": _mod,
    **_ONE,
    "sym_float": _float,
    "floor": _rounded("floor"),
    "ceil": _rounded("ceil"),
    "round": _rounded("round"),
    "_sym_sqrt": _sqrt,
    "sqrt": _sqrt,
    "sym_sum": _sum,
}
"""By the name of the Python or `torch.sym_*` function."""


ATEN: Mapping[str, Handler] = {
    "_local_scalar_dense": _item,
    "item": _item,
    **dict.fromkeys(
        (
            *("_assert_scalar", "_assert_async", "_assert_tensor_metadata", "sym_constrain_range"),
            *("sym_constrain_range_for_size", "_functional_assert_async", "_functional_assert_scalar"),
        ),
        _nothing,
    ),
}
