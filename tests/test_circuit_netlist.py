"""Netlists: the builder, bit-parallel evaluation, levels and cones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlists import prefix_add, random_netlist, random_rows, ripple_add, select_add
from tapeout.circuit.evaluate import Evaluator, evaluate
from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import pack, parse_interface, unpack

SEEDS = st.integers(0, 1 << 32)


def slow_evaluate(netlist: Netlist, rows: np.ndarray) -> np.ndarray:
    """One gate at a time on all rows, as the docstring of the netlist defines it."""
    values = [np.zeros(len(rows), np.uint8), *unpack(rows, netlist.interface.input_bits).T]
    for a, b in netlist.fanins.tolist():
        values.append((values[a // 2] ^ (a & 1)) & (values[b // 2] ^ (b & 1)))
    bits = [values[o // 2] ^ (o & 1) for o in netlist.outputs.tolist()]
    return pack(np.array(bits, np.uint8).reshape(len(bits), len(rows)).T)


@pytest.mark.native
@given(SEEDS, st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(0, 1500), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_evaluation(seed: int, widths: list[int], rows: int, threads: int) -> None:
    netlist = random_netlist(seed, widths, (1, 66, 3), 60)
    given_rows = random_rows(netlist.interface, rows, seed)
    out = evaluate(netlist, given_rows, threads)
    assert out.shape == (rows, 2)
    assert np.array_equal(out, slow_evaluate(netlist, given_rows))


@pytest.mark.parametrize("adder", [ripple_add, select_add, prefix_add])
def test_adders_add(adder) -> None:
    interface = parse_interface("a:32 b:32 -> sum:32 carry")
    builder = Builder(interface)
    total, carry = adder(builder, builder.input("a"), builder.input("b"))
    netlist = builder.finish({"sum": total, "carry": [carry]})
    rows = random_rows(interface, 3000)
    low, high = rows[:, 0] & np.uint64(0xFFFFFFFF), rows[:, 0] >> np.uint64(32)
    assert np.array_equal(Evaluator(netlist)(rows)[:, 0], low + high)


def test_no_inputs_and_wrong_rows() -> None:
    netlist = Builder(parse_interface("-> one zero")).finish({"one": [TRUE], "zero": [FALSE]})
    assert evaluate(netlist, np.zeros((5, 0), np.uint64)).tolist() == [[1]] * 5
    with pytest.raises(ValueError, match=r"rows have shape \(2, 3\), not \(n, 1\)"):
        evaluate(random_netlist(1), np.zeros((2, 3), np.uint64))


@pytest.mark.native
def test_broken_netlists_are_refused() -> None:
    good = random_netlist(1)
    fanins = good.fanins.copy()
    fanins[3, 0] = 2 * (1 + good.interface.input_bits + 3)
    with pytest.raises(ValueError, match="node 3 does not stand before it"):
        Evaluator(Netlist(good.interface, fanins, good.outputs))
    with pytest.raises(ValueError, match="names a node that is not there"):
        Evaluator(Netlist(good.interface, good.fanins, good.outputs + np.uint32(10000)))


def test_levels_and_cones() -> None:
    builder = Builder(parse_interface("a:4 -> all some none"))
    a = builder.input("a")
    both = builder.and_(a[0], a[1])
    netlist = builder.finish({"all": [builder.and_(builder.and_(both, a[2]), a[3])], "some": [both], "none": [a[3]]})
    assert netlist.levels == 3
    assert netlist.cone_sizes() == {"all": 3, "some": 1, "none": 0}
    assert Builder(parse_interface("a ->")).finish({}).levels == 0


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_placed_twice_is_there_once(seed: int) -> None:
    netlist = random_netlist(seed)
    builder = Builder(netlist.interface)
    inputs = {word.name: builder.input(word.name) for word in netlist.interface.inputs}
    outputs = builder.place(netlist, inputs)
    assert builder.place(netlist, inputs) == outputs
    again = builder.finish(outputs)
    rows = random_rows(netlist.interface, 256, seed)
    assert again.nodes <= netlist.nodes
    assert np.array_equal(evaluate(again, rows), evaluate(netlist, rows))
