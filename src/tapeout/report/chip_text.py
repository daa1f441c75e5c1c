"""Chips for people: the list of presets, and one chip with where its numbers are from."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tapeout.chip.review import Review
from tapeout.chip.spec import Chip, Shared
from tapeout.report.text import grid, rate, size

DTYPES = ("i8", "i16", "f8e4m3", "f16", "bf16", "f32")


def chips(found: list[Chip]) -> Table:
    """One line per chip."""
    table = grid("l", "r", "r", "l", "r", "r", "r")
    heads = ("Chip", "cores", "GHz", "peak, T/s", "on chip", "DRAM", "GB/s")
    table.add_row(*(Text(t, style="bold") for t in heads))
    for c in found:
        memory = "none" if c.dram.on_chip else size(c.dram.capacity_bytes)
        bandwidth = f"{c.dram.bandwidth_bytes_per_s / 1e9:.4g}"
        row = (f"{c.topology.clock_hz / 1e9:.3g}", _peaks(c), size(on_chip_bytes(c)), memory, bandwidth)
        table.add_row(c.name, str(c.cores), *row)
    return table


def _peaks(c: Chip, most: int = 3) -> str:
    """Peak operations per second by type, the first few."""
    held = [d for d in DTYPES if c.peak_ops_per_cycle(d)]
    return ", ".join(f"{d} {c.peak_ops_per_s(d) / 1e12:.4g}" for d in held[:most])


def on_chip_bytes(c: Chip) -> int:
    """All memory on the dies."""
    local = c.cores * sum(m.bytes for m in c.memories)
    shared = sum(s.bytes * c.copies(s) for s in c.shared)
    return local + shared + (c.dram.capacity_bytes if c.dram.on_chip else 0)


def review(found: Review) -> RenderableType:
    """A good chip in a few lines, and what its author should know."""
    c, t = found.chip, found.chip.topology
    table = grid("l", "l")
    table.add_row("topology", _shape(c))
    for dtype in c.matrix.geometry:
        table.add_row(f"peak {dtype}", _peak(c, dtype))
    local = ", ".join(f"{m.name} {size(m.bytes)}" for m in c.memories)
    table.add_row("a core", f"{local}, {c.vector.lanes['f32']} f32 lanes, {t.clock_hz / 1e9:.4g} GHz")
    table.add_row("on chip", size(on_chip_bytes(c)))
    table.add_row("dram", f"{size(c.dram.capacity_bytes)}, {c.dram.bandwidth_bytes_per_s / 1e9:.4g} GB/s")
    head = Text(f"{c.name} is a chip", style="bold")
    warnings = [Text(f"warning: {w}", style="yellow", overflow="fold") for w in found.warnings]
    ending = [Text(), *warnings] if warnings else []
    return Group(head, Text(), table, *ending)


def _shape(c: Chip) -> str:
    t = c.topology
    return f"{t.dies} dies x {t.clusters} clusters x {t.cores} cores at {t.clock_hz / 1e9:.4g} GHz"


def _peak(c: Chip, dtype: str) -> str:
    advertised = c.advertised_tops.get(dtype)
    note = f", advertised {advertised:g} T" if advertised else ""
    return f"{rate(c.peak_ops_per_s(dtype))}OP/s{note}"


def chip(c: Chip) -> RenderableType:
    """One chip: its parts, its derived peaks, and the sources of its numbers."""
    table = grid("l", "l")
    table.add_row("topology", _shape(c))
    for dtype, kind in c.matrix.geometry.items():
        dims = f"{kind.m0} x {kind.n0} x {kind.k0} MACs a cycle and core"
        table.add_row(f"matrix {dtype}", f"{dims}, {_peak(c, dtype)}")
    table.add_row(
        "stationary", f"{c.matrix.stationary}, load {c.matrix.load_cycles}, fill {c.matrix.fill_cycles} cycles"
    )
    lanes = ", ".join(f"{d} {n}" for d, n in c.vector.lanes.items())
    table.add_row("vector", f"lanes {lanes}; special functions {c.vector.special_factor} times as long")
    for m in c.memories:
        table.add_row(m.name, f"{size(m.bytes)} a core, {m.bytes_per_cycle} B/cycle a port, for {' '.join(m.reach)}")
    for s in c.shared:
        table.add_row(s.name, f"{_held(s)}, {s.bytes_per_cycle:g} B/cycle, managed by {s.managed}")
    dram = f"{size(c.dram.capacity_bytes)}, {c.dram.bandwidth_bytes_per_s / 1e9:.4g} GB/s, {c.dram.kind}"
    place = "main memory, on chip" if c.dram.on_chip else "dram"
    table.add_row(place, f"{dram}, latency {c.dram.latency_cycles} cycles")
    for link in c.links:
        table.add_row(f"link {link.name}", f"{link.bandwidth_bytes_per_s / 1e9:.4g} GB/s")
    sources = grid("l", "l")
    for leaf, source in c.sources.items():
        sources.add_row(leaf, source)
    for columns in (table.columns, sources.columns):
        columns[1].no_wrap = False
    head = Text(c.name, style="bold").append(f"  {c.description}", style="not bold")
    parts: list[RenderableType] = [head, Text(), table]
    if c.why_not_advertised:
        parts.append(Text(f"Not as advertised: {c.why_not_advertised}"))
    return Group(*parts, Text(), Text("Sources", style="bold"), sources)


def _held(level: Shared) -> str:
    return (
        f"{size(level.bytes)} a cluster, for all"
        if level.scope == "distributed"
        else f"{size(level.bytes)} a {level.scope}"
    )
