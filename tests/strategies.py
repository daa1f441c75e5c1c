"""Hypothesis strategies that several test files share: random valid graphs and inputs for them.

Values are benign: inputs lie in [-2, 2] (integers in [-8, 8]), nothing overflows, nothing divides by almost
zero, and whatever jumps (comparisons, rounding to whole numbers, sorting) is applied only to values that no
rounding has touched. So a run that rounds stays close to one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from random_chips import whole_chip
from tapeout.chip import spec
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph, If, Scan, Value, While
from tapeout.ir.types import Dim, DType, TensorType, bind_dim, symbol

BOUND = 32.0
"""Magnitude from which float values are squashed by tanh and integers by rem."""


@dataclass(frozen=True)
class Term:
    """A value of the graph, how large it can be, and whether it is the same without any rounding."""

    value: Value
    bound: float
    exact: bool

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.value.type.shape

    @property
    def rank(self) -> int:
        return self.value.type.rank

    @property
    def static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)


class Maker:
    """Draws one op after the other; each `make_*` adds a term or more to the pool."""

    def __init__(self, draw: Callable, dtypes: Sequence[DType], symbols: bool, extent: int = 5) -> None:
        self.draw = draw
        self.extent = extent
        self.dtypes = dtypes
        self.symbols = symbols
        self.b = Builder("random")
        self.pool: list[Term] = []
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))

    # ---- choices

    def whole(self, lo: int, hi: int) -> int:
        return self.draw(st.integers(lo, hi))

    def one_of(self, items: Sequence):
        return self.draw(st.sampled_from(list(items)))

    def coin(self) -> bool:
        return self.draw(st.booleans())

    def axes(self, t: Term, least: int = 1) -> tuple[int, ...]:
        """Some dimensions of extents that are known."""
        known = [i for i, d in enumerate(t.shape) if isinstance(d, int)]
        chosen = self.draw(st.sets(st.sampled_from(known), min_size=least)) if known else ()
        return tuple(sorted(chosen))

    # ---- terms

    def add(self, value: Value, bound: float, exact: bool = False) -> Term:
        term = Term(value, bound, exact)
        self.pool.append(term)
        return term

    def input(self, dtype: DType, shape: Sequence[Dim]) -> Term:
        value = self.b.input(f"x{len(self.pool)}", TensorType(dtype, tuple(shape)))
        return self.add(value, 2.0 if dtype.is_float else 8.0, True)

    def constant(self, dtype: DType, shape: Sequence[int], scale: float = 1.0) -> Term:
        """A constant of at most `scale` (integers: 8)."""
        if dtype.is_float:
            data = (self.rng.uniform(-scale, scale, shape)).astype(dtype.numpy)
        else:
            data = self.rng.integers(-8 if dtype.is_signed else 0, 9, shape).astype(dtype.numpy)
        return Term(self.b.constant(data), scale if dtype.is_float else 8.0, True)

    def indices(self, extent: int, shape: Sequence[int], lowest: int | None = None) -> Value:
        lowest = -extent if lowest is None else lowest
        kind = self.one_of((np.int64, np.int32))
        return self.b.constant(self.rng.integers(lowest, extent, shape).astype(kind))

    def term(
        self,
        kind: str = "float",
        rank: tuple[int, int] = (0, 4),
        exact: bool = False,
        static: bool = True,
    ) -> Term:
        """A term of the pool that fits, or a new input."""

        def fits(t: Term) -> bool:
            right = t.dtype.is_float if kind == "float" else t.dtype is DType(kind)
            return right and rank[0] <= t.rank <= rank[1] and t.exact >= exact and t.static >= static

        found = [t for t in self.pool if fits(t)]
        if found and self.whole(0, 4):
            return self.one_of(found[::-1])
        shape: list[Dim] = [self.whole(1, self.extent) for _ in range(self.whole(*rank))]
        if self.symbols and not static and shape:
            self.b.symbol("n", 1, 5)
            shape[0] = symbol("n")
        return self.input(self.one_of(self.dtypes) if kind == "float" else DType(kind), shape)

    def tame(self, t: Term) -> Term:
        """The term, squashed when it may be large."""
        if t.bound <= BOUND:
            return t
        if t.dtype.is_float:
            return Term(self.b.unary("tanh", t.value), 1.0, False)
        return Term(self.b.binary_scalar("rem", t.value, 9), 8.0, t.exact)

    def partner(self, t: Term) -> Term:
        """A term of the same type that broadcasts to `t`."""
        same = [p for p in self.pool if p.dtype is t.dtype and _broadcasts(p.shape, t.shape)]
        if same and self.coin():
            return self.one_of(same)
        keep = self.whole(0, t.rank)
        tail = [d if isinstance(d, int) and self.coin() else 1 for d in t.shape[t.rank - keep :]]
        return self.constant(t.dtype, tail)

    # ---- element by element

    def make_binary(self) -> None:
        t = self.tame(self.term(static=False))
        p = self.tame(self.partner(t))
        fn = self.one_of("add sub mul max min div atan2 pow".split())
        both = t.exact and p.exact
        match fn:
            case "add" | "sub":
                self.add(self.b.binary(fn, t.value, p.value), t.bound + p.bound)
            case "mul":
                self.add(self.b.mul(t.value, p.value), t.bound * p.bound)
            case "max" | "min":
                self.add(self.b.binary(fn, t.value, p.value), max(t.bound, p.bound), both)
            case "div":
                self.add(self.b.div(t.value, self.above_one(p)), t.bound)
            case "atan2":
                self.add(self.b.binary("atan2", t.value, self.above_one(p)), 2.0)
            case _:
                exponent = self.whole(-1, 2)
                power = self.b.binary_scalar("pow", self.above_one(t), exponent)
                self.add(power, (1 + t.bound) ** max(exponent, 0))

    def above_one(self, t: Term) -> Value:
        return self.b.binary_scalar("add", self.b.unary("abs", t.value), 1.0)

    def make_unary(self) -> None:
        t = self.tame(self.term(static=False))
        fn = self.one_of("neg abs tanh erf sin cos exp log sqrt rsqrt".split())
        match fn:
            case "neg" | "abs":
                self.add(self.b.unary(fn, t.value), t.bound, t.exact)
            case "exp":
                self.add(self.b.unary("exp", self.b.unary("tanh", t.value)), math.e)
            case "log" | "sqrt" | "rsqrt":
                self.add(self.b.unary(fn, self.above_one(t)), 1 + t.bound)
            case _:
                self.add(self.b.unary(fn, t.value), 1.0)

    def make_rounding(self) -> None:
        t = self.term(exact=True, static=False)
        fn = self.one_of("floor ceil round sign rem".split())
        if fn == "rem":
            self.add(self.b.binary_scalar("rem", t.value, 0.75), 0.75, True)
        else:
            self.add(self.b.unary(fn, t.value), t.bound + 1, True)

    def make_select(self) -> None:
        t = self.term(exact=True, static=False)
        p = self.constant(t.dtype, ())
        cond = self.b.compare(self.one_of("lt le gt ge eq ne".split()), t.value, p.value)
        if self.coin():
            cond = self.b.unary("not", cond)
        other = self.term(static=False)
        if other.dtype is not t.dtype or other.shape != t.shape:
            other = self.partner(t)
        out = self.b.select(cond, t.value, other.value)
        self.add(out, max(t.bound, other.bound), t.exact and other.exact)

    def make_convert(self) -> None:
        t = self.tame(self.term(static=False))
        dtype = self.one_of(self.dtypes)
        wider = dtype.bytes > t.dtype.bytes or dtype is t.dtype
        self.add(self.b.convert(t.value, dtype), t.bound * 1.01, t.exact and wider)

    def make_bits(self) -> None:
        """Random numbers in [0, 1) from a counter."""
        key = self.b.constant(np.array([self.whole(0, 9), 7], np.uint32))
        offset = self.b.constant(np.array(self.whole(0, 99), np.uint64))
        words = self.b.random_bits(key, offset, TensorType(DType.u32, (self.whole(1, 4), self.whole(1, 4))))
        seven = self.b.binary("shr", words, self.b.constant(np.array(25, np.uint32)))
        value = self.b.binary_scalar("mul", self.b.convert(seven, self.dtypes[0]), 2.0**-7)
        self.add(value, 1.0, True)

    # ---- integers

    def make_integer(self) -> None:
        t = self.tame(self.term(self.one_of(("i32", "i64"))))
        p = self.tame(self.partner(t))
        fn = self.one_of("add sub mul max min and or xor div rem shr".split())
        y = p.value
        if fn in ("div", "rem"):
            y = self.b.binary_scalar("or", y, 1)
        elif fn == "shr":
            y = self.b.binary_scalar("and", y, 3)
        # `and` and `or` of numbers below a power of two stay below it
        grown = t.bound * p.bound if fn == "mul" else 2 * (t.bound + p.bound)
        self.add(self.b.binary(fn, t.value, y), grown, True)

    def make_integer_dot(self) -> None:
        t = self.term("i8", (2, 3))
        w = self.constant(DType.i8, (t.shape[-1], self.whole(1, 4)))
        self.add(self.b.matmul(t.value, w.value), 64.0 * t.shape[-1], True)

    def make_between(self) -> None:
        """Integer to float or float to integer."""
        if self.coin():
            t = self.tame(self.term("i32"))
            self.add(self.b.convert(t.value, self.one_of(self.dtypes)), t.bound, True)
        else:
            t = self.term(exact=True)
            self.add(self.b.convert(t.value, DType.i32), t.bound, True)

    def make_bitcast(self) -> None:
        t = self.term(exact=True, static=False)
        if t.dtype.bytes > 1:
            kind = {2: DType.i16, 4: DType.i32, 8: DType.i64}[t.dtype.bytes]
            bits = self.b.bitcast(t.value, kind)
            self.add(self.b.binary_scalar("and", bits, 7), 7.0, True)

    # ---- reductions, contractions, windows

    def make_reduce(self) -> None:
        t = self.tame(self.term(rank=(1, 4), static=False))
        axes = self.axes(t, 0)
        count = math.prod(t.shape[a] for a in axes)
        fn = self.one_of("sum max min prod".split())
        if fn == "prod":
            t = Term(self.b.unary("tanh", t.value), 1.0, False)
        bound = t.bound * count if fn == "sum" else t.bound
        exact = t.exact and fn in ("max", "min")
        self.add(self.b.reduce(fn, t.value, axes, keep=self.coin()), bound, exact)

    def make_order(self) -> None:
        t = self.term(rank=(1, 4), exact=True)
        axis = self.whole(0, t.rank - 1)
        if self.coin():
            ordered, position = self.b.sort(t.value, axis, self.coin())
            self.add(ordered, t.bound, True)
        else:
            position = self.b.arg_reduce(self.one_of(("max", "min")), t.value, axis)
        self.add(position, t.shape[axis], True)

    def make_cumulate(self) -> None:
        t = self.tame(self.term(rank=(1, 4)))
        axis = self.whole(0, t.rank - 1)
        fn = self.one_of(("sum", "max", "min"))
        exclusive = fn == "sum" and self.coin()
        out = self.b.cumulate(fn, t.value, axis, exclusive, self.coin())
        self.add(out, t.bound * (t.shape[axis] if fn == "sum" else 1), t.exact and fn != "sum")

    def make_dot(self) -> None:
        t = self.tame(self.term(rank=(1, 4)))
        order = self.draw(st.permutations(range(t.rank)))
        inner = self.whole(1, min(2, t.rank))
        contract, rest = order[:inner], order[inner:]
        batch = rest[: self.whole(0, len(rest))]
        kinds = [*batch, *contract, -1]  # which lhs dimension each rhs dimension pairs with
        kinds = self.draw(st.permutations(kinds))
        shape = [self.whole(1, self.extent) if k < 0 else t.shape[k] for k in kinds]
        length = math.prod(t.shape[k] for k in contract)
        w = self.constant(t.dtype, shape) if self.coin() else self.input(t.dtype, shape)
        pairs = [tuple(kinds.index(k) for k in group) for group in (contract, batch)]
        out = self.b.dot(t.value, w.value, (contract, pairs[0]), (batch, pairs[1]))
        self.add(out, t.bound * w.bound * length)

    def make_conv(self) -> None:
        t = self.tame(self.term(rank=(3, 4)))
        spatial = t.shape[2:]
        groups = self.one_of([d for d in range(1, t.shape[1] + 1) if t.shape[1] % d == 0])
        window = [self.whole(1, 3) for _ in spatial]
        strides, dilation = ([self.whole(1, 2) for _ in spatial] for _ in range(2))
        spread = [self.one_of((1, 1, 1, 2)) for _ in spatial]
        pads = []
        for n, k, d, s in zip(spatial, window, dilation, spread, strict=True):
            missing = max(0, (k - 1) * d + 1 - ((n - 1) * s + 1))
            pads.append((self.whole(missing, missing + 2), self.whole(0, 2)))
        inner = t.shape[1] // groups
        w = self.constant(t.dtype, (groups * self.whole(1, 3), inner, *window))
        out = self.b.conv(t.value, w.value, strides, pads, dilation, spread, groups)
        self.add(out, t.bound * inner * math.prod(window))

    def make_pool(self) -> None:
        t = self.tame(self.term(rank=(2, 4)))
        fn = self.one_of(("max", "min", "sum"))
        covered = self.whole(1, min(2, t.rank - 1))
        spatial = t.shape[t.rank - covered :]
        window = [self.whole(1, 3) for _ in spatial]
        pads = [(self.whole(max(0, k - n), k - 1), self.whole(0, k - 1)) for n, k in zip(spatial, window, strict=True)]
        out = self.b.pool(fn, t.value, window, [self.whole(1, 2) for _ in spatial], pads)
        self.add(out, t.bound * (math.prod(window) if fn == "sum" else 1), t.exact and fn != "sum")

    # ---- movement

    def moved(self, t: Term, value: Value) -> None:
        self.pool.append(replace(t, value=value))

    def make_reshape(self) -> None:
        t = self.term(rank=(1, 4))
        at = self.whole(0, t.rank - 1)
        n = t.shape[at]
        if self.coin() and at + 1 < t.rank:
            shape = [*t.shape[:at], n * t.shape[at + 1], *t.shape[at + 2 :]]
        else:
            part = self.one_of([d for d in range(1, n + 1) if n % d == 0])
            shape = [*t.shape[:at], n // part, part, *t.shape[at + 1 :]]
        self.moved(t, self.b.reshape(t.value, shape))

    def make_transpose(self) -> None:
        t = self.term(rank=(2, 4), static=False)
        self.moved(t, self.b.transpose(t.value, self.draw(st.permutations(range(t.rank)))))

    def make_slice(self) -> None:
        t = self.term(rank=(1, 4))
        starts, sizes, steps = [], [], []
        for n in t.shape:
            step = self.one_of((1, 2, -1, 3, -2))
            start = self.whole(0, n - 1)
            room = (n - 1 - start if step > 0 else start) // abs(step) + 1
            starts.append(start)
            sizes.append(self.whole(1, room))
            steps.append(step)
        self.moved(t, self.b.slice(t.value, starts, sizes, steps))

    def make_pad(self) -> None:
        t = self.term(rank=(1, 3))
        lo, hi = ([self.whole(0, 2) for _ in t.shape] for _ in range(2))
        lo[0] = self.whole(1 - t.shape[0], 0)
        self.moved(t, self.b.pad(t.value, self.one_of((0.0, 0.5)), lo, hi))

    def make_concat(self) -> None:
        t = self.term(rank=(1, 4))
        axis = self.whole(0, t.rank - 1)
        fitting = [
            p for p in self.pool
            if p.dtype is t.dtype and p.rank == t.rank
            and all(a == b for i, (a, b) in enumerate(zip(p.shape, t.shape, strict=True)) if i != axis)
        ]  # fmt: skip
        xs = [self.one_of(fitting) for _ in range(self.whole(1, 2))] + [t]
        self.add(self.b.concat([x.value for x in xs], axis), max(x.bound for x in xs), all(x.exact for x in xs))

    def make_gather(self) -> None:
        t = self.term(rank=(1, 4))
        axis = self.whole(0, t.rank - 1)
        batch = self.whole(0, axis)
        shape = [self.whole(1, 4) for _ in range(self.whole(0, 2))]
        found = self.indices(t.shape[axis], [*t.shape[:batch], *shape])
        self.moved(t, self.b.gather(t.value, found, axis, batch))

    def make_scatter(self) -> None:
        t = self.tame(self.term(rank=(1, 3)))
        axis = self.whole(0, t.rank - 1)
        count = self.whole(1, 4)
        where = self.indices(t.shape[axis], (count,))
        updates = self.constant(t.dtype, (*t.shape[:axis], count, *t.shape[axis + 1 :]))
        fn = self.one_of(("set", "add", "max", "min", "mul"))
        out = self.b.scatter(fn, t.value, where, updates.value, axis)
        self.add(out, t.bound + count, t.exact and fn not in ("add", "mul"))

    def make_box(self) -> None:
        """A box at positions known only at run time, read or replaced."""
        t = self.term(rank=(1, 3))
        starts = [self.term("i32", (0, 0)).value for _ in t.shape]
        sizes = [self.whole(1, n) for n in t.shape]
        if self.coin():
            self.moved(t, self.b.dynamic_slice(t.value, starts, sizes))
        else:
            update = self.constant(t.dtype, sizes)
            self.moved(t, self.b.dynamic_update(t.value, update.value, starts))

    def make_iota(self) -> None:
        shape = tuple(self.whole(1, 5) for _ in range(self.whole(1, 3)))
        dtype = self.one_of((*self.dtypes, DType.i32))
        self.add(self.b.iota(TensorType(dtype, shape), self.whole(0, len(shape) - 1)), 5.0, True)

    # ---- chains that models are made of

    def make_chain(self) -> None:
        t = self.tame(self.term(rank=(1, 4), static=False))
        last = t.shape[-1]
        kind = self.one_of(("gelu", "sigmoid", "relu") if not isinstance(last, int) else CHAINS)
        match kind:
            case "softmax":
                self.add(self.b.softmax(t.value, t.rank - 1), 1.0)
            case "layer_norm":
                scale, bias = (self.constant(t.dtype, (last,)).value for _ in range(2))
                self.add(self.b.layer_norm(t.value, [t.rank - 1], scale, bias, 0.1), 1 + math.sqrt(last))
            case "linear":
                w, bias = self.constant(t.dtype, (last, self.whole(1, 5))), self.constant(t.dtype, ())
                out = self.b.add(self.b.matmul(t.value, w.value), bias.value)
                self.add(self.b.relu(out), t.bound * last + 1)
            case "gelu":
                self.add(self.b.gelu(t.value, self.coin()), t.bound)
            case "sigmoid":
                self.add(self.b.sigmoid(t.value), 1.0)
            case _:
                self.add(self.b.relu(t.value), t.bound, t.exact)

    # ---- control flow

    def make_control(self) -> None:
        t = self.tame(self.term(rank=(1, 3)))
        kind = self.one_of(("if", "while", "scan"))
        type_, scalar = t.value.type, TensorType(DType.i32, ())
        if kind == "if":
            cond = _positive(self.b, self.term("i32", (0, 0)).value)
            then = self.b.region([type_], lambda b, x: (b.unary("neg", x),))
            orelse = self.b.region([type_], lambda b, x: (b.binary_scalar("mul", x, 0.5),))
            out = self.b.emit(If(cond, (t.value,), then, orelse))[0]
        elif kind == "while":
            count = self.b.constant(np.array(self.whole(0, 3), np.int32))
            cond = self.b.region([scalar, type_], lambda b, i, x: (_positive(b, i),))
            body = self.b.region([scalar, type_], _count_down)
            out = self.b.emit(While((count, t.value), cond, body))[1]
        else:
            inner = type_.with_shape(type_.shape[1:])
            carry = self.constant(t.dtype, inner.shape)
            body = self.b.region([inner, inner], lambda b, c, x: (_half(b, c, x), b.unary("tanh", x)))
            out = self.b.emit(Scan((carry.value,), (t.value,), body, t.shape[0], self.coin()))[0]
        self.add(out, t.bound + 1)


def _positive(b: Builder, i: Value) -> Value:
    return b.compare("gt", i, b.constant(np.array(0, np.int32)))


def _count_down(b: Builder, i: Value, x: Value) -> tuple[Value, Value]:
    return b.binary_scalar("sub", i, 1), b.binary_scalar("mul", x, 0.5)


def _half(b: Builder, carry: Value, x: Value) -> Value:
    return b.add(b.binary_scalar("mul", carry, 0.5), b.binary_scalar("mul", x, 0.5))


def _broadcasts(shape: Sequence[Dim], to: Sequence[Dim]) -> bool:
    tail = to[len(to) - len(shape) :]
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape, tail, strict=True))


CHAINS = ("relu", "softmax", "layer_norm", "linear", "gelu", "sigmoid")
FLOATS = ("binary unary chain reduce dot conv pool reshape transpose slice pad concat gather select rounding convert "
          "cumulate scatter iota").split()  # fmt: skip
INTEGERS = "integer integer_dot between order box bits bitcast".split()


@st.composite
def graphs(
    draw: Callable,
    max_ops: int = 8,
    dtypes: Sequence[DType] = (DType.f32,),
    integers: bool = True,
    control: bool = False,
    states: bool = False,
    symbols: bool = False,
    only: Sequence[str] = (),
    extent: int = 5,
) -> Graph:
    """Random valid graphs of small tensors with up to `max_ops` draws (each of one op or a short chain).

    `dtypes` are the float types used; `integers` adds integer and index ops, `control` If, While and Scan,
    `states` a running sum, `symbols` inputs whose first dimension is the symbol n in [1, 5]. `only` restricts
    the kinds of draws, e.g. ("conv", "binary"). `extent` is the longest dimension of an input.
    """
    maker = Maker(draw, dtypes, symbols, extent)
    kinds = list(only) or FLOATS + (INTEGERS if integers else []) + (["control"] if control else [])
    for _ in range(draw(st.integers(1, max_ops))):
        getattr(maker, f"make_{draw(st.sampled_from(kinds))}")()
    if states and maker.pool[-1].dtype.is_float and maker.pool[-1].static:
        last = maker.tame(maker.pool[-1])
        held = maker.b.state("sum", np.zeros(last.value.type.static_shape, last.dtype.numpy))
        maker.b.set_state("sum", maker.b.add(held, last.value))
    ends = {len(maker.pool) - 1, *draw(st.sets(st.integers(0, len(maker.pool) - 1), max_size=2))}
    for i in sorted(ends):
        maker.b.output(f"out{i}", maker.pool[i].value)
    return maker.b.finish()


def inputs_for(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for every input: floats in [-2, 2], integers in [-8, 8], unsigned ones in [0, 8].

    Symbols are bound to numbers within their bounds.
    """
    rng = np.random.default_rng(seed)
    binding = {s.name: int(rng.integers(s.lo, s.hi + 1)) for s in graph.symbols}
    return {v.name: _array(v.type, binding, rng) for v in graph.inputs}


def _array(type_: TensorType, binding: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = tuple(bind_dim(d, binding) for d in type_.shape)
    if type_.dtype.is_float:
        return np.asarray(rng.uniform(-2, 2, shape)).astype(type_.dtype.numpy)
    if type_.dtype is DType.b1:
        return np.asarray(rng.integers(0, 2, shape)).astype(np.bool_)
    return np.asarray(rng.integers(-8 if type_.dtype.is_signed else 0, 9, shape)).astype(type_.dtype.numpy)


# ---- chips


@st.composite
def chips(draw: Callable) -> spec.Chip:
    """Random valid chips: topologies from one core up, any matrix unit or none, memories together or apart."""
    return whole_chip(lambda items: draw(st.sampled_from(items)), small=True)
