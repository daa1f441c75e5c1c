"""Random chips, and presets with a few numbers changed, that run small models and random graphs: what goes wrong there?

    python benchmarks/random_runs.py models --seeds 0:200          small built-in models on random chips
    python benchmarks/random_runs.py presets --seeds 0:200         the same on the presets
    python benchmarks/random_runs.py graphs --seeds 0:20           random graphs on random small chips, 50 for each seed

Each run is a process of its own. It is *right* where values keep to the numerics contract, in another order of
commands too, no bound is broken and time is the same with steady loops skipped; *refused* with one line that says why;
*wrong*, *crashed* (also a broken invariant or a race) or *late*. Each becomes a line of `--out`, and the chip file of
whatever is not right is put beside it. Exit code 1 where anything is wrong, crashed or late. Not part of the test run.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import resource
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from compiled import run_everywhere
from random_chips import changed_preset, chip_table, extreme_chip, toml, whole_chip
from strategies import chips, graphs
from tapeout.chip.load import load_chip, parse_chip, presets
from tapeout.chip.spec import Chip
from tapeout.errors import UserError
from tapeout.ir.types import DType
from tapeout.report.request import Request
from tapeout.report.session import Session
from tiny_models import BOUND, TINY

LENGTHS = (1, 2, 5, 7, 17, 33)
OWN = {
    "bert": ("sequence",), "clip": ("sequence",), "sd15-text": ("sequence",), "sd15-unet": ("sequence",),
    "llama": ("sequence",), "qwen3-moe": ("sequence",), "gpt2": ("sequence",), "whisper-decoder": ("sequence",),
    "pointnet": ("points",), "lstm-acoustic": ("frames",), "whisper-encoder": ("frames",),
}  # fmt: skip
"""Options that are a length."""
IMAGES = {
    "resnet50": 1, "mobilenetv3": 1, "efficientnet-b0": 1, "yolov5s": 32, "vit": 8, "clip": 8, "sd15-unet": 16,
    "sd15-vae": 8,
}  # fmt: skip
"""Models of any height and width, in multiples of this."""
BATCHES = (1, 2, 3, 5)
PRESETS = st.sampled_from([load_chip(name) for name in presets()])


@st.composite
def large_chips(draw: Callable) -> Chip:
    """Chips of up to many cores, and such with extreme numbers."""
    pick = lambda items: draw(st.sampled_from(items))  # noqa: E731
    return whole_chip(pick) if pick((True, False)) else parse_chip(toml(extreme_chip(pick)), "drawn")


WHOLE = large_chips()
FLOATS = (DType.f32, DType.f16, DType.bf16)
WORDS = {"width": (64, 96, 192), "vocabulary": (131, 1000), "layers": (1, 2)}
LARGER: dict[str, dict[str, tuple[Any, ...]]] = {
    "resnet50": {"stages": ((1, 1, 1, 1), (2, 1)), "channels": (16, 24, 64), "classes": (131,)},
    "mobilenetv3": {"percent": (50, 100), "blocks": (9, 15)},
    "efficientnet-b0": {"percent": (50, 100), "blocks": (8, 16)},
    "mobilefacenet": {"percent": (50, 100), "blocks": (9,)},
    "yolov5s": {"channels": (16, 24), "classes": (80,)},
    "pointnet": {"points": (100, 257), "channels": (16, 32)},
    "dlrm": {"rows": ((200, 3000, 5, 70, 9), (11,)), "hots": (1, 7), "bottom": ((40, 8), (64, 16)), "top": ((100, 1),)},
    "gpt2": {**WORDS, "positions": (129,), "sequence": (65, 100)},
    "gpt2-decode": {**WORDS, "positions": (129, 200)},
    "llama": {**WORDS, "hidden": (100, 256), "positions": (129,), "sequence": (65, 100)},
    "llama-decode": {**WORDS, "hidden": (100, 256), "positions": (129, 200)},
    "qwen3-moe": {**WORDS, "hidden": (40, 96), "sequence": (16,)},
    "qwen3-moe-decode": {**WORDS, "hidden": (40, 96), "positions": (65,)},
    "bert": {**WORDS, "hidden": (100, 256), "sequence": (65, 100)},
    "vit": {"channels": (64, 96), "hidden": (100, 256), "layers": (1, 2), "classes": (131,)},
    "clip": {"channels": (64, 96), "text_channels": (32, 64), "vocabulary": (1000,), "embedding": (40,)},
    "sd15-text": {"channels": (64, 96), "layers": (1, 2), "sequence": (65, 77)},
    "sd15-unet": {"channels": (32, 48), "text": (40,), "sequence": (17, 77)},
    "sd15-vae": {"channels": (16, 32)},
    "whisper-encoder": {"width": (64, 96), "frames": (60, 200), "mels": (16, 80)},
    "whisper-decoder": {**WORDS, "sound": (50, 100)},
    "whisper-decode": {**WORDS, "sound": (50, 100), "positions": (65,)},
    "lstm-acoustic": {"frames": (9, 20), "features": (40,), "cells": (20, 33, 64), "phones": (46,)},
}
"""Sizes of every second run, whose kernels have many tiles."""
PRECISIONS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "i8", "int4w": "i8", "tf32": "tf32"}
Found = dict[str, Any]


def isolated(work: Callable[[], Found], seconds: float) -> Found:
    """What `work` returns in a process of its own, or how it ended."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CPU, (ceil(seconds), ceil(seconds)))
        with os.fdopen(write, "w") as out:
            out.write(json.dumps(_told(work)))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    _, status, usage = os.wait4(child, 0)
    took = round(usage.ru_utime + usage.ru_stime, 1)
    if text:
        return {**json.loads(text), "seconds": took}
    late = took >= 0.9 * seconds  # what is counted falls short of the limit by a little
    return {"status": "late" if late else "crashed", "reason": f"ended with status {status}", "seconds": took}


def _told(work: Callable[[], Found]) -> Found:
    try:
        return work()
    except UserError as error:
        return {"status": "refused", "reason": str(error)}
    except AssertionError as error:
        return {"status": "wrong", "reason": _last(error)}
    except Exception as error:  # noqa: BLE001 whatever it is, it is a finding
        return {"status": "crashed", "reason": f"{type(error).__name__}: {_last(error)}"}


def _last(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{' '.join(str(error).split())[:400]} ({Path(frame.filename).name}:{frame.lineno})"


def run_model(request: Request, chip: Chip | str, seed_: int) -> Found:
    """One model for values, in a random order as well, and for time."""
    session = Session(request, chip, seed=seed_)
    outputs, states, scalars = session.values()
    verdicts = session.judge(outputs, states)
    executable = session.executable
    executable.reset()
    other = executable.run(session.inputs, fuzz_seed=seed_)
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, other.outputs[name], err_msg="another order")
    trace = session.time(scalars)
    assert trace.cycles == executable.time(scalars, skip=False).cycles, "skipping changes the time"
    summary = session.summary(trace, verdicts)
    bounds = summary.floor.cycles, summary.attainable.cycles
    assert summary.cycles + 1 >= bounds[1] >= bounds[0] * 0.999, f"{summary.cycles} cycles with bounds of {bounds}"
    ends = {"cycles": summary.cycles, "times": {k: round(v, 1) for k, v in session.seconds.items()}}
    if wrong := [str(v) for v in verdicts if not v.right]:
        return {"status": "wrong", "reason": wrong[0], **ends}
    return {"status": "right", **ends}


def small_model(rng: random.Random, names: list[str], chip: Chip) -> Request:
    """A model at a small size, most of its sizes drawn."""
    name = rng.choice(names)
    options = dict(TINY[name])
    sets = dict(BOUND.get(name, {}))
    for key in OWN.get(name, ()):
        length = rng.choice(LENGTHS)
        (sets if key in sets else options)[key] = min(length, 16) if "positions" in options else length
        if name == "whisper-decoder":
            options["sequence"] = min(length, 8)
        elif name == "whisper-encoder":
            options["frames"] = 2 * length
    larger = rng.random() < 0.5
    if larger:
        for key, values in LARGER[name].items():
            (sets if key in sets else options)[key] = rng.choice(values)
    if name in IMAGES:
        unit = IMAGES[name]
        sizes = (7, 9, 16, 31, 33, 40) if unit == 1 else (unit, 2 * unit, 3 * unit)
        if larger and name != "yolov5s":
            sizes = (64, 65, 97) if unit == 1 else (unit, 6 * unit)
        options |= {"height": rng.choice(sizes), "width": rng.choice(sizes)}
    asked = {k: options.pop(k) for k in ("height", "width") if k in options}
    fitting = [p for p, element in PRECISIONS.items() if element in chip.matrix.geometry]
    everywhere = ["fp32", "fp16", "bf16", "int8", "int4w"]
    precision = rng.choice(fitting * 2 + everywhere)
    batch = options.pop("batch", 1) if rng.random() < 0.2 else rng.choice(BATCHES)
    options.pop("batch", None)
    pairs = [f"{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in (options | sets).items()]
    return Request(name, {"batch": batch, "precision": precision, **asked}, pairs)


def command(request: Request, chip: str) -> str:
    """The same on the command line."""
    flags = [f"--{name} {value}" for name, value in request.options.items()]
    return " ".join(["tapeout run", request.model, "-c", chip, *flags, *(f"--set {s}" for s in request.sets)])


def models(seeds: range, out: Path, seconds: float, kind: str, names: list[str]) -> None:
    for number in seeds:
        rng = random.Random(number)
        if kind == "presets":
            file = rng.choice(presets())
        else:
            kind_of_chip = rng.choice((changed_preset, extreme_chip, lambda pick: chip_table(whole_chip(pick))))
            table = kind_of_chip(rng.choice)
            file = str(out / f"chip{number}.toml")
            Path(file).write_text(toml(table))
        chip = load_chip(file)
        request = small_model(rng, names, chip)
        found = isolated(lambda request=request, chip=chip, number=number: run_model(request, chip, number), seconds)
        keep(out, {"seed": number, "command": command(request, file), **found})
        if found["status"] == "right" and kind != "presets":
            Path(file).unlink()


def random_graphs(seeds: range, out: Path, seconds: float, kind: str, names: list[str]) -> None:
    for number in seeds:
        _graphs_of(number, out, seconds)


def _graphs_of(number: int, out: Path, seconds: float) -> None:
    count = 0
    extent, ops = ((11, 8), (29, 20), (70, 6))[number % 3]
    drawn = graphs(states=True, dtypes=FLOATS, extent=extent, max_ops=ops, control=number % 5 == 0)
    machines = (chips(), chips(), WHOLE, PRESETS)[number % 4]

    @seed(number)
    @settings(
        max_examples=50, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(graph=drawn, chip=machines)
    def run(graph: Any, chip: Chip) -> None:
        nonlocal count
        count += 1

        def work() -> Found:
            run_everywhere(graph, chip, seed=number)
            return {"status": "right"}

        found = isolated(work, seconds)
        keep(out, {"seed": number, "command": f"graph {number}-{count}", **found})
        if found["status"] != "right":
            (out / f"graph{number}-{count}.pickle").write_bytes(pickle.dumps((graph, chip, number)))

    run()


TALLY: Counter[str] = Counter()


def keep(out: Path, record: Found) -> None:
    TALLY[record["status"]] += 1
    with (out / "runs.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    if record["status"] not in ("right", "refused"):
        print(record["status"], record["command"], record["reason"], flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("models", "presets", "graphs"))
    parser.add_argument("--seeds", default="0:100", help="FIRST:END")
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of one run, before it is late")
    parser.add_argument("--out", type=Path, default=Path("build/random-runs"), help="a folder for what is found")
    parser.add_argument("-m", "--model", action="append", help="of these only")
    given_ = parser.parse_args()
    given_.out.mkdir(parents=True, exist_ok=True)
    first, end = (int(part) for part in given_.seeds.split(":"))
    drive = random_graphs if given_.kind == "graphs" else models
    drive(range(first, end), given_.out, given_.seconds, given_.kind, given_.model or list(TINY))
    print(dict(TALLY))
    return int(any(TALLY[status] for status in ("wrong", "crashed", "late")))


if __name__ == "__main__":
    sys.exit(main())
