"""The bounds: work counted by hand, what is not counted, and that no compiled program is faster than the floor."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import graphs
from tapeout.chip.load import load_chip, presets
from tapeout.chip.spec import Chip, Geometry
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import DoesNotFit, UnsupportedOp, UserError
from tapeout.ir import Builder, DType, Graph, TensorType
from tapeout.report import bounds as b
from tapeout.report.work import Carrier, Work, count
from tapeout.sim import timing

F32 = DType.f32
SYSTOLIC = load_chip("systolic-128")
MLU = load_chip("mlu370-x4")
RNG = np.random.default_rng(1)


def weights(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def linear(rows: int = 8, k: int = 16, n: int = 4) -> tuple[Builder, Any]:
    build = Builder()
    x = build.input("x", TensorType(F32, (rows, k)))
    return build, build.matmul(x, build.constant(weights(k, n)))


def finish(build: Builder, *values: Any) -> Graph:
    for i, value in enumerate(values):
        build.output(f"out{i}", value)
    return build.finish()


def test_matrix_product_counted_by_hand() -> None:
    """8x16 by 16x4: 512 MACs, 512 bytes in, 256 of weights, 128 out."""
    work = count(finish(*linear()))
    assert (work.macs, work.input_bytes, work.weight_bytes, work.output_bytes) == (512, 512, 256, 128)
    assert work.chain == 1


def test_convolution_counts_only_taps_inside() -> None:
    """3x3 over 4x4 with one element of padding: 3 + 4 + 3 = 10 of the 12 (place, tap) pairs of a dimension hit."""
    build = Builder()
    x = build.input("x", TensorType(F32, (1, 2, 4, 4)))
    y = build.conv(x, build.constant(weights(3, 2, 3, 3)), strides=(1, 1), pads=((1, 1), (1, 1)))
    work = count(finish(build, y))
    assert work.macs == 3 * 2 * 10 * 10


def test_strided_convolution_reads_only_what_it_touches() -> None:
    """A 1x1 convolution with stride 2 touches a quarter of its input."""
    build = Builder()
    x = build.input("x", TensorType(F32, (1, 2, 8, 8)))
    y = build.conv(x, build.constant(weights(3, 2, 1, 1)), strides=(2, 2), pads=((0, 0), (0, 0)))
    assert count(finish(build, y)).input_bytes == 2 * 16 * 4


def test_what_no_output_needs_does_not_count() -> None:
    build, y = linear()
    build.matmul(y, build.constant(weights(4, 100)))
    assert count(finish(build, build.slice(y, [7, 0], [1, 4]))).macs == 16 * 4


def test_equal_ops_count_once() -> None:
    build = Builder()
    x, w = build.input("x", TensorType(F32, (8, 16))), weights(16, 4)
    first, second = build.matmul(x, build.constant(w)), build.matmul(x, build.constant(w.copy()))
    work = count(finish(build, first, build.relu(second)))
    assert (work.macs, work.weight_bytes) == (512, 256)


def test_constants_are_folded() -> None:
    build = Builder()
    y = build.matmul(build.constant(weights(8, 16)), build.constant(weights(16, 4)))
    work = count(finish(build, build.add(y, build.input("x", TensorType(F32, (8, 4))))))
    assert work.macs == 0
    assert work.dram_bytes == 2 * 8 * 4 * 4


def test_outputs_may_stay_in_the_cache_of_the_chip() -> None:
    build = Builder()
    x = build.input("x", TensorType(F32, (512, 1024)))
    graph = finish(build, build.relu(x))
    gpu = load_chip("a100")
    small = replace(gpu, shared=(replace(gpu.shared[0], bytes=1 << 20),))
    clusters = replace(gpu, shared=(replace(gpu.shared[0], scope="cluster"),))
    whole = {"inputs": 2 << 20, "weights": 0, "states": 0, "outputs": 2 << 20}
    assert b.bounds(graph, gpu).compulsory_bytes == {**whole, "outputs": 0}
    assert b.bounds(graph, small).compulsory_bytes == {**whole, "outputs": 1 << 20}
    assert b.bounds(graph, clusters).compulsory_bytes == whole
    assert b.floor(graph, gpu) < b.floor(graph, small) < b.floor(graph, clusters)


def test_repeated_rows_count_once() -> None:
    build = Builder()
    x = build.broadcast(build.input("x", TensorType(F32, (16,))), (8, 16), (1,))
    assert count(finish(build, build.matmul(x, build.constant(weights(16, 4))))).macs == 16 * 4


def test_views_of_inputs_cost_nothing() -> None:
    build = Builder()
    x = build.input("x", TensorType(F32, (4, 6)))
    assert count(finish(build, build.transpose(build.reshape(x, (2, 12)), (1, 0)))) == Work(
        (), (0, 0), 0, 0, 0, 0, 0, 0
    )


def test_a_gather_touches_its_rows_only() -> None:
    build = Builder()
    table = build.constant(weights(1000, 8))
    ids = build.input("ids", TensorType(DType.i64, (5,)))
    work = count(finish(build, build.gather(table, ids, 0)))
    assert (work.weight_bytes, work.input_bytes, work.output_bytes) == (5 * 8 * 4, 40, 5 * 8 * 4)


def test_a_constant_mask_halves_attention() -> None:
    """Causal scores of 8 tokens: 36 of 64 exponentials and score products."""
    build = Builder()
    q, k = (build.input(n, TensorType(F32, (8, 4))) for n in "qk")
    scores = build.matmul(q, build.transpose(k, (1, 0)))
    mask = build.constant(np.tril(np.ones((8, 8), np.bool_)))
    out = build.softmax(build.select(mask, scores, build.full(-1e30, scores.type)), 1)
    work = count(finish(build, out))
    assert (work.macs, work.special) == (36 * 4, (36, 0))


def test_states_count_where_they_change() -> None:
    build = Builder()
    held = build.state("cache", np.zeros((100, 8), np.float32))
    row = build.input("row", TensorType(F32, (1, 8)))
    at = [build.input(n, TensorType(DType.i32, ())) for n in ("i", "j")]
    build.set_state("cache", build.dynamic_update(held, row, at))
    work = count(build.finish())
    assert (work.state_bytes, work.input_bytes) == (32, 32)


def test_quantised_products_run_at_the_rate_of_integers() -> None:
    """(x - zero) * scale of i8 keeps 8 bits, whatever type it is computed in."""
    build = Builder()
    x = build.convert(build.input("x", TensorType(DType.i8, (8, 64))), F32)
    w = build.convert(build.constant(RNG.integers(-99, 99, (64, 32)).astype(np.int8)), F32)
    y = build.matmul(build.binary_scalar("mul", x, 0.1), build.mul(w, build.constant(weights(32))))
    (found,) = count(finish(build, y)).contractions
    assert found.a == found.b == Carrier(8, True, 0)
    assert b.matrix_rate(found, MLU) == 32 * 4096


@pytest.mark.parametrize(
    ("a", "unit", "expected"),
    [((24, False, 8), "bf16", 6), ((24, False, 8), "f32", 1), ((24, False, 8), "f16", 0), ((11, False, 5), "bf16", 3),
     ((8, True, 0), "i8", 1), ((8, True, 0), "bf16", 1), ((24, False, 8), "i8", 0), ((16, True, 0), "i8", 3)],
)  # fmt: skip
def test_products_of_parts(a: tuple[int, bool, int], unit: str, expected: int) -> None:
    assert b.products(Carrier(*a), Carrier(*a), unit) == expected


def test_two_machines_share_the_work() -> None:
    """Matrix unit 4 MACs, vector unit 1 MAC a cycle: 500 MACs take 100 cycles of both."""
    one = replace(
        SYSTOLIC,
        matrix=replace(SYSTOLIC.matrix, geometry={"f32": Geometry(1, 2, 2)}),
        vector=replace(SYSTOLIC.vector, lanes={"f32": 1, "i32": 1}),
    )
    graph = finish(*linear(5, 10, 10))
    assert b.bounds(graph, one).compute_cycles == pytest.approx(100)


def test_array_shape_is_paid_for() -> None:
    """1 x 200 by 200 x 300 on a 128 x 128 array: the row stays, and 300 columns stream through each of its 2 parts. The
    other way round 2 x 3 parts cost their load of 128 cycles each."""
    build = Builder()
    x = build.input("x", TensorType(DType.bf16, (1, 200)))
    y = build.matmul(x, build.constant(weights(200, 300).astype(DType.bf16.numpy)))
    (found,) = count(finish(build, y)).contractions
    assert b.array_cycles(found, SYSTOLIC) == 2 * 300
    assert b.bounds(finish(build, y), SYSTOLIC).attainable_cycles >= found.macs / (128 * 128 + 256)


def depthwise(channels: int, height: int, width: int) -> Graph:
    """A depthwise convolution of bytes, 3 x 3, whose results are so many."""
    build = Builder()
    x = build.input("x", TensorType(DType.i8, (1, channels, height + 2, width + 2)))
    w = build.constant(RNG.integers(1, 9, (channels, 1, 3, 3)).astype(np.int8))
    return finish(build, build.conv(x, w, [1, 1], [(0, 0)] * 2, groups=channels))


def test_batches_may_be_packed() -> None:
    """128 channels of 1000 results each: as one block diagonal they are 1000 x 1152 by 1152 x 128, nine passes over the
    array. One by one they would be 128 passes."""
    (found,) = count(depthwise(128, 25, 40)).contractions
    assert (found.batch, found.m, found.n, found.k) == (128, 1000, 1, 9)
    assert b.array_cycles(found, SYSTOLIC) == 9 * 1000


@pytest.mark.parametrize("chip", presets())
def test_packed_groups_are_not_faster_than_the_bounds(chip: str) -> None:
    spec = load_chip(chip)
    graph = depthwise(96, 28, 28)
    cycles = timing.run(compile_graph(graph, spec).program, spec).cycles
    assert cycles >= b.bounds(graph, spec).attainable_cycles


def test_symbols_need_a_value() -> None:
    build = Builder()
    build.symbol("n", 1, 4)
    from tapeout.ir import symbol

    build.output("y", build.relu(build.input("x", TensorType(F32, (symbol("n"),)))))
    with pytest.raises(UserError, match="--set"):
        count(build.finish())


def starved(chip: Chip) -> Chip:
    """The chip without latencies, with so little bandwidth and so few lanes that the floor is close."""
    return replace(
        chip,
        topology=replace(chip.topology, dies=1, clusters=1, cores=1),
        vector=replace(chip.vector, lanes=dict.fromkeys(chip.vector.lanes, 1), startup_cycles=0),
        matrix=replace(
            chip.matrix, geometry=dict.fromkeys(chip.matrix.geometry, Geometry(1, 1, 1)), load_cycles=0, fill_cycles=0
        ),
        move=replace(chip.move, startup_cycles=0),
        dma=replace(chip.dma, setup_cycles=0),
        dram=replace(chip.dram, bandwidth_bytes_per_s=chip.topology.clock_hz, granule_bytes=1, latency_cycles=0),
        advertised_tops={},
    )


CHIPS = [load_chip(name) for name in presets()]
HARD = [*CHIPS, *map(starved, CHIPS)]


@settings(max_examples=100)
@given(graphs(max_ops=6, dtypes=(DType.f32, DType.bf16), states=True), st.sampled_from(HARD))
def test_no_program_is_faster_than_the_bounds(graph: Graph, chip: Chip) -> None:
    found = b.bounds(graph, chip)
    try:
        compiled = compile_graph(graph, chip)
    except (UnsupportedOp, DoesNotFit):
        return
    cycles = timing.run(compiled.program, chip, [[0] * 64] * chip.cores).cycles
    assert cycles >= found.floor_cycles
    assert cycles >= found.attainable_cycles


@pytest.mark.parametrize("chip", HARD, ids=lambda c: f"{c.name}-{c.cores}")
def test_a_large_product_comes_near_its_floor(chip: Chip) -> None:
    """The floor has teeth: on starved chips a large product is within a factor of it."""
    build = Builder()
    x = build.input("x", TensorType(DType.bf16, (64, 64)))
    y = build.matmul(x, build.constant(weights(64, 64).astype(DType.bf16.numpy)))
    graph = finish(build, y)
    found = b.bounds(graph, chip)
    cycles = timing.run(compile_graph(graph, chip).program, chip).cycles
    assert found.floor_cycles <= found.attainable_cycles <= cycles
    if chip.cores == 1 and chip.vector.lanes["f32"] == 1:
        assert cycles < 4 * found.floor_cycles
