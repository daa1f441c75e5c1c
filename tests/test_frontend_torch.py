"""PyTorch import: whole models, the shape of programs, control flow, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.errors import InvalidModel, UnsupportedOp, UserError
from tapeout.frontend.torch_export import import_torch
from tapeout.ir import graph as g
from tapeout.ir.interp import interpret
from tapeout.ir.text import constants, parse_graph, print_graph, structurally_equal
from tapeout.ir.types import DType, Symbol

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  as above
from torch.nn import functional as F  # noqa: E402  as above

from models_torch import GPT2, Decoder, ResNet50  # noqa: E402  needs torch
from torch_cases import A, B, Fn, assert_same, bf16, check, f16, f32, ints, run, trained  # noqa: E402  needs torch

aten = torch.ops.aten


# ---- models


def test_resnet50() -> None:
    torch.manual_seed(0)
    program = check(ResNet50(), f32(1, 3, 64, 64), factor=20)
    convs = [op for op in program.graph.ops if isinstance(op, g.Conv)]
    assert len(convs) == 53
    assert convs[0].source == "stem.0/convolution"
    assert not any(isinstance(op, g.HostCall) for op in program.graph.ops)


@pytest.fixture(scope="module")
def gpt2() -> GPT2:
    torch.manual_seed(0)
    return GPT2(layers=2, heads=4, width=32, vocabulary=64, context=16).eval()


def test_batch_and_length_of_any_size(gpt2: GPT2) -> None:
    dims = {0: torch.export.Dim("batch", max=8), 1: torch.export.Dim("length", max=16)}
    program = import_torch(gpt2, ints(2, 7, low=0, high=64), dynamic_shapes=(dims,))
    assert [s.name for s in program.graph.symbols] == ["batch", "length"]
    for shape in ((3, 4), (1, 16)):
        ids = ints(*shape, low=0, high=64)
        assert_same(run(program, ids), gpt2(ids).detach(), factor=20)


def test_gpt2_with_any_length(gpt2: GPT2) -> None:
    length = torch.export.Dim("length", min=2, max=16)
    program = import_torch(gpt2, (ints(2, 7, low=0, high=64),), dynamic_shapes=({1: length},), name="gpt2")
    assert program.graph.name == "gpt2"
    assert program.graph.symbols == (Symbol("length", 2, 16),)
    text = print_graph(program.graph)
    assert structurally_equal(parse_graph(text, constants(program.graph)), program.graph)
    for n in (2, 5, 16):
        ids = ints(2, n, low=0, high=64)
        assert_same(run(program, ids), gpt2(ids).detach(), factor=20)
    weights = [op for op in program.graph.ops if isinstance(op, g.Constant) and op.data.shape == (64, 32)]
    assert len(weights) == 1  # the head is the embedding
    assert np.shares_memory(weights[0].data, gpt2.wte.weight.detach().numpy())
    with pytest.raises(UserError, match="outside"):
        run(program, ints(2, 17, low=0, high=64))


def test_decoding_keeps_keys_and_values_in_states(gpt2: GPT2) -> None:
    decoder = Decoder(gpt2, context=8).eval()
    program = import_torch(decoder, (torch.tensor([[1]]), torch.tensor([0])))
    assert [s.name for s in program.graph.states] == ["k0", "v0", "k1", "v1"]
    assert sum(isinstance(op, g.DynamicUpdate) for op in program.graph.ops) == 4
    ids = ints(1, 6, low=0, high=64)
    want = gpt2(ids).detach()
    states: dict[str, Any] = {}
    for i in range(6):
        result = interpret(program.graph, program.pack(ids[:, i : i + 1], torch.tensor([i])), states)
        states = result.states
        assert_same(program.unpack(result.outputs)[:, 0], want[:, i], factor=20)


# ---- the shape of programs


def test_names_and_structure_of_arguments_and_results() -> None:
    class Model(nn.Module):
        def forward(self, pair: Any, options: Any, number: int = 3) -> Any:
            return {"sum": pair[0] + pair[1], "rest": (options["scale"] * number, None, 7, pair[0].shape[0])}

    args = ((A, B), {"scale": f32(2)})
    batch = torch.export.Dim("batch", min=1, max=8)
    program = import_torch(Model(), args, dynamic_shapes=(({0: batch}, {0: batch}), {"scale": None}))
    assert [v.name for v in program.graph.inputs] == ["pair_0", "pair_1", "options_scale"]
    assert [str(v.type) for v in program.graph.inputs][:2] == ["f32[batch,4]", "f32[batch,4]"]
    five = ((f32(5, 4), f32(5, 4)), {"scale": f32(2)})
    assert_same(run(program, *five), Model()(*five))


def test_written_input_is_an_output() -> None:
    program = import_torch(Fn(lambda x, y: x.add_(y).sum()), (A.clone(), B))
    outputs = interpret(program.graph, program.pack(A, B)).outputs
    assert program.written == {"args_0": "args_0.written"}
    assert_same(torch.from_numpy(outputs["args_0.written"]), A + B)
    assert_same(program.unpack(outputs), (A + B).sum(), factor=4)


def test_fixed_arguments_become_constants() -> None:
    program = import_torch(Fn(lambda x, w: x @ w), (A, B.t()), constants={1: B.t()})
    assert [v.name for v in program.graph.inputs] == ["args_0"]
    assert_same(run(program, A, B.t()), A @ B.t(), factor=2)


def test_arithmetic_of_symbols() -> None:
    def fn(x: Any) -> Any:
        n = x.shape[0]
        padded = torch.cat([x, x.new_zeros(n + 1, 4)])
        return padded.reshape(-1), x.mean(0), x.sum() / n, padded[1 : n + 1], x * (n * 2 - 1), x.flip(0).roll(1, 0)

    length = torch.export.Dim("n", min=2, max=30)
    program = import_torch(Fn(fn), (f32(5, 4),), dynamic_shapes=(({0: length},),))
    for n in (2, 9):
        assert_same(run(program, f32(n, 4)), fn(f32(n, 4)), factor=2)


def test_positions_known_only_at_run_time() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", torch.zeros(2, 8, 3), persistent=False)

        def forward(self, x: Any, at: int, index: Any) -> Any:
            self.cache[:, at : at + 1] = x
            i = index.item()
            torch._check(i >= 0)
            torch._check(i < 8)
            return self.cache * 2, self.cache[:, i], self.cache.narrow(1, i, 1), x + at, x + i // 2

    shapes = {"x": None, "at": torch.export.Dim.DYNAMIC, "index": None}
    program = import_torch(Model(), (f32(2, 1, 3), 4, torch.tensor(3)), dynamic_shapes=shapes)
    args = (f32(2, 1, 3), 6, torch.tensor(6))
    result = interpret(program.graph, program.pack(*args))
    model = Model()
    assert_same(program.unpack(result.outputs), model(*args))
    assert_same(torch.from_numpy(result.states["cache"]), model.cache)


def test_bf16_and_f16_parameters_share_memory() -> None:
    module = nn.Linear(4, 3).bfloat16()
    program = import_torch(module, (bf16(2, 4),))
    (weight,) = (op for op in program.graph.ops if isinstance(op, g.Constant) and op.data.shape == (3, 4))
    assert DType.of(weight.data.dtype) is DType.bf16
    before = float(weight.data[0, 0])
    with torch.no_grad():
        module.weight[0, 0] += 1
    assert float(weight.data[0, 0]) != before


def test_saved_program(tmp_path: Path) -> None:
    x = f32(2, 4)
    module = trained(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))).eval()
    path = tmp_path / "small.pt2"
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("b", max=64)},))
    torch.export.save(exported, path)
    for program in (import_torch(path), import_torch(str(path)), import_torch(exported, name="small")):
        assert program.graph.name == "small"
        assert_same(run(program, f32(3, 4)), module(f32(3, 4)).detach(), factor=4)


def test_gradient_and_autocast_scopes_are_imported_in_place() -> None:
    def fn(x: Any, w: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            y = x @ w
        with torch.no_grad():
            return y, y * 2

    check(fn, A, f32(4, 5))


# ---- control flow


def test_cond() -> None:
    def fn(x: Any, y: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda a, b: a + b, lambda a, b: a * b, (x, y))

    program = import_torch(Fn(fn), (A, B))
    for x in (A.abs(), -A.abs()):
        assert_same(run(program, x, B), torch.where(x.sum() > 0, x + B, x * B))


def test_while_loop() -> None:
    def fn(n: Any, x: Any) -> Any:
        return torch._higher_order_ops.while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, a * 2), (n, x))

    program = import_torch(Fn(fn), (torch.tensor(0), A))
    assert_same(run(program, torch.tensor(1), A), (torch.tensor(4), A * 8))


def test_scan() -> None:
    def step(carry: Any, x: Any) -> Any:
        return carry + x, carry * x

    fn = Fn(lambda c, xs: torch._higher_order_ops.scan(step, c, xs))
    c, total, want = f32(4), f32(4), []
    for row in f32(3, 4, seed=5):
        want.append(total * row)
        total = total + row
    assert_same(run(import_torch(fn, (c, f32(3, 4, seed=5))), c, f32(3, 4, seed=5)), (total, torch.stack(want)))


def test_quantised_operations() -> None:
    q = pytest.importorskip("torch.ao.quantization.fx._decomposed") and torch.ops.quantized_decomposed

    def fn(x: Any, scales: Any, zeros: Any) -> Any:
        a = q.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)
        c = q.quantize_per_channel(x, scales, zeros, 1, -128, 127, torch.int8)
        return (
            a,
            q.dequantize_per_tensor(a, 0.05, 3, -128, 127, torch.int8),
            c,
            q.dequantize_per_channel(c, scales, zeros, 1, -128, 127, torch.int8),
        )

    check(fn, 3 * f32(6, 4), torch.tensor([0.01, 0.02, 0.1, 0.3]), torch.tensor([0, 1, -2, 3]), factor=2)


# ---- what is refused


def refused(fn: Callable[..., Any], *args: Any, error: type[UserError] = UnsupportedOp, **options: Any) -> str:
    with pytest.raises(error) as caught:
        import_torch(fn if isinstance(fn, nn.Module) else Fn(fn), args, **options)
    return str(caught.value)


def test_unknown_operation_names_itself_and_its_line() -> None:
    message = refused(lambda x: torch.linalg.qr(x)[0], A)
    assert "aten.linalg_qr.default is not supported" in message
    assert "torch_cases.py:" in message  # where the module calls it


@pytest.mark.parametrize(
    ("fn", "args", "told"),
    [
        (lambda x: x[x > 0].sum(), (A,), "known only when the model runs"),
        (lambda x: F.dropout(x, 0.5, training=True), (A,), r"model.eval\(\)"),
        (lambda x: x + torch.rand(4), (A,), "random numbers"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True), (f32(1, 1, 4, 4),), "positions of the maxima"),
        (lambda x: x.to(torch.complex64).real, (A,), "complex64"),
    ],
    ids=["mask", "dropout", "random", "pool_indices", "complex"],
)
def test_what_the_graph_cannot_express(fn: Callable[..., Any], args: tuple[Any, ...], told: str) -> None:
    with pytest.raises(UnsupportedOp, match=told):
        import_torch(Fn(fn), args)


def test_symbols_whose_product_is_needed() -> None:
    dims = (({0: torch.export.Dim("n"), 1: torch.export.Dim("m")},),)
    assert "affine" in refused(lambda x: x.reshape(-1), f32(3, 5), dynamic_shapes=dims)


def test_bad_models(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="no such file"):
        import_torch(tmp_path / "none.pt2")
    garbage = tmp_path / "garbage.pt2"
    garbage.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(InvalidModel, match=r"garbage.pt2: not a readable .pt2 file"):
        import_torch(garbage)
    with pytest.raises(InvalidModel, match="int is no PyTorch model"):
        import_torch(3)
    with pytest.raises(UserError, match="pass example_inputs"):
        import_torch(nn.Linear(3, 4))
    assert "cannot trace" in refused(nn.Linear(3, 4), f32(2, 5), error=InvalidModel)


def test_bad_arguments() -> None:
    program = import_torch(nn.Linear(4, 3), (f32(2, 4),))
    with pytest.raises(UserError, match="give 1 of them: input"):
        program.pack(A, B)
    with pytest.raises(UserError, match=r"input: dimension 0 is 5; give 2"):
        run(program, f32(5, 4))
    with pytest.raises(UserError, match="float16"):
        run(program, f16(2, 4))


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install tapeout\[torch\]"):
        import_torch("model.pt2")
