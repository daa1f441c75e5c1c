"""Runs SCALE-Sim v3 (package `scalesim`) on the workloads and writes results/scalesim.json.

    make bench-env && .venv-bench/bin/python benchmarks/peers_scalesim.py [WORKLOAD...]

Its array is 128x128, its buffers 24 MiB in three equal parts. Every different layer runs once, in a process of its own,
and counts as often as it occurs; so does its CPU time. ResNet-50 also runs as a whole, in one process (some GB). The
cycles are its `Total Cycles`, without the prefetch that it states apart. For `os` on ResNet-50 the formula of
`workloads.scalesim_cycles` is used, which the runs verify.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Cost, measure, provenance, save
from workloads import WORKLOADS, Conv, Layer, as_gemm, scalesim_cycles, unique

PARTS_KIB = 24 * 1024 // 3
RUNS = {"gemm1024": ("ws", "os"), "bert-layer": ("ws", "os"), "resnet50": ("ws",)}
"""Dataflows that are run; the formula gives the others."""


def config(dataflow: str) -> str:
    """SCALE-Sim's configuration file."""
    return f"""[general]
run_name = run
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
[architecture_presets]
ArrayHeight = 128
ArrayWidth = 128
ifmapsramszkB = {PARTS_KIB}
filtersramszkB = {PARTS_KIB}
ofmapsramszkB = {PARTS_KIB}
IfmapOffset = 0
FilterOffset = 100000000
OfmapOffset = 200000000
Dataflow = {dataflow}
Bandwidth = 1024
ReadRequestBuffer = 512
WriteRequestBuffer = 512
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
"""


def topology(layers: Sequence[Layer]) -> tuple[str, str]:
    """SCALE-Sim's topology file for some layers, and of which kind it is.

    Padding is part of the input's size there. Beside convolutions a product of one row is a convolution of one pixel.
    """
    if not any(isinstance(layer, Conv) for layer in layers):
        rows = [f"layer{i},{x.m},{x.n},{x.k}," for i, x in enumerate(as_gemm(layer) for layer in layers)]
        return "\n".join(["Layer,M,N,K,", *rows, ""]), "gemm"
    rows = []
    for i, layer in enumerate(layers):
        x = layer if isinstance(layer, Conv) else Conv(1, 0, 1, layer.k, layer.n, 1)
        size = x.size + 2 * x.pad
        rows.append(f"layer{i},{size},{size},{x.kernel},{x.kernel},{x.c},{x.m},{x.stride},1:1,")
    return "\n".join(["Layer,IfmapH,IfmapW,FilterH,FilterW,Channels,Filters,Stride,Sparsity,", *rows, ""]), "conv"


def child(folder: str, kind: str) -> None:
    """One run of SCALE-Sim on the files in `folder`."""
    from scalesim.scale_sim import scalesim

    os.chdir(folder)
    run = scalesim(
        save_disk_space=True, verbose=False, config="run.cfg", topology="topology.csv", layout="layout.csv",
        input_type_gemm=kind == "gemm",
    )  # fmt: skip
    run.run_scale(top_path="out")


def run(layers: Sequence[Layer], dataflow: str) -> tuple[list[dict[str, int]], Cost]:
    """What SCALE-Sim reports for each of some layers, and what the process cost."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        text, kind = topology(layers)
        layout = [f"layer{i}," + "1," * 20 for i in range(len(layers))]
        (place / "run.cfg").write_text(config(dataflow), encoding="utf-8")
        (place / "topology.csv").write_text(text, encoding="utf-8")
        (place / "layout.csv").write_text("\n".join(["Layer,", *layout, ""]), encoding="utf-8")
        (place / "out").mkdir()
        cost = measure([sys.executable, str(Path(__file__).resolve()), "--child", folder, kind])
        with (place / "out" / "run" / "COMPUTE_REPORT.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    found: list[dict[str, int]] = []
    for row in rows:
        total, prefetched = int(float(row["Total Cycles"])), int(float(row["Total Cycles (incl. prefetch)"]))
        stalls = int(float(row["Stall Cycles"]))
        found.append({"cycles": total, "stall_cycles": stalls, "prefetch_cycles": prefetched - total})
    return found, cost


def run_alone(layer: Layer, dataflow: str) -> dict[str, Any]:
    """Cycles, CPU seconds and peak memory of one layer."""
    found, cost = run([layer], dataflow)
    return {**found[0], "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes}


def whole_network() -> dict[str, Any]:
    """All layers of ResNet-50 in one process, weight stationary: what a user of SCALE-Sim pays."""
    found, cost = run([layer for _, layer in WORKLOADS["resnet50"]], "ws")
    return {"cycles": sum(x["cycles"] for x in found), "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes}


def measure_workload(name: str, dataflow: str) -> dict[str, Any]:
    """Every different layer of a workload under one dataflow: run, or by the formula where that is not run."""
    layers: list[dict[str, Any]] = []
    ran = dataflow in RUNS[name]
    for layer, (first, count) in unique(WORKLOADS[name]).items():
        formula = scalesim_cycles(layer, dataflow)
        found = run_alone(layer, dataflow) if ran else {"cycles": formula}
        layers.append({"name": first, "count": count, "formula_cycles": formula, **found})
        print(name, dataflow, layers[-1], flush=True)
    record: dict[str, Any] = {"ran": ran, "cycles": sum(x["count"] * x["cycles"] for x in layers)}
    if ran:
        record["formula_agrees"] = all(x["cycles"] == x["formula_cycles"] for x in layers)
        record["cpu_s"] = round(sum(x["cpu_s"] for x in layers), 1)
        record["cpu_s_all_layers"] = round(sum(x["count"] * x["cpu_s"] for x in layers), 1)
        record["peak_bytes"] = max(x["peak_bytes"] for x in layers)
    return {**record, "layers": layers}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    whole = whole_network()
    print("resnet50 in one process", whole, flush=True)
    names = sys.argv[1:] or list(WORKLOADS)
    results = {name: {flow: measure_workload(name, flow) for flow in ("ws", "os")} for name in names}
    about = provenance(".venv-bench/bin/python benchmarks/peers_scalesim.py", "scalesim", "numpy", "pandas")
    save("scalesim", {"provenance": about, "workloads": results, "resnet50_in_one_process": whole})


if __name__ == "__main__":
    main()
