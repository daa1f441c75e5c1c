"""The chip description: what the file may say, as typed records. `load.py` reads and checks files against it.

Every leaf's name ends in its unit. Rates inside the chip are per cycle of the one core clock; slower or faster domains
are expressed in it. `docs/chips.md` explains each leaf for authors of chip files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

TICKS_PER_CYCLE = 960
"""Shared resources keep time in 1/960 of a cycle (2^6 * 15: common bandwidths divide it exactly)."""

ELEMENT_TYPES = ("i4", "i8", "i16", "i32", "f8e4m3", "f8e5m2", "f16", "bf16", "tf32", "f32", "f64")
"""Element types that a matrix unit may be described for. No tensor is of type i4 or tf32: the two count in peaks and
bounds, the compiler does not use them."""

STATIONARY = ("weight", "output", "input", "none")
"""Which operand stays in the matrix unit."""

SCOPES = ("cluster", "chip", "distributed")
"""Who shares a memory."""

ROLES = ("ld", "st", "mv", "a", "b", "c", "ve")
"""What may reach a local memory: the DMA queues, the mover, the three matrix operands, the vector unit."""


@dataclass(frozen=True, slots=True)
class Topology:
    """`dies` x `clusters` (a die) x `cores` (a cluster), all equal."""

    cores: int
    clock_hz: float
    clusters: int = 1
    dies: int = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """One local memory of a core. Every role has its own port of `bytes_per_cycle`."""

    name: str
    bytes: int
    bytes_per_cycle: int
    reach: tuple[str, ...]
    alignment_bytes: int = 64


@dataclass(frozen=True, slots=True)
class Geometry:
    """m0 x n0 x k0 multiply-accumulates a cycle (a weight-stationary array has m0 = 1, k0 rows, n0 columns)."""

    m0: int
    n0: int
    k0: int

    @property
    def macs(self) -> int:
        return self.m0 * self.n0 * self.k0


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrix unit: which operand stays in the array, what (re)loading it costs, and one geometry per element type.

    With `load_overlapped` the next stationary tile loads while the present one streams; without it each pass pays
    `load_cycles + fill_cycles`.
    """

    geometry: dict[str, Geometry] = field(default_factory=dict[str, Geometry])
    stationary: str = "none"
    load_cycles: int = 0
    load_overlapped: bool = True
    fill_cycles: int = 0

    def geometry_of(self, a: str, b: str) -> Geometry:
        """The geometry for operands of these element types (u8 counts as i8); `KeyError` where the unit has none."""
        signed_a, signed_b = a.replace("u", "i"), b.replace("u", "i")
        if signed_a != signed_b:
            raise KeyError(f"{a} x {b}")
        return self.geometry[signed_a]


@dataclass(frozen=True, slots=True)
class Vector:
    """The vector unit: elements per cycle by compute type; ops of the special class take `special_factor` times
    that."""

    lanes: dict[str, int]
    special_factor: int = 4
    startup_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """The mover between local memories: accumulator drain rate and start-up."""

    drain_elements_per_cycle: int = 64
    startup_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Dma:
    """The two DMA engines of a core (LD, ST): own rate, set-up per command, bursts that may be under way at once."""

    bytes_per_cycle: float
    setup_cycles: int = 0
    burst_bytes: int = 512
    outstanding_bursts: int = 32


@dataclass(frozen=True, slots=True)
class Control:
    """The control processor of a core: cycles to issue a command, commands that a queue can hold, cost of a barrier."""

    issue_cycles: int = 1
    queue_depth: int = 16
    barrier_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Port:
    """A shared path: bytes per cycle in each direction (0: unlimited) and the latency it adds."""

    bytes_per_cycle: float = 0.0
    latency_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Shared:
    """A memory that a cluster or the chip shares; of a `distributed` one every cluster holds a slice of `bytes`, which
    all cores reach. `software`: an address space for DMA; `hardware`: a cache before DRAM, which keeps stores as well
    where it is the chip's."""

    name: str
    bytes: int
    bytes_per_cycle: float
    scope: str = "cluster"
    managed: str = "software"
    latency_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Dram:
    """Main memory, spread over the dies by `interleave_bytes`; shorter accesses than a granule cost the granule.

    A chip without DRAM has its main memory `on_chip`: SRAM that is not some core's local memory.
    """

    capacity_bytes: int
    bandwidth_bytes_per_s: float
    kind: str = ""
    granule_bytes: int = 64
    latency_cycles: int = 0
    interleave_bytes: int = 4096
    on_chip: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A link to the host or to other chips."""

    name: str
    bandwidth_bytes_per_s: float
    latency_s: float = 0.0
    ports: int = 1
    topology: str = ""


@dataclass(frozen=True, slots=True)
class Physical:
    """Process and package; unknown numbers are 0."""

    process_nm: float = 0.0
    die_area_mm2: float = 0.0
    tdp_w: float = 0.0
    transistors: float = 0.0
    price_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Energy:
    """Picojoules per multiply-accumulate or vector operation by type, and per byte by memory name (and "dram")."""

    mac_pj: dict[str, float] = field(default_factory=dict[str, float])
    vector_pj: dict[str, float] = field(default_factory=dict[str, float])
    byte_pj: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Chip:
    """A whole chip. Lists and tables are in the order of the file; `sources` maps leaf patterns to where they are
    from."""

    name: str
    topology: Topology
    memories: tuple[Memory, ...]
    matrix: Matrix
    vector: Vector
    dma: Dma
    dram: Dram
    description: str = ""
    move: Move = field(default_factory=Move)
    control: Control = field(default_factory=Control)
    cluster_port: Port = field(default_factory=Port)
    die_link: Port = field(default_factory=Port)
    multicast: bool = False
    shared: tuple[Shared, ...] = ()
    links: tuple[Link, ...] = ()
    physical: Physical = field(default_factory=Physical)
    energy: Energy = field(default_factory=Energy)
    advertised_tops: dict[str, float] = field(default_factory=dict[str, float])
    why_not_advertised: str = ""
    sources: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def cores(self) -> int:
        """Cores of the whole chip."""
        return self.topology.dies * self.topology.clusters * self.topology.cores

    @property
    def clusters(self) -> int:
        """Clusters of the whole chip."""
        return self.topology.dies * self.topology.clusters

    @property
    def dram_bytes_per_cycle(self) -> float:
        return self.dram.bandwidth_bytes_per_s / self.topology.clock_hz

    @property
    def cache(self) -> Shared | None:
        """The hardware-managed level, where there is one."""
        return next((s for s in self.shared if s.managed == "hardware"), None)

    @property
    def store_cache(self) -> Shared | None:
        """The cache where it keeps what is stored, as that of the whole chip does."""
        return self.cache if self.cache and self.cache.scope == "chip" else None

    @property
    def spaces(self) -> tuple[Shared, ...]:
        """The software-managed shared memories; tensor space s > 0 is the (s-1)-th of them."""
        return tuple(s for s in self.shared if s.managed == "software")

    @property
    def dram_way_cycles(self) -> int:
        """Latency of a burst between a core and the DRAM of its die."""
        return (
            self.dram.latency_cycles
            + self.cluster_port.latency_cycles
            + (self.cache.latency_cycles if self.cache else 0)
        )

    def dma_bytes_per_cycle(self, latency_cycles: int) -> float:
        """What one DMA engine moves at most over a way of that latency: its own rate, or what may be under way."""
        under_way = self.dma.outstanding_bursts * self.dma.burst_bytes / max(1, latency_cycles)
        return min(self.dma.bytes_per_cycle or inf, under_way)

    def copies(self, level: Shared) -> int:
        """How many there are of a shared memory, or slices of a distributed one."""
        return 1 if level.scope == "chip" else self.clusters

    def shared_bytes(self, level: Shared) -> int:
        """Bytes of what one core reaches of a shared memory: of a distributed one all slices together."""
        return level.bytes * (self.clusters if level.scope == "distributed" else 1)

    def reached_by_all(self, level: Shared) -> bool:
        """Whether every core reaches the same shared memory."""
        return level.scope != "cluster" or self.clusters == 1

    def memory_for(self, role: str) -> int:
        """Number of the local memory that serves `role`: the largest that it reaches."""
        able = [i for i, m in enumerate(self.memories) if role in m.reach]
        return max(able, key=lambda i: self.memories[i].bytes)

    def peak_ops_per_cycle(self, dtype: str) -> int:
        """Multiply and add operations a cycle of all matrix units together."""
        kind = self.matrix.geometry.get(dtype)
        return 2 * self.cores * kind.macs if kind else 0

    def peak_ops_per_s(self, dtype: str) -> float:
        return self.peak_ops_per_cycle(dtype) * self.topology.clock_hz
