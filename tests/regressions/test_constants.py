"""Constants that were joined when compiling, and then could not hold what came out, or were rounded once more."""

import numpy as np
import pytest

from compiled import ODD, run_everywhere
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph, Value
from tapeout.ir.types import DType, TensorType
from tapeout.report.numerics import judge, references
from tapeout.runtime.executable import Executable

RNG = np.random.default_rng(0)
F32, F16 = DType.f32, DType.f16


def assert_right(graph: Graph, x: np.ndarray) -> None:
    """The numerics contract."""
    found = Executable(compile_graph(graph, ODD), ODD).run({"x": x})
    assert all(verdict.right for verdict in judge(found.outputs, references(graph, {"x": x})))


def times(b: Builder, x: Value, *factors: float) -> Value:
    for factor in factors:
        x = b.binary_scalar("mul", x, factor)
    return x


@pytest.mark.parametrize("factors", [(300.0, 300.0), (1e-4, 1e-3, 3e4)])
def test_factors_of_halves(factors: tuple[float, ...]) -> None:
    """300 * 300 is infinite as a half, 1e-4 * 1e-3 has hardly any places."""
    b = Builder()
    b.output("y", times(b, b.input("x", TensorType(F16, (4, 6))), *factors))
    assert_right(
        b.finish(), (RNG.normal(size=(4, 6)) / 400).astype(np.float16) * np.float16(30 if factors[0] < 1 else 1)
    )


def test_offset_of_halves_behind_a_factor() -> None:
    """(x - 500) * 200 became x * 200 - 100000, both of which are infinite."""
    b = Builder()
    x = b.unary("abs", b.input("x", TensorType(F16, (4, 6))))
    b.output("y", times(b, b.binary_scalar("add", x, -500.0), 200.0))
    assert_right(b.finish(), (500 + RNG.integers(-3, 3, size=(4, 6))).astype(np.float16))


def test_exact_values_near_an_offset() -> None:
    """(x - 1000) * 3.3 as x * 3.3 - 3300 had nothing but the rounding of 3300 left where x is nearly 1000."""
    b = Builder()
    x = b.input("x", TensorType(F32, (4, 6)))
    b.output("y", times(b, b.binary_scalar("add", x, -1000.0), 3.3))
    assert_right(b.finish(), (1000 + RNG.normal(size=(4, 6)) / 100).astype(np.float32))


@pytest.mark.parametrize("factor", [0.3, 1e-5, [0.3, 0.7, 1e-5, 2e5]])
def test_factors_behind_a_convolution_with_narrow_weights(factor: float | list[float]) -> None:
    """They went into weights in halves: rounded once more, without places, or infinite."""
    b = Builder()
    x = b.input("x", TensorType(F16, (1, 4, 6, 6)))
    y = b.conv(x, b.constant(RNG.normal(size=(4, 4, 3, 3)).astype(np.float16)), [1, 1], [(1, 1), (1, 1)], dtype=F32)
    if isinstance(factor, float):
        b.output("y", times(b, b.relu(y), factor))
    else:
        columns = b.broadcast(b.constant(np.array(factor, np.float32)), (1, 4, 6, 6), (1,))
        b.output("y", b.mul(y, columns))
    assert_right(b.finish(), RNG.normal(size=(1, 4, 6, 6)).astype(np.float16))


def test_a_factor_that_a_narrow_reader_would_have_to_take_back() -> None:
    """One reader's 2^-18 went into a value that another one reads as halves; taken back, these were infinite."""
    b = Builder()
    x = b.input("x", TensorType(F32, (4, 6)))
    columns = b.broadcast(b.constant(np.array([1.5, 0.5, 2, 3, 1, 0.25], np.float32)), (4, 6), (1,))
    y = b.add(b.mul(x, columns), columns)
    b.output("small", times(b, y, 2.0**-18))
    b.output("half", times(b, b.convert(y, F16), 3.0))
    assert_right(b.finish(), RNG.normal(size=(4, 6)).astype(np.float32))


def test_packed_constant_of_which_a_dimension_is_read_at_its_first_element_only() -> None:
    """A convolution of stride 2 and a single tap read one of two columns: no axis walks them, and lowering looked for
    one."""
    b = Builder()
    x = b.constant(np.arange(6, dtype=np.float32).reshape(3, 1, 2))
    w = b.input("w", TensorType(F32, (1, 1, 1)))
    b.output("y", b.conv(x, w, [2], [(0, 0)]))
    run_everywhere(b.finish(), ODD)
