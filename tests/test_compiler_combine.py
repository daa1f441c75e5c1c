"""Combining vector ops: how many are left of known chains, and that random ones mean what they meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tapeout.compiler.combine import combine
from tapeout.ir import kernel as k
from tapeout.ir.kernel_interp import run_kernel
from tapeout.ir.types import DType

ROWS, COLUMNS = k.Axis("a0", 6), k.Axis("a1", 8)
INDEX = (k.DimIndex(((ROWS, 1),)), k.DimIndex(((COLUMNS, 1),)))


class Chain:
    """A kernel that loads tensors, computes, and stores one."""

    def __init__(self) -> None:
        self.ops: list[k.KernelOp] = []
        self.inputs: list[k.Buffer] = []

    def load(self, dtype: DType = DType.f32) -> k.Tile:
        buffer = k.Buffer(f"x{len(self.inputs)}", dtype, (6, 8), "input")
        self.inputs.append(buffer)
        tile = k.Tile(buffer.name, dtype, INDEX)
        self.ops.append(k.LoadTile(tile, k.Access(buffer, (6, 8), (8, 1), 0, INDEX)))
        return tile

    def map(
        self, fn: str, *srcs: k.Tile | float, dtype: DType = DType.f32, index: tuple[k.DimIndex, ...] = INDEX
    ) -> k.Tile:
        out = k.Tile(f"t{len(self.ops)}", dtype, index)
        self.ops.append(k.Map(out, fn, srcs))
        return out

    def store(self, tile: k.Tile) -> k.Buffer:
        buffer = k.Buffer("y", tile.dtype, (6, 8), "output")
        self.ops.append(k.StoreTile(tile, k.Access(buffer, (6, 8), (8, 1), 0, INDEX)))
        return buffer

    def fold(self, tile: k.Tile, fn: str = "sum") -> k.Tile:
        out = k.Tile(f"t{len(self.ops)}", DType.f32, INDEX[:1])
        self.ops.append(k.Fold(out, fn, tile, (COLUMNS,)))
        return out


def left(build: Callable[[Chain], k.Tile]) -> list[str]:
    """The vector ops that are left of a chain."""
    chain = Chain()
    chain.store(build(chain))
    return [op.fn for op in combine(chain.ops) if isinstance(op, k.Map)]


def values(chain: Chain, ops: list[k.KernelOp], target: k.Buffer, inputs: list[np.ndarray]) -> np.ndarray:
    memory = dict(zip(chain.inputs, inputs, strict=True))
    axes = (ROWS, COLUMNS)
    run_kernel(k.KernelSpec("chain", tuple(ops), axes, frozenset(), frozenset()), memory)
    return memory[target]


def residual(c: Chain) -> k.Tile:
    """Two dequantised tensors, added, rectified, and quantised."""
    a, b = (c.map("mul", c.map("copy", c.load(DType.i8)), scale) for scale in (0.03, 0.04))
    y = c.map("max", c.map("mul", c.map("add", a, b), 22.0), 0.0)
    y = c.map("min", c.map("max", c.map("round", y), -128.0), 127.0)
    return c.map("copy", y, dtype=DType.i8)


def gelu(c: Chain) -> k.Tile:
    x = c.load()
    cube = c.map("mul", c.map("mul", x, x), x)
    inner = c.map("mul", c.map("add", x, c.map("mul", cube, 0.0447)), 0.798)
    return c.map("mul", c.map("mul", x, 0.5), c.map("add", c.map("tanh", inner), 1.0))


def silu(c: Chain) -> k.Tile:
    """The gate is rounded to a narrower type before it is used."""
    x = c.load(DType.f16)
    below = c.map("add", 1.0, c.map("exp", c.map("neg", x)))
    return c.map("mul", x, c.map("copy", c.map("div", 1.0, below), dtype=DType.f16), dtype=DType.f16)


def softmax(c: Chain) -> k.Tile:
    """In f32 of narrow values, then quantised."""
    x = c.map("copy", c.load(DType.f16))
    e = c.map("exp", c.map("sub", x, c.fold(x, "max")))
    y = c.map("round", c.map("mul", c.map("div", e, c.fold(e)), 127.0))
    return c.map("copy", c.map("min", c.map("max", y, -128.0), 127.0), dtype=DType.i8)


def dequantised_sum(c: Chain) -> k.Tile:
    """The scale and bias of an i32 sum, a column's own."""
    wide = c.map("copy", c.load(DType.i32))
    return c.map("add", c.map("mul", wide, 0.3), c.load())


def squeezed(c: Chain) -> k.Tile:
    """Rows times what a function of a value for each row gives, times a number."""
    x = c.load()
    gate = c.map("tanh", c.fold(x), index=INDEX[:1])
    return c.map("mul", c.map("mul", x, gate), 15.875)


def test_what_is_left() -> None:
    assert left(residual) == ["mul", "fma", "round", "max"]
    assert left(gelu) == ["mul", "fma", "mul", "mul", "tanh", "fma"]
    assert left(lambda c: c.map("mul", c.map("mul", c.map("neg", c.load()), 2.0), 3.0)) == ["mul"]
    assert left(lambda c: c.map("min", c.map("max", c.map("min", c.load(), 9.0), 0.0), 6.0)) == ["clamp"]
    assert left(lambda c: c.map("copy", c.map("add", c.load(), c.load()), dtype=DType.f16)) == ["add"]


def test_conversions_are_left_to_readers() -> None:
    assert left(dequantised_sum) == ["fma"]
    assert left(lambda c: c.fold(c.map("copy", c.load(DType.bf16)), "arg_max")) == []
    assert left(lambda c: c.fold(c.map("copy", c.load(DType.i8)), "arg_max")) == ["copy"]
    assert left(lambda c: c.map("copy", c.map("exp", c.map("copy", c.load(DType.i64))))) == ["copy", "exp"]


def test_products_and_quotients() -> None:
    assert left(silu) == ["neg", "exp", "add", "div"]
    assert left(softmax) == ["sub", "exp", "div", "mul", "round"]
    assert left(lambda c: c.map("mul", c.map("div", 2.0, c.load()), 3.0)) == ["div"]
    assert left(lambda c: c.map("mul", c.map("div", 2.0, c.load()), c.load())) == ["div", "mul"]


def test_numbers_go_to_rows() -> None:
    chain = Chain()
    chain.store(squeezed(chain))
    axes = [len(op.out.axes) for op in combine(chain.ops) if isinstance(op, k.Map) and op.fn == "mul"]
    assert axes == [1, 2]


@pytest.mark.parametrize("make", [gelu, silu, softmax, dequantised_sum, squeezed])
def test_values_stay(make: Callable[[Chain], k.Tile]) -> None:
    chain = Chain()
    target = chain.store(make(chain))
    r = np.random.default_rng(0)
    inputs = [(5 * r.normal(size=(6, 8))).astype(b.dtype.numpy) for b in chain.inputs]
    for number, special in enumerate((-np.inf, np.inf, np.nan, -1e4, 1e4, -0.0) if make in (gelu, silu) else ()):
        inputs[0][0, number] = special
    with np.errstate(all="ignore"):
        before, after = (values(chain, ops, target, inputs) for ops in (chain.ops, combine(chain.ops)))
    close = {"rtol": 2e-3, "atol": 1e-6} if target.dtype is DType.f16 else {"rtol": 1e-5, "atol": 1e-6}
    assert np.allclose(before.astype(np.float64), after.astype(np.float64), equal_nan=True, **close)


def test_nothing_cancels_that_did_not_before() -> None:
    """A factor stays outside of a difference of things that have none."""
    assert left(lambda c: c.map("mul", c.map("sub", c.load(), c.load()), 3.0)) == ["sub", "mul"]


def test_a_quotient_by_rows_is_a_product() -> None:
    def normalised(c: Chain) -> k.Tile:
        x = c.map("exp", c.load())
        return c.map("div", x, c.fold(x))

    assert left(normalised) == ["exp", "div", "mul"]
    assert left(lambda c: c.map("div", c.load(), c.load())) == ["div"]


def test_what_others_read_stays() -> None:
    """A widened value that is stored as well is still made, and no reader takes integers for floats."""

    def both(c: Chain) -> k.Tile:
        wide = c.map("copy", c.load(DType.i8))
        c.store(wide)
        return c.map("mul", wide, 2.0)

    assert left(both) == ["copy", "mul"]
    assert left(lambda c: c.map("copy", c.map("copy", c.load(DType.i8)), dtype=DType.i32)) == ["copy", "copy"]


def test_a_sort_for_its_positions_stays() -> None:
    chain = Chain()
    keys = chain.load()
    numbers = chain.map("iota", 0.0, 1.0, dtype=DType.i64)
    chain.map("sort", keys, numbers)
    chain.store(chain.map("copy", numbers, dtype=DType.i64))
    assert [op.fn for op in combine(chain.ops) if isinstance(op, k.Map)] == ["iota", "sort", "copy"]


def test_quantised_residual_is_the_same() -> None:
    chain = Chain()
    target = chain.store(residual(chain))
    r = np.random.default_rng(0)
    inputs = [r.integers(-128, 128, (6, 8)).astype(np.int8) for _ in chain.inputs]
    assert np.array_equal(values(chain, combine(chain.ops), target, inputs), values(chain, chain.ops, target, inputs))


@settings(max_examples=300)
@given(st.data())
def test_random_chains_mean_the_same(data: st.DataObject) -> None:
    chain = Chain()
    held: list[k.Tile] = [chain.load(data.draw(st.sampled_from((DType.f32, DType.i8, DType.bf16)))) for _ in range(2)]
    number = st.sampled_from((-3.0, -1.0, 0.0, 0.25, 1.0, 2.5))
    for _ in range(data.draw(st.integers(1, 9))):
        fn = data.draw(st.sampled_from(("add", "sub", "mul", "neg", "max", "min", "copy", "tanh")))
        x = data.draw(st.sampled_from(held))
        y = data.draw(st.one_of(number, st.sampled_from(held)))
        srcs = (x,) if fn in ("neg", "copy", "tanh") else data.draw(st.permutations((x, y)))
        held.append(chain.map(fn, *srcs, dtype=data.draw(st.sampled_from((DType.f32, DType.f32, DType.f16)))))
    target = chain.store(held[-1])
    r = np.random.default_rng(data.draw(st.integers(0, 99)))
    inputs = [r.integers(-4, 5, (6, 8)).astype(b.dtype.numpy) for b in chain.inputs]
    before = values(chain, chain.ops, target, inputs).astype(np.float64)
    after = values(chain, combine(chain.ops), target, inputs).astype(np.float64)
    size = values(chain, [_magnitude(op) for op in chain.ops], target, [np.abs(x) for x in inputs]).astype(np.float64)
    assume(np.all(size < 6e4))  # nothing overflows, in f16 neither
    narrow = any(isinstance(op, k.Map) and op.out.dtype is DType.f16 for op in chain.ops)
    assert np.all(np.abs(before - after) <= (1e-2 if narrow else 1e-5) * (size + 1))


def _magnitude(op: k.KernelOp) -> k.KernelOp:
    """The op on absolute values, with everything added up: what rounding errors are in proportion to."""
    if not isinstance(op, k.Map):
        return op
    fn = {"sub": "add", "max": "add", "min": "add", "neg": "copy", "tanh": "copy"}.get(op.fn, op.fn)
    return replace(op, fn=fn, srcs=tuple(s if isinstance(s, k.Tile) else abs(s) for s in op.srcs))
