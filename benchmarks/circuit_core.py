"""The designed core's size through the flow that counts PicoRV32 and SERV, with and without its registers.

    circuit_core.py [VARIANT] [--design FOLDER]    the core that tapeout design wrote; without one around the reference

The step alone, the core with its register file as a black box (sequencer, state and step), and the whole core with
registers in flip-flops.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from circuit_flow import WORK, optimize, synthesize, tool_versions, write_aiger
from common import provenance, save

from tapeout.circuit.equivalence import check_equal
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.output import netlist_file
from tapeout.circuit.port_netlists import on_care_set, put_back
from tapeout.circuit.ports import PortForm
from tapeout.circuit.reading import parse_netlist
from tapeout.cpu.core import reference_in_form, standard_form
from tapeout.cpu.verilog import core


def measure(name: str, step: Netlist, form: PortForm) -> dict[str, Any]:
    """AND nodes of the step and of the core around it, as yosys makes them and after ABC."""
    WORK.mkdir(parents=True, exist_ok=True)
    files = [WORK / f"{name}.core.v", WORK / f"{name}.step.v"]
    files[0].write_text(core(form), encoding="utf-8")
    files[1].write_bytes(netlist_file(step, ".v", "step"))
    write_aiger(step, WORK / f"{name}.step.aig")
    text = files[0].read_text(encoding="utf-8")
    split = text.index("// Array x")
    bare_files = [WORK / f"{name}.bare.v", files[1], WORK / f"{name}.registers.v"]
    bare_files[0].write_text(text[:split], encoding="utf-8")
    module = text[split:]
    ports = module[: module.index(");") + 2]
    bare_files[2].write_text(ports.replace("module", "(* blackbox *)\nmodule") + "\nendmodule\n", encoding="utf-8")
    full = synthesize(files, "core", f"{name}.full")
    bare = synthesize(bare_files, "core", f"{name}.bare", prepare="expose -evert t:core_x")
    small = optimize(WORK / f"{name}.step.aig")
    return {
        "step": {"ands": step.nodes, "abc": small.nodes},
        "step_with_registers_ands": put_back(step, form).nodes,
        "without_registers": {
            "yosys": bare.nodes, "abc": optimize(WORK / f"{name}.bare.aig").nodes, "flip_flops": len(bare.latches),
        },
        "with_registers": {
            "yosys": full.nodes, "abc": optimize(WORK / f"{name}.full.aig").nodes, "flip_flops": len(full.latches),
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", nargs="?", default="rv32ia")
    parser.add_argument("--design", type=Path, help="the folder of tapeout design")
    arguments = parser.parse_args()
    form = standard_form(arguments.variant)
    reference = reference_in_form(arguments.variant, form)
    record: dict[str, Any] = {
        **provenance(f"python benchmarks/circuit_core.py {arguments.variant}", "tapeout", "numpy"),
        "tools": tool_versions(), "reference": measure(f"{arguments.variant}.reference", reference, form),
    }  # fmt: skip
    print(record["reference"], flush=True)
    if arguments.step:
        step = parse_netlist(arguments.step.read_bytes(), arguments.step.suffix, str(arguments.step))
        if not check_equal(on_care_set(reference, form), on_care_set(step, form)).proved:
            raise SystemExit(f"{arguments.step} is not the step of {arguments.variant}")
        record["designed"] = measure(f"{arguments.variant}.designed", step, form)
        print(record["designed"], flush=True)
    save(f"circuit_core_{arguments.variant}", record)


if __name__ == "__main__":
    main()
