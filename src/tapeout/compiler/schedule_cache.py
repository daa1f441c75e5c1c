"""Schedules that search has found before, kept on disk: a model that changed a little costs what changed.

An entry is found by what it was made from: the kernel's structure, the chip, and this compiler's own source. It is a
small file of its own, so processes share the folder without locks; one that is not whole is made again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tapeout.chip.spec import Chip
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.schedule_verify import verify_schedule
from tapeout.compiler.signature import signature
from tapeout.errors import VerifyError
from tapeout.ir.kernel import KernelSpec

PACKAGE = Path(__file__).parent.parent
SOURCES = ("compiler/*.py", "isa/*.py", "ir/kernel.py", "chip/spec.py")
"""What a schedule depends on beside kernel and chip, under the package."""


class ScheduleCache:
    """Schedules of kernels on a chip, under a folder; without one, nothing is kept. ``hits`` and ``misses`` count.

    What cannot be read or written is not kept: a cache never stops a compilation.
    """

    def __init__(self, folder: Path | None, chip: Chip) -> None:
        self._folder = folder and folder / "schedules"
        self._chip = chip
        self._key = _digest(_compiler(), repr(replace(chip, name="", description="", sources={})))
        self.hits = self.misses = 0

    def find(self, kernel: KernelSpec) -> Schedule | None:
        """The schedule of such a kernel, if there is a whole one."""
        if self._folder is None:
            return None
        schedule = _read(self._file(self._folder, kernel), kernel, self._chip)
        self.hits += schedule is not None
        self.misses += schedule is None
        return schedule

    def keep(self, kernel: KernelSpec, schedule: Schedule) -> None:
        """Writes an entry, whole or not at all."""
        if self._folder is None:
            return
        place = {axis: n for n, axis in enumerate(kernel.layout)}
        record = {
            "tile": [schedule.tile[axis] for axis in kernel.layout],
            "spread": [[place[axis], parts] for axis, parts in schedule.spread],
            "order": [place[axis] for axis in schedule.order],
            "depth": schedule.depth,
            "cycles": schedule.cycles,
        }
        path = self._file(self._folder, kernel)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "w") as out:
                json.dump({"check": _check(record), **record}, out)
            Path(name).replace(path)

    def _file(self, folder: Path, kernel: KernelSpec) -> Path:
        key = _digest(self._key, repr(signature(kernel)))
        return folder / key[:2] / f"{key[2:]}.json"


def cache_folder() -> Path | None:
    """The user's: ``$TAPEOUT_CACHE`` (``off``: none), else in the folder for caches of this system."""
    named = os.environ.get("TAPEOUT_CACHE")
    if named == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(named).expanduser() if named else Path(base).expanduser() / "tapeout"
    except RuntimeError:  # there is no home
        return None


def _read(path: Path, kernel: KernelSpec, chip: Chip) -> Schedule | None:
    try:
        found: Any = json.loads(path.read_bytes())
        record = cast("dict[str, Any]", found)
        if record.pop("check") != _check(record):
            return None
        axes = kernel.layout
        spread: list[tuple[int, int]] = record["spread"]
        order: list[int] = record["order"]
        schedule = Schedule(
            dict(zip(axes, record["tile"], strict=True)),
            tuple((axes[n], parts) for n, parts in spread),
            tuple(axes[n] for n in order),
            record["depth"],
            record["cycles"],
        )
        verify_schedule(kernel, schedule, chip, "the schedule cache")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, VerifyError):
        return None
    return schedule


def _check(record: dict[str, Any]) -> str:
    return _digest(json.dumps(record, sort_keys=True))


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


@functools.cache
def _compiler() -> str:
    files = sorted(file for pattern in SOURCES for file in PACKAGE.glob(pattern))
    return _digest(*(file.read_text(encoding="utf-8") for file in files))
