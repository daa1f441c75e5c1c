"""CPU seconds and peak memory of whole `tapeout run` processes on both presets; writes results/speed.json.

    .venv/bin/python benchmarks/bench_speed.py

User and system time together, imports included. Limits: 5 CPU-seconds for compilation and cycles, 10 with values, 3 GB.
What checking the values against the reference adds is stated too, and has no limit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common import measure, provenance, save

MODELS = ("resnet50", "gpt2")
CHIPS = ("mlu370-x4", "systolic-128")
MODES: dict[str, tuple[list[str], float | None]] = {
    "timing": (["--timing-only"], 5.0),
    "values": (["--no-check"], 10.0),
    "checked": ([], None),
}
"""Options and limit in CPU-seconds of each mode."""

PEAK_BYTES = 3 * 10**9


def run(model: str, chip: str, mode: str) -> dict[str, Any]:
    """One process; the better of two, for the first may read files from disk."""
    options, limit = MODES[mode]
    tapeout = Path(sys.executable).with_name("tapeout")
    costs = [measure([str(tapeout), "run", model, "--chip", chip, *options]) for _ in range(2)]
    cpu = min(c.cpu_s for c in costs)
    peak = max(c.peak_bytes for c in costs)
    met = limit is None or (cpu <= limit and peak <= PEAK_BYTES)
    found = {"cpu_s": cpu, "peak_bytes": peak, "limit_cpu_s": limit, "met": met}
    print(model, chip, mode, found, flush=True)
    return {"model": model, "chip": chip, "mode": mode, **found}


def main() -> None:
    runs = [run(model, chip, mode) for model in MODELS for chip in CHIPS for mode in MODES]
    about = provenance(".venv/bin/python benchmarks/bench_speed.py", "tapeout", "numpy", "onnx")
    save("speed", {"provenance": about, "limit_peak_bytes": PEAK_BYTES, "runs": runs})
    if not all(r["met"] for r in runs):
        sys.exit("a limit is not met")


if __name__ == "__main__":
    main()
