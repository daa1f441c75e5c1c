"""The graph IR: a typed, flat, single-assignment list of primitive tensor operations.

Every op is one frozen dataclass; `Op` is their closed union, so a `match` over it that ends in `assert_never` is
checked for completeness. Operands are the fields that hold a `Value` or a tuple of them; `outs` are the results. The
docstring of an op is its formula. Tensors are logical: which dimension lies innermost in memory is decided by the
compiler's layout pass and never here.

State is explicit: a `State` names the value that enters a run and the value that replaces it afterwards. Control
flow is ops with closed regions (everything a region reads is a parameter). Random numbers are counter-based.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np

from tapeout.ir.types import DType, Symbol, TensorType

UNARY = (
    "neg abs sign floor ceil round exp log sqrt rsqrt sin cos tanh erf not".split()
)  # fmt: skip
BINARY = "add sub mul div rem pow max min and or xor shl shr atan2".split()
COMPARE = "eq ne lt le gt ge".split()
REDUCE = "sum prod max min and or".split()


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor of a graph. Identity is what counts; `name` is unique within a graph."""

    name: str
    type: TensorType

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OpBase:
    outs: tuple[Value, ...] = ()
    source: str = ""
    """Name of the operation in the source model that this op came from."""

    @property
    def out(self) -> Value:
        """The only result."""
        return self.outs[0]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A closed list of ops: reads its `params` only."""

    params: tuple[Value, ...]
    ops: tuple[Op, ...]
    results: tuple[Value, ...]


# ---- sources


@dataclass(frozen=True, slots=True, eq=False)
class Constant(OpBase):
    """out = data. The array is shared, never copied or written."""

    data: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Iota(OpBase):
    """out[i0, i1, ...] = i_axis, of the given type."""

    type: TensorType
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class RandomBits(OpBase):
    """out u32 = Philox4x32-10 with key u32[2], offset u64[]; element e is word `e % 4` of block `offset + e // 4`."""

    key: Value
    offset: Value
    type: TensorType


# ---- element by element; operand shapes are equal (broadcasts are explicit)


@dataclass(frozen=True, slots=True, eq=False)
class Unary(OpBase):
    """out = fn(x), fn one of `UNARY`; round is to nearest even; sign keeps NaN; `not` is bitwise (logical on b1)."""

    fn: str
    x: Value


@dataclass(frozen=True, slots=True, eq=False)
class Binary(OpBase):
    """out = fn(x, y), fn one of `BINARY`.

    Integers wrap; their `div` truncates toward zero and `rem` has the sign of x, as in C; both are 0 for y = 0. Integer
    `pow` with a negative exponent truncates 1 / x^|y|. Shifts by all bits or more leave 0 (shr: the sign). max and min
    propagate NaN. b1 has and, or, xor, max and min only.
    """

    fn: str
    x: Value
    y: Value


@dataclass(frozen=True, slots=True, eq=False)
class Compare(OpBase):
    """out b1 = x fn y, fn one of `COMPARE`; every comparison with NaN but `ne` is false."""

    fn: str
    x: Value
    y: Value


@dataclass(frozen=True, slots=True, eq=False)
class Select(OpBase):
    """out = x where cond else y; cond is b1."""

    cond: Value
    x: Value
    y: Value


@dataclass(frozen=True, slots=True, eq=False)
class Convert(OpBase):
    """out = x in another type, rounded to nearest even; b1 is x != 0.

    Float to integer truncates and saturates (NaN gives 0), integer to integer wraps.
    """

    x: Value
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class Bitcast(OpBase):
    """out = the bytes of x read as another type of the same size."""

    x: Value
    dtype: DType


# ---- reductions and contractions


@dataclass(frozen=True, slots=True, eq=False)
class Reduce(OpBase):
    """out = fn of x over `axes` (removed), fn one of `REDUCE`; narrower floats than f32 are combined in f32."""

    fn: str
    x: Value
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ArgReduce(OpBase):
    """out i64 = index of the first maximum ("max") or minimum ("min") of x along `axis` (removed); NaN comes first."""

    fn: str
    x: Value
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Cumulate(OpBase):
    """out[.., i, ..] = fn(x[.., 0..i, ..]) along `axis`, fn sum, prod, max or min; exclusive leaves out i itself."""

    fn: str
    x: Value
    axis: int
    exclusive: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Dot(OpBase):
    """out[batch, m.., n..] = sum over the contracted dimensions of lhs * rhs, accumulated in f32 (i32 for integers).

    `lhs_batch[i]` pairs with `rhs_batch[i]`, `lhs_contract[i]` with `rhs_contract[i]`; free dimensions keep their
    order. Operands of 64 bits accumulate in f64 or i64; integer sums wrap.
    """

    lhs: Value
    rhs: Value
    lhs_contract: tuple[int, ...]
    rhs_contract: tuple[int, ...]
    lhs_batch: tuple[int, ...]
    rhs_batch: tuple[int, ...]
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class Conv(OpBase):
    """out[n, o, p..] = sum_{c,k..} x[n, g*C + c, p*stride + k*dilation - lo] * w[o, c, k..], g = o // (O / groups).

    x[n, groups*C, spatial..], w[O, C, k..]; `pads` is (lo, hi) per spatial dimension, zeros outside; `x_dilation` puts
    that many minus one zeros between elements of x first (transposed convolution). Accumulates as `Dot` does.
    """

    x: Value
    w: Value
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    x_dilation: tuple[int, ...]
    groups: int
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class Pool(OpBase):
    """out[.., p..] = fn over the window of x[.., p*stride + k*dilation - lo], fn max, min or sum; the identity outside.

    Windows cover the last `len(window)` dimensions.
    """

    fn: str
    x: Value
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


# ---- movement


@dataclass(frozen=True, slots=True, eq=False)
class Reshape(OpBase):
    """out = the elements of x in row-major order under another shape."""

    x: Value
    shape: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Transpose(OpBase):
    """out dimension i is x dimension perm[i]."""

    x: Value
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Broadcast(OpBase):
    """out[i..] = x[i[dims[0]], i[dims[1]], ..]: x dimension d is out dimension dims[d] (or 1); the rest repeat."""

    x: Value
    shape: tuple[Any, ...]
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Slice(OpBase):
    """out[i..] = x[start + i*step ..], `sizes[d]` elements of each dimension; a step may be negative."""

    x: Value
    starts: tuple[Any, ...]
    sizes: tuple[Any, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pad(OpBase):
    """out = x with `lo` and `hi` elements of `value` (a scalar tensor) before and after; negative amounts crop."""

    x: Value
    value: Value
    lo: tuple[int, ...]
    hi: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Concat(OpBase):
    """out = xs one after the other along `axis`."""

    xs: tuple[Value, ...]
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Gather(OpBase):
    """out[b.., i.., rest] = x[b.., indices[b.., i..], rest] along `axis` with the first `batch` dimensions shared.

    Negative indices count from the end; an index out of range reads zero.
    """

    x: Value
    indices: Value
    axis: int
    batch: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Scatter(OpBase):
    """out = x, then out[.., indices[i..], ..] = fn(old, updates[.., i.., ..]) along `axis`, in order of i.

    fn is set, add, mul, max or min; `updates` has the shape that `Gather(x, indices, axis)` would give; an index out of
    range is dropped.
    """

    fn: str
    x: Value
    indices: Value
    updates: Value
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class DynamicSlice(OpBase):
    """out = the box of `sizes` of x that begins at the scalar `starts`, moved so that it lies inside."""

    x: Value
    starts: tuple[Value, ...]
    sizes: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DynamicUpdate(OpBase):
    """out = x with the box that begins at the scalar `starts` (moved so that it lies inside) replaced by `update`."""

    x: Value
    update: Value
    starts: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sort(OpBase):
    """outs = (x sorted along `axis`, its original positions i64); stable; NaN counts as the largest."""

    x: Value
    axis: int
    descending: bool = False


# ---- control flow and the host


@dataclass(frozen=True, slots=True, eq=False)
class If(OpBase):
    """outs = then(operands) where the scalar cond b1 holds, else orelse(operands)."""

    cond: Value
    operands: tuple[Value, ...]
    then: Region
    orelse: Region


@dataclass(frozen=True, slots=True, eq=False)
class While(OpBase):
    """carry = operands; as long as cond(carry) (a scalar b1): carry = body(carry); outs = carry."""

    operands: tuple[Value, ...]
    cond: Region
    body: Region


@dataclass(frozen=True, slots=True, eq=False)
class Scan(OpBase):
    """carry = carries; for i in 0..length: carry, y[i] = body(carry, xs[i]); outs = carry + ys stacked in dimension 0.

    `reverse` walks i downwards (ys keep their places).
    """

    carries: tuple[Value, ...]
    xs: tuple[Value, ...]
    body: Region
    length: int
    reverse: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class HostCall(OpBase):
    """outs = fn(operands), a NumPy function that runs on the host and is always listed in the report."""

    kind: str
    operands: tuple[Value, ...]
    types: tuple[TensorType, ...]
    fn: Callable[..., tuple[np.ndarray, ...]] = field(repr=False)


Op = (
    Constant | Iota | RandomBits | Unary | Binary | Compare | Select | Convert | Bitcast | Reduce | ArgReduce | Cumulate
    | Dot | Conv | Pool | Reshape | Transpose | Broadcast | Slice | Pad | Concat | Gather | Scatter | DynamicSlice
    | DynamicUpdate | Sort | If | While | Scan | HostCall
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A tensor that outlives a run: `entry` is its value before, `exit` after, in the same memory."""

    name: str
    entry: Value
    exit: Value
    initial: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A model: ops in an order that defines every value before it is used."""

    name: str
    symbols: tuple[Symbol, ...]
    inputs: tuple[Value, ...]
    states: tuple[State, ...]
    ops: tuple[Op, ...]
    outputs: tuple[tuple[str, Value], ...]

    @property
    def entries(self) -> tuple[Value, ...]:
        """Values defined from outside: inputs, then states."""
        return self.inputs + tuple(s.entry for s in self.states)

    @property
    def exits(self) -> tuple[Value, ...]:
        """Values that must survive: outputs, then states."""
        return tuple(v for _, v in self.outputs) + tuple(s.exit for s in self.states)


@cache
def op_fields(kind: type[OpBase]) -> tuple[str, ...]:
    """Names of the fields of an op kind in declaration order, without `outs` and `source`."""
    return tuple(f.name for f in dataclasses.fields(kind) if f.name not in ("outs", "source"))


def operands(op: Op) -> tuple[Value, ...]:
    """Every value that `op` reads, in field order."""
    found: list[Value] = []
    for name in op_fields(type(op)):
        held = getattr(op, name)
        if isinstance(held, Value):
            found.append(held)
        elif isinstance(held, tuple) and held and isinstance(held[0], Value):
            found.extend(held)  # pyright: ignore[reportUnknownArgumentType] a tuple field is homogeneous
    return tuple(found)


def substitute(op: Op, mapping: Mapping[Value, Value]) -> Op:
    """`op` with its operands replaced where `mapping` says so (the same object when nothing changes)."""
    changes: dict[str, Any] = {}
    for name in op_fields(type(op)):
        held = getattr(op, name)
        if isinstance(held, Value) and held in mapping:
            changes[name] = mapping[held]
        elif isinstance(held, tuple) and held and isinstance(held[0], Value):
            renamed = tuple(mapping.get(v, v) for v in cast("tuple[Value, ...]", held))
            if renamed != held:
                changes[name] = renamed
    return dataclasses.replace(op, **changes) if changes else op


def regions(op: Op) -> tuple[Region, ...]:
    """The regions of a control-flow op, in field order."""
    match op:
        case If():
            return (op.then, op.orelse)
        case While():
            return (op.cond, op.body)
        case Scan():
            return (op.body,)
        case _:
            return ()


def users(graph: Graph) -> dict[Value, list[Op]]:
    """The ops that read each value."""
    table: dict[Value, list[Op]] = {}
    for op in graph.ops:
        for value in operands(op):
            table.setdefault(value, []).append(op)
    return table


def drop_dead(graph: Graph) -> Graph:
    """Without ops whose results nobody reads."""
    live = set(graph.exits)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if any(out in live for out in op.outs):
            kept.append(op)
            live.update(operands(op))
    return dataclasses.replace(graph, ops=tuple(reversed(kept)))


def walk(ops: tuple[Op, ...]) -> Iterator[Op]:
    """All ops, those inside regions too, outer before inner."""
    for op in ops:
        yield op
        for region in regions(op):
            yield from walk(region.ops)
