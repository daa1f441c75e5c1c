"""Contractions and windows of the interpreter: Dot, Conv and Pool on BLAS and strided views."""

from __future__ import annotations

import math

import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.infer import window_extent
from tapeout.ir.interp_math import NumpyType, convert, identity, is_float, lift, reducer, settle, storage
from tapeout.ir.special import Array
from tapeout.ir.types import DType

_COLUMNS_BYTES = 32 << 20  # of unfolded input at a time: a few times a last-level cache


def _product_type(a: Array, b: Array, length: int) -> NumpyType:
    """The type in which sums of `length` products of elements of a and b are made.

    Floats: f64 when one of them is, else f32. Integers: the cheapest float that holds every possible sum
    exactly, as BLAS is much faster than integer loops; i64 (right modulo 2^64) when there is none.
    """
    if is_float(a):
        return np.dtype(np.float64 if np.float64 in (a.dtype, b.dtype) else np.float32)
    ends = [np.iinfo(x.dtype) for x in (a, b)]
    largest = length * math.prod(max(-int(e.min), int(e.max)) for e in ends)
    return np.dtype(np.float32 if largest <= 1 << 24 else np.float64 if largest <= 1 << 53 else np.int64)


def _from_sums(sums: Array, a: Array, b: Array, dtype: DType, wide: bool) -> Array:
    """Sums of products of a and b as `dtype`.

    Integer sums wrap to i32, or to i64 where an operand or the result has 64 bits.
    """
    target = storage(dtype, wide)
    if is_float(a):
        return settle(sums, target) if dtype.is_float else convert(sums, target)
    long = 8 in (a.dtype.itemsize, b.dtype.itemsize, dtype.numpy.itemsize)
    return convert(sums.astype(np.int64).astype(np.int64 if long else np.int32), target)


def dot(op: g.Dot, lhs: Array, rhs: Array, wide: bool) -> Array:
    """`Dot`: both sides become batch x matrix, then one batched matrix product."""
    free_l = [i for i in range(lhs.ndim) if i not in op.lhs_batch + op.lhs_contract]
    free_r = [i for i in range(rhs.ndim) if i not in op.rhs_batch + op.rhs_contract]
    batch = [lhs.shape[i] for i in op.lhs_batch]
    length = math.prod(lhs.shape[i] for i in op.lhs_contract)
    rows, columns = [lhs.shape[i] for i in free_l], [rhs.shape[i] for i in free_r]
    kind = _product_type(lhs, rhs, length)
    a = lhs.transpose(*op.lhs_batch, *free_l, *op.lhs_contract).astype(kind, copy=False)
    b = rhs.transpose(*op.rhs_batch, *op.rhs_contract, *free_r).astype(kind, copy=False)
    size = math.prod(batch)
    sums = a.reshape(size, math.prod(rows), length) @ b.reshape(size, length, math.prod(columns))
    return _from_sums(sums.reshape((*batch, *rows, *columns)), lhs, rhs, op.dtype, wide)


def padded(x: Array, pads: list[tuple[int, int]], value: object) -> Array:
    """`x` with `value` before and after each dimension; negative amounts crop."""
    if not any(lo or hi for lo, hi in pads):
        return x
    crop = tuple(slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in zip(x.shape, pads, strict=True))
    inner = x[crop]
    grown = [(max(lo, 0), max(hi, 0)) for lo, hi in pads]
    out = np.full([n + lo + hi for n, (lo, hi) in zip(inner.shape, grown, strict=True)], value, x.dtype)
    out[tuple(slice(lo, lo + n) for n, (lo, _) in zip(inner.shape, grown, strict=True))] = inner
    return out


def _spread(x: Array, steps: tuple[int, ...]) -> Array:
    """`x` with `step - 1` zeros between the elements of its last dimensions."""
    if all(s == 1 for s in steps):
        return x
    lead = x.ndim - len(steps)
    extents = [(n - 1) * s + 1 for n, s in zip(x.shape[lead:], steps, strict=True)]
    out = np.zeros((*x.shape[:lead], *extents), x.dtype)
    out[(..., *(slice(None, None, s) for s in steps))] = x
    return out


def conv(op: g.Conv, x: Array, w: Array, wide: bool) -> Array:
    """`Conv`: unfolded windows times the weights, one batched matrix product per image and block of rows."""
    if not op.strides:  # no spatial dimension at all
        thin = g.Conv(op.x, op.w, (1,), ((0, 0),), (1,), (1,), op.groups, op.dtype)
        return conv(thin, x[..., None], w[..., None], wide)[..., 0]
    kind = _product_type(x, w, w[0].size)
    data = _spread(x.astype(kind, copy=False), op.x_dilation)
    data = np.ascontiguousarray(padded(data, [(0, 0), (0, 0), *op.pads], 0))
    window = w.shape[2:]
    sizes = zip(data.shape[2:], window, op.strides, op.dilation, strict=True)
    places = tuple(window_extent(n, k, s, (0, 0), d) for n, k, s, d in sizes)
    grouped = data.reshape(data.shape[0], op.groups, w.shape[1], *data.shape[2:])
    lead, inner = grouped.strides[:3], grouped.strides[3:]
    view = np.lib.stride_tricks.as_strided(
        grouped,
        (*grouped.shape[:3], *window, *places),
        (
            *lead,
            *(b * d for b, d in zip(inner, op.dilation, strict=True)),
            *(b * s for b, s in zip(inner, op.strides, strict=True)),
        ),
        writeable=False,
    )
    weights = w.astype(kind, copy=False).reshape(op.groups, w.shape[0] // op.groups, -1)
    depthwise = op.groups > 1 and w.shape[1] == 1
    sums = (_depthwise if depthwise else _unfolded)(view, weights, len(window))
    return _from_sums(sums.reshape(x.shape[0], w.shape[0], *places), x, w, op.dtype, wide)


def _unfolded(view: Array, weights: Array, rank: int) -> Array:
    """view[n,g,c,k..,p..] and weights[g,o,c*k] give sums[n,g,o,p..]."""
    images, groups = view.shape[:2]
    places = view.shape[3 + rank :]
    taps, row = weights.shape[2], math.prod(places[1:])
    sums = np.empty((images, groups, weights.shape[1], places[0], row), view.dtype)
    block = max(1, _COLUMNS_BYTES // max(1, groups * taps * row * view.itemsize))
    for image in range(images):
        for begin in range(0, places[0], block):
            part = view[image][(slice(None),) * (2 + rank) + (slice(begin, begin + block),)]
            count = part.shape[2 + rank]
            columns = part.reshape(groups, taps, count * row)
            made = weights @ columns
            sums[image, :, :, begin : begin + count] = made.reshape(groups, -1, count, row)
    return sums


def _depthwise(view: Array, weights: Array, rank: int) -> Array:
    """view[n,g,1,k..,p..] and weights[g,o,k] give sums[n,g,o,p..], one tap after the other."""
    window, places = view.shape[3 : 3 + rank], view.shape[3 + rank :]
    groups, outs = weights.shape[:2]
    sums = np.zeros((view.shape[0], groups, outs, *places), view.dtype)
    for tap, at in enumerate(np.ndindex(*window)):
        factor = weights[:, :, tap].reshape(groups, outs, *(1 for _ in places))
        sums += view[(slice(None), slice(None), slice(None), *at)] * factor
    return sums


def pool(op: g.Pool, x: Array) -> Array:
    """`Pool`, one dimension after the other: max, min and sum over a box are those over its sides."""
    data = lift(x)
    lead = x.ndim - len(op.window)
    data = padded(data, [(0, 0)] * lead + list(op.pads), identity(op.fn, data.dtype))
    for d, (k, stride, dilation) in enumerate(zip(op.window, op.strides, op.dilation, strict=True)):
        places = window_extent(data.shape[lead + d], k, stride, (0, 0), dilation)
        out: Array | None = None
        for tap in range(k):
            begin = tap * dilation
            at = slice(begin, begin + (places - 1) * stride + 1, stride)
            part = data[(slice(None),) * (lead + d) + (at,)]
            out = part if out is None else reducer(op.fn)(out, part)
        assert out is not None
        data = out
    return settle(data, x.dtype)
