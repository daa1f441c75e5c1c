"""The timing rules of `docs/timing.md` as plain Python: slow, and meant to be read beside that page.

Every rule is quoted by its number. `Machine` is an event-driven simulator: the heap holds moments, and the least
one comes next (rule 7). Times are whole cycles for control and queues, ticks (1/960 cycle) for bursts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from tapeout.chip.spec import TICKS_PER_CYCLE, Chip, Port, Shared
from tapeout.errors import SimError
from tapeout.isa import commands as c
from tapeout.isa.commands import ceil_div
from tapeout.isa.operands import Wait
from tapeout.isa.program import Program
from tapeout.sim.footprint import Footprint, footprint
from tapeout.sim.reference_parts import LINE_GRANULES, Cache, Entry, QueueState, Resource, Transfer


@dataclass(frozen=True, slots=True)
class Event:
    """One command's life in cycles: in its queue, started, engine released, complete."""

    core: int
    queue: int
    kernel: int
    opcode: int
    entered: int
    start: int
    released: int
    end: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """`events` in order of completion; `busy_ticks` by resource; bytes of DRAM as (as they are, charged)."""

    cycles: int
    events: tuple[Event, ...]
    busy_ticks: dict[str, int]
    dram_read_bytes: tuple[int, int]
    dram_written_bytes: tuple[int, int]
    cache_hit_bytes: int
    cache_missed_bytes: int


class Phase(IntEnum):
    """Rule 7: the order at one moment."""

    COMPLETION = 0
    CONTROL = 1
    START = 2
    BURST = 3


Holds = Callable[[], bool]


class Machine:
    """A chip with a program in it."""

    def __init__(self, program: Program, chip: Chip, scalars: Sequence[Sequence[int]] | None) -> None:
        cores = range(program.cores)
        self.program, self.chip, self.now = program, chip, 0
        self.moments: list[tuple[tuple[int, ...], int, Callable[[int], None]]] = []
        self.pushed = 0
        self.slots = [[core] + [0] * (len(program.slots) - 1) for core in cores]
        self.semaphores = [list(program.semaphores) for _ in cores]
        self.queues = [[QueueState() for _ in c.Queue] for _ in cores]
        self.scalars = [iter(scalars[core] if scalars else ()) for core in cores]
        self.control: list[Iterator[Holds] | None] = [self._walk(core, program.body) for core in cores]
        self.until: list[Holds] = [lambda: True for _ in cores]
        self.barriers: dict[int, list[int]] = {}  # by scope: the cores that have arrived
        self.resources: dict[str, Resource] = {}
        self.caches: dict[str, Cache] = {}
        self.events: list[Event] = []
        self.read, self.written = [0, 0], [0, 0]
        self.hits = self.missed = self.accesses = self.end = 0

    def run(self) -> Timeline:
        for core in range(self.program.cores):
            self._wake(core, 0)
        while self.moments:
            key, _, action = heapq.heappop(self.moments)
            self.now = key[0] // TICKS_PER_CYCLE
            action(key[0])
        for core, control in enumerate(self.control):
            if control or any(queue.open for queue in self.queues[core]):
                raise SimError(f"deadlock: core {core} waits for what never comes", cycle=self.now)
        busy = {name: resource.busy for name, resource in sorted(self.resources.items()) if resource.busy}
        for home in range(self.chip.topology.dies):  # what is still written back
            self.end = max(self.end, ceil_div(self._resource(*self._channel(home)).free, TICKS_PER_CYCLE))
        read, written = (self.read[0], self.read[1]), (self.written[0], self.written[1])
        return Timeline(self.end, tuple(self.events), busy, read, written, self.hits, self.missed)

    def _at(self, tick: int, order: tuple[int, ...], action: Callable[[int], None]) -> None:
        """Rule 7: `order` is phase, core, queue, command, burst."""
        self.pushed += 1
        heapq.heappush(self.moments, ((tick, *order), self.pushed, action))

    # ---- control: rules 1 to 3

    def _wake(self, core: int, cycle: int) -> None:
        self._at(cycle * TICKS_PER_CYCLE, (Phase.CONTROL, core), lambda _: self._go_on(core))

    def _go_on(self, core: int) -> None:
        control = self.control[core]
        while control and self.until[core]():
            self.end = max(self.end, self.now)
            following = next(control, None)
            if following is None:
                self.control[core] = control = None
            else:
                self.until[core] = following

    def _pause(self, core: int, cycles: int) -> Holds:
        until = self.now + cycles
        self._wake(core, until)
        return lambda: self.now >= until

    def _walk(self, core: int, nodes: tuple[c.Node, ...]) -> Iterator[Holds]:
        """The control processor's way through the tree; yields what has to hold before it goes on."""
        slots, chip = self.slots[core], self.chip
        for node in nodes:
            match node:
                case c.Loop():
                    for turn in range(node.trip.value(slots)):
                        slots[node.slot] = turn
                        yield from self._walk(core, node.body)
                case c.While():
                    while node.value.value(slots) > 0:
                        yield from self._walk(core, node.body)
                case c.If():
                    yield from self._walk(core, node.body if node.value.value(slots) > 0 else node.orelse)
                case c.Set():
                    slots[node.slot] = node.value.value(slots)
                case c.LoadScalar():  # rule 2
                    yield self._pause(core, chip.control.issue_cycles)
                    yield lambda waits=node.waits: self._take(core, waits)
                    slots[node.slot] = self._scalar(core)
                case c.Barrier():
                    yield from self._barrier(core, node)
                case _:  # rule 1
                    queue = self.queues[core][c.queue_of(node)]
                    yield lambda queue=queue: len(queue.open) < chip.control.queue_depth
                    yield self._pause(core, chip.control.issue_cycles)
                    self._enter(core, node)

    def _barrier(self, core: int, node: c.Barrier) -> Iterator[Holds]:
        """Rule 3. The last to arrive sets when all go on."""
        yield self._pause(core, self.chip.control.issue_cycles)
        yield lambda: not any(self.queues[core][q].open for q in node.queues)
        size = self.program.cores if node.chip else self.chip.topology.cores
        cores = range(core // size * size, min(core // size * size + size, self.program.cores))
        arrived = self.barriers.setdefault(-1 if node.chip else cores[0], [])
        arrived.append(core)
        if len(arrived) == len(cores):
            go_on = self.now + self.chip.control.barrier_cycles
            del self.barriers[-1 if node.chip else cores[0]]
            for other in cores:
                self.until[other] = lambda: self.now >= go_on
                self._wake(other, go_on)
            yield self.until[core]
        else:
            yield lambda: False

    def _scalar(self, core: int) -> int:
        value = next(self.scalars[core], None)
        if value is None:
            raise SimError(f"core {core} reads a scalar that the functional run did not give", cycle=self.now)
        return value

    def _take(self, core: int, waits: tuple[Wait, ...]) -> bool:
        """Rule 4: all counts together or none."""
        held = self.semaphores[core]
        if any(held[wait.semaphore] < wait.count for wait in waits):
            return False
        for wait in waits:
            held[wait.semaphore] -= wait.count
        return True

    # ---- queues: rules 4 to 7

    def _enter(self, core: int, command: c.AnyCommand) -> None:
        number, slots, box = int(c.queue_of(command)), self.slots[core], None
        queue = self.queues[core][number]
        if isinstance(command, c.Load | c.Store):
            tensor = self.program.tensors[command.tensor]
            box = footprint(command, tensor, self.chip.dram.granule_bytes, slots)
        entry = Entry(core, number, queue.issued, command, box, self.now)
        queue.issued += 1
        queue.waiting.append(entry)
        queue.open.append(entry)
        self._try(core, number, self.now)

    def _try(self, core: int, number: int, cycle: int) -> None:
        tick = cycle * TICKS_PER_CYCLE
        self._at(tick, (Phase.START, core, number), lambda _: self._start(core, number))

    def _start(self, core: int, number: int) -> None:
        """Rule 4."""
        queue = self.queues[core][number]
        if not queue.waiting or queue.free_at is None or queue.free_at > self.now:
            return
        if not self._take(core, queue.waiting[0].command.waits):
            return
        entry = queue.waiting.popleft()
        entry.start = self.now
        queue.free_at = None
        if isinstance(entry.command, c.Load | c.Store):
            self._start_transfer(entry, entry.command)
        else:  # rule 5
            end = self.now + c.cycles(entry.command, self.chip)
            self._release(entry, end)
            self._done(entry, end)

    def _release(self, entry: Entry, cycle: int) -> None:
        entry.released = self.queues[entry.core][entry.queue].free_at = cycle
        self._try(entry.core, entry.queue, cycle)

    def _done(self, entry: Entry, cycle: int) -> None:
        """Rule 4: completes once the ones ahead have."""
        entry.done = cycle
        if self.queues[entry.core][entry.queue].open[0] is entry:
            tick = cycle * TICKS_PER_CYCLE
            self._at(tick, (Phase.COMPLETION, entry.core, entry.queue), lambda _: self._complete(entry))

    def _complete(self, entry: Entry) -> None:
        """Rule 7."""
        core, queue = entry.core, self.queues[entry.core][entry.queue]
        queue.open.popleft()
        if queue.open and queue.open[0].done is not None:
            self._done(queue.open[0], max(self.now, queue.open[0].done))
        opcode = c.OPCODES.index(type(entry.command))
        life = (entry.entered, entry.start, entry.released, self.now)
        self.events.append(Event(core, entry.queue, entry.command.kernel, opcode, *life))
        self.end = self.now
        size = self.chip.topology.cores
        cluster = range(core // size * size, min(core // size * size + size, self.program.cores))
        for post in entry.command.posts:
            for target in cluster if post.cluster else (core,):
                own = core - cluster[0] if post.cluster else 0
                self.semaphores[target][post.semaphore + own] += post.count
        for other in cluster:  # whatever waits for a semaphore, a place in the queue or a barrier looks again
            self._wake(other, self.now)
            for number in c.Queue:
                self._try(other, number, self.now)

    # ---- DMA: rules 9 to 15

    def _start_transfer(self, entry: Entry, command: c.Load | c.Store) -> None:
        ready = self.now + self.chip.dma.setup_cycles
        if entry.box is None:  # rule 9: wholly outside
            self._release(entry, ready)
            self._done(entry, ready)
            return
        transfer = Transfer(entry, [], Resource(Port(self.chip.dma.bytes_per_cycle)), ready * TICKS_PER_CYCLE)
        far, near = self._look_up(transfer, command, entry.box)
        burst = self.chip.dma.burst_bytes
        transfer.sizes = [min(burst, size - at) for size in (far, near) for at in range(0, size, burst)]
        if near:
            transfer.near = ceil_div(far, burst)
        self._send(transfer)

    def _look_up(self, transfer: Transfer, command: c.Load | c.Store, box: Footprint) -> tuple[int, int]:
        """Rules 9 and 14: bytes on the whole way, and those between core and cache; counts what DRAM moves."""
        twice = 2 if isinstance(command, c.Store) and command.add else 1
        if self.program.tensors[command.tensor].space:
            return box.bytes * twice, 0
        level = self.chip.cache
        if level is not None and command.index is None:
            where = self._scoped(level.name, level.scope, transfer.entry.core)
            cache = self.caches.setdefault(where, Cache(level.bytes, self.chip.dram.granule_bytes))
            self.accesses += 1
            if isinstance(command, c.Load):
                return self._load_through(cache, transfer, box)
            if level is self.chip.store_cache:
                fetched = cache.store(box, command.add)
                self._in_background(fetched, cache.make_room())
                return 0, box.bytes * twice
            for other in self.caches.values():
                other.drop(box)
        self._count(self.read if isinstance(command, c.Load) else self.written, box.bytes, box.charged)
        return box.charged, 0

    def _load_through(self, cache: Cache, transfer: Transfer, box: Footprint) -> tuple[int, int]:
        transfer.access = self.accesses
        missing, transfer.fill = cache.load(box, transfer)
        self._in_background([], cache.make_room())
        brought = min(box.bytes, missing)
        self._count(self.read, brought, missing)
        self.hits += box.bytes - brought
        self.missed += brought
        return missing, box.bytes - brought

    def _in_background(self, fetched: list[tuple[int, int]], written: list[tuple[int, int]]) -> None:
        """Bytes by line that take the channels now, all of a command and a die together."""
        dies, at = self.chip.topology.dies, dict[int, int]()
        for number, size in (*fetched, *written):
            first = number * LINE_GRANULES * self.chip.dram.granule_bytes
            home = first // self.chip.dram.interleave_bytes % dies
            at[home] = at.get(home, 0) + size
        for home, size in at.items():
            self._resource(*self._channel(home)).serve(self.now * TICKS_PER_CYCLE, size)
        self._count(self.read, *[sum(size for _, size in fetched)] * 2)
        self._count(self.written, *[sum(size for _, size in written)] * 2)

    def _count(self, counted: list[int], size: int, charged: int) -> None:
        counted[0] += size
        counted[1] += charged

    def _scoped(self, name: str, scope: str, core: int) -> str:
        return name if scope == "chip" else f"{name} {core // self.chip.topology.cores}"

    def _way(self, transfer: Transfer, burst: int) -> list[tuple[str, Port]]:
        """Rules 12 and 13: the shared resources that a burst passes, by name."""
        entry, chip = transfer.entry, self.chip
        assert isinstance(entry.command, c.Load | c.Store)
        assert entry.box
        space = self.program.tensors[entry.command.tensor].space
        level = chip.spaces[space - 1] if space else chip.cache
        own = (
            [
                (
                    self._scoped(level.name, level.scope, entry.core),
                    Port(level.bytes_per_cycle, level.latency_cycles),
                )
            ]
            if level
            else []
        )
        direction = "in" if entry.queue == c.Queue.LD else "out"
        port = (f"cluster {entry.core // chip.topology.cores} {direction}", chip.cluster_port)
        block = entry.box.first // chip.dram.interleave_bytes + burst
        if space and level and level.scope == "distributed":
            return self._way_to_slice(entry, level, block % chip.clusters)
        if space:
            return own if level and level.scope == "cluster" else [port, *own]
        if _is_near(transfer, burst):
            return [port, *own]
        home = block % chip.topology.dies
        link = self._link(entry, home)
        return [port, *own, *link, self._channel(home)]

    def _channel(self, home: int) -> tuple[str, Port]:
        chip = self.chip
        return f"dram {home}", Port(chip.dram_bytes_per_cycle / chip.topology.dies, chip.dram.latency_cycles)

    def _resource(self, name: str, port: Port) -> Resource:
        return self.resources.setdefault(name, Resource(port))

    def _link(self, entry: Entry, home: int) -> list[tuple[str, Port]]:
        """The die link to a home on another die."""
        here = entry.core // (self.chip.topology.clusters * self.chip.topology.cores)
        pair = (home, here) if entry.queue == c.Queue.LD else (here, home)
        return [(f"die {pair[0]} to {pair[1]}", self.chip.die_link)] if home != here else []

    def _way_to_slice(self, entry: Entry, level: Shared, home: int) -> list[tuple[str, Port]]:
        """The way to the slice of a distributed memory that cluster `home` holds."""
        chip = self.chip
        slice_ = (f"{level.name} {home}", Port(level.bytes_per_cycle, level.latency_cycles))
        here = entry.core // chip.topology.cores
        if home == here:
            return [slice_]
        ways = ("in", "out") if entry.queue == c.Queue.LD else ("out", "in")
        own, other = ((f"cluster {n} {way}", chip.cluster_port) for n, way in zip((here, home), ways, strict=True))
        return [own, *self._link(entry, home // chip.topology.clusters), other, slice_]

    def _send(self, transfer: Transfer) -> None:
        """Rule 12: lets bursts leave the engine as far as it is known when they do."""
        window, entry = self.chip.dma.outstanding_bursts, transfer.entry
        while (burst := transfer.sent) < len(transfer.sizes):
            if burst >= window and burst - window not in transfer.arrived:
                return
            opened = transfer.arrived[burst - window] if burst >= window else 0
            leaves = transfer.engine.serve(max(transfer.free, opened), transfer.sizes[burst])
            transfer.free = leaves
            transfer.sent += 1
            self._hop(transfer, burst, 0, leaves)
        self._release(entry, ceil_div(transfer.free, TICKS_PER_CYCLE))

    def _hop(self, transfer: Transfer, burst: int, hop: int, tick: int) -> None:
        entry = transfer.entry
        order = (Phase.BURST, entry.core, entry.queue, entry.number, burst)
        self._at(tick, order, lambda now: self._arrive(transfer, burst, hop, now))

    def _arrive(self, transfer: Transfer, burst: int, hop: int, tick: int) -> None:
        """A burst has left the engine (hop 0) or the shared resource before."""
        way, near, fill = self._way(transfer, burst), _is_near(transfer, burst), transfer.fill
        latency = TICKS_PER_CYCLE * sum(port.latency_cycles for _, port in way)
        stops = [step for step in way if step[1].bytes_per_cycle or (near and step is way[-1])]  # others take no time
        if near and fill and hop == len(stops) - 1:  # rule 14: the cache's port, not before what hits depend on
            if fill.all_arrived is None:
                fill.held.append(lambda there: self._hop(transfer, burst, hop, there))
                return
            if fill.all_arrived > tick:
                self._hop(transfer, burst, hop, fill.all_arrived)
                return
        if hop < len(stops):
            tick = self._resource(*stops[hop]).serve(tick, transfer.sizes[burst])
            hop += 1
        if hop < len(stops):
            self._hop(transfer, burst, hop, tick)
        else:
            self._land(transfer, burst, tick + latency)

    def _land(self, transfer: Transfer, burst: int, tick: int) -> None:
        transfer.arrived[burst] = tick
        if transfer.sent < len(transfer.sizes):
            self._send(transfer)
        if len(transfer.arrived) == len(transfer.sizes):
            transfer.all_arrived = max(transfer.arrived.values())
            for hop in transfer.held:
                hop(transfer.all_arrived)
            self._done(transfer.entry, ceil_div(transfer.all_arrived, TICKS_PER_CYCLE))


def _is_near(transfer: Transfer, burst: int) -> bool:
    """Whether a burst goes between core and cache only."""
    return transfer.near is not None and burst >= transfer.near


def run(program: Program, chip: Chip, scalars: Sequence[Sequence[int]] | None = None) -> Timeline:
    """Times a program; `scalars[core]` holds what its `LoadScalar`s read. `SimError` on deadlock."""
    return Machine(program, chip, scalars).run()
