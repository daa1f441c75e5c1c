"""The numerics contract on arrays whose errors are known."""

import math

import ml_dtypes
import numpy as np
import pytest

from tapeout.ir import Builder, DType, TensorType
from tapeout.ir import graph as g
from tapeout.report.numerics import Error, References, error, judge, references, verdict

ULP = 2.0**-23


def test_error_is_normalised() -> None:
    """(3, 4) for (3, 5): rms sqrt(1/2) over sqrt(17), largest 1 over 5."""
    found = error(np.array([3, 4], np.float32), np.array([3.0, 5.0]))
    assert found.rms == pytest.approx(math.sqrt(0.5) / math.sqrt(17))
    assert found.largest == pytest.approx(0.2)


def test_twice_the_yardstick_and_an_ulp() -> None:
    wide = np.array([1.0, 2.0, 4.0])
    narrow = wide.astype(np.float32) * np.float32(1 + 1e-4)
    own = verdict("x", wide.astype(np.float32) * np.float32(1 + 1.9e-4), wide, narrow)
    assert own.right
    assert own.bound.rms == pytest.approx(2e-4 + ULP, rel=2e-3)
    assert not verdict("x", wide.astype(np.float32) * np.float32(1 + 2.1e-4), wide, narrow).right


def test_one_large_error_is_not_lost_in_many_small_ones() -> None:
    wide = np.ones(1_000_000)
    found = wide.astype(np.float32)
    found[7] = np.float32(1 + 1e-5)
    assert not verdict("x", found, wide, wide.astype(np.float32)).right


def test_integers_are_exact() -> None:
    exact = np.arange(10)
    assert verdict("x", exact, exact, exact).right
    off = exact.copy()
    off[3] += 1
    wrong = verdict("x", off, exact, exact)
    assert not wrong.right
    assert wrong.error == Error(0.1, 0.1)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_infinities_stand_where_they_should(odd: float) -> None:
    wide = np.array([1.0, odd])
    narrow = wide.astype(np.float32)
    assert verdict("x", narrow, wide, narrow).right
    assert not verdict("x", np.array([1.0, 2.0], np.float32), wide, narrow).right
    assert not verdict("x", narrow, np.array([1.0, 2.0]), np.array([1.0, 2.0], np.float32)).right


def test_another_shape_or_type_is_wrong() -> None:
    wide = np.ones((2, 2))
    assert not verdict("x", np.ones(4, np.float32), wide, wide.astype(np.float32)).right
    assert not verdict("x", np.ones((2, 2), np.float16), wide, wide.astype(np.float32)).right


def test_empty_and_zero() -> None:
    assert error(np.zeros(0, np.float32), np.zeros(0)) == Error(0, 0)
    assert error(np.zeros(2, np.float32), np.zeros(2)) == Error(0, 0)
    assert error(np.ones(2, np.float32), np.zeros(2)).rms == math.inf


def test_a_model_is_held_against_itself() -> None:
    """bf16 rounds x + y to 8 bits; f32 arithmetic rounded once is right, bf16 results cut off are not."""
    build = Builder()
    x = build.input("x", TensorType(DType.bf16, (1000,)))
    held = build.state("last", np.zeros(1000, ml_dtypes.bfloat16))
    build.output("y", build.add(x, build.binary_scalar("mul", x, 0.3)))
    build.set_state("last", build.add(held, x))
    graph = build.finish()
    data = np.random.default_rng(0).standard_normal(1000).astype(np.float32).astype(ml_dtypes.bfloat16)
    reference = references(graph, {"x": data})
    assert all(v.right for v in judge(reference.narrow.outputs, reference, reference.narrow.states))
    cut = (reference.wide.outputs["y"] * 0.97).astype(ml_dtypes.bfloat16)
    assert not judge({"y": cut}, reference)[0].right


def quantised(values: np.ndarray) -> tuple[References, np.ndarray]:
    """References of y = round(x * 0.1 / 0.1), whose arguments are off by roundings of f32, and the op-by-op result."""
    build = Builder()
    x = build.input("x", TensorType(DType.f32, values.shape))
    build.output("y", build.unary("round", build.div(build.binary_scalar("mul", x, 0.1), build.full(0.1, x.type))))
    reference = references(build.finish(), {"x": values})
    return reference, reference.narrow.outputs["y"].copy()


def test_a_borderline_rounding_may_fall_to_either_side() -> None:
    """3.5 is as close to 3 as to 4; 3.2 is not."""
    near = np.concatenate([[3.5], np.arange(-50, 50) + 0.2]).astype(np.float32)
    reference, found = quantised(near)
    assert reference.fallen is not None
    for y in (3.0, 4.0):
        other = found.copy()
        other[0] = y
        assert judge({"y": other}, reference)[0].right
    wrong = found.copy()
    wrong[3] += 3
    assert not judge({"y": wrong}, reference)[0].right


def test_a_clear_rounding_may_not() -> None:
    reference, found = quantised(np.concatenate([[3.3], np.arange(-50, 50) + 0.2]).astype(np.float32))
    assert reference.fallen is None
    assert judge({"y": found}, reference)[0].right
    found[0] += 1
    assert not judge({"y": found}, reference)[0].right


def test_the_op_by_op_run_follows_float64_over_a_step() -> None:
    """So that a step which it alone takes the wrong way does not loosen the bound of every value."""
    near = np.full(1000, 3.5, np.float32) + np.linspace(-1e-6, 1e-6, 1000, dtype=np.float32)
    reference, found = quantised(near)
    np.testing.assert_array_equal(found, reference.wide.outputs["y"])


@pytest.mark.parametrize(("step", "limit", "wide", "narrow"), [(0.04, 1.0, 26, 25), (0.05, 2.0, 40, 41)])
def test_a_loop_may_take_another_turn_than_in_float64(step: float, limit: float, wide: int, narrow: int) -> None:
    """As where 25 times 0.04, the f32 number, are less than 1 in float64 and 1 in f32."""
    build = Builder()
    kind = TensorType(DType.f32, ())
    x = build.input("x", kind)

    def again(i: Builder, at: g.Value, _: g.Value) -> tuple[g.Value]:
        return (i.compare("lt", at, i.scalar(limit, DType.f32)),)

    def turn(i: Builder, at: g.Value, count: g.Value) -> tuple[g.Value, g.Value]:
        return i.binary_scalar("add", at, step), i.add(count, i.unary("ceil", i.binary_scalar("add", at, step / 2)))

    more, body = (build.region([kind] * 2, part) for part in (again, turn))
    build.output("at", build.emit(g.While((x, build.scalar(0, DType.f32)), more, body))[0])
    reference = references(build.finish(), {"x": np.array(0, np.float32)})
    for result, turns in ((reference.wide, wide), (reference.narrow, narrow)):
        assert float(result.outputs["at"]) == pytest.approx(turns * step, rel=1e-5)
