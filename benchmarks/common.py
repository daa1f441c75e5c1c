"""What the benchmarks share: where a figure is from, what a child process cost. Standard library only."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DESIGNS = HERE.parent / "build" / "designs"
"""Cores that circuit_processor.py designed, ``VARIANT-SEED``."""


def machine_class() -> str:
    """Processor and number of CPUs; nothing that names the machine."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} CPUs"


def provenance(command: str, *packages: str) -> dict[str, Any]:
    """When, by what command, with which versions, on what kind of machine."""
    versions = {"python": platform.python_version()}
    for name in packages:
        versions[name] = metadata.version(name)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return {"date": today, "command": command, "versions": versions, "machine": machine_class()}


@dataclass(frozen=True)
class Cost:
    """User and system time of a whole process and those it waited for, and the most memory that it had."""

    cpu_s: float
    peak_bytes: int
    out: str


def measure(command: Sequence[str], cwd: Path | None = None) -> Cost:
    """Runs a command to its end. `RuntimeError` with what it said last if it fails."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}: {out[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(round(usage.ru_utime + usage.ru_stime, 2), usage.ru_maxrss * unit, out)


def save(name: str, record: dict[str, Any]) -> None:
    """Writes results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(HERE.parent)}")


def load(name: str) -> dict[str, Any]:
    """Reads results/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
