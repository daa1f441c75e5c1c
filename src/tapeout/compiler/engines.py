"""Which engine a contraction runs on: the matrix unit, in the operands' type or split into narrower parts, or the
vector unit, whichever needs fewer cycles by the closed formulas. A product with one row keeps a large array waiting
for weights, and a split type multiplies that; the vector unit may then be the faster one."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from tapeout.chip.spec import Chip
from tapeout.ir.types import DType

SPLITS = {DType.f32: ((DType.bf16, 3),), DType.f16: ((DType.bf16, 2), (DType.f32, 1)), DType.bf16: ((DType.f32, 1),)}
"""How a contraction of a type that the matrix unit lacks runs on another: as a sum of products of that many parts."""
PAIRS = {1: ((0, 0),), 2: ((1, 1), (1, 0), (0, 1), (0, 0)), 3: ((2, 0), (1, 1), (0, 2), (1, 0), (0, 1), (0, 0))}
"""Which products of parts are kept, smallest first."""
DRAINED = 5
"""Passes of the vector unit that a drain does: zeros to begin with, factor and offset of the sums."""
ROW = 4096
"""Elements that one vector command of a contraction works on, about."""


@dataclass(frozen=True, slots=True)
class Extents:
    """Whole extents of a contraction: c[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n]."""

    batch: int
    m: int
    n: int
    k: int


def fits_matrix(chip: Chip, a: DType, b: DType) -> bool:
    """Whether the chip's matrix unit multiplies these types."""
    try:
        chip.matrix.geometry_of(a.value, b.value)
    except KeyError:
        return False
    return True


def parts_on_matrix(chip: Chip, a: DType, b: DType) -> tuple[DType, int] | None:
    """The type and number of parts in which the matrix unit takes the operands: (a's own type, 1) where it has it."""
    if fits_matrix(chip, a, b):
        return a, 1
    if a is b:
        return next(((t, n) for t, n in SPLITS.get(a, ()) if fits_matrix(chip, t, t)), None)
    return None


def _passes(stationary: str, m: int, n: int, k: int) -> tuple[int, int]:
    """How often an array takes a new operand for so many of its own sizes, and the cycles of each of these times."""
    return {"weight": (k * n, m), "output": (m * n, k), "input": (m * k, n)}.get(stationary, (1, m * n * k))


def matrix_cycles(chip: Chip, size: Extents, kind: DType, products: int) -> float:
    """Cycles of one core's matrix unit for the whole contraction in large tiles."""
    unit = chip.matrix
    shape = unit.geometry_of(kind.value, kind.value)
    m, n, k = ceil(size.m / shape.m0), ceil(size.n / shape.n0), ceil(size.k / shape.k0)
    passes, stream = _passes(unit.stationary, m, n, k)
    load = unit.load_cycles if unit.stationary != "none" else 0
    each = max(stream, load) if unit.load_overlapped else stream + load + unit.fill_cycles
    return products * size.batch * passes * each


def vector_cycles(chip: Chip, size: Extents, compute: str) -> float:
    """Cycles of one core's vector unit for the same: a multiply-add of whole rows for every element of k."""
    unit = chip.vector
    rows = size.batch * size.m * size.k
    return rows * (ceil(size.n / unit.lanes[compute]) + unit.startup_cycles * size.n / max(ROW, size.n))


def prefers_vector(chip: Chip, size: Extents, a: DType, b: DType) -> bool:
    """Whether the contraction belongs on the vector unit: nothing else can do it, or everything else is slower."""
    parts = parts_on_matrix(chip, a, b)
    if parts is None:
        return True
    kind, count = parts
    compute = "f32" if a.is_float else "i32"
    return 1.5 * vector_cycles(chip, size, compute) < matrix_cycles(chip, size, kind, len(PAIRS[count]))


def grouped_cycles(chip: Chip, size: Extents, channels: int, kind: DType) -> float:
    """Cycles of a convolution with `size.batch` groups of so many `channels` on the matrix units of all cores: its
    weights and channels are brought, each group is one command for the array, and the sums are drained. Cores divide
    groups and rows between them."""
    unit, shape = chip.matrix, chip.matrix.geometry_of(kind.value, kind.value)
    weights = size.n * size.k * kind.bytes
    best = inf
    for pieces in {*(2**n for n in range(chip.cores.bit_length())), chip.cores}:
        commands, rows = ceil(size.batch * pieces / chip.cores), ceil(size.m / pieces)
        m, n, k = ceil(rows / shape.m0), ceil(size.n / shape.n0), ceil(size.k / shape.k0)
        passes, stream = _passes(unit.stationary, m, n, k)
        if unit.load_overlapped:
            array = unit.load_cycles + (passes - 1) * max(stream, unit.load_cycles) + stream + unit.fill_cycles
        else:
            array = passes * (unit.load_cycles + stream + unit.fill_cycles)
        drained = chip.move.startup_cycles + commands * rows * size.n / chip.move.drain_elements_per_cycle
        run = min(commands, size.batch) * channels * kind.bytes
        moved = _load_cycles(chip, size.batch * weights, commands * weights)
        moved += _load_cycles(chip, size.batch * size.m * channels * kind.bytes, rows * run, run)
        best = min(best, commands * array + drained + moved)
    return best


def depthwise_cycles(chip: Chip, rows: int, channels: int, taps: int) -> float:
    """Cycles of a depthwise convolution of bytes on the vector units of all cores: its channels are brought, then a
    pass over the results for each tap, and the passes that a drain would have spared."""
    unit, elements = chip.vector, rows * channels
    each = unit.startup_cycles + ceil(elements / chip.cores / unit.lanes["i32"])
    return (taps + DRAINED) * each + _load_cycles(chip, elements, elements / chip.cores)


def _load_cycles(chip: Chip, total: float, core: float, run: int = 0) -> float:
    """Cycles in which so many bytes come from DRAM, so many of them to one core; in runs of `run` bytes, that are whole
    granules in DRAM."""
    granules = ceil(run / chip.dram.granule_bytes) * chip.dram.granule_bytes / run if run else 1
    own = chip.dma_bytes_per_cycle(chip.dram_way_cycles)
    return granules * max(total / chip.dram_bytes_per_cycle, core / own)
