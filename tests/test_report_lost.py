"""Where lost cycles went: hand-counted intervals, and sums that hold for real runs."""

import numpy as np
import pytest

from tapeout.isa.commands import Queue
from tapeout.report.lost import STATES, core_states, lost_cycles
from tapeout.report.request import Request
from tapeout.report.session import Session
from tapeout.sim.timing import Events, Queues, Trace


def trace_of(cycles: int, cores: int, lives: list[tuple[int, Queue, int, int, int]], dram: float = 0.0) -> Trace:
    """A trace of commands (core, queue, start, released, end)."""
    core, queue, start, released, end = (np.array(column, np.int64) for column in zip(*lives, strict=True))
    zeros = np.zeros(len(lives), np.int64)
    counts = np.zeros((cores, len(Queue)), np.int64)
    ticks = {"dram 0": int(960 * cycles * dram)}
    waits = np.zeros(cores, np.int64)
    events = Events(core, queue, zeros, zeros, zeros, zeros, start, released, end)
    return Trace(cycles, Queues(*[counts] * 6), (), ticks, waits, waits, 0, 0, 0, events)


LIVES = [
    (0, Queue.LD, 0, 10, 30),  # loads until 30
    (0, Queue.MM, 20, 60, 60),
    (0, Queue.VE, 50, 80, 80),  # alone from 60
    (0, Queue.MV, 70, 85, 85),  # alone from 80
    (0, Queue.ST, 85, 88, 95),
    (1, Queue.MM, 0, 40, 40),
    (1, Queue.MM, 50, 70, 70),
]


def test_states_by_hand() -> None:
    found = core_states(trace_of(100, 2, LIVES))
    assert tuple(found) == STATES
    assert found == {
        "matrix": (40 + 60) / 2, "vector": 20 / 2, "move": 5 / 2, "memory": (20 + 10) / 2, "idle": (5 + 40) / 2,
    }  # fmt: skip


def test_what_compute_needs_is_no_loss() -> None:
    lost = lost_cycles(trace_of(100, 2, LIVES), 45, "array")
    assert sum(lost.values()) == pytest.approx(55)
    assert lost["matrix units held longer than needed"] == pytest.approx(5)
    assert lost["vector units alone"] == pytest.approx(10)
    beyond = lost_cycles(trace_of(100, 2, LIVES), 55, "chain")
    assert beyond["matrix units held longer than needed"] == 0
    assert beyond["vector units alone"] == pytest.approx(5)
    assert sum(beyond.values()) == pytest.approx(45)


def test_what_dram_must_move_is_no_loss() -> None:
    lost = lost_cycles(trace_of(100, 2, LIVES, dram=0.6), 25, "dram")
    assert lost["DRAM moves more than it must"] == pytest.approx(35)
    assert lost["DRAM idle, matrix units at work"] == pytest.approx(40 * 50 / 85)
    assert sum(lost.values()) == pytest.approx(75)


@pytest.mark.parametrize(("chip", "model"), [("mlu370-x4", "resnet50"), ("systolic-128", "gpt2-decode")])
def test_all_lost_cycles_are_told(chip: str, model: str) -> None:
    options = {"height": 32, "width": 32} if model == "resnet50" else {"layers": 1, "width": 64, "heads": 2}
    session = Session(Request(model, options), chip)
    trace = session.time(None, events=True)
    summary = session.summary(trace, None)
    lost = summary.lost
    assert all(cycles >= 0 for cycles in lost.values())
    assert sum(lost.values()) == pytest.approx(summary.cycles - summary.attainable.cycles)
    assert sum(core_states(trace).values()) == pytest.approx(summary.cycles)
