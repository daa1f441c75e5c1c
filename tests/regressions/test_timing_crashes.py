"""Crashes of the timing executor. Caches took boxes of negative strides, which end below their first element, for ones
without end; a program without slots had no place for the number of the core."""

from dataclasses import replace

from sim_commands import chip
from tapeout.chip import spec
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Post, Tensor, View, Wait
from tapeout.isa.program import Program
from tapeout.sim import reference, timing

FORWARDS = Tensor("forwards", 0, 0, DType.f32, (8,), (4,))
BACKWARDS = Tensor("backwards", 0, 28, DType.f32, (8,), (-4,))
FURTHER = Tensor("further", 0, 64, DType.f32, (8,), (4,))
LOCAL = View(0, Affine(), (4,), DType.f32)
ALL = tuple(int(q) for q in c.Queue)


def load(tensor: int) -> tuple[c.Node, ...]:
    return c.Load(tensor, (Affine(),), (8,), Affine(), LOCAL, posts=(Post(0),)), c.Barrier(True, ALL)


def store(tensor: int) -> tuple[c.Node, ...]:
    return c.Store(tensor, (Affine(2),), (1,), Affine(), LOCAL, waits=(Wait(0),)), c.Barrier(True, ALL)


def test_reversed_tiles_of_a_cache() -> None:
    """A reversed tile is found again, goes when it is stored to from either side, and not when its neighbour is."""
    cached = replace(chip(), shared=(spec.Shared("cache", 1 << 12, 64, "cluster", "hardware"),))
    body = (*load(1), *load(1), *store(0), *load(1), *load(0), *store(1), *load(0), *store(2), *load(0))
    program = Program("reversed", "small", 1, (FORWARDS, BACKWARDS, FURTHER), ("core",), (0,), body)
    trace, judge = timing.run(program, cached), reference.run(program, cached, [[]])
    found = trace.cache_hit_bytes, trace.cache_missed_bytes
    assert found == (judge.cache_hit_bytes, judge.cache_missed_bytes) == (96, 96)
    assert trace.cycles == judge.cycles


def test_a_program_without_slots() -> None:
    """The number of the core was written behind the end of an empty list of slots."""
    program = Program("plain", "small", 1, (FORWARDS,), (), (0,), load(0))
    assert timing.run(program, chip()).cycles == reference.run(program, chip(), [[]]).cycles
