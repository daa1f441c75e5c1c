"""The race check kept a raw pointer to the clock a queue had joined; a new clock at its address was taken for it."""

import numpy as np
import pytest

from sim_commands import chip
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import CORE, Affine, Post, Tensor, Term, View, Wait
from tapeout.isa.program import Program
from tapeout.sim.machine import Segment, run

CORES, ROW, STEPS = 4, 16, 6
ALL = tuple(int(q) for q in c.Queue)
OWN = Affine(0, (Term(CORE, 1),))
LOCAL = View(0, Affine(), (64, 4), DType.f32)


def move(source: int, target: int, first: Affine, rows: int) -> tuple[c.Node, ...]:
    """Rows of one tensor to another, through local memory; then everybody meets."""
    origin, box = (first, Affine()), (rows, ROW)
    return (
        c.Load(source, origin, box, Affine(), LOCAL, waits=(Wait(0),), posts=(Post(1),)),
        c.Store(target, origin, box, Affine(), LOCAL, waits=(Wait(1),), posts=(Post(0),)),
    )


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_kernels_on_one_core_between_kernels_on_all(seed: int | None) -> None:
    """All cores, then core 0 alone several times, then all cores: barriers order it all, and no race is there."""
    size = CORES * ROW * 4
    tensors = tuple(Tensor(f"t{n}", 0, n * size, DType.f32, (CORES, ROW), (ROW * 4, 4)) for n in range(STEPS + 3))
    meet = c.Barrier(True, ALL)
    body: list[c.Node] = [*move(0, 1, OWN, 1), meet]
    for n in range(1, STEPS + 1):
        body += [c.If(Affine(1, (Term(CORE, -1),)), move(n, n + 1, Affine(), CORES)), meet]
    body += [*move(STEPS + 1, STEPS + 2, OWN, 1), meet]
    program = Program("clocks", "small", CORES, tensors, ("core",), (1, 0), tuple(body))
    given = np.arange(CORES * ROW, dtype=np.float32)
    rest = np.zeros((STEPS + 2) * CORES * ROW, np.float32)
    for _ in range(8):
        run(program, chip(2, 2), [Segment(0, given, True), Segment(size, rest, False)], fuzz_seed=seed)
        np.testing.assert_array_equal(rest[-CORES * ROW :], given)
