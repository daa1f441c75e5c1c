"""A processor learned from its step oracle, and proved equal to the formal reference.

``design`` learns the step in port form from queries alone, then compares every output with the reference. Where the
proof finds a difference, the learner is given that row, learns again, and the proof starts anew; how often that was
needed is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapeout.circuit import facts
from tapeout.circuit.equivalence import Equivalence, check_equal
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.exact import ExactLearner, Limits
from tapeout.circuit.jobs import JobStore
from tapeout.circuit.minimise import minimise
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.runner import Runner
from tapeout.cpu.reference import reference
from tapeout.cpu.rv32 import rv32_interface, rv32_oracle

ROUNDS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """A learned step in port form (docs/processor.md) and what is known of it.

    ``netlist`` is minimised, ``learned`` is as it was learned; ``proof`` compares ``netlist`` with the reference.
    ``counterexamples`` rows had to come from the proof; ``speculated`` names words that the budget left to guesses.
    """

    variant: str
    learned: Netlist
    netlist: Netlist
    reference: Netlist
    proof: Equivalence
    counterexamples: int
    queries: int
    learning_s: float
    minimising_s: float
    proving_s: float
    speculated: tuple[str, ...]
    facts: dict[str, Any]  # `tapeout.circuit.facts.summary`

    @property
    def proved(self) -> bool:
        """Every output bit is proved equal to the reference."""
        return self.proof.proved


def design(
    variant: str,
    *,
    seed: int = 0,
    threads: int = 2,
    budget_s: float | None = None,
    checkpoint: Path | None = None,
    runner: Runner | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Design:
    """Learns and proves the step of a variant.

    Raises:
        UserError: an unknown variant, or a checkpoint file that is something else.
    """
    oracle = rv32_oracle(variant, ports=True)
    interface = rv32_interface(variant, ports=True)
    expected = reference(variant)
    store = JobStore(checkpoint, f"{variant} {interface}")
    learner = ExactLearner(
        oracle, interface, seed, threads=threads, limits=Limits(budget_s), store=store, runner=runner, progress=progress
    )
    counterexamples, learning, proving = 0, 0.0, 0.0
    try:
        begin = time.monotonic()
        netlist = learner.run()
        learning += time.monotonic() - begin
        while True:
            begin = time.monotonic()
            proof = check_equal(expected, netlist)
            proving += time.monotonic() - begin
            if proof.counterexample is None or learner.speculated or counterexamples == ROUNDS:
                break
            row = proof.counterexample.reshape(1, -1)
            truth = oracle.evaluate(row)
            if (truth == evaluate(netlist, row)).all():
                break  # the oracle and the reference differ: nothing to learn from it
            counterexamples += 1
            progress(f"the proof found a row that samples did not; learning again ({counterexamples})")
            begin = time.monotonic()
            netlist = learner.refine(row, truth ^ evaluate(netlist, row))
            learning += time.monotonic() - begin
    finally:
        learner.close()
        store.close()
    begin = time.monotonic()
    small = minimise(netlist)
    minimising = time.monotonic() - begin
    if proof.proved:
        begin = time.monotonic()
        proof = check_equal(expected, small)
        proving = time.monotonic() - begin
    return Design(
        variant, netlist, small, expected, proof, counterexamples, learner.queries, learning, minimising, proving,
        tuple(learner.speculated), facts.summary(learner),
    )  # fmt: skip
