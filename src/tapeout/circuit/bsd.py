"""``--algorithm bsd``: Binary Speculation Diagrams, the published algorithm, as a baseline.

Source: Cheng et al., "Pushing the Limits of Machine Design: Automated CPU Design with AI", arXiv 2306.12456 (2023),
and "Automated CPU Design by Learning from Input-Output Examples", IJCAI 2024. Where these leave a choice, it is
stated here.

One output at a time, one diagram grows layer by layer. A layer splits all its nodes on one input: the most
influential one (most changes of the output when it is flipped, over rows that reach the layer). Random completions of
the inputs that remain, the same for the whole layer, give each branch a signature. An all-0 or all-1 signature is
*speculated* to be a constant; equal and complemented signatures are one node of the next layer; signatures at a small
Boolean distance (share of completions on which they differ) are merged too, as long as the estimated loss, distance
times the share of inputs that come by, stays within the accuracy target. A layer wider than its cap merges its rarest
nodes with their nearest. When no more completions are left than a signature has bits, all of them are asked. Several
orders are tried for each output (by influence, by influence with chance, variations of the best); the one with the
fewest errors on validation rows wins, then the smallest.

**What is guaranteed.** A sub-function that is speculated constant is wrong on at most a share ``3 / samples`` of its
inputs with 95 % confidence, under uniform inputs; likewise two merged sub-functions. A merge or a constant is never
undone. Nothing bounds the error on inputs that uniform sampling does not reach: a 32-bit comparison for equality is
learned as "never". Only `Diagram.exhaustive` outputs, each of whose signatures was a whole truth table, are exact.
Everything but a time budget is deterministic for a seed, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tapeout import _native
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import Oracle, to_native
from tapeout.errors import UserError

VALIDATION = _native.BSD_VALIDATION
"""Uniform rows that decide between the diagrams of an output."""
_INFLUENCE = 256
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Options:
    """What the algorithm may use.

    ``samples`` completions of a layer; ``orders`` diagrams for each output (the paper: 10); ``max_width`` nodes of a
    layer; ``max_depth`` layers (0: as many as inputs); ``accuracy`` the share of inputs that merging by distance
    leaves right; ``budget_s`` seconds and ``budget_queries`` questions in all (0: no limit); ``threads`` (0: all
    cores).
    """

    samples: int = 512
    orders: int = 10
    max_width: int = 2048
    max_depth: int = 0
    accuracy: float = 1.0
    budget_s: float = 0.0
    budget_queries: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Diagram:
    """How one output bit was learned.

    ``nodes`` multiplexers, ``order`` inputs (bits of the row) layer by layer, ``widths`` nodes of each layer,
    ``queries`` for all its ``orders`` diagrams; ``speculated`` edges to a constant that only samples support; merges
    by distance within the accuracy target (``merged``) and because of the width cap (``forced``); ``cut`` nodes made
    constant by the depth cap or the budget; ``merge_error`` the estimated share of inputs that merges and cuts leave
    wrong; ``validation_errors`` of `VALIDATION` rows; ``exhaustive``: no error is possible.
    """

    nodes: int
    order: list[int]
    widths: list[int]
    queries: int
    orders: int
    speculated: int
    merged: int
    forced: int
    cut: int
    merge_error: float
    validation_errors: int
    exhaustive: bool


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A netlist (a multiplexer for each node, equal gates once), one diagram per output bit, and all questions."""

    netlist: Netlist
    diagrams: tuple[Diagram, ...]
    queries: int


def learn_bsd(
    oracle: Oracle, seed: int = 0, options: Options | None = None, progress: Progress | None = None
) -> Result:
    """Learns every output of ``oracle``; ``progress`` is told outputs done and in all, about ten times a second.

    Raises:
        UserError: options out of range, a budget of queries that does not reach the first layer, faults of the oracle.
    """
    options = options or Options()
    interface = oracle.interface
    _check(options, interface.input_bits)
    fanins, outputs, found, queries = _native.learn_bsd(
        to_native(oracle), seed, options.samples, options.orders, options.max_width, options.max_depth,
        options.accuracy, options.budget_s, options.budget_queries, options.threads, progress,
    )  # fmt: skip
    netlist = Netlist(interface, fanins, np.array(outputs, np.uint32))
    return Result(netlist, tuple(Diagram(**output) for output in found), queries)


def _check(options: Options, inputs: int) -> None:
    ranges = (
        ("samples", 2, 1 << 16), ("orders", 1, 1000), ("max_width", 1, 1 << 20), ("max_depth", 0, 1 << 20),
        ("accuracy", 0, 1), ("budget_s", 0, float("inf")), ("budget_queries", 0, 1 << 62), ("threads", 0, 1 << 12),
    )  # fmt: skip
    for name, low, high in ranges:
        value = getattr(options, name)
        if not low <= value <= high:
            raise UserError(f"{name} is {value}", "bsd", f"choose {low} to {high:g}")
    least = VALIDATION + _INFLUENCE * inputs
    if 0 < options.budget_queries < least:
        raise UserError(
            f"a budget of {options.budget_queries} questions does not reach the first layer", "bsd",
            f"allow at least {least} for {inputs} inputs",
        )  # fmt: skip
