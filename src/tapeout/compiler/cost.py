"""Closed-form costs of a kernel under many schedules at once: queue times from the costs in `isa/commands.py`, traffic
on DRAM, ports and shared memories as the machine charges it (`docs/timing.md`), issue, and the waits between engines.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm, prod

import numpy as np
import numpy.typing as npt

from tapeout.chip.spec import Chip
from tapeout.compiler.packing import packable
from tapeout.compiler.roles import (
    MULTICAST_BYTES,
    by_steps,
    folded_row,
    memory_of,
    roles_of,
    sides_of_sum,
    split_sums,
)
from tapeout.compiler.rooms import rooms_of
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.skew import turns_of_tiles
from tapeout.compiler.tile import ALIGNMENT, room_bytes
from tapeout.errors import DoesNotFit
from tapeout.ir import kernel as k
from tapeout.isa.commands import VECTOR_SPECIAL

Array = npt.NDArray[np.float64]


def _ceil(a: Array | float, b: Array | float) -> Array:
    return np.ceil(np.asarray(a) / b)


@dataclass(frozen=True, slots=True)
class Space:
    """Candidates as arrays: one row per record, one column per axis."""

    tile: Array
    factor: Array


def in_cache(op: k.LoadTile | k.StoreTile, chip: Chip) -> bool:
    """Whether a tile goes to the cache and no further: of a temporary that was computed not long before, or that is
    stored and does not fill the cache."""
    access, cache = op.access, chip.store_cache
    if cache is None or access.buffer.space or access.gather:
        return False
    recent = isinstance(op, k.StoreTile) or access.buffer.role == "temporary"
    return recent and prod(access.extents) * access.buffer.dtype.bytes <= cache.bytes / 2


CHAINED = ("ld", "dram ld", "mm", "ve", "st")
"""Resources whose single turns wait for one another."""


class _Use:
    """Cycles of every resource: in all turns (`total`), in one turn of each op (`path`), and in each of the `whole`
    turns on average, without what is done once (`turn`, of `CHAINED` only)."""

    def __init__(self, whole: Array) -> None:
        self.whole = whole
        self.total: dict[str, Array] = {}
        self.path: dict[str, Array] = {}
        self.turn: dict[str, Array] = {}
        for name in ("ld", "st", "mm", "ve", "mv", "dram", "dram ld", "issue"):
            self.add(name, np.zeros_like(whole), whole)

    def add(self, name: str, each: Array, turns: Array) -> None:
        """`each` cycles in each of so many turns."""
        total = each * turns
        self.total[name] = self.total.get(name, 0.0) + total
        self.path[name] = self.path.get(name, 0.0) + each
        if name in CHAINED:
            self.turn[name] = self.turn.get(name, 0.0) + np.where(turns > 1, total / self.whole, 0.0)


class Cost:
    """Closed-form costs of one kernel for many records at once."""

    def __init__(self, kernel: k.KernelSpec, chip: Chip, order: tuple[k.Axis, ...], space: Space) -> None:
        self.kernel, self.chip, self.order = kernel, chip, order
        self.column = {a: n for n, a in enumerate(kernel.layout)}
        self.tile, self.factor = space.tile, space.factor
        extents = np.array([a.extent for a in kernel.layout], dtype=np.float64)
        self.trip = _ceil(_ceil(extents, self.tile), self.factor)
        self.roles = roles_of(kernel)
        self.rows = len(self.tile)
        self._extents: dict[tuple[tuple[k.Axis, int], ...], Array] = {}
        self._turns: dict[tuple[frozenset[k.Axis], tuple[k.Axis, ...]], Array] = {}

    def size(self, axis: k.Axis) -> Array:
        return self.tile[:, self.column[axis]]

    def trips(self, axis: k.Axis) -> Array:
        return self.trip[:, self.column[axis]]

    def extent(self, index: k.DimIndex) -> Array:
        if index.terms not in self._extents:
            total = np.ones(self.rows)
            for axis, coef in index.terms:
                total = total + coef * (self.size(axis) - 1)
            self._extents[index.terms] = total
        return self._extents[index.terms]

    def elements(self, index: tuple[k.DimIndex, ...]) -> Array:
        total = np.ones(self.rows)
        for i in index:
            total = total * self.extent(i)
        return total

    def turns(self, axes: set[k.Axis], loops: tuple[k.Axis, ...]) -> Array:
        """How often something that depends on `axes` is done on one core: all loops down to the deepest it depends
        on."""
        key = frozenset(axes & set(loops)), loops
        if key not in self._turns:
            count = np.ones(self.rows)
            inside = np.zeros(self.rows, dtype=bool)
            for axis in reversed(loops):
                trip = self.trips(axis)
                inside = inside | ((axis in axes) & (trip > 1))
                count = np.where(inside, count * trip, count)
            self._turns[key] = count
        return self._turns[key]

    def loops_of(self, op: k.KernelOp) -> tuple[k.Axis, ...]:
        """Loops around an op: the parallel ones, then the chunks of the reduction that it feeds."""
        for other in self.kernel.ops:
            if isinstance(other, k.Contract | k.Fold):
                chunks = tuple(a for a in other.reduce if a in self.kernel.sequential)
                touches = other is op or (not isinstance(op, k.StoreTile) and set(chunks) & set(op.out.axes))
                if chunks and touches:
                    return self.order + chunks
        return self.order

    def memory(self, part: float) -> tuple[Array, Array]:
        """Bytes over capacity (0 where it fits) with double buffers, so that turns overlap (`skew.py`), and without."""
        twice, once = (np.zeros((self.rows, len(self.chip.memories))) for _ in range(2))
        rooms = rooms_of(self.kernel, self.roles)
        under_way = turns_of_tiles(self.kernel, rooms)
        taken: set[int] = set()
        for op in self.kernel.ops:
            if isinstance(op, k.StoreTile) or rooms.get(op.out, -1) in taken:
                continue
            taken.update({rooms[op.out]} if op.out in rooms else ())
            memory = memory_of(self.chip, self.roles[op.out])
            if memory is None:
                roles = ", ".join(sorted(self.roles[op.out]))
                raise DoesNotFit(f"no local memory serves {roles}", self.kernel.name, "give one memory that reach")
            size = self.elements(op.access.index if isinstance(op, k.LoadTile) else op.out.index) * op.out.dtype.bytes
            if isinstance(op, k.LoadTile):
                size = self._brought(op.access, size)
            size = _ceil(size, ALIGNMENT) * ALIGNMENT
            looped = self.turns(set(op.out.axes), (*self.order, *self.kernel.sequential)) > 1
            streamed = bool(self.roles[op.out] - {"ve"})
            if isinstance(op, k.Contract) and op.vector:
                size = size * (1 + self._sides(op)[0])  # with its partial sums
            elif isinstance(op, k.Contract) and split_sums(self.chip, op, self.roles):
                chunked = tuple(a for a in op.reduce if a in self.kernel.sequential)
                size = size * np.where(self.turns(set(chunked), chunked) > 1, 2, 1)
            turns = max(2 if streamed else 1, under_way[op.out])
            twice[:, memory] += size * np.where(looped, turns, 1)
            once[:, memory] += size
        room = np.array([room_bytes(m) * part for m in self.chip.memories], dtype=np.float64)
        return (twice - room).max(axis=1).clip(0), (once - room).max(axis=1).clip(0)

    def _brought(self, access: k.Access, size: Array) -> Array:
        """Bytes of a loaded tile: the parts that are brought for a cluster are rounded up, packed ones to granules."""
        cores = self.chip.topology.cores
        if not self.chip.multicast or cores == 1:
            return size
        rounded = size * (1 + 1 / 16)
        if packable(access):
            quantum = lcm(self.chip.dram.granule_bytes, access.dtype.bytes) * cores
            rounded = np.ceil(size / quantum) * quantum
        return np.where(size >= MULTICAST_BYTES, rounded, size)

    def matrix(self, op: k.Contract) -> Array:
        unit = self.chip.matrix
        kind = unit.geometry_of(op.a.dtype.value, op.b.dtype.value)
        free = op.out.axes
        n_axes = [a for a in free if a in op.b.axes and a not in op.a.axes]
        widest = np.ones(self.rows)
        product_n = np.ones(self.rows)
        for a in n_axes:
            widest = np.maximum(widest, self.size(a))
            product_n = product_n * self.size(a)
        m = np.ones(self.rows)
        batch = np.ones(self.rows)
        for a in free:
            if a not in op.b.axes:
                m = m * self.size(a)
            elif a in op.a.axes:
                batch = batch * self.size(a)
        depth = np.ones(self.rows)
        for a in op.reduce:
            depth = depth * self.size(a)
        tiles_m, tiles_n, tiles_k = _ceil(m, kind.m0), _ceil(widest, kind.n0), _ceil(depth, kind.k0)
        passes, stream = {
            "weight": (tiles_k * tiles_n, tiles_m),
            "output": (tiles_m * tiles_n, tiles_k),
            "input": (tiles_m * tiles_k, tiles_n),
        }.get(unit.stationary, (np.ones(self.rows), tiles_m * tiles_n * tiles_k))
        load, fill = unit.load_cycles, unit.fill_cycles
        if unit.load_overlapped:
            cycles = load + (passes - 1) * np.maximum(stream, load) + stream + fill
        else:
            cycles = passes * (load + stream + fill)
        ports = {role: min(m.bytes_per_cycle for m in self.chip.memories if role in m.reach) for role in ("a", "b")}
        again_a = tiles_n if unit.stationary in ("weight", "output") else 1
        again_b = 1 if unit.stationary == "weight" else tiles_m
        cycles = np.maximum(cycles, m * depth * op.a.dtype.bytes * again_a / ports["a"])
        cycles = np.maximum(cycles, widest * depth * op.b.dtype.bytes * again_b / ports["b"])
        return cycles * (product_n / widest) * batch * len(op.pairs)

    def vector(self, elements: Array, row: Array, fn: str) -> Array:
        unit = self.chip.vector
        lanes = unit.lanes["f32"]
        slow = unit.special_factor if fn in VECTOR_SPECIAL else 1
        return unit.startup_cycles + elements / row * _ceil(row, lanes) * slow

    def elementwise(self, out: k.Tile, fn: str) -> Array:
        """Cycles of an op on a whole tile, which may walk it along any axis."""
        elements = self.elements(out.index)
        rows = [self.last(out), *(self.size(axis) for axis in out.axes)]
        return np.minimum.reduce([self.vector(elements, row, fn) for row in rows])

    def last(self, tile: k.Tile) -> Array:
        """Length of the innermost rows of a tile, as far as neighbouring whole axes merge into them."""
        row = np.ones(self.rows)
        for axis in reversed([a for a in self.kernel.layout if a in tile.axes]):
            row = row * self.size(axis)
            if not np.all(self.size(axis) == axis.extent):
                break
        return row

    def cycles(self, depth: int, inner: k.Axis | None) -> Array:
        """Predicted cycles of the kernel on the whole chip; `inner` is the axis of the core number's lowest digit.

        The way through one turn of everything, and beyond that what the busiest resource still has to do, or the time
        that buffers take to be free again.
        """
        chip = self.chip
        every = (*self.order, *self.kernel.sequential)
        use = _Use(np.maximum(self.turns(set(every), every), 1))
        for op in self.kernel.ops:
            loops = self.loops_of(op)
            axes = set(k.axes_of(op.access.index) if isinstance(op, k.StoreTile) else op.out.axes)
            if isinstance(op, k.Contract | k.Fold):
                axes |= set(op.reduce)
            turns = self.turns(axes, loops)
            commands = np.ones(self.rows)
            match op:
                case k.LoadTile() | k.StoreTile():
                    self._transfer(op, axes, turns, inner, use)
                case k.Contract() if not op.vector:
                    use.add("mm", self.matrix(op), turns)
                case k.Map() if op.fn in ("move", "drain"):
                    rate = chip.move.drain_elements_per_cycle if op.fn == "drain" else 128 / op.out.dtype.bytes
                    use.add("mv", self.elements(op.out.index) / rate + chip.move.startup_cycles, turns)
                case k.Map():
                    use.add("ve", self.elementwise(op.out, op.fn), turns)
                case k.Contract():
                    sides, cycles = self._sides(op)
                    commands = self._steps(op.reduce) / sides
                    use.add("ve", cycles, turns)
                case k.Fold():
                    taps, stepped = self._steps(op.reduce), by_steps(self.kernel, op, chip, self.size)
                    row = folded_row(self.kernel, op, self.size)
                    rows = self.vector(self.elements(op.out.index) * taps, row, "add")
                    commands = np.where(stepped, taps, 1.0)
                    use.add("ve", np.where(stepped, taps * self.elementwise(op.out, "add"), rows), turns)
            use.add("issue", commands * chip.control.issue_cycles, turns)
        return self._predicted(use, depth)

    def _predicted(self, use: _Use, depth: int) -> Array:
        way_in, way_out = self._latency(k.LoadTile), self._latency(k.StoreTile)
        ld, turn = np.maximum(use.path["ld"], use.path["dram ld"]), use.turn
        turn_ld = np.maximum(turn["ld"], turn["dram ld"])
        # a buffer is free again only when its reader is done: every chain of two engines bounds the period, though not
        # more of a turn that comes back to an engine, since with double buffers turns overlap (`skew.py`)
        chains = (
            turn_ld + way_in + turn["mm"],
            turn["mm"] + turn["ve"],
            turn["ve"] + turn["st"] + way_out,
            turn_ld + way_in + turn["ve"],
        )
        waits = (use.whole - 1) * np.maximum.reduce(chains) / depth
        beyond = np.maximum.reduce([*(total - use.path[name] for name, total in use.total.items()), waits])
        way = ld + use.path["mm"] + use.path["ve"] + use.path["mv"] + use.path["st"] + way_in + way_out
        # few big commands before many small ones: issue is never quite hidden
        return way + beyond + use.total["issue"] / 4

    def _latency(self, kind: type[k.LoadTile] | type[k.StoreTile]) -> int:
        """Cycles from a transfer's start until its first byte is there."""
        chip = self.chip
        near = all(in_cache(op, chip) for op in self.kernel.ops if isinstance(op, kind))
        last = chip.cache.latency_cycles if near and chip.cache else chip.dram.latency_cycles
        return last + chip.cluster_port.latency_cycles + chip.dma.setup_cycles

    def _sides(self, op: k.Contract) -> tuple[Array, Array]:
        """Partial sums side by side of a contraction on the vector unit, and the cycles of a tile."""
        longest = np.maximum.reduce([self.size(a) for a in op.reduce]) if op.reduce else np.ones(self.rows)
        elements = self.elements(op.out.index)
        if not op.out.dtype.is_float:
            return np.ones(self.rows), self._steps(op.reduce) * self.elementwise(op.out, "fma")
        sides, cycles = sides_of_sum(self.chip, elements, longest)
        slow = self.elementwise(op.out, "fma") / self.vector(elements, elements, "fma")  # rows that leave lanes empty
        return sides, cycles * self._steps(op.reduce) / longest * np.where(sides > 1, 1.0, slow)

    def _steps(self, reduce: tuple[k.Axis, ...]) -> Array:
        """Elements of the reduced axes in one tile."""
        steps = np.ones(self.rows)
        for a in reduce:
            steps = steps * self.size(a)
        return steps

    def _transfer(
        self, op: k.LoadTile | k.StoreTile, axes: set[k.Axis], turns: Array, inner: k.Axis | None, use: _Use
    ) -> None:
        """The resources that a load or store takes."""
        chip = self.chip
        cores = self.factor.prod(axis=1)
        kept = in_cache(op, chip)
        if kept:
            size = self._inside(op.access) * op.access.buffer.dtype.bytes
        else:
            size = self._dma_bytes(op.access, isinstance(op, k.StoreTile))
        name = "ld" if isinstance(op, k.LoadTile) else "st"
        distinct = np.ones(self.rows)
        for a in axes:
            distinct = distinct * self.factor[:, self.column[a]]
        together = self._together(op, axes, size, inner)
        near = chip.spaces[op.access.buffer.space - 1] if op.access.buffer.space else None
        latency = chip.cluster_port.latency_cycles + near.latency_cycles if near else chip.dram_way_cycles
        latency -= chip.dram.latency_cycles if kept else 0
        use.add(name, size / together / chip.dma_bytes_per_cycle(latency) + chip.dma.setup_cycles, turns)
        alone = cores / together if name == "ld" else distinct
        if chip.cluster_port.bytes_per_cycle:
            moved = size / together * np.minimum(cores, chip.topology.cores)
            use.add("port", moved / chip.cluster_port.bytes_per_cycle, turns)
        if near:
            slices = chip.clusters if near.scope == "distributed" else 1
            if near.bytes_per_cycle:
                use.add(near.name, size * alone / (near.bytes_per_cycle * slices), turns)
            if near.scope == "distributed":
                self._across_dies(size * alone, turns, use)
            return
        loads = alone
        if chip.cache is not None:
            if chip.cache.bytes_per_cycle:
                use.add("cache", size * alone / chip.cache.bytes_per_cycle, turns)
            if kept:
                return
            if name == "ld":
                held = size * distinct <= chip.cache.bytes / 2
                loads = np.where(held, np.minimum(distinct, alone), alone)
        use.add("dram", size * loads / chip.dram_bytes_per_cycle, turns)
        self._across_dies(size * loads, turns, use)
        if name == "ld":
            use.add("dram ld", size * loads / chip.dram_bytes_per_cycle, turns)

    def _together(self, op: k.LoadTile | k.StoreTile, axes: set[k.Axis], size: Array, inner: k.Axis | None) -> Array:
        """How many cores one transfer serves."""
        if isinstance(op, k.StoreTile) or not self.chip.multicast or inner is None or inner in axes:
            return np.ones(self.rows)
        whole_clusters = self.factor[:, self.column[inner]] % self.chip.topology.cores == 0
        return np.where(whole_clusters & (size >= MULTICAST_BYTES), self.chip.topology.cores, 1)

    def read_bytes(self, op: k.LoadTile, inner: k.Axis | None) -> Array:
        """Bytes that all cores together ask the memory for."""
        axes, size = set(op.out.axes), self._dma_bytes(op.access, False)
        transfers = self.factor.prod(axis=1) / self._together(op, axes, size, inner)
        return size * transfers * self.turns(axes, self.loops_of(op))

    def _across_dies(self, moved: Array, turns: Array, use: _Use) -> None:
        """What interleaved memory moves over each link between two dies."""
        dies = self.chip.topology.dies
        if dies > 1 and self.chip.die_link.bytes_per_cycle:
            use.add("die", moved / dies**2 / self.chip.die_link.bytes_per_cycle, turns)

    def _dma_bytes(self, access: k.Access, stored: bool) -> Array:
        """Bytes charged for one box (docs/timing.md, rule 9): each contiguous run in whole granules, those that a store
        covers in part twice."""
        size, granule = access.buffer.dtype.bytes, self.chip.dram.granule_bytes
        total = self.elements(access.index) * size
        if access.buffer.space:
            return total
        if packable(access):
            return _ceil(total, granule) * granule
        run, aligned = self._runs(access)
        run, total = run * size, np.minimum(total, self._inside(access) * size)
        ends = np.where(aligned, 0.0, 2.0)
        touched = np.where(aligned, run / granule, (run + granule - size) / granule)  # begins anywhere in a granule
        again = np.minimum(touched, ends) if stored else 0.0
        return total / run * (touched + again) * granule

    def _inside(self, access: k.Access) -> Array:
        """Elements of a box that lie in the tensor."""
        total = np.ones(self.rows)
        for i, extent in zip(access.index, access.extents, strict=True):
            total = total * np.minimum(self.extent(i), max(1, extent))
        return total

    def _runs(self, access: k.Access) -> tuple[Array, Array]:
        """Elements of a contiguous run of a box, and whether every run begins and ends with a granule."""
        size, granule = access.buffer.dtype.bytes, self.chip.dram.granule_bytes
        run, joined = np.ones(self.rows), np.ones(self.rows, dtype=bool)
        aligned = np.full(self.rows, access.offset * size % granule == 0)
        for d in sorted(range(len(access.index)), key=lambda d: abs(access.strides[d])):
            count = np.minimum(self.extent(access.index[d]), max(1, access.extents[d]))
            listed = access.gather is not None and access.gather[0] == d
            longer = joined & (run == access.strides[d]) & (not listed)
            joined &= longer | (count == 1)
            run = np.where(longer, run * count, run)
            if access.strides[d] * size % granule:  # what is walked in such steps is aligned as part of a run only
                aligned &= longer | (count >= access.extents[d]) & (count == 1)
        return run, aligned & (run * size % granule == 0)


def read_bytes(kernel: k.KernelSpec, chip: Chip, schedule: Schedule) -> dict[k.LoadTile, int]:
    """Bytes that each load asks its memory for under a schedule, all cores together."""
    parts = dict(schedule.spread)
    tile = np.array([[float(schedule.tile[a]) for a in kernel.layout]])
    factor = np.array([[float(parts.get(a, 1)) for a in kernel.layout]])
    cost = Cost(kernel, chip, schedule.order, Space(tile, factor))
    inner = schedule.spread[0][0] if schedule.spread else None
    return {op: int(cost.read_bytes(op, inner)[0]) for op in kernel.ops if isinstance(op, k.LoadTile)}
