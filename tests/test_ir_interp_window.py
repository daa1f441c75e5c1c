"""Contractions and windows of the interpreter, judged by torch and by loops."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tapeout.ir import DType
from test_ir_interp import exactly, ints, normal, run1

Array = np.ndarray


# ---- dot


def test_dot_pairs_dimensions_as_told() -> None:
    x, y = normal(2, 3, 4, 5), normal(5, 6, 2, 4)
    out = run1(lambda b, v, w: b.dot(v, w, ((2, 3), (3, 0)), ((0,), (2,))), x, y)
    np.testing.assert_allclose(out, np.einsum("bmck,knbc->bmn", x, y), rtol=1e-5, atol=1e-5)


def test_dot_of_scalars_and_outer_product() -> None:
    x, y = normal(3), normal(4)
    exactly(run1(lambda b, v, w: b.dot(v, w, ((), ())), x, y), np.outer(x, y))
    assert run1(lambda b, v, w: b.dot(v, w, ((0,), (0,))), x, x).shape == ()


def test_dot_accumulates_narrow_floats_in_f32() -> None:
    x, y = normal(8, 300, dtype=ml_dtypes.bfloat16), normal(300, 8, dtype=ml_dtypes.bfloat16)
    wanted = x.astype(np.float32) @ y.astype(np.float32)
    exactly(run1(lambda b, v, w: b.dot(v, w, ((1,), (0,))), x, y), wanted.astype(ml_dtypes.bfloat16))
    kept = run1(lambda b, v, w: b.dot(v, w, ((1,), (0,)), dtype=DType.f32), x, y)
    exactly(kept, wanted)


@pytest.mark.parametrize(("dtype", "length"), [(np.int8, 5), (np.uint8, 3000), (np.int16, 70), (np.int32, 9)])
def test_integer_dot_is_exact_modulo_32_bits(dtype: type, length: int) -> None:
    info = np.iinfo(dtype)
    x, y = (ints(*s, lo=info.min, hi=info.max, dtype=dtype) for s in ((3, length), (length, 4)))
    wanted = (x.astype(object) @ y.astype(object)) % 2**32
    signed = np.where(wanted >= 2**31, wanted - 2**32, wanted).astype(np.int64)
    exactly(run1(lambda b, v, w: b.dot(v, w, ((1,), (0,))), x, y), signed.astype(np.int32))


def test_long_integer_dot_leaves_f32_in_time() -> None:
    x = np.full((1, 2001), 127, np.int8)  # the sum is odd and beyond 2^24
    assert run1(lambda b, v, w: b.dot(v, w, ((1,), (1,))), x, x).item() == 2001 * 127**2


def test_dot_of_u8_and_i8_and_of_i64() -> None:
    x, y = ints(3, 40, lo=0, hi=256, dtype=np.uint8), ints(40, 2, dtype=np.int8)
    exactly(run1(lambda b, v, w: b.dot(v, w, ((1,), (0,))), x, y), x.astype(np.int32) @ y)
    big = np.array([[2**40, 3]])
    exactly(run1(lambda b, v, w: b.dot(v, w, ((1,), (1,)), dtype=DType.i64), big, big), big @ big.T)


# ---- convolution

CONVS = [
    # batch, channels, extents, outputs, window, stride, pads, dilation, groups
    (2, 3, (9,), 4, (3,), (2,), ((1, 1),), (1,), 1),
    (2, 4, (7, 8), 6, (3, 2), (1, 2), ((1, 1), (0, 0)), (1, 1), 1),
    (1, 4, (9, 9), 6, (3, 3), (2, 1), ((2, 2), (1, 1)), (2, 2), 2),
    (2, 6, (8, 5), 6, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 6),
    (1, 3, (8, 5), 6, (3, 3), (2, 2), ((1, 1), (1, 1)), (2, 1), 3),
    (1, 2, (4, 5, 6), 3, (2, 3, 1), (1, 2, 3), ((0, 0), (1, 1), (0, 0)), (1, 1, 1), 1),
    (1, 5, (6, 6), 7, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
]


@pytest.mark.parametrize("case", CONVS)
@pytest.mark.parametrize("integers", [False, True])
def test_conv(case: tuple, integers: bool) -> None:
    n, c, extents, o, window, stride, pads, dilation, groups = case
    make = (lambda *s: ints(*s, dtype=np.int8)) if integers else normal
    x, w = make(n, c, *extents), make(o, c // groups, *window)
    judge = [F.conv1d, F.conv2d, F.conv3d][len(extents) - 1]
    a, b = (torch.from_numpy(t).double() for t in (x, w))
    wanted = judge(a, b, None, stride, [lo for lo, _ in pads], dilation, groups).numpy()
    out = run1(lambda b, v, k: b.conv(v, k, stride, pads, dilation, None, groups), x, w)
    if integers:
        exactly(out, wanted.astype(np.int32))
    else:
        np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv_with_spread_input_is_transposed_convolution(groups: int) -> None:
    x, w = normal(2, 4, 5, 6), normal(4, 8 // groups, 3, 2)
    stride, padding = (2, 3), (1, 0)
    wanted = F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(w), None, stride, padding, groups=groups)
    turned = w.reshape(groups, 4 // groups, 8 // groups, 3, 2).swapaxes(1, 2)[..., ::-1, ::-1]
    kernel = np.ascontiguousarray(turned.reshape(8, 4 // groups, 3, 2))
    pads = [(k - 1 - p, k - 1 - p) for k, p in zip((3, 2), padding, strict=True)]
    out = run1(lambda b, v, k: b.conv(v, k, (1, 1), pads, None, stride, groups), x, kernel)
    np.testing.assert_allclose(out, wanted.numpy(), rtol=1e-5, atol=1e-5)


def test_conv_with_uneven_and_negative_pads() -> None:
    x, w = normal(1, 2, 6, 7), normal(3, 2, 2, 3)
    padded = np.pad(x, [(0, 0), (0, 0), (0, 2), (3, 0)])[:, :, 1:, :-2]
    wanted = F.conv2d(torch.from_numpy(padded.copy()), torch.from_numpy(w)).numpy()
    out = run1(lambda b, v, k: b.conv(v, k, (1, 1), [(-1, 2), (3, -2)]), x, w)
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)


def test_conv_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = normal(2, 3, 10, 11), normal(4, 3, 3, 3)
    build = lambda b, v, k: b.conv(v, k, (1, 2), [(1, 1), (0, 1)])  # noqa: E731 one graph, two runs
    whole = run1(build, x, w)
    monkeypatch.setattr("tapeout.ir.interp_window._COLUMNS_BYTES", 3000)
    np.testing.assert_allclose(run1(build, x, w), whole, rtol=1e-6, atol=1e-6)


def test_conv_without_spatial_dimensions() -> None:
    x, w = normal(2, 6), normal(4, 3)
    out = run1(lambda b, v, k: b.conv(v, k, (), (), groups=2), x, w)
    wanted = np.concatenate([x[:, :3] @ w[:2].T, x[:, 3:] @ w[2:].T], axis=1)
    np.testing.assert_allclose(out, wanted, rtol=1e-5)


def test_conv_rounds_once() -> None:
    x, w = normal(1, 64, 5, 5, dtype=np.float16), normal(3, 64, 3, 3, dtype=np.float16)
    single = F.conv2d(torch.from_numpy(x).double(), torch.from_numpy(w).double()).numpy()
    out = run1(lambda b, v, k: b.conv(v, k, (1, 1), [(0, 0)] * 2), x, w)
    assert np.abs(out - single).max() <= 2**-11 * np.abs(single).max() * 1.01
    wide = run1(lambda b, v, k: b.conv(v, k, (1, 1), [(0, 0)] * 2), x, w, wide=True)
    np.testing.assert_allclose(wide, single, rtol=1e-12, atol=1e-12)


# ---- pooling


def pooled(fn: str, x: Array, window: tuple, strides: tuple, pads: list, dilation: tuple) -> Array:
    """The formula of the op, element by element."""
    combine, start = {"max": (max, -np.inf), "min": (min, np.inf), "sum": (lambda a, b: a + b, 0.0)}[fn]
    lead = x.ndim - len(window)
    shape = [
        (n + sum(p) - (k - 1) * d - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[lead:], window, strides, pads, dilation, strict=True)
    ]
    out = np.full((*x.shape[:lead], *shape), start)
    for at in np.ndindex(*out.shape):
        for tap in itertools.product(*(range(k) for k in window)):
            place = tuple(
                p * s + k * d - lo for p, s, k, d, (lo, _) in zip(at[lead:], strides, tap, dilation, pads, strict=True)
            )
            if all(0 <= i < n for i, n in zip(place, x.shape[lead:], strict=True)):
                out[at] = combine(out[at], float(x[(*at[:lead], *place)]))
    return out


@pytest.mark.parametrize("fn", ["max", "min", "sum"])
@pytest.mark.parametrize(
    ("shape", "window", "strides", "pads", "dilation"),
    [
        ((2, 3, 7, 8), (3, 2), (2, 1), [(1, 1), (0, 1)], (1, 1)),
        ((2, 9), (3,), (2,), [(2, 2)], (2,)),
        ((1, 2, 3, 4, 5), (2, 1, 3), (1, 2, 2), [(0, 0), (0, 0), (1, 3)], (1, 1, 1)),
        ((4, 5), (4, 5), (1, 1), [(0, 0), (0, 0)], (1, 1)),
    ],
)
def test_pool(fn: str, shape: tuple, window: tuple, strides: tuple, pads: list, dilation: tuple) -> None:
    x = normal(*shape)
    out = run1(lambda b, v: b.pool(fn, v, window, strides, pads, dilation), x)
    np.testing.assert_allclose(out, pooled(fn, x, window, strides, pads, dilation), rtol=1e-5, atol=1e-6)


def test_pool_of_integers_and_narrow_floats() -> None:
    x = ints(1, 1, 6, 6, dtype=np.int8)
    judge = F.max_pool2d(torch.from_numpy(x).float(), 2, 2, 0).numpy().astype(np.int8)
    exactly(run1(lambda b, v: b.pool("max", v, (2, 2), (2, 2), [(0, 0)] * 2), x), judge)
    ones = np.ones((1, 400), ml_dtypes.bfloat16)
    assert float(run1(lambda b, v: b.pool("sum", v, (400,), (1,), [(0, 0)]), ones)[0, 0]) == 400
