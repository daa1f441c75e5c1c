"""What the readable timing executor (`reference.py`) is made of: resources, queues, transfers, caches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tapeout.chip.spec import TICKS_PER_CYCLE, Port
from tapeout.isa import commands as c
from tapeout.isa.commands import ceil_div
from tapeout.sim.footprint import Footprint


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
    key: tuple[int, ...]
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
    tile: Transfer | None  # on a hit, the load that brought the tile
    arrived: dict[int, int] = field(default_factory=dict[int, int])
    sent: int = 0
    held: list[Callable[[int], None]] = field(default_factory=list[Callable[[int], None]])  # bursts of others' hits
    all_arrived: int | None = None


@dataclass(eq=False, slots=True)
class QueueState:
    waiting: deque[Entry] = field(default_factory=deque[Entry])
    open: deque[Entry] = field(default_factory=deque[Entry])  # issued and not complete
    issued: int = 0
    free_at: int | None = 0  # cycle at which the engine is free; None: not yet known


@dataclass(eq=False, slots=True)
class Cache:
    """Rule 14: tiles by key, least recently used first, each with its footprint and the load that brought it."""

    capacity: int
    tiles: dict[tuple[int, ...], tuple[Footprint, Transfer]] = field(
        default_factory=dict[tuple[int, ...], tuple[Footprint, Transfer]]
    )

    def find(self, key: tuple[int, ...]) -> Transfer | None:
        if key not in self.tiles:
            return None
        self.tiles[key] = self.tiles.pop(key)
        return self.tiles[key][1]

    def keep(self, key: tuple[int, ...], box: Footprint, load: Transfer) -> None:
        if box.bytes > self.capacity:
            return
        while sum(kept.bytes for kept, _ in self.tiles.values()) + box.bytes > self.capacity:
            del self.tiles[next(iter(self.tiles))]
        self.tiles[key] = (box, load)

    def drop(self, box: Footprint) -> None:
        for key, (kept, _) in list(self.tiles.items()):
            if kept.low <= box.high and box.low <= kept.high:
                del self.tiles[key]
