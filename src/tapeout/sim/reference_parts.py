"""What the readable timing executor (`reference.py`) is made of: resources, queues, transfers, caches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tapeout.chip.spec import TICKS_PER_CYCLE, Port
from tapeout.isa import commands as c
from tapeout.isa.commands import ceil_div
from tapeout.sim.footprint import Footprint

LINE_GRANULES = 64
"""Granules of a cache line (rule 14)."""


@dataclass(eq=False, slots=True)
class Resource:
    """Rule 11: first come, first served; times in ticks."""

    port: Port
    free: int = 0
    busy: int = 0

    def serve(self, arrival: int, size: int) -> int:
        rate = round(self.port.bytes_per_cycle * 1000)
        if rate == 0:
            return arrival
        service = ceil_div(size * TICKS_PER_CYCLE * 1000, rate)
        self.busy += service
        self.free = max(arrival, self.free) + service
        return self.free


@dataclass(eq=False, slots=True)
class Entry:
    """A command in a queue, with what the slots' values made of it, and its life in cycles."""

    core: int
    queue: int
    number: int
    command: c.AnyCommand
    box: Footprint | None
    entered: int
    start: int = -1
    released: int = -1
    done: int | None = None


@dataclass(eq=False, slots=True)
class Transfer:
    """A DMA command under way: its bursts and the tick at which each has arrived."""

    entry: Entry
    sizes: list[int]
    engine: Resource
    free: int
    near: int | None = None  # the first burst that comes from or goes to the cache and no further
    access: int = 0  # number of its access to a cache
    fill: Transfer | None = None  # the load that hits depend on
    arrived: dict[int, int] = field(default_factory=dict[int, int])
    sent: int = 0
    held: list[Callable[[int], None]] = field(default_factory=list[Callable[[int], None]])  # others' bursts
    all_arrived: int | None = None


@dataclass(eq=False, slots=True)
class QueueState:
    waiting: deque[Entry] = field(default_factory=deque[Entry])
    open: deque[Entry] = field(default_factory=deque[Entry])  # issued and not complete
    issued: int = 0
    free_at: int | None = 0  # cycle at which the engine is free; None: not yet known


@dataclass(eq=False, slots=True)
class Line:
    """Granules of a cache line that are there, those of them that DRAM has otherwise, and the load that brought
    something last."""

    valid: set[int] = field(default_factory=set[int])
    dirty: set[int] = field(default_factory=set[int])
    fill: Transfer | None = None


@dataclass(eq=False, slots=True)
class Cache:
    """Rule 14: lines by number, least recently used first."""

    capacity_bytes: int
    granule: int
    lines: dict[int, Line] = field(default_factory=dict[int, Line])

    def _touched(self, box: Footprint) -> Iterator[tuple[Line, int, bool]]:
        """Granules in the order of the runs, each with its line, now the latest, and whether the run covers it."""
        for at in box.runs:
            for granule in range(at // self.granule, (at + box.run - 1) // self.granule + 1):
                number = granule // LINE_GRANULES
                self.lines[number] = self.lines.pop(number, Line())
                first = granule * self.granule
                yield self.lines[number], granule, at <= first and first + self.granule <= at + box.run

    def load(self, box: Footprint, load: Transfer) -> tuple[int, Transfer | None]:
        """Bytes that are missing, and the latest load that hits depend on."""
        missing, latest = 0, None
        for line, granule, _ in self._touched(box):
            if granule in line.valid:
                if line.fill is not load:
                    latest = max(latest, line.fill, key=lambda fill: fill.access if fill else 0)
                continue
            missing += self.granule
            line.valid.add(granule)
            line.fill = load
        return missing, latest

    def store(self, box: Footprint, add: bool) -> list[tuple[int, int]]:
        """Line and bytes of what has to be fetched."""
        fetched: list[tuple[int, int]] = []
        for line, granule, covered in self._touched(box):
            if granule not in line.valid and (add or not covered):
                fetched.append((granule // LINE_GRANULES, self.granule))
            line.valid.add(granule)
            line.dirty.add(granule)
        return fetched

    def drop(self, box: Footprint) -> None:
        for at in box.runs:
            for granule in range(at // self.granule, (at + box.run - 1) // self.granule + 1):
                self.lines.get(granule // LINE_GRANULES, Line()).valid.discard(granule)

    def make_room(self) -> list[tuple[int, int]]:
        """Line and bytes of what has to be written back."""
        written: list[tuple[int, int]] = []
        while sum(len(line.valid) for line in self.lines.values()) * self.granule > self.capacity_bytes:
            number = next(iter(self.lines))
            written.append((number, len(self.lines.pop(number).dirty) * self.granule))
        return written
