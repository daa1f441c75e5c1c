"""Schedule search: enumerates records, predicts their cycles with closed formulas over all of them at once, keeps the
best.

The prediction uses the command costs of `isa/commands.py` and the machine's rates; it is only a ranking. What a program
really takes is the timing executor's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, permutations, product
from math import prod

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.compiler.cost import Array, Cost, Space
from tapeout.compiler.roles import neutral_outside
from tapeout.compiler.schedule import Schedule
from tapeout.errors import DoesNotFit
from tapeout.ir import kernel as k

MAX_SPREADS = 64
MAX_TILINGS = 4096
STARTS = 3
"""Spreads whose best records are looked around of."""
STEPS = 8
KEPT = 64
"""Records that are tried in every order of their loops."""
CLOSE = 0.99
"""What is not better by this is not looked around of any more."""


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


def _tile_choices(extent: int, quantum: int, small: bool = False) -> list[int]:
    """Tile sizes worth trying for `extent` elements a core: even cuts, and multiples of the unit's own size; down to
    some thousand elements of a long axis, or where `small` ones are wanted to a single one."""
    found = {extent}
    long = (2**n for n in range(9, extent.bit_length() + (1 if small else -12)))
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


def _candidates(kernel: k.KernelSpec, chip: Chip, limit: int, small: bool) -> Space:
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
                choices.append(_chunks(kernel, axis, quanta.get(axis, 1), small))
            else:
                choices.append(_tile_choices(-(-axis.extent // factor.get(axis, 1)), quanta.get(axis, 1), small))
        choices = _thin(choices, max(16, limit // len(spreads)), small)
        grid = np.meshgrid(*[np.array(c, dtype=np.float64) for c in choices], indexing="ij")
        block = np.stack([x.ravel() for x in grid], axis=1) if grid else np.ones((1, 0))
        tiles.append(block)
        factors.append(np.tile([float(factor.get(a, 1)) for a in kernel.layout], (len(block), 1)))
    return Space(np.concatenate(tiles), np.concatenate(factors))


def _chunks(kernel: k.KernelSpec, axis: k.Axis, quantum: int, small: bool = False) -> list[int]:
    """Chunk sizes of a reduced axis: large ones, and the smallest for small memories."""
    sizes = _tile_choices(axis.extent, quantum, small)
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
    cost = Cost(kernel, chip, parallel, space)
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
    space = Space(space.tile[fits], space.factor[fits])
    best: _Choice | None = None
    for start in _starts(kernel, chip, space, depth):
        found = _descend(kernel, chip, start, depth, part)
        if best is None or found.cycles < best.cycles:
            best = found
    assert best is not None
    return _record(kernel, best, depth)


@dataclass(frozen=True, slots=True)
class _Choice:
    """One record under consideration: tile and parts of each axis, the order of the loops, the axis of the core
    number's lowest digit, and the predicted cycles."""

    tile: Array
    factor: Array
    order: tuple[k.Axis, ...]
    inner: k.Axis | None
    cycles: float


def _best(kernel: k.KernelSpec, chip: Chip, space: Space, depth: int) -> _Choice:
    """The best of a space in all orders of its loops."""
    best: _Choice | None = None
    for order in _orders(kernel, space):
        cost = Cost(kernel, chip, order, space)
        for inner in _inners(kernel, chip, space):
            cycles = cost.cycles(depth, inner)
            row = int(cycles.argmin())
            if best is None or cycles[row] < best.cycles:
                best = _Choice(space.tile[row], space.factor[row], order, inner, float(cycles[row]))
    assert best is not None
    return best


def _inners(kernel: k.KernelSpec, chip: Chip, space: Space) -> list[k.Axis] | list[None]:
    """Axes that the lowest digit of the core number may belong to; only multicast cares."""
    spread = [a for n, a in enumerate(kernel.layout) if (space.factor[:, n] > 1).any()]
    return (spread if chip.multicast else spread[-1:]) or [None]


def _starts(kernel: k.KernelSpec, chip: Chip, space: Space, depth: int) -> list[_Choice]:
    """The best records of the coarse space, each of another spread."""
    costs = [Cost(kernel, chip, order, space) for order in _orders(kernel, space)]
    *others, last = _inners(kernel, chip, space)
    tried = [*((cost, last) for cost in costs), *((costs[0], inner) for inner in others)]
    cycles = np.minimum.reduce([cost.cycles(depth, inner) for cost, inner in tried])
    spreads: dict[bytes, list[int]] = {}
    for row in cycles.argsort(kind="stable"):
        spreads.setdefault(space.factor[row].tobytes(), []).append(int(row))
        if len(spreads) > STARTS:
            break
    rows = [found[:KEPT] for found in [*spreads.values()][:STARTS]]
    return [_best(kernel, chip, Space(space.tile[r], space.factor[r]), depth) for r in rows]


def _descend(kernel: k.KernelSpec, chip: Chip, best: _Choice, depth: int, part: float) -> _Choice:
    """From a record to the best near it, as long as that becomes better: two axes at a time are cut otherwise, or
    dealt out to other numbers of cores; where that ends the loops are ordered anew."""
    for _ in range(STEPS):
        space = _near(kernel, chip, best)
        cost = Cost(kernel, chip, best.order, space)
        cycles = np.where(cost.memory(part)[0 if depth > 1 else 1] > 0, np.inf, cost.cycles(depth, best.inner))
        row = int(cycles.argmin())
        before = best
        if cycles[row] < best.cycles:
            best = replace(best, tile=space.tile[row], factor=space.factor[row], cycles=float(cycles[row]))
        if best.cycles >= before.cycles * CLOSE:
            again = _best(kernel, chip, Space(best.tile[None, :], best.factor[None, :]), depth)
            if again.cycles >= best.cycles * CLOSE:
                return min(best, again, key=lambda choice: choice.cycles)
            best = again
    return best


def _near(kernel: k.KernelSpec, chip: Chip, at: _Choice) -> Space:
    """Records that differ in the tiles of two axes, or in the parts and tiles of two."""
    quanta = _quanta(kernel, chip)
    extents = {a: a.extent for a in kernel.layout}
    column = {a: n for n, a in enumerate(kernel.layout)}
    tiles, factors = [at.tile[None, :]], [at.factor[None, :]]

    def choices(axis: k.Axis, parts: int, count: int) -> list[int]:
        """Tile sizes around the present one, and the largest and smallest."""
        if axis in kernel.resident:
            return [axis.extent]
        if axis in kernel.sequential:
            return _chunks(kernel, axis, quanta.get(axis, 1))
        found = _tile_choices(-(-extents[axis] // parts), quanta.get(axis, 1))
        place = sum(size > at.tile[column[axis]] for size in found)
        return sorted({*found[max(0, place - count) : place + count + 1], found[0], found[-1]})

    def add(pair: tuple[k.Axis, k.Axis], parts: tuple[int, int], count: int) -> None:
        grid = np.meshgrid(*(np.array(choices(a, f, count), float) for a, f in zip(pair, parts, strict=True)))
        tile, factor = (np.tile(row, (grid[0].size, 1)) for row in (at.tile, at.factor))
        for axis, sizes, number in zip(pair, grid, parts, strict=True):
            tile[:, column[axis]], factor[:, column[axis]] = sizes.ravel(), number
        tiles.append(tile)
        factors.append(factor)

    for pair in combinations(kernel.layout, 2):
        first, second = (int(at.factor[column[a]]) for a in pair)
        add(pair, (first, second), 5)
    every = float(at.factor.prod())
    for pair in combinations(kernel.spreadable, 2):
        first, second = (int(at.factor[column[a]]) for a in pair)
        others = every / (first * second)
        for parts in product(_factors(pair[0], chip.cores), _factors(pair[1], chip.cores)):
            if parts != (first, second) and every * 0.7 <= others * prod(parts) <= chip.cores:
                add(pair, parts, 1)
    return Space(np.concatenate(tiles), np.concatenate(factors))


def _orders(kernel: k.KernelSpec, space: Space) -> list[tuple[k.Axis, ...]]:
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


def _record(kernel: k.KernelSpec, choice: _Choice, depth: int) -> Schedule:
    tile = {a: int(choice.tile[n]) for n, a in enumerate(kernel.layout)}
    parts = [(a, int(choice.factor[n])) for n, a in reversed(list(enumerate(kernel.layout))) if choice.factor[n] > 1]
    parts.sort(key=lambda p: p[0] is not choice.inner)
    return Schedule(tile, tuple(parts), choice.order, depth, choice.cycles)
