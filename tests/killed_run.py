"""A `tapeout` command in a process that kills itself at a given write of its checkpoint.

    python killed_run.py KIND COUNT [--reference FILE LIBRARY] -- ARGUMENT...

KIND says when the COUNT-th result that is written ends it: `after` it is in the file, `inside` the statement that
inserts it, or `before` the transaction that holds it is committed, when parts of it may be in the file. With
--reference, `design` designs the function of the library in place of a processor, and FILE is its formal reference.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from types import TracebackType
from typing import Any

from tapeout.circuit import jobs
from tapeout.circuit.oracle import LibraryOracle
from tapeout.circuit.reading import read_netlist
from tapeout.cli import main
from tapeout.cpu import core

KINDS = ("after", "inside", "before")


def killed() -> int:
    """As the kernel or a power switch does it: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def dying(kind: str, left: int) -> type[sqlite3.Connection]:
    """A connection whose ``left``-th insert is the last."""

    class Dying(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            super().execute("pragma cache_size = 1")  # so that a statement writes to the file before it is committed

        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            nonlocal left
            if not statement.startswith("insert"):
                return super().execute(statement, *arguments)
            left -= 1
            if left == 0 and kind == "inside":
                steps = 0

                def step() -> int:
                    nonlocal steps
                    steps += 1
                    return killed() if steps > 8 else 0  # of about 20 instructions

                self.set_progress_handler(step, 1)
            return super().execute(statement, *arguments)

        def __exit__(
            self, kind_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> Any:
            if left == 0 and kind == "before":
                killed()
            result = super().__exit__(kind_, error, trace)
            if left == 0:
                killed()
            return result

    return Dying


def replace_processor(reference: str, library: str) -> None:
    """`design` then works on the function of the library: a processor takes a minute, and ten kills ten."""
    oracle = LibraryOracle(library)
    core.rv32_oracle = lambda variant, ports: oracle.native  # type: ignore[assignment]
    core.rv32_interface = lambda variant, ports: oracle.interface  # type: ignore[assignment]
    core.reference_in_form = lambda variant, form: read_netlist(reference)  # type: ignore[assignment]


if __name__ == "__main__":
    at = sys.argv.index("--")
    options, command = sys.argv[1:at], sys.argv[at + 1 :]
    connect = sqlite3.connect
    if int(options[1]):
        factory = dying(options[0], int(options[1]))
        jobs.sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=factory)  # type: ignore[attr-defined]
    if options[2:]:
        replace_processor(*options[3:])
    sys.argv[1:] = command
    main()
