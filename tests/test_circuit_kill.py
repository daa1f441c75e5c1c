"""Killed at ten moments and resumed: the same file, byte for byte, from both commands that keep a checkpoint."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from killed_run import KINDS

RUN = Path(__file__).with_name("killed_run.py")
KILLS = 10
Moment = tuple[str, int]
UNIT = """
#include <stddef.h>
#include <stdint.h>
const char *tapeout_interface(void) {
    return "a:8 b:8 s:3 -> add:8 sub:8 and:8 xor:8 less equal min:8 max:8 left:8 odd";
}
int tapeout_concurrent(void) { return 1; }
int tapeout_evaluate(const uint64_t *in, uint64_t *out, size_t rows) {
    for (size_t i = 0; i < rows; ++i) {
        const uint64_t a = in[i] & 255, b = in[i] >> 8 & 255, s = in[i] >> 16 & 7, less = a < b;
        const uint64_t low = less ? a : b, high = less ? b : a;
        out[i] = ((a + b) & 255) | ((a - b) & 255) << 8 | (a & b) << 16 | (a ^ b) << 24 | less << 32
            | (uint64_t)(a == b) << 33 | low << 34 | high << 42 | (a << s & 255) << 50 | ((a ^ b ^ s) & 1) << 58;
    }
    return 0;
}
"""


def run(moment: Moment, options: list[str], command: list[str]) -> int:
    """The exit code of the command, killed at the moment (`after` the 0-th write: never)."""
    line = [sys.executable, str(RUN), moment[0], str(moment[1]), *options, "--", *command]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def finished(checkpoint: Path) -> int:
    base = sqlite3.connect(checkpoint)
    try:
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)
        return base.execute("select count(*) from jobs").fetchone()[0]
    finally:
        base.close()


@pytest.mark.parametrize("command", ["learn", "design"])
def test_killed_at_ten_moments_and_resumed(command: str, tmp_path: Path) -> None:
    (tmp_path / "unit.c").write_text(UNIT)
    library = str(tmp_path / "unit.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, str(tmp_path / "unit.c")], check=True)
    whole, resumed, checkpoint = (tmp_path / name for name in ("whole.aig", "resumed.aig", "run.jobs"))
    arguments = ["learn", library] if command == "learn" else ["design", "rv32ia"]
    options: list[str] = []
    if command == "design":
        reference = tmp_path / "reference.aig"
        run(("after", 0), [], ["learn", library, "--output", str(reference), "--seed", "5"])
        options = ["--reference", str(reference), library]
    run(("after", 0), options, [*arguments, "--output", str(whole)])
    moments = random.Random(command)
    torn = 0
    for kill in range(KILLS):
        kind = KINDS[kill % len(KINDS)]
        before = finished(checkpoint) if checkpoint.exists() else 0
        count = moments.randint(1, 2)
        code = run((kind, count), options, [*arguments, "--checkpoint", str(checkpoint), "--output", str(resumed)])
        assert code == -signal.SIGKILL
        assert not resumed.exists()
        journal = checkpoint.with_name("run.jobs-journal")
        torn += journal.exists() and journal.stat().st_size > 0  # a write was under way; what reads next undoes it
        assert finished(checkpoint) - before == (count if kind == "after" else count - 1)
    assert torn >= KILLS // 3
    page = tmp_path / "page.html"
    last = ["--checkpoint", str(checkpoint), "--output", str(resumed), "--report", str(page)]
    run(("after", 0), options, [*arguments, *last])
    assert ("proved equal to the reference" in page.read_text()) == (command == "design")
    assert "directed at the regions found" in page.read_text()
    assert resumed.read_bytes() == whole.read_bytes()
