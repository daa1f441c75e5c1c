"""Pooling and resampling of images. Whatever is linear and separable becomes one contraction per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from tapeout.frontend.torch_ops.lowering import Handler, Lowering, per_axis
from tapeout.ir.graph import Value
from tapeout.ir.types import Dim


def _window(
    t: Lowering, x: Value, out: Sequence[Dim], window: Sequence[int], stride: Any, padding: Any, dilation: Any
) -> tuple[tuple[int, ...], list[tuple[int, int]], tuple[int, ...]]:
    """Strides, (lo, hi) padding that gives exactly `out` (ceil mode adds at the end), dilation."""
    n = len(window)
    strides = per_axis(stride, n) if stride not in (None, [], ()) else tuple(window)
    lows, dilations = per_axis(padding, n), per_axis(dilation, n)
    pads: list[tuple[int, int]] = []
    for have, want, k, s, p, d in zip(x.type.shape[-n:], out[-n:], window, strides, lows, dilations, strict=True):
        need = p
        if isinstance(have, int) and isinstance(want, int):
            need = max(p, (want - 1) * s + (k - 1) * d + 1 - have - p)
        pads.append((p, need))
    return strides, pads, dilations


def _max_pool(n: int) -> Handler:
    def handle(
        t: Lowering,
        x: Value,
        kernel: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Any:
        pair = isinstance(t.out, tuple)
        window = per_axis(kernel, n)
        strides, pads, dilations = _window(t, x, (t.out[0] if pair else t.out).shape, window, stride, padding, dilation)
        if pair:
            t.unused(1, "the positions of the maxima of max_pool")
        out = t.b.pool("max", x, window, strides, pads, dilations)
        return (out, None) if pair else out

    return handle


def _avg_pool(n: int) -> Handler:
    def handle(
        t: Lowering,
        x: Value,
        kernel: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        window = per_axis(kernel, n)
        strides, pads, _ = _window(t, x, t.out.shape, window, stride, padding, 1)
        total = t.b.pool("sum", t.wide(x), window, strides, pads)
        if divisor_override:
            return t.narrow(t.b.binary_scalar("mul", total, 1 / divisor_override))
        if count_include_pad and all(lo == hi for lo, hi in pads):
            return t.narrow(t.b.binary_scalar("mul", total, 1 / math.prod(window)))
        counts = np.ones((1,) * n)
        for axis, (k, s, (lo, hi)) in enumerate(zip(window, strides, pads, strict=True)):
            have = t.static(x.type.shape[axis - n], "a padded dimension of avg_pool")
            margin = lo if count_include_pad else 0
            start = np.arange((have + lo + hi - k) // s + 1) * s - lo
            inside = np.minimum(start + k, have + margin) - np.maximum(start, -margin)
            counts = counts * inside.reshape([-1 if i == axis else 1 for i in range(n)])
        scale = t.b.constant((1 / counts).astype(total.type.dtype.numpy))
        return t.narrow(t.b.mul(total, scale))

    return handle


def resample(t: Lowering, x: Value, matrices: Sequence[np.ndarray]) -> Value:
    """x with its last dimensions mapped by one matrix[in, out] each, computed wide."""
    n = len(matrices)
    out = t.wide(x)
    for matrix in matrices:  # each takes the first image dimension away and puts its result last
        weights = t.b.constant(matrix.astype(out.type.dtype.numpy))
        out = t.b.dot(out, weights, ((x.type.rank - n,), (0,)), dtype=out.type.dtype)
    return t.narrow(out)


def _adaptive_avg_pool(n: int) -> Handler:
    """Bin i of an extent covers floor(i * in / out) .. ceil((i + 1) * in / out)."""

    def handle(t: Lowering, x: Value, size: Any) -> Value:
        have = [t.static(d, "a pooled dimension") for d in x.type.shape[-n:]]
        want = [t.static(d, "a pooled dimension") for d in t.out.shape[-n:]]
        if all(w == 1 for w in want):
            total = t.b.reduce("sum", t.wide(x), range(-n, 0), keep=True)
            return t.narrow(t.b.binary_scalar("mul", total, 1 / math.prod(have)))
        if all(h % w == 0 for h, w in zip(have, want, strict=True)):
            window = [h // w for h, w in zip(have, want, strict=True)]
            total = t.b.pool("sum", t.wide(x), window, window, [(0, 0)] * n)
            return t.narrow(t.b.binary_scalar("mul", total, 1 / math.prod(window)))
        return resample(t, x, [_bins(h, w) for h, w in zip(have, want, strict=True)])

    return handle


def _bins(have: int, want: int) -> np.ndarray:
    matrix = np.zeros((have, want))
    for i in range(want):
        start, end = i * have // want, -(-(i + 1) * have // want)
        matrix[start:end, i] = 1 / (end - start)
    return matrix


def _adaptive_max_pool(n: int) -> Handler:
    def handle(t: Lowering, x: Value, size: Any) -> tuple[Value, None]:
        t.unused(1, "the positions of the maxima of adaptive_max_pool")
        have = [t.static(d, "a pooled dimension") for d in x.type.shape[-n:]]
        want = [t.static(d, "a pooled dimension") for d in t.out[0].shape[-n:]]
        for axis, (h, w) in enumerate(zip(have, want, strict=True), x.type.rank - n):
            bins = [(i * h // w, -(-(i + 1) * h // w)) for i in range(w)]
            pieces = [t.b.reduce("max", t.b.slice_axis(x, axis, lo, hi), [axis], keep=True) for lo, hi in bins]
            x = t.b.concat(pieces, axis)
        return x, None

    return handle


# ---- resizing


def _nearest(n: int, centre: bool) -> Handler:
    def handle(t: Lowering, x: Value, size: Any, *scales: Any, **named: Any) -> Value:
        given = _scales(n, scales, named)
        for i in range(n):
            axis = x.type.rank - n + i
            have, want = (t.static(s[axis], "a resized dimension") for s in (x.type.shape, t.out.shape))
            if want % have == 0 and given[i] in (None, want / have):
                x = _repeated(t, x, axis, want // have)
            else:
                step = np.float32(have / want if given[i] is None else 1 / given[i])
                at = np.arange(want, dtype=np.float32) + np.float32(0.5 if centre else 0)
                index = np.minimum(np.floor(at * step), have - 1)
                x = t.b.gather(x, t.b.constant(index.astype(np.int64)), axis)
        return x

    return handle


def _repeated(t: Lowering, x: Value, axis: int, times: int) -> Value:
    """Each element `times` times along an axis."""
    shape = x.type.shape
    dims = [d if d <= axis else d + 1 for d in range(x.type.rank)]
    wide = t.b.broadcast(x, (*shape[: axis + 1], times, *shape[axis + 1 :]), dims)
    return t.b.reshape(wide, t.out.shape[: axis + 1] + shape[axis + 1 :])


def _scales(n: int, scales: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """Scale factors of upsample's overloads: a list (vec) or one number per dimension."""
    given: list[Any] = [*scales, *named.values()]
    if len(given) == 1 and isinstance(given[0], list | tuple):
        return list(cast("Sequence[Any]", given[0]))
    return given if len(given) == n else [None] * n


def _linear_taps(at: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    low = np.floor(at)
    return [(low, 1 - (at - low)), (low + 1, at - low)]


def _cubic_taps(at: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keys' kernel with a = -0.75 (Keys 1981, eq. 4)."""
    low, a = np.floor(at), -0.75
    taps: list[tuple[np.ndarray, np.ndarray]] = []
    for offset in (-1, 0, 1, 2):
        d = np.abs(at - low - offset)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        taps.append((low + offset, np.where(d <= 1, near, far)))
    return taps


def _interpolation(have: int, want: int, aligned: bool, scale: float | None, cubic: bool) -> np.ndarray:
    """The matrix[in, out] of a resize along one dimension."""
    if aligned:
        at = np.arange(want) * ((have - 1) / (want - 1) if want > 1 else 0.0)
    else:
        at = (np.arange(want) + 0.5) * (1 / scale if scale else have / want) - 0.5
        at = at if cubic else np.maximum(at, 0)
    matrix = np.zeros((have, want))
    for position, weight in (_cubic_taps if cubic else _linear_taps)(at):
        np.add.at(matrix, (np.clip(position, 0, have - 1).astype(int), np.arange(want)), weight)
    return matrix


def _smooth(n: int, cubic: bool = False) -> Handler:
    def handle(t: Lowering, x: Value, size: Any, align_corners: bool, *scales: Any, **named: Any) -> Value:
        given = _scales(n, scales, named)
        have = [t.static(d, "a resized dimension") for d in x.type.shape[-n:]]
        want = [t.static(d, "a resized dimension") for d in t.out.shape[-n:]]
        return resample(
            t,
            x,
            [_interpolation(h, w, align_corners, s, cubic) for h, w, s in zip(have, want, given, strict=True)],
        )

    return handle


def _pixel_shuffle(t: Lowering, x: Value, factor: int) -> Value:
    *lead, c, h, w = x.type.shape
    c = t.static(c, "the channels of pixel_shuffle") // factor**2
    n = len(lead)
    split = t.b.reshape(x, (*lead, c, factor, factor, h, w))
    turned = t.b.transpose(split, [*range(n), n, n + 3, n + 1, n + 4, n + 2])
    return t.b.reshape(turned, t.out.shape)


def _pixel_unshuffle(t: Lowering, x: Value, factor: int) -> Value:
    *lead, c, h, w = x.type.shape
    h, w = (t.static(d, "the image of pixel_unshuffle") // factor for d in (h, w))
    n = len(lead)
    split = t.b.reshape(x, (*lead, c, h, factor, w, factor))
    turned = t.b.transpose(split, [*range(n), n, n + 2, n + 4, n + 1, n + 3])
    return t.b.reshape(turned, t.out.shape)


TABLE: Mapping[str, Handler] = {
    **{f"max_pool{n}d": _max_pool(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _max_pool(n) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _avg_pool(n) for n in (1, 2, 3)},
    **{f"{prefix}adaptive_avg_pool{n}d": _adaptive_avg_pool(n) for n in (1, 2, 3) for prefix in ("", "_")},
    **{f"adaptive_max_pool{n}d": _adaptive_max_pool(n) for n in (1, 2, 3)},
    **{f"upsample_nearest{n}d": _nearest(n, False) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": _nearest(n, True) for n in (1, 2, 3)},
    "upsample_linear1d": _smooth(1),
    "upsample_bilinear2d": _smooth(2),
    "upsample_trilinear3d": _smooth(3),
    "upsample_bicubic2d": _smooth(2, cubic=True),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
}
