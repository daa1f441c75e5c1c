"""The published algorithm (Binary Speculation Diagrams) on a processor's step, under the budget of the exact learner.

    circuit_bsd.py [VARIANT] [--budget 60] [--samples 512 ...] [--seed 0] [--threads 2] [--rows 1e7]

What it asked, the nodes of its diagrams, the gates they make, and its accuracy by the judge of circuit_judge.py:
uniform rows, most of which are illegal instructions, and rows that give each instruction its share. The samples are the
completions that a layer is judged by; more of them speculate less and leave less of the budget to other orders.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import Any

from circuit_judge import CHUNK, make_judge, rv32_codes
from common import RESULTS, load, provenance, save

from tapeout.circuit.bsd import Options, Result, learn_bsd
from tapeout.circuit.oracle import NativeOracle
from tapeout.cpu.rv32 import VARIANTS, rv32_interface, rv32_oracle

JUDGED = ("uniform", "operations", "damaged", "walking")


def accuracy(result: Result, variant: str, rows: int, seed: int) -> dict[str, Any]:
    """Share of rows with every output bit right, for each distribution, and with each output word right."""
    codes = rv32_codes(variant)
    judge = make_judge(rv32_oracle(variant, ports=True), result.netlist, codes, seed)
    names = [word.name for word in result.netlist.interface.outputs]
    found: dict[str, Any] = {}
    for kind in JUDGED:
        asked, wrong, by_output, of_operation, wrong_of, _ = judge.run(kind, 0, max(1, rows // CHUNK), 0)
        found[kind] = {
            "rows": asked, "wrong": wrong, "accuracy": round(1 - wrong / asked, 6),
            "accuracy_by_word": {n: round(1 - w / asked, 6) for n, w in zip(names, by_output, strict=True)},
        }  # fmt: skip
        if kind == "operations":
            shares = zip(codes, of_operation, wrong_of, strict=True)
            found[kind]["accuracy_by_operation"] = {name: round(1 - w / n, 4) for name, n, w in shares}
    return found


def run(variant: str, budget_s: float, samples: int, seed: int, threads: int, rows: int) -> dict[str, Any]:
    """One run, and what the judge says of it."""
    oracle = NativeOracle(rv32_oracle(variant, ports=True), rv32_interface(variant, ports=True))
    begin, cpu = time.perf_counter(), time.process_time()

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} of {total} outputs, {time.perf_counter() - begin:.0f} s ")

    result = learn_bsd(oracle, seed, Options(samples=samples, budget_s=budget_s, threads=threads), progress)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    diagrams = result.diagrams
    return {
        "budget_s": budget_s, "samples": samples, "seed": seed, "threads": threads, "seconds": round(seconds, 1),
        "cpu_s": round(cpu, 1),  # on a machine with other work less than threads times seconds
        "queries": result.queries, "diagram_nodes": sum(d.nodes for d in diagrams), "and_nodes": result.netlist.nodes,
        "outputs": len(diagrams), "outputs_cut_by_the_budget": sum(d.cut > 0 for d in diagrams),
        "exhaustive_outputs": sum(d.exhaustive for d in diagrams),
        "orders_tried": sum(d.orders for d in diagrams), "speculated_constants": sum(d.speculated for d in diagrams),
        "forced_merges": sum(d.forced for d in diagrams),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "judge": accuracy(result, variant, rows, seed + 7),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=VARIANTS, nargs="?", default="rv32ia")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds")
    parser.add_argument("--samples", type=int, nargs="+", default=[512])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=float, default=1e7, help="of each distribution")
    arguments = parser.parse_args()
    name = f"circuit_bsd_{arguments.variant}"
    record: dict[str, Any] = load(name) if (RESULTS / f"{name}.json").is_file() else {"runs": {}}
    command = f"python benchmarks/circuit_bsd.py {arguments.variant}"
    for samples in arguments.samples:
        rows = round(arguments.rows)
        found = run(arguments.variant, arguments.budget, samples, arguments.seed, arguments.threads, rows)
        label = f"{arguments.budget:g} s, {samples} samples"
        record["runs"][label] = found
        record["provenance"] = provenance(command, "numpy")
        save(name, record)
        judged = {kind: f"{line['accuracy']:.4%}" for kind, line in found["judge"].items()}
        print(f"{label}: {found['queries']:,} questions, {found['and_nodes']:,} ANDs; rows right: {judged}")


if __name__ == "__main__":
    main()
