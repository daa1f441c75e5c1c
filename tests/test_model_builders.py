"""Every built-in model at a tiny size: valid, the same to ONNX Runtime, right on two chips; and of its published size."""

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_models import run_onnxruntime
from tapeout.chip.load import load_chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import UserError
from tapeout.frontend.onnx_import import import_onnx
from tapeout.ir import graph as g
from tapeout.ir.interp import interpret
from tapeout.models import TABLE, build, parameters
from tapeout.report.numerics import References, judge, references
from tapeout.runtime.executable import Executable
from tapeout.runtime.inputs import make_inputs

SMALL_IMAGE = {"height": 32, "width": 32, "percent": 25}
TINY_GPT2 = {"layers": 1, "width": 32, "heads": 4, "vocabulary": 50, "positions": 16}
TINY: dict[str, dict[str, Any]] = {
    "resnet50": {"height": 32, "width": 32, "stages": (1, 1), "channels": 8, "classes": 10},
    "mobilenetv3": {**SMALL_IMAGE, "blocks": 5, "classes": 10},
    "efficientnet-b0": {**SMALL_IMAGE, "blocks": 4, "classes": 10},
    "mobilefacenet": {**SMALL_IMAGE, "blocks": 6, "embedding": 16},
    "gpt2": TINY_GPT2,
    "gpt2-decode": TINY_GPT2,
}
BOUND = {"gpt2": {"sequence": 8}}
"""Symbols of the models that have some."""
SIZES = {
    "resnet50": 25_557_032,  # torchvision
    "mobilenetv3": 5_483_032,  # torchvision
    "efficientnet-b0": 5_288_548,  # torchvision
    "gpt2": 124_439_808,
}
"""Published numbers of parameters."""
ROUGHLY = {
    "mobilefacenet": 0.99e6,  # Chen et al. 2018, table 2
}
"""Published numbers that are rounded; 2 % are allowed."""


@cache
def tiny(name: str) -> onnx.ModelProto:
    return build(name, **TINY[name])


@cache
def imported(name: str) -> g.Graph:
    return import_onnx(tiny(name), shapes=BOUND.get(name))


@cache
def judged(name: str) -> tuple[dict[str, Any], References]:
    """Inputs, and what is right for them."""
    inputs = make_inputs(imported(name), 1)
    return inputs, references(imported(name), inputs)


def test_every_model_is_tested() -> None:
    assert set(TINY) == set(TABLE)


@pytest.mark.parametrize("name", TINY)
def test_is_valid(name: str) -> None:
    onnx.checker.check_model(tiny(name), full_check=True)


@pytest.mark.parametrize("name", TINY)
def test_onnxruntime_agrees(name: str) -> None:
    graph, (inputs, right) = imported(name), judged(name)
    states = {s.name: s.initial for s in graph.states}
    found = run_onnxruntime(tiny(name), {**inputs, **states})
    for verdict in judge({k: v for k, v in found.items() if k in right.wide.outputs}, right):
        assert verdict.right, verdict


@pytest.mark.parametrize("chip", ["systolic-128", "mlu370-x4"])
@pytest.mark.parametrize("name", TINY)
def test_runs_right(name: str, chip: str) -> None:
    inputs, right = judged(name)
    loaded = load_chip(chip)
    executable = Executable(compile_graph(imported(name), loaded), loaded)
    outcome = executable.run(inputs)
    for verdict in judge(outcome.outputs, right, executable.states):
        assert verdict.right, verdict
    assert executable.time(outcome.scalars).cycles > 0


@pytest.mark.parametrize("name", TINY)
def test_outputs_have_a_sensible_scale(name: str) -> None:
    _, right = judged(name)
    for value in right.wide.outputs.values():
        assert np.isfinite(value).all()
        assert 1e-3 < np.abs(value).max() < 1e3


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", TINY)
def test_narrow_precisions(name: str, precision: str) -> None:
    model = build(name, **TINY[name], precision=precision)
    onnx.checker.check_model(model, full_check=True)
    graph = import_onnx(model, shapes=BOUND.get(name))
    inputs, right = judged(name)
    given = {v.name: inputs[v.name].astype(v.type.dtype.numpy) for v in graph.inputs}
    for key, value in interpret(graph, given).outputs.items():
        wide = right.wide.outputs[key]
        assert np.abs(value.astype(np.float64) - wide).max() < 0.2 * np.abs(wide).max(), key


@pytest.mark.parametrize("name", SIZES)
def test_has_the_published_size(name: str) -> None:
    assert parameters(name) == SIZES[name]


@pytest.mark.parametrize("name", ROUGHLY)
def test_has_about_the_published_size(name: str) -> None:
    assert abs(parameters(name) / ROUGHLY[name] - 1) < 0.02


def test_counting_draws_nothing() -> None:
    assert parameters("resnet50", **TINY["resnet50"]) == sum(
        int(np.prod(t.dims))
        for t in tiny("resnet50").graph.initializer
        if not t.name.startswith("const_") and not t.name.endswith((".mean", ".variance"))
    )


def test_a_batch_is_its_elements_one_by_one() -> None:
    options = TINY["mobilenetv3"]
    one, two = (import_onnx(build("mobilenetv3", **options, batch=n)) for n in (1, 2))
    inputs = make_inputs(two, 3)
    whole = interpret(two, inputs).outputs["logits"]
    single = interpret(one, {"image": inputs["image"][1:]}).outputs["logits"]
    np.testing.assert_allclose(whole[1:], single, atol=1e-5)


def test_what_does_not_fit_the_memory_is_refused_before_it_is_drawn() -> None:
    with pytest.raises(UserError, match="GB of weights"):
        build("gpt2", vocabulary=10**10)
