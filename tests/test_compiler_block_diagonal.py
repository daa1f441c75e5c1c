"""Grouped convolutions: packed as a block diagonal, with their groups as an axis, and what is computed behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from compiled import ODD, run_everywhere
from tapeout.chip.load import load_chip
from tapeout.compiler import block_diagonal as bd
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir import graph as g
from tapeout.ir import kernel as k
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType

RNG = np.random.default_rng(3)
CHIPS = {
    name: load_chip(name) for name in ("1h8", "ascend-310", "h100", "mlu370-x4", "systolic-128", "wormhole-n150")
} | {"odd": ODD}


def weights(shape: Sequence[int], dtype: DType) -> np.ndarray:
    if dtype.is_int:
        return RNG.integers(-9, 10, shape).astype(dtype.numpy)
    return RNG.standard_normal(shape).astype(dtype.numpy)


def grouped(
    b: Builder,
    x: Value,
    outputs: int,
    groups: int,
    window: Sequence[int] = (3, 3),
    stride: int = 1,
    dilation: int = 1,
    pad: int = 1,
) -> Value:
    """A convolution of constant weights; integers add up in i32."""
    w = b.constant(weights((outputs, x.type.static_shape[1] // groups, *window), x.type.dtype))
    n = len(window)
    return b.conv(x, w, [stride] * n, [(pad, pad)] * n, [dilation] * n, groups=groups)


def model(dtype: DType, shape: Sequence[int], make: Callable[[Builder, Value], Value]) -> g.Graph:
    b = Builder()
    b.output("y", make(b, b.input("x", TensorType(dtype, tuple(shape)))))
    return b.finish()


def test_the_block_diagonal_by_hand() -> None:
    """Four groups of one channel and two outputs, two by two: each output reads its own channel of the two."""
    w = np.arange(1, 9, dtype=np.int8).reshape(8, 1, 1)
    dense = bd.block_diagonal(w, groups=4, count=2)
    assert dense[:, :, 0].tolist() == [[1, 0], [2, 0], [0, 3], [0, 4], [5, 0], [6, 0], [0, 7], [0, 8]]


def test_packing_keeps_the_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bd, "groups_to_pack", lambda op, chip: 3)
    graph = model(DType.i8, (2, 12, 5, 5), lambda b, x: grouped(b, x, 24, 6))
    packed = bd.pack_groups(graph, ODD)
    (conv,) = (op for op in packed.ops if isinstance(op, g.Conv))
    assert (conv.groups, conv.w.type.shape) == (2, (24, 6, 3, 3))
    given = {"x": RNG.integers(-128, 128, (2, 12, 5, 5)).astype(np.int8)}
    np.testing.assert_array_equal(interpret(packed, given).outputs["y"], interpret(graph, given).outputs["y"])


@pytest.mark.parametrize(("chip", "packs"), [("1h8", True), ("h100", True), ("tpu-v3", False), ("systolic-128", False)])
def test_chips_choose(chip: str, packs: bool) -> None:
    """Where a vector unit has as many lanes as fit the work, it keeps depthwise convolutions; floats stay there."""
    spec = load_chip(chip)
    for dtype, expected in ((DType.i8, packs), (DType.f32, False), (DType.f16, False)):
        graph = bd.pack_groups(model(dtype, (1, 128, 28, 28), lambda b, x: grouped(b, x, 128, 128)), spec)
        (conv,) = (op for op in graph.ops if isinstance(op, g.Conv))
        assert (conv.groups < 128) == expected


def test_a_pack_is_one_command_for_all_taps() -> None:
    graph = model(DType.i8, (1, 128, 28, 28), lambda b, x: grouped(b, x, 128, 128))
    (kernel,) = compile_graph(graph, CHIPS["1h8"]).kernels
    (contract,) = (op for op in kernel.ops if isinstance(op, k.Contract))
    assert not contract.vector
    assert np.prod([a.extent for a in contract.reduce]) == 32 * 9


SHAPES: dict[str, tuple[tuple[int, ...], Callable[[Builder, Value], Value]]] = {
    "depthwise": ((1, 12, 9, 9), lambda b, x: grouped(b, x, 12, 12)),
    "stride": ((2, 12, 9, 7), lambda b, x: grouped(b, x, 12, 12, stride=2)),
    "dilation": ((1, 12, 9, 9), lambda b, x: grouped(b, x, 12, 12, dilation=2, pad=2)),
    "one tap": ((1, 12, 5, 5), lambda b, x: grouped(b, x, 24, 6, (1, 1), pad=0)),
    "line": ((3, 8, 17), lambda b, x: grouped(b, x, 8, 8, (5,), pad=2)),
    "volume": ((1, 6, 4, 5, 3), lambda b, x: grouped(b, x, 6, 6, (3, 2, 3))),
    "multiplied": ((1, 6, 7, 7), lambda b, x: grouped(b, x, 18, 6)),
    "narrowed": ((1, 12, 7, 7), lambda b, x: grouped(b, x, 6, 6)),
    "resnext": ((1, 24, 7, 7), lambda b, x: grouped(b, x, 24, 6, stride=2)),
    "two groups": ((1, 10, 6, 6), lambda b, x: grouped(b, x, 14, 2)),
    "padded channels": (
        (1, 9, 5, 5), lambda b, x: grouped(b, b.pad(x, 0, [0, 2, 0, 0], [0, 1, 0, 0]), 12, 6),
    ),
    "some channels": ((1, 15, 5, 5), lambda b, x: grouped(b, b.slice(x, [0, 2, 0, 0], [1, 12, 5, 5]), 12, 6)),
}  # fmt: skip


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", SHAPES)
def test_integers(name: str, chip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, make = SHAPES[name]
    graph = model(DType.i8, shape, make)
    monkeypatch.setattr(bd, "groups_to_pack", lambda op, chip: 2)
    run_everywhere(graph, CHIPS[chip])


@pytest.mark.parametrize("chip", ["1h8", "systolic-128", "odd"])
@pytest.mark.parametrize("dtype", [DType.f32, DType.f16, DType.bf16])
@pytest.mark.parametrize("name", ["depthwise", "multiplied", "resnext", "two groups", "padded channels"])
def test_floats(name: str, dtype: DType, chip: str) -> None:
    shape, make = SHAPES[name]
    run_everywhere(model(dtype, shape, make), CHIPS[chip])


def quantised(b: Builder, y: Value) -> Value:
    """A factor and an offset for each channel, limits, and bytes again."""
    n = y.type.static_shape[1]
    factors, offsets = (b.reshape(b.constant(weights((n,), DType.f32)), (1, n, 1, 1)) for _ in range(2))
    real = b.add(b.mul(b.convert(y, DType.f32), factors), offsets)
    return b.convert(b.unary("round", b.clamp(real, -20.0, 20.0)), DType.i8)


BEHIND: dict[str, Callable[[Builder, Value], Value]] = {
    "drain": quantised,
    "residual": lambda b, y: b.add(b.convert(y, DType.f32), b.input("r", TensorType(DType.f32, y.type.static_shape))),
    "padded residual": lambda b, y: b.add(
        b.convert(y, DType.f32),
        b.pad(b.input("r", TensorType(DType.f32, (1, 9, 7, 7))), 0.0, [0, 2, 0, 0], [0, 1, 0, 0]),
    ),
    "pooled": lambda b, y: b.reduce("sum", b.convert(y, DType.f32), (2, 3)),
    "summed over channels": lambda b, y: b.reduce("sum", y, (1,)),
    "softmax over channels": lambda b, y: b.softmax(b.binary_scalar("mul", b.convert(y, DType.f32), 0.01), 1),
    "largest channel": lambda b, y: b.arg_reduce("max", y, 1),
    "linear": lambda b, y: b.matmul(
        b.transpose(b.convert(y, DType.f32), (0, 2, 3, 1)), b.constant(weights((12, 5), DType.f32))
    ),
    "transposed": lambda b, y: b.unary("neg", b.transpose(y, (0, 2, 3, 1))),
    "twice": lambda b, y: grouped(b, quantised(b, y), 12, 4),
    "reshaped": lambda b, y: b.unary("neg", b.reshape(y, (1, 3, 4, 7, 7))),
    "put together": lambda b, y: b.concat([quantised(b, y), b.input("x2", TensorType(DType.i8, (1, 3, 7, 7)))], 1),
}


@pytest.mark.parametrize("chip", ["1h8", "mlu370-x4", "odd"])
@pytest.mark.parametrize("name", BEHIND)
def test_what_follows(name: str, chip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bd, "groups_to_pack", lambda op, chip: 2)
    graph = model(DType.i8, (1, 12, 7, 7), lambda b, x: BEHIND[name](b, grouped(b, x, 12, 12)))
    run_everywhere(graph, CHIPS[chip])
