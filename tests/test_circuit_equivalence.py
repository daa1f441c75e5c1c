"""Equivalence: proofs across architectures, counterexamples for every seeded bug, budgets, resumption."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlists import (
    barrel_shift,
    diagram_add,
    equal,
    equal_tree,
    full_adder,
    less_ripple,
    prefix_add,
    random_netlist,
    reverse_shift,
    ripple_add,
    select_add,
    tree_shift,
    where,
)
from netlists_step import step_apart, step_shared
from tapeout.circuit.equivalence import Verdict, abc_cec, check_equal
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.minimise import minimise
from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import pack, parse_interface, unpack
from tapeout.errors import UserError

SEEDS = st.integers(0, 1 << 32)


def built(interface: str, function) -> Netlist:
    builder = Builder(parse_interface(interface))
    words = [builder.input(word.name) for word in builder.interface.inputs]
    outputs = function(builder, *words)
    return builder.finish(dict(zip([word.name for word in builder.interface.outputs], outputs, strict=True)))


def all_rows(netlist: Netlist) -> np.ndarray:
    bits = netlist.interface.input_bits
    return pack((np.arange(1 << bits)[:, None] >> np.arange(bits) & 1).astype(np.uint8))


def mutated(netlist: Netlist, seed: int) -> Netlist:
    """A fan-in of a gate inverted."""
    rng = random.Random(seed)
    fanins = netlist.fanins.copy()
    fanins[rng.randrange(netlist.nodes), rng.randrange(2)] ^= 1
    return Netlist(netlist.interface, fanins, netlist.outputs)


@pytest.mark.native
@given(SEEDS, st.sampled_from([5, 40, 120]), st.sampled_from([1, 5, 100]), st.sampled_from([1, 10, 1000]))
@settings(max_examples=100, deadline=None)
def test_agrees_with_exhaustion(seed: int, nodes: int, gate_conflicts: int, output_conflicts: int) -> None:
    """Whatever the effort before cases are distinguished, the verdict on each bit is that of all 256 rows."""
    netlist = random_netlist(seed, (3, 5), (2, 4), nodes)
    other = mutated(netlist, seed) if netlist.nodes else netlist
    rows = all_rows(netlist)
    wrong = unpack(evaluate(netlist, rows) ^ evaluate(other, rows), 6).any(axis=0)
    found = check_equal(
        netlist, other, threads=1, gate_conflicts=gate_conflicts, output_conflicts=output_conflicts, seed=seed
    )
    assert [verdict is Verdict.DIFFERENT for verdict in found.verdicts] == wrong.tolist()
    assert Verdict.UNDECIDED not in found.verdicts
    assert found.proved == (not wrong.any())
    if wrong.any():
        assert found.counterexample is not None
        difference = unpack(evaluate(netlist, found.counterexample) ^ evaluate(other, found.counterexample), 6)
        assert difference[0, found.different_bits[0]]


ADDERS = {"ripple": ripple_add, "select": select_add, "prefix": prefix_add, "diagram": diagram_add}


@pytest.mark.parametrize("name", ["select", "prefix", "diagram"])
def test_adders(name: str) -> None:
    a, b = (
        built("a:32 b:32 -> sum:32 carry", lambda b, x, y, adder=adder: [(r := adder(b, x, y))[0], [r[1]]])
        for adder in (ADDERS["ripple"], ADDERS[name])
    )
    assert check_equal(a, b, seconds=20).proved


def test_shifters_comparators() -> None:
    def one(b, x, amount, y):
        left, right = barrel_shift(b, x, amount, False), barrel_shift(b, x, amount, True, x[-1])
        return left, right, [less_ripple(b, x, y)], [equal(b, x, y)]

    def two(b, x, amount, y):
        left = reverse_shift(b, x, amount, FALSE, x[-1])
        _, no_borrow = prefix_add(b, x, [bit ^ 1 for bit in y], TRUE)
        return left, tree_shift(b, x, amount, True, x[-1]), [no_borrow ^ 1], [equal_tree(b, x, y)]

    interface = "x:32 amount:5 y:32 -> left:32 right:32 less same"
    assert check_equal(built(interface, one), built(interface, two), seconds=20).proved


def shared_and_apart(width: int = 24) -> tuple[Netlist, Netlist]:
    """Sum, difference, reverse difference and sum with the third word, by opcode: one adder, or four."""

    def apart(b, op, x, y, z):
        results = [
            ripple_add(b, x, y)[0],
            ripple_add(b, x, [bit ^ 1 for bit in y], TRUE)[0],
            ripple_add(b, y, [bit ^ 1 for bit in x], TRUE)[0],
            ripple_add(b, x, z)[0],
        ]
        return [where(b, op[1], where(b, op[0], results[3], results[2]), where(b, op[0], results[1], results[0]))]

    def shared(b, op, x, y, z):
        reverse = b.and_(op[1], op[0] ^ 1)
        left = where(b, reverse, y, x)
        right = where(b, b.and_(op[0], op[1]), z, where(b, reverse, x, y))
        minus = b.xor(op[0], op[1])
        return [select_add(b, left, [b.xor(bit, minus) for bit in right], minus)[0]]

    interface = f"op:2 x:{width} y:{width} z:{width} -> out:{width}"
    return built(interface, apart), built(interface, shared)


def test_shared_adder_needs_cases() -> None:
    """With next to no effort for one question the proof is by cases on the opcode."""
    found = check_equal(*shared_and_apart(), seconds=30, gate_conflicts=20, output_conflicts=20)
    assert found.proved
    assert found.cases > 1


def test_processor_steps() -> None:
    """Steps of about 11,000 and 5,000 ANDs that share no structure; a seeded bug is found or redundant."""
    a, b = step_apart(), step_shared()
    assert check_equal(a, b, seconds=60).proved
    for seed in range(6):
        wrong = mutated(b, seed)
        found = check_equal(a, wrong, seconds=60)
        assert found.proved or found.different
        if found.different:
            row = found.counterexample
            assert row is not None
            assert not np.array_equal(evaluate(a, row), evaluate(wrong, row))
    word = found.words
    assert set(word) == {word.name for word in a.interface.outputs}


def multipliers(width: int) -> tuple[Netlist, Netlist]:
    def array(b, x, y):
        total = [FALSE] * (2 * width)
        for i in range(width):
            part, carry = ripple_add(b, total[i : i + width], [b.and_(bit, y[i]) for bit in x])
            total = [*total[:i], *part, carry, *total[i + width + 1 :]]
        return [total]

    def tree(b, x, y):
        columns: list[list[int]] = [[] for _ in range(2 * width + 1)]
        for i in range(width):
            for j in range(width):
                columns[i + j].append(b.and_(x[i], y[j]))
        while max(map(len, columns)) > 2:
            after: list[list[int]] = [[] for _ in columns]
            for i, column in enumerate(columns[:-1]):
                while len(column) > 2:
                    bit, carry = full_adder(b, column.pop(), column.pop(), column.pop())
                    after[i].append(bit)
                    after[i + 1].append(carry)
                after[i] += column
            columns = after
        rows = [[*column, FALSE, FALSE] for column in columns[: 2 * width]]
        return [ripple_add(b, [row[0] for row in rows], [row[1] for row in rows])[0]]

    interface = f"x:{width} y:{width} -> product:{2 * width}"
    return built(interface, array), built(interface, tree)


def test_budget_leaves_hard_outputs_open_and_keeps_what_is_proved(tmp_path: Path) -> None:
    a, b = multipliers(12)
    state = tmp_path / "proof.json"
    calls: list[tuple[int, int]] = []
    found = check_equal(a, b, seconds=1.0, state=state, progress=lambda *args: calls.append(args))
    assert not found.proved
    assert not found.different
    assert found.words == {"product": Verdict.UNDECIDED}
    assert str(found) == "undecided in product"
    done = [bit for bit, verdict in enumerate(found.verdicts) if verdict is Verdict.PROVED]
    assert {0, 1, 2} <= set(done)
    assert calls[-1] == (len(done), 24)
    assert json.loads(state.read_text())["proved"] == done
    # Nothing is asked again: even without time the outputs that were proved stay proved.
    again = check_equal(a, b, seconds=0.0, state=state)
    assert [bit for bit, verdict in enumerate(again.verdicts) if verdict is Verdict.PROVED] == done
    # Of other netlists the file says nothing.
    other = check_equal(a, mutated(b, 1), seconds=0.0, state=state)
    assert not other.proved


def test_small_multipliers() -> None:
    assert check_equal(*multipliers(6), seconds=60).proved


def test_state_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("[1, 2")
    a = random_netlist(3)
    with pytest.raises(UserError, match=r"state\.json: not a state file of an equivalence proof; delete it"):
        check_equal(a, a, state=path)


def test_interfaces_must_be_the_same() -> None:
    with pytest.raises(UserError, match="different interfaces"):
        check_equal(random_netlist(1, (3, 5)), random_netlist(1, (4, 4)))


def test_same_seed_same_proof() -> None:
    a, b = step_apart(), step_shared()
    first, second = (check_equal(a, b, threads=1, seed=7) for _ in range(2))
    assert (first.cases, first.conflicts) == (second.cases, second.conflicts)


def test_progress_may_stop_it() -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        check_equal(*multipliers(12), seconds=60, progress=stop)


@pytest.mark.skipif(shutil.which("berkeley-abc") is None, reason="the second judge is Debian's berkeley-abc")
def test_second_judge_agrees() -> None:
    a, b = shared_and_apart(8)
    assert abc_cec(a, b) is Verdict.PROVED
    for seed in range(5):
        wrong = mutated(b, seed)
        expected = Verdict.PROVED if check_equal(a, wrong).proved else Verdict.DIFFERENT
        assert abc_cec(a, wrong) is expected


def test_second_judge_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="berkeley-abc is not installed"):
        abc_cec(random_netlist(1), random_netlist(1))


# ---- minimise, whose results are proved by it


@pytest.mark.native
@given(SEEDS, st.sampled_from([(3, 5), (9, 9)]), st.sampled_from([10, 60, 200]))
@settings(max_examples=25, deadline=None)
def test_minimise_keeps_the_function(seed: int, inputs: tuple[int, ...], nodes: int) -> None:
    netlist = random_netlist(seed, inputs, (2, 4, 3), nodes)
    smaller = minimise(netlist, "low", threads=1, seed=seed)
    assert smaller.nodes <= netlist.nodes
    if netlist.interface.input_bits <= 8:
        rows = all_rows(netlist)
        assert np.array_equal(evaluate(smaller, rows), evaluate(netlist, rows))


def test_minimise_diagrams_of_adders() -> None:
    """The quadratic multiplexers of separate sum bits become one chain of about seven ANDs a bit."""
    netlist = built("a:16 b:16 -> sum:16 carry", lambda b, x, y: [(r := diagram_add(b, x, y))[0], [r[1]]])
    sizes: list[int] = []
    smaller = minimise(netlist, "medium", progress=sizes.append)
    assert netlist.nodes > 700
    assert smaller.nodes == sizes[-1] <= 9 * 16
    assert sizes == sorted(sizes, reverse=True)


def test_minimise_efforts_and_time() -> None:
    netlist = step_shared()
    low, medium = (minimise(netlist, effort, seconds=6).nodes for effort in ("low", "medium"))
    assert medium <= low < 3600 < netlist.nodes
    assert minimise(netlist, "high", seconds=0.0).nodes <= netlist.nodes
    with pytest.raises(KeyError):
        minimise(netlist, "extreme")


def test_minimise_is_deterministic() -> None:
    netlist = random_netlist(11, (9, 9), (6, 6), 300)
    first, second = (minimise(netlist, "low", seed=3) for _ in range(2))
    assert np.array_equal(first.fanins, second.fanins)
    assert np.array_equal(first.outputs, second.outputs)
