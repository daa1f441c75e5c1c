"""What the runs of a table amount to, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import median
from typing import Any

from tapeout.bench.runs import LOW, Record

SHOWN = 40
"""Lines of each list."""
BARS = 10


def render(records: Sequence[Record], before: Mapping[str, Record]) -> str:
    """Counts, failures by name, ratios with their histogram, the lowest with their lost cycles, costs, and what changed
    since `before`."""
    return "\n".join(
        part for part in (_counts(records), _failures(records), _ratios(records), _low(records), _costs(records),
                          _changes(records, before)) if part
    )  # fmt: skip


def _counts(records: Sequence[Record]) -> str:
    by_status = Counter(record["status"] for record in records)
    parts = ", ".join(f"{count} {status}" for status, count in by_status.most_common())
    models, chips = ({record[kind] for record in records} for kind in ("model", "chip"))
    return f"{len(records)} runs of {len(models)} models on {len(chips)} chips: {parts}"


def _failures(records: Sequence[Record]) -> str:
    """Every run that was not right, those with the same reason together."""
    lines: list[str] = []
    for status in ("wrong", "failed", "late", "refused"):
        by_reason: dict[str, list[str]] = {}
        for record in records:
            if record["status"] == status:
                by_reason.setdefault(_reason(record), []).append(record["key"])
        for reason, keys in sorted(by_reason.items(), key=lambda item: -len(item[1])):
            lines.append(f"{status}, {len(keys)}: {reason}".rstrip(": "))
            lines += [f"  {key}" for key in keys[:SHOWN]]
            lines += [f"  ... {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    return "\n".join(lines)


def _reason(record: Record) -> str:
    lines = str(record.get("reason", "")).splitlines()
    return lines[-1] if lines else ""


def _timed(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if "cycles" in record]


def _ratios(records: Sequence[Record]) -> str:
    ratios = [float(record["attainable"]["ratio"]) for record in _timed(records)]
    if not ratios:
        return ""
    mean = exp(sum(log(max(ratio, 1e-9)) for ratio in ratios) / len(ratios))
    counts = Counter(min(BARS - 1, int(ratio * BARS)) for ratio in ratios)
    most = max(counts.values())
    lines = [f"attainable bound reached: {mean:.3f} (geometric mean), {min(ratios):.3f} to {max(ratios):.3f}"]
    for bar in range(BARS):
        size = round(40 * counts[bar] / most)
        lines.append(f"  {bar / BARS:.1f} to {(bar + 1) / BARS:.1f} {counts[bar]:5} {'#' * size}".rstrip())
    return "\n".join(lines)


def _low(records: Sequence[Record]) -> str:
    """Runs below `LOW`, the lowest first, with the shares of their lost cycles."""
    low = sorted((r for r in _timed(records) if r["attainable"]["ratio"] < LOW), key=_ratio)
    lines = [f"below {LOW}: {len(low)}, with the shares of the cycles beyond the bound"] if low else []
    for record in low[:SHOWN]:
        lost: dict[str, float] = record.get("lost", {})
        whole = sum(lost.values()) or 1.0
        causes = sorted(lost.items(), key=lambda item: -item[1])
        told = ", ".join(f"{cause} {100 * cycles / whole:.0f} %" for cause, cycles in causes if cycles >= 0.005 * whole)
        lines += [f"  {record['attainable']['ratio']:.3f} {record['key']}", f"        {told}"]
    if len(low) > SHOWN:
        lines.append(f"  ... {len(low) - SHOWN} more")
    return "\n".join(lines)


def _ratio(record: Record) -> float:
    return float(record["attainable"]["ratio"])


def _costs(records: Sequence[Record]) -> str:
    """Compiling and timing, in seconds of one process, and memory of whole runs."""
    timed = _timed(records)
    if not timed:
        return ""
    seconds = [_tool_s(record["tool_s"]) for record in timed]
    worst = timed[max(range(len(timed)), key=lambda n: seconds[n])]
    peak = max(timed, key=lambda record: int(record["peak_bytes"]))
    return (
        f"compile and timing: median {median(seconds):.2f} s, worst {max(seconds):.1f} s ({worst['key']})\n"
        f"memory: at most {peak['peak_bytes'] / 2**30:.2f} GiB ({peak['key']})"
    )


def _tool_s(stages: Mapping[str, Any]) -> float:
    return float(stages.get("compile", 0.0)) + float(stages.get("timing", 0.0))


def _changes(records: Sequence[Record], before: Mapping[str, Record]) -> str:
    """Runs whose cycles, or whose end, differ from the last table."""
    both = [(before[r["key"]], r) for r in records if r["key"] in before]
    if not both:
        return ""
    lines: list[str] = []
    moved: list[tuple[float, str]] = []
    for old, new in both:
        if old["status"] != new["status"]:
            lines.append(f"  {old['status']} before, {new['status']} now: {new['key']}")
        elif "cycles" in old and old["cycles"] != new["cycles"]:
            moved.append((new["cycles"] / max(1, old["cycles"]), new["key"]))
    moved.sort(key=lambda item: -abs(log(item[0])))
    lines += [f"  {100 * (ratio - 1):+.1f} % cycles: {key}" for ratio, key in moved]
    head = f"since the last table, of {len(both)} runs that it has too: {len(lines)} changed"
    return "\n".join([head, *lines[:SHOWN], *([f"  ... {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])])
