"""How far a learned netlist was checked, stated for each output word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log, log1p

import numpy as np

from tapeout.circuit.evaluate import Evaluator
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import Oracle, random_rows
from tapeout.circuit.sampling import sparse_rows, structured_rows
from tapeout.circuit.words import Interface, Rows, Word, pack

EXHAUSTIVE_BITS = 20
"""Up to so many inputs, all rows are asked."""
_CHUNK = 1 << 14


class Status(StrEnum):
    """The strongest statement that holds for a word."""

    proved = "proved"
    sampled = "sampled"
    speculated = "speculated"


@dataclass(frozen=True, slots=True)
class Tested:
    """Rows asked from one distribution, and how many of them were answered wrongly."""

    distribution: str
    rows: int
    failures: int

    @property
    def bound(self) -> float:
        """Upper end of the 95 % confidence interval of the share of wrong rows, under this distribution."""
        return error_bound(self.failures, self.rows)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is known of one output word.

    ``proved``: all inputs were asked, or equality was shown formally (``reason`` says which). ``sampled``: the
    algorithm left nothing out, and samples agree. ``speculated``: the algorithm guessed (``reason``), or samples
    disagree.
    """

    word: str
    status: Status
    tested: tuple[Tested, ...] = ()
    reason: str = ""

    @property
    def failures(self) -> int:
        """Wrong rows of all distributions."""
        return sum(test.failures for test in self.tested)


def error_bound(failures: int, rows: int) -> float:
    """One-sided 95 % upper bound (Clopper and Pearson 1934) of an error rate after ``failures`` in ``rows``."""
    if rows == 0 or failures >= rows:
        return 1.0
    if failures > 10_000:  # the normal approximation is good to four digits here
        share = failures / rows
        return min(1.0, share + 1.645 * (share * (1 - share) / rows) ** 0.5)
    steps = np.arange(1, failures + 1)
    choose = np.concatenate([[0.0], np.cumsum(np.log((rows - steps + 1) / steps))])
    low, high = failures / rows, 1.0
    for _ in range(60):
        share = (low + high) / 2
        terms = choose + np.arange(failures + 1) * log(share) + (rows - np.arange(failures + 1)) * log1p(-share)
        if float(np.exp(terms).sum()) > 0.05:
            low = share
        else:
            high = share
    return high


def word_failures(wrong: Rows, words: Sequence[Word]) -> list[int]:
    """For each word, the rows of ``wrong`` (differing bits) that have a bit of it set."""
    counts: list[int] = []
    start = 0
    for word in words:
        bits = np.zeros((1, sum(w.width for w in words)), np.uint8)
        bits[0, start : start + word.width] = 1
        counts.append(int((wrong & pack(bits)).any(axis=1).sum()))
        start += word.width
    return counts


def ask_again(
    netlist: Netlist, oracle: Oracle, seed: int = 0, rows: int = 1 << 16
) -> tuple[bool, dict[str, tuple[Tested, ...]]]:
    """Asks the black box again: all rows if there are few inputs, else ``rows`` of each distribution.

    Returns whether all rows were asked, and what was found for each output word.
    """
    interface = oracle.interface
    random = np.random.default_rng([seed, 0x7E57])
    whole = interface.input_bits <= EXHAUSTIVE_BITS
    if whole:
        batches = {"all inputs": _all_rows(interface.input_bits)}
    else:
        batches = {
            "uniform": random_rows(random, rows, interface.input_bits),
            "structured": structured_rows(random, rows, interface),
            "sparse": sparse_rows(random, rows, interface),
        }
    evaluator = Evaluator(netlist)
    found: dict[str, list[Tested]] = {word.name: [] for word in interface.outputs}
    for name, batch in batches.items():
        counts = [0] * len(interface.outputs)
        for at in range(0, len(batch), _CHUNK):
            part = batch[at : at + _CHUNK]
            failures = word_failures(evaluator(part) ^ oracle.evaluate(part), interface.outputs)
            counts = [a + b for a, b in zip(counts, failures, strict=True)]
        for word, count in zip(interface.outputs, counts, strict=True):
            found[word.name].append(Tested(name, len(batch), count))
    return whole, {name: tuple(tests) for name, tests in found.items()}


def judge(
    interface: Interface, whole: bool, tested: dict[str, tuple[Tested, ...]], guesses: dict[str, str]
) -> tuple[Coverage, ...]:
    """Coverage of each word from what `ask_again` found and what the algorithm says it guessed (word: reason)."""
    result: list[Coverage] = []
    for word in interface.outputs:
        tests = tested[word.name]
        failures = sum(test.failures for test in tests)
        if failures:
            result.append(Coverage(word.name, Status.speculated, tests, guesses.get(word.name, "samples disagree")))
        elif whole:
            result.append(Coverage(word.name, Status.proved, tests, "all inputs were asked"))
        elif word.name in guesses:
            result.append(Coverage(word.name, Status.speculated, tests, guesses[word.name]))
        else:
            result.append(Coverage(word.name, Status.sampled, tests))
    return tuple(result)


def _all_rows(bits: int) -> Rows:
    return np.arange(1 << bits, dtype=np.uint64).reshape(-1, 1)[:, : 1 if bits else 0]
