"""Scans are written out with their meaning kept; other control flow is refused with one line."""

import numpy as np
import pytest

from compiled import PRESETS, run_everywhere
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import UnsupportedOp
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType
from tapeout.ir.unroll import unroll_scans
from tapeout.ir.verify import verify

ROW = TensorType(DType.f32, (3,))


def scanned(length: int, reverse: bool = False) -> g.Graph:
    """h = tanh(h + x_i) with every h and h * x_i kept; a scan in the scan sums the row twice."""
    b = Builder("scanned")
    x, start = b.input("x", TensorType(DType.f32, (length, 3))), b.input("start", ROW)

    def twice(inner: Builder, total: g.Value, part: g.Value) -> tuple[g.Value, ...]:
        return (inner.add(total, part),)

    def step(inner: Builder, h: g.Value, row: g.Value) -> tuple[g.Value, ...]:
        new = inner.unary("tanh", inner.add(h, row))
        pair = inner.broadcast(row, (2, 3), (1,))
        body = inner.region([ROW, ROW], twice)
        (total,) = inner.emit(g.Scan((new,), (pair,), body, 2))
        return new, new, inner.mul(total, row)

    last, *stacked = b.emit(g.Scan((start,), (x,), b.region([ROW, ROW], step), length, reverse))
    b.output("last", last)
    for i, value in enumerate(stacked):
        b.output(f"stacked_{i}", value)
    return b.finish()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 4])
def test_meaning_is_kept(length: int, reverse: bool) -> None:
    graph = scanned(length, reverse)
    plain = unroll_scans(graph)
    verify(plain, "unroll")
    assert not any(isinstance(op, g.Scan) for op in plain.ops)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal((length, 3), np.float32), "start": rng.standard_normal(3, np.float32)}
    wanted, found = interpret(graph, inputs).outputs, interpret(plain, inputs).outputs
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("chip", PRESETS, ids=lambda c: c.name)
def test_scans_run(chip: object) -> None:
    run_everywhere(scanned(3, reverse=True), chip)  # type: ignore[arg-type]


def test_what_has_no_scan_is_left_alone() -> None:
    b = Builder("plain")
    b.output("y", b.unary("neg", b.input("x", ROW)))
    graph = b.finish()
    assert unroll_scans(graph) is graph


def test_what_hangs_on_data_is_refused() -> None:
    b = Builder("branch")
    cond, x = b.input("cond", TensorType(DType.b1, ())), b.input("x", ROW)
    then = b.region([ROW], lambda inner, v: (inner.unary("neg", v),))
    orelse = b.region([ROW], lambda inner, v: (v,))
    b.output("y", *b.emit(g.If(cond, (x,), then, orelse)))
    with pytest.raises(UnsupportedOp, match="If has no lowering"):
        compile_graph(b.finish(), PRESETS[0])


def test_very_long_scans_are_refused() -> None:
    with pytest.raises(UnsupportedOp, match="Scan has no lowering"):
        compile_graph(scanned(9000), PRESETS[0])
