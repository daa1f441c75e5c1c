"""Example sets: files in three forms, rows that contradict each other, and what is learned from rows alone."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tapeout.circuit import gates as g
from tapeout.circuit.coverage import Status
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.examples import contradictions, load_examples, make_examples
from tapeout.circuit.gates import ColumnGates, to_bits, to_columns
from tapeout.circuit.learn import Learned, learn
from tapeout.circuit.words import Rows, pack, unpack
from tapeout.errors import UserError


def column(*values: int) -> Rows:
    return np.array(values, np.uint64).reshape(-1, 1)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_csv(tmp_path: Path) -> None:
    text = "a:4, b:70 -> sum:5, odd\n3,0b10,0x05,1\n\n007, 0x20_0000_0000_0000_0001 ,,-\n15,1,16,x\n"
    examples = load_examples(write(tmp_path, "add.csv", text))
    assert str(examples.interface) == "a:4 b:70 -> sum:5 odd"
    assert examples.inputs.tolist() == [[3 | 2 << 4, 0], [7 | 1 << 4, 1 << 9], [15 | 1 << 4, 0]]
    assert examples.outputs.tolist() == [[5 | 1 << 5], [0], [16]]
    assert examples.care.tolist() == [[63], [0], [31]]
    assert examples.numbers.tolist() == [2, 4, 5]


def test_csv_with_given_interface(tmp_path: Path) -> None:
    examples = load_examples(write(tmp_path, "x.csv", "first,second\n1,2\n"), "a:4 -> b:2")
    assert (examples.inputs.tolist(), examples.outputs.tolist()) == ([[1]], [[2]])


PLA = ".i 3\n.o 2\n.type fr\n{names}# comment\n.p 3\n011 10\n1-0 0-\n111 ~1\n.e\nignored\n"


def test_pla(tmp_path: Path) -> None:
    examples = load_examples(write(tmp_path, "x.pla", PLA.format(names="")))
    assert str(examples.interface) == "x:3 -> y:2"
    assert examples.inputs.ravel().tolist() == [6, 1, 3, 7]
    assert examples.outputs.ravel().tolist() == [1, 0, 0, 2]
    assert examples.care.ravel().tolist() == [3, 1, 1, 2]
    assert examples.numbers.tolist() == [6, 7, 7, 8]


def test_pla_names_make_words(tmp_path: Path) -> None:
    names = ".ilb a[1] a[0] c\n.ob s[0] s[1]\n"
    examples = load_examples(write(tmp_path, "x.pla", PLA.format(names=names)))
    assert str(examples.interface) == "a:2 c -> s:2"
    assert examples.inputs.ravel().tolist() == [0b101, 0b010, 0b011, 0b111]
    separate = ".ilb a[2] a[1] c\n.ob s[1] s[2]\n"
    examples = load_examples(write(tmp_path, "x.pla", PLA.format(names=separate)))
    assert str(examples.interface) == "a[2] a[1] c -> s[1] s[2]"
    assert examples.inputs.ravel().tolist() == [6, 1, 3, 7]


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", interface="a:4 b:4 -> y", inputs=column(1, 2), outputs=column(1, 0))
    np.savez(tmp_path / "words.npz", interface="a:4 b:4 -> y", a=[1, 2], b=[0, 0], y=[True, False])
    for name in ("rows.npz", "words.npz"):
        examples = load_examples(tmp_path / name)
        assert examples.inputs.tolist() == [[1], [2]]
        assert examples.outputs.tolist() == [[1], [0]]
        assert examples.care.tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("x.csv", "", "the file is empty"),
        ("x.csv", "a:4->b\n", "there are no rows"),
        ("x.csv", "a:4,b\n1,1\n", r"x.csv:1: the first line 'a:4 b' has no '->'"),
        ("x.csv", "a:4->b\n1\n", r"x.csv:2: 1 values for 2 words"),
        ("x.csv", "a:4->b\n1,1\n16,0\n", r"x.csv:3: 16 does not fit a:4; a holds 0 to 15"),
        ("x.csv", "a:4->b\n-1,0\n", "-1 does not fit a:4"),
        ("x.csv", "a:4->b\nten,0\n", "'ten' is not a value of a"),
        ("x.csv", "a:4->b\n-,0\n", "'-' is not a value of a"),
        ("x.csv", "a:4->\n1\n", "there is no output word"),
        ("x.csv", "a:0->b\n1,1\n", "width 0"),
        ("x.csv", "a:4->y:2\n1,1\n2,1\n1,3\n", r"contradict each other: .* in 2 and 4 \(y\); correct them"),
        ("x.pla", ".i 1\n.o 1\n0 1\n", "the type is not given; give .type fr"),
        ("x.pla", ".i 1\n.o 1\n.type fd\n0 1\n", "the type is fd"),
        ("x.pla", ".o 1\n.type fr\n0 1\n", "no line '.i NUMBER'"),
        ("x.pla", ".i 1\n.o 1\n.type fr\n00 1\n", "x.pla:4: '001' is not a row of 1 and 1 columns"),
        ("x.pla", ".i 20\n.o 1\n.type fr\n" + "-" * 20 + " 1\n", r"a row stands for 2\^20 inputs"),
        ("x.pla", ".i 1\n.o 1\n.ilb a b\n.type fr\n0 1\n", "2 names for 1 columns"),
        ("x.pla", ".i 2\n.o 1\n.type fr\n-0 1\n10 0\n", r"contradict each other: .* in 4 and 5 \(y\)"),
        ("x.npz", "text", "cannot be read"),
        ("x.txt", "a", ".txt is not a kind of example file"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, text: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        load_examples(write(tmp_path, name, text))


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"a": [1]}, "no array 'interface'"),
        ({"interface": "a:4 -> y", "a": [1]}, "no array 'y'"),
        ({"interface": "a:4 -> y", "a": [1], "y": [2]}, "'y' has the value 2"),
        ({"interface": "a:4 -> y", "inputs": column(1), "outputs": column(1, 0)}, r"outputs is uint64\[2, 1\]"),
        ({"interface": "a:4 -> y", "inputs": column(16), "outputs": column(1)}, "inputs has bits set behind"),
        ({"interface": "a:4 -> y", "inputs": [[1]], "outputs": column(1)}, r"inputs is int64\[1, 1\]"),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, object], what: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=what):
        load_examples(tmp_path / "x.npz")


def test_missing_file() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_examples("/nowhere/x.csv")


def test_contradictions_agree_with_the_definition() -> None:
    """All rows against all: a row contradicts when a known bit differs from one that an equal row fixed before."""
    random = np.random.default_rng(5)
    values, care = random.integers(0, 2, (2, 300, 2), np.uint8)
    inputs = random.integers(0, 2, (300, 7), np.uint8)
    examples = make_examples("a:7 -> y:2", pack(inputs), np.zeros((300, 1), np.uint64))
    examples = type(examples)(
        examples.interface, examples.inputs, pack(values & care), pack(care), examples.numbers, "here"
    )
    expected: set[int] = set()
    fixed: dict[tuple[int, ...], dict[int, int]] = {}
    for row in range(300):
        bits = fixed.setdefault(tuple(inputs[row]), {})
        now = {bit: int(values[row, bit]) for bit in range(2) if care[row, bit]}
        if any(bits.get(bit, value) != value for bit, value in now.items()):
            expected.add(row)
        else:
            bits |= now
    assert expected
    assert {row for _, row, _ in contradictions(examples)} == expected
    assert np.array_equal(unpack(examples.inputs, 7), inputs)


def test_no_inputs() -> None:
    rows = np.zeros((2, 0), np.uint64)
    assert len(make_examples("-> y:2", rows, column(2, 2))) == 2
    with pytest.raises(UserError, match=r"in 0 and 1 \(y\)"):
        make_examples("-> y:2", rows, column(2, 3))


# ---- learning from rows


def rows_of(bits: int, count: int = 800, seed: int = 7) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).integers(0, 2, (count, bits)).astype(np.bool_)


def learn_one(inputs: NDArray[np.bool_], target: NDArray[np.bool_], max_nodes: int = 5000, **options: float) -> Learned:
    examples = make_examples(f"x:{inputs.shape[1]} -> y", pack(inputs), pack(target.reshape(-1, 1)))
    return learn(examples, max_nodes=max_nodes, **options)  # type: ignore[arg-type]


def accuracy(learned: Learned, inputs: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    return float(((evaluate(learned.netlist, pack(inputs))[:, 0] == 1) == target).mean())


def value(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    return bits.astype(np.int64) @ (1 << np.arange(bits.shape[1]))


Function = Callable[[NDArray[np.bool_]], NDArray[np.bool_]]


@pytest.mark.parametrize(
    ("bits", "function", "fact", "most"),
    [
        (12, lambda x: x[:, 7], "wiring", 0),
        (12, lambda x: ~x[:, 7], "inverted wiring", 0),
        (12, lambda x: np.ones(len(x), np.bool_), "constant 1", 0),
        (40, lambda x: x[:, [3, 8, 20, 21, 39]].sum(axis=1) % 2 == 0, "inverted parity of 5 inputs", 12),
        (13, lambda x: np.isin(x.sum(axis=1), (5, 6, 8)), "function of the number of ones of 13 inputs", 120),
        (24, lambda x: x[:, ::2].sum(axis=1) > 6, "function of the number of ones of 12 inputs", 120),
        (24, lambda x: value(x[:, :12]) + value(x[:, 12:]) >= 4096, r"bit 12 of a \+ b", 80),
        (24, lambda x: value(x[:, ::2]) < value(x[:, 1::2]), r"bit 12 of a - b \(even, odd inputs\)", 80),
        (24, lambda x: value(x[:, 11::-1]) > value(x[:, :11:-1]), "b - a .*most significant first", 80),
        (16, lambda x: value(x[:, :8]) * value(x[:, 8:]) >> 7 & 1 == 1, r"bit 7 of a \* b", 250),
    ],
)  # fmt: skip
def test_structure(bits: int, function: Function, fact: str, most: int) -> None:
    """Found from 800 rows, right on 5,000 others, and small."""
    inputs, others = rows_of(bits), rows_of(bits, 5000, 8)
    learned = learn_one(inputs, function(inputs))
    assert re.search(fact, learned.structure[0])
    assert accuracy(learned, others, function(others)) == 1
    assert learned.netlist.nodes <= most
    assert learned.coverage[0].failures == 0


def test_carry_in_shuffled_order_is_a_threshold() -> None:
    order = np.random.default_rng(1).permutation(16)

    def function(x: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return value(x[:, order][:, :8]) + value(x[:, order][:, 8:]) > 255

    inputs, others = rows_of(16, 2000), rows_of(16, 5000, 8)
    assert accuracy(learn_one(inputs, function(inputs)), others, function(others)) > 0.97


def test_sum_bit_in_shuffled_order_is_peeled() -> None:
    """A parity of two inputs and a carry: no single input, and no pair, says anything."""
    order = np.random.default_rng(1).permutation(16)

    def function(x: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return value(x[:, order][:, :8]) + value(x[:, order][:, 8:]) >> 7 & 1 == 1

    inputs, others = rows_of(16, 2000), rows_of(16, 5000, 8)
    learned = learn_one(inputs, function(inputs))
    assert learned.structure[0].startswith("y: parity of 2 inputs and")
    assert accuracy(learned, others, function(others)) > 0.95


def test_node_limit_holds() -> None:
    random = np.random.default_rng(2)
    inputs, target = rows_of(24, 1500), random.integers(0, 2, 1500).astype(np.bool_)
    for most in (1, 30, 300):
        assert learn_one(inputs, target, most).netlist.nodes <= most
    multiplier = value(inputs[:, :12]) * value(inputs[:, 12:]) >> 11 & 1 == 1
    assert learn_one(inputs, multiplier, 50).netlist.nodes <= 50
    with pytest.raises(UserError, match="a limit of 0 nodes"):
        learn_one(inputs, target, 0)


def test_several_outputs_share_and_unknown_bits_are_free() -> None:
    a, b = rows_of(10, 600), rows_of(10, 600, 9)
    total = value(a) + value(b)
    bits = (total[:, None] >> np.arange(11) & 1).astype(np.uint8)
    care = np.random.default_rng(3).integers(0, 2, bits.shape, np.uint8)
    inputs = pack(np.concatenate([a, b], axis=1))
    examples = make_examples("a:10 b:10 -> sum:11", inputs, pack(bits & care), pack(care))
    learned = learn(examples)
    assert np.array_equal(evaluate(learned.netlist, inputs)[:, 0], total.astype(np.uint64))
    assert learned.netlist.nodes <= 10 * 9
    (coverage,) = learned.coverage
    assert (coverage.status, coverage.failures) == (Status.speculated, 0)


def test_deterministic_and_few_rows() -> None:
    inputs = rows_of(30, 300)
    target = (inputs[:, :9].sum(axis=1) > 4) ^ (inputs[:, 9] & inputs[:, 10])
    first, second = learn_one(inputs, target), learn_one(inputs, target)
    assert np.array_equal(first.netlist.fanins, second.netlist.fanins)
    assert first.structure == second.structure
    tiny = learn_one(inputs[:3], np.array([True, False, True]))
    assert accuracy(tiny, inputs[:3], np.array([True, False, True])) == 1
    one = learn_one(inputs[:1], np.array([True]))
    assert one.structure == ["y: constant 1"]


def test_all_rows_given_is_a_proof() -> None:
    inputs = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(np.bool_)
    parity = inputs.sum(axis=1) % 2 == 1
    assert learn_one(inputs, parity).coverage[0].status == Status.proved
    assert learn_one(inputs[1:], parity[1:]).coverage[0].status == Status.speculated


def test_time_budget() -> None:
    inputs = rows_of(30, 1000)
    begin = time.monotonic()
    learned = learn_one(inputs, np.random.default_rng(1).integers(0, 2, 1000).astype(np.bool_), budget_s=0.01)
    assert time.monotonic() - begin < 10
    assert "tree" in learned.structure[0] or "constant" in learned.structure[0]


# ---- gates


@pytest.mark.parametrize("width", [1, 3, 6])
def test_word_circuits_compute(width: int) -> None:
    rows = np.arange(1 << (2 * width))
    bits = (rows[:, None] >> np.arange(2 * width) & 1).astype(np.bool_)
    columns = to_columns(bits)
    gates = ColumnGates(len(rows))
    a, b = columns[:width], columns[width:]
    low, high = rows % (1 << width), rows >> width
    for word, wanted in (
        (g.add(gates, a, b), low + high),
        (g.subtract(gates, a, b), (low - high) % (1 << width) + ((low < high) << width)),
        (g.multiply(gates, a, b), low * high),
        ([g.at_least(gates, a, 3)], low >= 3),
        (g.weigh(gates, [(columns[i], 2 * i + 1) for i in range(2 * width)], 6),
         (bits @ np.arange(1, 4 * width, 2)) % 64),
        ([g.look_up(gates, columns, [row % 3 == 1 for row in rows])], rows % 3 == 1),
    ):  # fmt: skip
        found = sum(to_bits(bit, len(rows)).astype(np.int64) << place for place, bit in enumerate(word))
        assert np.array_equal(found, wanted.astype(np.int64))
