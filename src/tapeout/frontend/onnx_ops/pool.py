"""Pooling over windows and over everything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, table, widened
from tapeout.frontend.onnx_ops.contract import window_pads
from tapeout.frontend.onnx_ops.reduce import mean
from tapeout.frontend.onnx_proto import Array
from tapeout.ir import graph as g
from tapeout.ir.infer import window_extent
from tapeout.ir.types import DType


@dataclass(frozen=True, slots=True)
class _Window:
    size: list[int]
    strides: list[int]
    pads: list[tuple[int, int]]
    """As declared."""
    reach: list[tuple[int, int]]
    """With what ceil_mode adds, so that its last window is whole."""
    dilations: list[int]


def _window(c: Call, x: g.Value) -> _Window:
    size = c.attr_ints("kernel_shape")
    if not size or len(size) != x.type.rank - 2:
        raise c.invalid(f"has kernel_shape {size} for {x.type}")
    ones = [1] * len(size)
    strides, dilations = c.attr_ints("strides") or ones, c.attr_ints("dilations") or ones
    pads = window_pads(c, x.type.shape[2:], size, strides, dilations)
    reach = pads
    if c.flag("ceil_mode"):
        reach = [_ceiling(*w) for w in zip(x.type.static_shape[2:], size, strides, pads, dilations, strict=True)]
    return _Window(size, strides, pads, reach, dilations)


def _ceiling(extent: int, size: int, stride: int, pad: tuple[int, int], dilation: int) -> tuple[int, int]:
    """Padding under which a partial last window counts, unless it would begin in the padding."""
    lo, hi = pad
    span = extent + lo + hi - (size - 1) * dilation - 1
    count = -(-span // stride) + 1
    if (count - 1) * stride >= extent + lo:
        count -= 1
    return lo, (count - 1) * stride + (size - 1) * dilation + 1 - extent - lo


def max_pool(c: Call) -> g.Value | tuple[g.Value, g.Value]:
    x = c.x()
    w = _window(c, x)
    out = c.b.pool("max", x, w.size, w.strides, w.reach, w.dilations)
    return (out, _indices(c, x, w)) if len(c.node.outputs) > 1 else out


def _indices(c: Call, x: g.Value, w: _Window) -> g.Value:
    """Flat position of each window's first maximum: all window elements beside each other, then an arg-max."""
    places = _positions(x.type.static_shape[2:], w)
    lead = x.type.static_shape[:2]
    flat = c.b.reshape(x, (*lead, math.prod(x.type.static_shape[2:])))
    inside = c.b.constant(np.greater_equal(places, 0))
    taken = c.b.gather(flat, c.b.constant(np.maximum(places, 0)), axis=2)
    taken = c.b.select(inside, taken, c.b.scalar(_lowest(x.type.dtype), x.type.dtype))
    best = c.b.arg_reduce("max", taken, taken.type.rank - 1)
    if c.flag("storage_order"):
        places = _column_major(places, x.type.static_shape[2:])
    count, outs = math.prod(w.size), math.prod(places.shape[:-1])
    table_ = c.b.constant(places.reshape(-1))
    first = np.arange(0, outs * count, count, dtype=np.int64)
    row = c.b.constant(cast(Array, first.reshape(places.shape[:-1])))
    within = c.b.gather(table_, c.b.add(best, row), axis=0)
    start = np.arange(lead[0] * lead[1]) * int(np.prod(x.type.static_shape[2:]))
    return c.b.add(within, c.b.constant(start.reshape(*lead, *[1] * len(w.size))))


def _lowest(dtype: DType) -> float:
    return -math.inf if dtype.is_float else int(np.iinfo(dtype.numpy).min)


def _positions(spatial: Sequence[int], w: _Window) -> Array:
    """i64[outs.., window] flat input position of each window element, -1 in the padding."""
    per_axis: list[Array] = []
    for extent, k, s, p, d in zip(spatial, w.size, w.strides, w.reach, w.dilations, strict=True):
        outs = window_extent(extent, k, s, p, d)
        at = np.arange(outs)[:, None] * s + np.arange(k)[None] * d - p[0]
        per_axis.append(np.where((at >= 0) & (at < extent), at, -1))
    counts = [a.shape[0] for a in per_axis]
    flat = np.zeros((*counts, int(np.prod(w.size))), np.int64)
    for column, taps in enumerate(itertools.product(*(range(k) for k in w.size))):
        grid = np.meshgrid(*(a[:, t] for a, t in zip(per_axis, taps, strict=True)), indexing="ij")
        outside = np.any([part < 0 for part in grid], axis=0)
        flat[..., column] = np.where(outside, -1, np.ravel_multi_index([np.maximum(p, 0) for p in grid], spatial))
    return flat


def _column_major(places: Array, spatial: Sequence[int]) -> Array:
    parts = np.unravel_index(np.maximum(places, 0), spatial)
    return np.ravel_multi_index(parts, spatial, order="F")


def _average(c: Call, x: g.Value) -> g.Value:
    w = _window(c, x)
    total = c.b.pool("sum", x, w.size, w.strides, w.reach, w.dilations)
    counts = _counts(x, w, c.flag("count_include_pad"))
    if counts.min() == counts.max():
        return c.b.binary_scalar("mul", total, 1 / float(counts.flat[0]))
    return c.b.mul(total, c.b.constant((1 / counts).astype(x.type.dtype.numpy)))


def _counts(x: g.Value, w: _Window, include_pad: bool) -> Array:
    """How many elements each window holds, f64[spatial out] (or one number for all)."""
    if not any(lo or hi for lo, hi in w.reach):
        return np.array(float(np.prod(w.size)))
    total = np.ones((), np.float64)
    per_axis = zip(x.type.static_shape[2:], w.size, w.strides, w.pads, w.reach, w.dilations, strict=True)
    for extent, k, s, pad, reach, d in per_axis:
        outs = np.arange(window_extent(extent, k, s, reach, d), dtype=np.int64)
        at = np.add.outer(outs * s - reach[0], np.arange(k, dtype=np.int64) * d)
        lo, hi = (-pad[0], extent + pad[1]) if include_pad else (0, extent)
        total = np.multiply.outer(total, np.count_nonzero((at >= lo) & (at < hi), axis=1))
    return total


def _powers(c: Call, x: g.Value) -> g.Value:
    size = c.b.unary("abs", x)
    p = c.attr_int("p", 2)
    return c.b.mul(size, size) if p == 2 else c.b.binary_scalar("pow", size, p)


def _root(c: Call, x: g.Value) -> g.Value:
    p = c.attr_int("p", 2)
    return c.b.unary("sqrt", x) if p == 2 else c.b.binary_scalar("pow", x, 1 / p)


def _lp_pool(c: Call, x: g.Value) -> g.Value:
    w = _window(c, x)
    return _root(c, c.b.pool("sum", _powers(c, x), w.size, w.strides, w.reach, w.dilations))


def _spatial(x: g.Value) -> list[int]:
    return list(range(2, x.type.rank))


def _global_lp(c: Call, x: g.Value) -> g.Value:
    return _root(c, c.b.reduce("sum", _powers(c, x), _spatial(x), keep=True))


OPS: Mapping[tuple[str, str], Handler] = table(
    MaxPool=max_pool,
    AveragePool=widened(_average),
    LpPool=widened(_lp_pool),
    GlobalAveragePool=widened(lambda c, x: mean(c, x, _spatial(x))),
    GlobalMaxPool=lambda c: c.b.reduce("max", c.x(), _spatial(c.x()), keep=True),
    GlobalLpPool=widened(_global_lp),
)
