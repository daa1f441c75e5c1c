"""What kernels mean: each kind of op against plain NumPy; random graphs give the same values at every level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiled import ODD, PRESETS, assert_close, references
from strategies import graphs, inputs_for
from structure import same
from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.compiler.schedule_text import parse_schedules, print_schedules
from tapeout.compiler.tile_text import parse_tiles, print_tiles
from tapeout.errors import DoesNotFit, UnsupportedOp
from tapeout.ir.graph import Graph
from tapeout.ir.interp import interpret
from tapeout.ir.kernel_interp import run_kernels
from tapeout.ir.kernel_text import buffers_of, constants, parse_kernels, print_kernels
from tapeout.ir.kernel_verify import verify_kernels
from tapeout.ir.types import DType
from tapeout.runtime.executable import Executable
from tapeout.runtime.levels import run_at_kernels, run_at_tiles

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype(np.float32)
W = RNG.normal(size=(6, 3)).astype(np.float32)
L = np.array([2, 0, 2, 7], np.int32)
Q = RNG.integers(-100, 100, (4, 6)).astype(np.int8)
BUFFERS = {"x": "f32 (4, 6)", "w": "f32 (6, 3)", "l": "i32 (4)", "q": "i8 (4, 6)"}
INPUTS = {"x": X, "w": W, "l": L, "q": Q}


def run(out: str, start: np.ndarray, *lines: str) -> np.ndarray:
    """What a kernel of these lines leaves in `y`, which holds `start` before. Axes: a 4, b 6, c 3, d 2, e 3."""
    declared = "".join(f"buffer {name}: {type_} input\n" for name, type_ in BUFFERS.items())
    body = "".join(f"  {line}\n" for line in lines)
    axes = "axes a=4 b=6 whole c=3 d=2 whole e=3 whole f=5"
    text = f'{declared}buffer y: {out} state\nkernel "k" {{\n  {axes}\n{body}}}\n'
    (kernel,) = kernels = parse_kernels(text)
    verify_kernels(kernels)
    buffers = {b.name: b for b in buffers_of(kernels)}
    memory = {b: INPUTS[name] for name, b in buffers.items() if name in INPUTS}
    memory[buffers["y"]] = start.copy()
    run_kernels((kernel,), memory)
    return memory[buffers["y"]]


LOAD_X = "x.1: f32[a, b] = load x[a < 4, b < 6] at 0 step (6, 1)"
LOAD_W = "w.1: f32[b, c] = load w[b < 6, c < 3] at 0 step (3, 1)"
LOAD_L = "l.1: i32[a] = load l[a < 4] at 0 step (1)"
LOAD_Q = "q.1: i8[a, b] = load q[a < 4, b < 6] at 0 step (6, 1)"
STORE = "store y[a < 4, b < 6] at 0 step (6, 1) = y.1"


def test_contractions() -> None:
    add = "y.1: f32[c, a] = contract over (b) x.1 * w.1 + x.1 * w.1"
    y = run(
        "f32 (3, 4)", np.zeros((3, 4), np.float32), LOAD_X, LOAD_W, add, "store y[c < 3, a < 4] at 0 step (4, 1) = y.1"
    )
    np.testing.assert_allclose(y, 2 * (X @ W).T, rtol=1e-5)


def test_windows_read_their_fill_outside() -> None:
    """A convolution of 5 places with stride 2 and 3 taps over rows of 6, padded by 2 in front."""
    load = "x.1: f32[a, 2*f+e-2] = load x[a < 4, 2*f+e-2 < 6] at 0 step (6, 1) fill 0.5"
    fold = "y.1: f32[a, f] = fold max over (e) x.1"
    y = run("f32 (4, 5)", np.zeros((4, 5), np.float32), load, fold, "store y[a < 4, f < 5] at 0 step (5, 1) = y.1")
    padded = np.pad(X, ((0, 0), (2, 5)), constant_values=0.5)
    np.testing.assert_array_equal(y, np.stack([padded[:, 2 * f : 2 * f + 3].max(1) for f in range(5)], 1))


def test_gathers_and_stores_along_lists() -> None:
    """Row 7 lies outside: it reads the fill and is not stored; a row named twice is added twice."""
    rows = "r.1: f32[a, b] = load x[a < 4 by l.1, b < 6] at 0 step (6, 1) fill 9.0"
    y = run("f32 (4, 6)", np.zeros((4, 6), np.float32), LOAD_L, rows, STORE.replace("y.1", "r.1"))
    np.testing.assert_array_equal(y, np.stack([X[2], X[0], X[2], np.full(6, 9)]))
    add = "store y[a < 4 by l.1, b < 6] at 0 step (6, 1) += x.1"
    y = run("f32 (4, 6)", np.ones((4, 6), np.float32), LOAD_X, LOAD_L, add)
    wanted = 1 + np.stack([X[1], 0 * X[0], X[0] + X[2], 0 * X[0]])
    np.testing.assert_allclose(y, wanted, rtol=1e-6)
    last = add.replace("+=", "=")
    np.testing.assert_array_equal(run("f32 (4, 6)", np.ones((4, 6), np.float32), LOAD_X, LOAD_L, last)[2], X[2])


def test_strided_views_and_other_types() -> None:
    back = "y.1: i32[a, c] = load x[a < 4, c < 3] at 5 step (6, -2) as i32"
    y = run("i32 (4, 3)", np.zeros((4, 3), np.int32), back, "store y[a < 4, c < 3] at 0 step (3, 1) = y.1")
    np.testing.assert_array_equal(y, X[:, ::-2].copy().view(np.int32))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("y.1: f32[a, b] = map drain(x.1, 2.0, 0.5, 0.0, 1.0, 0.0)", np.clip(X * 2 + np.float32(0.5), 0, 1)),
        ("y.1: f32[a, b] = map clamp(x.1, 0.0, 0.25)", np.clip(X, 0, 0.25)),
        ("y.1: f32[a, b] = map fma(x.1, x.1, -1.0)", X * X - 1),
        ("y.1: f32[a, b] = map select(q.1, x.1, inf)", np.where(Q != 0, X, np.inf)),
        ("y.1: f32[a, b] = map and(x.1, 0.0)", 0 * X),
        ("y.1: f32[a, b] = map not(x.1)", X == 0),
        ("y.1: f32[a, b] = map scan_sum(x.1) along b", np.cumsum(X, 1)),
        ("y.1: f32[a, b] = map sort(x.1) along b", np.sort(X, 1)),
        ("y.1: f32[a, b] = map iota(1.0, 0.5) along b", np.tile(1 + np.arange(6) / 2, (4, 1))),
        ("y.1: f32[a, b] = map mul(q.1, 0.5)", Q * 0.5),
        ("y.1: f32[a, b] = map gt(x.1, 0.0)", X > 0),
    ],
)
def test_maps(line: str, wanted: np.ndarray) -> None:
    y = run("f32 (4, 6)", np.zeros((4, 6), np.float32), LOAD_X, LOAD_Q, line, STORE)
    np.testing.assert_allclose(y, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("y.1: i32[a, b] = map floor(q.1)", Q.astype(np.int32)),
        ("y.1: i32[a, b] = map not(q.1)", ~Q.astype(np.int32)),
        ("y.1: i32[a, b] = map shr(q.1, 2.0)", Q.astype(np.int32) >> 2),
        ("y.1: i32[a, b] = map copy(x.1)", np.trunc(X).astype(np.int32)),
        ("y.1: i32[a, b] = map le(q.1, 3.0)", Q <= 3),
    ],
)
def test_integer_maps(line: str, wanted: np.ndarray) -> None:
    y = run("i32 (4, 6)", np.zeros((4, 6), np.int32), LOAD_X, LOAD_Q, line, STORE)
    np.testing.assert_array_equal(y, wanted)


def test_unsigned_shifts_and_logic() -> None:
    lines = ("u.1: u32[a, b] = map copy(q.1)", "s.1: u32[a, b] = map shr(u.1, 28.0)", "y.1: i32[a, b] = map copy(s.1)")
    y = run("i32 (4, 6)", np.zeros((4, 6), np.int32), LOAD_Q, *lines, STORE)
    np.testing.assert_array_equal(y, Q.astype(np.int32).view(np.uint32) >> 28)
    lines = ("t.1: b1[a, b] = map lt(q.1, 0.0)", "n.1: b1[a, b] = map not(t.1)", "y.1: i32[a, b] = map copy(n.1)")
    np.testing.assert_array_equal(run("i32 (4, 6)", y, LOAD_Q, *lines, STORE), Q >= 0)


def test_drains_round_and_saturate() -> None:
    drain = "y.1: i8[a, b] = map drain(x.1, 100.0, 0.5, -inf, inf, 3.0)"
    y = run("i8 (4, 6)", np.zeros((4, 6), np.int8), LOAD_X, drain, STORE)
    np.testing.assert_array_equal(y, np.clip(np.rint(X * 100 + np.float32(0.5)) + 3, -128, 127))


@pytest.mark.parametrize(
    ("fn", "wanted"),
    [("sum", X.sum(1)), ("prod", X.prod(1)), ("max", X.max(1)), ("min", X.min(1)), ("arg_max", X.argmax(1))],
)
def test_folds(fn: str, wanted: np.ndarray) -> None:
    dtype = "i64" if fn == "arg_max" else "f32"
    start = np.zeros(4, np.int64 if fn == "arg_max" else np.float32)
    fold = f"y.1: {dtype}[a] = fold {fn} over (b) x.1"
    y = run(f"{dtype} (4)", start, LOAD_X, fold, "store y[a < 4] at 0 step (1) = y.1")
    np.testing.assert_allclose(y, wanted, rtol=1e-5)


def test_a_sort_reorders_its_second_source() -> None:
    lines = (
        "p.1: i64[a, b] = map iota(0.0, 1.0) along b",
        "k.1: f32[a, b] = map sort(x.1, p.1) along b",
        "y.1: i64[a, b] = map copy(p.1)",
    )
    y = run("i64 (4, 6)", np.zeros((4, 6), np.int64), LOAD_X, *lines, STORE)
    np.testing.assert_array_equal(y, np.argsort(X, 1))


# ---- all levels


def agree_at_every_level(graph: Graph, chip: Chip) -> bool:
    """Graph, canonical form, kernels, tiles and program give the same values, and every text is read back.

    False where the compiler says that it cannot.
    """
    try:
        compiled = compile_graph(graph, chip)
    except (DoesNotFit, UnsupportedOp):
        return False
    given = inputs_for(graph, 1)
    wide, narrow = references(graph, given)
    canonical = interpret(compiled.graph, given)
    program = Executable(compiled, chip)
    found = {
        "canonical": (canonical.outputs, canonical.states),
        "kernels": ((at := run_at_kernels(compiled, given)).outputs, at.states),
        "tiles": ((at := run_at_tiles(compiled, chip, given)).outputs, at.states),
        "program": (program.run(given).outputs, program.states),
    }
    for outputs, states in found.values():
        assert_close(outputs, wide.outputs, narrow.outputs, narrow.values)
        assert_close(states, wide.states, narrow.states, narrow.values)
    arrays = constants(buffers_of(compiled.kernels))
    assert same(compiled.kernels, parse_kernels(print_kernels(compiled.kernels), arrays))
    assert same(compiled.tiles, parse_tiles(print_tiles(compiled.tiles, chip), chip, arrays))
    text = print_schedules(compiled.kernels, compiled.schedules)
    assert parse_schedules(text, compiled.kernels) == compiled.schedules
    return True


@pytest.mark.native
@pytest.mark.parametrize("chip", [*PRESETS, ODD], ids=lambda chip: chip.name)
@settings(max_examples=120)
@given(graph=graphs(max_ops=8, dtypes=(DType.f32, DType.f16, DType.bf16), states=True))
def test_every_level_gives_the_same_values(chip: Chip, graph: Graph) -> None:
    agree_at_every_level(graph, chip)


@pytest.mark.native
@pytest.mark.parametrize("chip", PRESETS, ids=lambda chip: chip.name)
@settings(max_examples=40)
@given(graph=graphs(max_ops=5, dtypes=(DType.bf16,), only="conv dot chain integer_dot pool gather scatter".split()))
def test_matrix_work_gives_the_same_values(chip: Chip, graph: Graph) -> None:
    agree_at_every_level(graph, chip)
