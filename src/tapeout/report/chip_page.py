"""All presets side by side, as Markdown (`docs/presets.md`, written by `tapeout chips --page`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from tapeout.chip.review import Review
from tapeout.chip.sources import KINDS, kind_of
from tapeout.chip.spec import ELEMENT_TYPES, Chip
from tapeout.report.chip_text import on_chip_bytes
from tapeout.report.text import size

Column = tuple[str, Callable[[Chip], str]]

HEAD = """# Presets

Written by `tapeout chips --page`; do not edit. The chips that are built in, as they are described: what the simulator
works with. `tapeout chips NAME` shows where each number of one is from, [Chips](chips.md) what the leaves mean. A dash
is what a chip does not have, or what is not known.
"""

PEAKS = """
## Peaks

TOPS or TFLOPS of all matrix units together, `2 x cores x m0 x n0 x k0 x clock`, and of all vector units at f32 (a
multiply-add a lane). In brackets what the vendor advertises, where that differs by more than half a percent. Element
types of the two f8 kinds are as fast as each other.
"""

MEMORY = """
## Memory

Local memories are those of one core, shared ones all of their kind. Links are one direction of one port.
"""

RATIOS = """
## Size, power and ratios

op/B: operations per byte, the peak of an element type over the bandwidth of main memory; kernels that do fewer are
bound by memory. Best peak: of the types that tensors have, in TOPS or TFLOPS; T/W, T/mm2 and on chip/T are that peak
over TDP and area, and memory on the dies for each of them. B/cycle/core: what main memory gives each core when all take
some.
"""

SURE = """
## How sure the numbers are

How many numbers of each preset have which kind of source.
"""


def page(presets: Sequence[Review]) -> str:
    """The whole page."""
    chips = [r.chip for r in presets]
    kinds = {r.chip.name: Counter(map(kind_of, r.sources.values())) for r in presets}
    held = [d for d in ELEMENT_TYPES if any(c.peak_ops_per_cycle(d) for c in chips) and d != "f8e5m2"]
    peaks: list[Column] = [("f8" if d == "f8e4m3" else d, lambda c, d=d: _peak(c, d)) for d in held]
    peaks.append(("vector f32", lambda c: _number(2 * c.cores * c.vector.lanes["f32"] * c.topology.clock_hz / 1e12)))
    shapes: list[Column] = [
        ("what", lambda c: c.description),
        ("dies x clusters x cores", lambda c: f"{c.topology.dies} x {c.topology.clusters} x {c.topology.cores}"),
        ("clock", lambda c: f"{c.topology.clock_hz / 1e9:.4g} GHz"),
        ("stays in the array", lambda c: c.matrix.stationary),
    ]
    memory: list[Column] = [
        ("local", lambda c: ", ".join(f"{m.name} {size(m.bytes)}" for m in c.memories)),
        ("shared", _shared),
        ("on chip", lambda c: size(on_chip_bytes(c))),
        ("main memory", lambda c: f"{c.dram.kind}, on chip" if c.dram.on_chip else c.dram.kind),
        ("capacity", lambda c: size(c.dram.capacity_bytes)),
        ("bandwidth", lambda c: f"{c.dram.bandwidth_bytes_per_s / 1e9:.5g} GB/s"),
        ("links", _links),
    ]
    ratios: list[Column] = [
        ("process", lambda c: f"{c.physical.process_nm:g} nm" if c.physical.process_nm else "-"),
        ("area", lambda c: f"{c.physical.die_area_mm2:g} mm2" if c.physical.die_area_mm2 else "-"),
        ("TDP", lambda c: f"{c.physical.tdp_w:g} W" if c.physical.tdp_w else "-"),
        ("best peak", lambda c: f"{_best(c)} {_number(c.peak_ops_per_s(_best(c)) / 1e12)}"),
        ("i8 op/B", lambda c: _ratio(c.peak_ops_per_s("i8"), c.dram.bandwidth_bytes_per_s)),
        ("f16 op/B", lambda c: _ratio(_half(c), c.dram.bandwidth_bytes_per_s)),
        ("T/W", lambda c: _ratio(c.peak_ops_per_s(_best(c)) / 1e12, c.physical.tdp_w)),
        ("T/mm2", lambda c: _ratio(c.peak_ops_per_s(_best(c)) / 1e12, c.physical.die_area_mm2)),
        ("B/cycle/core", lambda c: _number(c.dram_bytes_per_cycle / c.cores)),
        ("on chip/T", lambda c: size(on_chip_bytes(c) / (c.peak_ops_per_s(_best(c)) / 1e12))),
    ]
    sure: list[Column] = [(kind, lambda c, kind=kind: str(kinds[c.name][kind] or "-")) for kind in KINDS]
    sure.append(("peaks", lambda c: c.why_not_advertised or ("as advertised" if c.advertised_tops else "-")))
    parts = [HEAD, _table(chips, shapes), PEAKS, _table(chips, peaks), MEMORY, _table(chips, memory)]
    return "".join([*parts, RATIOS, _table(chips, ratios), SURE, _table(chips, sure)])


def _table(chips: Sequence[Chip], columns: Sequence[Column]) -> str:
    lines = ["| chip | " + " | ".join(head for head, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| `{c.name}` | " + " | ".join(show(c) for _, show in columns) + " |" for c in chips]
    return "\n" + "\n".join(lines) + "\n"


def _number(x: float) -> str:
    return f"{x:.4g}" if x else "-"


def _ratio(part: float, whole: float) -> str:
    if not part or not whole:
        return "-"
    return f"{part / whole:.3g}" if part / whole < 1000 else f"{part / whole:.0f}"


def _peak(c: Chip, dtype: str) -> str:
    derived, advertised = c.peak_ops_per_s(dtype) / 1e12, c.advertised_tops.get(dtype)
    apart = advertised is not None and abs(derived - advertised) > 0.005 * advertised
    return f"{_number(derived)} ({advertised:g})" if apart else _number(derived)


def _best(c: Chip) -> str:
    """The fastest of the element types that tensors have."""
    held = [d for d in c.matrix.geometry if d not in ("i4", "tf32")]
    return max(held, key=c.peak_ops_per_s)


def _half(c: Chip) -> float:
    return max(c.peak_ops_per_s("f16"), c.peak_ops_per_s("bf16"))


def _shared(c: Chip) -> str:
    found: list[str] = []
    for s in c.shared:
        count = f"{c.copies(s)} x " if c.copies(s) > 1 else ""
        found.append(f"{s.name} {count}{size(s.bytes)}{' (cache)' if s.managed == 'hardware' else ''}")
    return ", ".join(found) or "-"


def _links(c: Chip) -> str:
    found: list[str] = []
    for link in c.links:
        count = f"{link.ports} x " if link.ports > 1 else ""
        found.append(f"{link.name} {count}{link.bandwidth_bytes_per_s / 1e9:.4g} GB/s")
    return ", ".join(found) or "-"
