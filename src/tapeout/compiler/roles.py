"""Facts about a kernel that search, lowering and moves share: neutral elements, who touches which tile, and where tiles
can lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.chip.spec import Chip
from tapeout.ir import kernel as k
from tapeout.ir.types import DType

IDENTITY = {"sum": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf"), "and": -1.0, "or": 0.0}
MULTICAST_BYTES = 2048
"""Smaller tiles are loaded by each core for itself."""
MAX_DIMS = 4
"""Of a command of the vector unit."""
RUN = 64
"""Longest partial sum of a contraction on the vector unit."""
SIDES = (1, 2, 4, 8, 16, 32, 64)
"""How many partial sums a command may add to at once."""
SIDE_ELEMENTS = 4096
"""Elements that they have together, unless there is only one."""
Sizes = npt.NDArray[Any]


def identity_of(fn: str, dtype: DType) -> float:
    """The value that leaves a reduction unchanged."""
    value = IDENTITY[fn]
    if dtype.is_float or abs(value) != float("inf"):
        return value
    bits = dtype.bytes * 8
    low = -(2 ** (bits - 1)) if dtype.is_signed else 0
    high = 2 ** (bits - 1) - 1 if dtype.is_signed else 2**bits - 1
    return float(low if value < 0 else high)


def neutral_outside(kernel: k.KernelSpec, axis: k.Axis) -> bool:
    """Whether what a ragged chunk reads behind the end of the axis leaves every reduction over it unchanged."""
    fills = {op.out: op.access.fill for op in kernel.ops if isinstance(op, k.LoadTile)}
    for op in kernel.ops:
        if isinstance(op, k.Fold) and axis in op.reduce and fills.get(op.src) != identity_of(op.fn, op.out.dtype):
            return False
        if not isinstance(op, k.Contract) or axis not in op.reduce:
            continue
        if any(fills.get(a, 0.0) * fills.get(b, 0.0) != 0.0 for a, b in op.pairs):
            return False
    return True


def touches(op: k.KernelOp) -> list[tuple[k.Tile, str]]:
    """The tiles that an op touches and by which role, what it writes first."""
    match op:
        case k.LoadTile():
            listed = [(op.access.gather[1], "ve")] if op.access.gather else []
            return [(op.out, "ld"), *listed]
        case k.StoreTile():
            listed = [(op.access.gather[1], "ve")] if op.access.gather else []
            return [(op.src, "st"), *listed]
        case k.Contract():
            a, b, out = ("ve", "ve", "ve") if op.vector else ("a", "b", "c")
            return [(op.out, out), *((x, a) for x, _ in op.pairs), *((y, b) for _, y in op.pairs)]
        case k.Map() | k.Fold():
            role = "mv" if isinstance(op, k.Map) and op.fn in ("move", "drain") else "ve"
            return [(tile, role) for tile in (op.out, *k.sources_of(op))]


def roles_of(kernel: k.KernelSpec) -> dict[k.Tile, set[str]]:
    """What reaches each tile; decides the memory it lies in."""
    roles: dict[k.Tile, set[str]] = {}
    for op in kernel.ops:
        for tile, role in touches(op):
            roles.setdefault(tile, set()).add(role)
    return roles


def memory_of(chip: Chip, roles: set[str]) -> int | None:
    """The largest local memory that all `roles` reach."""
    able = [i for i, m in enumerate(chip.memories) if roles <= set(m.reach)]
    return max(able, key=lambda i: chip.memories[i].bytes, default=None)


def split_sums(chip: Chip, op: k.Contract, roles: dict[k.Tile, set[str]]) -> bool:
    """Whether a contraction of split operands that comes in chunks sums the products of the leading parts and the rest
    apart, so that the many small ones are not each rounded to the last place of the total. The vector unit adds the two
    in the end, where it reaches them."""
    memory = memory_of(chip, roles[op.out])
    return len(op.pairs) > 1 and memory is not None and "ve" in chip.memories[memory].reach


def sides_of_sum(chip: Chip, elements: Sizes, size: Sizes) -> tuple[Sizes, Sizes]:
    """How many partial sums of a contraction on the vector unit lie side by side, so that one command multiplies for as
    many of the `size` steps at once, and the cycles of all steps; `elements` of the result. Each command has its
    start-up, the sums are added up by halves in the end."""
    unit = chip.vector
    best, cycles = np.ones_like(size), np.full(np.broadcast(elements, size).shape, np.inf)
    for sides in SIDES:
        able = (size % sides == 0) & ((sides == 1) | (sides * elements <= SIDE_ELEMENTS))
        run = np.minimum(RUN, size / sides)
        work = np.ceil(sides * elements / unit.lanes["f32"])
        ends = (2 if sides > 1 else 0) * work + (sides.bit_length() + (1 if sides > 1 else -1)) * unit.startup_cycles
        taken = size / sides / run * (run * (unit.startup_cycles + work) + ends)
        better = able & (taken < cycles)
        best, cycles = np.where(better, sides, best), np.where(better, taken, cycles)
    return best, cycles


def by_steps(kernel: k.KernelSpec, op: k.Fold, chip: Chip, tile: Callable[[k.Axis], Sizes]) -> Sizes:
    """Whether a fold walks its axes step by step, all results at once, and not result by result, all steps at once:
    windows must; what does not lie innermost does where it takes no longer. `tile`: the sizes of an axis, one for each
    candidate."""
    results, taps = _product(op.out.axes, tile), _product(op.reduce, tile)
    windows = any(len(i.terms) > 1 for i in op.src.index)
    if op.fn.startswith("arg_") or (_innermost(kernel, op) and not windows):
        return np.zeros(results.shape, dtype=bool)
    if windows or len(op.reduce) >= MAX_DIMS:
        return np.ones(results.shape, dtype=bool)
    unit = chip.vector
    lanes = unit.lanes["f32"]
    row = folded_row(kernel, op, tile)
    steps = taps * (unit.startup_cycles + np.ceil(results / lanes))
    return np.asarray(steps <= unit.startup_cycles + results * taps / row * np.ceil(row / lanes))


def folded_row(kernel: k.KernelSpec, op: k.Fold, tile: Callable[[k.Axis], Sizes]) -> Sizes:
    """Length of the rows that a fold works along, result by result: all that it folds where nothing lies between; else
    as short as the shortest of the folded axes may be."""
    taps = _product(op.reduce, tile)
    if _innermost(kernel, op):
        return taps
    shortest = taps
    for axis in op.reduce:
        shortest = np.where(tile(axis) > 1, np.minimum(shortest, tile(axis)), shortest)
    return np.where(_product(op.out.axes, tile) == 1, taps, shortest)


def _innermost(kernel: k.KernelSpec, op: k.Fold) -> bool:
    return next((a for a in reversed(kernel.layout) if a in op.src.axes), None) in op.reduce


def _product(axes: tuple[k.Axis, ...], tile: Callable[[k.Axis], Sizes]) -> Sizes:
    product = np.array(1.0)
    for axis in axes:
        product = product * tile(axis)
    return product
