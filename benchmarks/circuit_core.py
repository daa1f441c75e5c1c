"""The designed core's size through the flow that counts PicoRV32 and SERV, with and without its registers.

    circuit_core.py [VARIANT] [--seed SEED]    around the reference; and around the design of that seed

The step alone, the core with its register file as a black box (sequencer, state and step), and the whole core with
registers in flip-flops.
"""

from __future__ import annotations

import argparse
from typing import Any

from circuit_flow import WORK, optimize, synthesize, tool_versions, write_circuit
from common import DESIGNS, provenance, save

from tapeout.circuit.equivalence import check_equal
from tapeout.circuit.folds import Folded, plain
from tapeout.circuit.output import netlist_file
from tapeout.circuit.port_netlists import on_care_set, put_back
from tapeout.circuit.ports import PortForm
from tapeout.cpu.core import apart, reference_in_form, standard_form
from tapeout.cpu.files import read_step
from tapeout.cpu.proof import outside
from tapeout.cpu.verilog import core


def measure(name: str, step: Folded, form: PortForm) -> dict[str, Any]:
    """AND nodes of the step and of the core around it, as yosys makes them and after ABC."""
    WORK.mkdir(parents=True, exist_ok=True)
    parts = {"step": step.netlist, **{fold.name: fold.step for fold in step.folds}}
    files = [WORK / f"{name}.core.v", *(WORK / f"{name}.{part}.v" for part in parts)]
    files[0].write_text(core(form, folds=step.folds), encoding="utf-8")
    for file, (part, netlist) in zip(files[1:], parts.items(), strict=True):
        file.write_bytes(netlist_file(netlist, ".v", part))
        write_circuit(netlist, WORK / f"{name}.{part}.aig")
    text = files[0].read_text(encoding="utf-8")
    split = text.index("// Array x")
    bare_files = [WORK / f"{name}.bare.v", *files[1:], WORK / f"{name}.registers.v"]
    bare_files[0].write_text(text[:split], encoding="utf-8")
    module = text[split:]
    ports = module[: module.index(");") + 2]
    bare_files[-1].write_text(ports.replace("module", "(* blackbox *)\nmodule") + "\nendmodule\n", encoding="utf-8")
    full = synthesize(files, "core", f"{name}.full")
    bare = synthesize(bare_files, "core", f"{name}.bare", prepare="expose -evert t:core_x")
    small = sum(optimize(WORK / f"{name}.{part}.aig").nodes for part in parts)
    return {
        "step": {"ands": step.nodes, "abc": small},
        "step_with_registers_ands": put_back(step.unrolled(), form).nodes,
        "without_registers": {
            "yosys": bare.nodes, "abc": optimize(WORK / f"{name}.bare.aig").nodes, "flip_flops": bare.flip_flops,
        },
        "with_registers": {
            "yosys": full.nodes, "abc": optimize(WORK / f"{name}.full.aig").nodes, "flip_flops": full.flip_flops,
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", nargs="?", default="rv32ia")
    parser.add_argument("--seed", type=int, help="of a design that circuit_processor.py made")
    arguments = parser.parse_args()
    form = standard_form(arguments.variant)
    reference = reference_in_form(arguments.variant, form)
    record: dict[str, Any] = {
        **provenance(f"python benchmarks/circuit_core.py {arguments.variant}", "tapeout", "numpy"),
        "tools": tool_versions(), "reference": measure(f"{arguments.variant}.reference", plain(reference), form),
    }  # fmt: skip
    print(record["reference"], flush=True)
    if arguments.seed is not None:
        folder = DESIGNS / f"{arguments.variant}-{arguments.seed}"
        step = read_step(folder)
        parts = apart(arguments.variant)  # these were proved when it was designed, class by class
        sides = [outside(on_care_set(netlist, form), parts) for netlist in (reference, step.unrolled())]
        if not check_equal(*sides).proved:
            raise SystemExit(f"{folder} is not the step of {arguments.variant}")
        record["designed"] = measure(f"{arguments.variant}.designed", step, form)
        print(record["designed"], flush=True)
    save(f"circuit_core_{arguments.variant}", record)


if __name__ == "__main__":
    main()
