"""The text form of graphs: golden text, round trips, errors."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

from strategies import graphs
from tapeout.errors import UserError
from tapeout.ir import (
    Builder,
    DType,
    Graph,
    TensorType,
    constants,
    functions,
    parse_graph,
    print_graph,
    structurally_equal,
    symbol,
    verify,
)
from tapeout.ir.graph import HostCall, If, Value


def reparsed(graph: Graph) -> Graph:
    return parse_graph(print_graph(graph), constants(graph), functions(graph))


def twice(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (x * 2,)


def thrice(x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (x * 3,)


def every_form() -> Graph:
    """One of each thing that prints in its own way."""
    b = Builder("every form")
    b.symbol("n", 1, 8)
    x = b.input("x", TensorType(DType.f32, (symbol("n"), 4)))
    flag = b.input("is it?", TensorType(DType.b1, ()))
    held = b.state("cache.0", np.zeros(2, np.float16))
    b.set_state("cache.0", b.add(held, b.constant(np.array([1.5, -np.inf], np.float16))))
    b.source = 'layer/"0"'
    w = b.constant(np.arange(20, dtype=np.float32).reshape(4, 5) / 7)
    y = b.dot(x, w, ((1,), (0,)))
    b.source = ""
    scaled = b.region([y.type], lambda inner, v: (inner.binary_scalar("mul", v, 0.1),))
    same = b.region([y.type], lambda inner, v: (v,))
    z = b.emit(If(flag, (y,), scaled, same))[0]
    ordered, _ = b.sort(z, 1, descending=True)
    for fn in (twice, thrice):
        ordered = b.emit(HostCall("double", (ordered,), (ordered.type,), fn))[0]
    b.output("y", ordered)
    b.output("last one", b.drop_last(x, 0))
    return b.finish()


def test_golden(golden: Callable[[str, str], None]) -> None:
    verify(every_form())
    golden("graph_every_form.txt", print_graph(every_form()))


def test_every_form_returns() -> None:
    graph = every_form()
    assert structurally_equal(graph, reparsed(graph))
    assert print_graph(reparsed(graph)) == print_graph(graph)
    assert list(functions(graph)) == ["double", "double.1"]
    assert list(constants(graph)) == [c for c in constants(graph) if f"@{c} " in print_graph(graph)]


@given(graphs(control=True, states=True, symbols=True, dtypes=(DType.f32, DType.bf16)))
@settings(max_examples=100)
def test_random_graphs_return(graph: Graph) -> None:
    again = reparsed(graph)
    assert structurally_equal(graph, again)
    assert print_graph(again) == print_graph(graph)
    verify(again)


@pytest.mark.parametrize("dtype", list(DType))
def test_constants_keep_every_bit(dtype: DType) -> None:
    count = min(256, 1 << 8 * dtype.bytes)
    bits = np.random.default_rng(1).integers(0, 1 << 8 * min(dtype.bytes, 7), count, dtype=np.uint64)
    data = bits.astype(f"u{dtype.bytes}").view(dtype.numpy) if dtype is not DType.b1 else bits % 2 == 1
    if dtype.is_float:
        data[:3] = np.array([np.nan, np.inf, -0.0]).astype(dtype.numpy)
    b = Builder()
    for i in range(0, count, 16):
        b.output(f"y{i}", b.constant(data[i : i + 16]))
    assert not constants(b.finish())
    assert structurally_equal(b.finish(), reparsed(b.finish()))


def test_hashes_tell_type_shape_and_contents_apart() -> None:
    b = Builder()
    data = np.arange(32, dtype=np.float32)
    for other in (data, data.reshape(4, 8), data.view(np.int32), data + 1, data.astype(ml_dtypes.bfloat16)):
        b.output(f"y{len(constants(b.finish()))}", b.constant(other))
    assert len(constants(b.finish())) == 5


def test_structural_equality_sees_differences() -> None:
    def build(fn: str = "add", value: float = 1.0, name: str = "y", swapped: bool = False) -> Graph:
        b = Builder()
        x = b.input("x", TensorType(DType.f32, (2,)))
        w = b.input("w", TensorType(DType.f32, (2,)))
        x, w = (w, x) if swapped else (x, w)
        b.output(name, b.binary_scalar("mul", b.binary(fn, x, w), value))
        return b.finish()

    assert structurally_equal(build(), build())
    for other in (build(fn="sub"), build(value=2.0), build(name="z"), build(swapped=True)):
        assert not structurally_equal(build(), other)


def test_values_may_be_renamed() -> None:
    b = Builder()
    b.output("y", b.unary("neg", b.input("x", TensorType(DType.f32, ()))))
    c = Builder()
    c.output("y", c.unary("neg", c.input("other", TensorType(DType.f32, ()))))
    assert structurally_equal(b.finish(), c.finish())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph g {\n  input %x : f32[2]\n", "line 2: 'the end' where '}' should be"),
        ("graph g {\n  %y = neg x=%x : f32[]\n}", "line 2: no op has this name"),
        ("graph g {\n  %y = unary fn=neg x=%x : f32[]\n}", "line 2: %x is not defined"),
        ("graph g {\n  %y = unary gn=neg : f32[]\n}", "line 2: Unary has no field gn"),
        ("graph g {\n  %y = unary fn=neg : f32[]\n}", "line 2: Unary: .* missing"),
        ("graph g {\n  input %x : f12[2]\n}", "line 2: no element type f12"),
        ("graph g {\n  %c = constant data=@0123456789abcdef : f32[2]\n}", "no array @0123456789abcdef"),
        ("graph g {\n  %a, %b = iota type=f32[2] axis=0 : f32[2]\n}", "2 results but 1 types"),
        ("graph g {\n  ?\n}", "unreadable"),
        ("graph g {\n  %c = constant data=[1, 2] : f32[3]\n}", "line 2"),
        ("graph g {\n  %c = constant data=[q] : f32[1]\n}", "line 2"),
        ("graph g {\n} }", "after the end"),
    ],
)
def test_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_graph(text)


def test_odd_value_names() -> None:
    type_ = TensorType(DType.f32, ())
    x, y = Value('a "b", c', type_), Value("/conv/0.out:1", type_)
    graph = Graph("inf.1", (), (x, y), (), (), (("->", x), ("inf", y)))
    assert structurally_equal(graph, reparsed(graph))
    assert [v.name for v in reparsed(graph).inputs] == [x.name, y.name]
