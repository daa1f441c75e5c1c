"""Another batch than the model's own: each sample's results are those of the model alone."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from onnx import TensorProto, helper

from onnx_models import info, make_model
from strategies import graphs, inputs_for
from tapeout.errors import UserError
from tapeout.frontend.onnx_import import import_onnx
from tapeout.ir import graph as g
from tapeout.ir.batch import with_batch
from tapeout.ir.build import Builder
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType
from tapeout.ir.verify import verify
from tapeout.models import build, choices
from tapeout.runtime.inputs import make_inputs

RNG = np.random.default_rng(7)
RESNET = {"height": 32, "width": 32, "stages": (1, 1), "channels": 4, "classes": 5}
BERT = {"layers": 1, "width": 16, "heads": 2, "sequence": 6, "vocabulary": 30, "positions": 8}
F32 = DType.f32


def each_alone(graph: g.Graph, count: int = 3) -> g.Graph:
    """Holds the batched graph against one run for each sample."""
    made, binding = with_batch(graph, count)
    assert not binding
    verify(made, "batching")
    inputs = make_inputs(made, 1)
    together = interpret(made, inputs)
    for n in range(count):
        own = {v.name: np.split(inputs[v.name], count)[n] for v in graph.inputs}
        for name, wanted in interpret(graph, own).outputs.items():
            found = np.split(together.outputs[name], count)[n]
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    return made


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet50", RESNET),
        ("bert", BERT),
        ("llama", {"layers": 1, "width": 16, "heads": 4, "kv_heads": 2, "head_width": 4, "hidden": 24,
                   "vocabulary": 20, "sequence": 5, "positions": 8}),
        ("vit", {"layers": 1, "width": 16, "heads": 2, "hidden": 32, "height": 32, "width_px": 32}),
        ("pointnet", {"points": 16}),
        ("yolov5s", {"height": 32, "width": 32}),
    ],
)  # fmt: skip
def test_models_of_batch_one(name: str, options: dict[str, object]) -> None:
    known = {k: v for k, v in options.items() if k in choices(name)}
    each_alone(import_onnx(build(name, **known)))


def test_a_recurrent_net() -> None:
    w, r = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 12, 4), (1, 12, 3)))
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r"], ["states", "last"], hidden_size=3),
        helper.make_node("Squeeze", ["last", "zero"], ["y"]),
    ]
    model = make_model(nodes, [info("x", TensorProto.FLOAT, [1, 5, 4])], [onnx.ValueInfoProto(name="y")],
                       {"w": w, "r": r, "zero": np.array([0])})  # fmt: skip
    each_alone(import_onnx(model))


def built(body: Callable[[Builder, g.Value], g.Value], *shape: int) -> g.Graph:
    b = Builder("one")
    b.output("y", body(b, b.input("x", TensorType(F32, shape))))
    return b.finish()


def heads(b: Builder, x: g.Value) -> g.Value:
    """Attention with the batch merged into the heads, as exporters write it."""
    split = b.reshape(b.transpose(b.reshape(x, (1, 5, 2, 4)), (0, 2, 1, 3)), (2, 5, 4))
    scores = b.softmax(b.matmul(split, b.transpose(split, (0, 2, 1))), -1)
    biased = b.add(scores, b.constant(RNG.standard_normal((2, 5, 5)).astype(np.float32)))
    mixed = b.reshape(b.matmul(biased, split), (1, 2, 5, 4))
    return b.reshape(b.transpose(mixed, (0, 2, 1, 3)), (1, 5, 8))


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (heads, (1, 5, 8)),
        (lambda b, x: b.reshape(b.gather(x, b.scalar(0, DType.i64), 0), (1, 12)), (1, 3, 4)),
        (lambda b, x: b.reshape(b.transpose(x, (1, 0)), (6,)), (1, 6)),
        (lambda b, x: b.reshape(b.broadcast(x, (3, 4), (0, 1)), (1, 12)), (1, 4)),
        (lambda b, x: b.matmul(x, b.transpose(x, (1, 0))), (1, 4)),
        (lambda b, x: b.reshape(b.sort(b.reshape(x, (6,)), 0)[0], (1, 6)), (1, 6)),
        (lambda b, x: b.concat([b.constant(np.ones((1, 2, 4), np.float32)), x], 1), (1, 3, 4)),
        (lambda b, x: b.reduce("max", x, [0], keep=True), (1, 4)),
        (lambda b, x: b.pad(b.slice_axis(x, 1, 1, 3), 2.0, [0, 1], [0, 2]), (1, 4)),
        (lambda b, x: b.cumulate("sum", x, 1), (1, 4)),
        (lambda b, x: b.add(x, b.transpose(x, (1, 0))), (1, 1)),
        (lambda b, x: b.gather(b.constant(RNG.standard_normal((5, 4)).astype(np.float32)),
                               b.arg_reduce("max", x, 1), 0), (1, 4)),
        (lambda b, x: b.scatter("add", b.full(0.0, TensorType(F32, (1, 3))), b.constant(np.array([2, 0])),
                                b.slice_axis(x, 1, 0, 2), 1), (1, 4)),
    ],
)  # fmt: skip
def test_shapes_with_the_batch_in_them(body: Callable[[Builder, g.Value], g.Value], shape: tuple[int, ...]) -> None:
    each_alone(built(body, *shape))


def test_a_batch_of_two_becomes_one_of_six() -> None:
    def body(b: Builder, x: g.Value) -> g.Value:
        return b.relu(b.add(b.matmul(x, b.constant(RNG.standard_normal((4, 3)).astype(np.float32))), b.scalar(1, F32)))

    graph = built(body, 2, 4)
    made, _ = with_batch(graph, 6)
    x = RNG.standard_normal((6, 4)).astype(np.float32)
    wanted = np.concatenate([interpret(graph, {"x": part}).outputs["y"] for part in np.split(x, 3)])
    np.testing.assert_allclose(interpret(made, {"x": x}).outputs["y"], wanted, rtol=1e-5)


def test_a_batch_of_two_that_is_mixed_is_refused() -> None:
    graph = built(lambda b, x: b.reduce("sum", x, [0], keep=True), 2, 4)
    with pytest.raises(UserError, match=r"Reduce .* is made for a batch of 2"):
        with_batch(graph, 4)
    with pytest.raises(UserError, match="no input has a first dimension"):
        with_batch(built(lambda b, x: b.unary("exp", x)), 2)


def symbolic(shapes: dict[str, list[int | str | None]]) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", [name], [f"{name}_out"]) for name in shapes]
    inputs = [info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    return make_model(nodes, inputs, [onnx.ValueInfoProto(name=f"{name}_out") for name in shapes])


def test_symbols_are_bound() -> None:
    graph = import_onnx(symbolic({"x": ["N", 3], "y": [None, "sequence"], "z": ["other", 2]}))
    made, binding = with_batch(graph, 5)
    assert made is graph
    assert binding == {"N": 5, "y_0": 5}


@settings(max_examples=300)
@given(graph=graphs(control=True))
def test_any_graph_for_three_samples(graph: g.Graph) -> None:
    """Each input gets a first dimension of 1, and the graph drops it again."""
    b = Builder("framed")
    for s in graph.symbols:
        b.symbol(s.name, s.lo, s.hi)
    made = {v: b.reshape(b.input(v.name, v.type.with_shape((1, *v.type.shape))), v.type.shape) for v in graph.inputs}
    for op in graph.ops:
        made.update(zip(op.outs, b.emit(b.adopted(op, made)), strict=True))
    for name, value in graph.outputs:
        b.output(name, b.reshape(made[value], (1, *value.type.shape)))
    single = b.finish()
    try:
        many, _ = with_batch(single, 3)
    except UserError:  # a number of a sample has no dimension that could hold it
        assume(False)
        return
    verify(many, "batching")
    samples = [{name: a[None] for name, a in inputs_for(graph, n).items()} for n in range(3)]
    together = interpret(many, {name: np.concatenate([s[name] for s in samples]) for name in samples[0]})
    for n, sample in enumerate(samples):
        for name, wanted in interpret(single, sample).outputs.items():
            found = together.outputs[name]
            found = found[n : n + 1] if found.shape != wanted.shape else found  # the same for all samples
            np.testing.assert_allclose(*(a.astype(np.float64) for a in (found, wanted)), rtol=2e-2, atol=1e-3)
