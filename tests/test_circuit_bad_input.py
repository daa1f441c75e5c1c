"""Black boxes that go wrong while they are asked, as a user meets them: one line and exit code 2, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tapeout import _native
from tapeout.errors import UserError

FUNCTIONS = """
import os, signal, sys, time
import numpy as np
from tapeout.circuit.oracle import function_oracle

asked = 0

def late(fault):
    @function_oracle("a:16 b:16 -> s:16 less")
    def box(a, b):
        global asked
        asked += len(a)
        answer = (a + b) & 0xFFFF, a < b
        return fault(*answer) if asked > int(os.environ.get("FINE", "3000")) else answer
    return box

random = np.random.default_rng(7)

def rarely(s, less):
    wrong = random.integers(0, 300, len(s)) == 0
    return s ^ wrong.astype(np.uint64), less

def fails(s, less):
    raise ValueError("out of paper")

crashes = late(lambda s, less: os.kill(os.getpid(), signal.SIGSEGV))
hangs = late(lambda s, less: time.sleep(1000))
wavers = late(rarely)
wide = late(lambda s, less: (s + 70000, less))
leaves = late(lambda s, less: sys.exit("bye"))
fails = late(fails)
fine = late(lambda s, less: (s, less))

@function_oracle("a:22 -> y:8 z")
def constant(a):
    return 5, 0

@function_oracle("-> y:8 z")
def nothing():
    return 5, 1
"""

LIBRARY = """
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
static size_t asked;
static uint64_t seed = 1;
const char *tapeout_interface(void) { return "a:16 b:16 -> s:16 less"; }
int tapeout_evaluate(const uint64_t *in, uint64_t *out, size_t rows) {
    for (size_t i = 0; i < rows; ++i) {
        const uint64_t a = in[i] & 0xffff, b = in[i] >> 16;
        out[i] = ((a + b) & 0xffff) | (uint64_t)(a < b) << 16;
        if (++asked > 5000) { FAULT; }
    }
    return 0;
}
"""
FAULTS = {
    "crashes": "*(volatile int *)8 = 1", "aborts": "abort()", "exits": "exit(0)", "hangs": "for (;;) sleep(1)",
    "wavers": "seed = seed * 6364136223846793005u + 1442695040888963407u; out[i] ^= (seed >> 40) % 300 == 0",
    "wide": "out[i] |= 1 << 17", "fails": "return 7",
}  # fmt: skip


def run(*arguments: str, fine: int = 3000) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tapeout", "learn", *arguments]
    environment = {**os.environ, "FINE": str(fine)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def refused(*arguments: str, fine: int = 3000) -> str:
    done = run(*arguments, fine=fine)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("tapeout: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def box(tmp_path: Path) -> str:
    path = tmp_path / "box.py"
    path.write_text(FUNCTIONS)
    return str(path)


WAVERS = "not deterministic: questions were answered differently when they were asked again"
ENDED = "the process was ended, most likely by the black box; --isolate runs it apart"


@pytest.mark.parametrize(
    ("algorithm", "name", "options", "what"),
    [
        ("exact", "crashes", [], f"{ENDED} (SIGSEGV)"),
        ("bsd", "crashes", ["--isolate"], "was ended by signal SIGSEGV"),
        ("exact", "hangs", ["--timeout", "1"], "no answer within 1 s"),
        ("bsd", "hangs", ["--timeout", "1"], "no answer within 1 s"),
        ("exact", "hangs", ["--timeout", "1", "--isolate"], "no answer within 1 s (0 bytes of an answer"),
        ("exact", "wavers", [], WAVERS),
        ("bsd", "wavers", ["--isolate"], WAVERS),
        ("exact", "wide", [], "word 's' has the value"),
        ("exact", "leaves", [], "raised SystemExit: bye"),
        ("bsd", "fails", [], "raised ValueError: out of paper"),
    ],
)
def test_functions(box: str, algorithm: str, name: str, options: list[str], what: str) -> None:
    message = refused(f"{box}:{name}", "-a", algorithm, *options)
    assert message.startswith(f"tapeout: {box}:{name}: ")
    assert what in message


@pytest.mark.parametrize(
    ("algorithm", "fault", "what"),
    [
        ("exact", "crashes", f"{ENDED} (SIGSEGV)"),
        ("bsd", "aborts", f"{ENDED} (SIGABRT)"),
        ("exact", "exits", f"{ENDED} (it called exit)"),
        ("exact", "hangs", "no answer within 1 s"),
        ("exact", "wavers", WAVERS),
        ("exact", "wide", "bits"),
        ("bsd", "fails", "7"),
    ],
)
def test_libraries(tmp_path: Path, algorithm: str, fault: str, what: str) -> None:
    source, library = tmp_path / "part.c", str(tmp_path / "part.so")
    source.write_text(LIBRARY.replace("FAULT", FAULTS[fault]))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(source)], check=True)
    message = refused(library, "-a", algorithm, "--timeout", "1")
    assert library in message
    assert what in message


@pytest.mark.native
def test_a_watched_black_box_is_asked_again() -> None:
    """The first batch and every 64th behind it; then it is not waited for."""
    rows = np.arange(200, dtype=np.uint64).reshape(-1, 1)
    asked: list[int] = []

    def answer(questions: np.ndarray) -> np.ndarray:
        asked.append(len(questions))
        return questions + np.uint64(len(asked) > 91)

    watched = _native.WatchedOracle(_native.CallbackOracle(64, 64, answer))
    for _ in range(88):
        assert np.array_equal(watched.evaluate(rows), rows)
    assert asked.count(64) == 2
    with pytest.raises(UserError, match="not deterministic"):
        _native.WatchedOracle(_native.CallbackOracle(64, 64, answer)).evaluate(rows)
    assert watched.waiting_s == 0


def test_ctrl_c_ends_a_run_at_once_and_the_checkpoint_stays(box: str, tmp_path: Path) -> None:
    file = tmp_path / "run.jobs"
    command = [sys.executable, "-m", "tapeout", "learn", f"{box}:hangs", "--checkpoint", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=20)
    assert (process.returncode, out, said) == (130, "", "tapeout: stopped\n")
    assert file.exists()


def test_a_command_line_may_end_like_a_function(box: str) -> None:
    command = f"{sys.executable} -m tapeout.circuit.serve {box}:hangs"
    message = refused(command, "--timeout", "1")
    assert message.startswith(f"tapeout: {command}: no answer within 1 s")


def test_a_crash_leaves_the_checkpoint_usable(box: str, tmp_path: Path) -> None:
    """What was learned before the crash is not asked again, and the netlist is that of an undisturbed run."""
    file = str(tmp_path / "run.jobs")
    whole = json.loads(run(f"{box}:fine", "--json").stdout)
    refused(f"{box}:crashes", "--checkpoint", file, fine=1_900_000)
    again = json.loads(run(f"{box}:fine", "--checkpoint", file, "--json").stdout)
    assert again["jobs reused"] > 0
    assert again["and_nodes"] == whole["and_nodes"]
    assert again["coverage"] == whole["coverage"]


def test_a_checkpoint_of_another_black_box_is_not_used(box: str, tmp_path: Path) -> None:
    file = str(tmp_path / "run.jobs")
    first = json.loads(run(f"{box}:constant", "--checkpoint", file, "--json").stdout)
    other = tmp_path / "other.py"
    other.write_text(FUNCTIONS.replace("return 5, 0", "return 6, 0"))
    second = json.loads(run(f"{other}:constant", "--checkpoint", file, "--json").stdout)
    assert second["jobs reused"] == 0
    assert all(line["status"] == "sampled" for found in (first, second) for line in found["coverage"])


@pytest.mark.parametrize("algorithm", ["exact", "bsd"])
def test_constants_no_inputs_and_small_budgets(box: str, algorithm: str) -> None:
    for name, status in (("constant", ("sampled", "speculated")), ("nothing", ("proved",))):
        found = json.loads(run(f"{box}:{name}", "-a", algorithm, "--json").stdout)
        assert found["and_nodes"] == 0
        assert {line["status"] for line in found["coverage"]} <= set(status)
        assert all(test["failures"] == 0 for line in found["coverage"] for test in line["tested"])
    queries = "100" if algorithm == "exact" else "20000"
    for options in (["--budget", "0.01"], ["--queries", queries]):
        found = json.loads(run(f"{box}:fine", "-a", algorithm, *options, "--json", fine=1 << 40).stdout)
        assert {line["status"] for line in found["coverage"]} == {"speculated"}
        assert all("budget" in line["reason"] for line in found["coverage"])


def test_examples_that_contradict_each_other_and_rows_of_a_constant(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("a:4->y:2\n1,2\n2,2\n1,3\n")
    assert "rows contradict each other: equal inputs with different outputs in 2 and 4 (y)" in refused(str(table))
    table.write_text("a:4->y:2\n1,2\n2,2\n9,2\n")
    found = json.loads(run(str(table), "--json").stdout)
    assert found["and_nodes"] == 0
    assert found["coverage"][0]["status"] == "speculated"
