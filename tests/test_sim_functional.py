"""The native functional executor, one command at a time, judged by the commands' meaning in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_commands import DRAM_BYTES, LOCAL_BYTES, Case, Draw, run_native, run_numpy
from tapeout import _native
from tapeout.chip.spec import ROLES
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa import meaning
from tapeout.isa.encode import DTYPES
from tapeout.isa.operands import Affine, Tensor, View

SEEDS = st.integers(0, 2**32)
APPROXIMATE = frozenset("exp log rsqrt sin cos tanh erf pow atan2".split())


def result_view(case: Case) -> tuple[View, tuple[int, ...]] | None:
    """Where a command other than a DMA puts its result."""
    match case.command:
        case c.Vector() as v:
            return v.dst, v.dims
        case c.Drain() | c.Copy() as d:
            return d.dst, d.dims
        case c.MatMul() as m:
            return m.c, (*m.m, m.n)
        case _:
            return None


def assert_same(case: Case, exact: bool = True, tolerance: float = 0.0) -> None:
    """Native and NumPy leave the same bytes; any NaN equals any NaN; `tolerance` is relative to the largest result."""
    with np.errstate(invalid="ignore"):  # signalling NaN among the inputs
        _assert_same(case, exact, tolerance)


def _assert_same(case: Case, exact: bool, tolerance: float) -> None:
    native, native_dram = run_native(case, exact)
    expected, expected_dram = run_numpy(case)
    if isinstance(case.command, c.Store) and case.tensor.dtype.is_float:
        assert_same_tensor(case, native_dram, expected_dram)
    np.testing.assert_array_equal(native_dram, expected_dram)
    found = result_view(case)
    if found is not None:
        view, dims = found
        where = meaning.addresses(view.base.const, dims, view.strides)
        got, want = (meaning.peek(x, where, view.dtype) for x in (native, expected))
        if view.dtype.is_float:
            got, want = got.astype(np.float64), want.astype(np.float64)
        if isinstance(case.command, c.Vector) and case.command.op in APPROXIMATE:
            assert_ulps(got, want)
        elif tolerance:
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1.0, np.abs(want).max(initial=0)))
        else:
            np.testing.assert_array_equal(got, want)
        for memory in (native, expected):
            memory[(where[..., None] + np.arange(view.dtype.bytes)).reshape(-1)] = 0
    np.testing.assert_array_equal(native, expected)


def assert_same_tensor(case: Case, native: np.ndarray, expected: np.ndarray) -> None:
    """The elements of the tensor as numbers; then their bytes are cleared on both sides."""
    tensor = case.tensor
    offset = case.command.offset.const
    where = meaning.addresses(tensor.base + offset, tensor.extents, tensor.strides)
    got, want = (meaning.peek(x, where, tensor.dtype).astype(np.float64) for x in (native, expected))
    np.testing.assert_array_equal(got, want)
    for memory in (native, expected):
        memory[(where[..., None] + np.arange(tensor.dtype.bytes)).reshape(-1)] = 0


def assert_ulps(got: np.ndarray, want: np.ndarray, most: int = 1) -> None:
    """f32 values (held in f64) at most so many steps apart."""
    a, b = got.astype(np.float32), want.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    steps = [np.where(x.view(np.int32) < 0, -(x.view(np.int32) & 0x7FFFFFFF), x.view(np.int32)) for x in (a, b)]
    apart = np.where(np.isnan(a), 0, np.abs(steps[0].astype(np.int64) - steps[1]))
    assert apart.max(initial=0) <= most, (a[apart > most][:5], b[apart > most][:5])


# ---- every command, native and NumPy


def test_codes_are_those_of_the_encoding():
    dtypes, ops, opcodes, roles = _native.codes()
    assert dtypes == [d.value for d in DTYPES]
    assert ops == list(c.VECTOR_OPS)
    assert opcodes == [kind.__name__ for kind in c.OPCODES]
    assert roles == list(ROLES)


@pytest.mark.native
@pytest.mark.parametrize("op", c.VECTOR_OPS)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_vector(op: str, seed: int):
    assert_same(Draw(seed).vector(op))


@pytest.mark.native
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_drain(seed: int):
    assert_same(Draw(seed).drain())


@pytest.mark.native
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_copy(seed: int):
    assert_same(Draw(seed).copy())


@pytest.mark.native
@pytest.mark.parametrize("kind", [c.Load, c.Store])
@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_dma(kind: type[c.Load] | type[c.Store], seed: int):
    assert_same(Draw(seed).dma(kind))


@pytest.mark.native
@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_matmul_exact(seed: int):
    assert_same(Draw(seed).matmul())


@pytest.mark.native
@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_matmul_fast(seed: int):
    case = Draw(seed).matmul(wild=False)
    assert_same(case, exact=False, tolerance=0.0 if case.command.c.dtype is DType.i32 else 1e-5)


@pytest.mark.native
@pytest.mark.parametrize(
    "dtypes", [("f32", "f32"), ("bf16", "bf16"), ("f16", "f16"), ("i8", "i8"), ("u8", "u8"), ("i16", "i16")]
)
@pytest.mark.parametrize("layout", ["row", "down"])
def test_matmul_fast_larger_than_blocks(dtypes: tuple[str, str], layout: str):
    """Several blocks in each direction, ragged, from DRAM sized tiles; extreme bytes, whose sums must stay exact."""
    rows, cols, depth = 101, 41, 270
    rng = np.random.default_rng(0)
    a_type, b_type = map(DType, dtypes)
    bound = (np.iinfo(a_type.numpy).min, np.iinfo(a_type.numpy).max) if a_type.is_int else (-4, 4)
    a = rng.integers(*bound, (rows, depth), endpoint=True).astype(a_type.numpy)
    b = rng.integers(*bound, (depth, cols), endpoint=True).astype(b_type.numpy)
    if a_type is DType.u8:
        a[:], b[:] = 255, 255
    wide = np.float64 if a_type.is_float else np.int64
    want = (a.astype(wide) @ b.astype(wide)).astype(np.float32 if a_type.is_float else np.int32)
    strides = lambda x: x.strides  # noqa: E731
    if layout == "down":
        a, b = np.asfortranarray(a), np.asfortranarray(b)
    got = matmul_of(a, b, want, strides(a), strides(b))
    np.testing.assert_array_equal(got, want)


def matmul_of(a: np.ndarray, b: np.ndarray, like: np.ndarray, a_strides, b_strides) -> np.ndarray:
    """a @ b in the machine, the operands loaded as bytes."""
    import dataclasses

    from sim_commands import chip
    from tapeout.isa.operands import Post, Wait
    from tapeout.isa.program import Program
    from tapeout.sim.machine import Segment, run

    big = chip()
    big = dataclasses.replace(big, memories=(dataclasses.replace(big.memories[0], bytes=1 << 20), *big.memories[1:]))
    flat = [np.ravel(x, order="K").view(np.uint8) for x in (a, b)]
    at_b, at_c = 1 << 18, 1 << 19
    tensors = [Tensor(n, 0, base, DType.u8, (len(x),), (1,)) for n, base, x in zip("ab", (0, at_b), flat, strict=True)]
    tensors.append(Tensor("c", 0, at_c, DType.u8, (like.nbytes,), (1,)))
    u8 = lambda base: View(0, Affine(base), (1,), DType.u8)  # noqa: E731
    dtypes = [DType.of(x.dtype) for x in (a, b, like)]
    body = (
        c.Load(0, (Affine(),), (len(flat[0]),), Affine(), u8(0)),
        c.Load(1, (Affine(),), (len(flat[1]),), Affine(), u8(at_b), posts=(Post(0),)),
        c.MatMul(
            (a.shape[0],), b.shape[1], (a.shape[1],),
            View(0, Affine(0), a_strides, dtypes[0]), View(0, Affine(at_b), b_strides, dtypes[1]),
            View(0, Affine(at_c), like.strides, dtypes[2]), Affine(), waits=(Wait(0),), posts=(Post(1),),
        ),
        c.Store(2, (Affine(),), (like.nbytes,), Affine(), u8(at_c), waits=(Wait(1),)),
    )  # fmt: skip
    out = np.zeros_like(like)
    run(
        Program("mm", "small", 1, tuple(tensors), ("core",), (0, 0), body),
        big,
        [Segment(0, flat[0], True), Segment(at_b, flat[1], True), Segment(at_c, out, False)],
    )
    return out


# ---- functions and conversions over their whole ranges


def unary(op: str, x: np.ndarray, dst: DType = DType.f32) -> np.ndarray:
    """The operation on up to 1024 numbers."""
    local = np.zeros(LOCAL_BYTES, np.uint8)
    local[: x.nbytes] = x.view(np.uint8)
    src = View(0, Affine(), (x.itemsize,), DType.of(x.dtype))
    out = View(0, Affine(1 << 14), (dst.bytes,), dst)
    compute = "f32" if DType.of(x.dtype).is_float else "i64"
    case = Case(
        c.Vector(op, compute, (len(x),), out, (src,), 0, Affine()),
        Tensor("t", 0, 0, DType.u8, (1,), (1,)),
        local,
        np.zeros(DRAM_BYTES, np.uint8),
    )
    after = run_native(case)[0]
    return after[1 << 14 : (1 << 14) + len(x) * dst.bytes].view(dst.numpy)


def all_magnitudes(seed: int) -> np.ndarray:
    """Floats of every exponent and sign, specials included."""
    bits = np.random.default_rng(seed).integers(0, 2**32, 1000, dtype=np.uint32).view(np.float32)
    specials = np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38], np.float32)
    return np.concatenate([bits, specials])


RANGES = {"exp": (-110, 95), "log": (0, 20), "sin": (-1e6, 1e6), "cos": (-1e6, 1e6), "tanh": (-10, 10), "erf": (-5, 5)}


@pytest.mark.parametrize("op", RANGES)
def test_functions_are_within_one_place(op: str):
    """Over all magnitudes and densely where the function does something; large arguments against exact reduction."""
    from mpmath import mp

    exact = {"sin": mp.sin, "cos": mp.cos}.get(op)
    reference = {"erf": np.vectorize(math.erf)}.get(op, getattr(np, op, None))
    for seed in range(20):
        dense = np.random.default_rng(seed).uniform(*RANGES[op], 1000).astype(np.float32)
        for x in (all_magnitudes(seed), dense, (dense / 1e3).astype(np.float32)):
            with np.errstate(all="ignore"):
                want = reference(x.astype(np.float64)).astype(np.float32)
            if exact is not None and seed < 2:
                mp.prec = 250
                want = np.asarray([float(exact(mp.mpf(float(v)))) if np.isfinite(v) else np.nan for v in x], np.float32)
            assert_ulps(unary(op, x), want)


@pytest.mark.parametrize("dtype", [DType.f16, DType.bf16, DType.f8e4m3, DType.f8e5m2])
def test_every_small_float_reads_as_numpy_says(dtype: DType):
    codes = np.arange(2 ** (8 * dtype.bytes)).astype(f"u{dtype.bytes}").view(dtype.numpy)
    for part in np.array_split(codes, max(1, len(codes) // 1024)):
        np.testing.assert_array_equal(unary("copy", part), part.astype(np.float32))


@pytest.mark.parametrize("dtype", [DType.f16, DType.bf16, DType.f8e4m3, DType.f8e5m2])
def test_rounding_to_small_floats_is_to_nearest_even(dtype: DType):
    """Every code, the middle between neighbours, and the numbers just beside the middle."""
    codes = np.arange(2 ** (8 * dtype.bytes - 1) - 1).astype(f"u{dtype.bytes}").view(dtype.numpy).astype(np.float32)
    codes = codes[np.isfinite(codes)]
    middles = ((codes[1:].astype(np.float64) + codes[:-1]) / 2).astype(np.float32)
    with np.errstate(over="ignore"):
        beside = [np.nextafter(middles, np.float32(s * np.inf)) for s in (-1, 1)]
        x = np.concatenate([codes, middles, *beside, [np.float32(2) * codes[-1], codes[-1] * np.float32(1.06)]])
        for part in np.array_split(np.concatenate([x, -x]).astype(np.float32), len(x) // 512 + 1):
            want = part.astype(dtype.numpy).astype(np.float32)
            np.testing.assert_array_equal(unary("copy", part, dtype).astype(np.float32), want)
