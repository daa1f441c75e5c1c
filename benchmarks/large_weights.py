"""Peak memory of runs whose weights are larger than that: ONNX files with external data, written sparse.

    python benchmarks/large_weights.py --gib 6 --limit 1

Each run is a process of its own; its peak is the system's count of resident pages (`ru_maxrss`), mapped ones of files
among them, which the system may take back. `--limit GIB` bounds what a process may allocate beside them
(`RLIMIT_DATA`). Writes `results/large_weights.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx
from common import RESULTS, provenance
from onnx import TensorProto, helper

WIDTH = 8192
GIB = 1 << 30
KINDS = {
    "timing": ["--timing-only"],
    "values": ["--no-check"],
    "bf16 timing": ["--precision", "bf16", "--timing-only"],
    "int8 timing": ["--precision", "int8", "--timing-only"],
    "int4w timing": ["--precision", "int4w", "--timing-only"],
}


def write_model(folder: Path, size: int) -> Path:
    """As many layers of WIDTH x WIDTH as come to `size` bytes."""
    each = WIDTH * WIDTH * 4
    layers = max(1, size // each)
    with (folder / "weights").open("wb") as file:
        file.truncate(layers * each)
    nodes = [helper.make_node("Gemm", [f"x{n}", f"w{n}"], [f"x{n + 1}"], transB=n % 2) for n in range(layers)]
    ends = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, [1, WIDTH]) for n in (0, layers)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:])
    for n in range(layers):
        tensor = graph.initializer.add(name=f"w{n}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "weights", "offset": n * each, "length": each}.items():
            tensor.external_data.add(key=key, value=str(value))
    path = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def run(model: Path, chip: str, options: list[str], limit: int) -> dict[str, Any]:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "tapeout", "run", str(model), "--chip", chip, "--json", *options]
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True)
        if limit:
            resource.prlimit(child.pid, resource.RLIMIT_DATA, (limit, limit))
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    peak = usage.ru_maxrss * 1024
    if child.returncode:
        return {"failed": text.strip()[-300:], "peak_bytes": peak}
    return {
        "cycles": json.loads(text)["cycles"],
        "peak_bytes": peak,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=6)
    parser.add_argument("--chip", default="mlu370-x4")
    parser.add_argument("--limit", type=float, default=0)
    parser.add_argument("--kind", action="append", choices=KINDS)
    given = parser.parse_args()
    options = f"--gib {given.gib:g} --limit {given.limit:g} --chip {given.chip}"
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), int(given.gib * GIB))
        found: dict[str, Any] = {
            "provenance": provenance(f"python benchmarks/large_weights.py {options}", "numpy", "onnx"),
            "weights_bytes": (Path(folder) / "weights").stat().st_size,
            "limit_bytes": int(given.limit * GIB),
            "runs": {kind: run(model, given.chip, KINDS[kind], int(given.limit * GIB)) for kind in given.kind or KINDS},
        }
    text = json.dumps(found, indent=1)
    (RESULTS / "large_weights.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
