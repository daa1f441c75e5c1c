"""The built-in models: size, scale, and agreement of their imports with ONNX Runtime."""

import time
from typing import Any

import numpy as np
import onnx
import pytest

from onnx_models import run_onnxruntime
from tapeout.errors import UserError
from tapeout.frontend.onnx_import import import_onnx
from tapeout.ir import graph as g
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType
from tapeout.models import build

TINY_RESNET = {"height": 32, "width": 32, "stages": (1, 1, 1, 1), "channels": 8, "classes": 10}
TINY_GPT2 = {"layers": 2, "width": 64, "heads": 4, "vocabulary": 100, "positions": 32}


def parameters(model: onnx.ModelProto, *, without: tuple[str, ...] = ()) -> int:
    weights = [t for t in model.graph.initializer if not t.name.startswith("const_")]
    return sum(int(np.prod(t.dims)) for t in weights if not t.name.endswith(without or ("\0",)))


def image(height: int, width: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, 3, height, width), np.float32)


def test_resnet50_has_the_published_size() -> None:
    model = build("resnet50")
    assert parameters(model, without=(".mean", ".variance")) == 25_557_032
    onnx.checker.check_model(model)


def test_gpt2_has_the_published_size() -> None:
    assert parameters(build("gpt2")) == 124_439_808


def test_builds_and_imports_are_fast() -> None:
    start = time.process_time()
    model = build("resnet50")
    built = time.process_time()
    graph = import_onnx(model)
    assert built - start < 3  # five times the aim: the machine may be busy
    assert time.process_time() - built < 2
    assert len(graph.ops) < 700


def test_same_seed_same_model() -> None:
    first, second = (build("resnet50", **TINY_RESNET).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert build("resnet50", **TINY_RESNET, seed=1).SerializeToString(deterministic=True) != first


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tiny_resnet_agrees_with_onnxruntime(precision: str) -> None:
    model = build("resnet50", **TINY_RESNET, precision=precision)
    want = run_onnxruntime(model, {"image": image(32, 32)}, optimised=precision != "int8")["logits"]
    got = interpret(import_onnx(model), {"image": image(32, 32)}).outputs["logits"]
    # int8 values are whole multiples of one scale: equal, or a rounding tie fell to the other side
    allowed = {"fp32": 1e-5, "int8": 0.02}[precision]
    assert np.abs(got - want).max() <= allowed * np.abs(want).max()


def test_int8_weights_stay_int8() -> None:
    """Each convolution and the matrix product read convert(i8) * scale, small weights like large ones."""
    graph = import_onnx(build("resnet50", **TINY_RESNET, precision="int8"))
    makers = {op.out: op for op in graph.ops}
    weights = [op.w if isinstance(op, g.Conv) else op.rhs for op in graph.ops if isinstance(op, g.Conv | g.Dot)]
    assert len(weights) == 18
    for weight in weights:
        scaled = makers[weight]
        assert isinstance(scaled, g.Binary)
        stored = makers[scaled.x]
        assert isinstance(stored, g.Convert)
        assert stored.x.type.dtype is DType.i8


def test_resnet50_agrees_with_onnxruntime() -> None:
    model = build("resnet50", height=96, width=96)
    want = run_onnxruntime(model, {"image": image(96, 96)})["logits"]
    got = interpret(import_onnx(model), {"image": image(96, 96)}).outputs["logits"]
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_resnet50_is_well_scaled_and_int8_follows_it() -> None:
    float_, int8 = (
        run_onnxruntime(model, {"image": image(96, 96)}, optimised=False)["logits"]
        for model in (build("resnet50", height=96, width=96, precision=p) for p in ("fp32", "int8"))
    )
    assert 0.3 < float_.std() < 3
    assert np.corrcoef(float_.ravel(), int8.ravel())[0, 1] > 0.95


def test_fp16_resnet_is_close_to_fp32() -> None:
    graphs = [import_onnx(build("resnet50", **TINY_RESNET, precision=p)) for p in ("fp32", "fp16")]
    single, half = (
        interpret(graph, {"image": image(32, 32).astype(graph.inputs[0].type.dtype.numpy)}).outputs["logits"]
        for graph in graphs
    )
    assert half.dtype == np.float16
    assert np.abs(single - half).max() < 0.02 * np.abs(single).max()


def empty_cache(model: onnx.ModelProto) -> dict[str, Any]:
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name.startswith("past")}


def test_tiny_gpt2_agrees_with_onnxruntime() -> None:
    model = build("gpt2", **TINY_GPT2)
    ids = np.random.default_rng(2).integers(0, 100, (1, 7))
    want = run_onnxruntime(model, {"input_ids": ids, **empty_cache(model)})
    got = interpret(import_onnx(model), {"input_ids": ids})
    assert np.abs(got.outputs["logits"] - want["logits"]).max() <= 1e-5 * np.abs(want["logits"]).max()
    for name, cache in got.states.items():
        np.testing.assert_allclose(cache, want[name.replace("past", "present")], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_prefill_then_decode_is_prefill_of_one_more(precision: str) -> None:
    prefill, decode = (
        import_onnx(build("gpt2", mode=m, precision=precision, **TINY_GPT2)) for m in ("prefill", "decode")
    )
    ids = np.random.default_rng(3).integers(0, 100, (1, 9))
    begun = interpret(prefill, {"input_ids": ids[:, :8]})
    step = interpret(decode, {"input_ids": ids[:, 8:], "position": np.array([8])}, states=begun.states)
    whole = interpret(prefill, {"input_ids": ids})
    epsilon = {"fp32": 1e-6, "fp16": 4e-3, "bf16": 3e-2}[precision]
    assert (
        np.abs(step.outputs["logits"] - whole.outputs["logits"]).max()
        <= epsilon * np.abs(whole.outputs["logits"]).max()
    )


def test_gpt2_keeps_its_sequence_symbolic_within_bounds() -> None:
    graph = import_onnx(build("gpt2", **TINY_GPT2))
    assert [str(s) for s in graph.symbols] == ["sequence in [1, 32]"]
    assert [s.name for s in graph.states] == ["past_k_0", "past_v_0", "past_k_1", "past_v_1"]
    assert [str(v.type) for _, v in graph.outputs] == ["f32[1,100]"]


def test_a_symbolic_batch() -> None:
    graph = import_onnx(build("resnet50", **TINY_RESNET | {"batch": "batch"}), shapes={"batch": (1, 8)})
    two = interpret(graph, {"image": image(32, 32, 2)}).outputs["logits"]
    one = interpret(graph, {"image": image(32, 32, 2)[1:]}).outputs["logits"]
    assert np.allclose(two[1:], one, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet51", {}),
        ("resnet50", {"depth": 3}),
        ("resnet50", {"precision": "fp8"}),
        ("gpt2", {"mode": "train"}),
        ("gpt2", {"precision": "int8"}),
        ("gpt2", {"width": 10, "heads": 3}),
        ("bert", {"sequence": 513, "layers": 1}),
        ("clip", {"sequence": 78}),
        ("whisper-decoder", {"sequence": 449}),
    ],
)
def test_bad_options(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError) as raised:
        build(name, **options)
    assert "\n" not in str(raised.value)
