"""The command line: reports, files, traces, and one line for whatever is wrong."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

import tapeout
from onnx_models import info, make_model
from tapeout.chip.load import PRESETS
from tapeout.cli import Precision, app
from tapeout.ir.precision import PRECISIONS
from tapeout.models import build

RESNET = "resnet50 --height 32 --width 32 --set stages=1,1,1,1 --set channels=4 --set classes=10".split()
OPTIONS = "--set layers=1 --set width=16 --set heads=2 --set vocabulary=30 --set positions=8".split()
GPT2 = ["gpt2", *OPTIONS, "--set", "sequence=4"]
ONE, MANY = ["--chip", "systolic-128"], ["--chip", "mlu370-x4"]


def invoke(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tapeout", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def refused(*arguments: str, code: int = 2) -> str:
    """The one line that says what is wrong."""
    result = invoke(*arguments, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("tapeout: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_help_is_instant() -> None:
    """Fastest of three: other work on the machine must not fail it."""
    spent: list[float] = []
    for _ in range(3):
        begin = time.perf_counter()
        assert shell("--help").returncode == 0
        spent.append(time.perf_counter() - begin)
    assert min(spent) < 0.6
    script = "import sys; sys.argv = ['tapeout', '--help']; import tapeout.cli; print('numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_public_names() -> None:
    for name in tapeout.__all__:
        assert getattr(tapeout, name) is not None
    assert set(tapeout.__all__) <= set(dir(tapeout))
    with pytest.raises(AttributeError, match="nothing"):
        _ = tapeout.nothing


def test_version_chips_models() -> None:
    assert tapeout.__version__ in invoke("--version").stdout
    assert "systolic-128" in invoke("chips").stdout
    one = invoke("chips", "mlu370-x4").stdout
    assert "nram" in one
    assert "datasheet" in one
    assert "gpt2-decode" in invoke("models").stdout


@pytest.mark.parametrize("chip", [ONE, MANY], ids=lambda c: c[1])
def test_report(chip: list[str]) -> None:
    text = invoke("run", *RESNET, *chip).stdout
    for word in ("Latency", "Floor", "Attainable", "inferences/s", "compulsory", "Peak", "matrix", "conv1", "right"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 100
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_json_report() -> None:
    report = json.loads(invoke("run", *GPT2, *MANY, "--json").stdout)
    assert (report["schema"], report["version"], report["right"]) == ("tapeout.run", 2, True)
    assert report["binding"] == {"sequence": 4}
    assert 0 < report["floor"]["cycles"] <= report["attainable"]["cycles"] <= report["cycles"]
    assert report["floor"]["ratio"] == pytest.approx(report["floor"]["cycles"] / report["cycles"])
    assert [e["name"] for e in report["engines"]] == ["LD", "ST", "MV", "MM", "VE"]
    assert {v["name"] for v in report["verdicts"]} == {"logits", "state past_k_0", "state past_v_0"}
    assert sum(k["share"] for k in report["kernels"]) <= 1.001


def test_timing_only_gives_the_same_cycles() -> None:
    full = json.loads(invoke("run", *GPT2, *ONE, "--json").stdout)
    timed = json.loads(invoke("run", *GPT2, *ONE, "--json", "--timing-only").stdout)
    assert timed["cycles"] == full["cycles"]
    assert timed["verdicts"] is None
    assert "not checked" in invoke("run", *GPT2, *ONE, "--no-check", "--exact", "--strict").stdout


def test_inputs_and_outputs(tmp_path: Path) -> None:
    given, first, second = tmp_path / "in.npz", tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(given, input_ids=np.array([[3, 1, 2, 5, 7]]))
    invoke("run", "gpt2", *OPTIONS, *ONE, "--inputs", str(given), "--outputs", str(first), "--json")
    level = ["--run-at", "graph", "--outputs", str(second)]
    invoke("run", "gpt2", *OPTIONS, *ONE, "--inputs", str(given), *level)
    with np.load(first) as a, np.load(second) as b:
        assert set(a.files) == set(b.files) == {"logits", "past_k_0", "past_v_0"}
        np.testing.assert_allclose(a["logits"], b["logits"], atol=1e-4)
        assert a["past_k_0"][0, :, 4].any()
        assert not a["past_k_0"][0, :, 5:].any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz", "in.npz"]


@pytest.mark.parametrize("stage", ["graph", "canonical", "kernels", "schedules", "tiles", "program"])
def test_emit(stage: str, tmp_path: Path) -> None:
    target = tmp_path / "stage.txt"
    invoke("run", *GPT2, *ONE, "--emit", stage, "--emit-to", str(target))
    text = target.read_text()
    assert invoke("run", *GPT2, *ONE, "--emit", stage).stdout == text
    assert len(text.splitlines()) > 5


def test_disasm(tmp_path: Path) -> None:
    text = invoke("disasm", *GPT2, *MANY).stdout
    assert text.startswith("program ")
    saved = tmp_path / "program.txt"
    saved.write_text(text)
    assert invoke("disasm", str(saved)).stdout == text
    saved.write_text(text[: len(text) // 2])
    assert refused("disasm", str(saved))
    saved.write_bytes(b"\xff\xfe\x00")
    assert "not a program" in refused("disasm", str(saved))


@pytest.mark.parametrize("level", ["graph", "canonical", "kernels", "tiles", "program"])
def test_run_at(level: str) -> None:
    assert "right" in invoke("run", *GPT2, *ONE, "--run-at", level).stdout


@pytest.mark.parametrize("packed", [True, False])
def test_trace(packed: bool, tmp_path: Path) -> None:
    """Valid JSON, every track named, and no two slices of a track at the same time."""
    path = tmp_path / ("trace.json.gz" if packed else "trace.json")
    report = json.loads(invoke("run", *GPT2, *MANY, "--trace", str(path), "--json").stdout)
    raw = path.read_bytes()
    events = json.loads(gzip.decompress(raw) if packed else raw)["traceEvents"]
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    tracks: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for e in events:
        if e["ph"] == "X":
            tracks[e["pid"], e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
    assert set(tracks) <= named
    assert len({pid for pid, _ in named}) == 8
    for slices in tracks.values():
        slices.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(slices))
    assert max(end for slices in tracks.values() for _, end in slices) <= report["cycles"]


# ---- a model of one's own


def save(path: Path, op: str = "Relu", domain: str = "", shape: Sequence[int | str] = ("n", 4)) -> Path:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], domain=domain)], "own", [x], [y])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def test_own_model(tmp_path: Path) -> None:
    model = str(save(tmp_path / "own.onnx"))
    assert "own" in invoke("run", model, *ONE, "--set", "n=3").stdout
    report = json.loads(invoke("run", model, *ONE, "--shape", "x=6x4", "--json").stdout)
    assert report["dram"]["compulsory"]["inputs"] == 6 * 4 * 4
    assert "--set n=N" in refused("run", model, *ONE)
    assert "is for built-in models" in refused("run", model, *ONE, "--height", "8")


def test_precision_of_any_model(tmp_path: Path, nets: str) -> None:
    assert tuple(Precision) == PRECISIONS
    onnx.save(build("resnet50", height=32, width=32, stages=(1, 1), channels=4, classes=10), tmp_path / "resnet.onnx")
    np.savez(tmp_path / "in.npz", image=np.ones((1, 3, 32, 32), np.float32))
    for model in (str(tmp_path / "resnet.onnx"), f"{nets}:pair"):
        wide = json.loads(invoke("run", model, *MANY, "--json", "--timing-only").stdout)
        for precision in ("fp16", "int8", "int4w"):
            given = ["--inputs", str(tmp_path / "in.npz")] if "onnx" in model else []
            arguments = ["run", model, *MANY, "--json", "--precision", precision]
            report = json.loads(invoke(*arguments, *given).stdout)
            assert report["right"] is True
            timed = json.loads(invoke(*arguments, "--timing-only").stdout)
            assert timed["cycles"] == report["cycles"]  # scales of activations are not measured for that
            weights = report["dram"]["compulsory"]["weights"] / wide["dram"]["compulsory"]["weights"]
            assert weights < (0.6 if precision == "fp16" else 0.4)
    assert "no tf32" in refused("run", f"{nets}:pair", *ONE, "--precision", "tf32")


def test_batch_of_any_model(tmp_path: Path, nets: str) -> None:
    """A symbol is bound, a number is rewritten; each model's multiply-accumulates grow with it."""
    symbolic, fixed = str(save(tmp_path / "own.onnx")), tmp_path / "resnet.onnx"
    report = json.loads(invoke("run", symbolic, *ONE, "--batch", "6", "--json").stdout)
    assert report["dram"]["compulsory"]["inputs"] == 6 * 4 * 4
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"])]  # no affine shape: the import needs the number
    made = make_model(nodes, [info("x", TensorProto.FLOAT, ["n", 6])], [onnx.ValueInfoProto(name="y")],
                      {"to": np.array([4, -1])})  # fmt: skip
    onnx.save(made, tmp_path / "pinned.onnx")
    assert json.loads(invoke("run", str(tmp_path / "pinned.onnx"), *ONE, "--batch", "2", "--json").stdout)["right"]
    onnx.save(build("resnet50", height=32, width=32, stages=(1, 1), channels=4, classes=10), fixed)
    for model, batch, times in ((str(fixed), 3, 3), (f"{nets}:pair", 6, 3)):
        one = json.loads(invoke("run", model, *ONE, "--json", "--timing-only").stdout)
        more = json.loads(invoke("run", model, *ONE, "--json", "--batch", str(batch)).stdout)
        assert more["right"] is True
        assert more["batch"] == batch
        assert more["macs"] == times * one["macs"]
    mixed = make_model([helper.make_node("ReduceSum", ["x"], ["y"])], [info("x", TensorProto.FLOAT, [2, 4])],
                       [onnx.ValueInfoProto(name="y")])  # fmt: skip
    onnx.save(mixed, tmp_path / "mixed.onnx")
    assert "made for a batch of 2" in refused("run", str(tmp_path / "mixed.onnx"), *ONE, "--batch", "4")


# ---- what is wrong is said in one line


def test_bad_models(tmp_path: Path) -> None:
    whole = build("gpt2", layers=1, width=16, heads=2, vocabulary=30, positions=8).SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "garbage.onnx").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("cut.onnx", "garbage.onnx", "empty.onnx", "missing.onnx"):
        assert name in refused("run", str(tmp_path / name), *ONE)
    odd = save(tmp_path / "odd.onnx", "Frobnicate", "com.example", (2, 4))
    assert "Frobnicate" in refused("run", str(odd), *ONE)
    assert "resnet50" in refused("run", "resnet", *ONE)


def test_bad_chips(tmp_path: Path) -> None:
    text = (PRESETS / "systolic-128.toml").read_text()
    chip = tmp_path / "chip.toml"
    for bad in (text[:200], text.replace("cores = 1", "cores = 0"), text.replace("1.0 GHz", "1.0 parsec"), "\x00"):
        chip.write_text(bad)
        assert "chip.toml" in refused("run", *GPT2, "--chip", str(chip))
    assert "systolic-128" in refused("run", *GPT2, "--chip", "systolic")
    chip.write_text(text.replace('"16 GiB"', '"1 KiB"'))
    assert "DRAM" in refused("run", *GPT2, "--chip", str(chip))


def test_bad_inputs(tmp_path: Path) -> None:
    given, out = tmp_path / "in.npz", tmp_path / "out.npz"
    arguments = ["run", "gpt2", *OPTIONS, *ONE, "--inputs", str(given), "--outputs", str(out)]
    for arrays in (
        {"input_ids": np.zeros((1, 9), np.int64)},
        {"input_ids": np.zeros(4, np.int64)},
        {"input_ids": np.zeros((1, 4), np.float32)},
        {"ids": np.zeros((1, 4), np.int64)},
    ):
        np.savez(given, **arrays)
        refused(*arguments)
    given.write_bytes(given.read_bytes()[:100])
    refused(*arguments)
    given.write_text("no arrays")
    refused(*arguments)
    given.unlink()
    refused(*arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "sequence=0"], ["--set", "sequence=99"], ["--set", "sequence"], ["--set", "speed=3"],
        ["--shape", "input_ids=1xfour"], ["--shape", "input_ids=1x2x3"], ["--shape", "image=1x4"], ["--batch", "2"],
        ["--precision", "int8"], ["--timing-only", "--outputs", "x.npz"], ["--emit-to", "x"],
        ["--run-at", "graph", "--json"], ["--outputs", "missing/x.npz"], ["--trace", "missing/x.json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_options(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused("run", "gpt2", *OPTIONS, *ONE, *arguments)
    assert not list(tmp_path.iterdir())


def test_wrong_usage() -> None:
    for arguments in (["run", "gpt2"], ["run", "gpt2", *ONE, "--frob"], ["frob"]):
        result = shell(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("tapeout: ")
        assert result.stderr.count("\n") == 1
    assert shell("run", "nothing", *ONE).returncode == 2


def test_a_bug_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("first\nsecond")

    monkeypatch.setattr("tapeout.report.request.load", broken)
    monkeypatch.setattr("tapeout.report.session.load", broken)
    assert "internal error: ValueError: first second" in refused("run", *GPT2, *ONE, code=1)


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C: one line, exit code 130, nothing left behind."""
    out = tmp_path / "out.npz"
    command = [sys.executable, "-m", "tapeout", "run", "gpt2", *ONE, "--outputs", str(out)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr.strip()) == (130, "", "tapeout: stopped")
    assert not list(tmp_path.iterdir())


# ---- modules that a function makes

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(4, width), nn.Dropout(), nn.Linear(width, 3)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))

def pair(width=8):
    return Net(width), (torch.randn(2, 4),)

def broken():
    raise RuntimeError("first\\nsecond")

number = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the present folder."""
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_a_factory_of_a_module(nets: str) -> None:
    cases = (
        (2 * 56, [f"{nets}:pair"]),
        (2 * 56, [f"{nets}.py:pair"]),
        (2 * 112, [f"{nets}:pair", "--set", "width=16"]),
        (5 * 56, [f"{nets}:Net", "--shape", "x=5x4"]),
    )
    for macs, arguments in cases:
        report = json.loads(invoke("run", *arguments, *ONE, "--json").stdout)
        assert report["right"] is True
        assert report["macs"] == macs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}:Net"], "give --shape x="),
        (["{}:Net", "--shape", "y=2"], "no input 'y'"),
        (["{}:number"], "name a function"),
        (["{}:broken"], "first second"),
        (["{}:nothing"], "no 'nothing'"),
        (["{}.py:nothing"], "no 'nothing'"),
        (["no.such:factory"], "no module 'no'"),
        (["no_such.py:factory"], "no such file"),
        (["{}:pair", "--set", "height=3"], "no symbol 'height'"),
        (["{}:"], "package.module:factory"),
        ([":pair"], "package.module:factory"),
    ],
)
def test_a_factory_that_is_none(nets: str, arguments: list[str], said: str) -> None:
    assert said in refused("run", *(a.format(nets) for a in arguments), *ONE)
