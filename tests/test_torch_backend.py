"""`torch.compile(backend="tapeout")`: eager PyTorch is the judge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  as above

from models_torch import GPT2, Decoder  # noqa: E402  needs torch
from tapeout.errors import UserError  # noqa: E402  as above
from tapeout.runtime import torch_backend  # noqa: E402  as above


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch.compiler.reset()
    with torch.no_grad():
        yield
    torch.compiler.reset()


def compiled(model: Any, run_at: str = "graph") -> Any:
    return torch.compile(model, backend="tapeout", options={"run_at": run_at})


def close(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that a graph is compiled."""
    made: list[str] = []
    inner = torch_backend._executable

    def counted(graph: Any, chip: Any, stage: str) -> Any:
        made.append(stage)
        return inner(graph, chip, stage)

    monkeypatch.setattr(torch_backend, "_executable", counted)
    return made


@pytest.mark.parametrize("run_at", ["graph", "chip"])
def test_perceptron(run_at: str, imports: list[str]) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    fast = compiled(model, run_at)
    for _ in range(2):
        x = torch.randn(3, 8)
        close(fast(x), model(x))
    assert imports == [run_at]


def test_the_default_chip_runs_it() -> None:
    model = nn.Linear(8, 4)
    x = torch.randn(3, 8)
    close(torch.compile(model, backend="tapeout")(x), model(x))


def test_other_shapes_are_compiled_once_each(imports: list[str]) -> None:
    model = GPT2(layers=1, heads=2, width=8, vocabulary=16, context=8).eval()
    fast = compiled(model)
    for length in (2, 3, 4, 3):
        ids = torch.randint(0, 16, (1, length))
        close(fast(ids), model(ids))
    assert len(imports) == 3


def test_changed_weights_are_read_again(imports: list[str]) -> None:
    model = nn.Linear(4, 4)
    fast = compiled(model)
    x = torch.randn(2, 4)
    close(fast(x), model(x))
    model.weight.mul_(2)
    close(fast(x), model(x))
    model.load_state_dict({"weight": torch.eye(4), "bias": torch.zeros(4)})
    close(fast(x), x)
    assert len(imports) == 3


def test_buffers_are_written_back(imports: list[str]) -> None:
    model = GPT2(layers=1, heads=2, width=8, vocabulary=16, context=8).eval()
    fast, slow = Decoder(model, context=4).eval(), Decoder(model, context=4).eval()
    step = compiled(fast)
    for i in range(4):
        ids, position = torch.tensor([[i]]), torch.tensor([i])
        close(step(ids, position), slow(ids, position))
        close(fast.k0, slow.k0)
    assert len(imports) == 1


def test_inputs_are_written_back() -> None:
    def fn(x: Any, y: Any) -> Any:
        x.mul_(2)
        return x + y

    x, y = torch.randn(3), torch.randn(3)
    want = 3 * x.clone()
    close(compiled(fn)(x, x.clone()), want)
    close(compiled(fn)(y, torch.zeros(3)), y)


def test_dtypes_numbers_and_structure() -> None:
    def fn(x: Any, n: int) -> Any:
        return {"sum": (x * n).sum(), "flags": x > 0, "half": x.half(), "size": x.shape[0]}

    fast = compiled(fn)
    for n in (2, 3, 4):
        x = torch.randn(n + 1).bfloat16()
        got, want = fast(x, n), fn(x, n)
        assert got["size"] == want["size"]
        for key in ("sum", "flags", "half"):
            assert got[key].dtype == want[key].dtype
            torch.testing.assert_close(got[key], want[key])


def test_graph_breaks() -> None:
    def fn(x: Any) -> Any:
        y = x * 2
        if y.sum() > 0:
            return y + 1
        return y - 1

    fast = compiled(fn)
    for x in (torch.ones(3), -torch.ones(3)):
        close(fast(x), fn(x))


def test_gradients_are_refused() -> None:
    model = nn.Linear(4, 4)
    with torch.enable_grad(), pytest.raises(Exception, match=r"torch.no_grad\(\)"):
        compiled(model)(torch.randn(2, 4))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"chp": "x"}, "'chp' is unknown"), ({"run_at": "moon"}, "chip, graph"), ({"chip": "none"}, "none")],
)
def test_bad_options(options: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        torch_backend.compile_backend(nn.Identity(), [torch.ones(2)], options=options)


def test_unsupported_operations_are_told() -> None:
    with pytest.raises(Exception, match=r"linalg_qr.default is not supported"):
        compiled(lambda x: torch.linalg.qr(x)[0])(torch.randn(3, 3))
