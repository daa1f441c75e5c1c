"""Makes netlists smaller: fewer ANDs for the same function.

Rounds of SAT sweeping, refactoring, resubstitution with don't-cares, cut rewriting and extraction of common pairs
(native/circuit/improve.h), until they no longer pay. No result is returned that was not proved equal to its input.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tapeout import _native
from tapeout.circuit.equivalence import check_equal, native_fields
from tapeout.circuit.netlist import Netlist
from tapeout.errors import VerifyError


@dataclass(frozen=True, slots=True)
class Effort:
    """When rounds end: after ``rounds``, or when the last ``patience`` rounds together saved less than ``share``."""

    rounds: int
    patience: int
    share: float


EFFORTS = {
    "low": Effort(2, 1, 0.02),
    "medium": Effort(24, 2, 0.004),
    "high": Effort(1000, 8, 0.0005),
}
PROOF_S = 60.0
"""The least time that the proof gets, whatever is left of the budget."""


def minimise(
    netlist: Netlist,
    effort: str = "medium",
    *,
    seconds: float = 60.0,
    proof_seconds: float | None = None,
    seed: int = 1,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Netlist:
    """An equal netlist with fewer ANDs (never more), proved.

    Args:
        effort: ``low`` (a second or two), ``medium``, or ``high``, which uses all of the time while anything is gained.
        seconds: for the rounds together; the proof comes on top. ``math.inf`` makes the result independent of the
            machine's speed.
        proof_seconds: for the proof, whatever it then proves; None: what is left of ``seconds``, and at least PROOF_S.
        threads: for the proof, 0 for all cores.
        progress: called after each round with the number of ANDs.

    Raises:
        KeyError: an effort that is none.
        VerifyError: a result that differs from the input, which is a bug of ours.
    """
    limits = EFFORTS[effort]
    deadline = time.monotonic() + seconds
    widths = [word.width for word in netlist.interface.inputs]
    native = _native.Minimiser(native_fields(netlist), widths, seed)
    chain = [Netlist(netlist.interface, *_native.strash(native_fields(netlist)))]
    while len(chain) <= limits.rounds and (left := deadline - time.monotonic()) > 0:
        chain.append(Netlist(netlist.interface, *native.round(left)))
        if progress:
            progress(chain[-1].nodes)
        if len(chain) > limits.patience:
            before = chain[-1 - limits.patience].nodes
            if before - chain[-1].nodes <= limits.share * before:
                break
    if proof_seconds is not None:
        return _proved(netlist, chain, proof_seconds / 2, time.monotonic() + proof_seconds, threads)
    return _proved(netlist, chain, max(PROOF_S, deadline - time.monotonic()), math.inf, threads)


def _proved(netlist: Netlist, chain: list[Netlist], seconds: float, deadline: float, threads: int) -> Netlist:
    """The last of the chain if it is proved equal to the netlist at once, else the last that is proved step by step;
    ``seconds`` for each proof, and none beyond the deadline."""

    def step(before: Netlist, after: Netlist) -> bool:
        left = min(seconds, deadline - time.monotonic())
        if left <= 0:
            return False
        result = check_equal(before, after, seconds=left, threads=threads)
        if result.different:
            raise VerifyError("minimise", f"output bits {result.different_bits}", "the smaller netlist differs")
        return result.proved

    if step(netlist, chain[-1]):
        return chain[-1]
    proved = netlist
    for smaller in chain:
        if not step(proved, smaller):
            break
        proved = smaller
    return proved
