"""Native timing executor against the readable rules, on random programs; skipping of steady loops; errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from strategies_isa import CHIP, build, long_programs, programs
from tapeout.chip.spec import Chip
from tapeout.errors import SimError, UserError
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import CORE, Affine, Post, Tensor, View, Wait, slot_value
from tapeout.isa.program import Program
from tapeout.sim import reference, timing

Case = tuple[Program, Chip, list[list[int]]]


def assert_agree(case: Case) -> None:
    judge = reference.run(*case)
    trace = timing.run(*case, trace=True)
    e = trace.events
    columns = (e.core, e.queue, e.kernel, e.opcode, e.entered, e.start, e.released, e.end)
    lives = sorted((e.core, e.queue, e.kernel, e.opcode, e.entered, e.start, e.released, e.end) for e in judge.events)
    assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == lives
    assert trace.cycles == judge.cycles
    assert {name: ticks for name, ticks in trace.resource_ticks.items() if ticks} == judge.busy_ticks
    assert (trace.read_bytes, trace.read_charged_bytes) == judge.dram_read_bytes
    assert (trace.written_bytes, trace.written_charged_bytes) == judge.dram_written_bytes
    assert (trace.cache_hit_bytes, trace.cache_missed_bytes) == (judge.cache_hit_bytes, judge.cache_missed_bytes)


def assert_same(one: timing.Trace, other: timing.Trace) -> None:
    """Everything but events and the number of skipped turns."""
    assert one.cycles == other.cycles
    assert one.kernels == other.kernels
    assert one.resource_ticks == other.resource_ticks
    assert (one.cache_hit_bytes, one.cache_missed_bytes) == (other.cache_hit_bytes, other.cache_missed_bytes)
    for name in ("commands", "busy", "wait_semaphore", "wait_engine", "idle", "full"):
        assert np.array_equal(getattr(one.queues, name), getattr(other.queues, name)), name
    assert np.array_equal(one.wait_barrier, other.wait_barrier)
    assert np.array_equal(one.wait_scalar, other.wait_scalar)


@given(programs())
@settings(max_examples=150)
def test_native_agrees_with_the_rules(case: Case) -> None:
    assert_agree(case)


@pytest.mark.native
@pytest.mark.parametrize("seed", range(40))
def test_native_agrees_on_fixed_programs(seed: int) -> None:
    assert_agree(build(Random(seed)))


@given(long_programs())
@settings(max_examples=150)
def test_skipping_changes_nothing(case: Case) -> None:
    assert_same(timing.run(*case, skip=True), timing.run(*case, skip=False))


@given(programs())
@settings(max_examples=50)
def test_times_of_a_queue_add_up(case: Case) -> None:
    trace = timing.run(*case)
    queues = trace.queues
    assert (queues.idle >= 0).all()
    assert (queues.wait_engine <= queues.busy).all()
    assert (queues.busy + queues.wait_semaphore + queues.idle == trace.cycles).all()
    for queue in c.Queue:
        assert sum(k.busy_cycles[queue] for k in trace.kernels) == trace.busy_cycles[queue]
        assert sum(k.commands[queue] for k in trace.kernels) == queues.commands[:, queue].sum()
    assert all(trace.busy_share(name) <= 1 for name in trace.resource_ticks)


# ---- errors

VIEW = View(0, Affine(), (4,), DType.f32)
NEG = c.Vector("neg", "f32", (8,), VIEW, (VIEW,), 0, Affine())
TWO_CORES = replace(CHIP, topology=replace(CHIP.topology, cores=2))

both = pytest.mark.parametrize("execute", [reference.run, timing.run])
Execute = Callable[[Program, Chip], object]


def small(*body: c.Node, semaphores: tuple[int, ...] = (0,), cores: int = 1) -> Program:
    tensor = Tensor("x", 0, 0, DType.f32, (8,), (4,))
    return Program("small", "chip", cores, (tensor,), ("core", "i"), semaphores, body)


@both
def test_wait_without_post_is_a_deadlock(execute: Execute) -> None:
    with pytest.raises(SimError, match="deadlock: core 0") as caught:
        execute(small(NEG, replace(NEG, waits=(Wait(0),))), CHIP)
    assert caught.value.cycle == 4


def test_deadlock_names_the_command() -> None:
    with pytest.raises(SimError, match="semaphore 0, which holds 0 of 1") as caught:
        timing.run(small(NEG, replace(NEG, waits=(Wait(0),))), CHIP)
    assert "vector neg f32 (8)" in str(caught.value)
    assert "wait 0" in str(caught.value)


@both
def test_barrier_that_a_core_never_reaches(execute: Execute) -> None:
    with pytest.raises(SimError, match="deadlock: core 1"):
        execute(small(c.If(slot_value(CORE), (c.Barrier(True, ()),)), cores=2), TWO_CORES)


@both
def test_scalar_that_was_not_given(execute: Execute) -> None:
    with pytest.raises(SimError, match="core 0 reads a scalar"):
        execute(small(c.LoadScalar(1, View(0, Affine(), (), DType.i32))), CHIP)


def test_loop_that_never_ends() -> None:
    with pytest.raises(SimError, match="never ends"):
        timing.run(small(c.While(Affine(1), ())), CHIP)


def test_program_for_another_chip() -> None:
    with pytest.raises(UserError, match="more cores than the chip has"):
        timing.run(small(NEG, cores=2), CHIP)
    with pytest.raises(UserError, match="local memory 3"):
        timing.run(small(replace(NEG, dst=replace(VIEW, memory=3))), CHIP)
    with pytest.raises(UserError, match="scalars for 2 cores"):
        timing.run(small(NEG), CHIP, [[], []])
    half = replace(VIEW, dtype=DType.f16)
    with pytest.raises(UserError, match="no geometry for f16"):
        timing.run(small(c.MatMul((), 1, (), replace(half, strides=()), half, VIEW, Affine())), CHIP)


def test_cluster_post_past_the_last_semaphore() -> None:
    with pytest.raises(SimError, match="needs semaphore 1"):
        timing.run(small(replace(NEG, posts=(Post(0, 1, True),)), cores=2), TWO_CORES)
