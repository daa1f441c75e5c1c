"""When everything happens: the timing executor (`native/sim/timing.cpp`, rules in `docs/timing.md`) and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout import _native
from tapeout.chip.spec import TICKS_PER_CYCLE, Chip
from tapeout.errors import SimError, UserError
from tapeout.isa.asm import command_text
from tapeout.isa.commands import Queue
from tapeout.isa.encode import encode_nodes, encode_tensors
from tapeout.isa.program import Program, commands
from tapeout.sim.chip_params import chip_params

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Queues:
    """Where the time of each queue went, in cycles; every array is [core, queue].

    The engine is held (`busy`), or free while the next command waits for a semaphore (`wait_semaphore`), or free
    with no command there (`idle`): the three add up to the run's cycles. Part of `busy` is `wait_engine`: the next
    command was there already. `full`: control waited for a place in this queue. `commands` is a number.
    """

    commands: Counts
    busy: Counts
    wait_semaphore: Counts
    wait_engine: Counts
    idle: Counts
    full: Counts


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One kernel: cycles of its first start and last completion (-1: it never ran), and by queue the number of its
    commands and the cycles that they held the engine, over all cores; bytes of DRAM as they are and as charged."""

    start_cycles: int
    end_cycles: int
    commands: tuple[int, ...]
    busy_cycles: tuple[int, ...]
    read_bytes: int
    read_charged_bytes: int
    written_bytes: int
    written_charged_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Every command's life, in order of completion; each array has one entry per command.

    `opcode` is its position in `isa.commands.OPCODES`, `command` its number in program order (`isa.program.commands`).
    Cycles at which it was in its queue (`entered`), started, released the engine, was complete (`end`).
    """

    core: Counts
    queue: Counts
    kernel: Counts
    opcode: Counts
    command: Counts
    entered: Counts
    start: Counts
    released: Counts
    end: Counts

    def __len__(self) -> int:
        return len(self.core)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a run took. `resource_ticks`: 1/960 cycles that each shared resource was serving, by name; `wait_barrier`
    and `wait_scalar`: cycles that each core's control waited so; `skipped_turns`: loop turns that were skipped because
    the machine repeats itself; `events` is empty unless asked for."""

    cycles: int
    queues: Queues
    kernels: tuple[KernelTime, ...]
    resource_ticks: dict[str, int]
    wait_barrier: Counts
    wait_scalar: Counts
    cache_hit_bytes: int
    cache_missed_bytes: int
    skipped_turns: int
    events: Events

    @property
    def busy_cycles(self) -> tuple[int, ...]:
        """Cycles that engines were held, by queue, over all cores."""
        return tuple(int(n) for n in self.queues.busy.sum(axis=0))

    @property
    def read_bytes(self) -> int:
        """Bytes read from DRAM, as they are."""
        return sum(k.read_bytes for k in self.kernels)

    @property
    def read_charged_bytes(self) -> int:
        """Bytes read from DRAM in whole granules."""
        return sum(k.read_charged_bytes for k in self.kernels)

    @property
    def written_bytes(self) -> int:
        """Bytes written to DRAM, as they are."""
        return sum(k.written_bytes for k in self.kernels)

    @property
    def written_charged_bytes(self) -> int:
        """Bytes that writing moved: whole granules, partly covered ones twice."""
        return sum(k.written_charged_bytes for k in self.kernels)

    def busy_share(self, resource: str) -> float:
        """Part of the run in which a shared resource was serving, 0 to 1."""
        return self.resource_ticks[resource] / (self.cycles * TICKS_PER_CYCLE) if self.cycles else 0.0


def _queues(table: Counts, cycles: int, cores: int) -> Queues:
    columns = table.reshape(cores, len(Queue), 5)
    commands, busy, wait_semaphore, wait_engine, full = (columns[:, :, i] for i in range(5))
    return Queues(commands, busy, wait_semaphore, wait_engine, cycles - busy - wait_semaphore, full)


def _kernel(row: list[int]) -> KernelTime:
    split = 6 + len(Queue)
    start, end, read, read_charged, written, written_charged = row[:6]
    traffic = (read, read_charged, written, written_charged)
    return KernelTime(start, end, tuple(row[6:split]), tuple(row[split:]), *traffic)


def _resource_ticks(names: list[str], busy: list[int], chip: Chip) -> dict[str, int]:
    """Busy ticks by name; the native side knows shared memories by number."""
    ticks: dict[str, int] = {}
    for name, count in zip(names, busy, strict=True):
        words = name.split(" ")
        if words[0] == "shared":
            name = " ".join([chip.shared[int(words[1])].name, *words[2:]])
        ticks[name] = count
    return ticks


def _fault(program: Program, found: dict[str, Any]) -> SimError:
    number, cycle = found["command"], found["cycle"]
    command = next(islice(commands(program.body), number, None)) if number >= 0 else None
    line = command_text(command, program) if command else None
    return SimError(found["fault"], command=line, cycle=cycle if cycle >= 0 else None)


def run(
    program: Program,
    chip: Chip,
    scalars: Sequence[Sequence[int]] | None = None,
    *,
    trace: bool = False,
    skip: bool = True,
) -> Trace:
    """Times a program on a chip.

    `scalars[core]` holds what the core's `LoadScalar`s read in the functional run, in order. `trace` keeps every
    command's life; `skip` lets loops be skipped whose turns repeat exactly (not with `trace`). Raises `SimError` for
    a deadlock or a missing scalar, `UserError` for a program that is not for this chip.
    """
    if scalars is not None and len(scalars) != program.cores:
        raise UserError(f"scalars for {len(scalars)} cores", program.name, f"the program has {program.cores} cores")
    channel_rate = round(chip.dram_bytes_per_cycle / chip.topology.dies * 1000)
    try:
        found: dict[str, Any] = _native.run_timing(
            encode_nodes(program.body),
            encode_tensors(program.tensors),
            list(program.semaphores),
            max(1, len(program.slots)),  # the number of the core has one
            program.cores,
            chip_params(chip),
            channel_rate,
            len(program.kernels),
            [list(row) for row in scalars or ()],
            trace,
            skip,
        )
    except RuntimeError as error:
        raise UserError(str(error), f"program {program.name}", f"compile it for {chip.name}") from None
    if "fault" in found:
        raise _fault(program, found)
    kernels: list[list[int]] = found["kernels"].tolist()
    waits: Counts = found["control_waits"]
    return Trace(
        cycles=found["cycles"],
        queues=_queues(found["queues"], found["cycles"], program.cores),
        kernels=tuple(_kernel(row) for row in kernels),
        resource_ticks=_resource_ticks(found["resource_names"], found["resource_busy"], chip),
        wait_barrier=waits[:, 0],
        wait_scalar=waits[:, 1],
        cache_hit_bytes=found["cache_hit_bytes"],
        cache_missed_bytes=found["cache_missed_bytes"],
        skipped_turns=found["skipped_turns"],
        events=Events(*np.ascontiguousarray(found["events"].T)),
    )
