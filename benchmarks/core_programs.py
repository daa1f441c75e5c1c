"""Random programs on a designed core, in iverilog, beside the oracle's machine: every state after every step.

    core_programs.py [VARIANT] [--seed 0] [--programs 4] [--length 400]    of a design that circuit_processor.py made

Machine variants only: programs trap, take both interrupts and change modes. Told are also the clocks that a step took.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import DESIGNS, HERE, provenance, save
from cpu_programs import HANDLER, fixed_registers, random_program

from tapeout.cpu.assembler import FORMS, assemble
from tapeout.cpu.core import standard_form
from tapeout.cpu.machine import CLINT, FINISHER, Clint, Finisher, Machine, Memory
from tapeout.cpu.rv32 import rv32_interface, rv32_oracle

sys.path.insert(0, str(HERE.parent / "tests"))
from core_bench import MEMORY_BYTES, run_core

HANDLERS = 0x6000, 0x6800
DATA = 0x8000
WORK = HERE.parent / "build" / "programs"


def program_image(r: random.Random, length: int, multiply: bool) -> bytes:
    """A memory that a core runs from its reset on, until it writes to the finisher."""
    registers = {number: r.getrandbits(32) >> r.choice((0, 0, 8, 20, 28)) for number in range(1, 25)}
    registers |= fixed_registers(DATA)
    setup = [
        "la x1, 0x6000", "csrrw x0, mtvec, x1", "li x1, 0x2004000", "sw x0, 0(x1)", "li x2, 0x10000", "sw x2, 4(x1)",
        "li x1, 0x88", "csrrw x0, mie, x1", *(f"li x{number}, {value}" for number, value in registers.items()),
        "csrrsi x0, mstatus, 8",
    ]  # fmt: skip
    begin = assemble("\n".join(setup).replace("la x1", "li x1")).words
    body = random_program(r, length, multiply=multiply, handlers=HANDLERS)
    end = assemble(f"li x1, {FINISHER}\n li x2, 0x5555\n sw x2, 0(x1)\n ecall").words
    image = bytearray(MEMORY_BYTES)
    for address, words in ((0, (*begin, *body, *end)), *((at, assemble(HANDLER, at).words) for at in HANDLERS)):
        code = b"".join(word.to_bytes(4, "little") for word in words)
        image[address : address + len(code)] = code
    image[DATA - 0x800 : DATA + 0x800] = r.randbytes(0x1000)
    return bytes(image)


def compare(folder: Path, variant: str, image: bytes, seen: Counter[str]) -> int:
    """Runs both; the number of steps. `SystemExit` at the first state that differs."""
    files = [folder / "core.v", folder / "step.v", *sorted(folder.glob("fold*.v"))]
    states = run_core(WORK, files, standard_form(variant), image)
    devices = {0: Memory(MEMORY_BYTES, image), CLINT: Clint(), FINISHER: (finisher := Finisher())}
    machine = Machine(rv32_oracle(variant, ports=False).evaluate, rv32_interface(variant, ports=False), devices)
    cycles = 0
    for number, state in enumerate(states):
        outcome = machine.step()
        wanted = machine.state | {f"x[{index}]": machine.x[index] for index in range(1, 32)}
        wrong = sorted(name for name, value in wanted.items() if state[name] != value)
        if wrong:
            raise SystemExit(f"{variant}: after step {number}, {outcome}: {', '.join(wrong)} differ")
        name = "trap" if outcome.trap else _name(outcome.instruction)
        seen[name] += 1
        seen[f"clocks {name}"] += state["cycles"] - cycles
        cycles = state["cycles"]
    if not finisher.finished:
        raise SystemExit(f"{variant}: the program is not at its end after {len(states)} steps")
    return len(states)


def _name(word: int) -> str:
    """The instruction, as the assembler calls it."""
    return next((name for name, mask, bits in _MASKS if word & mask == bits), "other")


def _mask(operands: str) -> int:
    return {"rd,rs1,rs2": 0xFE00707F, "rd,rs1,shift": 0xFE00707F, "rd,upper": 0x7F, "rd,jump": 0x7F}.get(
        operands, 0x707F
    )


_MASKS = [(name, _mask(form.operands), form.bits) for name, form in FORMS.items() if "." not in name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", nargs="?", default="rv32ima-machine", choices=("rv32ia-machine", "rv32ima-machine"))
    parser.add_argument("--seed", type=int, default=0, help="of the design")
    parser.add_argument("--programs", type=int, default=4)
    parser.add_argument("--length", type=int, default=400, help="words of each")
    arguments = parser.parse_args()
    folder = DESIGNS / f"{arguments.variant}-{arguments.seed}"
    if not (folder / "core.v").is_file() or shutil.which("iverilog") is None:
        parser.error(f"needs iverilog, and {folder}: circuit_processor.py {arguments.variant} {arguments.seed}")
    WORK.mkdir(parents=True, exist_ok=True)
    seen: Counter[str] = Counter()
    begin, steps = time.perf_counter(), 0
    for number in range(arguments.programs):
        r = random.Random(number)
        image = program_image(r, arguments.length, arguments.variant == "rv32ima-machine")
        steps += compare(folder, arguments.variant, image, seen)
        print(f"program {number}: {steps:,} steps so far, {time.perf_counter() - begin:.0f} s", flush=True)
    counts = {name: count for name, count in sorted(seen.items()) if not name.startswith("clocks ")}
    record: dict[str, Any] = {
        **provenance(f"python benchmarks/core_programs.py {arguments.variant}", "tapeout", "numpy"),
        "programs": arguments.programs, "steps": steps, "clocks": sum(seen.values()) - sum(counts.values()),
        "instructions": counts,
        "clocks_of": {name: round(seen[f"clocks {name}"] / count, 1) for name, count in counts.items()},
    }  # fmt: skip
    save(f"core_programs_{arguments.variant}", record)


if __name__ == "__main__":
    main()
