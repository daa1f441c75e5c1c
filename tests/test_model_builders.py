"""Every built-in model: at a tiny size valid, the same to ONNX Runtime, right on two chips; its published size."""

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
from tiny_models import BOUND, TINY, TINY_LLAMA, TINY_MOE, TINY_WORDS

SIZES = {
    "resnet50": 25_557_032,  # torchvision
    "mobilenetv3": 5_483_032,  # torchvision
    "efficientnet-b0": 5_288_548,  # torchvision
    "yolov5s": 7_235_389,  # its repository, 80 classes, before layers are merged
    "dlrm": 540_677_217,  # 33.76 M rows of 16, and both nets
    "gpt2": 124_439_808,
    "llama": 1_235_814_400,  # the following from the published checkpoints
    "qwen3-moe": 30_532_122_624,
    "bert": 109_482_240,
    "vit": 86_567_656,
    "clip": 151_277_313,
    "sd15-text": 123_060_480,
    "sd15-unet": 859_520_964,
    "sd15-vae": 49_490_179 + 20,  # and the convolution in front of the decoder
}
"""Published numbers of parameters."""
LARGER = {
    "Llama 3 8B": (8_030_261_248, {"layers": 32, "width": 4096, "hidden": 14336, "head_width": 128, "tied": False}),
    "Llama 2 7B": (
        6_738_415_616,
        {
            "layers": 32, "width": 4096, "hidden": 11008, "head_width": 128, "tied": False, "kv_heads": 32,
            "vocabulary": 32000,
        },
    ),
}  # fmt: skip
"""Published numbers of parameters of other models of Llama's shape, and the options that make them."""
ROUGHLY = {
    "mobilefacenet": 0.99e6,  # Chen et al. 2018, table 2
    "pointnet": 3.5e6,  # Qi et al. 2016, table 6
    "lstm-acoustic": 8.5e6,  # Miao et al. 2015, section 4
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
        # its kernels, and so its roundings, are chosen for the machine: of ten logits one was over the bound by 3 %
        assert verdict.error.rms <= 2 * verdict.bound.rms, verdict
        assert verdict.error.largest <= 2 * verdict.bound.largest, verdict


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
        assert value.size
        assert np.isfinite(value).all()
        assert 1e-3 < np.abs(value).max() < 2e3  # a box of YOLOv5 has up to 4 x 373 pixels


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


@pytest.mark.parametrize("name", LARGER)
def test_larger_models_have_the_published_size(name: str) -> None:
    size, options = LARGER[name]
    assert parameters("llama", **options) == size


def test_both_parts_of_whisper_have_the_published_size() -> None:
    assert parameters("whisper-encoder") + parameters("whisper-decoder") == 72_593_920


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


def decoded_equals_prefilled(prefill: str, decode: str, **options: Any) -> None:
    """Six tokens, then one more by its position, are a prompt of seven."""
    whole, six = (import_onnx(build(prefill, **{**options, "sequence": n})) for n in (7, 6))
    one = import_onnx(build(decode, **options))
    inputs = make_inputs(whole, 2)
    ids = inputs.pop("input_ids")
    begun = interpret(six, {**inputs, "input_ids": ids[:, :6]})
    step = interpret(one, {"input_ids": ids[:, 6:], "position": np.full(len(ids), 6)}, states=begun.states)
    wanted = interpret(whole, {**inputs, "input_ids": ids}).outputs["logits"]
    assert np.abs(step.outputs["logits"] - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("batch", [1, 2])
def test_decoding_goes_on_from_a_prompt(batch: int) -> None:
    decoded_equals_prefilled("llama", "llama-decode", **{**TINY_LLAMA, "batch": batch})


def test_experts_gathered_for_a_token_are_those_of_a_prompt() -> None:
    decoded_equals_prefilled("qwen3-moe", "qwen3-moe-decode", **TINY_MOE)


def test_whisper_keeps_what_it_heard() -> None:
    decoded_equals_prefilled("whisper-decoder", "whisper-decode", **TINY_WORDS)


def test_four_bit_weights() -> None:
    """Each linear layer reads two weights a byte with a scale for every 16 inputs; the same to ONNX's own reading."""
    model = build("llama", **TINY_LLAMA, weights="int4", block=16)
    onnx.checker.check_model(model, full_check=True)
    stored = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT4]
    assert len(stored) == 7
    assert all(2 * len(t.raw_data) == np.prod(t.dims) for t in stored)
    graph = import_onnx(model)
    inputs = make_inputs(graph, 1)
    right = references(graph, inputs)
    states = {s.name: s.initial for s in graph.states}
    found = run_onnxruntime(model, {**inputs, **states}, optimised=False)
    assert all(v.right for v in judge({"logits": found["logits"]}, right))
    chip = load_chip("systolic-128")
    outcome = Executable(compile_graph(graph, chip), chip).run(inputs)
    assert all(v.right for v in judge(outcome.outputs, right))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama", {"kv_heads": 3}),
        ("llama", {"weights": "int3"}),
        ("llama", {"weights": "int4", "block": 5}),
        ("llama", {"sequence": 17}),
        ("qwen3-moe", {"top_k": 9}),
        ("bert", {"heads": 5}),
        ("vit", {"height": 9}),
        ("clip", {"tower": "third"}),
        ("yolov5s", {"height": 40}),
        ("dlrm", {"rows": ()}),
        ("sd15-unet", {"groups": 7}),
        ("sd15-vae", {"height": 9}),
        ("whisper-encoder", {"frames": 7}),
        ("mobilenetv3", {"precision": "int8"}),
    ],
)
def test_bad_options(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError) as raised:
        build(name, **{**TINY[name], **options})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bert", {"layers": "foo"}, "layers is 'foo'; give a number above 0"),
        ("bert", {"width": 0}, "width is 0; give a number above 0"),
        ("bert", {"layers": (1, 2)}, r"layers is \(1, 2\); give a number above 0"),
        ("resnet50", {"stages": (1, "x")}, "give numbers above 0, such as 1,2,3"),
        ("llama", {"tied": "maybe"}, "tied is 'maybe'; give true or false"),
        ("clip", {"tower": 7}, "tower is 7; give a word, such as both"),
    ],
)
def test_values_that_an_option_cannot_have(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **options)


def test_values_as_the_command_line_gives_them() -> None:
    assert parameters("dlrm", rows=11) == parameters("dlrm", rows=(11,))
    assert parameters("llama", **TINY_LLAMA, tied="false") > parameters("llama", **TINY_LLAMA, tied="true")
