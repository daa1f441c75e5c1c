"""Schedule search: what it returns fits, and is the best of what it tries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from compiled import ODD, PRESETS, run_everywhere
from strategies import chips, graphs
from tapeout.chip.spec import Chip
from tapeout.compiler.canonicalize import canonicalize
from tapeout.compiler.lower import lower
from tapeout.compiler.pipeline import compile_graph, plan_kernels
from tapeout.compiler.schedule_verify import verify_schedule
from tapeout.compiler.search import search
from tapeout.compiler.tile import local_bytes
from tapeout.errors import DoesNotFit, UnsupportedOp
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.types import DType, TensorType
from tapeout.isa.commands import Queue


def linear(rows: int, inner: int, columns: int) -> Graph:
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (rows, inner)))
    b.output("y", b.matmul(x, b.constant(np.ones((inner, columns), np.float32))))
    return b.finish()


@settings(max_examples=80)
@given(graphs(max_ops=5, extent=23), chips())
def test_schedules_are_valid_and_fit(graph: Graph, chip: Chip) -> None:
    try:
        plan = plan_kernels(canonicalize(graph), chip)
        kernels, schedules = plan.kernels, plan.schedules
    except (DoesNotFit, UnsupportedOp):
        return
    for kernel, schedule in zip(kernels, schedules, strict=True):
        verify_schedule(kernel, schedule, chip)
        used = local_bytes(lower(kernel, schedule, chip), len(chip.memories))
        assert all(n <= m.bytes for n, m in zip(used, chip.memories, strict=True))


@pytest.mark.parametrize("chip", [ODD, *PRESETS], ids=lambda c: c.name)
def test_more_candidates_are_never_worse(chip: Chip) -> None:
    (kernel,) = plan_kernels(canonicalize(linear(300, 200, 100)), chip).kernels
    few, many = (search(kernel, chip, limit=n) for n in (64, 8192))
    assert many.cycles <= few.cycles * 1.001


def test_all_cores_get_work() -> None:
    (schedule,) = plan_kernels(canonicalize(linear(300, 200, 100)), ODD).schedules
    assert schedule.cores > ODD.cores // 2


def test_large_tiles_do_not_fit_small_memories() -> None:
    small = replace(ODD, memories=(replace(ODD.memories[0], bytes=8192),))
    for chip in (ODD, small):
        plan = plan_kernels(canonicalize(linear(300, 200, 100)), chip)
        (kernel,), (schedule,) = plan.kernels, plan.schedules
        assert local_bytes(lower(kernel, schedule, chip), 1)[0] <= chip.memories[0].bytes


def test_what_fits_nowhere_is_refused_in_one_line() -> None:
    b = Builder()
    b.output("y", b.sort(b.input("x", TensorType(DType.f32, (100_000,))), 0)[0])
    with pytest.raises(DoesNotFit, match="local memory"):
        compile_graph(b.finish(), ODD)


def test_lists_that_may_repeat_are_not_spread() -> None:
    """Rows of a scatter are stored by one core in order; other dimensions are spread."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (64, 512)))
    where = b.input("i", TensorType(DType.i64, (64,)))
    b.output("y", b.scatter("add", x, where, b.input("u", TensorType(DType.f32, (64, 512))), 0))
    plan = plan_kernels(canonicalize(b.finish()), ODD)
    kernels, schedules = plan.kernels, plan.schedules
    kernel, schedule = next((k, s) for k, s in zip(kernels, schedules, strict=True) if k.ordered)
    assert not kernel.ordered & {axis for axis, _ in schedule.spread}
    assert schedule.cores > 1


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (0, 3), (0, 1, 3)], ids=str)
@pytest.mark.parametrize("chip", [ODD, *PRESETS], ids=lambda c: c.name)
def test_folds_of_what_does_not_lie_innermost(chip: Chip, axes: tuple[int, ...]) -> None:
    """Step by step or result by result, whichever the tile of the result makes shorter: a norm over groups of channels
    took a command for each element."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (33, 3, 7, 9)))
    b.output("y", b.reduce("sum", x, axes))
    executable = run_everywhere(b.finish(), chip)
    kept = int(np.prod([n for d, n in enumerate((33, 3, 7, 9)) if d not in axes]))
    if kept < 33:
        assert executable.time().queues.commands[:, Queue.VE].max() <= 33 * 3
