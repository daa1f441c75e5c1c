"""Any graph in another precision: right by the numerics contract on chips, near ONNX Runtime's f32 by what the types
cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper

from onnx_models import info, make_model, run_onnxruntime
from strategies import graphs, inputs_for
from tapeout.chip.load import load_chip
from tapeout.compiler.pipeline import canonical_form, compile_graph
from tapeout.errors import UserError
from tapeout.frontend.onnx_import import import_onnx
from tapeout.ir import graph as g
from tapeout.ir.bind import bind_graph, infer_binding
from tapeout.ir.build import Builder
from tapeout.ir.interp import interpret
from tapeout.ir.precision import PRECISIONS, with_precision
from tapeout.ir.retype import retype
from tapeout.ir.types import DType, TensorType
from tapeout.ir.verify import verify
from tapeout.models import build, choices
from tapeout.report.numerics import error, judge, references
from tapeout.runtime.executable import Executable
from tapeout.runtime.inputs import fit_inputs, make_inputs

RNG = np.random.default_rng(3)
MODELS: dict[str, dict[str, Any]] = {
    "resnet50": {"height": 32, "width": 32, "stages": (1, 1), "channels": 8, "classes": 16},
    "bert": {"layers": 1, "width": 64, "heads": 2, "hidden": 64, "sequence": 8, "vocabulary": 50, "positions": 8},
    "mobilenetv3": {"height": 32, "width": 32, "classes": 8},
}
COST = {"fp32": 1e-5, "tf32": 3e-3, "fp16": 5e-3, "bf16": 4e-2, "int8": 0.1, "int4w": 0.4}
"""Distance (rms, relative) from f32 that a precision may bring: some tens of its units."""


def model_of(name: str, **options: Any) -> onnx.ModelProto:
    return build(name, **{k: v for k, v in MODELS[name].items() if k in choices(name)}, **options)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_models_against_onnxruntime_and_on_a_chip(name: str, precision: str) -> None:
    model, chip = model_of(name), load_chip("a100" if precision == "tf32" else "mlu370-x4")
    graph = import_onnx(model)
    inputs = make_inputs(graph)
    made, chip = with_precision(graph, precision, chip, inputs)
    verify(made, precision)
    own = {v.name: inputs[v.name].astype(v.type.dtype.numpy) for v in made.inputs}
    reference = references(made, own)
    for name_, wanted in run_onnxruntime(model, inputs).items():
        assert error(reference.narrow.outputs[name_], wanted.astype(np.float64)).rms < COST[precision]
    found = Executable(compile_graph(made, chip), chip).run(own).outputs
    for verdict in judge(found, reference):
        assert verdict.right, verdict


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def kinds(graph: g.Graph, kind: type[g.OpBase]) -> list[DType]:
    return [op.outs[0].type.dtype for op in g.walk(graph.ops) if isinstance(op, kind)]


def norm_then_gemm() -> onnx.ModelProto:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "s", "b"], ["n"], name="norm"),
        helper.make_node("Gemm", ["n", "w", "c"], ["h"], name="gemm"),
        helper.make_node("Mul", ["h", "h"], ["q"], name="square"),
        helper.make_node("ReduceSum", ["q", "axes"], ["t"], name="sum"),
        helper.make_node("Softmax", ["h"], ["p"], name="soft"),
    ]
    stored = {"s": weights(16), "b": weights(16), "w": weights(16, 8) * 99, "c": weights(8), "axes": np.array([1])}
    outputs = [onnx.ValueInfoProto(name=n) for n in ("t", "p")]
    return make_model(nodes, [info("x", TensorProto.FLOAT, [4, 16])], outputs, stored)


def test_what_an_operation_computes_inside_stays_wide() -> None:
    graph = import_onnx(norm_then_gemm())
    made = retype(graph, DType.f16)
    assert set(kinds(made, g.Dot)) == {DType.f32}  # the bias is added before the sum is rounded
    dot = next(op for op in made.ops if isinstance(op, g.Dot))
    assert {v.type.dtype for v in g.operands(dot)} == {DType.f16}
    assert {op.out.type.dtype for op in made.ops if isinstance(op, g.Unary)} == {DType.f32}  # rsqrt and exp
    assert {v.type.dtype for _, v in made.outputs} == {DType.f16}
    inputs = make_inputs(made)
    large = interpret(made, {"x": inputs["x"]}).outputs
    assert np.isfinite(large["p"]).all()
    squares = next(op.out for op in made.ops if op.source == "square" and isinstance(op, g.Binary))
    assert squares.type.dtype is DType.f32  # beyond f16, and only a sum reads it


def test_finite_numbers_stay_finite() -> None:
    b = Builder("masked")
    x = b.input("x", TensorType(DType.f32, (3,)))
    low = b.constant(np.array([np.finfo(np.float32).min, -np.inf, 1e30], np.float32))
    b.output("y", b.add(x, low))
    found = interpret(retype(b.finish(), DType.f16), {"x": np.zeros(3, np.float16)}).outputs["y"]
    np.testing.assert_array_equal(found, np.array([-65504, -np.inf, 65504], np.float16))


def test_regions_and_states_are_retyped() -> None:
    b = Builder("loop")
    x = b.input("x", TensorType(DType.f32, (5, 2)))
    held = b.state("held", np.ones((2,), np.float32))
    body = b.region([TensorType(DType.f32, (2,))] * 2, lambda i, c, row: ((s := i.add(c, row)), i.unary("tanh", s)))
    last, rows = b.emit(g.Scan((held,), (x,), body, 5))
    b.output("rows", rows)
    b.set_state("held", last)
    made = retype(b.finish(), DType.bf16)
    verify(made, "retype")
    assert made.states[0].initial.dtype == DType.bf16.numpy
    given = make_inputs(made)
    wanted = interpret(b.finish(), {"x": given["x"].astype(np.float32)}).outputs["rows"]
    assert error(interpret(made, given).outputs["rows"], wanted.astype(np.float64)).rms < 0.02


def contraction_types(graph: g.Graph) -> list[set[DType]]:
    return [{v.type.dtype for v in g.operands(op)} for op in graph.ops if isinstance(op, g.Dot | g.Conv)]


def test_int8_contracts_bytes_also_of_two_activations_and_of_large_weights() -> None:
    def attention(b: Builder, x: g.Value) -> g.Value:
        y = b.matmul(x, b.constant(weights(8, 8)))
        scores = b.softmax(b.matmul(y, b.transpose(x, (0, 2, 1))), -1)
        return b.matmul(b.matmul(scores, y), b.constant(np.broadcast_to(weights(8, 1), (8, 1 << 20))))

    made, _ = with_precision(built(attention, 1, 4, 8), "int8", load_chip("mlu370-x4"), None)
    assert contraction_types(canonical_form(made, load_chip("mlu370-x4"))) == [{DType.i8}] * 4


def built(body: Callable[[Builder, g.Value], g.Value], *shape: int) -> g.Graph:
    b = Builder("one")
    b.output("y", body(b, b.input("x", TensorType(DType.f32, shape))))
    return b.finish()


def test_int8_scales_come_from_what_is_given() -> None:
    graph = built(lambda b, x: b.matmul(x, b.constant(np.eye(4, dtype=np.float32))), 2, 4)
    x = np.linspace(-5, 5, 8, dtype=np.float32).reshape(2, 4)
    made, _ = with_precision(graph, "int8", load_chip("mlu370-x4"), {"x": x})
    np.testing.assert_allclose(interpret(made, {"x": x}).outputs["y"], x, atol=5 / 127 / 2 + 1e-6)
    np.testing.assert_allclose(interpret(made, {"x": 9 * x}).outputs["y"].max(), 5, rtol=0.01)  # clamped


def test_int4w_has_a_scale_for_each_group() -> None:
    w = np.concatenate([weights(32, 3), 1000 * weights(32, 3)])
    graph = built(lambda b, x: b.matmul(x, b.constant(w)), 64, 64)
    made, _ = with_precision(graph, "int4w", load_chip("mlu370-x4"), None)
    found = interpret(made, {"x": np.eye(64, dtype=np.float32)}).outputs["y"]
    for part in (slice(0, 32), slice(32, 64)):
        steps = np.abs(w[part]).max(0) / 7
        assert (np.abs(found - w)[part] <= steps / 2 * 1.001).all()
    stored = next(op for op in made.ops if isinstance(op, g.Constant) and op.data.shape == (2, 32, 3))
    assert stored.data.dtype == np.int8
    assert np.abs(stored.data).max() == 7


def test_int4w_leaves_tables_that_are_looked_up() -> None:
    table = weights(16, 8)

    def tied(b: Builder, x: g.Value) -> g.Value:
        shared = b.constant(table)
        return b.matmul(b.add(x, b.gather(shared, b.constant(np.array([1, 2])), 0)), b.transpose(shared, (1, 0)))

    made, _ = with_precision(built(tied, 2, 8), "int4w", load_chip("mlu370-x4"), None)
    assert not any(op.data.dtype == np.int8 for op in made.ops if isinstance(op, g.Constant))


def test_tf32_keeps_eleven_bits_and_needs_a_unit() -> None:
    graph = built(lambda b, x: b.matmul(x, b.constant(np.full((1, 1), 1 + 2**-10 + 2**-12, np.float32))), 3, 1)
    x = np.array([[1.0], [1 + 2**-10 + 2**-13], [1e30]], np.float32)
    made, mode = with_precision(graph, "tf32", load_chip("a100"), None)
    found = interpret(made, {"x": x}).outputs["y"]
    kept = np.float32(1 + 2**-10)
    np.testing.assert_allclose(found[:, 0] / kept, np.array([1, kept, found[2, 0] / kept]), rtol=1e-7)
    assert mode.matrix.geometry["f32"] == load_chip("a100").matrix.geometry["tf32"]
    with pytest.raises(UserError, match=r"systolic-128: the matrix unit has no tf32"):
        with_precision(graph, "tf32", load_chip("systolic-128"), None)


def within_the_contract(found: np.ndarray, theirs: np.ndarray, exact: np.ndarray, ulp: float) -> bool:
    """At most twice as wrong as ONNX Runtime, and a unit in the last place."""
    own, allowed = error(found, exact), error(theirs.astype(found.dtype), exact)
    return own.rms <= 2 * allowed.rms + ulp and own.largest <= 2 * allowed.largest + ulp


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_as_right_as_onnxruntime_in_it(name: str) -> None:
    """The builder's own fp16 model has the same weights."""
    made = retype(import_onnx(model_of(name)), DType.f16)
    inputs = make_inputs(made)
    wanted = run_onnxruntime(model_of(name, precision="fp16"), inputs)
    exact = interpret(made, inputs, wide=True).outputs
    for output, found in interpret(made, inputs).outputs.items():
        assert within_the_contract(found, wanted[output], exact[output], DType.f16.epsilon)


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv3"])
def test_int8_is_as_right_as_onnxruntime_in_it(name: str, tmp_path: Path) -> None:
    """ONNX Runtime's own quantisation after training, calibrated on the same image, against f32."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    model = model_of(name)
    graph = import_onnx(model)
    inputs = make_inputs(graph)

    class Once(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [inputs]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    onnx.save(model, tmp_path / "wide.onnx")
    options = {"ActivationSymmetric": True, "WeightSymmetric": True}
    quantize_static(
        tmp_path / "wide.onnx", tmp_path / "narrow.onnx", Once(), per_channel=True, activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8, extra_options=options,
    )  # fmt: skip
    theirs = run_onnxruntime(onnx.load(tmp_path / "narrow.onnx"), inputs)
    made, _ = with_precision(graph, "int8", load_chip("mlu370-x4"), inputs)
    exact = interpret(graph, inputs, wide=True).outputs
    for output, found in interpret(made, inputs).outputs.items():
        assert within_the_contract(found, theirs[output], exact[output], 0.0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sums_of_nothing(precision: str) -> None:
    graph = built(lambda b, x: b.matmul(x, b.constant(np.zeros((0, 3), np.float32))), 2, 0)
    made, _ = with_precision(graph, precision, load_chip("a100"), {"x": np.zeros((2, 0), np.float32)})
    verify(made, precision)


def test_int8_of_two_results_that_meet_keeps_one_in_bytes() -> None:
    def residual(b: Builder, x: g.Value) -> g.Value:
        first, second = (b.add(b.matmul(x, b.constant(weights(8, 8))), b.constant(weights(8))) for _ in range(2))
        gate = b.mul(second, b.sigmoid(second))  # one result only
        return b.relu(b.add(first, gate))

    made, _ = with_precision(built(residual, 4, 8), "int8", load_chip("mlu370-x4"), None)
    bytes_made = [op for op in made.ops if isinstance(op, g.Convert) and op.dtype is DType.i8]
    assert len(bytes_made) == 2  # x, and the earlier result


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=60)
@given(graph=graphs(states=True, control=True, dtypes=(DType.f32, DType.f16, DType.bf16)))
def test_any_graph_is_well_typed_in_any_precision(precision: str, graph: g.Graph) -> None:
    inputs = inputs_for(graph)
    bound = bind_graph(graph, infer_binding(graph, {name: a.shape for name, a in inputs.items()}))
    made, _ = with_precision(bound, precision, load_chip("a100"), inputs)
    verify(made, precision)
    assert [(n, v.type.shape) for n, v in made.outputs] == [(n, v.type.shape) for n, v in bound.outputs]
    interpret(made, fit_inputs(made, inputs)[0])
