"""Arrays larger than memory: pieces, files without a name, and models whose weights stay where they are."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_models import info, make_model, run_onnxruntime
from tapeout.chip.load import load_chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.frontend import onnx_weights
from tapeout.frontend.onnx_import import import_onnx
from tapeout.ir import graph as g
from tapeout.ir import mapped
from tapeout.ir.interp import evaluate, interpret
from tapeout.ir.types import DType, TensorType
from tapeout.runtime.executable import Executable

RNG = np.random.default_rng(5)


def test_pieces_and_what_is_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "PIECE_BYTES", 100)
    monkeypatch.setattr(mapped, "LARGE_BYTES", 200)
    for data in (RNG.standard_normal((13, 7)), RNG.standard_normal((5, 3, 4)).T, np.zeros((0, 3)), np.array(3.0)):
        doubled = mapped.made_of(data, np.dtype(np.float32), lambda _, piece: 2 * piece)
        np.testing.assert_array_equal(doubled, (2 * data).astype(np.float32))
        np.testing.assert_array_equal(mapped.packed(data), data)
        assert mapped.packed(data).flags.c_contiguous
        assert mapped.count_nonzero(data) == np.count_nonzero(data)
    rows = np.concatenate([part for _, part in mapped.pieces(np.arange(100))])
    np.testing.assert_array_equal(rows, np.arange(100))


def test_what_repeats_is_computed_once() -> None:
    base = RNG.standard_normal((4, 1, 3))
    wide = np.broadcast_to(base, (4, 1000, 3))
    sizes: list[int] = []

    def doubled(x: np.ndarray) -> np.ndarray:
        sizes.append(x.size)
        return 2 * x

    made = mapped.elementwise(wide, np.dtype(np.float32), doubled)
    np.testing.assert_array_equal(made, (2 * wide).astype(np.float32))
    assert sizes == [12]
    assert made.strides[1] == 0
    assert mapped.count_nonzero(wide) == wide.size
    assert not mapped.is_stand_in(wide)


def test_stand_ins_stay_what_they_are() -> None:
    large = mapped.stand_in(np.float32(0.5), (1 << 10, 1 << 20, 1 << 5))  # 128 GiB
    assert mapped.is_stand_in(large)
    narrow = mapped.elementwise(large, np.dtype(np.int8), lambda x: x.astype(np.int8))
    for made in (narrow, mapped.reshaped(large.T, (1 << 15, 1 << 20)), large[3:, ::2]):
        assert mapped.is_stand_in(made)
    assert mapped.count_nonzero(large) == large.size
    value = g.Value("x", TensorType(DType.f32, large.shape))
    out = g.Value("y", TensorType(DType.f32, large.shape))
    (doubled,) = evaluate(g.Binary("add", value, value, outs=(out,)), [large, large])
    assert mapped.is_stand_in(doubled)
    assert doubled[5, 5, 5] == 1


def test_pages_that_are_let_go_come_back(tmp_path: Path) -> None:
    stored = RNG.integers(0, 255, 1 << 16, np.uint8)
    stored.tofile(tmp_path / "data")
    for data in (np.memmap(tmp_path / "data", np.uint8, "r").view(np.uint16)[3:], mapped.packed(stored)):
        before = np.array(data)
        mapped.let_go(data)
        np.testing.assert_array_equal(data, before)


def gemm_model(width: int) -> onnx.ModelProto:
    weights = {"w": RNG.standard_normal((width, width), np.float32), "b": RNG.standard_normal(width, np.float32)}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    return make_model(nodes, [info("x", TensorProto.FLOAT, [2, width])], [onnx.ValueInfoProto(name="y")], weights)


def test_large_initialisers_stay_in_the_file(tmp_path: Path) -> None:
    model = gemm_model(600)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    light = onnx_weights.light_model(path)
    assert len(light) < 6000
    graph = import_onnx(path)
    (w,) = (op.data for op in graph.ops if isinstance(op, g.Constant) and op.data.ndim == 2)
    assert not w.flags.owndata
    assert not w.flags.writeable
    x = RNG.standard_normal((2, 600), np.float32)
    wanted = run_onnxruntime(model, {"x": x})["y"]
    np.testing.assert_allclose(interpret(graph, {"x": x}).outputs["y"], wanted, rtol=1e-4, atol=1e-4)
    chip = load_chip("mlu370-x4")
    found = Executable(compile_graph(graph, chip), chip).run({"x": x}).outputs["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_four_bits_in_the_file(kind: int, tmp_path: Path) -> None:
    low = -8 if kind == TensorProto.INT4 else 0
    q = RNG.integers(low, low + 16, (2048, 1024)).astype(np.int64)
    flat = (q & 15).astype(np.uint8).reshape(-1)
    raw = (flat[::2] | flat[1::2] << np.uint8(4)).tobytes()
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = make_model(nodes, [info("x", TensorProto.FLOAT, [1, 2048])], [onnx.ValueInfoProto(name="y")],
                       {"s": np.array(0.5, np.float32)}, opset=21)  # fmt: skip
    model.graph.initializer.append(helper.make_tensor("q", kind, q.shape, raw, raw=True))
    onnx.save(model, tmp_path / "model.onnx")
    x = np.eye(1, 2048, 77, np.float32)
    found = interpret(import_onnx(tmp_path / "model.onnx"), {"x": x}).outputs["y"]
    np.testing.assert_array_equal(found, q[77:78] * np.float32(0.5))


@pytest.mark.parametrize("cut", [1, 0.5, 0.999])
def test_what_is_no_model_comes_back_as_it_is(cut: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    whole = gemm_model(600).SerializeToString()
    data = whole[: int(len(whole) * cut)] if cut < 1 else bytes(range(256)) * 8192
    path.write_bytes(data)
    assert onnx_weights.light_model(path) == data


LAYERS, WIDTH = 12, 2560
RUN = """
import re, sys, onnx, tapeout.report.session, tapeout.report.text  # what any run loads
from tapeout.cli import main
def held():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = held()
sys.argv = ["tapeout", "run", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("grown", held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux")
@pytest.mark.parametrize("transposed", [0, 1])
def test_memory_does_not_grow_with_the_weights(transposed: int, tmp_path: Path) -> None:
    """300 MB of weights as a sparse file beside the model: cycles are counted in a fraction of that."""
    size = WIDTH * WIDTH * 4
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(LAYERS * size)
    nodes = [helper.make_node("Gemm", [f"x{n}", f"w{n}"], [f"x{n + 1}"], transB=transposed) for n in range(LAYERS)]
    model = make_model(nodes, [info("x0", TensorProto.FLOAT, [1, WIDTH])], [onnx.ValueInfoProto(name=f"x{LAYERS}")])
    for n in range(LAYERS):
        tensor = model.graph.initializer.add(name=f"w{n}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "weights", "offset": n * size, "length": size}.items():
            tensor.external_data.add(key=key, value=str(value))
    onnx.save(model, tmp_path / "model.onnx")
    arguments = [str(tmp_path / "model.onnx"), "--chip", "mlu370-x4", "--timing-only"]
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.split("grown ")[1])
    assert grown < 100 << 10, f"{grown >> 10} MiB for {LAYERS * size >> 20} MiB of weights"
