"""Steps a second of the processor's oracle on one core, by variant and form; writes results/cpu_speed.json.

    .venv/bin/python benchmarks/cpu_speed.py

Two kinds of questions: all bits random, mostly illegal instructions, and random ones with an opcode that exists.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from common import provenance, save

from tapeout.circuit.words import Rows, row_words
from tapeout.cpu.rv32 import VARIANTS, rv32_interface, rv32_oracle

ROWS = 1 << 14
CALLS = 50
OPCODES = (0x37, 0x17, 0x6F, 0x67, 0x63, 0x03, 0x23, 0x13, 0x33, 0x0F, 0x2F, 0x73)


def questions(bits: int, opcodes: bool) -> Rows:
    """Random rows; the instruction is the first word."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 1 << 64, (ROWS, row_words(bits)), dtype=np.uint64)
    if opcodes:
        rows[:, 0] = (rows[:, 0] & ~np.uint64(0x7F)) | rng.choice(np.array(OPCODES, np.uint64), ROWS)
    return rows


def speed(variant: str, ports: bool, opcodes: bool) -> float:
    """Steps a second: the best of five."""
    oracle = rv32_oracle(variant, ports=ports)
    rows = questions(rv32_interface(variant, ports=ports).input_bits, opcodes)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(CALLS):
            oracle.evaluate(rows)
        best = min(best, time.perf_counter() - start)
    return ROWS * CALLS / best


def main() -> None:
    runs: list[dict[str, Any]] = []
    for variant in VARIANTS:
        for ports in (True, False):
            found = {kind: round(speed(variant, ports, kind == "opcodes") / 1e6, 1) for kind in ("random", "opcodes")}
            bits = rv32_interface(variant, ports=ports)
            runs.append(
                {"variant": variant, "ports": ports, "bits": [bits.input_bits, bits.output_bits], "msteps_s": found}
            )
            print(runs[-1], flush=True)
    save(
        "cpu_speed",
        {"provenance": provenance(".venv/bin/python benchmarks/cpu_speed.py", "tapeout", "numpy"), "runs": runs},
    )


if __name__ == "__main__":
    main()
