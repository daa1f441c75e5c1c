"""`tapeout equal`, circuits as black boxes and as references, the next-state function of a sequential AIGER file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tapeout.circuit.aiger import read_aiger
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.export import write_netlist
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.reading import read_netlist
from tapeout.circuit.words import parse_interface
from tapeout.cli import app
from tapeout.errors import UserError


def adder(width: int, words: str = "a b sum", wrong: bool = False, backwards: bool = False) -> Netlist:
    """sum = a + b; ``wrong``: the top bit is wrong where both operands are all ones."""
    x, y, z = words.split()
    interface = parse_interface(f"{x}:{width} {y}:{width} -> {z}:{width}")
    builder = Builder(interface)
    a, b = builder.input(x), builder.input(y)
    if backwards:
        a, b = b, a
    carry, total, ones = 0, list[int](), 1
    for p, q in zip(a, b, strict=True):
        total.append(builder.xor(builder.xor(p, q), carry) if not backwards else builder.xor(p, builder.xor(q, carry)))
        carry = builder.or_(builder.and_(p, q), builder.and_(builder.or_(p, q), carry))
        ones = builder.and_(ones, builder.and_(p, q))
    total[-1] = builder.xor(total[-1], ones) if wrong else total[-1]
    return builder.finish({z: total})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    made = {
        "add.aig": adder(24), "same.blif": adder(24, backwards=True), "wrong.aag": adder(24, wrong=True),
        "named.aig": adder(24, "x y z"), "wide.aig": adder(25),
    }  # fmt: skip
    for name, netlist in made.items():
        write_netlist(netlist, tmp_path / name)
    return {name: str(tmp_path / name) for name in made}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_equal_circuits(files: dict[str, str]) -> None:
    result = invoke("equal", files["add.aig"], files["same.blif"])
    assert result.exit_code == 0
    assert result.stdout.endswith("proved equal: all 24 output bits\n")
    assert f"{files['add.aig']}: {read_netlist(files['add.aig']).nodes} AND nodes" in result.stdout


def test_a_difference_that_sampling_does_not_meet(files: dict[str, str]) -> None:
    result = invoke("equal", files["add.aig"], files["wrong.aag"])
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert lines[2:] == [
        "different: sum", "for example, where a=0xffffff b=0xffffff:",
        f"  {files['add.aig']}: sum=0xfffffe", f"  {files['wrong.aag']}: sum=0x7ffffe",
    ]  # fmt: skip


def test_words_and_widths(files: dict[str, str]) -> None:
    refused = invoke("equal", files["add.aig"], files["named.aig"])
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "has the words x:24 y:24 -> z:24, not a:24 b:24 -> sum:24; give circuits of the same words" in refused.stderr
    assert invoke("equal", files["add.aig"], files["named.aig"], "--by-position").exit_code == 0
    refused = invoke("equal", files["add.aig"], files["wide.aig"], "--by-position")
    assert refused.exit_code == 2
    assert "it has 50 input and 25 output bits; give a circuit of 48 input and 24 output bits" in refused.stderr
    assert "cannot be read" in invoke("equal", files["add.aig"], "nowhere.aig").stderr


def multiplier(width: int, by_rows: bool) -> Netlist:
    """Partial products added row by row, or column by column: two forms that no solver proves equal soon."""
    interface = parse_interface(f"a:{width} b:{width} -> p:{2 * width}")
    builder = Builder(interface)
    a, b = builder.input("a"), builder.input("b")
    columns = [list[int]() for _ in range(2 * width + 1)]
    for i in range(width):
        for j in range(width):
            columns[i + j].append(builder.and_(a[i], b[j]))
    product: list[int] = []
    for at in range(2 * width):
        column = columns[at] if by_rows else columns[at][::-1]
        while len(column) > 1:
            x, y, z = column.pop(), column.pop(0), column.pop() if column else 0
            half = builder.xor(x, y)
            column.insert(0 if by_rows else len(column), builder.xor(half, z))
            columns[at + 1].append(builder.or_(builder.and_(x, y), builder.and_(half, z)))
        product.append(column[0] if column else 0)
    return builder.finish({"p": product})


def test_a_proof_that_takes_too_long_is_undecided(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("rows.aig", "columns.aig")]
    for path, by_rows in zip(paths, (True, False), strict=True):
        write_netlist(multiplier(24, by_rows), path)
    result = invoke("equal", *paths, "--seconds", "0.3")
    assert result.exit_code == 4
    assert "not decided in time: p" in result.stdout


def test_a_circuit_is_a_black_box_and_its_copy_is_proved(files: dict[str, str], tmp_path: Path) -> None:
    out = str(tmp_path / "again.aig")
    result = invoke("learn", files["add.aig"], "--reference", files["same.blif"], "--json", "--output", out)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (line,) = found["coverage"]
    assert (line["status"], line["reason"]) == ("proved", "proved equal to the reference")
    assert found["reference_and_nodes"] == read_netlist(files["same.blif"]).nodes
    assert found["and_nodes"] <= found["learned_and_nodes"]
    assert invoke("equal", files["add.aig"], out).exit_code == 0


def test_a_reference_of_other_words_is_refused_before_anything_is_learned(files: dict[str, str]) -> None:
    result = invoke("learn", files["add.aig"], "--reference", files["wide.aig"])
    assert result.exit_code == 2
    assert "reference: it has the words a:25 b:25 -> sum:25; give one of the black box's words" in result.stderr


def test_a_reference_that_the_black_box_contradicts(files: dict[str, str]) -> None:
    found = json.loads(invoke("learn", files["add.aig"], "--reference", files["wrong.aag"], "--json").stdout)
    (line,) = found["coverage"]
    assert line["status"] == "sampled"
    assert "what was learned agrees with the black box where a=0xffffff b=0xffffff" in line["reason"]


def test_what_was_learned_wrong_is_shown_by_the_reference(tmp_path: Path) -> None:
    """The baseline never learns an equality of two wide words; the reference says where it is wrong."""
    interface = parse_interface("a:30 b:30 -> same")
    builder = Builder(interface)
    same = 1
    for x, y in zip(builder.input("a"), builder.input("b"), strict=True):
        same = builder.and_(same, builder.xor(x, y) ^ 1)
    path = str(tmp_path / "same.aig")
    write_netlist(builder.finish({"same": [same]}), path)
    result = invoke("learn", path, "--algorithm", "bsd", "--reference", path, "--json")
    (line,) = json.loads(result.stdout)["coverage"]
    assert line["status"] == "speculated"
    assert line["reason"].startswith("wrong where a=0x")


COUNTER = "aag 6 1 2 1 3\n2\n4 9 0\n6 11\n13\n8 2 4\n10 8 6\n12 4 6\ni0 go\nl0 count[0]\nl1 count[1]\no0 last\n"


def test_latches_become_inputs_and_next_values() -> None:
    with pytest.raises(UserError, match="the circuit has 2 latches; give its combinational next-state function"):
        read_aiger(COUNTER.encode())
    netlist = read_aiger(COUNTER.encode(), latches=True)
    assert str(netlist.interface) == "go count:2 -> last count.next:2"
    rows = np.arange(8, dtype=np.uint64).reshape(-1, 1)
    expected = [
        (0 if s0 and s1 else 1) | (1 - (go and s0)) << 1 | (1 - (go and s0 and s1)) << 2
        for s1 in (0, 1) for s0 in (0, 1) for go in (0, 1)
    ]  # fmt: skip
    assert evaluate(netlist, rows)[:, 0].tolist() == expected
    for line, message in (("4 9 0", "4 9 0 1 1"), ("6 11", "6 99")):
        with pytest.raises(UserError, match=r"is not a latch|is beyond the largest"):
            read_aiger(COUNTER.replace(line, message).encode(), latches=True)
