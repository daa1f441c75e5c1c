"""`learn` and `tapeout learn`: what is stated of a netlist, and the files, read back by other programs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pages import check_page
from tapeout.circuit.coverage import Status, ask_again, error_bound, judge, word_failures
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.examples import make_examples
from tapeout.circuit.learn import bit_names, learn
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.oracle import FunctionOracle, LibraryOracle, random_rows
from tapeout.circuit.output import netlist_file
from tapeout.circuit.sampling import sparse_rows, structured_rows
from tapeout.circuit.words import parse_interface, parse_words, unpack
from tapeout.cli import app
from tapeout.errors import UserError

BLACK_BOX = """
from tapeout.circuit.oracle import function_oracle
import numpy as np

@function_oracle("a:6 b:6 -> sum:7 less")
def add(a, b):
    return a + b, a < b

@function_oracle("a:32 b:32 -> y")
def equal(a, b):
    return a == b

@function_oracle("op:3 a:12 b:12 -> y:12")
def unit(op, a, b):
    moved = a << (b & 7)
    return np.select([op == 0, op == 1, op == 2, op == 3], [a + b, a & b, moved, a - b], a ^ b) & 0xFFF

@function_oracle("-> y:3")
def constant():
    return 5

def plain(a):
    return a

@function_oracle("a:8 -> y:8")
def noise(a):
    return np.random.default_rng().integers(0, 256, len(a))

@function_oracle("a:8 -> y:8")
def wide(a):
    return a * 2

@function_oracle("a:8 -> y:8")
def hangs(a):
    import time
    time.sleep(60)

@function_oracle("a:8 -> y:8")
def crashes(a):
    import os
    os.kill(os.getpid(), 11)
"""


@pytest.fixture
def box(tmp_path: Path) -> str:
    path = tmp_path / "box.py"
    path.write_text(BLACK_BOX)
    return str(path)


def invoke(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["learn", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(*arguments: str) -> str:
    result = invoke(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


# ---- coverage


def test_bound_is_the_exact_binomial_one() -> None:
    assert error_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert error_bound(0, 10**9) == pytest.approx(2.9957e-9, rel=1e-3)
    assert error_bound(3, 20) == pytest.approx(0.3437, abs=1e-3)  # a table of Clopper-Pearson limits, one-sided 95 %
    assert error_bound(20_000, 100_000) == pytest.approx(0.2021, abs=1e-3)
    assert error_bound(5, 5) == error_bound(0, 0) == 1


def test_failures_are_counted_for_each_word() -> None:
    wrong = np.array([[0], [0b1], [0b110], [0b1000], [0b1001]], np.uint64)
    assert word_failures(wrong, parse_words("a b:2 c d:9")) == [2, 1, 2, 0]
    assert bit_names(parse_interface("a -> x y:2")) == ["x", "y[0]", "y[1]"]


def test_coverage_states() -> None:
    """Wrong: speculated, whatever else is known; all inputs: proved; guesses stay guesses."""
    interface = parse_interface("a:4 -> x:4 y")
    oracle = FunctionOracle(lambda a: (a, a == 3), interface)
    builder = Builder(interface)
    wrong = builder.finish({"x": builder.input("a"), "y": [0]})
    whole, tested = ask_again(wrong, oracle)
    x, y = judge(interface, whole, tested, {})
    assert (x.status, x.tested[0].rows, y.status, y.failures) == (Status.proved, 16, Status.speculated, 1)
    (x, _) = judge(interface, False, tested, {"x": "a guess"})
    assert (x.status, x.reason) == (Status.speculated, "a guess")
    (x, _) = judge(interface, False, tested, {})
    assert x.status == Status.sampled


def test_samplers_meet_what_uniform_rows_do_not() -> None:
    interface = parse_interface("a:32 b:32 c:3 -> y")
    rows = structured_rows(np.random.default_rng(1), 4000, interface)
    bits = unpack(rows, 67)
    assert 100 < (bits[:, :32] == bits[:, 32:64]).all(axis=1).sum() < 2000
    assert bits[:, 64:].any()
    sparse = unpack(sparse_rows(np.random.default_rng(1), 4000, interface), 67).sum(axis=1)
    assert (sparse <= 2).sum() > 100
    assert (sparse >= 65).sum() > 100
    assert structured_rows(np.random.default_rng(1), 5, parse_interface("-> y")).shape == (5, 0)


def test_rare_events_show_in_the_coverage() -> None:
    """What the published algorithm never learns is found by the structured rows, and reported."""
    learned = learn(lambda a, b: a == b, "a:32 b:32 -> y", algorithm="bsd")
    (coverage,) = learned.coverage
    failures = {test.distribution: test.failures for test in coverage.tested}
    assert failures["uniform"] == 0 < failures["structured"]
    assert coverage.status == Status.speculated
    assert "1 constants that only samples support" in coverage.reason


def test_learn_refuses() -> None:
    add = FunctionOracle(lambda a, b: a + b, "a:4 b:4 -> s:5")
    examples = make_examples("a -> y", np.array([[1]], np.uint64), np.array([[1]], np.uint64))
    for options, what in (
        ({"algorithm": "magic"}, "algorithm 'magic' is unknown"),
        ({"algorithm": "bsd", "budget_s": 0}, "a budget of 0 s leaves no time"),
        ({"algorithm": "bsd", "budget_queries": 9}, "does not reach the first layer"),
        ({"algorithm": "bsd", "checkpoint": "x"}, "bsd cannot go on from a file"),
        ({"algorithm": "bsd", "max_nodes": 9}, "for example sets only"),
    ):
        with pytest.raises(UserError, match=what):
            learn(add, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no output word"):
        learn(lambda a: (), "a ->", algorithm="bsd")
    assert learn(examples).netlist.interface == examples.interface


# ---- files


def odd_netlist() -> Netlist:
    """Constants, wires, inverted wires, words of one bit, names that no format likes, more than 64 outputs."""
    interface = parse_interface("a:3 state[0]:2 n7 -> y[0].next:2 reg z:70 zero one")
    builder = Builder(interface)
    a, s, n = (builder.input(word.name) for word in interface.inputs)
    gates = [builder.xor(a[0], s[1]), builder.or_(n[0], builder.and_(a[1] ^ 1, a[2]))]
    wires = [gates[k % 2] ^ (k // 2 % 2) for k in range(70)]
    return builder.finish({"y[0].next": [gates[0] ^ 1, a[0]], "reg": [n[0] ^ 1], "z": wires, "zero": [0], "one": [1]})


@pytest.mark.skipif(shutil.which("berkeley-abc") is None, reason="an independent judge: Debian's berkeley-abc")
def test_files_agree_with_each_other(tmp_path: Path) -> None:
    """ABC reads BLIF and binary AIGER as the same function."""
    netlist = odd_netlist()
    for suffix in (".blif", ".aig"):
        (tmp_path / f"odd{suffix}").write_bytes(netlist_file(netlist, suffix))
    script = f"cec {tmp_path}/odd.aig {tmp_path}/odd.blif"
    done = subprocess.run(["berkeley-abc", "-c", script], capture_output=True, text=True, check=True)
    assert "Networks are equivalent" in done.stdout


def aiger(netlist: Netlist, rows: np.ndarray) -> list[int]:
    """Outputs by reading the ASCII AIGER, as Python integers."""
    lines = netlist_file(netlist, ".aag").decode().splitlines()
    _, _, inputs, _, outputs, nodes = lines[0].split()
    places = [int(line) for line in lines[1 + int(inputs) : 1 + int(inputs) + int(outputs)]]
    gates = [line.split() for line in lines[1 + int(inputs) + int(outputs) :][: int(nodes)]]
    result: list[int] = []
    for row in rows:
        value = {0: 0, 1: 1}
        for bit in range(int(inputs)):
            value[2 * bit + 2] = int(row[0]) >> bit & 1
            value[2 * bit + 3] = 1 - value[2 * bit + 2]
        for target, a, b in gates:
            value[int(target)] = value[int(a)] & value[int(b)]
            value[int(target) + 1] = 1 - value[int(target)]
        result.append(sum(value[literal] << bit for bit, literal in enumerate(places)))
    return result


def test_ascii_aiger_and_c(tmp_path: Path) -> None:
    """The C file is a black box that answers as the netlist does, for all inputs."""
    netlist = odd_netlist()
    rows = np.arange(64, dtype=np.uint64).reshape(-1, 1)
    wanted = evaluate(netlist, rows)
    assert aiger(netlist, rows) == [int(low) | int(high) << 64 for low, high in wanted]
    (tmp_path / "odd.c").write_bytes(netlist_file(netlist, ".c"))
    library = tmp_path / "odd.so"
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", str(library), str(tmp_path / "odd.c")], check=True)
    oracle = LibraryOracle(library)
    assert str(oracle.interface) == str(netlist.interface)
    assert np.array_equal(oracle.evaluate(rows), wanted)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="an independent judge: Debian's iverilog")
def test_verilog_simulates(tmp_path: Path) -> None:
    netlist = odd_netlist()
    (tmp_path / "odd.v").write_bytes(netlist_file(netlist, ".v", "odd"))
    bench = r"""module bench; reg [5:0] x; wire [1:0] y; wire w; wire [69:0] z; wire zero, one; integer i;
      odd odd(.a(x[2:0]), .\state[0] (x[4:3]), .\n7 (x[5]), .\y[0].next (y), .\reg (w), .z(z), .zero(zero),
              .one(one));
      initial for (i = 0; i < 64; i = i + 1) begin x = i; #1 $display("%b", {one, zero, z, w, y}); end
    endmodule"""
    (tmp_path / "bench.v").write_text(bench)
    files = [str(tmp_path / name) for name in ("odd.v", "bench.v")]
    subprocess.run(["iverilog", "-o", str(tmp_path / "bench"), *files], check=True)
    done = subprocess.run(["vvp", str(tmp_path / "bench")], capture_output=True, text=True, check=True)
    wanted = evaluate(netlist, np.arange(64, dtype=np.uint64).reshape(-1, 1))
    assert [int(line, 2) for line in done.stdout.split()] == [int(low) | int(high) << 64 for low, high in wanted]


def test_unknown_file_kind() -> None:
    with pytest.raises(UserError, match=r"\.vhd is not a kind of netlist; use \.v, "):
        netlist_file(odd_netlist(), ".vhd")


# ---- the command


def test_learn_summary_json_report_and_netlist(box: str, tmp_path: Path) -> None:
    out, page = tmp_path / "add.c", tmp_path / "add.html"
    arguments = [f"{box}:add", "--algorithm", "bsd", "--seed", "3", "--output", str(out), "--report", str(page)]
    text = invoke(*arguments).stdout
    assert "a:6 b:6 -> sum:7 less" in " ".join(text.split())
    assert text.count("proved") == 2
    found = json.loads(invoke(*arguments, "--json").stdout)
    assert found["algorithm"] == "bsd"
    assert found["seed"] == 3
    assert [line["status"] for line in found["coverage"]] == ["proved", "proved"]
    assert [output["name"] for output in found["outputs"]][-2:] == ["sum[6]", "less"]
    assert f"{found['and_nodes']:,} AND nodes" in text
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "add.so"), str(out)], check=True)
    rows = random_rows(np.random.default_rng(1), 500, 12)
    a, b = rows & np.uint64(63), rows >> np.uint64(6)
    assert np.array_equal(LibraryOracle(tmp_path / "add.so").evaluate(rows), a + b | (a < b).astype(np.uint64) << 7)
    check_page(page.read_text(), ["Coverage", "Learning curve", "Written by hand", "sum[6]: ", "proved"])


def test_page_of_the_exact_learner(box: str, tmp_path: Path) -> None:
    """Regions, diagrams, the rows directed at them, both sizes, a curve, and what was known beforehand."""
    page = tmp_path / "page.html"
    found = json.loads(invoke(f"{box}:unit", "--report", str(page), "--json").stdout)
    text = page.read_text()
    chosen = next(line for line in found["structure"] if line.startswith("inputs that choose"))
    assert "op[" in chosen
    check_page(text, [chosen, "directed at the regions found", "nodes of its diagrams", "ANDs that it depends on now"])
    check_page(text, ["the last found nothing wrong", "orders tried:", "polyline", "levels", "proved equal to it"])
    assert f"{found['learned_and_nodes']:,} AND nodes; minimised in" in text
    (line,) = found["outputs"]
    assert line["leaves"] > 1
    assert line["diagram_nodes"] > 0
    assert any(fact.startswith("y where op") for fact in found["structure"])
    assert [queries for queries, _ in found["curve"]][-1] == found["queries"]


def test_learn_from_examples(tmp_path: Path) -> None:
    lines = ["a:4,b:4->s:5", *(f"{a},{b},{a + b}" for a in range(16) for b in range(0, 16, 3))]
    table = tmp_path / "add.csv"
    table.write_text("\n".join(lines))
    page = tmp_path / "page.html"
    text = invoke(str(table), "--report", str(page), "--output", str(tmp_path / "add.aig")).stdout
    assert "bit 4 of a + b (a, b)" in text
    check_page(page.read_text(), ["bit 4 of a + b", "readings of words", "96"])
    table.write_text("\n".join([*lines, "3,0,4"]))
    message = "equal inputs with different outputs in 20 and 98 (s); correct them, or leave out one row of each pair"
    assert f"rows contradict each other: {message}" in refused(str(table))


def test_constants_and_no_inputs(box: str) -> None:
    found = json.loads(invoke(f"{box}:constant", "-a", "bsd", "--json").stdout)
    assert found["and_nodes"] == 0
    assert found["coverage"][0]["status"] == "proved"
    assert found["coverage"][0]["tested"][0]["rows"] == 1


def test_speculation_is_reported(box: str) -> None:
    text = invoke(f"{box}:equal", "-a", "bsd").stdout
    assert "speculated" in text
    assert "constants that only samples support" in " ".join(text.split())


def test_budget_of_queries_is_reported(box: str) -> None:
    found = json.loads(invoke(f"{box}:add", "-a", "bsd", "--queries", "12000", "--json").stdout)
    assert found["queries"] <= 12000
    assert any("cut by the budget" in line["reason"] for line in found["coverage"])


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("noise", [], "not deterministic"),
        ("wide", [], "'y' has the value"),
        ("hangs", ["--timeout", "0.5"], "no answer within 0.5 s"),
        ("hangs", ["--timeout", "0.5", "--isolate"], "no answer within 0.5 s"),
        ("crashes", [], "was ended by signal SIGSEGV"),
        ("plain", [], "the words of the function are not known"),
        ("nothing", [], "there is no 'nothing'"),
        ("add", ["--budget", "0"], "leaves no time"),
        ("add", ["--queries", "10"], "does not reach the first layer"),
        ("add", ["--output", "x.vhd"], ".vhd is not a kind of netlist"),
        ("add", ["--output", "/nowhere/x.v"], "/nowhere"),
        ("add", ["-a", "magic"], "algorithm 'magic' is unknown"),
    ],
)
def test_bad_input(box: str, name: str, options: list[str], what: str) -> None:
    assert what in refused(f"{box}:{name}", "-a", "bsd", *options)


def test_executable_that_dies_while_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "dies.py"
    path.write_text(
        "import sys\nprint('tapeout-oracle 1 a:30 -> y:30', flush=True)\nleft = 6\n"
        "while head := sys.stdin.buffer.read(8):\n"
        "    data = sys.stdin.buffer.read(8 * int.from_bytes(head, 'little'))\n"
        "    left -= 1\n    if not left: sys.exit('out of paper')\n"
        "    sys.stdout.buffer.write(head + data); sys.stdout.buffer.flush()\n"
    )
    message = refused(f"{sys.executable} {path}", "-a", "bsd")
    assert "ended with exit code 1" in message
    assert "saying: out of paper" in message
