"""Runs SCALE-Sim v3 (package `scalesim`) on the workloads and writes results/scalesim.json.

    make bench-env && .venv-bench/bin/python benchmarks/peers_scalesim.py [WORKLOAD...]

Its array is 128x128, its buffers 24 MiB in three equal parts. Every different layer runs once, in a process of its own,
and counts as often as it occurs; so does its CPU time. The cycles are its `Total Cycles`, without the prefetch
that it states apart. For `os` on ResNet-50 the formula of `workloads.scalesim_cycles` is used, which the runs verify.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import measure, provenance, save
from workloads import WORKLOADS, Conv, Layer, scalesim_cycles, unique

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


def topology(layer: Layer) -> str:
    """SCALE-Sim's topology file for one layer; padding is part of the input's size there."""
    if isinstance(layer, Conv):
        size = layer.size + 2 * layer.pad
        row = f"layer,{size},{size},{layer.kernel},{layer.kernel},{layer.c},{layer.m},{layer.stride},1:1,"
        return f"Layer,IfmapH,IfmapW,FilterH,FilterW,Channels,Filters,Stride,Sparsity,\n{row}\n"
    return f"Layer,M,N,K,\nlayer,{layer.m},{layer.n},{layer.k},\n"


def child(folder: str, kind: str) -> None:
    """One run of SCALE-Sim on the files in `folder`."""
    from scalesim.scale_sim import scalesim

    os.chdir(folder)
    run = scalesim(
        save_disk_space=True, verbose=False, config="run.cfg", topology="topology.csv", layout="layout.csv",
        input_type_gemm=kind == "gemm",
    )  # fmt: skip
    run.run_scale(top_path="out")


def run(layer: Layer, dataflow: str) -> dict[str, Any]:
    """Cycles, prefetch, CPU seconds and peak memory of one layer."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "run.cfg").write_text(config(dataflow), encoding="utf-8")
        (place / "topology.csv").write_text(topology(layer), encoding="utf-8")
        (place / "layout.csv").write_text("Layer,\nlayer," + "1," * 20 + "\n", encoding="utf-8")
        (place / "out").mkdir()
        kind = "conv" if isinstance(layer, Conv) else "gemm"
        cost = measure([sys.executable, str(Path(__file__).resolve()), "--child", folder, kind])
        with (place / "out" / "run" / "COMPUTE_REPORT.csv").open(encoding="utf-8") as file:
            row = next(iter(csv.DictReader(file, skipinitialspace=True)))
        total = int(float(row["Total Cycles"]))
        prefetch = int(float(row["Total Cycles (incl. prefetch)"])) - total
        stalls = int(float(row["Stall Cycles"]))
        figures = {"cycles": total, "stall_cycles": stalls, "prefetch_cycles": prefetch}
        return {**figures, "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes}


def measure_workload(name: str, dataflow: str) -> dict[str, Any]:
    """Every different layer of a workload under one dataflow: run, or by the formula where that is not run."""
    layers: list[dict[str, Any]] = []
    ran = dataflow in RUNS[name]
    for layer, (first, count) in unique(WORKLOADS[name]).items():
        formula = scalesim_cycles(layer, dataflow)
        found = run(layer, dataflow) if ran else {"cycles": formula}
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
    names = sys.argv[1:] or list(WORKLOADS)
    results = {name: {flow: measure_workload(name, flow) for flow in ("ws", "os")} for name in names}
    about = provenance(".venv-bench/bin/python benchmarks/peers_scalesim.py", "scalesim", "numpy", "pandas")
    save("scalesim", {"provenance": about, "workloads": results})


if __name__ == "__main__":
    main()
