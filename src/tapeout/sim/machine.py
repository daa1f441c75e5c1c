"""Runs a program's values on the simulated chip: the Python face of the native functional executor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tapeout import _native
from tapeout.chip.spec import Chip
from tapeout.errors import SimError, VerifyError
from tapeout.isa.commands import Queue
from tapeout.isa.encode import encode_nodes, encode_tensors
from tapeout.isa.program import Program, commands
from tapeout.sim.chip_params import chip_params


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A piece of DRAM, used in place. `data` is contiguous, of any element type.

    A store into a read-only array is an error. `written` says that its bytes count as initialised: inputs,
    constants, states.
    """

    address: int
    data: np.ndarray[Any, Any]
    written: bool


@dataclass(frozen=True, slots=True)
class FunctionalResult:
    """`scalars[core]` is what each `LoadScalar` of the core read, in order: the timing executor takes them as given."""

    scalars: list[list[int]]
    commands_executed: int


def run(
    program: Program,
    chip: Chip,
    dram: Sequence[Segment],
    *,
    exact: bool = False,
    check: bool = True,
    fuzz_seed: int | None = None,
) -> FunctionalResult:
    """Runs `program`, changing the arrays of `dram`. `SimError` where it does what no chip allows.

    `exact` follows the accumulation order of the numerics contract bit for bit. `check` finds races, reads of bytes
    never written and accesses out of reach (bounds are always checked). `fuzz_seed` runs a random legal interleaving.
    """
    for segment in dram:
        if not segment.data.flags.c_contiguous:
            raise VerifyError("machine", f"segment at {segment.address:#x}", "its array is not contiguous")
    try:
        outcome = _native.run_functional(
            encode_nodes(program.body),
            encode_tensors(program.tensors),
            list(program.semaphores),
            max(1, len(program.slots)),
            program.cores,
            chip_params(chip),
            [(s.address, s.data.ctypes.data, s.data.nbytes, s.written, not s.data.flags.writeable) for s in dram],
            exact,
            check,
            fuzz_seed,
        )
    except RuntimeError as error:  # words that are no program, segments that overlap
        raise VerifyError("emission", f"program {program.name}", str(error)) from None
    if "fault" in outcome:
        raise _error(program, outcome)
    return FunctionalResult(outcome["scalars"], outcome["commands"])


def _error(program: Program, fault: dict[str, Any]) -> SimError:
    """The fault in terms of the program: command with queue, kernel and core, loop counters by name."""
    number, core, thread = fault["command"], fault["core"], fault["thread"]
    if number >= 0:
        command = next(islice(commands(program.body), number, None))
        kernel = program.kernels[command.kernel].name if command.kernel < len(program.kernels) else str(command.kernel)
        where = f"{type(command).__name__} {number} of kernel {kernel} in {Queue(thread).name} of core {core}"
    else:
        where = f"control of core {core}" if thread >= 0 else None
    loops: dict[str, int] = {program.slots[slot]: count for slot, count in fault["loops"]}
    address = fault["address"] if fault["address"] >= 0 else None
    return SimError(fault["fault"], command=where, loops=loops, address=address)
