"""Cycles without values: weights without contents give the program that drawn ones give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir import mapped
from tapeout.models import build, build_apart
from tapeout.report.request import Request
from tapeout.report.session import Session
from tiny_models import TINY_GPT2, TINY_LLAMA, TINY_MOE

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {**TINY_GPT2, "sequence": 8},
    "llama": TINY_LLAMA,
    "qwen3-moe-decode": TINY_MOE,
    "resnet50": {"stages": "1,1", "channels": 8, "classes": 10},
    "lstm-acoustic": {"frames": 4, "features": 6, "layers": 2, "cells": 8, "phones": 7},
}
LLAMA_INT4 = {**TINY_LLAMA, "weights": "int4", "block": 16}


def session(model: str, sets: dict[str, Any], chip: str, precision: str, values: bool) -> Session:
    size = {"height": 32, "width": 32} if model == "resnet50" else {}
    options = {**size, "precision": precision}
    return Session(Request(model, options, [f"{k}={v}" for k, v in sets.items()]), chip, values=values)


def stand_ins(graph: g.Graph) -> int:
    return sum(isinstance(op, g.Constant) and mapped.is_stand_in(op.data) for op in graph.ops)


def compare(model: str, sets: dict[str, Any], chip: str, precision: str, folder: Path) -> None:
    drawn, empty = (session(model, sets, chip, precision, values) for values in (True, False))
    assert not stand_ins(drawn.graph)
    assert stand_ins(empty.graph) or (model, precision) == ("resnet50", "int8")  # rounds its weights itself
    cycles = drawn.time(None).cycles
    schedules = set(folder.rglob("*.json"))
    assert empty.time(None).cycles == cycles
    assert set(folder.rglob("*.json")) == schedules, "both find the same entries of the schedule cache"
    if precision != "int8":  # else scales were measured
        assert empty.stage("program") == drawn.stage("program")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Weights of tiny models count as large; a schedule cache of their own."""
    monkeypatch.setattr(mapped, "STAND_IN_ELEMENTS", 256)
    monkeypatch.setenv("TAPEOUT_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4w"])
@pytest.mark.parametrize("model", MODELS)
def test_the_program_is_that_of_drawn_weights(model: str, precision: str, small: Path) -> None:
    compare(model, MODELS[model], "mlu370-x4", precision, small)


@pytest.mark.parametrize("chip", ["kunlun-1", "a100"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_on_other_chips(chip: str, precision: str, small: Path) -> None:
    compare("llama", TINY_LLAMA, chip, precision, small)
    compare("llama", LLAMA_INT4, chip, precision, small)


def test_weights_larger_than_the_machine_take_no_memory() -> None:
    graph = session("qwen3-moe", {}, "h200", "bf16", values=False).graph
    constants = [op.data for op in graph.ops if isinstance(op, g.Constant)]
    assert sum(c.nbytes for c in constants) > 60e9
    assert sum(c.nbytes for c in mapped_once(constants)) < 1e9


def mapped_once(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [mapped.without_repeats(a)[0] for a in arrays]


def test_a_chip_too_small_for_them_is_refused() -> None:
    with pytest.raises(UserError, match="use at least 4 chips"):
        session("llama", {"layers": 200, "sequence": 1}, "kunlun-1", "fp32", values=False).time(None)


def test_weights_beside_a_model_are_those_in_it(small: Path) -> None:
    whole, apart = build("llama", **LLAMA_INT4), build_apart("llama", **LLAMA_INT4)
    assert len(apart.weights) > 5
    assert not any(t.HasField("raw_data") for t in apart.model.graph.initializer if t.name in apart.weights)
    assert apart.whole() == whole
    assert not apart.weights
