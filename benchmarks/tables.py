"""Fills the tables of docs/benchmarks.md from the recorded results. Standard library only.

.venv/bin/python benchmarks/tables.py            rewrite what stands between the markers
.venv/bin/python benchmarks/tables.py --check    exit code 1 if that would change anything
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from common import HERE, load

PAGE = HERE.parent / "docs" / "benchmarks.md"
TITLES = {"gemm1024": "GEMM 1024^3", "bert-layer": "BERT layer", "resnet50": "ResNet-50"}
PEERS = {"zigzag": "ZigZag", "scalesim-ws": "SCALE-Sim WS", "scalesim-os": "SCALE-Sim OS"}
CAUSES = {
    "ideal": "ideal", "edges": "edges", "weight_load": "weight load", "fill": "fill", "waits_loads": "loads",
    "waits_epilogue": "epilogue", "waits_stores": "stores",
}  # fmt: skip
MODES = {"timing": "cycles", "values": "cycles and values", "checked": "and values checked"}


def number(x: float) -> str:
    """Whole numbers with spaces between thousands."""
    return f"{round(x):,}".replace(",", " ")


def percent(x: float) -> str:
    return f"{100 * x:.2f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def causes_of(found: dict[str, float]) -> list[str]:
    """One cell for each cause; the two that are rare count as loads."""
    found = {**found, "waits_loads": found["waits_loads"] + found["memory"] + found["control"]}
    return [number(found[cause]) for cause in CAUSES]


def same_mapping(side: dict[str, Any]) -> str:
    """The peers' mappings under the peers' rules, theirs and ours."""
    rows = [
        [TITLES[w], PEERS[p], number(x["theirs"]), number(x["ours"]), percent(x["off"]), percent(x["worst_layer_off"])]
        for w, per in side["under_their_rules"].items()
        for p, x in per.items()
    ]
    return table(["workload", "peer", "peer, cycles", "ours, cycles", "off", "worst layer off"], rows)


def schedules(side: dict[str, Any]) -> str:
    """Who takes how long, and where the cycles go."""
    rows: list[list[str]] = []
    for w, own in side["our_schedule"].items():
        for p, found in side["their_causes"][w].items():
            rows.append([TITLES[w], PEERS[p], number(sum(found.values())), *causes_of(found)])
        rules = own["zigzag_rules"]
        rows.append([TITLES[w], "ours, ZigZag's rules", number(rules["cycles"]), *causes_of(rules["causes"])])
        rows.append([TITLES[w], "**ours, systolic-128**", f"**{number(own['cycles'])}**", *causes_of(own["causes"])])
    return table(["workload", "who", "cycles", *CAUSES.values()], rows)


def layers(side: dict[str, Any], workload: str) -> str:
    """Every different layer of a workload."""
    rows: list[list[str]] = []
    rules = side["under_their_rules"][workload]
    own = side["our_schedule"][workload]
    per = zip(own["layers"], *(rules[p]["layers"] for p in PEERS), own["zigzag_rules"]["layers"], strict=True)
    for ours, *theirs, same in per:
        m, n, k = ours["gemm"]
        found = ours["causes"]
        head = [f"{ours['name']} ({m} x {n} x {k})", str(ours["count"]), *(number(t["theirs"]) for t in theirs)]
        rows.append([*head, number(same["cycles"]), number(ours["cycles"]), *causes_of(found)])
    names = ["layer (m x n x k)", "times", *PEERS.values(), "ours, ZigZag's rules", "ours", *CAUSES.values()]
    return table(names, rows)


def cpu(side: dict[str, Any]) -> str:
    """CPU time on ResNet-50."""
    found = side["cpu"]
    names = {
        "ours": "ours: each of the 54 layers compiled and timed",
        "whole_network": "ours: the whole int8 network, `tapeout run`",
        "zigzag": "ZigZag, 54 layers",
        "scalesim": "SCALE-Sim WS, 54 layers",
    }
    rows: list[list[str]] = []
    for who, name in names.items():
        seconds, peak = found[who]["cpu_s"], found[who]["peak_bytes"]
        rows.append([name, f"{seconds:.2f}", f"{seconds / found['ours']['cpu_s']:.0f}", f"{peak / 1e9:.2f}"])
    return table(["ResNet-50, batch 1", "CPU-seconds", "times ours", "peak memory, GB"], rows)


def speed(record: dict[str, Any]) -> str:
    """Whole runs of the command."""
    rows = [
        [
            r["model"], r["chip"], MODES[r["mode"]], f"{r['cpu_s']:.2f}",
            f"{r['limit_cpu_s']:.0f}" if r["limit_cpu_s"] else "-", f"{r['peak_bytes'] / 1e9:.2f}",
        ]
        for r in record["runs"]
    ]  # fmt: skip
    return table(["model", "chip", "what", "CPU-seconds", "limit", "peak memory, GB"], rows)


def sources(records: dict[str, dict[str, Any]]) -> str:
    """Where each set of figures is from."""
    rows: list[list[str]] = []
    for name, record in records.items():
        about = record["provenance"]
        versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
        rows.append([f"`results/{name}.json`", about["date"], f"`{about['command']}`", versions, about["machine"]])
    return table(["file", "date", "command", "versions", "machine"], rows)


def _filled(text: str, found: re.Match[str]) -> str:
    return f"{found[1]}\n{text}\n\n{found[2]}"


def main() -> None:
    records = {name: load(name) for name in ("zigzag", "scalesim", "side_by_side", "speed")}
    side = records["side_by_side"]
    parts = {
        "same-mapping": same_mapping(side), "schedules": schedules(side), "cpu": cpu(side),
        "layers-bert": layers(side, "bert-layer"), "layers-resnet50": layers(side, "resnet50"),
        "speed": speed(records["speed"]), "sources": sources(records),
    }  # fmt: skip
    old = PAGE.read_text(encoding="utf-8")
    new = old
    for name, text in parts.items():
        pattern = rf"(<!-- table {name} -->\n).*?(<!-- end -->)"
        filled = partial(_filled, text)
        new, count = re.subn(pattern, filled, new, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"docs/benchmarks.md needs one place for table {name}, has {count}")
    if "--check" in sys.argv:
        sys.exit(int(new != old))
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
