"""Where a run's cycles beyond the attainable bound went (docs/bounds.md): shares that add up to all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tapeout.isa.commands import Queue
from tapeout.sim.timing import Trace

Cycles = npt.NDArray[np.int64]

STATES = ("matrix", "vector", "move", "memory", "idle")
"""What a core does at a moment, the first that holds: its matrix unit is held, its vector unit, its mover; a transfer
is under way; nothing."""
_NAMES = {
    "matrix": "matrix units held longer than needed",
    "vector": "vector units alone",
    "move": "movers alone",
    "memory": "waiting for transfers alone",
    "idle": "no engine of the core at work",
}
_IDLE_DRAM = {
    "matrix": "DRAM idle, matrix units at work",
    "vector": "DRAM idle, vector units at work",
    "move": "DRAM idle, movers at work",
    "memory": "DRAM idle, transfers under way on chip",
    "idle": "DRAM idle, no engine of the core at work",
}


def core_states(trace: Trace) -> dict[str, float]:
    """Cycles of a core in each of `STATES`, mean over the cores; they add up to the run. `trace` has events."""
    events = trace.events
    cores = len(trace.queues.busy)
    offset = events.core * (trace.cycles + 1)  # cores one behind the other on one axis
    chosen = np.zeros(len(events), bool)
    end = np.where((events.queue == Queue.LD) | (events.queue == Queue.ST), events.end, events.released)
    found: dict[str, float] = {}
    covered = 0
    for state, queues in zip(STATES, ((Queue.MM,), (Queue.VE,), (Queue.MV,), (Queue.LD, Queue.ST)), strict=False):
        for queue in queues:
            chosen |= events.queue == queue
        before, covered = covered, _union((events.start + offset)[chosen], (end + offset)[chosen])
        found[state] = (covered - before) / max(1, cores)
    found["idle"] = trace.cycles - covered / max(1, cores)
    return found


def lost_cycles(trace: Trace, attainable_cycles: float, limit: str) -> dict[str, float]:
    """Cycles of the run beyond its attainable bound by cause; they add up to all of them. `limit` sets the bound, as in
    `Bounds.attainable_limit`; `trace` has events.

    Where DRAM sets the bound: DRAM moving more than any program must, and DRAM idle, by what the cores do meanwhile
    (in the proportion of `core_states` without waiting for transfers). Else: states of the cores, less what the bound
    needs.
    """
    states = core_states(trace)
    if limit == "dram":
        channels = [trace.busy_share(name) for name in trace.resource_ticks if name.startswith("dram")]
        busy = trace.cycles * sum(channels) / max(1, len(channels))
        needed = min(attainable_cycles, busy)
        idle = trace.cycles - busy - (attainable_cycles - needed)
        weights = {state: cycles for state, cycles in states.items() if state != "memory"}
        whole = sum(weights.values())
        if whole <= 0:
            weights, whole = {"memory": 1.0}, 1.0
        causes = {_IDLE_DRAM[state]: idle * weight / whole for state, weight in weights.items()}
        return {"DRAM moves more than it must": busy - needed, **causes}
    left = attainable_cycles
    causes: dict[str, float] = {}
    for state, cycles in states.items():
        taken = min(left, cycles)
        left -= taken
        causes[_NAMES[state]] = cycles - taken
    return causes


def _union(start: Cycles, end: Cycles) -> int:
    """How much of the axis intervals cover."""
    if not len(start):
        return 0
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reached = np.maximum.accumulate(end)
    before = np.concatenate([start[:1], reached[:-1]])
    return int(np.maximum(0, end - np.maximum(start, before)).sum())
