"""The published algorithm: exact where its signatures are truth tables, and wrong where it must be."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tapeout.circuit.bsd import VALIDATION, Options, Result, learn_bsd
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.oracle import FunctionOracle, LibraryOracle, Oracle, random_rows
from tapeout.circuit.words import Rows
from tapeout.errors import UserError

M32 = np.uint64(0xFFFF_FFFF)
ADD4 = FunctionOracle(lambda a, b: a + b, "a:4 b:4 -> s:5")
MUL6 = FunctionOracle(lambda a, b: a * b, "a:6 b:6 -> p:12")
MUL5 = FunctionOracle(lambda a, b: a * b, "a:5 b:5 -> p:10")


def everything(bits: int) -> Rows:
    return np.arange(1 << bits, dtype=np.uint64).reshape(-1, 1)


def wrong(result: Result, oracle: Oracle, rows: Rows) -> int:
    return int((evaluate(result.netlist, rows) != oracle.evaluate(rows)).any(axis=1).sum())


def same(a: Result, b: Result) -> bool:
    return (
        np.array_equal(a.netlist.fanins, b.netlist.fanins)
        and np.array_equal(a.netlist.outputs, b.netlist.outputs)
        and a.diagrams == b.diagrams
    )


@pytest.mark.native
def test_whole_truth_tables_are_exact() -> None:
    result = learn_bsd(ADD4)
    assert wrong(result, ADD4, everything(8)) == 0
    assert all(diagram.exhaustive for diagram in result.diagrams)
    assert all(
        diagram.speculated == diagram.cut == diagram.merged == diagram.forced == 0 for diagram in result.diagrams
    )
    # Bit k of a sum under a good order: three nodes for each lower bit, one for its own two.
    assert [diagram.nodes for diagram in result.diagrams][:2] == [2, 4]


def test_complement_edges() -> None:
    """Parity: one node for each input, because the other branch is its complement."""
    parity = FunctionOracle(lambda a: np.bitwise_count(a) & 1, "a:20 -> p")
    result = learn_bsd(parity)
    (diagram,) = result.diagrams
    assert diagram.nodes == 20
    assert diagram.widths == [1] * 20
    assert wrong(result, parity, everything(20)[::7]) == 0


def test_samples_beyond_truth_tables() -> None:
    add = FunctionOracle(lambda a, b: (a + b) & M32, "a:32 b:32 -> s:32")
    result = learn_bsd(add, options=Options(orders=1))
    rows = random_rows(np.random.default_rng(1), 20_000, 64)
    assert wrong(result, add, rows) == 0
    assert not result.diagrams[31].exhaustive
    assert sorted(result.diagrams[31].order) == list(range(64))
    assert result.queries == sum(d.queries for d in result.diagrams) + VALIDATION + 256 * 64


def test_rare_events_are_never_learned() -> None:
    """The documented weakness: an equality that uniform sampling does not meet is speculated away."""
    equal = FunctionOracle(lambda a, b: a == b, "a:32 b:32 -> y")
    result = learn_bsd(equal)
    assert result.netlist.outputs.tolist() == [0]
    assert result.diagrams[0].speculated == 1
    assert wrong(result, equal, np.array([[5 | 5 << 32]], np.uint64)) == 1


def test_constants_and_no_inputs() -> None:
    result = learn_bsd(FunctionOracle(lambda: 5, "-> y:3"))
    assert result.netlist.outputs.tolist() == [1, 0, 1]
    assert all(diagram.exhaustive for diagram in result.diagrams)
    constant = learn_bsd(FunctionOracle(lambda a: np.full(len(a), 2), "a:40 -> y:2"))
    assert constant.netlist.outputs.tolist() == [0, 1]
    assert not constant.diagrams[0].exhaustive


def test_merging_by_distance_keeps_the_accuracy_target() -> None:
    exact = learn_bsd(MUL6, options=Options(orders=1, samples=4096))
    assert wrong(exact, MUL6, everything(12)) == 0
    result = learn_bsd(MUL6, options=Options(orders=1, samples=4096, accuracy=0.9))
    assert sum(d.merged for d in result.diagrams) > 10
    assert result.netlist.nodes < 0.9 * exact.netlist.nodes
    answers = evaluate(result.netlist, everything(12)) ^ MUL6.evaluate(everything(12))
    for bit, diagram in enumerate(result.diagrams):
        error = float((answers >> np.uint64(bit) & np.uint64(1)).mean())
        assert error <= diagram.merge_error + 1e-9 <= 0.1 + 1e-9


def test_width_cap() -> None:
    wide = learn_bsd(MUL6, options=Options(orders=1))
    capped = learn_bsd(MUL6, options=Options(orders=1, max_width=9))
    assert max(max(d.widths, default=0) for d in wide.diagrams) > 9
    assert max(max(d.widths, default=0) for d in capped.diagrams) == 9
    assert sum(d.forced for d in capped.diagrams) > 0
    assert 0 < wrong(capped, MUL6, everything(12)) < 4096


def test_depth_cap() -> None:
    shallow = learn_bsd(MUL5, options=Options(orders=1, max_depth=4))
    assert max(len(d.widths) for d in shallow.diagrams) == 4
    assert sum(d.cut for d in shallow.diagrams) > 0
    full = learn_bsd(MUL5, options=Options(orders=1))
    assert wrong(full, MUL5, everything(10)) == 0 < wrong(shallow, MUL5, everything(10))


def test_order_search_finds_a_smaller_diagram() -> None:
    """a0 b0 + a1 b1 + ...: linear with pairs together, exponential with all a before all b."""
    pairs = FunctionOracle(lambda a, b: (a & b) != 0, "a:7 b:7 -> y")
    one = learn_bsd(pairs, options=Options(orders=1)).diagrams[0]
    many = learn_bsd(pairs, options=Options(orders=30)).diagrams[0]
    assert many.nodes < one.nodes


LIBRARY = """
#include <stddef.h>
#include <stdint.h>
extern "C" const char* tapeout_interface(void) { return "a:5 b:5 -> p:10"; }
extern "C" int tapeout_concurrent(void) { return 1; }
extern "C" int tapeout_evaluate(const uint64_t* in, uint64_t* out, size_t rows) {
    for (size_t i = 0; i < rows; ++i) out[i] = (in[i] & 31) * (in[i] >> 5);
    return 0;
}
"""


def test_deterministic_whatever_the_threads(tmp_path: Path) -> None:
    (tmp_path / "mul.cpp").write_text(LIBRARY)
    command = ["c++", "-shared", "-fPIC", "-o", str(tmp_path / "mul.so"), str(tmp_path / "mul.cpp")]
    subprocess.run(command, check=True)
    library = LibraryOracle(tmp_path / "mul.so")
    options = Options(orders=6, threads=1, accuracy=0.95)
    first = learn_bsd(MUL5, 3, options)
    assert same(first, learn_bsd(library, 3, options))
    assert same(first, learn_bsd(library, 3, replace(options, threads=3)))
    assert not same(first, learn_bsd(MUL5, 4, options))


def test_budget_of_queries() -> None:
    with pytest.raises(UserError, match=r"100 questions does not reach the first layer; allow at least 11264"):
        learn_bsd(MUL6, options=Options(budget_queries=100))
    budget = Options(budget_queries=100_000)
    result = learn_bsd(MUL6, options=budget)
    assert result.queries <= 100_000
    assert sum(d.cut for d in result.diagrams) > 0
    assert same(result, learn_bsd(MUL6, options=replace(budget, threads=2)))
    none = learn_bsd(MUL6, options=Options(budget_queries=VALIDATION + 256 * 12))
    assert [d.cut for d in none.diagrams] == [1] * 12


def test_budget_of_seconds() -> None:
    def slow(a, b):
        time.sleep(0.02)
        return a * b

    begin = time.monotonic()
    result = learn_bsd(FunctionOracle(slow, "a:16 b:16 -> p:32"), options=Options(budget_s=1.0, orders=1))
    assert time.monotonic() - begin < 15
    assert sum(d.cut for d in result.diagrams) > 0
    assert len(result.netlist.outputs) == 32


def test_faults_come_through() -> None:
    asked = 0

    def breaks(a):
        nonlocal asked
        asked += len(a)
        if asked > 20_000:
            raise OSError("unplugged")
        return np.bitwise_count(a) & 3

    with pytest.raises(UserError, match="raised OSError: unplugged"):
        learn_bsd(FunctionOracle(breaks, "a:30 -> y:2"))


def test_progress_can_stop_it() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    def slow(a):
        time.sleep(0.01)
        return a * a & np.uint64(0xFFFF)

    with pytest.raises(KeyboardInterrupt):
        learn_bsd(FunctionOracle(slow, "a:16 -> y:16"), progress=stop)


@pytest.mark.parametrize(("option", "value"), [("samples", 1), ("orders", 0), ("accuracy", 1.5), ("budget_s", -1)])
def test_options_out_of_range(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{option} is"):
        learn_bsd(ADD4, options=Options(**{option: value}))  # type: ignore[arg-type]
