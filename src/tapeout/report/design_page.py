"""A processor that was learned, as the page that `learned_page` makes of any black box."""

from __future__ import annotations

from typing import Any

from tapeout.circuit.coverage import Coverage, Status, Tested
from tapeout.circuit.equivalence import Verdict
from tapeout.circuit.learn import Learned
from tapeout.cpu.core import Design
from tapeout.report.learned_page import page

_BY_HAND = (
    "the processor's oracle: one step of the instruction set as a simulator does it, which only answers questions",
    "the formal reference, from the instruction set's manual, which the learner does not see",
)
_REASONS = {
    Verdict.PROVED: (Status.proved, "proved equal to the reference"),
    Verdict.DIFFERENT: (Status.speculated, "differs from the reference"),
    Verdict.UNDECIDED: (Status.sampled, "not proved equal to the reference in time"),
}


def design_page(made: Design, seed: int) -> str:
    """The page of a design: coverage is what the proof says of each output word."""
    return page(learned_of(made, seed), f"tapeout design {made.variant}")


def learned_of(made: Design, seed: int) -> Learned:
    """The design as `learn` tells of what it learned."""
    directed = Tested("directed at the regions found", made.facts["checked_rows"], 0)
    tested = (directed,) if directed.rows else ()
    coverage: list[Coverage] = []
    for word, verdict in made.proof.words.items():
        status, reason = _REASONS[verdict]
        if word in made.speculated and verdict is not Verdict.PROVED:
            status, reason = Status.speculated, f"the budget ended before it was learned; {reason}"
        coverage.append(Coverage(word, status, tested, reason))
    statistics: dict[str, Any] = {
        "algorithm": "exact", "seed": seed, "seconds": made.learning_s, "queries": made.queries,
        "outputs": made.facts["outputs"], "curve": made.facts["curve"], "checks": made.facts["checks"],
        "effort": "medium", "minimising_s": made.minimising_s, "learned_and_nodes": made.learned.nodes,
        "reference_and_nodes": made.reference.nodes, "by_hand": list(_BY_HAND),
        "proof": f"{made.proof}, in {made.proving_s:.1f} s; {made.counterexamples} rows had to come from it",
    }  # fmt: skip
    return Learned(made.netlist, tuple(coverage), statistics, made.facts["structure"])
