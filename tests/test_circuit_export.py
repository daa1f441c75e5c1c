"""Netlists in files: round trips of every format, files of other tools, damaged files, atomic writes."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlists import random_netlist, random_rows
from tapeout.circuit import export
from tapeout.circuit.aiger import read_aiger
from tapeout.circuit.equivalence import check_equal
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.export import proved_file, write_netlist
from tapeout.circuit.names import bit_names, words_of_bits
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.output import netlist_file
from tapeout.circuit.reading import parse_netlist, read_netlist
from tapeout.circuit.words import parse_interface
from tapeout.errors import UserError, VerifyError

SUFFIXES = (".v", ".blif", ".aig", ".aag", ".c")
SEEDS = st.integers(0, 1 << 32)


def odd() -> Netlist:
    """Constants, wires, inverted wires, arrays of single bits, keywords, more than 64 outputs."""
    interface = parse_interface("a:3 s[0] s[1] n7 reg:2 -> x[1].next:2 wire z:70 zero one t[3] t[4]")
    b = Builder(interface)
    a, s0, s1, n, r = (b.input(word.name) for word in interface.inputs)
    gates = [b.xor(a[0], s1[0]), b.or_(n[0], b.and_(a[1] ^ 1, a[2])), b.mux(r[0], s0[0], r[1])]
    outputs = {"x[1].next": [gates[2] ^ 1, a[0]], "wire": [n[0] ^ 1], "zero": [0], "one": [1]}
    outputs |= {"z": [gates[k % 3] ^ (k // 2 % 2) for k in range(70)], "t[3]": [gates[0]], "t[4]": [s0[0]]}
    return b.finish(outputs)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_of_odd_names(suffix: str, tmp_path: Path) -> None:
    netlist, path = odd(), tmp_path / f"odd{suffix}"
    write_netlist(netlist, path)
    again = read_netlist(path)
    assert again.interface == netlist.interface
    assert check_equal(netlist, again).proved
    files = {path.name, "odd.h"} if suffix == ".c" else {path.name}
    assert {file.name for file in tmp_path.iterdir()} == files


@given(SEEDS, st.sampled_from(SUFFIXES), st.lists(st.integers(1, 5), max_size=3))
@settings(max_examples=60, deadline=None)
def test_round_trip(seed: int, suffix: str, widths: list[int]) -> None:
    netlist = random_netlist(seed, widths, (1, 4), 30)
    again = parse_netlist(netlist_file(netlist, suffix), suffix, "file")
    assert again.interface == netlist.interface
    rows = random_rows(netlist.interface, 300, seed)
    assert np.array_equal(evaluate(netlist, rows), evaluate(again, rows))


def test_a_wrong_writer_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a file with another function nor one with other words appears."""
    netlist = odd()
    outputs = netlist.outputs.copy()
    outputs[5] ^= 1
    wrong = Netlist(netlist.interface, netlist.fanins, outputs)
    renamed = Netlist(parse_interface(str(netlist.interface).replace("n7", "n8")), netlist.fanins, netlist.outputs)
    for written, message in ((wrong, "different in z"), (renamed, "reads back as")):
        monkeypatch.setattr(export, "netlist_file", lambda _, *args, written=written: netlist_file(written, *args))
        with pytest.raises(VerifyError, match=message):
            write_netlist(netlist, tmp_path / "odd.v")
    assert not list(tmp_path.iterdir())


def test_old_file_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "kept.aag"
    path.write_text("old")
    with pytest.raises(UserError, match=r"\.txt is not a kind of netlist"):
        write_netlist(odd(), tmp_path / "a.txt")
    with pytest.raises(UserError, match="cannot be written"):
        write_netlist(odd(), tmp_path / "no" / "a.aig")
    assert path.read_text() == "old"
    write_netlist(odd(), path)
    assert path.read_text().startswith("aag ")


# ---- AIGER of other tools


def aag(text: str) -> Netlist:
    return read_aiger(text.encode(), "f.aag")


def test_gates_in_any_order_and_numbering() -> None:
    """The half adder of the format's paper, its gates turned round."""
    netlist = aag("aag 9 2 0 2 3\n10\n12\n6\n8\n6 15 9\n14 11 13\n8 10 12\ni0 x\ni1 y\no0 s\no1 c\nc\nsomebody\n")
    assert str(netlist.interface) == "x y -> s c"
    rows = np.arange(4, dtype=np.uint64).reshape(-1, 1)
    assert evaluate(netlist, rows)[:, 0].tolist() == [0, 1, 1, 2]


def test_words_without_symbols_and_with_strange_ones() -> None:
    assert str(aag("aag 3 3 0 2 0\n2\n4\n6\n2\n5\n").interface) == "i:3 -> o:2"
    text = "aag 4 4 0 2 0\n2\n4\n6\n8\n2\n5\ni0 a[0]\ni1 a[1]\ni2 top/b<3>\ni3 a[7]\no0 a[0]\no1 7up\n"
    assert str(aag(text).interface) == "a:2 top_b_3_ a[7] -> a[0] _7up"
    assert str(aag(text.replace("o1 7up", "o1 top_b_3_")).interface).endswith("-> a[0] top_b_3__2")
    assert aag("aag 0 0 0 1 0\n1").outputs.tolist() == [1]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 4)), unique_by=lambda word: word[0]))
def test_names_of_bits_come_back(words: list[tuple[str, int]]) -> None:
    given_words = parse_interface(f"{' '.join(f'{name}:{width}' for name, width in words)} ->").inputs
    assert words_of_bits(bit_names(given_words), "i", set()) == given_words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends too early"),
        ("hello\n", "f.aag:1: 'hello' is not the header of an AIGER file"),
        ("aag 1 1\n", "is not a header"),
        ("aag 1 1 0 x 0\n2\n", "is not a header"),
        ("aag 2 1 1 0 0\n2\n4 2\n", "has 1 latches"),
        ("aag 1 1 0 0 0 1\n2\n", "properties or constraints"),
        ("aag 1 1 0 1 1\n2\n2\n", "1 variables do not go with 1 inputs and 1 gates"),
        ("aag 900000000 1 0 1 800000000\n2\n2\n", "announces more than the file holds"),
        ("aag 1 1 0 1 0\n2\n9\n", "f.aag:3: literal 9 is beyond the largest variable"),
        ("aag 1 1 0 1 0\n3\n2\n", "literal 3 cannot be defined"),
        ("aag 2 2 0 1 0\n2\n2\n2\n", "defined twice"),
        ("aag 3 1 0 1 2\n2\n4\n4 2 2\n4 2 3\n", "variable 2 is defined twice"),
        ("aag 3 1 0 1 2\n2\n4\n4 6 2\n6 4 2\n", "depends on itself"),
        ("aag 3 1 0 1 1\n2\n4\n4 6 2\n", "variable 3 is read but never defined"),
        ("aag 3 1 0 1 1\n2\n4\n4 6\n", "is not a gate"),
        ("aag 1 1 0 1 0\n2\n2\ni1 x\n", "not a symbol of an input or output"),
        ("aag 1 1 0 1 0\n2\n2\nq\n", "not a symbol of an input or output"),
    ],
)
def test_damaged_ascii_files(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        aag(text)
    assert message in str(caught.value)


@given(SEEDS, st.integers(0, 400), st.integers(0, 255), st.booleans())
@settings(max_examples=150, deadline=None)
def test_damaged_binary_files(seed: int, place: int, byte: int, cut: bool) -> None:
    """A changed or missing byte gives a circuit or a UserError, nothing else."""
    data = bytearray(netlist_file(random_netlist(seed), ".aig"))
    place %= len(data)
    if cut:
        del data[place:]
    else:
        data[place] = byte
    with contextlib.suppress(UserError):
        read_aiger(bytes(data), "f.aig")


# ---- BLIF of other tools


def test_blif_covers() -> None:
    text = """# made by hand
.model m
.inputs a b \\
  c
.outputs f g h k
.names a b c f
1-0 1
01- 1
.names t g   # defined below
0 1
.names a b t
11 0
.names h
1
.names k
.end
"""
    netlist = parse_netlist(text.encode(), ".blif", "m.blif")
    assert str(netlist.interface) == "a b c -> f g h k"
    for row in range(8):
        a, b, c = (row >> bit & 1 for bit in range(3))
        f, g = (a & (1 - c)) | ((1 - a) & b), a & b
        assert int(evaluate(netlist, np.array([[row]], np.uint64))[0, 0]) == f | g << 1 | 4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (".latch a f", "m.blif:3: .latch is not read"),
        (".names a f\n1 1\n.names a f\n1 1", "'f' is defined twice"),
        (".names f f\n1 1", "depends on itself"),
        (".names q f\n1 1", "'q' is never defined"),
        (".names a f\n1 1\n0 0", "both 0 and 1"),
        (".names a f\n11 1", "not a row of a cover of 1 inputs"),
        ("11 1", "belongs to no .names"),
        (".model n", "a second model"),
        (".names", ".names without a signal"),
    ],
)
def test_damaged_blif(lines: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_netlist(f".model m\n.inputs a\n{lines}\n.outputs f\n".encode(), ".blif", "m.blif")
    assert message in str(caught.value)


@pytest.mark.parametrize("suffix", [".v", ".c"])
def test_damaged_text_files(suffix: str) -> None:
    text = netlist_file(odd(), suffix).decode()
    lines = text.splitlines(keepends=True)
    gate = next(i for i, line in enumerate(lines) if " & " in line and " = " in line)
    changed = [
        "".join([*lines[:gate], *lines[gate + 1 :]]),
        text.replace(" & ", " | ", 1),
        text[: len(text) // 2],
        text.replace("assign zero = 1'b0;\n", "").replace("out[73] = (uint64_t)0;\n", ""),
    ]
    for wrong in changed:
        with pytest.raises(UserError, match=r"f\.[vc]"):
            parse_netlist(wrong.encode(), suffix, f"f{suffix}")


def test_not_a_netlist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_netlist(tmp_path / "none.aig")
    with pytest.raises(UserError, match="not a kind of netlist that can be read"):
        parse_netlist(b"", ".vhd", "a.vhd")
    with pytest.raises(UserError, match="not a text file"):
        parse_netlist(b"\xff\xfe", ".v", "a.v")


# ---- other tools read ours


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_c_compiles_with_its_header(tmp_path: Path) -> None:
    netlist = odd()
    write_netlist(netlist, tmp_path / "odd.c")
    main = '#include "odd.h"\n#include <stdio.h>\nint main(void) {\n    uint64_t out[2];\n'
    main += "    for (uint64_t x = 0; x < 256; ++x) {\n        tapeout_evaluate(&x, out, 1);\n"
    main += '        printf("%llu %llu\\n", (unsigned long long)out[0], (unsigned long long)out[1]);\n    }\n}\n'
    (tmp_path / "main.c").write_text(main)
    files = [str(tmp_path / name) for name in ("odd.c", "main.c")]
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "main"), *files], check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    rows = np.arange(256, dtype=np.uint64).reshape(-1, 1)
    assert [list(map(int, line.split())) for line in done.stdout.splitlines()] == evaluate(netlist, rows).tolist()


@pytest.mark.skipif(shutil.which("berkeley-abc") is None, reason="needs Debian's berkeley-abc")
def test_abc_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    netlist = random_netlist(5, (4, 4), (3, 3), 60)
    (tmp_path / "a.blif").write_bytes(proved_file(netlist, ".blif"))
    script = f"read_blif {tmp_path}/a.blif; strash; dc2; write_aiger -s {tmp_path}/b.aig; write_blif {tmp_path}/b.blif"
    subprocess.run(["berkeley-abc", "-q", script], check=True, capture_output=True)
    for name in ("b.aig", "b.blif"):
        again = read_netlist(tmp_path / name)
        assert again.interface == netlist.interface
        assert check_equal(netlist, again).proved
