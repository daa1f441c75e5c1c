"""Schedule records as text, and back, one line per kernel:

    schedule "conv1": tile a0=3/6 a1=6/6 a2=8/8 | spread a0:2 | order a0 a1 | depth 2 | cycles 1234.0

`a0=3/6` is a tile of 3 elements of the 6 of the axis, `a0:2` two parts of it on different cores. The record belongs to
a kernel, whose axes it names; without the kernel it cannot be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tapeout.compiler.schedule import Schedule
from tapeout.errors import UserError
from tapeout.ir.kernel import Axis, KernelSpec

_LINE = re.compile(
    r'schedule ("(?:[^"\\]|\\.)*"): tile (.*) \| spread (.*) \| order (.*) \| depth (\d+) \| cycles ([\d.e+]+|inf)'
)


def print_schedules(kernels: Sequence[KernelSpec], schedules: Sequence[Schedule]) -> str:
    """A line for each kernel's record."""
    return "".join(f"{print_schedule(*pair)}\n" for pair in zip(kernels, schedules, strict=True))


def print_schedule(kernel: KernelSpec, schedule: Schedule) -> str:
    """The record of one kernel, on one line."""
    tiles = " ".join(f"{a.name}={schedule.tile[a]}/{a.extent}" for a in kernel.layout)
    spread = " ".join(f"{a.name}:{n}" for a, n in schedule.spread)
    order = " ".join(a.name for a in schedule.order)
    parts = (f"tile {tiles or '-'}", f"spread {spread or '-'}", f"order {order or '-'}", f"depth {schedule.depth}")
    return f"schedule {json.dumps(kernel.name)}: {' | '.join(parts)} | cycles {float(schedule.cycles)!r}"


def parse_schedules(text: str, kernels: Sequence[KernelSpec]) -> tuple[Schedule, ...]:
    """The records that `print_schedules` wrote for these kernels; `UserError` with the line that is not of its form."""
    lines = text.splitlines()
    if len(lines) != len(kernels):
        raise UserError(f"{len(lines)} schedules for {len(kernels)} kernels", f"line {len(lines)}", "give one for each")
    return tuple(_parse(line, n, kernel) for n, (line, kernel) in enumerate(zip(lines, kernels, strict=True), 1))


def _parse(line: str, number: int, kernel: KernelSpec) -> Schedule:
    axes = {a.name: a for a in kernel.layout}

    def fail(what: str) -> UserError:
        return UserError(what, f"line {number}", "see tapeout.compiler.schedule_text for the form")

    def axis(name: str) -> Axis:
        if name not in axes:
            raise fail(f"kernel `{kernel.name}` has no axis {name}")
        return axes[name]

    def words(text: str) -> list[str]:
        return [] if text == "-" else text.split(" ")

    def pairs(text: str, form: str) -> list[tuple[Axis, int]]:
        found = [re.fullmatch(form, word) for word in words(text)]
        if None in found:
            raise fail(f"`{text}` has not the form of axes with numbers")
        return [(axis(m[1]), int(m[2])) for m in found if m]

    match = _LINE.fullmatch(line)
    if match is None or json.loads(match[1]) != kernel.name:
        raise fail(f"this is not the schedule of kernel `{kernel.name}`")
    tile = dict(pairs(match[2], r"(\w+)=(\d+)/\d+"))
    order = tuple(axis(name) for name in words(match[4]))
    return Schedule(tile, tuple(pairs(match[3], r"(\w+):(\d+)")), order, int(match[5]), float(match[6]))
