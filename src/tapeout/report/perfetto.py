"""A run as a trace for ui.perfetto.dev (Chrome's trace event format): a process per cluster, a thread per core's queue.

Times are in cycles, shown as microseconds: 1 us of the display is 1 cycle. A slice is a command's hold of its engine,
so the slices of a thread do not overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TextIO

from tapeout.chip.spec import Chip
from tapeout.isa.commands import OPCODES, Queue
from tapeout.isa.program import Program
from tapeout.sim.timing import Trace

SEPARATOR = (",", ":")


def write(out: TextIO, trace: Trace, program: Program, chip: Chip) -> None:
    """Writes a trace with events, line by line."""
    other = {"program": program.name, "chip": chip.name, "cycles": trace.cycles, "clock_hz": chip.topology.clock_hz}
    out.write(f'{{"otherData":{json.dumps(other, separators=SEPARATOR)},"displayTimeUnit":"ns","traceEvents":[\n')
    lines = (json.dumps(e, separators=SEPARATOR) for e in _names(program, chip))
    out.write(",\n".join(lines))
    for line in _slices(trace, program, chip):
        out.write(",\n")
        out.write(line)
    out.write("\n]}\n")


def _place(core: int, queue: int, chip: Chip) -> tuple[int, int]:
    """Process and thread of a core's queue."""
    return core // chip.topology.cores + 1, core * len(Queue) + queue + 1


def _names(program: Program, chip: Chip) -> Iterator[dict[str, object]]:
    for core in range(program.cores):
        for queue in Queue:
            pid, tid = _place(core, queue, chip)
            if core % chip.topology.cores == 0 and queue == 0:
                label = f"cluster {pid - 1}"
                yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": label}}
                yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
            name = f"core {core} {queue.name}"
            yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}
            yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}


def _slices(trace: Trace, program: Program, chip: Chip) -> Iterator[str]:
    events = trace.events
    names = [json.dumps(k.name) for k in program.kernels]
    opcodes = [kind.__name__ for kind in OPCODES]
    columns = (
        events.core, events.queue, events.kernel, events.opcode, events.command, events.entered, events.start,
        events.released, events.end,
    )  # fmt: skip
    for core, queue, kernel, opcode, command, entered, start, released, end in zip(
        *(c.tolist() for c in columns), strict=True
    ):
        if released == start:  # carries semaphores only
            continue
        pid, tid = _place(core, queue, chip)
        yield (
            f'{{"ph":"X","pid":{pid},"tid":{tid},"ts":{start},"dur":{released - start},"name":{names[kernel]},'
            f'"args":{{"opcode":"{opcodes[opcode]}","command":{command},"entered":{entered},"complete":{end}}}}}'
        )
