"""Our simulator under the peers' rules, our schedule beside theirs, and CPU time; writes results/side_by_side.json.

.venv/bin/python benchmarks/side_by_side.py         reads results/zigzag.json and results/scalesim.json
"""

from __future__ import annotations

import dataclasses
import json
import sys
from math import ceil
from pathlib import Path
from typing import Any

from common import HERE, load, measure, provenance, save
from own_schedule import CAUSES, in_one_program, layer_by_layer
from peer_programs import scalesim_program, zigzag_program
from workloads import COLUMNS, ROWS, WORKLOADS, as_gemm, ideal, unique

from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.sim import timing

WITHIN = 0.02
CPU_FACTOR = 30


def peer_chip(name: str) -> Chip:
    return load_chip(HERE / "chips" / f"{name}.toml")


def compared(theirs: list[dict[str, Any]], ours: list[int]) -> dict[str, Any]:
    """Cycles of the same mapping by the peer and by us."""
    pairs = zip(theirs, ours, strict=True)
    layers = [{"name": t["name"], "count": t["count"], "theirs": t["cycles"], "ours": o} for t, o in pairs]
    sums = {who: sum(x["count"] * x[who] for x in layers) for who in ("theirs", "ours")}
    worst = max(abs(x["ours"] / x["theirs"] - 1) for x in layers)
    return {**sums, "off": sums["ours"] / sums["theirs"] - 1, "worst_layer_off": worst, "layers": layers}


def under_their_rules(zigzag: dict[str, Any], scalesim: dict[str, Any]) -> dict[str, Any]:
    """The peers' mappings on chips with the peers' rules, by our timing executor."""
    found: dict[str, Any] = {}
    for name in WORKLOADS:
        chip = peer_chip("zigzag")
        theirs = zigzag[name]["layers"]
        per: dict[str, Any] = {}
        per["zigzag"] = compared(theirs, [timing.run(zigzag_program(x), chip).cycles for x in theirs])
        for flow in ("ws", "os"):
            chip = peer_chip(f"scalesim-{flow}")
            ours = [timing.run(scalesim_program(layer, flow), chip).cycles for layer in unique(WORKLOADS[name])]
            per[f"scalesim-{flow}"] = compared(scalesim[name][flow]["layers"], ours)
        found[name] = per
        for peer, x in per.items():
            print(f"{name} {peer}: theirs {x['theirs']}, ours {x['ours']}, worst layer {x['worst_layer_off']:.2%} off")
    return found


def their_causes(zigzag: dict[str, Any], scalesim: dict[str, Any]) -> dict[str, Any]:
    """The peers' cycles by the causes that ours are attributed to."""
    found: dict[str, Any] = {}
    for name, layers in WORKLOADS.items():
        best = ideal(name)
        z = {"ideal": best, "edges": zigzag[name]["array_cycles"] - best}
        each = zigzag[name]["layers"]
        z["waits_loads"] = sum(x["count"] * (x["onload_cycles"] + x["stall_cycles"]) for x in each)
        z["waits_stores"] = sum(x["count"] * x["offload_cycles"] for x in each)
        per = {"zigzag": z}
        for flow in ("ws", "os"):
            passes = 0
            for _, layer in layers:
                g = as_gemm(layer)
                across = ceil(g.k / ROWS) if flow == "ws" else ceil(g.m / ROWS)
                passes += across * ceil(g.n / COLUMNS)
            s = {"ideal": best, "fill": (ROWS + COLUMNS - 2) * passes, "weight_load": ROWS * passes * (flow == "ws")}
            s["edges"] = scalesim[name][flow]["cycles"] - sum(s.values())
            per[f"scalesim-{flow}"] = s
        found[name] = {who: {cause: round(x.get(cause, 0.0), 1) for cause in CAUSES} for who, x in per.items()}
    return found


def our_schedule() -> dict[str, Any]:
    """Our compiler's schedule on systolic-128, and on the chip with ZigZag's rules."""
    chip, rules = load_chip("systolic-128"), peer_chip("zigzag")
    # The compiler is shown that a weight tile takes its cycles through the SRAM's port and that DMA has a rate; the
    # program is timed under the rules, which hide the one and have no limit for the other.
    load_cycles = ROWS * COLUMNS // rules.memories[0].bytes_per_cycle
    seen = dataclasses.replace(
        rules,
        matrix=dataclasses.replace(rules.matrix, load_cycles=load_cycles),
        dma=dataclasses.replace(rules.dma, bytes_per_cycle=rules.dram_bytes_per_cycle),
    )
    found: dict[str, Any] = {}
    for name in WORKLOADS:
        own = layer_by_layer(name, chip)
        own["one_program_cycles"] = in_one_program(name, chip)
        own["zigzag_rules"] = layer_by_layer(name, rules, seen)
        found[name] = own
        print(f"{name}: {own['cycles']} cycles, in one program {own['one_program_cycles']}, {own['causes']}")
        print(f"{name} under ZigZag's rules: {own['zigzag_rules']['cycles']} cycles, {own['zigzag_rules']['causes']}")
    return found


def cpu_time(zigzag: dict[str, Any], scalesim: dict[str, Any]) -> dict[str, Any]:
    """Whole processes, user and system time: compile and time every layer of ResNet-50, and the peers'."""
    chip = "systolic-128"
    runs = [measure([sys.executable, str(HERE / "own_schedule.py"), "resnet50", chip, "all"]) for _ in range(3)]
    ours = min(r.cpu_s for r in runs)
    peers = {"zigzag": zigzag["workloads"]["resnet50"], "scalesim": scalesim["resnet50_in_one_process"]}
    found: dict[str, Any] = {"ours": {"cpu_s": ours, "peak_bytes": max(r.peak_bytes for r in runs)}}
    found |= {who: {"cpu_s": x["cpu_s"], "peak_bytes": x["peak_bytes"]} for who, x in peers.items()}
    tapeout = str(Path(sys.executable).with_name("tapeout"))
    options = ["run", "resnet50", "--precision", "int8", "--chip", chip, "--timing-only", "--json"]
    network = measure([tapeout, *options])
    found["whole_network"] = {
        "command": " ".join(["tapeout", *options]), "cpu_s": network.cpu_s, "peak_bytes": network.peak_bytes,
        "cycles": json.loads(network.out)["cycles"],
    }  # fmt: skip
    found["factors"] = {who: round(x["cpu_s"] / ours, 1) for who, x in peers.items()}
    print(json.dumps(found))
    return found


def main() -> None:
    peers = load("zigzag"), load("scalesim")
    zigzag, scalesim = (peer["workloads"] for peer in peers)
    about = provenance(".venv/bin/python benchmarks/side_by_side.py", "tapeout", "numpy")
    record = {
        "provenance": about,
        "ideal_cycles": {name: ideal(name) for name in WORKLOADS},
        "under_their_rules": under_their_rules(zigzag, scalesim),
        "their_causes": their_causes(zigzag, scalesim),
        "our_schedule": our_schedule(),
        "cpu": cpu_time(*peers),
    }
    save("side_by_side", record)
    off = [x["worst_layer_off"] for per in record["under_their_rules"].values() for x in per.values()]
    if max(off) > WITHIN or min(record["cpu"]["factors"].values()) < CPU_FACTOR:
        sys.exit("a limit is not met")


if __name__ == "__main__":
    main()
