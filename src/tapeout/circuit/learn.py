"""`learn`: from a black box, or from rows of examples, to a netlist and what is known of it."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tapeout.circuit import facts
from tapeout.circuit.bsd import Diagram, Options, learn_bsd
from tapeout.circuit.columns import describe_row
from tapeout.circuit.coverage import EXHAUSTIVE_BITS, Coverage, Status, Tested, ask_again, judge, word_failures
from tapeout.circuit.discovery import find_arrays
from tapeout.circuit.equivalence import Verdict, check_equal
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.exact import ExactLearner, Limits
from tapeout.circuit.example_models import MAX_NODES, learn_outputs
from tapeout.circuit.examples import Examples
from tapeout.circuit.folds import Folded, plain
from tapeout.circuit.jobs import JobStore
from tapeout.circuit.minimise import EFFORTS, minimise
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import TIMEOUT_S, Oracle, check_oracle, random_rows, to_native, to_oracle
from tapeout.circuit.port_netlists import put_back
from tapeout.circuit.ports import PortForm, in_port_form
from tapeout.circuit.process_oracle import ProcessOracle
from tapeout.circuit.runner import OracleSource, RayRunner, oracle_name, oracle_source
from tapeout.circuit.sampling import structured_rows
from tapeout.circuit.supervise import Watched, supervised
from tapeout.circuit.words import Interface, Rows, row_words, unpack
from tapeout.errors import UserError

PROOF_S = 300.0
_LEAST_PROOF_S = 5.0
Progress = Callable[[str, int, int], object]
"""Told a stage, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A netlist and what is known of it.

    ``statistics`` has at least ``algorithm``, ``seed``, ``seconds``, ``queries``; ``outputs``, a list with a
    dictionary for each output bit (``name``, ``nodes``, and what the algorithm adds); ``curve``, a list of
    ``(queries, nodes)`` while it was learning; ``effort``, ``minimising_s`` and ``learned_and_nodes``, the size before
    the netlist was minimised, which was proved not to change it. ``structure`` are the facts that were found, a line
    each. Where arrays were found in the state, ``form`` has their ports and ``ports`` is the netlist in port form.
    """

    netlist: Netlist
    coverage: tuple[Coverage, ...]
    statistics: dict[str, Any]
    structure: list[str] = field(default_factory=list[str])
    form: PortForm | None = None
    ports: Netlist | None = None


ARRAYS = ("whole", "ports", "off")


@dataclass(frozen=True, slots=True)
class Request:
    """What an algorithm is given besides the black box; ``None`` means no limit, no checkpoint."""

    seed: int = 0
    budget_s: float | None = None
    budget_queries: int | None = None
    checkpoint: Path | None = None
    progress: Progress = lambda stage, done, total: None
    source: OracleSource | None = None  # for Ray
    effort: str | None = None
    begin: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        """What is left of the budget."""
        return math.inf if self.budget_s is None else self.budget_s - (time.monotonic() - self.begin)


Algorithm = Callable[[Oracle, Request], Learned]


def learn(
    oracle: Any,
    interface: Interface | str | None = None,
    *,
    algorithm: str = "exact",
    seed: int = 0,
    budget_s: float | None = None,
    budget_queries: int | None = None,
    checkpoint: Path | str | None = None,
    timeout_s: float = TIMEOUT_S,
    max_nodes: int | None = None,
    ray: bool = False,
    effort: str | None = None,
    reference: Netlist | None = None,
    arrays: str | None = None,
    progress: Progress | None = None,
) -> Learned:
    """Learns a netlist from a black box (an `Oracle`, or a function with its ``interface``) or from `Examples`.

    ``arrays``: register files and the like are looked for in the state and learned around (``whole``: the netlist has
    them as gates; ``ports``: it is in port form), or not (``off``). ``None`` means whole for exact, off for bsd.

    ``budget_s`` seconds and ``budget_queries`` questions end the learning: what is not known by then is speculated
    and reported. ``checkpoint`` is a file that a later call goes on from, where the algorithm can. ``timeout_s`` is
    the longest that the answer to a batch may take. ``max_nodes`` (AND nodes) is for examples only. ``ray`` runs the
    jobs of the exact algorithm on a Ray cluster; the netlist is the same. ``effort`` of minimising: ``none``, ``low``,
    ``medium`` (of ``exact``, if nothing is said), ``high``. What is learned is compared with a ``reference`` formally:
    words that are equal are proved. The algorithms do not see it.

    Raises:
        UserError: an unknown algorithm or option, and whatever is wrong with the black box.
    """
    if ray and (isinstance(oracle, Examples) or algorithm != "exact"):
        raise UserError("only the exact algorithm runs on a cluster", "ray", "leave it out")
    if effort is not None and effort != "none" and effort not in EFFORTS:
        raise UserError(f"effort {effort!r} is unknown", "effort", f"use none, {', '.join(EFFORTS)}")
    request = Request(
        seed, budget_s, budget_queries, Path(checkpoint) if checkpoint else None,
        progress or (lambda stage, done, total: None), effort=effort,
    )  # fmt: skip
    if isinstance(oracle, Examples):
        return _compared(_from_examples(oracle, request, max_nodes), None, reference, request)
    if max_nodes is not None:
        raise UserError("a limit of nodes was given for a black box", "max_nodes", "it is for example sets only")
    if algorithm not in ALGORITHMS:
        raise UserError(f"algorithm {algorithm!r} is unknown", "algorithm", f"use {' or '.join(ALGORITHMS)}")
    if budget_s is not None and budget_s <= 0:
        raise UserError(f"a budget of {budget_s:g} s leaves no time", "budget", "give more than 0 seconds")
    arrays = arrays or ("whole" if algorithm == "exact" else "off")
    if arrays not in ARRAYS:
        raise UserError(f"arrays {arrays!r} is unknown", "arrays", f"use {', '.join(ARRAYS)}")
    box = to_oracle(oracle, interface)
    if reference is not None and arrays != "ports" and reference.interface != box.interface:
        what = f"it has the words {reference.interface}"
        raise UserError(what, "reference", f"give one of the black box's words, {box.interface}")
    check_oracle(box, seed, timeout_s)
    if ray:
        request = replace(request, source=oracle_source(box))
    begin = time.perf_counter()
    run = ALGORITHMS[algorithm]
    if arrays != "off":
        run = partial(learn_around_arrays, ALGORITHMS[algorithm], arrays == "whole")
    learned = _compared(_supervised(box, run, request, timeout_s), box, reference, request)
    learned.statistics.update(algorithm=algorithm, seed=seed, seconds=time.perf_counter() - begin)
    return learned


def _supervised(box: Oracle, algorithm: Algorithm, request: Request, timeout_s: float) -> Learned:
    """Runs the algorithm so that a black box that hangs, or Ctrl-C, ends it."""
    watched = Watched(box)

    def progress(stage: str, done: int, total: int) -> None:
        watched.check_stopped()
        request.progress(stage, done, total)

    watching = replace(request, progress=progress)
    if isinstance(box, ProcessOracle):
        timeout_s = math.inf  # it has one of its own
    return supervised(watched, timeout_s, lambda: algorithm(watched, watching))


def _compared(learned: Learned, oracle: Oracle | None, reference: Netlist | None, request: Request) -> Learned:
    """The coverage after a formal comparison with the reference, if there is one."""
    if reference is None:
        return learned
    request.progress("proving", 0, 1)
    left = request.left_s()
    result = check_equal(reference, learned.netlist, seconds=PROOF_S if left == math.inf else max(left, _LEAST_PROOF_S))
    learned.statistics["reference_and_nodes"] = reference.nodes
    verdicts, coverage = result.words, list(learned.coverage)
    for index, line in enumerate(coverage):
        if verdicts[line.word] is Verdict.PROVED:
            coverage[index] = replace(line, status=Status.proved, reason="proved equal to the reference")
        elif verdicts[line.word] is Verdict.UNDECIDED:
            reason = f"{line.reason}, " if line.reason else ""
            coverage[index] = replace(line, reason=f"{reason}not proved equal to the reference in time")
        else:
            coverage[index] = _different(line, learned.netlist, oracle, result.counterexample)
    return replace(learned, coverage=tuple(coverage))


def _different(line: Coverage, netlist: Netlist, oracle: Oracle | None, row: Rows | None) -> Coverage:
    """A word that the reference has otherwise: if the black box sides with what was learned, the reference is wrong."""
    interface = netlist.interface
    if row is None or oracle is None:
        return replace(line, status=Status.speculated, reason="differs from the reference")
    where = describe_row(row, interface.inputs)
    wrong = word_failures(evaluate(netlist, row) ^ oracle.evaluate(row), interface.outputs)
    names = [word.name for word in interface.outputs]
    if wrong[names.index(line.word)]:
        return replace(line, status=Status.speculated, reason=f"wrong where {where}")
    return replace(line, reason=f"the reference differs; what was learned agrees with the black box where {where}")


def bit_names(interface: Interface) -> list[str]:
    """``sum[0]``, ``sum[1]``, ..., ``carry``: a name for each output bit."""
    return [
        word.name if word.width == 1 else f"{word.name}[{bit}]"
        for word in interface.outputs
        for bit in range(word.width)
    ]


def _smaller(circuit: Folded, request: Request, default: str) -> tuple[Netlist, dict[str, Any]]:
    """The circuit minimised in what time is left, and what `Learned.statistics` says of it."""
    effort, left, begin = request.effort or default, request.left_s(), time.monotonic()
    netlist = small = circuit.unrolled()
    if effort != "none" and left > 0 and netlist.nodes:
        request.progress("minimising", 0, 1)
        # Half of what is left for the rounds: the proof needs time too. That of a multiplier would not end.
        part_s = left / 2 / (1 + len(circuit.folds))
        small = circuit.map(lambda part: minimise(part, effort, seconds=part_s, proof_seconds=min(part_s, PROOF_S)))
        small = small.unrolled()
    elif effort != "none" and left <= 0:
        effort = "none, for the budget was used up"
    spent = round(time.monotonic() - begin, 2)
    return small, {"effort": effort, "minimising_s": spent, "learned_and_nodes": netlist.nodes}


def _exact(oracle: Oracle, request: Request) -> Learned:
    interface = oracle.interface
    if interface.input_bits == 0 or interface.output_bits == 0:
        return _constant(oracle)
    store = JobStore(request.checkpoint, f"{interface} {_fingerprint(oracle)}")
    done, left = 0, request.left_s()

    def progress(_: str) -> None:
        nonlocal done
        done += 1
        request.progress("regions", done, 0)

    with closing(store):
        runner = RayRunner(request.source, oracle_name(oracle)) if request.source else None
        learner = ExactLearner(
            to_native(oracle), interface, request.seed, threads=os.cpu_count() or 2, store=store, progress=progress,
            runner=runner, limits=Limits(None if left == math.inf else left, request.budget_queries),
        )  # fmt: skip
        with closing(learner), closing(runner) if runner else nullcontext():
            learner.run()
    netlist, sizes = _smaller(learner.folded, request, "medium")
    whole, tested = ask_again(netlist, oracle, request.seed)
    directed = Tested("directed at the regions found", learner.checked_rows, 0)
    if not learner.speculated and learner.settled:
        tested = {name: (*tests, directed) for name, tests in tested.items()}
    guesses = {name: f"the budget ended with {count:,} regions guessed" for name, count in learner.speculated.items()}
    if not learner.settled:
        unchecked = "the budget ended before what was learned was checked in all its regions"
        guesses |= {word.name: unchecked for word in interface.outputs if word.name not in guesses}
    statistics: dict[str, Any] = {
        "queries": learner.queries, "outputs": facts.outputs(learner), "curve": learner.curve,
        "jobs reused": store.reused, "checks": facts.checks(learner), **sizes,
    }  # fmt: skip
    return Learned(netlist, judge(interface, whole, tested, guesses), statistics, facts.structure(learner))


def _fingerprint(oracle: Oracle) -> str:
    """A hash of some answers: what a checkpoint keeps of one black box is not taken for another's."""
    random = np.random.default_rng(0xF1)
    interface = oracle.interface
    rows = [random_rows(random, 256, interface.input_bits), structured_rows(random, 256, interface)]
    return hashlib.blake2b(oracle.evaluate(np.concatenate(rows)).tobytes(), digest_size=8).hexdigest()


def learn_around_arrays(algorithm: Algorithm, whole: bool, oracle: Oracle, request: Request) -> Learned:
    """Finds arrays in the state, learns the circuit in port form, and, for ``whole``, puts them back as gates.

    Half of the budget may go into finding them.
    """
    native = to_native(oracle)
    seconds, queries = request.budget_s, request.budget_queries
    found = find_arrays(
        native, oracle.interface, request.seed,
        seconds=None if seconds is None else seconds / 2, questions=None if queries is None else queries // 2,
    )  # fmt: skip
    if queries is not None:
        queries -= found.questions
    form = found.form
    source = partial(in_port_form, request.source, form) if request.source and form.arrays else request.source
    request = replace(request, budget_queries=queries, source=source)
    learned = algorithm(form.oracle(native) if form.arrays else oracle, request)
    learned.statistics["queries"] += found.questions
    learned.statistics["arrays"] = form.record()
    structure = [*form.facts(), *(f"no array: {reason}" for reason in found.rejected), *learned.structure]
    if not form.arrays:
        return replace(learned, structure=structure)
    learned.statistics["and_nodes_ports"] = learned.netlist.nodes
    learned = replace(learned, structure=structure, form=form, ports=learned.netlist)
    return _whole(learned, form, oracle, request.seed) if whole else learned


def _whole(learned: Learned, form: PortForm, oracle: Oracle, seed: int) -> Learned:
    """The same with the arrays as gates, asked again as a whole; a guess in port form is one here."""
    netlist = put_back(learned.netlist, form)
    everything, tested = ask_again(netlist, oracle, seed)
    known = {line.word: line for line in learned.coverage}
    guesses: dict[str, str] = {}
    for word in form.whole.outputs:
        lines = [known[name] for name in form.sources(word.name)]
        reasons = [line.reason for line in lines if line.status is Status.speculated]
        if reasons:
            guesses[word.name] = reasons[0]
        directed = [test for line in lines for test in line.tested if test.distribution.startswith("directed")]
        tested[word.name] += tuple(directed[:1])
    return replace(learned, netlist=netlist, coverage=judge(form.whole, everything, tested, guesses))


def _constant(oracle: Oracle) -> Learned:
    """A circuit without inputs, or without outputs: one question tells all."""
    interface = oracle.interface
    answer = oracle.evaluate(
        np.zeros((1, max(1, row_words(interface.input_bits))), np.uint64)[:, : row_words(interface.input_bits)]
    )
    literals = unpack(answer, interface.output_bits)[0].astype(np.uint32)
    netlist = Netlist(interface, np.zeros((0, 2), np.uint32), literals)
    coverage = tuple(
        Coverage(word.name, Status.proved, (Tested("all inputs", 1, 0),), "all inputs were asked")
        for word in interface.outputs
    )
    outputs = [{"name": name, "nodes": 0} for name in bit_names(interface)]
    sizes = {"effort": "none", "minimising_s": 0.0, "learned_and_nodes": 0}
    return Learned(netlist, coverage, {"queries": 1, "outputs": outputs, "curve": [], **sizes})


def _bsd(oracle: Oracle, request: Request) -> Learned:
    if request.checkpoint is not None:
        raise UserError("bsd cannot go on from a file", "checkpoint", "leave it out")
    options = Options(budget_s=request.budget_s or 0.0, budget_queries=request.budget_queries or 0)
    result = learn_bsd(oracle, request.seed, options, lambda done, total: request.progress("outputs", done, total))
    netlist, sizes = _smaller(plain(result.netlist), request, "none")  # the baseline stays as it was published
    request.progress("testing", 0, 1)
    whole, tested = ask_again(netlist, oracle, request.seed)
    outputs = [
        {
            "name": name, "nodes": d.nodes, "widths": d.widths, "queries": d.queries, "orders": d.orders, "cut": d.cut,
            "speculated": d.speculated, "forced": d.forced, "merged": d.merged,
        }
        for name, d in zip(bit_names(oracle.interface), result.diagrams, strict=True)
    ]  # fmt: skip
    curve: list[tuple[int, int]] = []
    queries = result.queries - sum(d.queries for d in result.diagrams)
    nodes = 0
    for diagram in result.diagrams:
        queries, nodes = queries + diagram.queries, nodes + diagram.nodes
        curve.append((queries, nodes))
    statistics: dict[str, Any] = {
        "queries": result.queries, "multiplexers": nodes, "outputs": outputs, "curve": curve, **sizes,
    }  # fmt: skip
    guesses = _bsd_guesses(oracle.interface, result.diagrams)
    return Learned(netlist, judge(oracle.interface, whole, tested, guesses), statistics)


def _bsd_guesses(interface: Interface, diagrams: tuple[Diagram, ...]) -> dict[str, str]:
    """For each word that is not exact: what was guessed."""
    guesses: dict[str, str] = {}
    start = 0
    for word in interface.outputs:
        bits = diagrams[start : start + word.width]
        start += word.width
        parts = [
            (sum(d.cut for d in bits), "nodes cut by the budget or the depth cap"),
            (sum(d.forced + d.merged for d in bits), "nodes merged by distance"),
            (sum(d.speculated for d in bits), "constants that only samples support"),
            (sum(not d.exhaustive for d in bits), "diagrams merged by sampled signatures"),
        ]
        reasons = [f"{count:,} {what}" for count, what in parts if count]
        if reasons:
            guesses[word.name] = ", ".join(reasons)
    return guesses


def _from_examples(examples: Examples, request: Request, max_nodes: int | None) -> Learned:
    """Learns from rows only: whatever they do not show is a guess, and is reported as one."""
    limit = MAX_NODES if max_nodes is None else max_nodes
    if limit < 1:
        raise UserError(f"a limit of {limit} nodes leaves nothing to learn with", "max_nodes", "give at least 1")
    begin = time.perf_counter()

    def outputs_done(done: int, total: int) -> None:
        request.progress("outputs", done, total)

    learned, models = learn_outputs(examples, request.seed, limit, request.budget_s, outputs_done)
    netlist, sizes = _smaller(plain(learned), request, "low")
    interface = examples.interface
    wrong = (evaluate(netlist, examples.inputs) ^ examples.outputs) & examples.care
    failures = word_failures(wrong, interface.outputs)
    names = bit_names(interface)
    distinct = len(np.unique(examples.inputs, axis=0)) if interface.input_bits else 1
    whole = interface.input_bits <= EXHAUSTIVE_BITS and distinct == 1 << interface.input_bits and _all_known(examples)
    coverage: list[Coverage] = []
    start = 0
    for word, count in zip(interface.outputs, failures, strict=True):
        bits = models[start : start + word.width]
        start += word.width
        tested = (Tested("given rows", len(examples), count),)
        reason = f"learned from {len(examples):,} rows; held-out accuracy {min(m.accuracy for m in bits):.2%}"
        if all(model.held_out == 0 for model in bits) and not count:
            reason = f"a structure that agrees with all {len(examples):,} rows"
        status = Status.speculated
        if whole and not count:
            status, reason = Status.proved, "all inputs are given"
        coverage.append(Coverage(word.name, status, tested, reason))
    outputs = [
        {"name": name, "nodes": m.nodes, "model": m.kind, "accuracy": m.accuracy}
        for name, m in zip(names, models, strict=True)
    ]
    statistics: dict[str, Any] = {
        "algorithm": "examples", "seed": request.seed, "seconds": time.perf_counter() - begin, "queries": 0,
        "rows": len(examples), "outputs": outputs, "curve": [], **sizes,
    }  # fmt: skip
    structure = [f"{name}: {model.kind}" for name, model in zip(names, models, strict=True)]
    return Learned(netlist, tuple(coverage), statistics, structure)


def _all_known(examples: Examples) -> bool:
    return bool(unpack(examples.care, examples.interface.output_bits).all())


ALGORITHMS: dict[str, Algorithm] = {"exact": _exact, "bsd": _bsd}
