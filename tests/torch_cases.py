"""What the tests of the PyTorch front end share: modules of functions, seeded inputs, comparison with eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeout.frontend.torch_export import TorchProgram, import_torch
from tapeout.ir.interp import interpret
from tapeout.ir.verify import verify

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  as above

aten = torch.ops.aten
inf, nan = float("inf"), float("nan")


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, *args: Any) -> Any:
        return self.fn(*args)


def run(program: TorchProgram, *args: Any) -> Any:
    verify(program.graph)
    return program.unpack(interpret(program.graph, program.pack(*args)).outputs)


def tolerance(dtype: Any, factor: float) -> float:
    """16-bit floats are rounded once, as PyTorch does; for f32 the elementary functions of NumPy differ a little."""
    if not dtype.is_floating_point:
        return 0
    return torch.finfo(dtype).eps * (1 if dtype.itemsize == 2 else 4 * factor)


def assert_same(got: Any, want: Any, factor: float = 1.0) -> None:
    """Equal in structure, dtype and shape; floats within a few units in the last place of the largest element."""
    got, want = torch.utils._pytree.tree_leaves(got), torch.utils._pytree.tree_leaves(want)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        if not isinstance(b, torch.Tensor):
            assert a == b
            continue
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        finite = b[b.isfinite()].double().abs() if b.is_floating_point() else torch.empty(0)
        scale = float(finite.max()) if finite.numel() else 1.0
        error = tolerance(b.dtype, factor)
        torch.testing.assert_close(a, b, rtol=error, atol=error * min(scale, 1e4), equal_nan=True)


def check(fn: Callable[..., Any], *args: Any, factor: float = 1.0, **options: Any) -> TorchProgram:
    module = fn if isinstance(fn, nn.Module) else Fn(fn)
    program = import_torch(module.eval(), args, **options)
    with torch.no_grad():
        want = module(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args))
    assert_same(run(program, *args), want, factor)
    return program


def f32(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def f16(*shape: int) -> Any:
    return f32(*shape).half()


def bf16(*shape: int) -> Any:
    return f32(*shape).bfloat16()


def ints(*shape: int, low: int = -9, high: int = 10, dtype: Any = torch.int64) -> Any:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def unit(*shape: int) -> Any:
    """Evenly spread in (-1, 1)."""
    count = int(np.prod(shape))
    return (torch.linspace(-0.98, 0.97, count)).reshape(shape)


def positive(*shape: int) -> Any:
    return f32(*shape).abs() + 0.1


def trained(module: nn.Module) -> nn.Module:
    """With statistics and parameters that are not the trivial ones."""
    torch.manual_seed(3)
    for value in (*module.parameters(), *module.buffers()):
        if value.is_floating_point():
            nn.init.uniform_(value, 0.2, 1.0)
    return module


A, B = f32(3, 4), f32(3, 4, seed=2)
