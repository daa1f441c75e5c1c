"""Resize: each axis is a gather (nearest) or a product with a small matrix (linear, cubic) made during the import."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, table, widened
from tapeout.frontend.onnx_proto import Array
from tapeout.ir import graph as g
from tapeout.ir.types import Dim


def _coordinates(mode: str, outs: int, extent: int, scale: float, roi: tuple[float, float]) -> Array:
    """Position in the input of each output element, f64[outs]."""
    at = np.arange(outs, dtype=np.float64)
    target = scale * extent
    match mode:
        case "half_pixel":
            return (at + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            adjustment = outs / target
            centre = extent / 2
            return centre * (1 - adjustment) + (at + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (at + 0.5) / scale - 0.5 if target > 1 else at * 0.0
        case "align_corners":
            return at * (extent - 1) / (target - 1) if target > 1 else at * 0.0
        case "asymmetric":
            return at / scale
        case "tf_half_pixel_for_nn":
            return (at + 0.5) / scale
        case "tf_crop_and_resize":
            start, end = roi
            if outs > 1:
                return start * (extent - 1) + at * (end - start) * (extent - 1) / (target - 1)
            return at * 0.0 + 0.5 * (start + end) * (extent - 1)
        case _:
            raise ValueError(f"coordinate transformation {mode}")


def _nearest(x: Array, mode: str) -> Array:
    match mode:
        case "floor":
            return np.floor(x)
        case "ceil":
            return np.ceil(x)
        case "round_prefer_ceil":
            return np.floor(x + 0.5)
        case _:
            return np.ceil(x - 0.5)


def _kernel(kind: str, distance: Array, a: float) -> Array:
    """Weight of an input at a distance: the triangle, or Keys' cubic (1981, IEEE ASSP 29, equation 4)."""
    d = np.abs(distance)
    if kind == "linear":
        return np.maximum(0.0, 1 - d)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _matrix(c: Call, kind: str, at: Array, extent: int, scale: float) -> Array:
    """f64[outs, extent] by which an axis is interpolated; positions outside take the edge, or weigh nothing."""
    widen = min(scale, 1.0) if c.flag("antialias") else 1.0
    reach = math.ceil((1 if kind == "linear" else 2) / widen)
    base = np.floor(at).astype(np.int64)
    out = np.zeros((len(at), extent))
    a = c.attr_float("cubic_coeff_a", -0.75)
    taps = range(1 - reach, reach + 1)
    weights = np.stack([_kernel(kind, (base + t - at) * widen, a) for t in taps])
    if c.flag("exclude_outside"):
        inside = np.stack([(base + t >= 0) & (base + t < extent) for t in taps])
        weights = weights * inside
    if c.flag("exclude_outside") or widen != 1.0:
        weights = weights / weights.sum(0)
    for t, weight in zip(taps, weights, strict=True):
        np.add.at(out, (np.arange(len(at)), np.clip(base + t, 0, extent - 1)), weight)
    return out


def _policy(c: Call, wanted: Sequence[Dim], shape: Sequence[Dim]) -> tuple[list[Dim], list[float]]:
    """Sizes and scales of the resized axes under keep_aspect_ratio_policy; an axis that stays may be symbolic."""
    scales = [1.0 if w == d else _fixed(w) / _fixed(d) for w, d in zip(wanted, shape, strict=True)]
    policy = c.attr_text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(wanted), scales
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [math.floor(scale * _fixed(d) + 0.5) for d in shape], [scale] * len(scales)


def _resized(
    c: Call, x: g.Value, axes: Sequence[int], sizes: Sequence[Dim], scales: Sequence[float], roi: Sequence[float]
) -> g.Value:
    kind = c.attr_text("mode", "nearest")
    default = "half_pixel" if c.opset >= 11 else "asymmetric"
    transform = c.attr_text("coordinate_transformation_mode", default)
    rounding = c.attr_text("nearest_mode", "round_prefer_floor" if c.opset >= 11 else "floor")
    outside: g.Value | None = None
    for i, (axis, size, scale) in enumerate(zip(axes, sizes, scales, strict=True)):
        if size == x.type.shape[axis] and scale == 1 and transform != "tf_crop_and_resize":
            continue
        extent = _fixed(x.type.shape[axis])
        span = (roi[i], roi[i + len(axes)]) if roi else (0.0, 1.0)
        at = _coordinates(transform, _fixed(size), extent, scale, span)
        if kind == "nearest":
            places = np.clip(_nearest(at, rounding), 0, extent - 1).astype(np.int64)
            x = _taken(c, x, places, axis)
        else:
            x = _interpolated(c, x, axis, _matrix(c, kind, at, extent, scale))
        if transform == "tf_crop_and_resize":
            flags = c.b.constant(
                ((at < 0) | (at > extent - 1)).reshape([-1 if a == axis else 1 for a in range(x.type.rank)])
            )
            outside = flags if outside is None else c.b.binary("or", outside, flags)
    if outside is None:
        return x
    return c.b.select(outside, c.b.scalar(c.attr_float("extrapolation_value", 0.0), x.type.dtype), x)


def _taken(c: Call, x: g.Value, places: Array, axis: int) -> g.Value:
    """x at known places along `axis`; a whole number of times each is a repetition, which needs no list."""
    extent, shape = _fixed(x.type.shape[axis]), list(x.type.shape)
    times = len(places) // extent
    if not times or not np.array_equal(places, np.repeat(np.arange(extent), times)):
        return c.b.gather(x, c.b.constant(places), axis)
    lead, rest = shape[:axis], shape[axis + 1 :]
    kept = [d for d in range(len(shape) + 1) if d != axis + 1]
    return c.b.reshape(c.b.broadcast(x, (*lead, extent, times, *rest), kept), (*lead, extent * times, *rest))


def _interpolated(c: Call, x: g.Value, axis: int, matrix: Array) -> g.Value:
    weights = c.b.constant(matrix.astype(x.type.dtype.numpy))
    out = c.b.dot(x, weights, ((axis,), (1,)))  # the new axis comes last
    order = list(range(out.type.rank - 1))
    order.insert(axis, out.type.rank - 1)
    return c.b.transpose(out, order)


def _fixed(extent: Dim) -> int:
    if not isinstance(extent, int):
        raise ValueError(f"the symbolic extent {extent} is resized")
    return extent


def _scaled(shape: Sequence[Dim], scales: Sequence[float]) -> list[Dim]:
    return [d if s == 1 else math.floor(_fixed(d) * s + 1e-9) for d, s in zip(shape, scales, strict=True)]


def _resize(c: Call, x: g.Value) -> g.Value:
    first = 1 if c.opset < 11 else 2
    axes = [c.wrap(a, x.type.rank) for a in c.attr_ints("axes") or range(x.type.rank)]
    taken = [x.type.shape[a] for a in axes]
    roi = [float(v) for v in c.array(1).ravel()] if first == 2 and c.has(1) else []
    if c.opset >= 11 and c.has(3) and c.x(3).type.shape != (0,):
        sizes, scales = _policy(c, c.dims(3), taken)
    else:
        scales = [float(v) for v in c.array(first).ravel()]
        sizes = _scaled(taken, scales)
    return _resized(c, x, axes, sizes, scales, roi)


def _upsample(c: Call, x: g.Value) -> g.Value:
    given = c.array(1).ravel().tolist() if c.has(1) else c.node.attributes.get("scales", ())
    scales = [float(s) for s in given]
    return _resized(c, x, range(x.type.rank), _scaled(x.type.shape, scales), scales, [])


OPS: Mapping[tuple[str, str], Handler] = table(Resize=widened(_resize), Upsample=widened(_upsample))
