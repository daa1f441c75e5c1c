"""`learn`: from a black box, or from rows of examples, to a netlist and what is known of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tapeout.circuit.bsd import Diagram, Options, learn_bsd
from tapeout.circuit.coverage import EXHAUSTIVE_BITS, Coverage, Status, Tested, ask_again, judge, word_failures
from tapeout.circuit.discovery import find_arrays
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.exact import ExactLearner, Limits
from tapeout.circuit.example_models import MAX_NODES, learn_outputs
from tapeout.circuit.examples import Examples
from tapeout.circuit.jobs import JobStore
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import TIMEOUT_S, Oracle, check_oracle, to_native, to_oracle
from tapeout.circuit.port_netlists import put_back
from tapeout.circuit.ports import PortForm
from tapeout.circuit.words import Interface, row_words, unpack
from tapeout.errors import UserError

Progress = Callable[[str, int, int], object]
"""Told a stage, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A netlist and what is known of it.

    ``statistics`` has at least ``algorithm``, ``seed``, ``seconds``, ``queries``; ``outputs``, a list with a
    dictionary for each output bit (``name``, ``nodes``, and what the algorithm adds); ``curve``, a list of
    ``(queries, nodes)`` while it was learning. ``structure`` are the facts that were found, a line each. Where arrays
    were found in the state, ``form`` has their ports and ``ports`` is the netlist in port form.
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
    arrays: str | None = None,
    progress: Progress | None = None,
) -> Learned:
    """Learns a netlist from a black box (an `Oracle`, or a function with its ``interface``) or from `Examples`.

    ``arrays``: register files and the like are looked for in the state and learned around (``whole``: the netlist has
    them as gates; ``ports``: it is in port form), or not (``off``). ``None`` means whole for exact, off for bsd.

    ``budget_s`` seconds and ``budget_queries`` questions end the learning: what is not known by then is speculated
    and reported. ``checkpoint`` is a file that a later call goes on from, where the algorithm can. ``timeout_s`` is
    the longest that the first questions may take. ``max_nodes`` (AND nodes) is for examples only.

    Raises:
        UserError: an unknown algorithm or option, and whatever is wrong with the black box.
    """
    if isinstance(oracle, Examples):
        return _from_examples(oracle, seed, budget_s, max_nodes, progress)
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
    check_oracle(box, seed, timeout_s)
    request = Request(
        seed, budget_s, budget_queries, Path(checkpoint) if checkpoint else None,
        progress or (lambda stage, done, total: None),
    )  # fmt: skip
    begin = time.perf_counter()
    if arrays == "off":
        learned = ALGORITHMS[algorithm](box, request)
    else:
        learned = learn_around_arrays(box, ALGORITHMS[algorithm], request, whole=arrays == "whole")
    learned.statistics.update(algorithm=algorithm, seed=seed, seconds=time.perf_counter() - begin)
    return learned


def bit_names(interface: Interface) -> list[str]:
    """``sum[0]``, ``sum[1]``, ..., ``carry``: a name for each output bit."""
    return [
        word.name if word.width == 1 else f"{word.name}[{bit}]"
        for word in interface.outputs
        for bit in range(word.width)
    ]


def _exact(oracle: Oracle, request: Request) -> Learned:
    interface = oracle.interface
    if interface.input_bits == 0 or interface.output_bits == 0:
        return _constant(oracle)
    store = JobStore(request.checkpoint, str(interface))
    done = 0

    def progress(_: str) -> None:
        nonlocal done
        done += 1
        request.progress("regions", done, 0)

    learner = ExactLearner(
        to_native(oracle), interface, request.seed, store=store, progress=progress,
        limits=Limits(request.budget_s, request.budget_queries),
    )  # fmt: skip
    try:
        netlist = learner.run()
    finally:
        learner.close()
        store.close()
    whole, tested = ask_again(netlist, oracle, request.seed)
    directed = Tested("directed at the regions found", learner.checked_rows, 0)
    if not learner.speculated and learner.checked_rows:
        tested = {name: (*tests, directed) for name, tests in tested.items()}
    guesses = {
        name: f"the budget ended with {count:,} regions taken for constants"
        for name, count in learner.speculated.items()
    }
    outputs: list[dict[str, Any]] = []
    structure: list[str] = []
    for tree in learner.trees:
        leaves = tree.leaves()
        gates = sum(len(node.leaf.fanins) for node in leaves if node.leaf)
        outputs.append(
            {"name": tree.name, "nodes": gates, "leaves": len(leaves), "jobs": tree.jobs, "queries": tree.queries}
        )
        for node in leaves:
            if node.leaf is not None and len(leaves) > 1:
                facts = node.leaf.facts
                what = f"{len(node.leaf.fanins):,} gates of {len(facts['support'])} inputs"
                structure.append(f"{tree.name} where {learner.describe(node.fixed)}: {what}")
    statistics: dict[str, Any] = {
        "queries": learner.queries, "outputs": outputs, "curve": learner.curve, "jobs reused": store.reused,
    }  # fmt: skip
    return Learned(netlist, judge(interface, whole, tested, guesses), statistics, structure)


def learn_around_arrays(oracle: Oracle, algorithm: Algorithm, request: Request, *, whole: bool) -> Learned:
    """Finds arrays in the state, learns the circuit in port form, and, for ``whole``, puts them back as gates.

    Half of the budget may go into finding them.
    """
    begin = time.monotonic()
    native = to_native(oracle)
    seconds, queries = request.budget_s, request.budget_queries
    found = find_arrays(
        native, oracle.interface, request.seed,
        seconds=None if seconds is None else seconds / 2, questions=None if queries is None else queries // 2,
    )  # fmt: skip
    if seconds is not None:
        seconds = max(0.01, seconds - (time.monotonic() - begin))
    if queries is not None:
        queries -= found.questions
    request = replace(request, budget_s=seconds, budget_queries=queries)
    form = found.form
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
    return Learned(netlist, coverage, {"queries": 1, "outputs": outputs, "curve": []})


def _bsd(oracle: Oracle, request: Request) -> Learned:
    if request.checkpoint is not None:
        raise UserError("bsd cannot go on from a file", "checkpoint", "leave it out")
    options = Options(budget_s=request.budget_s or 0.0, budget_queries=request.budget_queries or 0)
    result = learn_bsd(oracle, request.seed, options, lambda done, total: request.progress("outputs", done, total))
    request.progress("testing", 0, 1)
    whole, tested = ask_again(result.netlist, oracle, request.seed)
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
        "queries": result.queries, "multiplexers": nodes, "outputs": outputs, "curve": curve,
    }  # fmt: skip
    guesses = _bsd_guesses(oracle.interface, result.diagrams)
    return Learned(result.netlist, judge(oracle.interface, whole, tested, guesses), statistics)


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


def _from_examples(
    examples: Examples, seed: int, budget_s: float | None, max_nodes: int | None, progress: Progress | None
) -> Learned:
    """Learns from rows only: whatever they do not show is a guess, and is reported as one."""
    limit = MAX_NODES if max_nodes is None else max_nodes
    if limit < 1:
        raise UserError(f"a limit of {limit} nodes leaves nothing to learn with", "max_nodes", "give at least 1")
    begin = time.perf_counter()

    def outputs_done(done: int, total: int) -> None:
        if progress:
            progress("outputs", done, total)

    netlist, models = learn_outputs(examples, seed, limit, budget_s, outputs_done)
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
        "algorithm": "examples", "seed": seed, "seconds": time.perf_counter() - begin, "queries": 0,
        "rows": len(examples), "outputs": outputs, "curve": [],
    }  # fmt: skip
    structure = [f"{name}: {model.kind}" for name, model in zip(names, models, strict=True)]
    return Learned(netlist, tuple(coverage), statistics, structure)


def _all_known(examples: Examples) -> bool:
    return bool(unpack(examples.care, examples.interface.output_bits).all())


ALGORITHMS: dict[str, Algorithm] = {"exact": _exact, "bsd": _bsd}
