"""What learning costs as words grow: seconds, questions and gates of adders, comparators, shifters and others.

    python benchmarks/circuit_curves.py [--families add compare ...] [--widths 8 16 32 64 128 256]
    python benchmarks/circuit_curves.py --families multiply multiply_signed --widths 8 16 32 --name circuit_products

Each function is learned as a black box, minimisation off, and judged on rows of a sampler that shares nothing with the
learner's. The exponent is the slope of a straight line through the logarithms. Plots want matplotlib (the extra
bench-circuit).
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import HERE, RESULTS, provenance, save

sys.path.insert(0, str(HERE.parent / "tests"))

from judge import judge
from tapeout.circuit.evaluate import Evaluator
from tapeout.circuit.functions import get
from tapeout.circuit.learn import learn
from tapeout.circuit.oracle import LibraryOracle

FAMILIES = ("add", "subtract", "compare", "shift_left", "shift_arithmetic", "parity", "priority_encoder")
WIDTHS = (8, 16, 32, 64, 128, 256)
ROWS, SEED = 200_000, 20231
MEASURES = {"seconds": "seconds", "queries": "questions", "ands": "AND nodes"}


def measured(name: str, folder: Path, budget: float) -> dict[str, Any]:
    """One function, learned and judged."""
    function = get(name)
    oracle = LibraryOracle(function.library(folder))
    begin = time.perf_counter()
    result = learn(oracle, effort="none", budget_s=budget)
    seconds = time.perf_counter() - begin
    verdict = judge(function.evaluate, Evaluator(result.netlist), function.interface, ROWS, SEED)
    return {
        "inputs": function.interface.input_bits, "outputs": function.interface.output_bits,
        "seconds": round(seconds, 2), "queries": result.statistics["queries"], "ands": result.netlist.nodes,
        "speculated": [word.name for word in result.coverage if word.status.value == "speculated"],
        "judged_rows": verdict.rows, "wrong_rows": verdict.wrong,
    }  # fmt: skip


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """The slope of the line of least squares through ``(log x, log y)``."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(max(y, 1e-9)) for _, y in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return round(
        sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs), 2
    )


def plot(curves: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "circuit_curves"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(MEASURES), figsize=(12, 4))
    for axis, (key, label) in zip(axes, MEASURES.items(), strict=True):
        for family, curve in curves.items():
            points = {int(width): entry[key] for width, entry in curve["widths"].items()}
            axis.loglog(points.keys(), points.values(), marker="o", label=f"{family} ({curve['exponents'][key]})")
        axis.set_xlabel("bits")
        axis.set_title(f"{label} (exponent)")
        axis.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        axis.minorticks_off()
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    print(f"wrote {path.relative_to(HERE.parent)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--widths", nargs="*", type=int, default=list(WIDTHS))
    parser.add_argument("--budget", type=float, default=300.0, help="seconds for each function")
    parser.add_argument("--name", default="circuit_curves", help="of the result and the plot")
    arguments = parser.parse_args()
    curves: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for family in arguments.families:
            widths: dict[str, Any] = {}
            for width in arguments.widths:
                widths[str(width)] = measured(f"{family}{width}", Path(folder), arguments.budget)
                print(family, width, widths[str(width)], flush=True)
            exponents = {
                key: exponent([(int(width), entry[key]) for width, entry in widths.items()]) for key in MEASURES
            }
            curves[family] = {"exponents": exponents, "widths": widths}
    asked = f"python benchmarks/circuit_curves.py {' '.join(sys.argv[1:])}".strip()
    save(arguments.name, {**provenance(asked, "tapeout", "numpy"), "curves": curves})
    plot(curves, RESULTS / f"{arguments.name}.svg")


if __name__ == "__main__":
    main()
