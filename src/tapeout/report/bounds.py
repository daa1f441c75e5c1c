"""The two bounds that a run is held against (`docs/bounds.md`), from the source graph and the chip alone.

`floor`: no program for the chip can be faster. `attainable`: floor plus what the described hardware forces.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import numpy.typing as npt

from tapeout.chip.spec import Chip, Geometry
from tapeout.ir import graph as g
from tapeout.report.work import Carrier, Contraction, Work, count

FLOATS = {
    "f8e4m3": (4, 4), "f8e5m2": (3, 5), "f16": (11, 5), "bf16": (8, 8),
    "tf32": (11, 8), "f32": (24, 8), "f64": (53, 11),
}  # fmt: skip
"""Significand and exponent bits of the float types of a matrix unit."""


Tiles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Cycles of each component; a bound is the largest of its own.

    Floor: `compute_cycles` (all engines together) and `dram_cycles` (compulsory bytes). Attainable: `array_cycles`
    (compute with arrays filled as the shapes allow), `traffic_cycles` (compulsory bytes, the way in or out, and the
    `forced_bytes` that on-chip memory cannot avoid), `transport_cycles` (compulsory bytes over the cores' DMA engines
    and the clusters' ports), `chain_cycles` (the longest chain of dependent contractions, each at its shortest).
    `kept_bytes` are outputs and states that a cache may have in the end and DRAM not.
    """

    work: Work
    compute_cycles: float
    dram_cycles: float
    array_cycles: float
    traffic_cycles: float
    transport_cycles: float
    chain_cycles: float
    forced_bytes: int
    kept_bytes: int

    @property
    def compulsory_bytes(self) -> dict[str, int]:
        """Bytes that cross DRAM at least once, by kind."""
        work = self.work
        states = max(0, self.kept_bytes - work.output_bytes)
        return {
            "inputs": work.input_bytes,
            "weights": work.weight_bytes,
            "states": work.state_bytes - states,
            "outputs": work.output_bytes - self.kept_bytes + states,
        }

    @property
    def floor_cycles(self) -> float:
        return max(self.compute_cycles, self.dram_cycles)

    @property
    def attainable_cycles(self) -> float:
        own = (self.array_cycles, self.traffic_cycles, self.transport_cycles, self.chain_cycles)
        return max(self.floor_cycles, *own)

    @property
    def floor_limit(self) -> str:
        """What sets the floor: compute or dram."""
        return "compute" if self.compute_cycles >= self.dram_cycles else "dram"

    @property
    def attainable_limit(self) -> str:
        """What sets the attainable bound: compute, array, dram, transport or chain."""
        parts = {
            "compute": self.compute_cycles, "dram": max(self.dram_cycles, self.traffic_cycles),
            "array": self.array_cycles, "transport": self.transport_cycles, "chain": self.chain_cycles,
        }  # fmt: skip
        return max(parts, key=lambda name: parts[name])


def bounds(graph: g.Graph, chip: Chip) -> Bounds:
    """Both bounds of a graph without symbols."""
    work = count(graph)
    forced = sum(forced_bytes(c, chip) for c in work.contractions)
    written = work.output_bytes + work.written_state_bytes
    kept = min(written, chip.store_cache.bytes) if chip.store_cache else 0
    way_in = _way_cycles(chip) if work.input_bytes or work.weight_bytes else 0
    way_out = _way_cycles(chip) - (0 if written > kept else chip.dram.latency_cycles) if written else 0
    compulsory = work.dram_bytes - kept
    moved = (compulsory + forced) / dram_rate(chip)
    return Bounds(
        work,
        _engines(work, chip, ideal=True),
        compulsory / dram_rate(chip),
        way_in + _engines(work, chip, ideal=False) + way_out,
        max(way_in, way_out) + moved,
        max(way_in, way_out) + _transport(work.dram_bytes, chip),
        way_in + work.chain * _step_cycles(chip) + way_out,
        int(forced),
        kept,
    )


def floor(graph: g.Graph, chip: Chip) -> float:
    """Cycles that no program can beat."""
    return bounds(graph, chip).floor_cycles


def attainable(graph: g.Graph, chip: Chip) -> float:
    """Cycles that the described hardware needs at least."""
    return bounds(graph, chip).attainable_cycles


# ---- engines


def products(a: Carrier, b: Carrier, unit: str) -> int:
    """Narrow products that one product of these operands takes on a unit of element type `unit`; 0: it cannot.

    An operand is split into as many parts as its significand fills, and parts whose product is below the last place
    are left out. Floats never go through integers, nor through a type of fewer exponent bits.
    """
    parts: list[int] = []
    for x in (a, b):
        if unit in FLOATS:
            bits, range_bits = FLOATS[unit]
            if not x.integer and range_bits < x.range_bits:
                return 0
        else:
            if not (a.integer and b.integer):
                return 0
            bits = int(unit[1:])
        parts.append(-(-x.bits // bits))
    most = max(parts)
    return sum(1 for i in range(parts[0]) for j in range(parts[1]) if i + j < most)


def matrix_rate(c: Contraction, chip: Chip) -> float:
    """Multiply-accumulates of this kind per cycle of all matrix units together, 0 where they have none."""
    rates = [kind.macs / n for unit, kind in chip.matrix.geometry.items() if (n := products(c.a, c.b, unit))]
    return chip.cores * max(rates, default=0.0)


def vector_rate(chip: Chip, wide: bool) -> int:
    """Element-ops per cycle of all vector units together; narrow types may use any lanes."""
    return chip.cores * (chip.vector.lanes["f32"] if wide else max(chip.vector.lanes.values()))


def array_cycles(c: Contraction, chip: Chip) -> float:
    """Cycles of all matrix units together with arrays filled as far as this one's shape allows, either operand in
    them, and as many of its batch at once as is best; infinite where they cannot."""
    best = inf
    for unit, kind in chip.matrix.geometry.items():
        if n := products(c.a, c.b, unit):
            best = min(best, n * _batch_passes(c, kind, chip) / chip.cores)
    dense = c.batch * c.m * c.n * c.k
    return best * (c.macs / dense) if dense else 0.0


def _batch_passes(c: Contraction, kind: Geometry, chip: Chip) -> float:
    """Cycles of a whole batch on one array (docs/isa.md, MM), start-up not counted. `p` contractions of the batch may
    be one, m x kp by kp x np, where one operand lies side by side and the other is a block diagonal.

    Beyond twice the array's own sizes a larger p only adds zeros; what rounding up may still have cost is left out
    there.
    """
    most = min(c.batch, 2 * max(kind.m0, kind.n0, kind.k0))
    p = np.arange(1, most + 1)
    best = inf
    for m, n in ((c.m, c.n * p), (c.m * p, c.n)):
        for rows, columns in ((m, n), (n, m)):
            tiles_m, tiles_n, tiles_k = rows / kind.m0, columns / kind.n0, c.k * p / kind.k0
            exact = _passes(np.ceil(tiles_m), np.ceil(tiles_n), np.ceil(tiles_k), chip) / p
            best = min(best, float(exact.min()))
            if most < c.batch:
                least = _passes(np.maximum(tiles_m, 1), np.maximum(tiles_n, 1), np.maximum(tiles_k, 1), chip) / p
                best = min(best, float(least[-1]))
    return c.batch * best


def _passes(tiles_m: Tiles, tiles_n: Tiles, tiles_k: Tiles, chip: Chip) -> Tiles:
    """Cycles of products of so many of the array's own sizes."""
    unit = chip.matrix
    match unit.stationary:
        case "weight":
            passes, stream = tiles_k * tiles_n, tiles_m
        case "output":
            passes, stream = tiles_m * tiles_n, tiles_k
        case "input":
            passes, stream = tiles_m * tiles_k, tiles_n
        case _:
            return tiles_m * tiles_n * tiles_k
    if unit.load_overlapped:
        return passes * np.maximum(stream, unit.load_cycles)
    return passes * (unit.load_cycles + stream)


def _engines(work: Work, chip: Chip, ideal: bool) -> float:
    """Least cycles in which matrix and vector units together do all the work.

    A linear program of two machines: contraction i takes m_i cycles of the matrix units, or v_i of the vector units, or
    a mixture; special functions take e cycles of the vector units. By duality it is the largest, over shares y of the
    vector units, of sum_i min((1 - y) m_i, y v_i) + y e.
    """
    pairs: list[tuple[float, float]] = []
    for c in work.contractions:
        wide = max(c.a.bits, c.b.bits) > 11 and not (c.a.integer and c.b.integer)
        rate = matrix_rate(c, chip)
        matrix = (c.macs / rate if rate else inf) if ideal else array_cycles(c, chip)
        pairs.append((matrix, c.macs / vector_rate(chip, wide)))
    factor = max(1, chip.vector.special_factor)
    special = factor * (work.special[0] / vector_rate(chip, True) + work.special[1] / vector_rate(chip, False))

    def dual(y: float) -> float:
        shares = ((y * v if m == inf else min((1 - y) * m, y * v)) for m, v in pairs)
        return sum(shares) + y * special

    turns = {m / (m + v) for m, v in pairs if m != inf and m + v}
    return max(dual(y) for y in {0.0, 1.0, *turns})


# ---- memory


def dram_rate(chip: Chip) -> float:
    """Bytes per cycle, channel by channel as the machine rounds them."""
    dies = chip.topology.dies
    return round(chip.dram_bytes_per_cycle / dies * 1000) / 1000 * dies


def on_chip_bytes(chip: Chip) -> int:
    """All memory between the engines and DRAM."""
    local = chip.cores * sum(m.bytes for m in chip.memories)
    return local + sum(s.bytes * chip.copies(s) for s in chip.shared)


def forced_bytes(c: Contraction, chip: Chip) -> float:
    """Traffic beyond one pass over operands and result that a contraction causes by itself.

    Elements: 2 macs / sqrt(reuse S) - 2 S, less operands and result (Smith et al. 2019, arXiv:1702.02017).
    """
    held = on_chip_bytes(chip) / max(1, c.element_bytes)
    moved = 2 * c.macs / sqrt(c.reuse * held) - 2 * held
    return max(0.0, moved * c.element_bytes - c.bytes_touched)


def _transport(size: float, chip: Chip) -> float:
    """Cycles of moving bytes once through the cores' DMA engines (loads beside stores) and clusters' ports."""
    rates = [2 * chip.cores * chip.dma.bytes_per_cycle]
    if chip.cluster_port.bytes_per_cycle:
        rates.append(2 * chip.clusters * chip.cluster_port.bytes_per_cycle)
    if chip.multicast:  # one pass serves a cluster
        rates[0] *= chip.topology.cores
    return size / min(rates)


def _way_cycles(chip: Chip) -> int:
    """Issue, set-up and latency of the first or last transfer between DRAM and a core."""
    return (
        chip.control.issue_cycles + chip.dma.setup_cycles + chip.cluster_port.latency_cycles + chip.dram.latency_cycles
    )


def _step_cycles(chip: Chip) -> int:
    """The shortest contraction whose result another command waits for."""
    vector = chip.vector.startup_cycles + 1
    if not chip.matrix.geometry:
        return vector
    return min(vector, chip.matrix.load_cycles + chip.matrix.fill_cycles + 1)
