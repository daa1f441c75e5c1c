"""Element-by-element ops, conversions and reductions of the interpreter.

Arrays come in the type they are stored in. `lift` gives the type that is computed in (16- and 8-bit
floats in f32), `settle` rounds a result to the type it is stored in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tapeout.ir.special import Array, erf, narrow
from tapeout.ir.types import DType

NumpyType = np.dtype[Any]


def storage(dtype: DType, wide: bool) -> NumpyType:
    """The NumPy type of a value: its own, but float64 for every float of a wide run."""
    return np.dtype(np.float64) if wide and dtype.is_float else dtype.numpy


def is_float(x: Array) -> bool:
    return DType.of(x.dtype).is_float


def lift(x: Array) -> Array:
    """`x` in the type it is computed in: f32 for narrower floats, else its own."""
    return x.astype(np.float32) if x.dtype.itemsize <= 2 and is_float(x) else x


def settle(x: Array, dtype: NumpyType) -> Array:
    """`x` rounded to the float type `dtype`; integers wrap to the integer type `dtype`."""
    return narrow(np.asarray(x), dtype)


def _rsqrt(x: Array) -> Array:
    return np.reciprocal(np.sqrt(x))


def _erf(x: Array) -> Array:
    return erf(x).astype(x.dtype, copy=False)


_UNARY: dict[str, Callable[..., Array]] = {
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.rint,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "rsqrt": _rsqrt, "sin": np.sin, "cos": np.cos,
    "tanh": np.tanh, "erf": _erf, "not": np.invert,
}  # fmt: skip


def unary(fn: str, x: Array) -> Array:
    """fn(x) in x's type."""
    return settle(_UNARY[fn](lift(x)), x.dtype)


def _divide(x: Array, y: Array) -> Array:
    if is_float(x):
        return np.true_divide(x, y)
    toward_zero = ((x < 0) != (y < 0)) & (np.fmod(x, y) != 0) & (y != 0)
    return np.floor_divide(x, y) + toward_zero.astype(x.dtype)


def _power(x: Array, y: Array) -> Array:
    if is_float(x):
        return np.power(x, y)
    result = np.power(x, np.maximum(y, 0))  # modulo 2^bits
    odd = np.where(y & 1 == 1, x, x * x)
    inverse = np.where(np.abs(x) == 1, odd, 0)
    return np.where(y < 0, inverse, result)


_BINARY: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _divide, "rem": np.fmod, "pow": _power,
    "max": np.maximum, "min": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "shl": np.left_shift, "shr": np.right_shift, "atan2": np.arctan2,
}  # fmt: skip


def binary(fn: str, x: Array, y: Array) -> Array:
    """fn(x, y) in x's type.

    Integers wrap; x / 0 and x rem 0 are 0; shifting by all bits or more leaves 0 (shr: copies of the sign).
    """
    return settle(_BINARY[fn](lift(x), lift(y)), x.dtype)


_COMPARE: dict[str, Callable[..., Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip


def compare(fn: str, x: Array, y: Array) -> Array:
    """b1 of x fn y."""
    return np.asarray(_COMPARE[fn](lift(x), lift(y)))


def convert(x: Array, dtype: NumpyType) -> Array:
    """`x` as `dtype`, rounded to nearest even.

    Float to integer truncates and saturates, NaN gives 0; integer to integer wraps.
    """
    target = DType.of(dtype)
    if target is DType.b1:
        return lift(x) != 0
    if target.is_float:
        direct = is_float(x) or dtype.itemsize >= 4
        return settle(lift(x) if direct else x.astype(np.float64), dtype)
    if not is_float(x):
        return x.astype(dtype)
    info = np.iinfo(dtype)
    whole = np.trunc(lift(x).astype(np.float64))
    inside = (whole >= float(info.min)) & (whole < float(info.max) + 1)
    kept = np.where(inside, whole, 0).astype(dtype)
    ends = np.where(whole > 0, info.max, info.min).astype(dtype)
    return np.where(inside | np.isnan(whole), kept, ends)


def bitcast(x: Array, stored: DType, dtype: DType, wide: bool) -> Array:
    """The bytes of `x`, a value of type `stored`, as `dtype`. A wide run rounds floats to `stored` for it."""
    data = settle(x, stored.numpy)
    if dtype is DType.b1:
        return data.view(np.uint8) != 0
    return data.view(dtype.numpy).astype(storage(dtype, wide), copy=False)


# ---- reductions

_REDUCER: dict[str, Any] = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "and": np.bitwise_and,
    "or": np.bitwise_or,
}  # fmt: skip


def reducer(fn: str) -> Any:
    """The ufunc that combines two elements of a reduction."""
    return _REDUCER[fn]


def identity(fn: str, dtype: NumpyType) -> Any:
    """The element that leaves the others as they are under fn."""
    match fn:
        case "sum" | "or":
            return 0
        case "prod":
            return 1
        case "and":
            return True if dtype == np.bool_ else -1 if dtype.kind == "i" else np.iinfo(dtype).max
        case _:
            return _lowest(dtype) if fn == "max" else _highest(dtype)


def _lowest(dtype: NumpyType) -> Any:
    kind = DType.of(dtype)
    return -np.inf if kind.is_float else False if kind is DType.b1 else np.iinfo(dtype).min


def _highest(dtype: NumpyType) -> Any:
    kind = DType.of(dtype)
    return np.inf if kind.is_float else True if kind is DType.b1 else np.iinfo(dtype).max


def reduce(fn: str, x: Array, axes: tuple[int, ...]) -> Array:
    """fn over `axes` in x's type, narrow floats in f32; the identity where nothing is reduced."""
    wide = lift(x)
    start = identity(fn, wide.dtype)
    return settle(reducer(fn).reduce(wide, axis=axes, dtype=wide.dtype, initial=start), x.dtype)


def arg_reduce(fn: str, x: Array, axis: int) -> Array:
    """Index i64 of the first largest or smallest element; the first NaN where there is one."""
    find = np.argmax if fn == "max" else np.argmin
    return np.asarray(find(lift(x), axis=axis), np.int64)


def cumulate(fn: str, x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
    """Running fn along `axis`, narrow floats in f32 and rounded at the end."""
    wide = lift(x)
    moved = np.moveaxis(wide, axis, 0)
    moved = moved[::-1] if reverse else moved
    out = reducer(fn).accumulate(moved, axis=0, dtype=wide.dtype)
    if exclusive:
        first = np.full_like(moved[:1], identity(fn, wide.dtype))
        out = np.concatenate([first, out[:-1]])
    out = out[::-1] if reverse else out
    return settle(np.moveaxis(out, 0, axis), x.dtype)
