"""Canonical form: the meaning stays, and each rule does what it is for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiled import assert_close
from strategies import graphs, inputs_for
from tapeout.compiler.canonicalize import canonicalize
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType
from tapeout.ir.verify import verify

FLOATS = (DType.f32, DType.f16, DType.bf16)


def check_meaning(graph: g.Graph, seed: int = 0) -> g.Graph:
    """The canonical form, after holding it against the graph."""
    canonical = canonicalize(graph)
    verify(canonical, "canonicalize")
    given_ = inputs_for(graph, seed)
    wide, narrow = interpret(graph, given_, wide=True), interpret(graph, given_, values=True)
    found = interpret(canonical, given_)
    assert_close(found.outputs, wide.outputs, narrow.outputs, narrow.values)
    assert_close(found.states, wide.states, narrow.states, narrow.values)
    return canonical


@settings(max_examples=250)
@given(graphs(states=True, dtypes=FLOATS, max_ops=10), st.integers(0, 9))
def test_meaning_is_kept(graph: g.Graph, seed: int) -> None:
    check_meaning(graph, seed)


@settings(max_examples=60)
@given(graphs(max_ops=10))
def test_canonical_form_is_canonical(graph: g.Graph) -> None:
    """A second pass finds nothing to fold, drop or merge."""
    once = canonicalize(graph)
    assert len(canonicalize(once).ops) <= len(once.ops)


X = TensorType(DType.f32, (4, 6))


def const(b: Builder, *shape: int) -> Value:
    return b.constant(np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape) / 8)


def uniform(b: Builder, *shape: int) -> Value:
    """0.5 everywhere."""
    return b.broadcast(b.constant(np.float32(0.5)), shape, ())


RULES: dict[str, tuple[Callable[[Builder, Value], Value], dict[str, int]]] = {
    "constants fold": (lambda b, x: b.add(x, b.unary("exp", const(b, 4, 6))), {"Unary": 0, "Binary": 1}),
    "repeated constants fold": (
        lambda b, x: b.mul(x, b.add(b.broadcast(const(b, 6), (4, 6), (1,)), uniform(b, 4, 6))),
        {"Binary": 1},
    ),
    "identities go": (
        lambda b, x: b.unary("neg", b.binary_scalar("mul", b.binary_scalar("add", x, 0.0), 1.0)), {"Binary": 0},
    ),
    "transposes merge": (lambda b, x: b.unary("neg", b.transpose(b.transpose(x, (1, 0)), (1, 0))), {"Transpose": 0}),
    "reshapes merge": (lambda b, x: b.unary("neg", b.reshape(b.reshape(x, (24,)), (2, 12))), {"Reshape": 1}),
    "factors gather": (lambda b, x: b.binary_scalar("mul", b.binary_scalar("mul", x, 2.0), 3.0), {"Binary": 1}),
    "offsets move behind factors": (
        lambda b, x: b.binary_scalar("mul", b.binary_scalar("add", b.unary("exp", x), 2.0), 3.0), {"Binary": 2},
    ),
    "offsets of exact values stay": (
        lambda b, x: b.binary_scalar("mul", b.binary_scalar("add", x, 2.0), 3.0), {"Binary": 2},
    ),
    "a gather of neighbours is a slice": (
        lambda b, x: b.unary("neg", b.gather(x, b.constant(np.array([1, 2, 3])), 0)), {"Gather": 0, "Slice": 1},
    ),
    "a batched gather is a plain one": (
        lambda b, x: b.gather(x, b.constant(np.array([[0, 5], [1, -1], [2, 9], [3, 3]])), 1, 1), {"Gather": 1},
    ),
    "a box that moves is a gather": (
        lambda b, x: b.dynamic_slice(x, [b.input("i", TensorType(DType.i32, ())), b.constant(np.int32(0))], (2, 6)),
        {"DynamicSlice": 0, "Gather": 1},
    ),
    "a box that is replaced is a scatter": (
        lambda b, x: b.dynamic_update(x, const(b, 2, 3), [b.input("i", TensorType(DType.i32, ()))] * 2),
        {"DynamicUpdate": 0},
    ),
    "a combining scatter reduces": (
        lambda b, x: b.scatter("max", x, b.constant(np.array([1, 1])), b.input("u", TensorType(DType.f32, (2, 6))), 0),
        {"Scatter": 0, "Reduce": 1},
    ),
    "running sums walk forwards": (lambda b, x: b.cumulate("sum", x, 1, True, True), {"Cumulate": 1, "Slice": 2}),
    "descending sorts ascend": (lambda b, x: b.sort(x, 1, True)[0], {"Sort": 1, "Slice": 2}),
    "sorting one element": (lambda b, x: b.sort(b.slice(x, [0, 0], [4, 1]), 1)[0], {"Sort": 0}),
    "the extreme of one element": (lambda b, x: b.arg_reduce("max", b.slice(x, [0, 0], [4, 1]), 1), {"ArgReduce": 0}),
    "reductions of numbers fold": (
        lambda b, x: b.add(x, b.broadcast(b.reduce("sum", uniform(b, 3, 6), (0,)), (4, 6), (1,))),
        {"Reduce": 0},
    ),
    "numbers that move stay numbers": (
        lambda b, x: b.mul(x, b.reshape(uniform(b, 24), (4, 6))), {"Reshape": 0},
    ),
    "narrow lists widen": (
        lambda b, x: b.gather(x, b.input("i", TensorType(DType.u8, (3,))), 0), {"Gather": 1, "Convert": 1},
    ),
    "nothing is computed of nothing": (
        lambda b, x: b.concat([x, b.unary("exp", b.slice(x, [0, 0], [0, 6]))], 0), {"Unary": 0, "Concat": 0},
    ),
}  # fmt: skip


def test_integers_are_whole_numbers() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.i8, (4, 6)))
    limited = b.clamp(b.unary("round", b.convert(x, DType.f32)), -128, 127)
    b.output("same", b.convert(limited, DType.i8))
    b.output("cut", b.convert(b.clamp(b.convert(x, DType.f32), -127, 127), DType.i8))
    b.output("lost", b.convert(b.convert(b.input("y", TensorType(DType.i32, (4, 6))), DType.f16), DType.i32))
    kinds = [type(op).__name__ for op in check_meaning(b.finish()).ops]
    assert (kinds.count("Unary"), kinds.count("Binary"), kinds.count("Convert")) == (0, 2, 4)


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    make, expected = RULES[name]
    b = Builder()
    b.output("y", make(b, b.input("x", X)))
    kinds = [type(op).__name__ for op in check_meaning(b.finish()).ops]
    assert {kind: kinds.count(kind) for kind in expected} == expected


def test_a_factor_behind_a_convolution_goes_into_its_weights() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (1, 3, 5)))
    y = b.conv(x, const(b, 4, 3, 2), [1], [(0, 1)])
    b.output("y", b.mul(y, b.reshape(const(b, 4), (1, 4, 1))))
    kinds = [type(op).__name__ for op in check_meaning(b.finish()).ops]
    assert "Binary" not in kinds


@pytest.mark.parametrize(("groups", "spread"), [(2, 1), (1, 2), (4, 2)])
def test_grouped_and_transposed_convolutions(groups: int, spread: int) -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (2, 4, 5)))
    w = const(b, 8, 4 // groups, 3)
    b.output("y", b.conv(x, w, [1], [(1, 1)], [1], [spread], groups))
    convs = [op for op in check_meaning(b.finish()).ops if isinstance(op, g.Conv)]
    assert all(set(op.x_dilation) == {1} and op.groups == groups for op in convs)
