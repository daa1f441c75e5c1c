"""Serves any black box over the pipe protocol of `process_oracle`: ``python -m tapeout.circuit.serve lib.so``.

A library that crashes or a function that hangs then ends a process of its own, not the learner.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

import numpy as np

from tapeout.circuit.oracle import Oracle
from tapeout.circuit.process_oracle import GREETING
from tapeout.circuit.words import row_words
from tapeout.errors import TapeoutError


def serve(oracle: Oracle, questions: BinaryIO, answers: BinaryIO) -> None:
    """Greets, then answers frames until ``questions`` ends."""
    width = row_words(oracle.interface.input_bits)
    answers.write(f"{GREETING}{oracle.interface}\n".encode())
    answers.flush()
    while len(head := questions.read(8)) == 8:
        count = int.from_bytes(head, "little")
        data = questions.read(8 * width * count)
        rows = np.frombuffer(data, "<u8").astype(np.uint64).reshape(count, width)
        answers.write(head + np.ascontiguousarray(oracle.evaluate(rows), "<u8").tobytes())
        answers.flush()


def main() -> None:
    """Serves the black box that the arguments name: what it is, and the interface of a plain function."""
    from tapeout.circuit.examples import Examples
    from tapeout.circuit.open import open_oracle

    # The pipe is ours alone: whatever the black box prints goes to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        oracle = open_oracle(sys.argv[1], interface=sys.argv[2] if len(sys.argv) > 2 else None)
        if isinstance(oracle, Examples):
            raise SystemExit("examples cannot be asked")
        serve(oracle, sys.stdin.buffer, answers)
    except TapeoutError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
