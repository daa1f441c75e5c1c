"""What one run amounts to, as plain data: the text and the JSON report both print this record and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import Compiled
from tapeout.ir import graph as g
from tapeout.ir.kernel import Contract
from tapeout.isa.commands import Queue
from tapeout.report.bounds import Bounds, bounds
from tapeout.report.lost import lost_cycles
from tapeout.report.numerics import Verdict
from tapeout.sim.timing import Trace

ENGINES = {"LD": "load", "ST": "store", "MV": "move", "MM": "matrix", "VE": "vector"}
"""What the queues' engines are called."""


@dataclass(frozen=True, slots=True)
class ChipFacts:
    """The chip in a line."""

    name: str
    cores: int
    clock_hz: float


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound of the run, what sets it, and how near the run comes to it (1: it is reached)."""

    cycles: float
    seconds: float
    ratio: float
    limit: str


@dataclass(frozen=True, slots=True)
class EngineUse:
    """Of one queue's engines over all cores: shares of the run that they were held, stood free while the next command
    waited for data (semaphores), had nothing to do; the share that the busiest core's was held; commands."""

    name: str
    busy: float
    waiting: float
    idle: float
    busiest: float
    commands: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that crossed DRAM, as they are and as charged, beside what any schedule has to move."""

    read_bytes: int
    written_bytes: int
    charged_bytes: int
    compulsory_bytes: int
    compulsory: dict[str, int]
    busy: float
    cache_hit_bytes: int
    cache_missed_bytes: int

    @property
    def cached_bytes(self) -> int:
        """Bytes that were loaded through a cache."""
        return self.cache_hit_bytes + self.cache_missed_bytes


@dataclass(frozen=True, slots=True)
class Peak:
    """Most bytes of a memory in use at once."""

    name: str
    bytes: int
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class KernelUse:
    """One kernel: cycles that it adds to the run (to its last completion, from its first start or the end of all before
    it), their share of the run, how busy engines were, its DRAM traffic, the multiply-accumulates of its contractions,
    the source ops that it came from."""

    name: str
    sources: tuple[str, ...]
    cycles: int
    share: float
    matrix: float
    vector: float
    dram_bytes: int
    macs: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One run on one chip. `macs` counts contractions as the model writes them, `needed_macs` those that results need.

    `verdicts` is None where no reference was computed; `lost`: cycles beyond the attainable bound by cause
    (`report/lost.py`), empty for a trace without events; `tool_s` is what each stage took on the host.
    """

    model: str
    chip: ChipFacts
    binding: dict[str, int]
    batch: int
    cycles: int
    seconds: float
    inferences_per_s: float
    macs: int
    needed_macs: int
    tops: float
    floor: Bound
    attainable: Bound
    components: dict[str, float]
    limit: str
    engines: tuple[EngineUse, ...]
    resources: dict[str, float]
    dram: Traffic
    memory: tuple[Peak, ...]
    kernels: tuple[KernelUse, ...]
    fallbacks: tuple[str, ...]
    verdicts: tuple[Verdict, ...] | None
    lost: dict[str, float]
    tool_s: dict[str, float] = field(default_factory=dict[str, float])

    def __str__(self) -> str:
        from tapeout.report.text import plain

        return plain(self)

    @property
    def right(self) -> bool:
        """Whether no output is known to be wrong."""
        return all(v.right for v in self.verdicts or ())


def summarise(
    compiled: Compiled,
    chip: Chip,
    trace: Trace,
    *,
    binding: Mapping[str, int] | None = None,
    verdicts: Sequence[Verdict] | None = None,
    tool_s: Mapping[str, float] | None = None,
    name: str | None = None,
) -> Summary:
    """The record of one timed run of a compiled model."""
    found = bounds(compiled.source, chip)
    seconds = trace.cycles / chip.topology.clock_hz
    macs = sum(c.batch * c.m * c.n * c.k for c in found.work.contractions)
    batch = batch_of(compiled.source)
    engines = _engines(trace)
    resources = {n: trace.busy_share(n) for n in trace.resource_ticks if trace.resource_ticks[n]}
    return Summary(
        model=name or compiled.source.name,
        chip=ChipFacts(chip.name, chip.cores, chip.topology.clock_hz),
        binding=dict(binding or {}),
        batch=batch,
        cycles=trace.cycles,
        seconds=seconds,
        inferences_per_s=_over(batch, seconds),
        macs=macs,
        needed_macs=found.work.macs,
        tops=_over(2 * macs, seconds) / 1e12,
        floor=_bound(found.floor_cycles, found.floor_limit, trace, chip),
        attainable=_bound(found.attainable_cycles, found.attainable_limit, trace, chip),
        components=_components(found),
        limit=_limit(engines, resources),
        engines=engines,
        resources=resources,
        dram=_traffic(found, trace),
        memory=_memory(compiled, chip),
        kernels=_kernels(compiled, chip, trace),
        fallbacks=fallbacks(compiled.source),
        verdicts=None if verdicts is None else tuple(verdicts),
        lost=lost_cycles(trace, found.attainable_cycles, found.attainable_limit) if len(trace.events) else {},
        tool_s=dict(tool_s or {}),
    )


def batch_of(graph: g.Graph) -> int:
    """Inferences of one run: the first dimension of the first input."""
    shape = graph.inputs[0].type.shape if graph.inputs else ()
    return shape[0] if shape and isinstance(shape[0], int) else 1


def fallbacks(graph: g.Graph) -> tuple[str, ...]:
    """Ops that run on the host."""
    return tuple(f"{op.kind} ({op.source})" for op in g.walk(graph.ops) if isinstance(op, g.HostCall))


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _bound(cycles: float, limit: str, trace: Trace, chip: Chip) -> Bound:
    return Bound(cycles, cycles / chip.topology.clock_hz, _over(cycles, trace.cycles), limit)


def _components(found: Bounds) -> dict[str, float]:
    return {
        "compute_cycles": found.compute_cycles,
        "dram_cycles": found.dram_cycles,
        "array_cycles": found.array_cycles,
        "traffic_cycles": found.traffic_cycles,
        "transport_cycles": found.transport_cycles,
        "chain_cycles": found.chain_cycles,
        "forced_bytes": found.forced_bytes,
    }


def _engines(trace: Trace) -> tuple[EngineUse, ...]:
    q, cycles = trace.queues, max(1, trace.cycles)
    cores = max(1, len(q.busy))
    return tuple(
        EngineUse(
            queue.name,
            float(q.busy[:, queue].sum()) / (cycles * cores),
            float(q.wait_semaphore[:, queue].sum()) / (cycles * cores),
            float(q.idle[:, queue].sum()) / (cycles * cores),
            float(q.busy[:, queue].max(initial=0)) / cycles,
            int(q.commands[:, queue].sum()),
        )
        for queue in Queue
    )


def _limit(engines: Sequence[EngineUse], resources: Mapping[str, float]) -> str:
    """The busiest part of the chip, and what share of the run it was busy."""
    shares = {f"{ENGINES[e.name]} engines": e.busy for e in engines}
    for name, share in resources.items():
        kind = name.split(" ")[0]
        label = {"dram": "DRAM", "cluster": "cluster ports", "die": "die links"}.get(kind, kind)
        shares[label] = max(shares.get(label, 0.0), share)
    busiest = max(shares, key=lambda label: shares[label])
    return f"{busiest} busy {100 * shares[busiest]:.0f} %"


def _traffic(found: Bounds, trace: Trace) -> Traffic:
    parts = found.compulsory_bytes
    dram = [trace.busy_share(n) for n in trace.resource_ticks if n.startswith("dram")]
    charged = trace.read_charged_bytes + trace.written_charged_bytes
    busy = sum(dram) / len(dram) if dram else 0.0
    return Traffic(
        trace.read_bytes, trace.written_bytes, charged, sum(parts.values()), parts, busy,
        trace.cache_hit_bytes, trace.cache_missed_bytes,
    )  # fmt: skip


def _memory(compiled: Compiled, chip: Chip) -> tuple[Peak, ...]:
    peaks = compiled.program.peaks
    sizes = {m.name: m.bytes for m in chip.memories} | {s.name: chip.shared_bytes(s) for s in chip.spaces}
    local = [Peak(name, peaks.get(name, 0), size) for name, size in sizes.items()]
    return (*local, Peak("dram", compiled.program.dram_bytes, chip.dram.capacity_bytes))


def _kernels(compiled: Compiled, chip: Chip, trace: Trace) -> tuple[KernelUse, ...]:
    """All kernels that ran, in program order."""
    found: list[KernelUse] = []
    done = 0
    for kernel, spec, time in zip(compiled.program.kernels, compiled.kernels, trace.kernels, strict=True):
        if time.start_cycles < 0:
            continue
        span = max(0, time.end_cycles - max(time.start_cycles, done))
        done = max(done, time.end_cycles)
        engine = max(1, (time.end_cycles - time.start_cycles) * chip.cores)
        found.append(
            KernelUse(
                kernel.name,
                kernel.sources,
                span,
                _over(span, trace.cycles),
                time.busy_cycles[Queue.MM] / engine,
                time.busy_cycles[Queue.VE] / engine,
                time.read_bytes + time.written_bytes,
                sum(_macs(op) for op in spec.ops if isinstance(op, Contract)),
            )
        )
    return tuple(found)


def _macs(op: Contract) -> int:
    return prod(axis.extent for axis in {*op.out.axes, *op.reduce}) * len(op.pairs)
