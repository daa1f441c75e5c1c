"""Builds graphs: one method per op, types inferred, plus the few compositions that every front end needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tapeout.errors import VerifyError
from tapeout.ir import graph as g
from tapeout.ir.infer import infer, slice_size
from tapeout.ir.types import Dim, DType, Shape, Symbol, TensorType, dim_sub, product


class Builder:
    """Appends ops to a graph under construction. `source` is stamped on every op until it is changed."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.source = ""
        self._ops: list[g.Op] = []
        self._inputs: list[g.Value] = []
        self._states: list[g.State] = []
        self._symbols: dict[str, Symbol] = {}
        self._outputs: list[tuple[str, g.Value]] = []
        self._taken: set[str] = set()

    # ---- structure

    def symbol(self, name: str, lo: int, hi: int) -> None:
        """Declares the bounds of a symbol."""
        self._symbols[name] = Symbol(name, lo, hi)

    def _fresh(self, name: str, type_: TensorType) -> g.Value:
        unique, n = name, 0
        while unique in self._taken:
            n += 1
            unique = f"{name}.{n}"
        self._taken.add(unique)
        return g.Value(unique, type_)

    def input(self, name: str, type_: TensorType) -> g.Value:
        """A new input; inputs keep the order of these calls."""
        value = self._fresh(name, type_)
        self._inputs.append(value)
        return value

    def state(self, name: str, initial: np.ndarray) -> g.Value:
        """A new state with its initial contents; `set_state` later names the value that replaces it."""
        value = self._fresh(name, TensorType(DType.of(initial.dtype), tuple(initial.shape)))
        self._states.append(g.State(name, value, value, initial))
        return value

    def set_state(self, name: str, value: g.Value) -> None:
        """`value` is what the state holds after the run."""
        self._states = [dataclasses.replace(s, exit=value) if s.name == name else s for s in self._states]

    def output(self, name: str, value: g.Value) -> None:
        """Names an output; outputs keep the order of these calls."""
        self._outputs.append((name, value))

    def finish(self) -> g.Graph:
        """The graph built so far."""
        return g.Graph(
            self.name, tuple(self._symbols.values()), tuple(self._inputs), tuple(self._states), tuple(self._ops),
            tuple(self._outputs),
        )  # fmt: skip

    def region(self, types: Sequence[TensorType], body: Callable[..., tuple[g.Value, ...]]) -> g.Region:
        """A closed region: `body(builder, *params)` builds its ops and returns its results."""
        inner = Builder(self.name)
        inner._taken = self._taken
        inner.source = self.source
        params = tuple(inner._fresh("p", t) for t in types)
        results = body(inner, *params)
        return g.Region(params, tuple(inner._ops), tuple(results))

    def emit(self, op: g.Op, name: str = "v") -> tuple[g.Value, ...]:
        """Appends `op`, giving it results of the inferred types."""
        types = infer(op)
        outs = tuple(self._fresh(f"{name}{len(self._ops)}", t) for t in types)
        self._ops.append(dataclasses.replace(op, outs=outs, source=op.source or self.source))
        return outs

    def adopted(self, op: g.Op, made: Mapping[g.Value, g.Value]) -> g.Op:
        """An op of another graph, to be emitted here: on what is `made` of its operands, its regions with names of
        their own."""
        held = {name: getattr(op, name) for name in g.op_fields(type(op))}
        regions = {name: self._copy(r) for name, r in held.items() if isinstance(r, g.Region)}
        return dataclasses.replace(g.substitute(op, made), outs=(), **regions)

    def _copy(self, region: g.Region) -> g.Region:
        def body(b: Builder, *params: g.Value) -> tuple[g.Value, ...]:
            made = dict(zip(region.params, params, strict=True))
            for op in region.ops:
                made.update(zip(op.outs, b.emit(b.adopted(op, made)), strict=True))
            return tuple(made[r] for r in region.results)

        return self.region([p.type for p in region.params], body)

    def _one(self, op: g.Op) -> g.Value:
        return self.emit(op)[0]

    # ---- sources

    def constant(self, data: np.ndarray, name: str = "c") -> g.Value:
        return self.emit(g.Constant(np.asarray(data)), name)[0]

    def scalar(self, value: float, dtype: DType) -> g.Value:
        """A constant of shape ()."""
        return self.constant(np.asarray(value).astype(dtype.numpy))

    def full(self, value: float, like: TensorType) -> g.Value:
        """A constant broadcast to a whole type."""
        return self.broadcast(self.scalar(value, like.dtype), like.shape, ())

    def iota(self, type_: TensorType, axis: int) -> g.Value:
        return self._one(g.Iota(type_, axis))

    def random_bits(self, key: g.Value, offset: g.Value, type_: TensorType) -> g.Value:
        return self._one(g.RandomBits(key, offset, type_))

    # ---- element by element, with NumPy's broadcasting of shapes

    def unary(self, fn: str, x: g.Value) -> g.Value:
        return self._one(g.Unary(fn, x))

    def binary(self, fn: str, x: g.Value, y: g.Value) -> g.Value:
        x, y = self.broadcast_together(x, y)
        return self._one(g.Binary(fn, x, y))

    def compare(self, fn: str, x: g.Value, y: g.Value) -> g.Value:
        x, y = self.broadcast_together(x, y)
        return self._one(g.Compare(fn, x, y))

    def select(self, cond: g.Value, x: g.Value, y: g.Value) -> g.Value:
        cond, x, y = self.broadcast_together(cond, x, y)
        return self._one(g.Select(cond, x, y))

    def convert(self, x: g.Value, dtype: DType) -> g.Value:
        return x if x.type.dtype is dtype else self._one(g.Convert(x, dtype))

    def bitcast(self, x: g.Value, dtype: DType) -> g.Value:
        return x if x.type.dtype is dtype else self._one(g.Bitcast(x, dtype))

    def add(self, x: g.Value, y: g.Value) -> g.Value:
        return self.binary("add", x, y)

    def sub(self, x: g.Value, y: g.Value) -> g.Value:
        return self.binary("sub", x, y)

    def mul(self, x: g.Value, y: g.Value) -> g.Value:
        return self.binary("mul", x, y)

    def div(self, x: g.Value, y: g.Value) -> g.Value:
        return self.binary("div", x, y)

    def binary_scalar(self, fn: str, x: g.Value, value: float) -> g.Value:
        """fn(x, value) with a number of x's type."""
        return self.binary(fn, x, self.scalar(value, x.type.dtype))

    # ---- reductions and contractions

    def reduce(self, fn: str, x: g.Value, axes: Sequence[int], keep: bool = False) -> g.Value:
        """Reduction; `keep` leaves the reduced dimensions with extent 1."""
        axes = tuple(sorted(a % x.type.rank for a in axes))
        out = self._one(g.Reduce(fn, x, axes)) if axes else x
        return self.reshape(out, [1 if i in axes else d for i, d in enumerate(x.type.shape)]) if keep else out

    def mean(self, x: g.Value, axes: Sequence[int], keep: bool = False) -> g.Value:
        count = product(x.type.shape[a] for a in axes)
        if not isinstance(count, int):
            raise VerifyError("building", str(x), f"mean over the symbolic extent {count}")
        return self.binary_scalar("mul", self.reduce("sum", x, axes, keep), 1.0 / count)

    def arg_reduce(self, fn: str, x: g.Value, axis: int) -> g.Value:
        return self._one(g.ArgReduce(fn, x, axis % x.type.rank))

    def cumulate(self, fn: str, x: g.Value, axis: int, exclusive: bool = False, reverse: bool = False) -> g.Value:
        return self._one(g.Cumulate(fn, x, axis % x.type.rank, exclusive, reverse))

    def dot(
        self,
        lhs: g.Value,
        rhs: g.Value,
        contract: tuple[Sequence[int], Sequence[int]],
        batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
        dtype: DType | None = None,
    ) -> g.Value:
        """Contraction; `dtype` of the result defaults to lhs's (i32 for integers)."""
        kind = dtype or (DType.i32 if lhs.type.dtype.is_int else lhs.type.dtype)
        return self._one(
            g.Dot(lhs, rhs, tuple(contract[0]), tuple(contract[1]), tuple(batch[0]), tuple(batch[1]), kind)
        )

    def matmul(self, x: g.Value, y: g.Value) -> g.Value:
        """NumPy's matmul: leading dimensions broadcast, vectors are promoted and dropped again."""
        if x.type.rank == 1 or y.type.rank == 1:
            x2 = self.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
            y2 = self.reshape(y, (*y.type.shape, 1)) if y.type.rank == 1 else y
            out = self.matmul(x2, y2)
            drop = {
                *([out.type.rank - 2] if x.type.rank == 1 else []),
                *([out.type.rank - 1] if y.type.rank == 1 else []),
            }
            return self.reshape(out, [d for i, d in enumerate(out.type.shape) if i not in drop])
        if y.type.rank == 2:  # one weight for every leading index: no batch at all
            return self.dot(x, y, ((x.type.rank - 1,), (0,)))
        lead = broadcast_shapes(x.type.shape[:-2], y.type.shape[:-2])
        x = self.broadcast_to(x, lead + x.type.shape[-2:])
        y = self.broadcast_to(y, lead + y.type.shape[-2:])
        n = len(lead)
        return self.dot(x, y, ((n + 1,), (n,)), (range(n), range(n)))

    def conv(
        self,
        x: g.Value,
        w: g.Value,
        strides: Sequence[int],
        pads: Sequence[tuple[int, int]],
        dilation: Sequence[int] | None = None,
        x_dilation: Sequence[int] | None = None,
        groups: int = 1,
        dtype: DType | None = None,
    ) -> g.Value:
        ones = (1,) * len(strides)
        kind = dtype or (DType.i32 if x.type.dtype.is_int else x.type.dtype)
        return self._one(
            g.Conv(x, w, tuple(strides), tuple(pads), tuple(dilation or ones), tuple(x_dilation or ones), groups, kind)
        )

    def pool(
        self,
        fn: str,
        x: g.Value,
        window: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[tuple[int, int]],
        dilation: Sequence[int] | None = None,
    ) -> g.Value:
        ones = (1,) * len(window)
        return self._one(g.Pool(fn, x, tuple(window), tuple(strides), tuple(pads), tuple(dilation or ones)))

    # ---- movement

    def reshape(self, x: g.Value, shape: Sequence[Dim]) -> g.Value:
        return x if tuple(shape) == x.type.shape else self._one(g.Reshape(x, tuple(shape)))

    def transpose(self, x: g.Value, perm: Sequence[int]) -> g.Value:
        return x if tuple(perm) == tuple(range(x.type.rank)) else self._one(g.Transpose(x, tuple(perm)))

    def broadcast(self, x: g.Value, shape: Sequence[Dim], dims: Sequence[int]) -> g.Value:
        if tuple(shape) == x.type.shape and tuple(dims) == tuple(range(x.type.rank)):
            return x
        return self._one(g.Broadcast(x, tuple(shape), tuple(dims)))

    def broadcast_to(self, x: g.Value, shape: Sequence[Dim]) -> g.Value:
        """NumPy's broadcast: dimensions are aligned at the end."""
        offset = len(shape) - x.type.rank
        return self.broadcast(x, shape, range(offset, len(shape)))

    def broadcast_together(self, *values: g.Value) -> tuple[g.Value, ...]:
        """All values broadcast to their common shape."""
        shape: Shape = ()
        for v in values:
            shape = broadcast_shapes(shape, v.type.shape)
        return tuple(self.broadcast_to(v, shape) for v in values)

    def slice(
        self, x: g.Value, starts: Sequence[Dim], sizes: Sequence[Dim], steps: Sequence[int] | None = None
    ) -> g.Value:
        steps = tuple(steps or (1,) * x.type.rank)
        if tuple(sizes) == x.type.shape and all(s == 1 for s in steps):
            return x
        return self._one(g.Slice(x, tuple(starts), tuple(sizes), steps))

    def slice_axis(self, x: g.Value, axis: int, start: int, stop: int, step: int = 1) -> g.Value:
        """x[.., start:stop:step, ..] with bounds already inside the extent."""
        starts: list[Dim] = [0] * x.type.rank
        sizes, steps = list(x.type.shape), [1] * x.type.rank
        starts[axis], steps[axis] = start, step
        sizes[axis] = slice_size(x.type.shape[axis], start, stop, step)
        return self.slice(x, starts, sizes, steps)

    def split(self, x: g.Value, axis: int, sizes: Sequence[int]) -> tuple[g.Value, ...]:
        """Consecutive pieces along one dimension."""
        ends = np.cumsum(sizes).tolist()
        return tuple(self.slice_axis(x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True))

    def pad(self, x: g.Value, value: float, lo: Sequence[int], hi: Sequence[int]) -> g.Value:
        if not any(lo) and not any(hi):
            return x
        return self._one(g.Pad(x, self.scalar(value, x.type.dtype), tuple(lo), tuple(hi)))

    def concat(self, xs: Sequence[g.Value], axis: int) -> g.Value:
        return xs[0] if len(xs) == 1 else self._one(g.Concat(tuple(xs), axis % xs[0].type.rank))

    def gather(self, x: g.Value, indices: g.Value, axis: int, batch: int = 0) -> g.Value:
        return self._one(g.Gather(x, indices, axis % x.type.rank, batch))

    def scatter(self, fn: str, x: g.Value, indices: g.Value, updates: g.Value, axis: int) -> g.Value:
        return self._one(g.Scatter(fn, x, indices, updates, axis % x.type.rank))

    def dynamic_slice(self, x: g.Value, starts: Sequence[g.Value], sizes: Sequence[Dim]) -> g.Value:
        return self._one(g.DynamicSlice(x, tuple(starts), tuple(sizes)))

    def dynamic_update(self, x: g.Value, update: g.Value, starts: Sequence[g.Value]) -> g.Value:
        return self._one(g.DynamicUpdate(x, update, tuple(starts)))

    def sort(self, x: g.Value, axis: int, descending: bool = False) -> tuple[g.Value, ...]:
        return self.emit(g.Sort(x, axis % x.type.rank, descending))

    # ---- common compositions

    def relu(self, x: g.Value) -> g.Value:
        return self.binary_scalar("max", x, 0)

    def sigmoid(self, x: g.Value) -> g.Value:
        one = self.scalar(1.0, x.type.dtype)
        return self.div(one, self.add(one, self.unary("exp", self.unary("neg", x))))

    def gelu(self, x: g.Value, tanh: bool = False) -> g.Value:
        """0.5 x (1 + erf(x / sqrt 2)), or its tanh form (Hendrycks and Gimpel 2016)."""
        if tanh:
            cubic = self.mul(self.mul(x, x), x)
            inner = self.binary_scalar(
                "mul", self.add(x, self.binary_scalar("mul", cubic, 0.044715)), 0.7978845608028654
            )
            shape = self.unary("tanh", inner)
        else:
            shape = self.unary("erf", self.binary_scalar("mul", x, 0.7071067811865476))
        half = self.binary_scalar("mul", x, 0.5)
        return self.mul(half, self.binary_scalar("add", shape, 1.0))

    def softmax(self, x: g.Value, axis: int) -> g.Value:
        top = self.reduce("max", x, [axis], keep=True)
        powers = self.unary("exp", self.sub(x, top))
        return self.div(powers, self.reduce("sum", powers, [axis], keep=True))

    def layer_norm(
        self, x: g.Value, axes: Sequence[int], scale: g.Value | None, bias: g.Value | None, epsilon: float
    ) -> g.Value:
        """(x - mean) / sqrt(var + epsilon) * scale + bias over `axes`; 16-bit floats are normalised in f32."""
        wide = self.convert(x, DType.f32) if x.type.dtype.bytes == 2 else x
        centred = self.sub(wide, self.mean(wide, axes, keep=True))
        variance = self.mean(self.mul(centred, centred), axes, keep=True)
        scaled = self.mul(centred, self.unary("rsqrt", self.binary_scalar("add", variance, epsilon)))
        out = self.convert(scaled, x.type.dtype)
        if scale is not None:
            out = self.mul(out, scale)
        return self.add(out, bias) if bias is not None else out

    def clamp(self, x: g.Value, lo: float, hi: float) -> g.Value:
        return self.binary_scalar("min", self.binary_scalar("max", x, lo), hi)

    def drop_last(self, x: g.Value, axis: int) -> g.Value:
        """x without its last element along `axis`."""
        sizes = list(x.type.shape)
        sizes[axis] = dim_sub(sizes[axis], 1)
        return self.slice(x, [0] * x.type.rank, sizes)


def broadcast_shapes(a: Shape, b: Shape) -> Shape:
    """NumPy's common shape; `VerifyError` when there is none."""
    rank = max(len(a), len(b))
    wide_a, wide_b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    out: list[Dim] = []
    for x, y in zip(wide_a, wide_b, strict=True):
        if x not in (y, 1) and y != 1:
            raise VerifyError("building", "broadcast", f"shapes {a} and {b} do not broadcast")
        out.append(y if x == 1 else x)
    return tuple(out)
