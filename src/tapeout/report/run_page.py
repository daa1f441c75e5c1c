"""A run as one HTML page: what it took, when each engine worked, the roofline, memory over time, every kernel and what
it came from. One file, no network, under 1 MB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

import numpy as np
import numpy.typing as npt

from tapeout import __version__
from tapeout.chip.spec import Chip
from tapeout.compiler.memory import buffers_of, lifetimes
from tapeout.compiler.pipeline import Compiled
from tapeout.compiler.tile import local_bytes
from tapeout.isa import asm
from tapeout.isa.commands import AnyCommand, Queue
from tapeout.isa.program import commands
from tapeout.report import html
from tapeout.report.html import Cell, number
from tapeout.report.summary import ENGINES, KernelUse, Summary
from tapeout.report.text import LIMITS, count, duration, rate, share, size
from tapeout.sim.timing import Events, KernelTime, Trace

WIDTH, LEFT, RIGHT = 1000, 70, 10
BINS = 300
MOST_TEXT = 300_000
"""Bytes of command text that a page carries."""
MOST_ROWS, MOST_BOXES = 1500, 1500
COLOURS = {"LD": "#3b7dbd", "ST": "#2a9d8f", "MV": "#8a6fb0", "MM": "#d1662b", "VE": "#c2a21a"}
_PALE = ("#5b8bb8", "#9db9d3")
_TIMELINE = (
    "How many of the cores' engines were held, over the run; below it the kernels from first start to last completion. "
    "Point at a kernel for its name."
)
_ROOFLINE = (
    "Each kernel's operations per second (2 for a multiply-accumulate) against its operations per byte of DRAM, as "
    "large as its share of the run. The slope is the bandwidth, the levels are the peaks of the matrix unit by element "
    "type."
)
_MEMORY = (
    "DRAM: temporaries and outputs at their addresses in the arena, while they are in use (the whole arena is {arena}; "
    "weights, inputs and states lie beside it: {fixed}). Local memories: what the tiles of each kernel take."
)
_KERNELS = (
    "Cycles are what a kernel adds to the run; matrix and vector are shares of its own time over all cores. "
    "Click a head to sort."
)


@dataclass(frozen=True, slots=True)
class _Ran:
    """A kernel that ran: its number in the program, and what is known of it."""

    number: int
    use: KernelUse
    time: KernelTime

    @property
    def anchor(self) -> str:
        return f"k{self.number}"


def page(summary: Summary, trace: Trace, compiled: Compiled, chip: Chip) -> str:
    """The page; `trace` has events."""
    numbers = [n for n, kernel in enumerate(trace.kernels) if kernel.start_cycles >= 0]  # as in `summary.kernels`
    ran = [_Ran(n, use, trace.kernels[n]) for n, use in zip(numbers, summary.kernels, strict=True)]
    title = f"{summary.model} on {summary.chip.name}"
    return html.document(
        title,
        [
            f"<h1>{escape(title)}</h1>", _numbers(summary),
            "<h2>Engines over time</h2>", f"<p>{_TIMELINE}</p>", _timeline(summary, trace, ran),
            "<h2>Cycles beyond the attainable bound</h2>", _lost(summary),
            "<h2>Roofline</h2>", f"<p>{_ROOFLINE}</p>", _roofline(summary, chip, ran),
            "<h2>Memory over time</h2>", _memory(summary, compiled, chip, ran),
            "<h2>Kernels</h2>", f"<p>{_KERNELS}</p>", _kernels(ran),
            "<h2>Source ops</h2>", _sources(ran),
            "<h2>Values</h2>", _values(summary),
            "<h2>Commands</h2>", _commands(compiled, ran),
            f'<p class="soft">Tapeout {escape(__version__)}; host time: {_host(summary)}</p>',
        ],
    )  # fmt: skip


def _host(s: Summary) -> str:
    return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in s.tool_s.items()) or "not taken"


def _numbers(s: Summary) -> str:
    shape = ", ".join([f"batch {s.batch}", *(f"{name} {n}" for name, n in s.binding.items())])
    speed = f"{s.inferences_per_s:,.4g} inferences/s, {rate(s.tops * 1e12)}OP/s"
    rows: list[list[Cell | str]] = [
        ["model", f"{s.model}, {shape}; {count(s.macs)} multiply-accumulates"],
        ["chip", f"{s.chip.name}: {s.chip.cores} cores, {s.chip.clock_hz / 1e9:.3g} GHz"],
        ["latency", f"{count(s.cycles)} cycles, {duration(s.seconds)}; {speed}; {s.limit}"],
    ]
    for name, bound in (("attainable", s.attainable), ("floor", s.floor)):
        set_by = LIMITS[bound.limit]
        rows.append([name, f"{count(bound.cycles)} cycles; {share(bound.ratio)} reached; set by {set_by}"])
    moved = s.dram.read_bytes + s.dram.written_bytes
    rows.append(["DRAM", f"{size(moved)} moved, {share(s.dram.busy)} busy; compulsory {size(s.dram.compulsory_bytes)}"])
    if loaded := s.dram.cached_bytes:
        hits = share(s.dram.cache_hit_bytes / loaded)
        rows.append(["cache", f"{hits} of {size(loaded)} loaded through it were there"])
    if s.fallbacks:
        rows.append(["on the host", ", ".join(s.fallbacks)])
    head = ("engine", "busy", "waits for data", "idle", "busiest core", "commands")
    engines = html.table(
        head,
        [
            [f"{e.name} {ENGINES[e.name]}", *(number(x, share(x)) for x in (e.busy, e.waiting, e.idle, e.busiest)),
             number(e.commands, count(e.commands))]
            for e in s.engines
        ],
    )  # fmt: skip
    return html.table((), rows) + engines


# ---- over time


def held(events: Events, queue: int, cycles: int, cores: int) -> npt.NDArray[np.float64]:
    """Share of the cores' engines of a queue that were held, in each of `BINS` equal parts of the run."""
    edges = np.linspace(0, max(1, cycles), BINS + 1)
    of_queue = events.queue == queue

    def before(times: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Sum over all times of how long ago they were, at each edge."""
        ordered = np.sort(times)
        behind = np.searchsorted(ordered, edges)
        sums = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
        return edges * behind - sums[behind]

    total = before(events.start[of_queue]) - before(events.released[of_queue])
    return np.diff(total) / (np.diff(edges) * max(1, cores))


def _x(cycle: float, cycles: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * cycle / max(1, cycles)


def _time_axis(cycles: int, clock_hz: float, height: float) -> list[str]:
    parts: list[str] = []
    for tick in html.ticks(0, cycles):
        x = _x(tick, cycles)
        parts.append(html.line(x, 0, x, height))
        if x < WIDTH - 120:  # else it would reach beyond the edge
            parts.append(html.text(x, height + 13, f"{count(tick)} ({duration(tick / clock_hz)})"))
    return parts


def _timeline(s: Summary, trace: Trace, ran: Sequence[_Ran]) -> str:
    lane, gap, step = 40, 8, 12
    cores = len(trace.queues.busy)
    rows = _stack(ran)
    first = len(Queue) * (lane + gap)
    height = first + (max(rows, default=0) + 1) * step + 4
    parts = _time_axis(trace.cycles, s.chip.clock_hz, height)
    for place, queue in enumerate(Queue):
        base = place * (lane + gap) + lane
        points = [f"{LEFT},{base}"]
        for n, value in enumerate(held(trace.events, queue, trace.cycles, cores)):
            y = base - lane * min(1.0, float(value))
            points += [f"{_x(edge, BINS):.1f},{y:.1f}" for edge in (n, n + 1)]
        points.append(f"{WIDTH - RIGHT},{base}")
        parts += [
            f'<polygon fill="{COLOURS[queue.name]}" points="{" ".join(points)}"/>',
            html.line(LEFT, base, WIDTH - RIGHT, base),
            html.text(LEFT - 6, base - lane / 2, ENGINES[queue.name], "end"),
            html.text(LEFT - 6, base - lane / 2 + 12, share(s.engines[place].busy), "end"),
        ]
    parts.append(html.text(LEFT - 6, first + 9, "kernels", "end"))
    for kernel, row in list(zip(ran, rows, strict=True))[:MOST_BOXES]:
        start, end = kernel.time.start_cycles, kernel.time.end_cycles
        x = _x(start, trace.cycles)
        hint = f"{kernel.use.name}: cycles {count(start)} to {count(end)}"
        box = html.rect(
            x, first + row * step, max(0.4, _x(end, trace.cycles) - x), step - 2, _PALE[kernel.number % 2], hint
        )
        parts.append(f'<a href="#{kernel.anchor}">{box}</a>')
    return html.svg(WIDTH, int(height) + 20, parts, "engines over time")


def _stack(ran: Sequence[_Ran]) -> list[int]:
    """The first free row for each kernel, so that none covers another."""
    ends: list[int] = []
    rows: list[int] = []
    for kernel in ran:
        row = next((n for n, end in enumerate(ends) if end <= kernel.time.start_cycles), len(ends))
        ends[row : row + 1] = [kernel.time.end_cycles]
        rows.append(row)
    return rows


def _lost(s: Summary) -> str:
    whole = sum(s.lost.values())
    rows: list[list[Cell | str]] = [
        [cause, number(cycles, count(cycles)), number(cycles, share(cycles / whole if whole else 0.0))]
        for cause, cycles in sorted(s.lost.items(), key=lambda item: -item[1])
    ]
    return html.table(("where they went", "cycles", "share of them"), rows)


# ---- roofline


def _roofline(s: Summary, chip: Chip, ran: Sequence[_Ran]) -> str:
    clock = chip.topology.clock_hz
    peaks = {kind: 2.0 * geometry.macs * chip.cores * clock for kind, geometry in chip.matrix.geometry.items()}
    peaks = peaks or {"f32 vector": 2.0 * chip.vector.lanes["f32"] * chip.cores * clock}
    points: list[tuple[float, float, float, str, str]] = []  # operations a byte, operations a second, share, name, link
    for kernel in ran:
        seconds = (kernel.time.end_cycles - kernel.time.start_cycles) / clock
        if kernel.use.macs and kernel.use.dram_bytes and seconds:
            ops = 2.0 * kernel.use.macs
            points.append(
                (ops / kernel.use.dram_bytes, ops / seconds, kernel.use.share, kernel.use.name, kernel.anchor)
            )
    moved = s.dram.read_bytes + s.dram.written_bytes
    if not points or not moved:
        return "<p>No kernel both multiplies and touches DRAM.</p>"
    bandwidth = chip.dram.bandwidth_bytes_per_s
    ridge = max(peaks.values()) / bandwidth
    low_x, high_x = min(*(p[0] for p in points), ridge) / 2, max(*(p[0] for p in points), ridge) * 2
    high_y = max(*peaks.values(), *(p[1] for p in points)) * 1.5
    low_y = min(*(p[1] for p in points), low_x * bandwidth) / 1.5
    height = 320

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (log10(value) - log10(low_x)) / (log10(high_x) - log10(low_x))

    def y(value: float) -> float:
        return height * (log10(high_y) - log10(value)) / (log10(high_y) - log10(low_y))

    parts: list[str] = []
    for tick in html.decades(low_x, high_x):
        parts += [html.line(x(tick), 0, x(tick), height), html.text(x(tick) + 3, height + 13, f"{tick:g}")]
    for tick in html.decades(low_y, high_y):
        parts += [html.line(LEFT, y(tick), WIDTH - RIGHT, y(tick)), html.text(LEFT - 4, y(tick) + 4, rate(tick), "end")]
    parts.append(html.text(WIDTH - RIGHT, height + 26, "operations per byte of DRAM", "end"))
    top = max(peaks.values())
    parts.append(html.line(x(low_x), y(low_x * bandwidth), x(ridge), y(top), "line"))
    for peak in sorted(set(peaks.values())):
        kind = ", ".join(kind for kind, other in peaks.items() if other == peak)
        parts += [
            html.line(x(peak / bandwidth), y(peak), WIDTH - RIGHT, y(peak), "line"),
            html.text(WIDTH - RIGHT, y(peak) - 4, f"{kind} {rate(peak)}OP/s", "end"),
        ]
    for at, speed, part, name, anchor in sorted(points, key=lambda p: -p[2])[:MOST_BOXES]:
        hint = f"<title>{escape(name)}: {rate(speed)}OP/s at {at:.3g} a byte, {share(part)} of the run</title>"
        radius = 3 + 12 * part**0.5
        parts.append(
            f'<a href="#{anchor}"><circle cx="{x(at):.1f}" cy="{y(speed):.1f}" r="{radius:.1f}" '
            f'fill="{COLOURS["MM"]}" fill-opacity="0.45">{hint}</circle></a>'
        )
    return html.svg(WIDTH, height + 30, parts, "roofline")


# ---- memory


def _memory(s: Summary, compiled: Compiled, chip: Chip, ran: Sequence[_Ran]) -> str:
    plan = compiled.plan
    times = {kernel.number: kernel.time for kernel in ran}
    left = frozenset(place.buffer for place in compiled.outputs.values())
    height = 220
    arena = max(1, plan.arena_bytes)
    parts = _time_axis(s.cycles, s.chip.clock_hz, height)
    boxes: list[tuple[int, str]] = []
    for buffer, (first, last) in lifetimes([buffers_of(t) for t in compiled.tiles], left).items():
        at = plan.address[buffer] - plan.arena
        if at < 0 or buffer.space or first not in times:
            continue
        start = times[first].start_cycles
        end = times[last].end_cycles if last in times else s.cycles
        y = height * (1 - (at + buffer.bytes) / arena)
        hint = f"{buffer.name}: {size(buffer.bytes)} at {size(at)}, cycles {count(start)} to {count(end)}"
        x = _x(start, s.cycles)
        box = html.rect(
            x, y, max(0.4, _x(end, s.cycles) - x), max(0.4, height * buffer.bytes / arena), _PALE[first % 2], hint
        )
        boxes.append((buffer.bytes, box))
    parts += [box for _, box in sorted(boxes, key=lambda b: -b[0])[:MOST_BOXES]]
    parts += [html.text(LEFT - 6, 11, size(plan.arena_bytes), "end"), html.text(LEFT - 6, height, "0", "end")]
    drawn = [html.svg(WIDTH, height + 20, parts, "DRAM over time")]
    used = [local_bytes(program, len(chip.memories)) for program in compiled.tiles]
    for m, memory in enumerate(chip.memories):
        lane = 60
        parts = [html.line(LEFT, lane, WIDTH - RIGHT, lane)]
        for kernel in ran[:MOST_BOXES]:
            x, tall = _x(kernel.time.start_cycles, s.cycles), lane * used[kernel.number][m] / memory.bytes
            hint = f"{kernel.use.name}: {size(used[kernel.number][m])} of {size(memory.bytes)}"
            wide = max(0.4, _x(kernel.time.end_cycles, s.cycles) - x)
            parts.append(html.rect(x, lane - tall, wide, tall, _PALE[kernel.number % 2], hint))
        label = (memory.name, f"of {size(memory.bytes)}")
        parts += [html.text(LEFT - 6, lane / 2 + 12 * n, part, "end") for n, part in enumerate(label)]
        drawn.append(html.svg(WIDTH, lane + 6, parts, f"{memory.name} over time"))
    note = _MEMORY.format(arena=size(plan.arena_bytes), fixed=size(plan.dram_bytes - plan.arena_bytes))
    return f"<p>{escape(note)}</p>" + "\n".join(drawn)


# ---- tables


def _kernels(ran: Sequence[_Ran]) -> str:
    head = ("#", "kernel", "from", "cycles", "share", "matrix", "vector", "DRAM bytes", *(q.name for q in Queue))
    shown = sorted(ran, key=lambda kernel: -kernel.use.cycles)[:MOST_ROWS]
    shown.sort(key=lambda kernel: kernel.number)
    rows: list[list[Cell | str]] = []
    for kernel in shown:
        use = kernel.use
        first, rest = use.sources[:1], use.sources[1:]
        origin = ", ".join(first) + (f" and {len(rest)} more" if rest else "")
        rows.append(
            [
                number(kernel.number), Cell(f'<a href="#c{kernel.number}">{escape(use.name)}</a>'), origin,
                number(use.cycles, count(use.cycles)),
                *(number(x, share(x)) for x in (use.share, use.matrix, use.vector)),
                number(use.dram_bytes, size(use.dram_bytes)),
                *(number(n, count(n)) for n in kernel.time.commands),
            ]
        )  # fmt: skip
    more = f"<p>The {MOST_ROWS:,} costliest of {len(ran):,}.</p>" if len(ran) > MOST_ROWS else ""
    table = html.table(head, rows, sortable=True, ids=[kernel.anchor for kernel in shown])
    return f'{more}<div class="wide">{table}</div>'


def _sources(ran: Sequence[_Ran]) -> str:
    """Each op of the model, the kernel that it is part of, and the commands of that kernel."""
    pairs = [(source, kernel) for kernel in ran for source in kernel.use.sources]
    pairs = sorted(pairs, key=lambda pair: -pair[1].use.cycles)[:MOST_ROWS]
    pairs.sort(key=lambda pair: pair[1].number)
    rows: list[list[Cell | str]] = [
        [
            source, Cell(f'<a href="#{kernel.anchor}">{escape(kernel.use.name)}</a>', kernel.number),
            number(kernel.use.cycles, count(kernel.use.cycles)), number(kernel.use.share, share(kernel.use.share)),
            number(sum(kernel.time.commands), count(sum(kernel.time.commands))),
        ]
        for source, kernel in pairs
    ]  # fmt: skip
    head = ("source op", "kernel", "cycles of the kernel", "share", "its commands")
    return html.folded(html.table(head, rows, sortable=True), f"{len(rows):,} ops of the model and their kernels")


def _values(s: Summary) -> str:
    if s.verdicts is None:
        return "<p>Not checked.</p>"
    rows: list[list[Cell | str]] = []
    for verdict in s.verdicts:
        mark = "right" if verdict.right else "wrong"
        figures = (verdict.error.rms, verdict.bound.rms, verdict.error.largest, verdict.bound.largest)
        rows.append([verdict.name, Cell(mark, kind=mark), verdict.dtype, *(number(x, f"{x:.1e}") for x in figures)])
    head = ("output", "values", "type", "error, rms", "allowed", "largest error", "allowed")
    return html.table(head, rows, sortable=True)


def _commands(compiled: Compiled, ran: Sequence[_Ran]) -> str:
    """The first commands of each kernel, as the assembler writes them; fewer where there are many kernels."""
    program = compiled.program
    listed: dict[int, list[AnyCommand]] = {kernel.number: [] for kernel in ran}
    for command in commands(program.body):
        if command.kernel in listed:
            listed[command.kernel].append(command)
    parts: list[str] = []
    for kernel in ran:
        lines: list[str] = []
        room = MOST_TEXT // len(ran)
        for command in listed[kernel.number]:
            if room <= 0:
                lines.append(f"... {len(listed[kernel.number]) - len(lines):,} more")
                break
            lines.append(asm.command_text(command, program))
            room -= len(lines[-1]) + 1
        listing = "<pre>" + escape("\n".join(lines)) + "</pre>"
        summary = f"{kernel.use.name}: {len(listed[kernel.number]):,} commands in the program"
        parts.append(f'<div id="c{kernel.number}">{html.folded(listing, summary)}</div>')
    return "\n".join(parts)
