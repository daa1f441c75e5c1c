"""Binding symbols by input shapes, and the errors for inputs that do not fit."""

import numpy as np
import pytest

from tapeout.errors import UserError
from tapeout.ir import Builder, DimExpr, DType, Graph, TensorType, bind_graph, infer_binding, interpret, verify
from tapeout.ir.types import dim_add, symbol

F32 = DType.f32


def two_inputs() -> Graph:
    b = Builder("g")
    b.symbol("n", 1, 8)
    b.symbol("m", 2, 4)
    x = b.input("x", TensorType(F32, (symbol("n"), 3)))
    y = b.input("y", TensorType(F32, (dim_add(symbol("n"), symbol("m")), 3)))
    b.output("z", b.concat([x, y], 0))
    return b.finish()


def arrays(n: int, k: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((n, 3), np.float32), "y": np.zeros((k, 3), np.float32)}


def test_binding_is_solved_through_several_inputs() -> None:
    assert infer_binding(two_inputs(), {"x": (2, 3), "y": (5, 3)}) == {"n": 2, "m": 3}
    assert interpret(two_inputs(), arrays(2, 5)).outputs["z"].shape == (7, 3)


def test_bound_graph_has_no_symbols() -> None:
    graph = two_inputs()
    bound = bind_graph(graph, {"n": 2, "m": 3})
    verify(bound)
    assert not bound.symbols
    assert bound.outputs[0][1].type.shape == (7, 3)
    half = bind_graph(graph, {"m": 3})
    verify(half)
    assert half.outputs[0][1].type.shape == (DimExpr(3, (("n", 2),)), 3)
    assert bind_graph(bound, {"n": 2}) is bound


def test_coefficients_must_divide() -> None:
    b = Builder()
    b.symbol("n", 1, 8)
    b.output("y", b.input("x", TensorType(F32, (DimExpr(1, (("n", 2),)),))))
    assert infer_binding(b.finish(), {"x": (7,)}) == {"n": 3}
    with pytest.raises(UserError, match=r"x: dimension 0 is 6; give an extent of the form 2\*n\+1"):
        infer_binding(b.finish(), {"x": (6,)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((9, 3), np.float32), "y": np.ones((11, 3), np.float32)}, r"n = 9 is outside \[1, 8\]"),
        ({"y": np.ones((9, 3), np.float32)}, r"m = 7 is outside \[2, 4\]"),
        ({"x": np.ones((2, 4), np.float32)}, "x: dimension 1 is 4; give 3, as in"),
        ({"x": np.ones((2, 3, 1), np.float32)}, "x: input has shape .*give 2 dimensions"),
        ({"x": np.ones((2, 3), np.float64)}, "x: input is of type float64; give float32"),
        ({"q": np.ones(2)}, "q: there is no input of this name; use x, y"),
    ],
)
def test_wrong_inputs_are_user_errors(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        interpret(two_inputs(), {**arrays(2, 5), **change})


def test_missing_input_and_state() -> None:
    with pytest.raises(UserError, match="y: input is missing"):
        interpret(two_inputs(), {"x": np.ones((2, 3), np.float32)})
    b = Builder()
    held = b.state("s", np.zeros(2, np.float32))
    b.output("y", held)
    with pytest.raises(UserError, match="t: there is no state of this name"):
        interpret(b.finish(), {}, {"t": np.zeros(2, np.float32)})
    with pytest.raises(UserError, match="s: state has shape"):
        interpret(b.finish(), {}, {"s": np.zeros(3, np.float32)})


def test_undecided_symbol() -> None:
    b = Builder()
    b.symbol("n", 1, 8)
    b.output("y", b.iota(TensorType(F32, (symbol("n"),)), 0))
    with pytest.raises(UserError, match="no input decides the shape"):
        interpret(b.finish(), {})
    assert interpret(bind_graph(b.finish(), {"n": 3}), {}).outputs["y"].tolist() == [0, 1, 2]
