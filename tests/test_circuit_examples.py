"""Example sets: files in three forms, rows that contradict each other, and what is learned from rows alone."""

from pathlib import Path

import numpy as np
import pytest

from tapeout.circuit.examples import contradictions, load_examples, make_examples
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
