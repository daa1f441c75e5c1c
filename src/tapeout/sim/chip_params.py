"""A chip as named lists of plain integers, which is what the native executors take (`native/sim/program.h`)."""

from __future__ import annotations

from tapeout.chip.spec import ROLES, SCOPES, STATIONARY, Chip
from tapeout.isa.encode import COMPUTE, DTYPES


def _milli(rate: float) -> int:
    """Thousandths of a byte per cycle: the resolution of shared resources (docs/timing.md)."""
    return round(rate * 1000)


def _geometry(chip: Chip) -> list[int]:
    """m0, n0, k0 for each element type in the encoding's order; zeros where the unit has none."""
    words: list[int] = []
    for dtype in DTYPES:
        kind = chip.matrix.geometry.get(dtype.value.replace("u", "i"))
        words += [kind.m0, kind.n0, kind.k0] if kind else [0, 0, 0]
    return words


def chip_params(chip: Chip) -> dict[str, list[int]]:
    """Every number of the chip that decides values, order or cycles."""
    memories = [
        word
        for m in chip.memories
        for word in (m.bytes, m.bytes_per_cycle, sum(1 << ROLES.index(role) for role in set(m.reach)))
    ]
    shared = [
        word
        for s in chip.shared
        for word in (
            s.bytes,
            _milli(s.bytes_per_cycle),
            s.latency_cycles,
            SCOPES.index(s.scope),
            s.managed == "hardware",
        )
    ]
    return {
        "dies": [chip.topology.dies],
        "clusters_per_die": [chip.topology.clusters],
        "cores_per_cluster": [chip.topology.cores],
        "memories": memories,
        "stationary": [STATIONARY.index(chip.matrix.stationary)],
        "load_cycles": [chip.matrix.load_cycles],
        "load_overlapped": [int(chip.matrix.load_overlapped)],
        "fill_cycles": [chip.matrix.fill_cycles],
        "geometry": _geometry(chip),
        "lanes": [chip.vector.lanes.get(compute, 0) for compute in COMPUTE],
        "special_factor": [chip.vector.special_factor],
        "vector_startup_cycles": [chip.vector.startup_cycles],
        "drain_elements_per_cycle": [chip.move.drain_elements_per_cycle],
        "move_startup_cycles": [chip.move.startup_cycles],
        "dma_rate_milli": [_milli(chip.dma.bytes_per_cycle)],
        "dma_setup_cycles": [chip.dma.setup_cycles],
        "burst_bytes": [chip.dma.burst_bytes],
        "outstanding_bursts": [chip.dma.outstanding_bursts],
        "issue_cycles": [chip.control.issue_cycles],
        "queue_depth": [chip.control.queue_depth],
        "barrier_cycles": [chip.control.barrier_cycles],
        "cluster_port": [_milli(chip.cluster_port.bytes_per_cycle), chip.cluster_port.latency_cycles],
        "die_link": [_milli(chip.die_link.bytes_per_cycle), chip.die_link.latency_cycles],
        "multicast": [int(chip.multicast)],
        "shared": [int(word) for word in shared],
        "dram_rate_milli": [_milli(chip.dram_bytes_per_cycle)],
        "granule_bytes": [chip.dram.granule_bytes],
        "dram_latency_cycles": [chip.dram.latency_cycles],
        "interleave_bytes": [chip.dram.interleave_bytes],
    }
