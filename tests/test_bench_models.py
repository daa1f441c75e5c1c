"""`tapeout bench models`: which runs there are; that they are kept, gone on with and compared; what they amount to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tapeout.bench import cases, runs
from tapeout.bench.table import render
from tapeout.cli import app
from tapeout.errors import UserError

SMALL = ["-m", "pointnet", "-m", "bert", "--batch", "1", "--precision", "bf16", "--length", "5"]


def bench(*arguments: str, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["bench", "models", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout, result.stderr


def keys(**choice: Any) -> list[str]:
    return [case.key for case in cases.cases(cases.Choice(**choice))]


def test_runs_follow_from_models_and_chips() -> None:
    found = keys(models=["resnet50"], chips=["systolic-128"], batches=[8])
    precisions = [key.split("--precision ")[1].split()[0] for key in found]
    assert set(precisions) == {"bf16", "int8"}  # what the array has
    sizes = [
        tuple(int(n) for n in key.split("--height ")[1].split(" --width ")) for key in found[:: len(set(precisions))]
    ]
    assert sizes == [(96, 96), (224, 224), (720, 1280), (1080, 1920)]
    assert keys(models=["gpt2"], chips=["mlu370-x4"], precisions=["fp16"], batches=[1]) == [
        f"gpt2 --chip mlu370-x4 --precision fp16 --batch 1 --set sequence={n}" for n in (1, 17, 128, 1000)
    ]  # it has 1024 positions
    found = keys(models=["bert"], chips=["a100"], batches=[1], lengths=[5])
    offered = {key.split("--precision ")[1].split()[0] for key in found}
    assert offered == {"tf32", "fp16", "bf16", "int8", "int4w"}
    few = {"chips": ["a100"], "precisions": ["fp16"], "batches": [1]}
    assert [
        key.split("16 ")[1] for key in keys(models=["yolov5s"], images=[(96, 96), (720, 1280)], own_image=False, **few)
    ] == ["--batch 1 --height 96 --width 96", "--batch 1 --height 736 --width 1280"]  # multiples of 32
    assert [key.split("batch 1 ")[1] for key in keys(models=["llama", "llama-decode"], lengths=[128, 4096], **few)] == [
        "--set sequence=128",
        "--set sequence=4096 --set positions=4096",
        "--set positions=128",
        "--set positions=4096",
    ]
    (only,) = keys(models=["dlrm"], chips=["mlu370-x4"], precisions=["fp32"], batches=[3])
    assert only == "dlrm --chip mlu370-x4 --precision fp32 --batch 3"


def test_a_sample_is_even_and_the_same_each_time() -> None:
    found = list(cases.cases(cases.Choice(["resnet50"], ["mlu370-x4"])))
    few = cases.sampled(found, 5)
    assert few == cases.sampled(found, 5)
    assert [found.index(case) for case in few] == [n * len(found) // 5 for n in range(5)]
    assert cases.sampled(found, 10_000) == found


@pytest.mark.parametrize("text", ["96", "96x", "0x5", "axb", "1x2x3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="is no size of an image"):
        cases.image(text)


def test_a_table_is_kept_gone_on_with_and_compared(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    small = [*SMALL, "-c", "systolic-128", "--table", str(table)]
    text, told = bench(*small, "--timing-only")
    assert text.startswith("2 runs of 2 models on 1 chips: 2 timed\n")
    assert "attainable bound reached: " in text
    assert "1/2 timed pointnet --chip systolic-128" in told
    head, records = runs.read(table)
    assert head["fingerprint"] == runs.fingerprint()
    assert all(record["cycles"] > 0 and record["cpu_s"] > 0 for record in records.values())

    again, told = bench(*small, "--timing-only")
    assert told == ""  # all is there
    assert again == text

    lines = table.read_text().splitlines()  # the version before was quicker, and one run was killed as it was written
    first = json.loads(lines[1])
    before = {**json.loads(lines[0]), "fingerprint": "another"}
    slower = {**first, "cycles": first["cycles"] // 2}
    table.write_text("\n".join([json.dumps(before), json.dumps(slower), lines[2][:50]]))
    compared, told = bench(*small, "--timing-only")
    assert told.count(" timed ") == 2
    assert "of 1 runs that it has too: 1 changed" in compared
    assert f"+100.0 % cycles: {first['key']}" in compared
    assert list(runs.read(runs.last_of(table))[1]) == [first["key"]]


def test_half_a_line_costs_one_run(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    small = [*SMALL, "-c", "systolic-128", "--table", str(table), "--timing-only"]
    bench(*small)
    whole = runs.read(table)[1]
    table.write_text(table.read_text()[:-30])  # killed while the last run was written
    _, told = bench(*small)
    assert told.count(" timed ") == 1
    assert runs.read(table)[1].keys() == whole.keys()


def test_older_tables_are_kept_where_a_newer_one_has_no_such_run(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    head = {**runs.provenance("command"), "fingerprint": "old"}
    for records in ([record("a", cycles=1), record("b", cycles=2)], [record("b", cycles=3)]):
        table.write_text("\n".join(json.dumps(line) for line in (head, *records)) + "\n")
        runs.run_all([], table, "command")
    kept = runs.read(runs.last_of(table))[1]
    assert {key: kept[key]["cycles"] for key in kept} == {"a": 1, "b": 3}


def test_runs_that_end_without_a_report(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    large = ["-m", "gpt2", "-c", "hanguang-800", "--batch", "1", "--precision", "int8", "--table", str(table)]
    text, _ = bench(*large, "--length", "1", "--timing-only")
    assert "1 refused" in text
    assert "the chip has" in text  # the reason, then the run
    assert "  gpt2 --chip hanguang-800 --precision int8 --batch 1 --set sequence=1" in text
    case = next(cases.cases(cases.Choice(["resnet50"], ["mlu370-x4"])))
    late = runs.run_case(case, True, runs.Limits(seconds=0.3), set())
    assert late["status"] == "late"
    starved = runs.run_case(case, True, runs.Limits(memory_bytes=50 << 20), set())
    assert starved["status"] == "failed"


@pytest.mark.parametrize(("text", "message"), [("", "is no table"), ('{"schema": "other"}\n', "is no table")])
def test_other_files_are_refused_and_kept(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "notes.txt"
    table.write_text(text)
    result = CliRunner().invoke(app, ["bench", "models", *SMALL, "-c", "systolic-128", "--table", str(table)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert table.read_text() == text


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C leaves what was done, one line, and no process."""
    table = tmp_path / "table.jsonl"
    command = [sys.executable, "-m", "tapeout", "bench", "models", *SMALL, "-c", "systolic-128", "--table", str(table)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        assert run.stderr is not None
        assert "1/2" in run.stderr.readline()
        time.sleep(0.3)
        run.send_signal(signal.SIGINT)
        assert run.stderr.read().endswith("tapeout: stopped\n")
        assert run.wait(30) == 130
    assert len(runs.read(table)[1]) == 1
    mine = [p for p in Path("/proc").iterdir() if p.name.isdecimal() and _is_child_of(p, run.pid)]
    assert mine == []


def _is_child_of(process: Path, parent: int) -> bool:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1]) == parent
    except (OSError, ValueError):
        return False


def record(key: str, status: str = "right", ratio: float = 0.5, **more: Any) -> dict[str, Any]:
    timed = {
        "cycles": 1000,
        "attainable": {"ratio": ratio},
        "tool_s": {"compile": 1.0, "timing": 0.5},
        "peak_bytes": 1 << 30,
    }
    return {
        "key": key,
        "model": key.split(maxsplit=1)[0],
        "chip": "c",
        "status": status,
        "peak_bytes": 1 << 30,
        **timed,
        **more,
    }


def test_what_the_text_says() -> None:
    lost = {"vector units alone": 30.0, "no engine": 70.0}
    lines = render(
        [
            record("a 1", ratio=0.9), record("a 2", ratio=0.4), record("b", ratio=0.1, lost=lost),
            {"key": "c", "model": "c", "chip": "c", "status": "failed", "reason": "tapeout: internal error: x"},
        ],
        {"a 1": record("a 1", status="wrong"), "a 2": record("a 2", cycles=800)},
    ).splitlines()  # fmt: skip
    assert lines[0] == "4 runs of 3 models on 1 chips: 3 right, 1 failed"
    assert lines[1:3] == ["failed, 1: tapeout: internal error: x", "  c"]
    assert lines[3] == "attainable bound reached: 0.330 (geometric mean), 0.100 to 0.900"
    assert "  0.4 to 0.5     1 ########################################" in lines
    at = lines.index("below 0.3: 1, with the shares of the cycles beyond the bound")
    assert lines[at + 1 : at + 3] == ["  0.100 b", "        no engine 70 %, vector units alone 30 %"]
    assert "compile and timing: median 1.50 s, worst 1.5 s (a 1)" in lines
    assert "since the last table, of 2 runs that it has too: 2 changed" in lines
    assert lines[-2:] == ["  wrong before, right now: a 1", "  +25.0 % cycles: a 2"]


def test_nothing_is_done_where_nothing_was_asked(tmp_path: Path) -> None:
    assert os.environ["TAPEOUT_CACHE"] == "off"
    assert runs.run_all([], tmp_path / "t.jsonl", "command") == {}
