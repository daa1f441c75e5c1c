"""A processor learned from its step oracle, and proved equal to the formal reference.

``design`` is given the whole state's next-state function as a black box. It finds the register file and its ports,
makes sure that the simulator's own port form is the same function, and learns that one from queries alone. Then it
compares every output with the reference on all rows that a state of the processor can cause. Where the proof finds a
difference, the learner is given that row, learns again, and the proof starts anew; how often that was needed is told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tapeout.circuit import facts
from tapeout.circuit.discovery import Discovery, find_arrays
from tapeout.circuit.equivalence import Equivalence, Verdict, check_equal
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.exact import ExactLearner, Limits
from tapeout.circuit.folds import Folded
from tapeout.circuit.jobs import JobStore
from tapeout.circuit.joined import sums
from tapeout.circuit.minimise import minimise
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import NativeOracle, random_rows
from tapeout.circuit.port_netlists import care_inputs, on_care_set
from tapeout.circuit.ports import NOTHING, Array, Port, PortForm
from tapeout.circuit.runner import RayRunner
from tapeout.circuit.sampling import structured_rows
from tapeout.circuit.words import row_words
from tapeout.cpu.classes import InstructionClass, instruction_classes
from tapeout.cpu.multiplier import PRODUCTS, learned_traces
from tapeout.cpu.proof import outside, prove, sweeping
from tapeout.cpu.reference import reference
from tapeout.cpu.rv32 import rv32_interface, rv32_oracle
from tapeout.errors import VerifyError

ROUNDS = 32
PROOF_S = 120.0
ROUNDS_S = 60.0
"""For minimising, where there is a budget."""
DIVISIONS = ("DIV", "DIVU", "REM", "REMU")
SAME_ROWS = 1 << 17
"""Rows of each kind on which the port form is compared with the whole state."""


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """A learned step in port form (docs/processor.md) and what is known of it.

    ``discovery`` says which arrays were found in the state. ``learned`` is as it was learned, ``folded`` is minimised,
    with each step that is repeated once, and ``netlist`` is the same with all of them; ``proof`` compares that with the
    reference where a state can lead. ``counterexamples`` rows had to come from the proof; ``speculated`` names words
    that the budget left to guesses.
    """

    variant: str
    discovery: Discovery
    learned: Netlist
    folded: Folded
    netlist: Netlist
    reference: Netlist
    proof: Equivalence
    counterexamples: int
    queries: int
    discovery_s: float
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
    ray: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Design:
    """Learns and proves the step of a variant; ``ray`` runs the learner's jobs on a Ray cluster.

    Raises:
        UserError: an unknown variant, or a checkpoint file that is something else.
    """
    whole = rv32_oracle(variant, ports=False)
    begin = time.monotonic()
    discovery = find_arrays(whole, rv32_interface(variant, ports=False), seed)
    discovering = time.monotonic() - begin
    form = discovery.form
    expected = reference_in_form(variant, form)
    care = care_inputs(form)
    oracle = _port_oracle(variant, form, care, seed)
    runner = RayRunner(partial(rv32_oracle, variant, ports=True), variant) if ray else None
    store = JobStore(checkpoint, f"{variant} {form.interface}")
    learner = ExactLearner(
        oracle.native,
        form.interface,
        seed,
        threads=threads,
        limits=Limits(budget_s),
        store=store,
        runner=runner,
        progress=progress,
    )
    counterexamples, learning, proving = 0, 0.0, 0.0
    target = on_care_set(expected, form)
    try:
        begin = time.monotonic()
        netlist = learner.run()
        learning += time.monotonic() - begin
        while True:
            begin = time.monotonic()
            proof = _prove(variant, form, target, netlist, learner)
            proving += time.monotonic() - begin
            if proof.counterexample is None or learner.speculated or counterexamples == ROUNDS:
                break
            row = evaluate(care, proof.counterexample)
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
        if runner is not None:
            runner.close()
    begin = time.monotonic()
    # Without a budget the rounds are ended by what they gain, not by the clock: a seed gives one netlist.
    rounds_s = math.inf if budget_s is None else ROUNDS_S
    folded = learner.folded.map(partial(minimise, seconds=rounds_s, proof_seconds=PROOF_S))
    small = folded.unrolled()
    minimising = time.monotonic() - begin
    if proof.proved and not apart(variant):  # else `minimise` has proved it equal to what was learned
        begin = time.monotonic()
        proof = check_equal(target, on_care_set(small, form), seconds=PROOF_S)
        proving = time.monotonic() - begin
    return Design(
        variant, discovery, netlist, folded, small, expected, proof, counterexamples, learner.queries, discovering,
        learning, minimising, proving, tuple(learner.speculated), facts.summary(learner),
    )  # fmt: skip


def apart(variant: str) -> list[InstructionClass]:
    """The classes of a variant that are compared by themselves: multiplications, which no SAT solver compares and a
    certificate does, and divisions, whose steps a sweep matches only where nothing else is in the way."""
    return [part for part in instruction_classes(variant) if part.name in {*PRODUCTS, *DIVISIONS}]


def _prove(variant: str, form: PortForm, target: Netlist, netlist: Netlist, learner: ExactLearner) -> Equivalence:
    """What was learned beside the reference: as a whole, but for what has to be taken apart, class by class."""
    parts = apart(variant)
    whole = check_equal(outside(target, parts), outside(on_care_set(netlist, form), parts), seconds=PROOF_S)
    if not parts or not whole.proved:
        return whole
    plain = Netlist(rv32_interface(variant, ports=True), netlist.fanins, netlist.outputs)
    traces = learned_traces(plain, variant, sums(learner.trees))
    names = [part.name for part in parts]
    proof = prove(plain, variant, only=names, multipliers=traces, engine=sweeping(PROOF_S / len(parts)))
    row = next(iter(proof.counterexamples.values()), None)
    verdicts: list[Verdict] = []
    for word in plain.interface.outputs:
        found = [proof.findings[name][word.name] for name in names]
        verdict = Verdict.PROVED if all(one.proved for one in found) else Verdict.UNDECIDED
        verdicts += [Verdict.DIFFERENT if any(one.row is not None for one in found) else verdict] * word.width
    counterexample = None
    if row is not None:
        width = row_words(form.interface.input_bits)
        counterexample = np.frombuffer(row.to_bytes(8 * width, "little"), np.uint64).reshape(1, -1)
    return Equivalence(netlist, tuple(verdicts), counterexample, whole.cases, whole.conflicts)


def _port_oracle(variant: str, form: PortForm, care: Netlist, seed: int) -> NativeOracle:
    """The step in port form as the simulator computes it: many times faster than asking the whole state.

    Raises:
        VerifyError: where a state can lead it answers otherwise than the whole state around the ports that were found.
    """
    native = NativeOracle(rv32_oracle(variant, ports=True), form.interface, variant)
    whole = form.oracle(rv32_oracle(variant, ports=False))
    random = np.random.default_rng((seed, 0x90B7))
    for rows in (
        random_rows(random, SAME_ROWS, form.interface.input_bits),
        structured_rows(random, SAME_ROWS, form.interface),
    ):
        asked = evaluate(care, rows)
        if (native.evaluate(asked) != whole.evaluate(asked)).any():
            raise VerifyError("design", variant, "the step in port form is not that of the whole state")
    return native


def standard_form(variant: str) -> PortForm:
    """The port form of docs/processor.md, as discovery names its words; `UserError` for an unknown variant."""
    table = (NOTHING, *range(31))
    fields = {name: Port(tuple(range(low, low + 5)), table) for name, low in (("rs1", 15), ("rs2", 20), ("rd", 7))}
    words = tuple(f"x[{number}]" for number in range(1, 32))
    array = Array("x", 32, words, (fields["rs1"], fields["rs2"]), (fields["rd"],))
    return PortForm(rv32_interface(variant, ports=False), (array,))


def reference_in_form(variant: str, form: PortForm) -> Netlist:
    """The reference over the words of the ports that were found: ``rs1`` is ``x.read0``, ``rd`` is ``x.write0``.

    Raises:
        VerifyError: ports that are not those of docs/processor.md.
    """
    if form != standard_form(variant):
        raise VerifyError("design", variant, f"the ports found are not those of the reference: {form.facts()}")
    expected = reference(variant)
    return Netlist(form.interface, expected.fanins, expected.outputs)
