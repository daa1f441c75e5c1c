"""What a handler of a PyTorch operation is given: the builder, the types PyTorch inferred, and PyTorch's own rules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from tapeout.errors import UnsupportedOp
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.types import Dim, DimExpr, DType, TensorType, symbol

Handler = Callable[..., Any]
Number = bool | int | float
Operand = Value | DimExpr | Number
"""A tensor, a symbolic extent or a Python number: what an elementwise operation of PyTorch takes."""
OneTensor = Callable[["Lowering", Value], Value]
OneOperand = Callable[["Lowering", Operand], Value]
TwoOperands = Callable[["Lowering", Operand, Operand], Value]


@dataclass
class Lowering:
    """The state of one import; `out`, `used` and `where` belong to the operation at hand."""

    b: Builder
    run_graph: Callable[..., tuple[Any, ...]]
    """Imports a submodule in place: `run_graph(builder, graph_module, operands)` gives its flat results."""
    out: Any = None
    """`TensorType` of the result, or a tuple of them (`None` for what is no tensor)."""
    used: frozenset[int] = frozenset()
    """Which results of an operation with several are read."""
    where: str = ""
    extents: dict[Dim, Value] = field(default_factory=dict[Dim, Value])

    # ---- symbols as values

    def extent(self, dim: Dim, dtype: DType = DType.i64) -> Value:
        """A dimension as a scalar tensor: a symbol is the sum of that many ones."""
        if isinstance(dim, int):
            return self.b.scalar(dim, dtype)
        if dim not in self.extents:
            total = self.b.scalar(dim.const, DType.i64)
            for name, coef in dim.terms:
                ones = self.b.broadcast(self.b.scalar(coef, DType.i64), (symbol(name),), ())
                total = self.b.add(total, self.b.reduce("sum", ones, [0]))
            self.extents[dim] = total
        return self.b.convert(self.extents[dim], dtype)

    def index(self, value: Dim | Value) -> Value:
        """A position as a scalar i64 tensor."""
        return self.b.reshape(self.b.convert(value, DType.i64), ()) if isinstance(value, Value) else self.extent(value)

    # ---- types

    def promote(self, *operands: Operand) -> DType:
        """PyTorch's common dtype: tensors with dimensions, then scalar tensors, then numbers; a later group only
        counts if its category (bool < integer < float) is higher.
        """
        groups: list[DType | None] = [None, None, None]
        for operand in operands:
            rank, dtype = _rank_and_dtype(operand)
            group = 0 if rank else (1 if rank == 0 else 2)
            held = groups[group]
            groups[group] = dtype if held is None else _join(held, dtype)
        result: DType | None = None
        for dtype in groups:
            if dtype is not None and (result is None or _category(dtype) > _category(result)):
                result = dtype
        assert result is not None
        return result

    def cast(self, operand: Operand, dtype: DType) -> Value:
        """An operand as a tensor of `dtype`."""
        if isinstance(operand, Value):
            return self.b.convert(operand, dtype)
        if isinstance(operand, DimExpr):
            return self.extent(operand, dtype)
        return self.b.scalar(operand, dtype)

    def opmath(self, dtype: DType) -> DType:
        """The dtype that PyTorch computes in: f32 for narrower floats."""
        return DType.f32 if dtype.is_float and dtype.bytes < 4 else dtype

    def wide(self, x: Value) -> Value:
        """x in the dtype that PyTorch computes in."""
        return self.b.convert(x, self.opmath(x.type.dtype))

    def float_in(self, x: Operand) -> Value:
        """An operand of a function with a float result, in the dtype that PyTorch computes it in."""
        return self.cast(x, self.opmath(self.out.dtype))

    def narrow(self, x: Value) -> Value:
        """x rounded to the dtype of the result."""
        return self.b.convert(x, self.out.dtype)

    def exact(self, operand: Operand, dtype: DType) -> bool:
        """Whether `dtype` holds the operand without rounding."""
        if isinstance(operand, Value):
            return operand.type.dtype is dtype or not operand.type.dtype.is_float
        if isinstance(operand, DimExpr) or not dtype.is_float or np.isnan(operand):
            return True
        return float(np.asarray(operand).astype(dtype.numpy)) == operand

    def binary(self, fn: str, x: Operand, y: Operand, dtype: DType | None = None) -> Value:
        """fn(x, y) in the result's dtype; wider in between where an operand would lose digits in it."""
        kind: DType = dtype or self.out.dtype
        inner = kind if self.exact(x, kind) and self.exact(y, kind) else self.opmath(kind)
        return self.b.convert(self.b.binary(fn, self.cast(x, inner), self.cast(y, inner)), kind)

    # ---- errors and constants

    def refuse(self, what: str, action: str = "rewrite this part of the model") -> UnsupportedOp:
        """The error for what cannot be expressed."""
        return UnsupportedOp(what, self.where, action)

    def unused(self, result: int, what: str) -> None:
        """Refuses when the given result, which is not computed, is read."""
        if result in self.used:
            raise self.refuse(f"{what} cannot be computed")

    def static(self, dim: Dim, what: str) -> int:
        """A dimension that has to be a number."""
        if isinstance(dim, int):
            return dim
        raise self.refuse(f"{what} is the symbolic dimension {dim}", "export the model with this dimension fixed")

    def full(self, value: Operand, type_: TensorType) -> Value:
        """A tensor filled with one operand."""
        return self.b.broadcast(self.cast(value, type_.dtype), type_.shape, ())


def _rank_and_dtype(operand: Operand) -> tuple[int, DType]:
    """Rank (-1 for a number) and dtype as PyTorch sees them in a promotion."""
    if isinstance(operand, Value):
        return operand.type.rank, operand.type.dtype
    if isinstance(operand, bool):
        return -1, DType.b1
    return -1, DType.f32 if isinstance(operand, float) else DType.i64


def _category(dtype: DType) -> int:
    return 2 if dtype.is_float else int(dtype is not DType.b1)


def _join(a: DType, b: DType) -> DType:
    """Smallest dtype of PyTorch's lattice that both convert to."""
    if a is b:
        return a
    if _category(a) != _category(b):
        return a if _category(a) > _category(b) else b
    if a.bytes == b.bytes and a.is_float:
        return DType.f32
    if a.is_float or a.is_signed == b.is_signed:
        return a if a.bytes >= b.bytes else b
    signed, other = (a, b) if a.is_signed else (b, a)
    return signed if signed.bytes > other.bytes else {1: DType.i16, 2: DType.i32}.get(other.bytes, DType.i64)


def axes_of(rank: int, dim: int | Sequence[int] | None) -> tuple[int, ...]:
    """PyTorch's `dim` argument as axes counted from the front; nothing or an empty list means all."""
    if dim is None or (not isinstance(dim, int) and not dim):
        return tuple(range(rank))
    return tuple(d % rank if rank else 0 for d in ([dim] if isinstance(dim, int) else dim))[: max(rank, 0) or None]


def per_axis(value: int | Sequence[int], count: int) -> tuple[int, ...]:
    """An argument that may be one number for all spatial dimensions."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def moved(rank: int, source: int, target: int) -> tuple[int, ...]:
    """The permutation that moves one dimension to another place."""
    order = [i for i in range(rank) if i != source]
    order.insert(target, source)
    return tuple(order)


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def tensor_to_numpy(tensor: Any) -> np.ndarray:
    """The memory of a torch tensor as an array, shared where it lies on the CPU."""
    torch: Any = importlib.import_module("torch")
    tensor = tensor.detach()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    tensor = tensor.resolve_neg().resolve_conj()
    raw = _RAW.get(str(tensor.dtype))
    if raw is None:
        return np.asarray(tensor.numpy())
    carrier, dtype = raw
    return np.asarray(tensor.view(getattr(torch, carrier)).numpy()).view(dtype)


_RAW: Mapping[str, tuple[str, Any]] = {
    "torch.bfloat16": ("int16", ml_dtypes.bfloat16),
    "torch.float8_e4m3fn": ("uint8", ml_dtypes.float8_e4m3fn),
    "torch.float8_e5m2": ("uint8", ml_dtypes.float8_e5m2),
}

DTYPES: Mapping[str, DType] = {
    "torch.float64": DType.f64, "torch.float32": DType.f32, "torch.float16": DType.f16, "torch.bfloat16": DType.bf16,
    "torch.float8_e4m3fn": DType.f8e4m3, "torch.float8_e5m2": DType.f8e5m2, "torch.int64": DType.i64,
    "torch.int32": DType.i32, "torch.int16": DType.i16, "torch.int8": DType.i8, "torch.uint64": DType.u64,
    "torch.uint32": DType.u32, "torch.uint16": DType.u16, "torch.uint8": DType.u8, "torch.bool": DType.b1,
}  # fmt: skip


def numpy_to_tensor(array: np.ndarray) -> Any:
    """A torch tensor with a copy of an array."""
    torch: Any = importlib.import_module("torch")
    for name, (carrier, dtype) in _RAW.items():
        if array.dtype == dtype:
            bits = torch.from_numpy(np.array(array.view(carrier)))
            return bits.view(getattr(torch, name.removeprefix("torch.")))
    return torch.from_numpy(np.array(array))
