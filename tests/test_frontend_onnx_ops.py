"""Every ONNX op with a handler, one node at a time, against ONNX Runtime; several opsets where the meaning changed."""

import zlib
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_models import Fixed, fixed, info, make_model, one_node, run_onnxruntime, scalar
from tapeout.frontend.onnx_import import import_onnx
from tapeout.ir.interp import interpret

Case = tuple[str, list[Any], dict[str, Any]]


def x(*shape: int, lo: float = -2.0, hi: float = 2.0, dtype: Any = np.float32) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(repr((shape, lo, hi)).encode()))
    return rng.uniform(lo, hi, shape).astype(dtype)


def ints(*shape: int, lo: int = 0, hi: int = 10, dtype: Any = np.int64) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(repr((shape, lo, hi)).encode())).integers(lo, hi, shape).astype(dtype)


def w(*shape: int, **options: Any) -> Fixed:
    return Fixed(x(*shape, **options))


def case(op: str, *operands: Any, **attributes: Any) -> Case:
    return op, list(operands), attributes


A, B = x(2, 3, 4), x(3, 1, lo=0.5)
BOOL = A > 0
SIMPLE = "Abs Neg Sign Floor Ceil Round Exp Sin Cos Tan Tanh Erf Sinh Cosh Atan Asinh".split()
ACTIVATIONS = "Relu Sigmoid HardSigmoid HardSwish LeakyRelu Elu Selu Celu Softplus Softsign ThresholdedRelu".split()
REDUCTIONS = (
    "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp".split()
)
ELEMENTWISE = [
    *(case(op, A) for op in [*SIMPLE, *ACTIVATIONS]),
    *(case(op, x(5, lo=0.1, hi=0.9)) for op in "Log Sqrt Reciprocal Asin Acos Atanh".split()),
    case("Acosh", x(5, lo=1.0, hi=4.0)),
    *(case(op, A, B) for op in "Add Sub Mul Div Equal Less Greater LessOrEqual GreaterOrEqual PRelu".split()),
    *(case(op, A, x(3, 4), x(4)) for op in "Sum Max Min Mean".split()),
    *(case(op, BOOL, x(3, 4) > 0) for op in "And Or Xor".split()),
    *(case(op, ints(4), ints(3, 1), opset=18) for op in "BitwiseAnd BitwiseOr BitwiseXor".split()),
    case("Not", BOOL),
    case("BitwiseNot", ints(4), opset=18),
    case("IsNaN", np.array([1, np.nan, np.inf], np.float32)),
    case("IsInf", np.array([1, np.nan, np.inf, -np.inf], np.float32), detect_negative=0),
    case("Div", ints(6, lo=-9), ints(6, lo=1)),
    case("Mod", ints(6, lo=-9), ints(6, lo=1)),
    case("Mod", ints(6, lo=-9), -ints(6, lo=1)),
    case("Mod", x(6), x(6, lo=0.5), fmod=1),
    case("Pow", x(4, lo=0.1), x(4)),
    case("Pow", x(4), scalar(2.0, np.float32)),
    case("Pow", x(4), scalar(3)),
    case("Pow", ints(4), scalar(2)),
    case("BitShift", ints(4, dtype=np.uint32), ints(4, hi=4, dtype=np.uint32), direction="LEFT"),
    case("Clip", A, opset=7, min=-0.5, max=0.5),
    case("Clip", A, scalar(-0.5, np.float32), scalar(0.5, np.float32)),
    case("Clip", A, None, np.array(0.5, np.float32)),
    case("Where", BOOL, A, x(4)),
    case("Cast", A, to=TensorProto.INT32),
    case("Cast", ints(4), to=TensorProto.FLOAT16),
    case("CastLike", A, ints(1), opset=19),
    case("Mish", A, opset=18),
    case("Gelu", A, opset=20),
    case("Gelu", A, opset=20, approximate="tanh"),
    case("Gelu", A, domain="com.microsoft"),
    case("FastGelu", A, w(4), domain="com.microsoft"),
    case("BiasGelu", A, w(4), domain="com.microsoft"),
    case("QuickGelu", A, domain="com.microsoft"),
    case("Shrink", A, lambd=0.7, bias=0.2),
    *(case(op, A, opset=11) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *(case(op, A, opset=11, axis=2) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *(case(op, A, opset=13) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *(case(op, A, opset=13, axis=1) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    case("Dropout", A, opset=7),
    case("Dropout", A, opset=12),
    case("Identity", A),
]
REDUCE = [
    *(case(op, A, opset=13) for op in REDUCTIONS if op != "ReduceSum"),
    *(case(op, A, opset=13, axes=[1, -1], keepdims=0) for op in REDUCTIONS if op != "ReduceSum"),
    *(case(op, A, fixed(1), opset=18, keepdims=0) for op in REDUCTIONS),
    case("ReduceSum", A, opset=11, axes=[0]),
    case("ReduceSum", A, fixed(0), opset=13),
    case("ReduceSum", A, opset=13, noop_with_empty_axes=1),
    case("ReduceSum", ints(2, 3), fixed(0), opset=13),
    case("ReduceLogSum", x(2, 3, lo=0.1), opset=13, axes=[1]),
    case("ReduceMean", x(2, 300, dtype=np.float16), opset=13, axes=[1]),
    case("ArgMax", ints(4, 5, hi=3).astype(np.float32), axis=1),
    case("ArgMax", ints(4, 5, hi=3).astype(np.float32), axis=1, select_last_index=1, keepdims=0),
    case("ArgMin", A, axis=-1),
    case("CumSum", A, scalar(1)),
    case("CumSum", A, scalar(-1), exclusive=1, reverse=1),
    case("TopK", A, fixed(2), opset=11, outputs=2),
    case("TopK", A, opset=7, k=2, axis=1, outputs=2),
    case("TopK", A, fixed(2), opset=11, outputs=2, largest=0, axis=1),
]
CONTRACT = [
    case("MatMul", x(2, 3), w(3, 4)),
    case("MatMul", x(5, 2, 3), x(1, 3, 4)),
    case("MatMul", x(3), x(2, 3, 4)),
    case("MatMul", x(2, 3), x(3)),
    case("FusedMatMul", x(2, 3), x(4, 3), domain="com.microsoft", transB=1, alpha=0.5),
    case("Gemm", x(2, 3), w(3, 4), w(4)),
    case("Gemm", x(3, 2), w(4, 3), w(1, 4), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", x(2, 3), w(3, 4)),
    case("Conv", x(1, 3, 7, 8), w(4, 3, 3, 3), w(4), pads=[1, 0, 1, 2], strides=[2, 1]),
    case("Conv", x(1, 4, 7, 8), w(4, 2, 3, 3), group=2, dilations=[2, 1]),
    case("Conv", x(1, 3, 7, 8), w(4, 3, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", x(1, 3, 7, 8), w(4, 3, 3, 2), auto_pad="SAME_LOWER"),
    case("Conv", x(1, 3, 9), w(4, 3, 3)),
    case("Conv", x(1, 2, 4, 5, 6), w(3, 2, 2, 2, 2)),
    case("ConvTranspose", x(1, 3, 4, 5), w(3, 2, 3, 3), w(2), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", x(1, 4, 4, 5), w(4, 2, 3, 3), group=2, strides=[2, 1], output_padding=[1, 0]),
    case("ConvTranspose", x(1, 3, 4, 5), w(3, 2, 3, 3), strides=[2, 2], output_shape=[8, 10]),
    case("ConvTranspose", x(1, 3, 4, 5), w(3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", x(1, 3, 4, 5), w(3, 2, 2, 2), dilations=[2, 2]),
    case("Einsum", x(2, 3), x(3, 4), equation="ij,jk->ik"),
    case("Einsum", x(2, 5, 3, 4), x(2, 6, 3, 4), equation="bqhd,bkhd->bhqk"),
    case("Einsum", x(2, 3, 4), x(4, 5), equation="...j,jk"),
    case("Einsum", x(3, 3), equation="ii->i"),
    case("Einsum", x(2, 3, 4), equation="ijk->kj"),
    case("Einsum", x(2, 3), x(3, 4), x(4, 2), equation="ab,bc,cd->ad"),
]
POOL = [
    case("MaxPool", x(1, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    case("MaxPool", x(1, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    case("MaxPool", x(1, 2, 7, 8), kernel_shape=[2, 2], dilations=[2, 3]),
    case("MaxPool", x(1, 2, 7, 8), kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
    case("MaxPool", x(2, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], outputs=2),
    case("MaxPool", x(1, 2, 9), kernel_shape=[3]),
    case("AveragePool", x(1, 2, 7, 8), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    case("AveragePool", x(1, 2, 7, 8), kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1),
    case("AveragePool", x(1, 2, 7, 7), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, opset=19),
    case("AveragePool", x(1, 2, 4, 4), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, opset=19, count_include_pad=1),
    case("LpPool", x(1, 2, 7, 8), kernel_shape=[3, 2], p=3),
    case("GlobalAveragePool", x(1, 2, 7, 8)),
    case("GlobalMaxPool", x(1, 2, 7, 8)),
    case("GlobalLpPool", x(1, 2, 7, 8)),
]
NORM = [
    case("BatchNormalization", x(2, 3, 4, 4), w(3), w(3), w(3), w(3, lo=0.5), epsilon=1e-3),
    case("BatchNormalization", x(2, 3, 4, 4), w(3), w(3), w(3), w(3, lo=0.5), opset=9),
    case("BatchNormalization", x(2, 3), x(3), x(3), x(3), x(3, lo=0.5), opset=7),
    case("LayerNormalization", x(2, 3, 8), w(8), w(8)),
    case("LayerNormalization", x(2, 3, 8), w(3, 8), axis=1),
    case("InstanceNormalization", x(2, 3, 4, 4), w(3), w(3)),
    case("GroupNormalization", x(2, 4, 3, 3), w(4), w(4), opset=21, num_groups=2),
    case("RMSNormalization", x(2, 3, 8), w(8), opset=23),
    case("SimplifiedLayerNormalization", x(2, 3, 8), w(8)),
    case("SkipLayerNormalization", x(2, 3, 8), x(2, 3, 8), w(8), w(8), w(8), domain="com.microsoft"),
    case("SkipSimplifiedLayerNormalization", x(2, 3, 8), x(2, 3, 8), w(8), domain="com.microsoft"),
    case("LRN", x(2, 6, 3, 3), size=3, alpha=0.1),
    case("LpNormalization", x(2, 6), p=1),
    case("LpNormalization", x(2, 6), axis=0),
    case("MeanVarianceNormalization", x(2, 3, 4, 4)),
]
SHAPE = [
    case("Shape", A),
    case("Shape", A, opset=15, start=1, end=-1),
    case("Size", A),
    case("Reshape", A, fixed(0, -1)),
    case("Reshape", A, fixed(4, 6)),
    case("Flatten", A),
    case("Flatten", A, axis=-1, opset=11),
    case("Flatten", A, axis=0),
    case("Squeeze", x(1, 3, 1), opset=11, axes=[0]),
    case("Squeeze", x(1, 3, 1), fixed(-1), opset=13),
    case("Squeeze", x(1, 3, 1), opset=13),
    case("Unsqueeze", A, opset=11, axes=[0, 4]),
    case("Unsqueeze", A, fixed(-1, 1), opset=13),
    case("Transpose", A),
    case("Transpose", A, perm=[1, 0, 2]),
    case("Expand", x(3, 1), fixed(2, 1, 4)),
    case("Tile", x(2, 3), fixed(2, 3)),
    case("Concat", A, x(2, 1, 4), axis=1),
    case("Slice", A, opset=9, starts=[1, -2], ends=[3, 100], axes=[1, 2]),
    case("Slice", A, fixed(-1, 0), fixed(-100, 4), fixed(1, 2), fixed(-1, 3), opset=13),
    case("Slice", A, fixed(1), fixed(2), opset=10),
    case("Split", x(6, 2), opset=11, split=[2, 4], outputs=2),
    case("Split", x(6, 2), opset=11, outputs=2),
    case("Split", x(6, 2), fixed(1, 5), opset=13, outputs=2),
    case("Split", x(7, 2), opset=18, outputs=3, num_outputs=3),
    case("Pad", x(2, 3), opset=7, pads=[1, 0, 0, 2], value=1.5),
    case("Pad", x(2, 3), fixed(1, 0, 0, 2), scalar(1.5, np.float32), opset=13),
    case("Pad", x(2, 3), fixed(1, 2), None, fixed(1), opset=18),
    case("Pad", x(4, 5), fixed(1, 2, 3, 0), opset=13, mode="reflect"),
    case("Pad", x(4, 5), fixed(1, 2, 3, 0), opset=13, mode="edge"),
    case("Pad", x(4, 5), fixed(1, 2, 3, 0), opset=19, mode="wrap"),
    case("Pad", x(4, 5), fixed(-1, 2, 0, -2), opset=13),
    case("DepthToSpace", x(1, 8, 2, 3), blocksize=2),
    case("DepthToSpace", x(1, 8, 2, 3), blocksize=2, mode="CRD"),
    case("SpaceToDepth", x(1, 2, 4, 6), blocksize=2),
    case("ReverseSequence", x(4, 3, 2), fixed(4, 2, 1)),
    case("Trilu", x(2, 4, 5), scalar(1)),
    case("Trilu", x(4, 5), upper=0),
    case("Range", scalar(1), scalar(9), scalar(3)),
    case("ConstantOfShape", fixed(2, 3), value=numpy_helper.from_array(np.array([7], np.int64))),
    case("ConstantOfShape", fixed(2, 3)),
    case("Constant", value_floats=[1.0, 2.0]),
    case("EyeLike", x(3, 4), k=1),
    case("OneHot", ints(2, 3, lo=-4, hi=4), scalar(5), fixed(0.5, 2.0, dtype=np.float32), axis=1),
]
INDEX = [
    case("Gather", x(4, 5), ints(2, 3, lo=-4, hi=4)),
    case("Gather", x(4, 5), scalar(-1), axis=1),
    case("GatherElements", x(4, 5), ints(2, 5, lo=-4, hi=4), axis=0),
    case("GatherND", x(4, 5, 2), ints(3, 2, lo=-4, hi=4)),
    case("GatherND", x(4, 5, 2), ints(4, 3, 1, lo=-4, hi=4), batch_dims=1),
    case("ScatterElements", x(4, 5), Fixed(np.array([[1, 0, 3, 2, 0]])), x(1, 5), axis=0),
    case("ScatterElements", x(4, 5), ints(2, 5, hi=4), x(2, 5), axis=0, reduction="add", opset=18),
    case("Scatter", x(4, 5), Fixed(np.array([[1, 0, -1, 2, 0]])), x(1, 5), axis=0, opset=9),
    case("ScatterND", x(4, 5), Fixed(np.array([[1], [-1]])), x(2, 5)),
    case("ScatterND", x(4, 5), Fixed(np.array([[1, 2], [3, 3]])), x(2), reduction="max", opset=18),
    case("TensorScatter", x(1, 2, 6, 3), x(1, 2, 2, 3), ints(1, hi=4), opset=24),
    case("TensorScatter", x(2, 2, 6, 3), x(2, 2, 2, 3), fixed(5, 1), opset=24, mode="circular"),
    case("Compress", x(4, 5), Fixed(np.array([True, False, True])), axis=1),
    case("NonZero", Fixed(np.array([[1.0, 0.0], [3.0, 4.0]], np.float32))),
]
ROI = Fixed(np.array([], np.float32))
RESIZE = [
    case("Upsample", x(1, 1, 2, 3), opset=7, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest"),
    case("Upsample", x(1, 1, 2, 3), fixed(1, 1, 2, 2, dtype=np.float32), opset=9, mode="linear"),
    case("Resize", x(1, 1, 4, 4), fixed(1, 1, 0.5, 2, dtype=np.float32), opset=10, mode="nearest"),
    case("Resize", x(1, 1, 4, 4), ROI, fixed(1, 1, 1.5, 2, dtype=np.float32), opset=13, mode="linear"),
    case("Resize", x(1, 1, 4, 4), None, None, fixed(1, 1, 7, 3), opset=13, mode="cubic"),
    *(
        case("Resize", x(1, 1, 4, 5), None, None, fixed(1, 1, 7, 3), coordinate_transformation_mode=t, mode=m)
        for t in ("align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel")
        for m in ("nearest", "linear")
    ),
    *(
        case("Resize", x(1, 1, 4, 5), None, None, fixed(1, 1, 8, 3), nearest_mode=n, mode="nearest")
        for n in ("floor", "ceil", "round_prefer_ceil", "round_prefer_floor")
    ),
    case("Resize", x(1, 1, 4, 4), None, None, fixed(6, 3), opset=19, mode="linear", axes=[2, 3], antialias=1),
]
I8, U8 = ints(2, 3, 6, 6, lo=-128, hi=128, dtype=np.int8), ints(2, 3, 6, 6, hi=256, dtype=np.uint8)
SCALE = scalar(0.05, np.float32)
QUANT = [
    case("QuantizeLinear", A, SCALE, scalar(3, np.uint8)),
    case("QuantizeLinear", A, SCALE, scalar(0, np.int8)),
    case("QuantizeLinear", A, SCALE),
    case("QuantizeLinear", A, w(3, lo=0.01, hi=0.1), fixed(0, 1, 2, dtype=np.int8), axis=1),
    case("DequantizeLinear", I8, SCALE, scalar(3, np.int8)),
    case("DequantizeLinear", I8, w(3, lo=0.01, hi=0.1), fixed(0, 1, 2, dtype=np.int8), axis=1),
    case("DequantizeLinear", ints(4, 6, dtype=np.int8), w(2, 6), opset=21, axis=0, block_size=2),
    case("DynamicQuantizeLinear", x(3, 4), outputs=3),
    case("QuantizeLinear", A, SCALE, scalar(3, np.int16), domain="com.microsoft"),
    case("DequantizeLinear", I8, SCALE, scalar(3, np.int8), domain="com.microsoft"),
    *(
        case(
            op,
            *(
                U8,
                scalar(1 / 16, np.float32),
                scalar(7, np.uint8),
                U8[:, :1, ::-1].copy(),
                scalar(1 / 32, np.float32),
                scalar(99, np.uint8),
            ),
            *(scalar(0.25, np.float32), scalar(20, np.uint8)),
            domain="com.microsoft",
        )
        for op in ("QLinearAdd", "QLinearMul")
    ),
    case("MatMulInteger", ints(2, 3, dtype=np.uint8), ints(3, 4, lo=-9, dtype=np.int8), scalar(5, np.uint8)),
    case("ConvInteger", U8, Fixed(ints(4, 3, 3, 3, hi=256, dtype=np.uint8)), scalar(7, np.uint8), pads=[1, 1, 1, 1]),
    case(
        "QLinearConv",
        *(U8, SCALE, scalar(7, np.uint8), Fixed(ints(4, 3, 3, 3, lo=-9, dtype=np.int8)), w(4, lo=0.01, hi=0.1)),
        *(fixed(0, 0, 0, 0, dtype=np.int8), scalar(0.5, np.float32), scalar(99, np.uint8)),
        Fixed(ints(4, lo=-99, dtype=np.int32)),
        pads=[1, 1, 1, 1],
    ),
    case(
        "QLinearMatMul",
        *(ints(2, 3, hi=256, dtype=np.uint8), SCALE, scalar(7, np.uint8)),
        *(Fixed(ints(3, 4, hi=256, dtype=np.uint8)), SCALE, scalar(9, np.uint8)),
        *(scalar(0.5, np.float32), scalar(99, np.uint8)),
    ),
]
LENGTHS = Fixed(np.array([5, 3], np.int32))
RECURRENT = [
    case("RNN", x(5, 2, 3), w(1, 4, 3), w(1, 4, 4), w(1, 8), hidden_size=4, outputs=2),
    case("GRU", x(5, 2, 3), w(1, 12, 3), w(1, 12, 4), w(1, 24), hidden_size=4, outputs=2),
    case("GRU", x(5, 2, 3), w(1, 12, 3), w(1, 12, 4), w(1, 24), hidden_size=4, outputs=2, linear_before_reset=1),
    case("LSTM", x(5, 2, 3), w(1, 16, 3), w(1, 16, 4), hidden_size=4, outputs=3, direction="reverse"),
    case(
        "LSTM",
        *(x(5, 2, 3), w(2, 16, 3), w(2, 16, 4), w(2, 32), LENGTHS, x(2, 2, 4), x(2, 2, 4), w(2, 12)),
        hidden_size=4,
        outputs=3,
        direction="bidirectional",
    ),
]
CASES = [*ELEMENTWISE, *REDUCE, *CONTRACT, *POOL, *NORM, *SHAPE, *INDEX, *RESIZE, *QUANT, *RECURRENT]


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
    else:
        # Both sides round each step; functions like tan and acosh make more of it.
        epsilon = float(np.finfo(want.dtype).eps)
        np.testing.assert_allclose(got, want, rtol=64 * epsilon, atol=16 * epsilon)


@pytest.mark.parametrize(("op", "operands", "attributes"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_agrees_with_onnxruntime(op: str, operands: list[Any], attributes: dict[str, Any]) -> None:
    model, feeds = one_node(op, operands, **attributes)
    want = run_onnxruntime(model, feeds)
    graph = import_onnx(model)
    assert {o.source for o in graph.ops} <= {"the_node", ""}
    got = interpret(graph, feeds).outputs
    assert list(got) == list(want)
    for name, array in want.items():
        assert_close(got[name], array)


def test_a_known_condition_takes_one_branch() -> None:
    model = branching(weights={"cond": np.array(True)})
    graph = import_onnx(model)
    assert [type(o).__name__ for o in graph.ops if type(o).__name__ == "If"] == []
    assert_close(interpret(graph, {"a": A}).outputs["out"], A + A)


def branching(weights: dict[str, np.ndarray] | None = None) -> Any:
    """out = a + a if cond else a * a, both branches reading `a` from outside."""
    branches = [
        helper.make_graph([helper.make_node(op, ["a", "a"], [f"{op}_out"])], op, [], [info(f"{op}_out")])
        for op in ("Add", "Mul")
    ]
    node = helper.make_node("If", ["cond"], ["out"], then_branch=branches[0], else_branch=branches[1])
    inputs = [info("a", shape=(2, 3, 4))] + ([] if weights else [info("cond", TensorProto.BOOL, ())])
    return make_model([node], inputs, [info("out")], weights)


@pytest.mark.parametrize("cond", [True, False])
def test_if(cond: bool) -> None:
    feeds = {"a": A, "cond": np.array(cond)}
    model = branching()
    assert_close(interpret(import_onnx(model), feeds).outputs["out"], run_onnxruntime(model, feeds)["out"])


def looping(trip: int | None, limit: float, scanned: bool) -> Any:
    """Doubles `a` plus an outer `b` while its first element is below `limit`; perhaps stacks each turn's value."""
    nodes = [
        helper.make_node("Add", ["v", "v"], ["twice"]),
        helper.make_node("Add", ["twice", "b"], ["next"]),
        helper.make_node("ReduceMax", ["next"], ["top"], keepdims=0),
        helper.make_node("Less", ["top", "limit"], ["go"]),
        helper.make_node("Identity", ["cond"], ["same"]),
        helper.make_node("Identity", ["next"], ["stack"]),
    ]
    inputs = [info("i", TensorProto.INT64, ()), info("cond", TensorProto.BOOL, ()), info("v", shape=(3,))]
    outputs = [info("same" if trip else "go", TensorProto.BOOL, ()), info("next")]
    body = helper.make_graph(nodes, "body", inputs, outputs + ([info("stack")] if scanned else []))
    results = ["out", "stacked"] if scanned else ["out"]
    weights = {"limit": np.array(limit, np.float32)} | ({"trip": np.array(trip)} if trip else {})
    node = helper.make_node("Loop", ["trip" if trip else "", "", "a"], results, body=body)
    return make_model([node], [info("a", shape=(3,)), info("b", shape=(3,))], [info(r) for r in results], weights)


@pytest.mark.parametrize(("trip", "scanned", "kind"), [(4, True, "Scan"), (4, False, "Scan"), (None, False, "While")])
def test_loop(trip: int | None, scanned: bool, kind: str) -> None:
    model = looping(trip, 50.0, scanned)
    feeds = {"a": x(3, lo=0.1), "b": x(3, lo=0.1, hi=1.0)}
    graph = import_onnx(model)
    assert kind in [type(o).__name__ for o in graph.ops]
    want = run_onnxruntime(model, feeds)
    for name, array in interpret(graph, feeds).outputs.items():
        assert_close(array, want[name])


def test_scan_along_another_axis_backwards() -> None:
    nodes = [helper.make_node("Add", ["s", "e"], ["sum"]), helper.make_node("Mul", ["sum", "k"], ["y"])]
    body = helper.make_graph(nodes, "body", [info("s", shape=(2,)), info("e", shape=(2,))], [info("sum"), info("y")])
    node = helper.make_node(
        "Scan", ["start", "xs"], ["last", "ys"], body=body, num_scan_inputs=1, scan_input_axes=[1],
        scan_input_directions=[1], scan_output_axes=[1], scan_output_directions=[1],
    )  # fmt: skip
    inputs = [info("start", shape=(2,)), info("xs", shape=(2, 5)), info("k", shape=(2,))]
    model = make_model([node], inputs, [info("last"), info("ys")])
    feeds = {"start": x(2), "xs": x(2, 5), "k": x(2, lo=0.5)}
    want = run_onnxruntime(model, feeds)
    for name, array in interpret(import_onnx(model), feeds).outputs.items():
        assert_close(array, want[name])


def test_sequences_are_resolved() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["a"], ["parts"], axis=1),
        helper.make_node("SequenceEmpty", [], ["none"]),
        helper.make_node("SequenceAt", ["parts", "one"], ["second"]),
        helper.make_node("SequenceInsert", ["parts", "second"], ["more"]),
        helper.make_node("SequenceErase", ["more", "one"], ["fewer"]),
        helper.make_node("SequenceLength", ["fewer"], ["count"]),
        helper.make_node("SequenceConstruct", ["second", "second"], ["pair"]),
        helper.make_node("ConcatFromSequence", ["pair"], ["doubled"], axis=0, new_axis=1),
        helper.make_node("ConcatFromSequence", ["fewer"], ["joined"], axis=1),
    ]
    outputs = [info("joined"), info("doubled"), info("count", TensorProto.INT64)]
    model = make_model(nodes, [info("a", shape=(2, 3, 4))], outputs, {"one": np.array(1)})
    want = run_onnxruntime(model, {"a": A})
    for name, array in interpret(import_onnx(model), {"a": A}).outputs.items():
        assert_close(array, want[name])
