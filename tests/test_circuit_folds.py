"""Words that diagrams cannot hold and that no sum is: divisions, whole or behind gates; choices of a computed word."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tapeout.circuit import facts
from tapeout.circuit.bitvector import Bits
from tapeout.circuit.equivalence import check_equal
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.exact import ExactLearner, Limits
from tapeout.circuit.jobs import JobStore
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.oracle import FunctionOracle, to_native
from tapeout.circuit.words import parse_interface

u = np.uint64
Column = npt.NDArray[np.uint64]


def remainder(a: Column, b: Column) -> Column:
    return np.where(b == 0, a, a % np.maximum(b, u(1)))


def quotient(a: Column, b: Column, width: int) -> Column:
    return np.where(b == 0, u((1 << width) - 1), a // np.maximum(b, u(1)))


def signed_division(a: Column, b: Column, width: int) -> tuple[Column, Column]:
    """DIV and REM of RISC-V at any width."""
    mask, top = u((1 << width) - 1), u(1 << (width - 1))

    def negated(word: Column, sign: Column) -> Column:
        return np.where(sign != 0, (u(0) - word) & mask, word)

    x, y = negated(a, a & top), negated(b, b & top)
    divided = np.where(b == 0, mask, negated(quotient(x, y, width), (a ^ b) & top))
    return divided, negated(remainder(x, y), a & top)


def learned(interface: str, function: Callable[..., object]) -> tuple[ExactLearner, Netlist]:
    oracle = FunctionOracle(function, interface)
    learner = ExactLearner(to_native(oracle), oracle.interface)
    return learner, learner.run()


def right(learner: ExactLearner, netlist: Netlist) -> bool:
    """On rows of magnitudes of all kinds, near multiples and zero among them."""
    random = np.random.default_rng(5)
    words = [word.width for word in netlist.interface.inputs]
    columns = [random.integers(0, 1 << width, 20000, dtype=np.uint64) for width in words]
    columns = [
        column >> random.integers(0, width, 20000, dtype=np.uint64)
        for column, width in zip(columns, words, strict=True)
    ]
    columns[0][:5000] = columns[1][:5000] * random.integers(0, 4, 5000, dtype=np.uint64) & u((1 << words[0]) - 1)
    rows = np.zeros((20000, -(-sum(words) // 64)), np.uint64)
    at = 0
    for column, width in zip(columns, words, strict=True):
        rows[:, at // 64] |= column << u(at % 64)
        if at % 64 + width > 64:
            rows[:, at // 64 + 1] |= column >> u(64 - at % 64)
        at += width
    return bool((evaluate(netlist, rows) == learner.oracle.evaluate(rows)).all())


@pytest.mark.parametrize("width", [8, 13, 32])
def test_a_remainder_is_a_step_repeated(width: int) -> None:
    learner, netlist = learned(f"a:{width} b:{width} -> y:{width}", remainder)
    assert right(learner, netlist)
    assert netlist.nodes <= 25 * width * width
    if width > 8:  # narrow ones have diagrams
        assert f"repeated for each of {width} bits" in facts.structure(learner)[-1]


def test_a_learned_division_is_proved_equal_to_one_written_by_hand() -> None:
    interface = parse_interface("a:32 b:32 -> q:32 r:32")
    builder = Builder(interface)
    a, b = (Bits(builder, tuple(builder.input(name))) for name in "ab")
    divided, left = divmod(a, b)  # by 0: all ones, and the dividend

    def divide(a: Column, b: Column) -> tuple[Column, Column]:
        return quotient(a, b, 32), remainder(a, b)

    _, netlist = learned("a:32 b:32 -> q:32 r:32", divide)
    by_hand = builder.finish({"q": list(divided.literals), "r": list(left.literals)})
    assert check_equal(by_hand, netlist, seconds=60).proved


@pytest.mark.native
def test_a_long_dividend_by_a_short_divisor() -> None:
    def divide(a: Column, b: Column) -> Column:
        return np.where(b == 0, a & u(0xFFF), a % np.maximum(b, u(1)))

    learner, netlist = learned("a:24 b:12 -> y:12", divide)
    assert right(learner, netlist)


@pytest.mark.native
@pytest.mark.parametrize(("width", "by_zero"), [(16, 0), (32, 0), (24, (1 << 24) - 1)])
def test_a_quotient_whose_remainder_nobody_sees(width: int, by_zero: int) -> None:
    def divide(a: Column, b: Column) -> Column:
        return np.where(b == 0, u(by_zero), a // np.maximum(b, u(1)))

    learner, netlist = learned(f"a:{width} b:{width} -> q:{width}", divide)
    assert right(learner, netlist)
    (fold,) = learner.folded.folds
    assert fold.shows
    assert learner.folded.nodes <= 32 * width


@pytest.mark.native
def test_a_remainder_that_is_0_by_0() -> None:
    def divide(a: Column, b: Column) -> Column:
        return np.where(b == 0, u(0), a % np.maximum(b, u(1)))

    learner, netlist = learned("a:20 b:20 -> y:20", divide)
    assert right(learner, netlist)
    assert len(learner.folded.folds) == 1
    assert learner.folded.nodes <= 1000


@pytest.mark.native
def test_signed_and_unsigned_divisions_of_one_word() -> None:
    """As DIV, DIVU, REM and REMU: one output, chosen by two bits."""

    def divide(a: Column, b: Column, kind: Column) -> Column:
        divided, left = signed_division(a, b, 16)
        return np.select([kind == 0, kind == 1, kind == 2], [divided, quotient(a, b, 16), left], remainder(a, b))

    learner, netlist = learned("a:16 b:16 kind:2 -> y:16", divide)
    assert right(learner, netlist)
    assert netlist.nodes <= 15000


def test_a_resumed_division_takes_every_job_from_the_file(tmp_path: Path) -> None:
    def divide(a: Column, b: Column) -> tuple[Column, Column]:
        return quotient(a, b, 16), remainder(a, b)

    found: list[Netlist] = []
    reused: list[int] = []
    for _ in range(2):
        oracle = FunctionOracle(divide, "a:16 b:16 -> q:16 r:16")
        store = JobStore(tmp_path / "run.jobs")
        found.append(ExactLearner(to_native(oracle), oracle.interface, store=store).run())
        reused.append(store.reused)
        store.close()
    jobs = sqlite3.connect(tmp_path / "run.jobs").execute("select count(*) from jobs").fetchone()[0]
    assert reused == [0, jobs]
    assert np.array_equal(found[0].fanins, found[1].fanins)
    assert np.array_equal(found[0].outputs, found[1].outputs)


@pytest.mark.parametrize("queries", [1_000, 50_000, 200_000, 400_000, 800_000])
def test_a_budget_that_ends_among_words_that_wait_leaves_guesses(queries: int) -> None:
    def divide(a: Column, b: Column) -> tuple[Column, Column]:
        return quotient(a, b, 16), remainder(a, b)

    oracle = FunctionOracle(divide, "a:16 b:16 -> q:16 r:16")
    learner = ExactLearner(to_native(oracle), oracle.interface, limits=Limits(queries=queries))
    assert learner.run().interface == oracle.interface
    assert learner.speculated
    assert not learner.settled


def test_divisions_in_outputs_of_their_own() -> None:
    def divide(a: Column, b: Column) -> tuple[Column, ...]:
        return *signed_division(a, b, 16), quotient(a, b, 16), remainder(a, b)

    learner, netlist = learned("a:16 b:16 -> q:16 r:16 qu:16 ru:16", divide)
    assert right(learner, netlist)
    assert netlist.nodes <= 15000


@pytest.mark.native
def test_a_gate_of_controls_is_found_around_a_division() -> None:
    def gated(a: Column, b: Column, enable: Column, pending: Column) -> Column:
        stopped = (enable & pending) != 0
        return np.where(stopped, u(0xABC), remainder(a, b))

    learner, netlist = learned("a:14 b:14 enable:3 pending:3 -> y:14", gated)
    assert right(learner, netlist)
    assert netlist.nodes <= 6000


@pytest.mark.parametrize("function", [np.maximum, np.minimum])
def test_a_choice_of_a_register_and_a_sum(function: Callable[..., Column]) -> None:
    def larger(a: Column, b: Column, c: Column) -> Column:
        return function(c, a + b & u((1 << 24) - 1))

    learner, netlist = learned("a:24 b:24 c:24 -> y:24", larger)
    assert right(learner, netlist)
    assert netlist.nodes <= 1200


def test_what_is_nearly_a_fold_is_not_taken_for_one() -> None:
    """Off in rows that are rare, but not to samples of small numbers."""

    def nearly(a: Column, b: Column) -> Column:
        return np.where((a == 40) & (b == 7), u(1), remainder(a, b))

    learner, netlist = learned("a:7 b:7 -> y:7", nearly)
    rows = np.arange(1 << 14, dtype=np.uint64).reshape(-1, 1)
    assert (evaluate(netlist, rows) == learner.oracle.evaluate(rows)).all()
