"""The life of a model, on one screen: graph in, program out. Each level is verified as soon as it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tapeout.chip.spec import Chip
from tapeout.compiler.block_diagonal import pack_groups
from tapeout.compiler.canonicalize import canonicalize
from tapeout.compiler.emit import emit
from tapeout.compiler.factors import move_factors
from tapeout.compiler.form import form_kernels
from tapeout.compiler.group import Group
from tapeout.compiler.groups import Grouping
from tapeout.compiler.layouts import assign_layouts
from tapeout.compiler.lower import lower
from tapeout.compiler.memory import MemoryPlan, buffers_of, by_step, kernel_steps, placed, plan_memory
from tapeout.compiler.packing import Packs
from tapeout.compiler.rematerialize import private_widenings
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.schedule_cache import ScheduleCache
from tapeout.compiler.schedule_verify import verify_schedule
from tapeout.compiler.search import search
from tapeout.compiler.signature import signature
from tapeout.compiler.split_reductions import split_reductions
from tapeout.compiler.staging import staged
from tapeout.compiler.support import check_control, check_supported
from tapeout.compiler.sync import Semaphores, synchronise
from tapeout.compiler.tile import TileProgram, Window, fits
from tapeout.compiler.tile_verify import verify_tiles
from tapeout.compiler.views import Place
from tapeout.errors import DoesNotFit
from tapeout.ir import graph as g
from tapeout.ir.kernel import Buffer, KernelSpec
from tapeout.ir.kernel_verify import verify_kernels
from tapeout.ir.unroll import unroll_scans
from tapeout.ir.verify import verify
from tapeout.isa.program import Program

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program with every stage that led to it, and where its inputs, outputs and states lie."""

    source: g.Graph
    graph: g.Graph
    kernels: tuple[KernelSpec, ...]
    schedules: tuple[Schedule, ...]
    tiles: tuple[TileProgram, ...]
    plan: MemoryPlan
    program: Program
    inputs: dict[str, Buffer]
    outputs: dict[str, Place]
    states: dict[str, tuple[Buffer, Place]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Kernels with their schedules, and the addresses of the temporaries that lie on the chip."""

    grouping: Grouping
    kernels: tuple[KernelSpec, ...]
    schedules: tuple[Schedule, ...]
    near: dict[Buffer, int]


def _quiet(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


def compile_graph(
    graph: g.Graph, chip: Chip, progress: Progress = _quiet, cache: ScheduleCache | None = None
) -> Compiled:
    """Compiles a graph whose shapes are all known. `cache`: schedules found before."""
    progress("canonicalize", 0, 1)
    canonical = canonical_form(graph, chip)
    check_supported(canonical)
    planned = plan_kernels(canonical, chip, progress, cache)
    grouping, kernels, schedules = planned.grouping, planned.kernels, planned.schedules
    verify_kernels(kernels)
    packs = Packs()
    semaphores = Semaphores()
    tiles: list[TileProgram] = []
    for number, (kernel, schedule) in enumerate(zip(kernels, schedules, strict=True)):
        progress("lower", number, len(kernels))
        verify_schedule(kernel, schedule, chip)
        tiles.append(synchronise(lower(kernel, schedule, chip, packs), semaphores, chip.topology.cores))
        verify_tiles(tiles[-1], chip)
    inputs = {v.name: grouping.buffer(v) for v in canonical.inputs}
    outputs = {name: grouping.exit_places[v] for name, v in canonical.outputs}
    states = {s.name: (grouping.buffer(s.entry), grouping.place(s.entry)) for s in canonical.states}
    left = grouping.left()
    fixed = (
        *inputs.values(),
        *(entry for entry, _ in states.values()),
        *(b for b in left if b.role != "temporary"),
    )
    lasting = frozenset(b for b in left if b.role == "temporary")
    touched = by_step([buffers_of(t) for t in tiles], kernel_steps(kernels))
    plan = plan_memory(touched, tuple(dict.fromkeys(fixed)), lasting, chip, planned.near)
    bindings = (
        *((name, whole_window(b), "input") for name, b in inputs.items()),
        *((name, place_window(p), "output") for name, p in outputs.items()),
    )
    program = emit(graph.name, tuple(tiles), plan, bindings, chip, tuple(semaphores.initial))
    return Compiled(graph, canonical, kernels, schedules, tuple(tiles), plan, program, inputs, outputs, states)


def canonical_form(graph: g.Graph, chip: Chip) -> g.Graph:
    """The graph that kernels are formed from; the chip decides which groups of convolutions are packed, and which
    reductions take two steps."""
    plain = unroll_scans(graph)
    check_control(plain)
    plain = private_widenings(canonicalize(plain))
    canonical = split_reductions(pack_groups(move_factors(plain), chip), chip)
    verify(canonical, "canonicalization")
    return canonical


def plan_kernels(graph: g.Graph, chip: Chip, progress: Progress = _quiet, cache: ScheduleCache | None = None) -> Plan:
    """Kernels and their schedules. What does not fit together is taken apart, and all is planned anew."""
    orders = assign_layouts(graph)
    known: dict[object, tuple[KernelSpec, Schedule]] = {}
    apart: set[g.Op] = set()
    while True:
        grouping = Grouping(graph, chip, orders, frozenset(apart))
        grouping.run()
        formed = form_kernels(grouping)
        kernels, near = placed([kernel for kernel, _ in formed], frozenset(grouping.left()), chip)
        schedules: list[Schedule] = []
        crowded: list[tuple[Group, DoesNotFit]] = []
        for number, (kernel, (_, group)) in enumerate(zip(kernels, formed, strict=True)):
            progress("schedule", number, len(formed))
            try:
                whole = split_point(group, apart) is None
                schedules.append(schedule_kernel(kernel, chip, known, cache, whole))
            except DoesNotFit as error:
                crowded.append((group, error))
        if not crowded:
            return Plan(
                grouping, *staged(kernels, schedules, near, chip, lambda x: schedule_kernel(x, chip, known, cache))
            )
        for group, error in crowded:
            split = split_point(group, apart)
            if split is None:
                raise error
            apart.add(split)


def split_point(group: Group, apart: set[g.Op]) -> g.Op | None:
    """The op that should start a group of its own: the last contraction or reduction, else the middle op."""
    joined = [op for op in group.ops[1:] if op not in apart]
    heavy = [op for op in joined if isinstance(op, g.Dot | g.Reduce | g.ArgReduce)]
    return heavy[-1] if heavy else joined[len(joined) // 2] if joined else None


def schedule_kernel(
    kernel: KernelSpec,
    chip: Chip,
    known: dict[object, tuple[KernelSpec, Schedule]],
    cache: ScheduleCache | None = None,
    whole: bool = True,
) -> Schedule:
    """A schedule for a kernel; kernels of the same shape are searched once. `whole`: it cannot be taken apart, so the
    smallest of tiles are better than none."""
    key = signature(kernel)
    if key not in known:
        found = cache.find(kernel) if cache else None
        if found is None:
            try:
                found = fitting_schedule(kernel, chip)
            except DoesNotFit:
                if not whole:
                    raise
                found = fitting_schedule(kernel, chip, small=True)
            if cache:
                cache.keep(kernel, found)
        known[key] = (kernel, found)
    model, schedule = known[key]
    axes = dict(zip(model.layout, kernel.layout, strict=True))
    return Schedule(
        {axes[a]: n for a, n in schedule.tile.items()},
        tuple((axes[a], n) for a, n in schedule.spread),
        tuple(axes[a] for a in schedule.order),
        schedule.depth,
        schedule.cycles,
    )


def fitting_schedule(kernel: KernelSpec, chip: Chip, small: bool = False) -> Schedule:
    """The best schedule whose lowered tiles really fit: where search was too hopeful, it is given less memory. `small`:
    the best of small tiles. `DoesNotFit` where there is none."""
    part = 1.0
    while True:
        try:
            schedule = search(kernel, chip, part=part, small=small)
        except DoesNotFit:
            if part == 1.0:
                raise
            break
        if fits(lower(kernel, schedule, chip), chip):
            return schedule
        part *= 0.8
    what = f"kernel `{kernel.name}` needs more local memory, however small its tiles are"
    raise DoesNotFit(what, chip.name, "use a chip with larger local memories")


def whole_window(buffer: Buffer) -> Window:
    """The descriptor of a whole buffer as bytes in a row."""
    return Window(buffer, 0, buffer.dtype, (buffer.bytes // buffer.dtype.bytes,), (buffer.dtype.bytes,), 0.0)


def place_window(place: Place) -> Window:
    """The descriptor of a value's place; more than five dimensions are given as the buffer that holds them."""
    size = place.buffer.dtype.bytes
    if len(place.extents) > 5:
        return whole_window(place.buffer)
    return Window(
        place.buffer, place.offset, place.dtype, place.extents, tuple(s * size for s in place.strides), place.fill
    )
