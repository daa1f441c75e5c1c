"""Schedule search: enumerates records, predicts their cycles with closed formulas over all of them at once, keeps the
best.

The prediction uses the command costs of `isa/commands.py` and the machine's rates; it is only a ranking. What a program
really takes is the timing executor's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import prod

import numpy as np
import numpy.typing as npt

from tapeout.chip.spec import Chip
from tapeout.compiler.packing import packable
from tapeout.compiler.roles import (
    MULTICAST_BYTES,
    by_steps,
    folded_row,
    memory_of,
    neutral_outside,
    roles_of,
    sides_of_sum,
    split_sums,
)
from tapeout.compiler.rooms import rooms_of
from tapeout.compiler.schedule import Schedule
from tapeout.errors import DoesNotFit
from tapeout.ir import kernel as k
from tapeout.isa.commands import VECTOR_SPECIAL

Array = npt.NDArray[np.float64]
MAX_SPREADS = 64
MAX_TILINGS = 4096


def _ceil(a: Array | float, b: Array | float) -> Array:
    return np.ceil(np.asarray(a) / b)


@dataclass(frozen=True, slots=True)
class _Space:
    """Candidates as arrays: one row per record, one column per axis."""

    tile: Array
    factor: Array


def _factors(axis: k.Axis, cores: int) -> list[int]:
    """Useful numbers of parts for an axis."""
    found = {1}
    for parts in range(2, min(axis.extent, cores) + 1):
        size = -(-axis.extent // parts)
        found.add(-(-axis.extent // size))
    return sorted(found)


def _spreads(axes: tuple[k.Axis, ...], cores: int, cluster: int) -> list[tuple[int, ...]]:
    """Ways to deal the cores out over axes: the products nearest to all cores, several mixtures of each."""
    choices: list[tuple[int, ...]] = [()]
    for axis in axes:
        choices = [(*head, f) for head in choices for f in _factors(axis, cores) if prod(head) * f <= cores]
        if len(choices) > 20000:
            choices.sort(key=lambda c: -prod(c))
            choices = choices[:4000]
    work = [a.extent for a in axes]

    def share(parts: tuple[int, ...]) -> float:
        """Part of the whole work that the busiest core gets: smaller is better."""
        return prod(-(-n // f) / n for n, f in zip(work, parts, strict=True)) if parts else 1.0

    choices.sort(key=lambda c: (share(c), sum(f > 1 for f in c)))
    best = share(choices[0])
    good = [c for c in choices if share(c) <= best * 1.6][:MAX_SPREADS]
    if all(f == 1 for f in choices[-1]) and choices[-1] not in good:
        good.append((1,) * len(axes))
    return good


def _tile_choices(extent: int, quantum: int) -> list[int]:
    """Tile sizes worth trying for `extent` elements a core: even cuts, and multiples of the unit's own size."""
    found = {extent}
    long = (2**n for n in range(9, extent.bit_length() - 12))  # down to some thousand elements, however long the axis
    for cuts in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, *long):
        size = -(-extent // cuts)
        found.add(size)
        if quantum > 1:
            found.add(min(extent, -(-size // quantum) * quantum))
    return sorted(found, reverse=True)


def _thin(choices: list[list[int]], limit: int, small: bool) -> list[list[int]]:
    """Drops candidates of the longest lists until their product is within the limit; `small` ones last, or first."""
    choices = [list(c) for c in choices]
    while prod(len(c) for c in choices) > limit:
        longest = max(choices, key=len)
        if len(longest) > 3:
            del longest[1:-1:2]
        else:
            del longest[0 if small else -1]
    return choices


class _Use:
    """Cycles of every resource: in all turns (`total`), in one turn of each op (`path`), and in each of the `whole`
    turns on average, without what is done once (`turn`)."""

    def __init__(self, whole: Array) -> None:
        self.whole = whole
        self.total: dict[str, Array] = {}
        self.path: dict[str, Array] = {}
        self.turn: dict[str, Array] = {}
        for name in ("ld", "st", "mm", "ve", "mv", "dram", "dram ld", "issue"):
            self.add(name, np.zeros_like(whole), whole)

    def add(self, name: str, each: Array, turns: Array) -> None:
        """`each` cycles in each of so many turns."""
        for held, cycles in (
            (self.total, each * turns),
            (self.path, each),
            (self.turn, np.where(turns > 1, each * turns / self.whole, 0.0)),
        ):
            held[name] = held.get(name, 0.0) + cycles


class _Cost:
    """Closed-form costs of one kernel for many records at once."""

    def __init__(self, kernel: k.KernelSpec, chip: Chip, order: tuple[k.Axis, ...], space: _Space) -> None:
        self.kernel, self.chip, self.order = kernel, chip, order
        self.column = {a: n for n, a in enumerate(kernel.layout)}
        self.tile, self.factor = space.tile, space.factor
        extents = np.array([a.extent for a in kernel.layout], dtype=np.float64)
        self.trip = _ceil(_ceil(extents, self.tile), self.factor)
        self.roles = roles_of(kernel)
        self.rows = len(self.tile)

    def size(self, axis: k.Axis) -> Array:
        return self.tile[:, self.column[axis]]

    def trips(self, axis: k.Axis) -> Array:
        return self.trip[:, self.column[axis]]

    def extent(self, index: k.DimIndex) -> Array:
        total = np.ones(self.rows)
        for axis, coef in index.terms:
            total = total + coef * (self.size(axis) - 1)
        return total

    def elements(self, index: tuple[k.DimIndex, ...]) -> Array:
        total = np.ones(self.rows)
        for i in index:
            total = total * self.extent(i)
        return total

    def turns(self, axes: set[k.Axis], loops: tuple[k.Axis, ...]) -> Array:
        """How often something that depends on `axes` is done on one core: all loops down to the deepest it depends
        on."""
        count = np.ones(self.rows)
        inside = np.zeros(self.rows, dtype=bool)
        for axis in reversed(loops):
            trip = self.trips(axis)
            inside = inside | ((axis in axes) & (trip > 1))
            count = np.where(inside, count * trip, count)
        return count

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
        """Bytes over capacity (0 where it fits) with double buffers, and without."""
        twice, once = (np.zeros((self.rows, len(self.chip.memories))) for _ in range(2))
        rooms = rooms_of(self.kernel, self.roles)
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
            if isinstance(op, k.LoadTile) and self.chip.multicast:
                size = size * (1 + 1 / 16)  # parts that are brought for a cluster are rounded up
            size = np.ceil(size / 64) * 64
            looped = self.turns(set(op.out.axes), (*self.order, *self.kernel.sequential)) > 1
            streamed = bool(self.roles[op.out] - {"ve"})
            if isinstance(op, k.Contract) and op.vector:
                size = size * (1 + self._sides(op)[0])  # with its partial sums
            elif isinstance(op, k.Contract) and split_sums(self.chip, op, self.roles):
                chunked = tuple(a for a in op.reduce if a in self.kernel.sequential)
                size = size * np.where(self.turns(set(chunked), chunked) > 1, 2, 1)
            twice[:, memory] += size * np.where(looped & streamed, 2, 1)
            once[:, memory] += size
        room = np.array([m.bytes * part for m in self.chip.memories], dtype=np.float64)
        return (twice - room).max(axis=1).clip(0), (once - room).max(axis=1).clip(0)

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
        chip = self.chip
        latency = chip.dram.latency_cycles + chip.cluster_port.latency_cycles + chip.dma.setup_cycles
        ld, turn = np.maximum(use.path["ld"], use.path["dram ld"]), use.turn
        turn_ld = np.maximum(turn["ld"], turn["dram ld"])
        # a buffer is free again only when its reader is done: every chain of two engines bounds the period
        chains = (
            turn_ld + latency + turn["mm"],
            turn["mm"] + turn["ve"],
            turn["ve"] + turn["st"] + latency,
            turn_ld + latency + turn["ve"],
        )
        waits = (use.whole - 1) * np.maximum.reduce(chains) / depth
        beyond = np.maximum.reduce([*(total - use.path[name] for name, total in use.total.items()), waits])
        way = ld + use.path["mm"] + use.path["ve"] + use.path["mv"] + use.path["st"] + 2 * latency
        # few big commands before many small ones: issue is never quite hidden
        return way + beyond + use.total["issue"] / 4

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
        size = self._dma_bytes(op.access)
        name = "ld" if isinstance(op, k.LoadTile) else "st"
        distinct = np.ones(self.rows)
        for a in axes:
            distinct = distinct * self.factor[:, self.column[a]]
        together = np.ones(self.rows)
        if name == "ld" and chip.multicast and inner is not None and inner not in axes:
            whole_clusters = self.factor[:, self.column[inner]] % chip.topology.cores == 0
            together = np.where(whole_clusters & (size >= MULTICAST_BYTES), chip.topology.cores, 1)
        near = chip.spaces[op.access.buffer.space - 1] if op.access.buffer.space else None
        latency = chip.cluster_port.latency_cycles + near.latency_cycles if near else chip.dram_way_cycles
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
            if name == "ld":
                held = size * distinct <= chip.cache.bytes / 2
                loads = np.where(held, np.minimum(distinct, alone), alone)
        use.add("dram", size * loads / chip.dram_bytes_per_cycle, turns)
        self._across_dies(size * loads, turns, use)
        if name == "ld":
            use.add("dram ld", size * loads / chip.dram_bytes_per_cycle, turns)

    def _across_dies(self, moved: Array, turns: Array, use: _Use) -> None:
        """What interleaved memory moves over each link between two dies."""
        dies = self.chip.topology.dies
        if dies > 1 and self.chip.die_link.bytes_per_cycle:
            use.add("die", moved / dies**2 / self.chip.die_link.bytes_per_cycle, turns)

    def _dma_bytes(self, access: k.Access) -> Array:
        """Bytes charged for one box: whole granules for each row."""
        size = access.buffer.dtype.bytes
        total = self.elements(access.index) * size
        if access.buffer.space:
            return total
        if packable(access):
            return _ceil(total, self.chip.dram.granule_bytes) * self.chip.dram.granule_bytes
        inside_out = sorted(
            (d for d, n in enumerate(access.strides) if n and access.extents[d] != 1), key=lambda d: access.strides[d]
        )
        if not inside_out:
            return total
        if access.strides[inside_out[0]] != 1:
            return self.elements(access.index) * self.chip.dram.granule_bytes
        row, full = np.full(self.rows, size, np.float64), size
        for d in inside_out:  # what is read whole goes on in the next dimension, where that follows at once
            if access.strides[d] * size != full:
                break
            part = np.maximum(1, np.minimum(self.extent(access.index[d]), access.extents[d]))
            row = np.where(row == full, row * part, row)
            full *= access.extents[d]
        whole = (row >= full) & (full >= 64)
        granule = self.chip.dram.granule_bytes
        return np.where(whole, total, total / row * _ceil(row, granule) * granule)


def _candidates(kernel: k.KernelSpec, chip: Chip, limit: int, small: bool) -> _Space:
    spreadable = kernel.spreadable
    quanta = _quanta(kernel, chip)
    tiles: list[Array] = []
    factors: list[Array] = []
    spreads = _spreads(spreadable, chip.cores, chip.topology.cores)
    for parts in spreads:
        factor = dict(zip(spreadable, parts, strict=True))
        choices: list[list[int]] = []
        for axis in kernel.layout:
            if axis in kernel.resident:
                choices.append([axis.extent])
            elif axis in kernel.sequential:
                choices.append(_chunks(kernel, axis, quanta.get(axis, 1)))
            else:
                choices.append(_tile_choices(-(-axis.extent // factor.get(axis, 1)), quanta.get(axis, 1)))
        choices = _thin(choices, max(16, limit // len(spreads)), small)
        grid = np.meshgrid(*[np.array(c, dtype=np.float64) for c in choices], indexing="ij")
        block = np.stack([x.ravel() for x in grid], axis=1) if grid else np.ones((1, 0))
        tiles.append(block)
        factors.append(np.tile([float(factor.get(a, 1)) for a in kernel.layout], (len(block), 1)))
    return _Space(np.concatenate(tiles), np.concatenate(factors))


def _chunks(kernel: k.KernelSpec, axis: k.Axis, quantum: int) -> list[int]:
    """Chunk sizes of a reduced axis: large ones, and the smallest for small memories."""
    sizes = _tile_choices(axis.extent, quantum)
    kept = [s for s in sizes if axis.extent % s == 0 or neutral_outside(kernel, axis)]
    if axis.extent <= 16:
        return [axis.extent, *([1] if len(kept) > 1 else [])]
    return [*kept[:6], *kept[6:][-1:]]


def _quanta(kernel: k.KernelSpec, chip: Chip) -> dict[k.Axis, int]:
    """The unit's own sizes for the axes of matrix contractions."""
    quanta: dict[k.Axis, int] = {}
    for op in kernel.ops:
        if isinstance(op, k.Contract) and not op.vector:
            kind = chip.matrix.geometry_of(op.a.dtype.value, op.b.dtype.value)
            for a in op.out.axes:
                if a in op.b.axes and a not in op.a.axes:
                    quanta[a] = kind.n0
            for a in op.reduce:
                quanta[a] = kind.k0
    return quanta


def search(
    kernel: k.KernelSpec, chip: Chip, limit: int = MAX_TILINGS, part: float = 1.0, small: bool = False
) -> Schedule:
    """The record with the least predicted cycles within `part` of the local memories, where `small` tiles are tried
    rather than large ones. `DoesNotFit` when there is none."""
    space = _candidates(kernel, chip, limit, small)
    parallel = kernel.parallel
    fits, depth = None, 2
    cost = _Cost(kernel, chip, parallel, space)
    twice, once = cost.memory(part)
    for overflow, turns in ((twice, 2), (once, 1)):
        if (overflow == 0).any():
            fits, depth = overflow == 0, turns
            break
    if fits is None:
        smallest = tuple(int(n) for n in space.tile[int(once.argmin())])
        raise DoesNotFit(
            f"kernel `{kernel.name}` with tile {smallest} needs {int(once.min())} more bytes of local memory",
            chip.name,
            "use a chip with larger local memories",
        )
    space = _Space(space.tile[fits], space.factor[fits])
    best: Schedule | None = None
    spreadable = [a for n, a in enumerate(kernel.layout) if (space.factor[:, n] > 1).any()]
    for order in _orders(kernel, space):
        cost = _Cost(kernel, chip, order, space)
        for inner in (spreadable if chip.multicast else spreadable[-1:]) or [None]:
            cycles = cost.cycles(depth, inner)
            row = int(cycles.argmin())
            if best is None or cycles[row] < best.cycles:
                best = _record(kernel, order, space, row, depth, float(cycles[row]), inner)
    assert best is not None
    return best


def _orders(kernel: k.KernelSpec, space: _Space) -> list[tuple[k.Axis, ...]]:
    """Loop orders worth trying: permutations of the axes that are ever cut, the rest outside."""
    column = {a: n for n, a in enumerate(kernel.layout)}
    cut = [
        a
        for a in kernel.parallel
        if (np.ceil(np.ceil(a.extent / space.tile[:, column[a]]) / space.factor[:, column[a]]) > 1).any()
    ]
    outside = [a for a in kernel.parallel if a not in cut]
    if len(cut) > 3:
        inner = cut[-3:]
        return [(*outside, *(a for a in cut if a not in inner), *p) for p in permutations(inner)]
    return [(*outside, *p) for p in permutations(cut)]


def _record(
    kernel: k.KernelSpec,
    order: tuple[k.Axis, ...],
    space: _Space,
    row: int,
    depth: int,
    cycles: float,
    inner: k.Axis | None,
) -> Schedule:
    tile = {a: int(space.tile[row, n]) for n, a in enumerate(kernel.layout)}
    parts = [
        (a, int(space.factor[row, n])) for n, a in reversed(list(enumerate(kernel.layout))) if space.factor[row, n] > 1
    ]
    parts.sort(key=lambda p: p[0] is not inner)
    return Schedule(tile, tuple(parts), order, depth, cycles)
