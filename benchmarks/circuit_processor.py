"""The processor's step, learned and proved, for several seeds.

    python benchmarks/circuit_processor.py [VARIANT [SEED ...]]

Each seed is learned from queries alone on two threads, then proved equal to the reference; how many rows the proof
had to give back to the learner is part of the result. The cores are kept in build/designs for circuit_judge.py and
circuit_core.py.
"""

from __future__ import annotations

import resource
import sys

from common import DESIGNS, provenance, save

from tapeout.cpu.core import design
from tapeout.cpu.files import write_design


def main(variant: str, seeds: list[int]) -> None:
    runs: list[dict[str, object]] = []
    for seed in seeds:
        made = design(variant, seed=seed)
        write_design(made, DESIGNS / f"{variant}-{seed}")
        runs.append(
            {
                "seed": seed,
                "discovery_s": round(made.discovery_s, 1),
                "learning_s": round(made.learning_s, 1),
                "minimising_s": round(made.minimising_s, 1),
                "proving_s": round(made.proving_s, 1),
                "queries": made.queries,
                "learned_and_nodes": made.learned.nodes,
                "and_nodes": made.folded.nodes,
                "and_nodes_in_one_clock": made.netlist.nodes,
                "reference_and_nodes": made.reference.nodes,
                "proved": made.proved,
                "formal_counterexamples": made.counterexamples,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
        print(runs[-1], flush=True)
        record = provenance(f"python benchmarks/circuit_processor.py {variant}", "tapeout", "numpy")
        save(f"circuit_processor_{variant}", {**record, "runs": runs})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "rv32ia", [int(seed) for seed in sys.argv[2:]] or list(range(5)))
