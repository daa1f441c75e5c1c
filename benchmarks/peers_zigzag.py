"""Runs ZigZag (package `zigzag-dse`) on the workloads and writes results/zigzag.json with the mapping of every layer.

    make bench-env && .venv-bench/bin/python benchmarks/peers_zigzag.py [WORKLOAD...]

The accelerator: 128 x 128 multipliers, output channels by input channels; two 8-bit weights and one 32-bit sum each;
24 MiB of SRAM with a read and a write port of 16384 bit/cycle for each operand; DRAM with one port of 8192 bit/cycle.
The search is ZigZag's own (LOMA, least latency). Each workload is one process, whose CPU time is stated.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import measure, provenance, save
from workloads import COLUMNS, ROWS, WORKLOADS, Conv, Layer, unique

SRAM_BITS_PER_CYCLE = 16384
DRAM_BITS_PER_CYCLE = 8192
SUM_BITS = 32


def port(name: str, kind: str, bits: int, served: list[str]) -> dict[str, Any]:
    return {"name": name, "type": kind, "bandwidth_min": bits, "bandwidth_max": bits, "allocation": served}


def memory(bits: int, operands: list[str], ports: list[dict[str, Any]], dimensions: list[str]) -> dict[str, Any]:
    """A memory of the hierarchy; energies do not matter when latency is minimised, but must be there."""
    costs = {"r_cost": 1, "w_cost": 1, "area": 0, "latency": 1}
    return {"size": bits, **costs, "operands": operands, "ports": ports, "served_dimensions": dimensions}


def accelerator(systolic: bool) -> dict[str, Any]:
    """ZigZag's description of the chip. `systolic` adds the skew of the array, which ZigZag counts once a layer."""
    whole = ["D1", "D2"]
    sram_ports: list[dict[str, Any]] = []
    for n, operand in enumerate(("I1", "I2", "O"), 1):
        sums = operand == "O"
        read, write = [f"{operand}, tl"], [f"{operand}, fh"]
        sram_ports.append(port(f"r_port_{n}", "read", SRAM_BITS_PER_CYCLE, [*read, "O, th"] if sums else read))
        sram_ports.append(port(f"w_port_{n}", "write", SRAM_BITS_PER_CYCLE, [*write, "O, fl"] if sums else write))
    every = ["I1, fh", "I1, tl", "I2, fh", "I2, tl", "O, fh", "O, tl", "O, fl", "O, th"]
    dram_ports = [port("rw_port_1", "read_write", DRAM_BITS_PER_CYCLE, every)]
    sum_ports = [
        port("r_port_1", "read", SUM_BITS, ["O, tl"]), port("r_port_2", "read", SUM_BITS, ["O, th"]),
        port("w_port_1", "write", SUM_BITS, ["O, fh"]), port("w_port_2", "write", SUM_BITS, ["O, fl"]),
    ]  # fmt: skip
    weight_ports = [port("r_port_1", "read", 8, ["I2, tl"]), port("w_port_1", "write", 8, ["I2, fh"])]
    array: dict[str, Any] = {"unit_energy": 1, "unit_area": 1, "dimensions": whole, "sizes": [COLUMNS, ROWS]}
    if systolic:
        array["systolic_dimensions"] = whole
    return {
        "name": "systolic_128",
        "memories": {
            "weights": memory(2 * 8, ["I2"], weight_ports, []),
            "sums": memory(SUM_BITS, ["O"], sum_ports, []),
            "sram": memory(24 * 2**20 * 8, ["I1", "I2", "O"], sram_ports, whole),
            "dram": memory(10**12, ["I1", "I2", "O"], dram_ports, whole),
        },
        "operational_array": array,
    }


MAPPING = [
    {
        "name": "default",
        "spatial_mapping": {"D1": [f"K, {COLUMNS}"], "D2": [f"C, {ROWS}"]},
        "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
    }
]


def layer_entry(number: int, name: str, layer: Layer) -> dict[str, Any]:
    """ZigZag's description of a layer: int8 operands, 32-bit sums, int8 results."""
    head = {"id": number, "name": name, "operand_source": {}}
    bits = {"operand_precision": {"I": 8, "W": 8, "O": SUM_BITS, "O_final": 8}}
    if isinstance(layer, Conv):
        return {
            **head, **bits, "operator_type": "Conv",
            "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
            "dimension_relations": [f"ix={layer.stride}*ox+1*fx", f"iy={layer.stride}*oy+1*fy"],
            "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
            "loop_sizes": [1, layer.m, layer.c, layer.out, layer.out, layer.kernel, layer.kernel],
            "pr_loop_dims": ["IX", "IY"], "pr_loop_sizes": [layer.size, layer.size],
            "padding": [[layer.pad, layer.pad], [layer.pad, layer.pad]],
        }  # fmt: skip
    return {
        **head, **bits, "operator_type": "Gemm", "equation": "O[b][k]+=I[b][c]*W[c][k]", "dimension_relations": [],
        "loop_dims": ["B", "K", "C"], "loop_sizes": [layer.m, layer.n, layer.k],
    }  # fmt: skip


def describe(found: Any) -> dict[str, Any]:
    """Cycles and mapping of one layer from ZigZag's result object. Loops run from the innermost to the outermost."""
    levels = found.temporal_mapping.mapping_dic_stationary
    loops = {str(op): [[[str(dim), int(size)] for dim, size in level] for level in per] for op, per in levels.items()}
    onload = {
        str(op): {str(way): float(cycles[0]) for way, cycles in ways.items()}
        for op, ways in found.data_loading_cc_per_op.items()
    }
    spatial = found.spatial_mapping_int.mapping_dict_origin
    unrolled = {str(op): [[[str(d), float(n)] for d, n in level] for level in per] for op, per in spatial.items()}
    return {
        "cycles": int(found.latency_total2), "array_cycles": int(found.ideal_temporal_cycle),
        "stall_cycles": float(found.stall_slack_comb), "onload_cycles": float(found.data_onloading_cycle),
        "offload_cycles": float(found.data_offloading_cycle), "drain_cycles": int(found.systolic_drain_cycle),
        "temporal": loops, "spatial": unrolled, "onload_by_operand": onload,
    }  # fmt: skip


def child(name: str, systolic: str) -> None:
    """One run of ZigZag over all layers of a workload; prints the results as JSON on the last line."""
    import yaml
    from zigzag.api import get_hardware_performance_zigzag

    logging.disable(logging.CRITICAL)
    layers = WORKLOADS[name]
    entries = [layer_entry(i, layer_name, layer) for i, (layer_name, layer) in enumerate(layers)]
    with tempfile.TemporaryDirectory() as folder:
        paths: list[str] = []
        parts = {"workload": entries, "accelerator": accelerator(systolic == "1"), "mapping": MAPPING}
        for part, content in parts.items():
            path = Path(folder) / f"{part}.yaml"
            path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
            paths.append(str(path))
        _, _, results = get_hardware_performance_zigzag(
            *paths, opt="latency", dump_folder=folder, pickle_filename=f"{folder}/results.pickle",
            loma_show_progress_bar=False,
        )  # fmt: skip
    print("\n" + json.dumps([describe(found) for found, _ in results[0][1]]))


def measure_workload(name: str, systolic: bool) -> dict[str, Any]:
    """Cycles by layer, the whole process's CPU seconds and peak memory."""
    cost = measure([sys.executable, str(Path(__file__).resolve()), "--child", name, str(int(systolic))])
    found = json.loads(cost.out.splitlines()[-1])
    layers = WORKLOADS[name]
    assert len(found) == len(layers)
    by_name = {layer_name: entry for (layer_name, _), entry in zip(layers, found, strict=True)}
    record = {
        "cycles": sum(f["cycles"] for f in found),
        "array_cycles": sum(f["array_cycles"] for f in found),
        "cpu_s": cost.cpu_s,
        "peak_bytes": cost.peak_bytes,
        "layers": [{"name": first, "count": n, **by_name[first]} for first, n in unique(layers).values()],
    }
    same = sum(x["count"] * x["cycles"] for x in record["layers"]) == record["cycles"]
    assert same, "equal layers got unequal cycles"
    print(name, "systolic" if systolic else "", record["cycles"], cost.cpu_s, flush=True)
    return record


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    names = sys.argv[1:] or list(WORKLOADS)
    results = {name: measure_workload(name, systolic=False) for name in names}
    skewed = {name: measure_workload(name, systolic=True)["cycles"] for name in names if name != "resnet50"}
    about = provenance(".venv-bench/bin/python benchmarks/peers_zigzag.py", "zigzag-dse", "numpy", "onnx")
    save("zigzag", {"provenance": about, "workloads": results, "cycles_with_systolic_dimensions": skewed})


if __name__ == "__main__":
    main()
