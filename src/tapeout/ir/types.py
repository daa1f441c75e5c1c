"""Element types, symbolic dimensions and tensor types: the vocabulary that every level shares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import ml_dtypes
import numpy as np


class DType(Enum):
    """Element type. The value is its printed name."""

    f64 = "f64"
    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    f8e4m3 = "f8e4m3"
    f8e5m2 = "f8e5m2"
    i64 = "i64"
    i32 = "i32"
    i16 = "i16"
    i8 = "i8"
    u64 = "u64"
    u32 = "u32"
    u16 = "u16"
    u8 = "u8"
    b1 = "b1"

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype that stores it (`b1` is one byte per element)."""
        return _NUMPY[self]

    @property
    def bytes(self) -> int:
        """Bytes of one stored element."""
        return _NUMPY[self].itemsize

    @property
    def is_float(self) -> bool:
        return self.value[0] == "f" or self is DType.bf16

    @property
    def is_int(self) -> bool:
        return self.value[0] in "iu"

    @property
    def is_signed(self) -> bool:
        return self.value[0] == "i" or self.is_float

    @property
    def epsilon(self) -> float:
        """Unit in the last place of 1.0 for floats (2^-23 for f32), else 0."""
        return float(cast("Any", ml_dtypes.finfo(self.numpy)).eps) if self.is_float else 0.0

    @property
    def smallest_normal(self) -> float:
        """The least positive float with all its places (2^-126 for f32), else 0."""
        return float(cast("Any", ml_dtypes.finfo(self.numpy)).smallest_normal) if self.is_float else 0.0

    @staticmethod
    def of(dtype: np.dtype | type) -> DType:
        """The element type of a NumPy dtype; `KeyError` when there is none."""
        return _FROM_NUMPY[np.dtype(dtype)]


_NUMPY: dict[DType, np.dtype] = {
    DType.f64: np.dtype(np.float64),
    DType.f32: np.dtype(np.float32),
    DType.f16: np.dtype(np.float16),
    DType.bf16: np.dtype(ml_dtypes.bfloat16),
    DType.f8e4m3: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.f8e5m2: np.dtype(ml_dtypes.float8_e5m2),
    DType.i64: np.dtype(np.int64),
    DType.i32: np.dtype(np.int32),
    DType.i16: np.dtype(np.int16),
    DType.i8: np.dtype(np.int8),
    DType.u64: np.dtype(np.uint64),
    DType.u32: np.dtype(np.uint32),
    DType.u16: np.dtype(np.uint16),
    DType.u8: np.dtype(np.uint8),
    DType.b1: np.dtype(np.bool_),
}
_FROM_NUMPY = {numpy: dtype for dtype, numpy in _NUMPY.items()}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dimension known only when the model runs: `lo <= name <= hi`, both inclusive."""

    name: str
    lo: int
    hi: int

    def __str__(self) -> str:
        return f"{self.name} in [{self.lo}, {self.hi}]"


@dataclass(frozen=True, slots=True)
class DimExpr:
    """Affine expression of symbols, `const + sum(coef * symbol)`: at least one term, sorted by symbol."""

    const: int
    terms: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        parts = [name if coef == 1 else f"{coef}*{name}" for name, coef in self.terms]
        if self.const:
            parts.append(str(self.const))
        return "+".join(parts).replace("+-", "-")


Dim = int | DimExpr
Shape = tuple[Dim, ...]


def symbol(name: str) -> DimExpr:
    """The dimension that is just `name`."""
    return DimExpr(0, ((name, 1),))


def _terms(dim: Dim) -> tuple[int, dict[str, int]]:
    return (dim, {}) if isinstance(dim, int) else (dim.const, dict(dim.terms))


def _dim(const: int, terms: Mapping[str, int]) -> Dim:
    kept = tuple(sorted((name, coef) for name, coef in terms.items() if coef))
    return DimExpr(const, kept) if kept else const


def dim_add(a: Dim, b: Dim) -> Dim:
    """`a + b`."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    const_a, terms = _terms(a)
    const_b, terms_b = _terms(b)
    for name, coef in terms_b.items():
        terms[name] = terms.get(name, 0) + coef
    return _dim(const_a + const_b, terms)


def dim_scale(a: Dim, factor: int) -> Dim:
    """`a * factor`."""
    const, terms = _terms(a)
    return _dim(const * factor, {name: coef * factor for name, coef in terms.items()})


def dim_sub(a: Dim, b: Dim) -> Dim:
    """`a - b`."""
    return dim_add(a, dim_scale(b, -1))


def dim_mul(a: Dim, b: Dim) -> Dim:
    """`a * b`; `ValueError` unless the product stays affine."""
    if isinstance(a, int):
        return dim_scale(b, a)
    if isinstance(b, int):
        return dim_scale(a, b)
    raise ValueError(f"product of two symbolic dimensions {a} and {b} is not affine")


def dim_div(a: Dim, divisor: int) -> Dim:
    """`a / divisor` where it divides every coefficient, else `ValueError`."""
    const, terms = _terms(a)
    if const % divisor or any(coef % divisor for coef in terms.values()):
        raise ValueError(f"dimension {a} is not divisible by {divisor}")
    return _dim(const // divisor, {name: coef // divisor for name, coef in terms.items()})


def product(dims: Iterable[Dim]) -> Dim:
    """Product of dimensions; `ValueError` when it is not affine."""
    result: Dim = 1
    for dim in dims:
        result = dim_mul(result, dim)
    return result


def bind_dim(dim: Dim, binding: Mapping[str, int]) -> Dim:
    """`dim` with the symbols of `binding` replaced by numbers."""
    if isinstance(dim, int):
        return dim
    const = dim.const + sum(coef * binding[name] for name, coef in dim.terms if name in binding)
    return _dim(const, {name: coef for name, coef in dim.terms if name not in binding})


def dim_range(dim: Dim, symbols: Mapping[str, Symbol]) -> tuple[int, int]:
    """Smallest and largest value of `dim` under the bounds of `symbols`."""
    const, terms = _terms(dim)
    ends = [sorted((coef * symbols[name].lo, coef * symbols[name].hi)) for name, coef in terms.items()]
    return const + sum(lo for lo, _ in ends), const + sum(hi for _, hi in ends)


def parse_dim(text: str) -> Dim:
    """Inverse of `str(dim)`."""
    total: Dim = 0
    for sign, body in re.findall(r"([+-]?)([^+-]+)", text):
        factor = -1 if sign == "-" else 1
        coef, _, name = body.rpartition("*")
        if re.fullmatch(r"\d+", name):
            total = dim_add(total, factor * int(name))
        else:
            total = dim_add(total, dim_scale(symbol(name), factor * int(coef or 1)))
    return total


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape. A scalar has the shape `()`."""

    dtype: DType
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype.value}[{','.join(str(d) for d in self.shape)}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers; `ValueError` when a symbol is left in it."""
        if any(not isinstance(d, int) for d in self.shape):
            raise ValueError(f"{self} still has symbolic dimensions")
        return tuple(d for d in self.shape if isinstance(d, int))

    @property
    def elements(self) -> int:
        """Number of elements of a static shape."""
        count = 1
        for d in self.static_shape:
            count *= d
        return count

    @property
    def bytes(self) -> int:
        """Bytes of a static shape, packed."""
        return self.elements * self.dtype.bytes

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def with_shape(self, shape: Iterable[Dim]) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    @staticmethod
    def parse(text: str) -> TensorType:
        """Inverse of `str(type)`."""
        dtype, _, dims = text.partition("[")
        inner = dims.removesuffix("]")
        return TensorType(DType(dtype), tuple(parse_dim(d) for d in inner.split(",")) if inner else ())
