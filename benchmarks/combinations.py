"""Every combination that the first issue of the project names, run as a user runs it and judged by the numerics
contract.

    .venv/bin/python benchmarks/combinations.py [--quick] [WORD ...]

ResNet-50 (batch 1 and 8; 96x96, 224x224, 720x1280; fp32, fp16, int8) and GPT-2 small (prefill of several lengths, one
decode step; fp32, fp16, bf16) on both presets. Each line of results/combinations.jsonl is one `tapeout run`: cycles,
both ratios, errors and bounds of the values, CPU seconds and peak memory. Combinations that are there already are not
run again (delete the file to start over), so an interrupted run goes on where it was. With words, only those that
contain them all; with --quick, all but the largest pictures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import RESULTS, measure, provenance

CHIPS = ("mlu370-x4", "systolic-128")
OUT = RESULTS / "combinations.jsonl"


def combinations() -> Iterator[list[str]]:
    """Arguments of `tapeout run`, small ones first."""
    for height, width in ((96, 96), (224, 224), (720, 1280)):
        for batch in (1, 8):
            for precision in ("fp32", "fp16", "int8"):
                shape = [f"--batch={batch}", f"--height={height}", f"--width={width}"]
                yield from (["resnet50", "--chip", c, *shape, f"--precision={precision}"] for c in CHIPS)
            if (height, batch) == (96, 8):
                yield from gpt2()


def gpt2() -> Iterator[list[str]]:
    """Lengths from end to end of the symbol's range, odd ones among them."""
    for precision in ("fp32", "fp16", "bf16"):
        for chip in CHIPS:
            for length in (1, 17, 128, 1000, 1024):
                yield ["gpt2", "--chip", chip, f"--precision={precision}", "--set", f"sequence={length}"]
            yield ["gpt2-decode", "--chip", chip, f"--precision={precision}"]


def run(arguments: list[str]) -> dict[str, Any]:
    """One process: what it reported, or the line that it failed with."""
    command = [str(Path(sys.executable).with_name("tapeout")), "run", *arguments, "--strict", "--json"]
    try:
        cost = measure(command)
    except RuntimeError as error:
        return {"arguments": arguments, "failed": str(error)[-400:]}
    report = json.loads(cost.out)
    return {
        "arguments": arguments,
        "cycles": report["cycles"],
        "floor_ratio": report["floor"]["ratio"],
        "attainable_ratio": report["attainable"]["ratio"],
        "fallbacks": report["fallbacks"],
        "values": report["verdicts"],
        "cpu_s": cost.cpu_s,
        "peak_bytes": cost.peak_bytes,
    }


def main() -> None:
    done: dict[str, dict[str, Any]] = {}
    if OUT.is_file():
        lines = [json.loads(line) for line in OUT.read_text(encoding="utf-8").splitlines()]
        done = {" ".join(line["arguments"]): line for line in lines if "arguments" in line}
    words = [w for w in sys.argv[1:] if w != "--quick"]
    wanted = [a for a in combinations() if all(w in " ".join(a) for w in words)]
    wanted = [a for a in wanted if "--quick" not in sys.argv or "--height=720" not in a]
    with OUT.open("a", encoding="utf-8") as out:
        if not done:
            out.write(json.dumps(provenance("benchmarks/combinations.py", "numpy", "onnx")) + "\n")
        for arguments in wanted:
            key = " ".join(arguments)
            if key in done and "failed" not in done[key]:
                continue
            done[key] = run(arguments)
            out.write(json.dumps(done[key]) + "\n")
            out.flush()
            print(key, done[key].get("cycles", done[key].get("failed")), done[key].get("cpu_s"), flush=True)
    failed = [k for k in map(" ".join, wanted) if "failed" in done[k]]
    print(f"{len(wanted) - len(failed)} of {len(wanted)} right")
    sys.exit(bool(failed))


if __name__ == "__main__":
    try:
        main()
    except subprocess.SubprocessError as error:
        sys.exit(f"combinations: {error}")
