"""Sizes in AND nodes: hand-written Verilog of each function through yosys and ABC, beside what was learned.

    circuit_sizes.py [--only NAME ...]               the Verilog, checked against the function
    circuit_sizes.py --learn exact [--budget 60]     and what is learned from the function, judged and proved
    circuit_sizes.py --isas 10 [--learn exact]       random instruction sets
    circuit_sizes.py --picorv32 DIR --serv DIR       published cores through the same flow

What is not asked for stays in results/circuit_sizes.json as it was.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from circuit_flow import (
    ROUNDS,
    VERILOG,
    WORK,
    Circuit,
    optimize,
    run,
    synthesize,
    to_netlist,
    tool_versions,
    write_circuit,
)
from common import HERE, RESULTS, load, provenance, save

sys.path.insert(0, str(HERE.parent / "tests"))

from judge import judge
from random_isa import random_isa
from tapeout.circuit.evaluate import Evaluator
from tapeout.circuit.functions import FIXED, SHOWN, get
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import LibraryOracle

ROWS = 1_000_000
SEED = 20231


def module_of(name: str) -> tuple[Path, str, dict[str, int]]:
    """File, module and parameters of the Verilog of a function."""
    match = re.fullmatch(r"(\w*?)(\d+)", name)
    module, parameters = (name, {}) if name in FIXED or not match else (match[1], {"W": int(match[2])})
    for file in sorted(VERILOG.glob("*.v")):
        if re.search(rf"^module {module}\b", file.read_text(encoding="utf-8"), re.MULTILINE):
            return file, module, parameters
    raise RuntimeError(f"no Verilog for {name}")


def written(name: str) -> tuple[dict[str, Any], Netlist]:
    """Both forms of the Verilog (prefix and ripple adders), before and after ABC, checked; the smaller netlist."""
    function = get(name)
    file, module, parameters = module_of(name)
    record: dict[str, Any] = {"inputs": function.interface.input_bits, "outputs": function.interface.output_bits}
    best: Netlist | None = None
    for form in ("prefix", "ripple"):
        aig = synthesize([file], module, f"{name}.{form}", parameters=parameters, ripple=form == "ripple")
        small = optimize(WORK / f"{name}.{form}.aig")
        netlist = to_netlist(small, function.interface, aig)
        check(name, to_netlist(aig, function.interface), ROWS // 10)
        check(name, netlist, ROWS // 10)
        record[form] = {"yosys": aig.nodes, "abc": small.nodes}
        if best is None or netlist.nodes < best.nodes:
            best = netlist
    assert best is not None
    record["verilog_ands"] = best.nodes
    return record, best


def check(name: str, netlist: Netlist, rows: int) -> None:
    """`RuntimeError` where the Verilog is not the function."""
    function = get(name)
    verdict = judge(function.evaluate, Evaluator(netlist), function.interface, rows, SEED)
    if verdict.wrong:
        raise RuntimeError(
            f"{name}: the Verilog is wrong in {verdict.wrong} of {verdict.rows} rows: {verdict.by_output}"
        )


def learned(oracle: Any, codes: Any, reference: Netlist, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a learner makes of the oracle: time, queries, sizes (learned, minimised, after ABC), wrong rows, proof."""
    from tapeout.circuit.learn import learn

    begin = time.perf_counter()
    result = learn(oracle, algorithm=arguments.learn, seed=arguments.seed, budget_s=arguments.budget)
    seconds = time.perf_counter() - begin
    netlist = result.netlist
    path = WORK / "learned.aig"
    write_circuit(netlist, path)
    reference_path = WORK / "reference.aig"
    write_circuit(reference, reference_path)
    verdict = judge(oracle.evaluate, Evaluator(netlist), oracle.interface, ROWS, SEED, codes)
    return {
        "algorithm": arguments.learn, "seed": arguments.seed,
        "seconds": round(seconds - result.statistics["minimising_s"], 2),
        "queries": result.statistics["queries"], "ands_learned": result.statistics["learned_and_nodes"],
        "ands": netlist.nodes, "minimising_s": result.statistics["minimising_s"], "ands_abc": optimize(path).nodes,
        "judged_rows": verdict.rows, "wrong_rows": verdict.wrong, "proof": prove(reference_path, path, arguments.proof),
    }  # fmt: skip


def prove(reference: Path, other: Path, seconds: int) -> str:
    """ABC's verdict on two files with equal ports: equal, different or undecided."""
    said = run(["berkeley-abc", "-q", f"cec -n -T {seconds} {reference} {other}"])
    if "are equivalent" in said:
        return "equal"
    return "different" if "NOT EQUIVALENT" in said else "undecided"


def instruction_set(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A random instruction set: the gates that its description gives, after ABC, and what was learned."""
    isa = random_isa(seed)
    netlist = isa.netlist()
    path = WORK / f"isa{seed}.aig"
    WORK.mkdir(parents=True, exist_ok=True)
    write_circuit(netlist, path)
    record: dict[str, Any] = {
        "inputs": isa.interface.input_bits, "outputs": isa.interface.output_bits, "instructions": len(isa.instructions),
        "described_ands": netlist.nodes, "described_ands_abc": optimize(path).nodes,
    }  # fmt: skip
    if arguments.learn:
        record["learned"] = learned(LibraryOracle(isa.library(WORK)), isa.codes, netlist, arguments)
    return record


_NO_REGISTERS = """(* blackbox *)
module register_ports (
    input clk, wen, input [5:0] waddr, raddr1, raddr2, input [31:0] wdata, output [31:0] rdata1, rdata2
);
endmodule
"""


def picorv32(folder: Path) -> dict[str, Any]:
    """PicoRV32 as its parameters are set by default."""
    source = WORK / "picorv32.v"
    shutil.copy(folder / "picorv32.v", source)
    ports = WORK / "register_ports.v"
    ports.write_text(_NO_REGISTERS, encoding="utf-8")
    full = synthesize([source], "picorv32", "picorv32.full")
    bare = synthesize(
        [source, ports], "picorv32", "picorv32.bare", defines=["PICORV32_REGS=register_ports"],
        prepare="expose -evert t:register_ports",
    )  # fmt: skip
    return {
        "configuration": "defaults: RV32I, 64-bit counters, dual-port registers, no IRQ, no M, no C, two-stage shifter",
        "with_registers": counted(full, "picorv32.full"), "without_registers": counted(bare, "picorv32.bare"),
    }  # fmt: skip


def serv(folder: Path) -> dict[str, Any]:
    """SERV as its parameters are set by default; without registers it is `serv_synth_wrapper`."""
    files: list[Path] = []
    for file in sorted((folder / "rtl").glob("serv_*.v")):
        files.append(WORK / file.name)
        shutil.copy(file, files[-1])
    full = synthesize(files, "serv_rf_top", "serv.full")
    bare = synthesize(files, "serv_synth_wrapper", "serv.bare")
    return {
        "configuration": "defaults: RV32I with Zicsr (WITH_CSR = 1), bit-serial (W = 1), RF_WIDTH = 2, no M, no C",
        "with_registers": counted(full, "serv.full"), "without_registers": counted(bare, "serv.bare"),
    }  # fmt: skip


def counted(aig: Circuit, name: str) -> dict[str, int]:
    """Gates and flip-flops of a core; registers in flip-flops where they are in it."""
    return {"yosys": aig.nodes, "abc": optimize(WORK / f"{name}.aig").nodes, "flip_flops": aig.flip_flops}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=None, help="names of functions")
    parser.add_argument("--learn", help="algorithm of tapeout.circuit.learn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, help="seconds for each function")
    parser.add_argument("--proof", type=int, default=120, help="seconds for the proof of each")
    parser.add_argument("--isas", type=int, default=0, help="how many random instruction sets")
    parser.add_argument("--picorv32", type=Path, help="a checkout of github.com/YosysHQ/picorv32")
    parser.add_argument("--serv", type=Path, help="a checkout of github.com/olofk/serv")
    parser.add_argument("--commit", action="append", default=[], help="NAME=COMMIT of a core, for the record")
    arguments = parser.parse_args()
    known = (RESULTS / "circuit_sizes.json").is_file()
    record: dict[str, Any] = load("circuit_sizes") if known else {"functions": {}, "instruction_sets": {}, "cores": {}}
    asked = f"benchmarks/circuit_sizes.py {' '.join(sys.argv[1:])}".strip()
    for folder in filter(None, (arguments.picorv32, arguments.serv)):
        asked = asked.replace(str(folder), folder.name)
    record["provenance"] = provenance(asked, "numpy") | {"tools": tool_versions(), "abc_rounds": ROUNDS}
    only_others = arguments.isas or arguments.picorv32 or arguments.serv
    for name in SHOWN if arguments.only is None and not only_others else arguments.only or []:
        entry, reference = written(name)
        old = record["functions"].get(name, {})
        entry |= {"learned": old["learned"]} if "learned" in old else {}
        if arguments.learn:
            entry["learned"] = learned(LibraryOracle(get(name).library(WORK)), None, reference, arguments)
        record["functions"][name] = entry
        print(name, entry, flush=True)
        save("circuit_sizes", record)  # a long run that is ended keeps what it has
    for seed in range(arguments.isas):
        record["instruction_sets"][str(seed)] = instruction_set(seed, arguments)
        print(seed, record["instruction_sets"][str(seed)], flush=True)
        save("circuit_sizes", record)
    commits = dict(item.split("=", 1) for item in arguments.commit)
    for name, measure in (("picorv32", picorv32), ("serv", serv)):
        folder = getattr(arguments, name)
        if folder:
            WORK.mkdir(parents=True, exist_ok=True)
            record["cores"][name] = {"commit": commits.get(name), **measure(folder)}
            print(name, record["cores"][name], flush=True)
    save("circuit_sizes", record)


if __name__ == "__main__":
    main()
