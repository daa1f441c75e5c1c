"""What every command does, in plain NumPy on plain bytes: slow, short, and the judge of the native executor.

A `Bytes` holds the memories that one command can reach. One function per command; each reads everything first and
writes afterwards. Only transcendental functions (and the fast mode of the native matrix product) may differ from this
page, by the last place; everything else is bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.ir.types import DType
from tapeout.isa.commands import (
    AnyCommand,
    Copy,
    Drain,
    Load,
    MatMul,
    Nop,
    Store,
    Vector,
)
from tapeout.isa.operands import Immediate, Source, Tensor, View

Array = np.ndarray[Any, Any]
COMPUTE: dict[str, Any] = {"f32": np.float32, "i32": np.int32, "i64": np.int64}
PARTIALS = 16


@dataclass(frozen=True, slots=True)
class Bytes:
    """`local[core of the cluster][memory]` and `spaces[tensor space]` as arrays of u8; `core` runs the command."""

    tensors: Sequence[Tensor]
    local: list[dict[int, Array]]
    spaces: dict[int, Array]
    slots: Sequence[int] = (0,)
    core: int = 0
    chip: Chip | None = field(default=None)

    @property
    def own(self) -> dict[int, Array]:
        return self.local[self.core]


# ---- elements


def addresses(base: int, extents: Sequence[int], strides: Sequence[int]) -> Array:
    """Byte address of every element of a box."""
    grid = np.full(tuple(extents), base, np.int64)
    for axis, stride in enumerate(strides):
        shape = [1] * len(extents)
        shape[axis] = extents[axis]
        grid = grid + (np.arange(extents[axis]) * stride).reshape(shape)
    return grid


def peek(memory: Array, where: Array, dtype: DType) -> Array:
    raw = memory[where[..., None] + np.arange(dtype.bytes)]
    return np.ascontiguousarray(raw).view(dtype.numpy)[..., 0]


def poke(memory: Array, where: Array, values: Array) -> None:
    raw, at = np.ascontiguousarray(values).reshape(-1, 1).view(np.uint8), where.reshape(-1)
    size = raw.shape[1]
    ordered = np.sort(at)
    gaps: Any = ordered[1:] - ordered[:-1]
    if np.all(gaps >= size):
        memory[at[:, None] + np.arange(size)] = raw
        return
    for address, element in zip(at, raw, strict=True):  # in row-major order: the last one stays
        memory[address : address + size] = element


def read(m: Bytes, source: Source, dims: Sequence[int]) -> Array:
    """The elements of an operand, in its own element type."""
    if isinstance(source, Immediate):
        number = convert(np.asarray(source.value, np.float64), source.dtype)
        return np.broadcast_to(number, tuple(dims))
    return peek(m.own[source.memory], addresses(source.base.value(m.slots), dims, source.strides), source.dtype)


def write(m: Bytes, view: View, dims: Sequence[int], values: Array) -> None:
    poke(m.own[view.memory], addresses(view.base.value(m.slots), dims, view.strides), values)


def convert(values: Array, dtype: DType) -> Array:
    """To nearest even; float to integer truncates and saturates, NaN gives 0; integers wrap; b1 is `!= 0`."""
    from_float = DType.of(values.dtype).is_float
    if dtype is DType.b1:
        return values != 0
    if dtype.is_float:
        small = dtype.bytes < 4
        if small and not (from_float and values.dtype.itemsize <= 4):
            values = values.astype(np.float64 if from_float else np.float32)
        return values.astype(dtype.numpy)
    if not from_float:
        return values.astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    wide = values.astype(np.float64)
    whole = np.trunc(np.nan_to_num(wide, nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.clip(
        whole, float(info.min), np.nextafter(float(info.max) + 1, 0) if dtype.bytes == 8 else float(info.max)
    )
    result = inside.astype(dtype.numpy)
    return np.where(whole >= float(info.max), np.asarray(info.max, dtype.numpy), result)


def to_compute(values: Array, compute: str) -> Array:
    """An operand in the compute type."""
    return convert(values, DType.of(COMPUTE[compute]))


# ---- moves


def _coordinates(m: Bytes, c: Load | Store) -> list[Array]:
    """Coordinates of the box along each dimension of the tensor."""
    axes = [o.value(m.slots) + np.arange(n) for o, n in zip(c.origin, c.extents, strict=True)]
    if c.index is not None:
        dim, view = c.index.dim, c.index.list
        base, count = view.base.value(m.slots), c.extents[c.index.dim]
        listed = peek(m.own[view.memory], base + np.arange(count) * view.dtype.bytes, view.dtype)
        axes[dim] = c.origin[dim].value(m.slots) + listed.astype(np.int64)
    return axes


def _remote(m: Bytes, c: Load | Store) -> tuple[Tensor, Array, Array]:
    """The tensor, the byte address of every element of the box, and which of them lie inside the tensor."""
    tensor = m.tensors[c.tensor]
    where = np.full(c.extents, tensor.base + c.offset.value(m.slots), np.int64)
    inside = np.ones(c.extents, bool)
    for axis, along in enumerate(_coordinates(m, c)):
        shape = [1] * len(c.extents)
        shape[axis] = -1
        where = where + (along * tensor.strides[axis]).reshape(shape)
        inside = inside & ((along >= 0) & (along < tensor.extents[axis])).reshape(shape)
    return tensor, where, inside


def load(m: Bytes, c: Load) -> None:
    tensor, where, inside = _remote(m, c)
    values = np.empty(c.extents, tensor.dtype.numpy)
    values[...] = convert(np.asarray(tensor.fill, np.float64), tensor.dtype)
    values[inside] = peek(m.spaces[tensor.space], where[inside], tensor.dtype)
    local = addresses(c.local.base.value(m.slots), c.extents, c.local.strides)
    for core in m.local if c.multicast else [m.own]:
        poke(core[c.local.memory], local, values)


def store(m: Bytes, c: Store) -> None:
    tensor, where, inside = _remote(m, c)
    local = addresses(c.local.base.value(m.slots), c.extents, c.local.strides)
    values = peek(m.own[c.local.memory], local, tensor.dtype)
    if c.index is None and not c.add:
        poke(m.spaces[tensor.space], where[inside], values[inside])
        return
    if c.index is not None:  # row after row, so that a row named twice is stored or added twice in turn
        where, inside, values = (np.moveaxis(x, c.index.dim, 0) for x in (where, inside, values))
    for address, held, value in zip(where.reshape(-1), inside.reshape(-1), values.reshape(-1), strict=True):
        if not held:
            continue
        at, new = np.asarray(address), np.asarray(value)
        if c.add:
            new = _added(peek(m.spaces[tensor.space], at, tensor.dtype), new, tensor.dtype)
        poke(m.spaces[tensor.space], at, new)


def _added(old: Array, new: Array, dtype: DType) -> Array:
    wide: Any = np.int64
    if dtype.is_float:
        wide = np.float64 if dtype is DType.f64 else np.float32
    return convert(np.asarray(old.astype(wide) + new.astype(wide)), dtype)


def copy(m: Bytes, c: Copy) -> None:
    write(m, c.dst, c.dims, read(m, c.src, c.dims))


def drain(m: Bytes, c: Drain) -> None:
    acc = to_compute(read(m, c.acc, c.dims), "f32")
    scale, bias = to_compute(read(m, c.scale, c.dims), "f32"), to_compute(read(m, c.bias, c.dims), "f32")
    lo, hi = np.float32(c.lo), np.float32(c.hi)
    y = acc * scale + bias
    y = np.where(y < lo, lo, y)
    y = np.where(y > hi, hi, y)
    dtype = c.dst.dtype
    if not dtype.is_float and dtype is not DType.b1:
        rounded = np.nan_to_num(np.rint(y.astype(np.float64)), nan=0.0, posinf=math.inf, neginf=-math.inf)
        shifted = [_shifted(float(x), c.zero, dtype) for x in rounded.reshape(-1)]
        y = np.asarray(shifted, dtype.numpy).reshape(c.dims)
    write(m, c.dst, c.dims, convert(y, dtype))


def _shifted(x: float, zero: int, dtype: DType) -> int:
    info = np.iinfo(dtype.numpy)
    if math.isinf(x):
        return int(info.max if x > 0 else info.min)
    return min(max(int(x) + zero, int(info.min)), int(info.max))


# ---- matrix


def tree_sum(terms: Array) -> Array:
    """Balanced sum along axis 0: neighbours first, an odd one goes up alone."""
    while len(terms) > 1:
        pairs = terms[: len(terms) // 2 * 2]
        terms = np.concatenate([pairs[0::2] + pairs[1::2], terms[len(pairs) :]])
    return terms[0]


def matmul(m: Bytes, c: MatMul) -> None:
    rows, depth = math.prod(c.m), math.prod(c.k)
    a = read(m, c.a, (*c.m, *c.k)).reshape(rows, depth)
    b = read(m, c.b, (*c.k, c.n)).reshape(depth, c.n)
    kind = "f32" if c.a.dtype.is_float else "i32"
    total = np.zeros((rows, c.n), COMPUTE[kind])
    if c.accumulate.value(m.slots):
        total = to_compute(read(m, c.c, (*c.m, c.n)), kind).reshape(rows, c.n)
    a, b = to_compute(a, kind), to_compute(b, kind)
    assert m.chip is not None
    group = m.chip.matrix.geometry_of(c.a.dtype.value, c.b.dtype.value).k0
    for k in range(0, depth, group):
        total = total + tree_sum(a.T[k : k + group, :, None] * b[k : k + group, None, :])
    write(m, c.c, (*c.m, c.n), total.reshape(*c.m, c.n))


# ---- vector: elementwise


def _is_nan(a: Array) -> Array:
    return np.isnan(a) if a.dtype == np.float32 else np.zeros(a.shape, bool)


def _larger(a: Array, b: Array) -> Array:
    return np.where((a > b) | _is_nan(a), a, b)


def _smaller(a: Array, b: Array) -> Array:
    return np.where((a < b) | _is_nan(a), a, b)


def _integer_pow(a: Array, b: Array) -> Array:
    bits = 8 * a.dtype.itemsize

    def one(x: int, y: int) -> int:
        if y < 0:
            return 0 if abs(x) != 1 else (x if y % 2 else 1)
        value = int(pow(x, y, 1 << bits))  # pyright: ignore[reportUnknownArgumentType] its stub cannot say
        return value - (1 << bits) if value >> (bits - 1) else value

    return np.asarray([one(int(x), int(y)) for x, y in zip(a.flat, b.flat, strict=True)], a.dtype).reshape(a.shape)


def _divide(a: Array, b: Array) -> Array:
    """Integers: toward zero; 0 where b is 0; the smallest number by -1 wraps."""
    safe = np.where((b == 0) | (b == -1), 1, b)
    quotient = (a // safe) + ((a % safe != 0) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, 0, np.where(b == -1, -a, quotient)).astype(a.dtype)


def _shift(a: Array, b: Array, op: str, logical: bool) -> Array:
    """Shift counts outside of the word shift everything out."""
    bits = 8 * a.dtype.itemsize
    fits = (b >= 0) & (b < bits)
    by = np.where(fits, b, 0)
    if op == "shl":
        return np.where(fits, a << by, 0).astype(a.dtype)
    if logical:
        unsigned = np.dtype(f"u{a.dtype.itemsize}")
        return np.where(fits, (a.view(unsigned) >> by.astype(unsigned)).view(a.dtype), 0).astype(a.dtype)
    return a >> np.where(fits, b, bits - 1)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _on_both(op: str, a: Array, b: Array, c: Array) -> Array | None:
    """What floats and integers do alike, or None."""
    match op:
        case "copy":
            return a
        case "max":
            return _larger(a, b)
        case "min":
            return _smaller(a, b)
        case "clamp":
            return _smaller(_larger(a, b), c)
        case "select":
            return np.where(a != 0, b, c)
        case "eq":
            return a == b
        case "ne":
            return a != b
        case "lt":
            return a < b
        case "le":
            return a <= b
        case "gt":
            return a > b
        case "ge":
            return a >= b
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "neg":
            return -a
        case "abs":
            return np.abs(a)
        case _:
            return None


def _on_floats(op: str, a: Array, b: Array, c: Array) -> Array:
    x, y = a.astype(np.float64), b.astype(np.float64)  # functions are evaluated in f64, then rounded
    match op:
        case "sign":
            return np.where(np.isnan(a), a, (a > 0).astype(np.float32) - (a < 0).astype(np.float32))
        case "floor":
            return np.floor(a)
        case "ceil":
            return np.ceil(a)
        case "round":
            return np.rint(a)
        case "sqrt":
            return np.sqrt(a)
        case "rsqrt":
            return 1 / np.sqrt(x)
        case "exp":
            return np.exp(x)
        case "log":
            return np.log(x)
        case "sin":
            return np.sin(x)
        case "cos":
            return np.cos(x)
        case "tanh":
            return np.tanh(x)
        case "erf":
            return _erf(x)
        case "pow":
            return np.power(x, y)
        case "atan2":
            return np.arctan2(x, y)
        case "div":
            return a / b
        case "rem":
            return np.fmod(a, b)
        case "fma":
            return _fused(a, b, c)
        case "not":
            return a == 0
        case "and":
            return (a != 0) & (b != 0)
        case "or":
            return (a != 0) | (b != 0)
        case "xor":
            return (a != 0) ^ (b != 0)
        case _:
            raise ValueError(f"{op} has no f32 form")


def _on_integers(op: str, a: Array, b: Array, c: Array) -> Array:
    match op:
        case "floor" | "ceil" | "round":
            return a
        case "sign":
            return np.sign(a)
        case "not":
            return ~a
        case "and":
            return a & b
        case "or":
            return a | b
        case "xor":
            return a ^ b
        case "div":
            return _divide(a, b)
        case "rem":
            return np.where((b == 0) | (b == -1), 0, np.fmod(a, np.where(b == 0, 1, b)))
        case "pow":
            return _integer_pow(a, b)
        case "fma":
            return a * b + c
        case _:
            raise ValueError(f"{op} has no integer form")


def _fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c with one rounding: the f64 sum of the exact product is corrected to round to odd before the f32 one."""
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    inexact = np.isfinite(total) & (error != 0) & ((total.view(np.int64) & 1) == 0)
    away = (error > 0) == (total > 0)
    bits = total.view(np.int64) + np.where(inexact, np.where(away, 1, -1), 0)
    return bits.view(np.float64).astype(np.float32)


def elementwise(op: str, compute: str, sources: Sequence[Array], logical_not: bool, logical_shift: bool) -> Array:
    kind = COMPUTE[compute]
    if op in ("shl", "shr"):
        return _shift(sources[0], sources[1], op, logical_shift)
    if op == "not" and logical_not:
        return (sources[0] == 0).astype(kind)
    a, b, c = (*sources, sources[0], sources[0])[:3]
    result = _on_both(op, a, b, c)
    if result is None:
        result = _on_floats(op, a, b, c) if compute == "f32" else _on_integers(op, a, b, c)
    return np.asarray(result).astype(kind)


# ---- vector: reductions, scans, sources


def _fold(op: str, a: Array, b: Array) -> Array:
    """One step of a reduction or scan."""
    logical = a.dtype == np.float32
    match op:
        case "sum":
            return a + b
        case "prod":
            return a * b
        case "max":
            return _larger(a, b)
        case "min":
            return _smaller(a, b)
        case "and":
            return ((a != 0) & (b != 0)).astype(a.dtype) if logical else a & b
        case _:
            return ((a != 0) | (b != 0)).astype(a.dtype) if logical else a | b


def _identity(op: str, kind: Any) -> Array:
    floats = kind is np.float32
    match op:
        case "prod":
            value: Any = 1
        case "max":
            value = -math.inf if floats else np.iinfo(kind).min
        case "min":
            value = math.inf if floats else np.iinfo(kind).max
        case "and":
            value = 1 if floats else -1
        case _:
            value = 0
    return np.asarray(value, kind)


def reduce(op: str, x: Array) -> Array:
    """Over the last axis: element e goes to partial e % 16, then a balanced tree over the partials."""
    partials = np.broadcast_to(_identity(op, x.dtype.type), (PARTIALS, *x.shape[:-1])).copy()
    for e in range(x.shape[-1]):
        partials[e % PARTIALS] = _fold(op, partials[e % PARTIALS], x[..., e])
    while len(partials) > 1:
        partials = _fold(op, partials[0::2], partials[1::2])
    return partials[0]


def scan(op: str, x: Array) -> Array:
    out = x.copy()
    for i in range(1, x.shape[-1] if x.ndim else 1):
        out[..., i] = _fold(op, out[..., i - 1], x[..., i])
    return out


def arg_extreme(op: str, x: Array) -> Array:
    """Index of the first largest (smallest) along the last axis; the first NaN wins."""
    if x.dtype == np.float32:  # in f64 there is room beyond the infinities of f32
        wide = np.clip(x.astype(np.float64), -1e100, 1e100)
        x = np.where(np.isnan(wide), 1e200 if op == "max" else -1e200, wide)
    return np.argmax(x, -1) if op == "max" else np.argmin(x, -1)


def philox(key: Array, index: Array) -> Array:
    """Word `index` of the stream of Philox4x32-10 (Salmon et al., SC 2011): word index % 4 of block index // 4."""
    mask = 0xFFFFFFFF

    def word(i: int) -> int:
        block = i // 4
        x = [block & mask, block >> 32 & mask, 0, 0]
        k0, k1 = int(key[0]), int(key[1])
        for _ in range(10):
            a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
            x = [(b >> 32) ^ x[1] ^ k0, b & mask, (a >> 32) ^ x[3] ^ k1, a & mask]
            k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
        return x[i % 4]

    return np.asarray([word(int(i) & 0xFFFFFFFFFFFFFFFF) for i in index.flat], np.int64).reshape(index.shape)


def _sort(m: Bytes, c: Vector) -> None:
    keys = to_compute(read(m, c.srcs[0], c.dims), c.compute)
    keys = keys.reshape(-1, keys.shape[-1] if keys.ndim else 1)
    order = np.stack([np.argsort(row, kind="stable") for row in keys]) if keys.size else keys.astype(np.int64)
    write(m, c.dst, c.dims, convert(np.take_along_axis(keys, order, -1).reshape(c.dims), c.dst.dtype))
    if len(c.srcs) > 1 and isinstance(c.srcs[1], View):
        moved = read(m, c.srcs[1], c.dims).reshape(keys.shape)
        write(m, c.srcs[1], c.dims, np.take_along_axis(moved, order, -1).reshape(c.dims))


def _reduction(m: Bytes, c: Vector, x: Array) -> None:
    kept = c.dims[: len(c.dims) - c.reduced]
    flat = x.reshape(*kept, math.prod(c.dims[len(kept) :]))
    dst = View(c.dst.memory, c.dst.base, c.dst.strides[: len(kept)], c.dst.dtype)
    kind, op = c.op.split("_")
    if kind == "arg":
        write(m, dst, kept, convert(arg_extreme(op, flat).astype(np.int64), dst.dtype))
        return
    total = reduce(op, flat)
    if c.accumulate.value(m.slots):
        total = _fold(op, to_compute(read(m, dst, kept), c.compute), total)
    write(m, dst, kept, convert(np.asarray(total), dst.dtype))


def vector(m: Bytes, c: Vector) -> None:
    if c.op == "sort":
        _sort(m, c)
        return
    if c.op == "philox":
        assert isinstance(c.srcs[0], View)
        key = peek(m.own[c.srcs[0].memory], c.srcs[0].base.value(m.slots) + np.arange(2) * 4, DType.u32)
        index = to_compute(read(m, c.srcs[1], c.dims), "i64") + np.arange(math.prod(c.dims)).reshape(c.dims)
        write(m, c.dst, c.dims, convert(philox(key, index), c.dst.dtype))
        return
    sources = [to_compute(read(m, s, c.dims), c.compute) for s in c.srcs]
    if c.op.startswith(("reduce_", "arg_")):
        _reduction(m, c, sources[0])
        return
    if c.op.startswith("scan_"):
        result = scan(c.op.removeprefix("scan_"), sources[0])
    elif c.op == "iota":
        steps = np.broadcast_to(np.arange(c.dims[-1] if c.dims else 1), c.dims or (1,)).reshape(c.dims)
        result = sources[0] + to_compute(steps.astype(np.int64), c.compute) * sources[1]
    else:
        unsigned = c.srcs[0].dtype.value.startswith("u") or c.srcs[0].dtype is DType.b1
        result = elementwise(c.op, c.compute, sources, c.dst.dtype is DType.b1, unsigned)
    write(m, c.dst, c.dims, convert(result, c.dst.dtype))


def execute(m: Bytes, command: AnyCommand) -> None:
    """Runs one command; semaphores are no matter of single commands."""
    with np.errstate(all="ignore"):  # infinities and NaN are values like others here
        _execute(m, command)


def _execute(m: Bytes, command: AnyCommand) -> None:
    match command:
        case Load():
            load(m, command)
        case Store():
            store(m, command)
        case Copy():
            copy(m, command)
        case Drain():
            drain(m, command)
        case MatMul():
            matmul(m, command)
        case Vector():
            vector(m, command)
        case Nop():
            pass
