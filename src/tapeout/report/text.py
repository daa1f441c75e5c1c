"""The report for people, within 100 columns."""

from __future__ import annotations

import io
from math import isfinite

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tapeout.report.numerics import Error, Verdict
from tapeout.report.summary import ENGINES, KernelUse, Summary, Traffic

WIDTH = 100
KERNELS = 8
"""Costliest kernels that are shown."""


def render(summary: Summary) -> RenderableType:
    """The whole report."""
    parts: list[RenderableType] = [_head(summary), Text(), _speed(summary), Text(), _engines(summary), Text()]
    parts += [_memory(summary), Text(), _kernels(summary), Text()]
    parts += [_lost(summary), Text()] if summary.lost else []
    parts.append(_numerics(summary))
    if summary.fallbacks:
        parts.append(Text(f"{'On the host':<12}{', '.join(summary.fallbacks)}", style="yellow"))
    times = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in summary.tool_s.items())
    if times:
        parts.append(Text(f"{'Host time':<12}{times} s", style="dim"))
    return Group(*parts)


def show(console: Console, summary: Summary) -> None:
    """Prints the report."""
    console.print(render(summary), width=min(WIDTH, console.width))


def plain(summary: Summary) -> str:
    """The report as text without colours."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None)
    with console.capture() as captured:
        show(console, summary)
    return captured.get()


# ---- numbers


def share(x: float) -> str:
    """0.1234 as `12.3 %`."""
    return f"{100 * x:.1f} %"


def count(x: float) -> str:
    """1234567 as `1 234 567`."""
    return f"{round(x):,}".replace(",", " ")


def size(x: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if x < 1024 or unit == "GiB":
            return f"{x:.0f} {unit}" if unit == "B" else f"{x:.3g} {unit}" if x < 1000 else f"{x:.0f} {unit}"
        x /= 1024
    return ""


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def rate(x: float) -> str:
    """Operations per second."""
    for scale, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if x >= scale:
            return f"{x / scale:.3g} {unit}"
    return f"{x:.3g} "


# ---- sections


def grid(*justify: str) -> Table:
    """A table without lines; `l` and `r` say which way its columns lean."""
    table = Table.grid(padding=(0, 2))
    for side in justify:
        table.add_column(justify="right" if side == "r" else "left", no_wrap=True)
    return table


def _head(s: Summary) -> Text:
    what = Text(s.model, style="bold")
    shape = [f"batch {s.batch}"] if s.batch > 1 else []
    shape += [f"{name} {n}" for name, n in s.binding.items()]
    what.append(f"  {', '.join(shape)}" if shape else "", style="not bold")
    what.append(" on ", style="not bold dim").append(s.chip.name, style="bold")
    cores = f"{s.chip.cores} core{'s' if s.chip.cores > 1 else ''}"
    return what.append(f"  {cores}, {s.chip.clock_hz / 1e9:.3g} GHz", style="not bold dim")


def _speed(s: Summary) -> Table:
    table = grid("l", "r", "r", "l")
    per_second = count(s.inferences_per_s) if s.inferences_per_s >= 1000 else f"{s.inferences_per_s:.4g}"
    note = f"{per_second} inferences/s, {rate(s.tops * 1e12)}OP/s; {s.limit}"
    table.add_row(Text("Latency", style="bold"), f"{count(s.cycles)} cycles", duration(s.seconds), note)
    for name, b, hint in (("Attainable", s.attainable, ""), ("Floor", s.floor, ", no program beats it")):
        note = f"{share(b.ratio)} reached; set by {LIMITS[b.limit]}{hint}"
        table.add_row(name, f"{count(b.cycles)} cycles", duration(b.seconds), note)
    return table


LIMITS = {
    "compute": "compute",
    "dram": "DRAM",
    "array": "array shape",
    "transport": "DMA",
    "chain": "latency",
}


def _engines(s: Summary) -> Table:
    table = grid("l", "r", "r", "r", "r", "r")
    table.add_row(*(Text(t, style="bold") for t in ("Engine", "busy", "waits", "idle", "busiest", "commands")))
    for e in s.engines:
        row = (share(e.busy), share(e.waiting), share(e.idle), share(e.busiest), count(e.commands))
        table.add_row(f"{e.name} {ENGINES[e.name]}", *row)
    return table


def _memory(s: Summary) -> Table:
    table = grid("l", "l")
    d: Traffic = s.dram
    moved = d.read_bytes + d.written_bytes
    beyond = f"{moved / d.compulsory_bytes:.2f} x" if d.compulsory_bytes else "-"
    parts = ", ".join(f"{name} {size(n)}" for name, n in d.compulsory.items() if n)
    line = f"{size(moved)} moved, {share(d.busy)} busy; compulsory {size(d.compulsory_bytes)} ({beyond}): {parts}"
    table.add_row(Text("DRAM", style="bold"), line)
    if loaded := d.cached_bytes:
        table.add_row("Cache", f"{share(d.cache_hit_bytes / loaded)} of {size(loaded)} loaded through it were there")
    peaks = ", ".join(f"{p.name} {size(p.bytes)} of {size(p.capacity_bytes)}" for p in s.memory)
    table.add_row(Text("Peak", style="bold"), peaks)
    table.columns[1].no_wrap = False
    return table


def _lost(s: Summary) -> Table:
    """Cycles beyond the attainable bound by cause, the largest first."""
    table = grid("l", "r", "r", "l")
    whole = sum(s.lost.values()) or 1.0
    for n, (cause, cycles) in enumerate(sorted(s.lost.items(), key=lambda item: -item[1])):
        table.add_row(Text("Lost", style="bold") if n == 0 else "", count(cycles), share(cycles / whole), cause)
    return table


def _kernels(s: Summary) -> Table:
    table = grid("l", "r", "r", "r", "r", "r", "l")
    heads = ("Kernel", "cycles", "share", "matrix", "vector", "DRAM", "with")
    table.add_row(*(Text(t, style="bold") for t in heads))
    top = sorted(s.kernels, key=lambda k: -k.cycles)[:KERNELS]
    for k in top:
        row = (count(k.cycles), share(k.share), share(k.matrix), share(k.vector), size(k.dram_bytes), _sources(k))
        table.add_row(_cut(k.name, 20), *row)
    rest = len(s.kernels) - len(top)
    if rest > 0:
        cycles = sum(k.cycles for k in s.kernels) - sum(k.cycles for k in top)
        part = cycles / s.cycles if s.cycles else 0.0
        table.add_row(Text(f"{rest} more", style="dim"), count(cycles), share(part), "", "", "", "")
    table.columns[-1].overflow = "ellipsis"
    return table


def _sources(k: KernelUse) -> str:
    """Where it came from, without what its name says already."""
    rest = [source.removeprefix(k.name) for source in k.sources if source != k.name]
    return _cut(", ".join(rest), 28)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _numerics(s: Summary) -> RenderableType:
    if s.verdicts is None:
        return Text(f"{'Values':<12}not checked", style="dim")
    return verdicts(s.verdicts)


def verdicts(found: tuple[Verdict, ...], most: int = 3) -> Table:
    """Errors beside their bounds: every wrong value, the first `most` right ones, and the worst of the rest."""
    table = grid("l", "l", "l", "l")
    wrong = [v for v in found if not v.right]
    right = [v for v in found if v.right]
    shown = most if len(right) > most + 1 else len(right)
    for i, v in enumerate((*wrong, *right[:shown])):
        head = Text("Values", style="bold") if i == 0 else ""
        mark = Text("right", style="green") if v.right else Text("WRONG", style="bold red")
        line = f"error {_error(v.error)}, allowed {_error(v.bound)} (rms, largest)"
        table.add_row(head, _cut(v.name, 24), mark, line if v.dtype[0] not in "iu" else _whole(v))
    if rest := right[shown:]:
        worst = max(_used(v) for v in rest)
        line = f"at most {100 * worst:.0f} % of what is allowed"
        table.add_row("", Text(f"{len(rest)} more", style="dim"), Text("right", style="green"), line)
    return table


def _used(v: Verdict) -> float:
    """Part of its bound that an error takes."""
    pairs = ((v.error.rms, v.bound.rms), (v.error.largest, v.bound.largest))
    return max(e / b if b and isfinite(b) else 0.0 for e, b in pairs)


def _error(e: Error) -> str:
    return f"{_digits(e.rms)} {_digits(e.largest)}"


def _digits(x: float) -> str:
    return f"{x:.1e}" if isfinite(x) else "inf"


def _whole(v: Verdict) -> str:
    return "exact" if v.error.rms == 0 else f"{share(v.error.rms)} of elements differ, allowed {share(v.bound.rms)}"
