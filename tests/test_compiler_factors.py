"""Factors that move into constants: how many ops are left of known chains, and that they mean what they meant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiled import assert_close
from strategies import graphs, inputs_for
from tapeout.compiler.canonicalize import canonicalize
from tapeout.compiler.factors import move_factors
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType
from tapeout.ir.verify import verify

X = TensorType(DType.f32, (4, 6))
VALUES = np.array(
    [-np.inf, -1e30, -90.0, -5.5, -1.0, -0.75, -1e-3, -1e-30, -0.0, 0.0, 1e-30, 1e-3, 0.3, 1.0, 2.5, 7.0, 30.0, 90.0,
     1e30, np.inf, np.nan, 0.5, -0.5, 4.0],
    np.float32,
).reshape(4, 6)  # fmt: skip


def columns(b: Builder, *numbers: float) -> Value:
    """A number for each column."""
    return b.broadcast(b.constant(np.array(numbers, np.float32)), (4, 6), (1,))


def affine(b: Builder, x: Value) -> Value:
    """What stands behind a contraction: a scale and a bias for each column."""
    scaled = b.mul(x, columns(b, 1.5, 0.5, 2.0, 3.0, 1.0, 0.25))
    return b.add(scaled, columns(b, 1.0, -2.0, 0.5, 0.25, -1.0, 3.0))


def leaky(b: Builder, x: Value, test: str = "lt", slope: Value | None = None) -> Value:
    """x where it is positive, else a multiple of it."""
    low = b.mul(x, slope or columns(b, 0.5, 0.1, 1.0, 0.25, 0.01, 0.9))
    condition = b.compare(test, x, b.full(0.0, X))
    return b.select(condition, low, x) if test in ("lt", "le") else b.select(condition, x, low)


def scaled(b: Builder, x: Value, factor: float = 15.875) -> Value:
    return b.binary_scalar("mul", x, factor)


def hard_swish(b: Builder, x: Value) -> Value:
    return b.mul(x, b.clamp(b.binary_scalar("add", b.binary_scalar("mul", x, 1 / 6), 0.5), 0, 1))


def silu(b: Builder, x: Value) -> Value:
    return b.mul(x, b.sigmoid(x))


def gated(b: Builder, x: Value) -> Value:
    """Not only products read x."""
    return b.mul(b.unary("tanh", x), b.sigmoid(x))


Make = Callable[[Builder, Value], Value]
CASES: dict[str, tuple[Make, list[str]]] = {
    "leaky rectifier": (lambda b, x: leaky(b, x), ["mul", "max"]),
    "leaky rectifier, other tests": (lambda b, x: leaky(b, leaky(b, x, "gt"), "ge"), ["mul", "max", "mul", "max"]),
    "slopes from 1 on": (lambda b, x: leaky(b, x, "le", b.full(2.0, X)), ["mul", "min"]),
    "a slope of 0": (lambda b, x: leaky(b, x, "lt", b.full(0.0, X)), ["mul", "lt", "select"]),
    "slopes on both sides of 1": (
        lambda b, x: leaky(b, x, "lt", columns(b, 0.5, 2.0, 1.0, 1.0, 1.0, 1.0)), ["mul", "lt", "select"],
    ),
    "a scale behind a leaky rectifier": (
        lambda b, x: scaled(b, leaky(b, affine(b, x))), ["mul", "add", "mul", "max"],
    ),
    "a scale behind a limit": (
        lambda b, x: scaled(b, b.binary_scalar("min", b.binary_scalar("max", affine(b, x), 0.0), 6.0)),
        ["mul", "add", "max", "min"],
    ),
    "a negative scale behind a limit": (
        lambda b, x: scaled(b, b.binary_scalar("max", affine(b, x), 0.0), -3.0), ["mul", "add", "min"],
    ),
    "a scale behind hard swish": (
        lambda b, x: scaled(b, hard_swish(b, affine(b, x))), ["mul", "add", "mul", "add", "max", "min", "mul"],
    ),
    "a scale behind a sum": (
        lambda b, x: scaled(b, b.add(affine(b, x), b.binary_scalar("mul", x, 0.3))), ["mul", "add", "mul", "add"],
    ),
    "a sum whose terms have no factor keeps its scale outside": (
        lambda b, x: scaled(b, b.sub(b.unary("abs", x), b.unary("exp", x))), ["abs", "exp", "sub", "mul"],
    ),
    "silu": (lambda b, x: silu(b, affine(b, x)), ["mul", "add", "exp", "mul", "add", "div", "mul"]),
    "a scale behind silu": (
        lambda b, x: scaled(b, silu(b, affine(b, x))), ["mul", "add", "exp", "mul", "add", "div", "mul"],
    ),
    "a scale behind a sigmoid": (
        lambda b, x: scaled(b, b.sigmoid(affine(b, x))), ["mul", "add", "exp", "add", "div"],
    ),
    "gelu": (lambda b, x: b.gelu(affine(b, x)), ["mul", "add", "mul", "erf", "add", "mul"]),
    "a value that is read otherwise keeps its sign": (
        lambda b, x: gated(b, affine(b, x)), ["mul", "add", "tanh", "neg", "exp", "add", "div", "mul"],
    ),
    "through a transpose": (
        lambda b, x: scaled(b, b.transpose(affine(b, x), (1, 0))), ["mul", "add"],
    ),
}  # fmt: skip


def steps(graph: g.Graph) -> list[str]:
    """The functions of a graph's elementwise ops."""
    return [op.fn for op in graph.ops if isinstance(op, g.Unary | g.Binary | g.Compare)] + [
        "select" for op in graph.ops if isinstance(op, g.Select)
    ]


@pytest.mark.parametrize("name", CASES)
def test_what_is_left(name: str) -> None:
    make, expected = CASES[name]
    b = Builder()
    b.output("y", make(b, b.input("x", X)))
    graph = b.finish()
    moved = move_factors(canonicalize(graph))
    verify(moved, "move_factors")
    assert sorted(steps(moved)) == sorted(expected)
    was, found = (interpret(x, {"x": VALUES}).outputs["y"] for x in (graph, moved))
    finite = np.isfinite(was)
    assert np.array_equal(was[~finite], found[~finite], equal_nan=True)
    assert np.allclose(was[finite], found[finite], rtol=1e-6, atol=1e-6)


def test_values_that_are_needed_as_they_are_stay() -> None:
    """x * -x, and a value that leaves the graph in another type."""
    b = Builder()
    x = affine(b, b.input("x", X))
    b.output("product", b.mul(x, b.unary("neg", x)))
    y = b.convert(affine(b, b.unary("tanh", b.input("x2", X))), DType.f16)
    b.output("other", b.convert(y, DType.f32))
    b.output("gate", silu(b, y))
    graph = b.finish()
    given_ = inputs_for(graph, 0)
    was, found = (interpret(x, given_).outputs for x in (graph, move_factors(canonicalize(graph))))
    for name, array in was.items():
        assert np.allclose(array.astype(np.float32), found[name].astype(np.float32), rtol=2e-3)


def test_zeros_keep_their_sign_behind_a_leaky_rectifier() -> None:
    b = Builder()
    b.output("y", leaky(b, b.input("x", X)))
    found = interpret(canonicalize(b.finish()), {"x": VALUES}).outputs["y"]
    assert np.array_equal(np.signbit(found), np.signbit(VALUES))


def test_a_factor_behind_a_convolution_goes_into_its_weights() -> None:
    b = Builder()
    weights = b.constant(np.arange(1, 25, dtype=np.float32).reshape(4, 3, 2) / 8)
    y = b.conv(b.input("x", TensorType(DType.f32, (1, 3, 5))), weights, [1], [(0, 1)])
    bias = b.broadcast(b.constant(np.arange(4, dtype=np.float32)), y.type.shape, (1,))
    b.output("y", b.binary_scalar("mul", b.binary_scalar("max", b.add(y, bias), 0.0), 5.0))
    graph = b.finish()
    moved = move_factors(canonicalize(graph))
    assert steps(moved) == ["add", "max"]
    given_ = inputs_for(graph, 0)
    assert np.allclose(interpret(moved, given_).outputs["y"], interpret(graph, given_).outputs["y"], rtol=1e-5)


@settings(max_examples=250)
@given(graphs(states=True, dtypes=(DType.f32, DType.f16, DType.bf16), max_ops=12), st.integers(0, 9))
def test_meaning_is_kept(graph: g.Graph, seed: int) -> None:
    moved = move_factors(canonicalize(graph))
    verify(moved, "move_factors")
    given_ = inputs_for(graph, seed)
    wide, narrow = interpret(graph, given_, wide=True), interpret(graph, given_, values=True)
    found = interpret(moved, given_)
    assert_close(found.outputs, wide.outputs, narrow.outputs, narrow.values)
    assert_close(found.states, wide.states, narrow.states, narrow.values)
