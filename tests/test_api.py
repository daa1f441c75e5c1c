"""The Python face: what a user imports, calls and gets back."""

from pathlib import Path

import numpy as np
import pytest

import tapeout
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.types import DType, TensorType, symbol

CHIPS = Path(__file__).parent / "chips"


def affine(symbolic: bool = False) -> Graph:
    b = Builder("affine")
    if symbolic:
        b.symbol("rows", 1, 64)
    x = b.input("x", TensorType(DType.f32, (symbol("rows") if symbolic else 6, 8)))
    w = b.constant(np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5))
    b.output("y", b.relu(b.matmul(x, w)))
    return b.finish()


def test_a_run_gives_outputs_and_a_report() -> None:
    model = tapeout.compile(affine(), "systolic-128")
    x = np.arange(48, dtype=np.float32).reshape(6, 8)
    run = model.run(x)
    np.testing.assert_allclose(run["y"], np.maximum(x @ np.linspace(-1, 1, 40).reshape(8, 5), 0), rtol=1e-5)
    assert run.report.cycles == run.trace.cycles > 0
    assert run.report.floor.cycles <= run.trace.cycles
    assert run.checked.right
    assert "Latency" in str(run.report)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4w"])
@pytest.mark.parametrize("symbolic", [True, False])
def test_batch_and_precision(precision: str, symbolic: bool) -> None:
    x = np.linspace(-1, 1, 96, dtype=np.float32).reshape(12, 8)
    graph = affine(symbolic)
    model = tapeout.compile(graph, "mlu370-x4", batch=12, precision=precision, calibration={"x": x})
    run = model.run(x)
    wanted = np.maximum(x @ np.linspace(-1, 1, 40).reshape(8, 5), 0)
    np.testing.assert_allclose(run["y"].astype(np.float32), wanted, atol=0.3 if precision == "int4w" else 0.05)
    assert run.checked.right
    with pytest.raises(tapeout.UserError, match="calibration"):
        tapeout.compile(graph, "mlu370-x4", precision="int8")
    with pytest.raises(tapeout.UserError, match="no precision 'fp4'"):
        tapeout.compile(graph, "mlu370-x4", precision="fp4")


def test_symbols_are_bound_by_each_run() -> None:
    model = tapeout.compile(affine(symbolic=True), "mlu370-x4")
    for rows in (1, 7, 64):
        assert model.run(np.ones((rows, 8), np.float32))["y"].shape == (rows, 5)
    assert sum(model.time(rows=64).busy_cycles) > sum(model.time(rows=1).busy_cycles)
    with pytest.raises(tapeout.UserError, match="rows"):
        model.run(np.ones((65, 8), np.float32))


def test_state_carries_over_until_reset() -> None:
    b = Builder("counter")
    x = b.input("x", TensorType(DType.f32, (4,)))
    total = b.add(b.state("total", np.zeros(4, np.float32)), x)
    b.set_state("total", total)
    b.output("sum", total)
    model = tapeout.compile(b.finish(), "systolic-128")
    ones = np.ones(4, np.float32)
    assert [model.run(ones)["sum"][0] for _ in range(3)] == [1, 2, 3]
    model.reset()
    assert model.run(ones)["sum"][0] == 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "give 1: x"),
        ((np.ones((6, 9), np.float32),), "dimension 1 is 9"),
        ((np.ones((6, 8)),), "float64"),
    ],
)
def test_inputs_that_do_not_fit(inputs: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(tapeout.UserError, match=message):
        tapeout.compile(affine(), "systolic-128").run(*inputs)


def test_what_cannot_be_read() -> None:
    with pytest.raises(tapeout.InvalidModel, match="cannot read a int"):
        tapeout.compile(3, "systolic-128")
    with pytest.raises(tapeout.InvalidChip, match="did you mean `systolic-128`"):
        tapeout.compile(affine(), "systolic-12")


def test_a_chip_file_of_ones_own() -> None:
    assert tapeout.compile(affine(), CHIPS / "odd.toml").run(np.ones((6, 8), np.float32)).checked.right


def test_a_torch_module_gives_tensors_back() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).eval()
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    result = tapeout.compile(module, "mlu370-x4", (x,)).run(x).result
    torch.testing.assert_close(result, module(x).detach(), rtol=1e-4, atol=1e-5)
