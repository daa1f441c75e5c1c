"""What moves over DRAM, and what waits: parts of concatenations lie in the result, elementwise ops stand where values
are made, long reductions take two steps, what is read again is staged, search knows what short rows cost, and
independent kernels need no barrier.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiled import ODD, PRESETS, run_everywhere
from strategies import inputs_for
from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.compiler.cost import read_bytes
from tapeout.compiler.layouts import assign_layouts
from tapeout.compiler.pipeline import canonical_form, compile_graph, plan_kernels
from tapeout.compiler.runs import Box
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.search import search
from tapeout.compiler.split_reductions import split_reductions
from tapeout.compiler.staging import staged
from tapeout.ir import graph as g
from tapeout.ir import kernel as k
from tapeout.ir.build import Builder
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType
from tapeout.isa import commands as c

CHIPS = (ODD, *PRESETS)
MLU, A100, STCP = (load_chip(name) for name in ("mlu370-x4", "a100", "stcp920"))


def image(b: Builder, *shape: int) -> g.Value:
    return b.input("x", TensorType(DType.f32, shape))


def kernels_of(graph: g.Graph) -> tuple[k.KernelSpec, ...]:
    return plan_kernels(canonical_form(graph, MLU), MLU).kernels


def moves(kernel: k.KernelSpec) -> bool:
    """Whether a kernel only loads and stores."""
    return all(isinstance(op, k.LoadTile | k.StoreTile) for op in kernel.ops)


# ---- concatenations


def joined(twice: bool = False) -> g.Graph:
    b = Builder()
    x = image(b, 4, 6, 5)
    parts = [b.unary("exp", x), b.binary_scalar("mul", x, 3.0), b.unary("neg", x)]
    whole = b.concat([*parts, parts[0]] if twice else parts, 1)
    b.output("y", b.binary_scalar("add", b.reduce("sum", whole, (2,)), 1.0))
    b.output("z", b.reduce("max", parts[1], (1,)))  # a part has another reader
    return b.finish()


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
@pytest.mark.parametrize("twice", [False, True])
def test_parts_are_written_where_the_result_holds_them(chip: Chip, twice: bool) -> None:
    graph = joined(twice)
    run_everywhere(graph, chip, inputs_for(graph, 0))


def test_no_kernel_copies_parts() -> None:
    assert not any(moves(kernel) for kernel in kernels_of(joined()))


def test_what_is_joined_twice_is_copied() -> None:
    assert sum(moves(kernel) for kernel in kernels_of(joined(twice=True))) == 2


def test_concatenations_of_concatenations_lie_in_the_outer_one() -> None:
    b = Builder()
    x = image(b, 3, 4)
    inner = b.concat([b.unary("exp", x), b.unary("neg", x)], 1)
    b.output("y", b.binary_scalar("mul", b.concat([b.unary("abs", x), inner], 1), 2.0))
    graph = b.finish()
    for chip in CHIPS:
        run_everywhere(graph, chip, inputs_for(graph, 0))


def test_joined_images_keep_channels_innermost() -> None:
    b = Builder()
    x = image(b, 1, 3, 8, 8)
    w = b.constant(np.ones((4, 3, 1, 1), np.float32))
    y = b.conv(x, w, (1, 1), ((0, 0), (0, 0)))
    both = b.concat([y, b.unary("exp", y)], 1)
    b.output("y", both)
    assert assign_layouts(b.finish())[both] == (0, 2, 3, 1)


# ---- elementwise ops before moves


def test_elementwise_ops_stand_before_moves() -> None:
    """The logistic function of a reshaped and transposed product is part of the product's kernel."""
    b = Builder()
    x = image(b, 6, 8)
    y = b.matmul(x, b.constant(np.ones((8, 12), np.float32)))
    moved = b.transpose(b.reshape(y, (6, 3, 4)), (1, 0, 2))
    b.output("y", b.unary("exp", b.binary_scalar("mul", moved, 0.5)))
    graph = b.finish()
    order = [type(op) for op in canonical_form(graph, MLU).ops if not isinstance(op, g.Constant | g.Broadcast)]
    assert order.index(g.Unary) < order.index(g.Reshape)
    assert len(kernels_of(graph)) == 1
    for chip in CHIPS:
        run_everywhere(graph, chip, inputs_for(graph, 0))


def test_a_value_that_others_read_too_is_not_moved() -> None:
    b = Builder()
    x = image(b, 6, 8)
    moved = b.reshape(b.unary("exp", x), (12, 4))
    b.output("y", b.unary("neg", moved))
    b.output("z", b.reduce("sum", moved, (0,)))
    ops = [type(op) for op in canonical_form(b.finish(), MLU).ops]
    assert ops.index(g.Reshape) < len(ops) - 1 - ops[::-1].index(g.Unary)


def test_concatenations_are_narrowed_before_they_are_joined() -> None:
    b = Builder()
    x = image(b, 4, 5)
    whole = b.concat([b.unary("exp", x), b.unary("neg", x)], 1)
    scaled = b.unary("round", b.binary_scalar("mul", whole, 20.0))
    b.output("y", b.convert(b.clamp(scaled, -128, 127), DType.i8))
    graph = b.finish()
    (op,) = [op for op in canonical_form(graph, MLU).ops if isinstance(op, g.Concat)]
    assert op.out.type.dtype is DType.i8
    for chip in CHIPS:
        run_everywhere(graph, chip, inputs_for(graph, 0))


def test_copies_of_repeated_values_read_them_once() -> None:
    """Nearest-neighbour upsampling by two, whose result has to lie packed for another shape."""
    b = Builder()
    x = image(b, 1, 4, 4, 8)
    wide = b.reshape(b.broadcast(x, (1, 4, 2, 4, 2, 8), (0, 1, 3, 5)), (1, 8, 8, 8))
    b.output("y", b.reshape(wide, (4, 128)))
    graph = b.finish()
    (kernel,) = (kernel for kernel in kernels_of(graph) if moves(kernel))
    (load,) = (op for op in kernel.ops if isinstance(op, k.LoadTile))
    assert sorted(a.extent for a in load.out.axes) == [4, 4, 8]
    for chip in CHIPS:
        run_everywhere(graph, chip, inputs_for(graph, 0))


# ---- groups


def cell() -> g.Graph:
    """Four gates of a recurrent cell from one product, and the new cell and state."""
    b = Builder()
    x, c = image(b, 2, 8), b.input("c", TensorType(DType.f32, (2, 6)))
    gates = b.matmul(x, b.constant(np.linspace(-1, 1, 192, dtype=np.float32).reshape(8, 24)))
    i, f, z, o = (b.slice(gates, (0, 6 * n), (2, 6)) for n in range(4))
    fresh = b.add(b.mul(b.unary("tanh", f), c), b.mul(b.unary("tanh", i), b.unary("tanh", z)))
    b.output("h", b.mul(b.unary("tanh", o), b.unary("tanh", fresh)))
    b.output("c", fresh)
    return b.finish()


def test_gates_of_a_cell_are_one_kernel() -> None:
    assert len(kernels_of(cell())) == 2


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_a_cell_is_right(chip: Chip) -> None:
    run_everywhere(cell(), chip, inputs_for(cell(), 0))


def test_groups_that_wait_for_each_other_stay_apart() -> None:
    """exp(x) is summed before it meets the other operand, which needs the sum: one kernel could not do both."""
    b = Builder()
    x = image(b, 64, 3000)
    e = b.unary("exp", x)
    total = b.matmul(e, b.constant(np.ones((3000, 3000), np.float32)))
    b.output("y", b.mul(b.unary("neg", total), b.unary("abs", e)))
    graph = b.finish()
    found = plan_kernels(canonical_form(graph, MLU), MLU).grouping.groups
    assert all(not group.needs >> group.number & 1 for group in found)


# ---- reductions in two steps


def test_a_long_reduction_of_few_rows_takes_two_steps() -> None:
    """A channel's image of 512 x 512 on 32 cores: channels lie innermost and fill two granules."""
    b = Builder()
    x = image(b, 1, 16, 512, 512)
    channels = b.conv(x, b.constant(np.ones((16, 16, 1, 1), np.float32)), (1, 1), ((0, 0), (0, 0)))
    b.output("y", b.reduce("sum", channels, (2, 3)))
    found = [op for op in split_reductions(b.finish(), MLU).ops if isinstance(op, g.Reduce)]
    assert len(found) == 2
    assert found[1].x is found[0].out
    assert found[0].out.type.static_shape[2] >= 32


@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (64, 64, 128, 128)])
def test_short_ones_and_many_rows_do_not(shape: tuple[int, ...]) -> None:
    b = Builder()
    b.output("y", b.reduce("sum", image(b, *shape), (2, 3)))
    assert sum(isinstance(op, g.Reduce) for op in split_reductions(b.finish(), MLU).ops) == 1


@pytest.mark.parametrize("fn", ["sum", "max", "min"])
def test_two_steps_mean_the_same(fn: str) -> None:
    b = Builder()
    x = image(b, 1, 2, 60, 900)
    b.output("y", b.reduce(fn, x, (2, 3)))
    graph = b.finish()
    tiny = replace(MLU, memories=tuple(replace(m, bytes=4096) for m in MLU.memories))
    cut = split_reductions(graph, replace(tiny, control=replace(MLU.control, barrier_cycles=0)))
    assert sum(isinstance(op, g.Reduce) for op in cut.ops) == 2
    given = inputs_for(graph, 0)
    found, wanted = (interpret(each, given).outputs["y"] for each in (cut, graph))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-3)


# ---- staging


def tall() -> g.Graph:
    """A product of 6000 x 1024 with 1024 x 512: no core holds either, so one is read again for parts of the other."""
    b = Builder()
    x = b.input("x", TensorType(DType.f16, (6000, 1024)))
    b.output("y", b.matmul(x, b.constant(np.ones((1024, 512), np.float16))))
    return b.finish()


def test_weights_are_staged_where_that_is_faster() -> None:
    plan = plan_kernels(canonical_form(tall(), STCP), STCP)
    copy, product = plan.kernels
    assert moves(copy)
    (store,) = (op for op in copy.ops if isinstance(op, k.StoreTile))
    near = [op.access.buffer for op in product.ops if isinstance(op, k.LoadTile) and op.access.buffer.space]
    assert near == [store.access.buffer]
    assert plan.near.keys() == {store.access.buffer}
    read = sum(read_bytes(product, STCP, plan.schedules[1])[op] for op in product.ops if isinstance(op, k.LoadTile))
    assert read > sum(op.access.buffer.bytes for op in product.ops if isinstance(op, k.LoadTile))


def test_nothing_is_staged_without_room() -> None:
    """On a chip whose shared memory is taken, or that has a cache only, kernels and schedules stay."""
    full = replace(STCP, shared=tuple(replace(level, bytes=4096) for level in STCP.shared))
    for chip in (full, A100):
        assert len(plan_kernels(canonical_form(tall(), chip), chip).kernels) == 1


def test_staging_must_pay() -> None:
    kernel = plan_kernels(canonical_form(tall(), A100), A100).kernels[0]
    own = search(kernel, STCP)

    def never(_: k.KernelSpec) -> Schedule:
        return replace(own, cycles=own.cycles)

    assert staged((kernel,), (own,), {}, STCP, never)[0] == (kernel,)


def test_staged_programs_are_right() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.f16, (1000, 256)))
    weights = np.linspace(-1, 1, 256 * 256, dtype=np.float16).reshape(256, 256)
    b.output("y", b.matmul(x, b.constant(weights)))
    graph = b.finish()
    tiny = replace(STCP, memories=tuple(replace(m, bytes=65536) for m in STCP.memories))
    slow = replace(tiny, dram=replace(STCP.dram, bandwidth_bytes_per_s=STCP.dram.bandwidth_bytes_per_s / 16))
    assert any(kernel.name.endswith(".staged") for kernel in compile_graph(graph, slow).kernels)
    run_everywhere(graph, slow, inputs_for(graph, 0))


# ---- what short rows cost


def test_search_keeps_rows_long() -> None:
    """A first layer of 32 channels of bytes: dealt out by channels, a row of a store would be less than a granule."""
    b = Builder()
    x = b.input("x", TensorType(DType.i8, (8, 3, 160, 160)))
    w = b.constant(np.ones((32, 3, 6, 6), np.int8))
    b.output("y", b.convert(b.conv(x, w, strides=(2, 2), pads=((2, 2), (2, 2)), dtype=DType.i32), DType.i8))
    graph = b.finish()
    compiled = compile_graph(graph, MLU)
    stored = [(op, s) for kernel, s in zip(compiled.kernels, compiled.schedules, strict=True)
              for op in kernel.ops if isinstance(op, k.StoreTile)]  # fmt: skip
    for op, schedule in stored:
        inner = min(range(len(op.access.strides)), key=lambda d: op.access.strides[d])
        assert schedule.extent(op.access.index[inner]) == 32


# ---- kernels side by side


def barriers(graph: g.Graph) -> int:
    return sum(isinstance(node, c.Barrier) for node in compile_graph(graph, MLU).program.body)


def projections(chained: bool) -> g.Graph:
    """Three products: of one value, or each of the one before."""
    b = Builder()
    x = image(b, 6, 16)
    weights = [b.constant(np.full((16, 16), 0.1 * n, np.float32)) for n in range(1, 4)]
    for n, w in enumerate(weights):
        y = b.matmul(x, w)
        b.output(f"y{n}", y)
        x = y if chained else x
    return b.finish()


def test_independent_kernels_need_no_barrier() -> None:
    assert barriers(projections(chained=False)) == 0
    assert barriers(projections(chained=True)) == 2


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
@pytest.mark.parametrize("chained", [False, True])
def test_kernels_side_by_side_are_right(chip: Chip, chained: bool) -> None:
    graph = projections(chained)
    run_everywhere(graph, chip, inputs_for(graph, 0))


def test_a_run_ends_where_local_memory_does() -> None:
    """Nine products whose tiles fill a local memory: their kernels take turns."""
    b = Builder()
    x = image(b, 64, 512)
    for n in range(9):
        b.output(f"y{n}", b.matmul(x, b.constant(np.full((512, 512), 0.01 * n, np.float32))))
    graph = b.finish()
    small = replace(MLU, memories=tuple(replace(m, bytes=m.bytes // 8) for m in MLU.memories))
    program = compile_graph(graph, small).program
    assert 0 < sum(isinstance(node, c.Barrier) for node in program.body) <= 8


def test_small_kernels_are_brought_forward() -> None:
    """Two chains of three: every kernel runs beside one of the other chain."""
    b = Builder()
    w = b.constant(np.full((16, 16), 0.1, np.float32))
    for name in ("p", "q"):
        x = b.input(name, TensorType(DType.f32, (6, 16)))
        for _ in range(3):
            x = b.matmul(x, w)
        b.output(f"{name}3", x)
    assert barriers(b.finish()) == 2


def box(low: int, *dims: tuple[int, int]) -> Box:
    """A window of bytes whose dimensions have these strides and extents."""
    return Box(0, low, low + 1 + sum(s * (n - 1) for s, n in dims), dims)


@pytest.mark.parametrize(
    ("a", "b", "meet"),
    [
        (box(0, (16, 4), (1, 6)), box(6, (16, 4), (1, 10)), False),  # columns 0-5 and 6-15
        (box(0, (16, 4), (1, 7)), box(6, (16, 4), (1, 10)), True),
        (box(0, (16, 4), (1, 6)), box(10, (16, 4), (1, 10)), True),  # goes on in the next row
        (box(0, (16, 4), (1, 16)), box(64, (16, 4), (1, 16)), False),
        (box(0, (16, 4), (1, 6)), box(6, (8, 4), (1, 2)), True),  # other strides: who knows
        (box(18, (16, 3), (1, 4)), box(6, (16, 3), (1, 4)), False),  # columns 2-5 and 6-9
    ],
)
def test_windows_meet(a: Box, b: Box, meet: bool) -> None:
    def bytes_of(x: Box) -> set[int]:
        (s, m), (t, n) = x.dims
        return {x.low + s * i + t * j for i in range(m) for j in range(n)}

    assert a.meets(b) == b.meets(a) == meet
    assert meet or not bytes_of(a) & bytes_of(b)
