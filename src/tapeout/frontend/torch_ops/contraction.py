"""Matrix products, convolutions, attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tapeout.frontend.torch_ops.activation import safe_softmax
from tapeout.frontend.torch_ops.lowering import Handler, Lowering, Operand, per_axis
from tapeout.ir.build import Builder
from tapeout.ir.graph import Value
from tapeout.ir.types import DType, TensorType


def _accumulator(t: Lowering, more: bool) -> DType:
    """The dtype a contraction gives: wide when something is added before the result is rounded."""
    return t.opmath(t.out.dtype) if more else t.out.dtype


def _linear(t: Lowering, x: Value, w: Value, bias: Value | None = None) -> Value:
    """x[.., k] . w[n, k] + bias[n]: the weight keeps PyTorch's layout."""
    out = t.b.dot(x, w, ((x.type.rank - 1,), (w.type.rank - 1,)), dtype=_accumulator(t, bias is not None))
    return t.narrow(out if bias is None else t.b.add(out, t.b.convert(bias, out.type.dtype)))


def _product(t: Lowering, x: Value, y: Value, dtype: DType) -> Value:
    """NumPy's matmul with a given result type."""
    if y.type.rank <= 2 and x.type.rank + y.type.rank > 2:
        return t.b.dot(x, y, ((x.type.rank - 1,), (0,)), dtype=dtype)
    if x.type.rank == 1 < y.type.rank:
        batch = range(y.type.rank - 2)
        wide = t.b.broadcast_to(x, (*y.type.shape[:-2], *x.type.shape))
        return t.b.dot(wide, y, ((len(batch),), (len(batch),)), (batch, batch), dtype)
    if x.type.dtype is dtype:
        return t.b.matmul(x, y)
    return t.b.convert(t.b.matmul(t.b.convert(x, dtype), t.b.convert(y, dtype)), dtype)


def _matmul(t: Lowering, x: Value, y: Value) -> Value:
    return _product(t, x, y, t.out.dtype)


def _added(rank: int) -> Handler:
    """addmm, baddbmm, addmv: beta * c + alpha * (x . y)."""

    def handle(t: Lowering, c: Value, x: Value, y: Value, beta: float = 1, alpha: float = 1) -> Value:
        batch = (range(rank), range(rank))
        kind = _accumulator(t, True)
        out = t.b.dot(x, y, ((x.type.rank - 1,), (rank,)), batch, kind)
        out = out if alpha == 1 else t.b.binary_scalar("mul", out, alpha)
        if beta == 0:
            return t.narrow(out)
        wide = t.b.convert(c, kind)
        return t.narrow(t.b.add(out, wide if beta == 1 else t.b.binary_scalar("mul", wide, beta)))

    return handle


def _convolution(
    t: Lowering,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    n = w.type.rank - 2
    kind = _accumulator(t, bias is not None)
    batched = x if x.type.rank == n + 2 else t.b.reshape(x, (1, *x.type.shape))
    stride, padding, dilation = per_axis(stride, n), per_axis(padding, n), per_axis(dilation, n)
    if transposed:
        out = _transposed(t, batched, w, stride, padding, dilation, per_axis(output_padding, n), groups, kind)
    else:
        pads = [(p, p) for p in padding]
        out = t.b.conv(batched, w, stride, pads, dilation, groups=groups, dtype=kind)
    if bias is not None:
        out = t.b.add(out, t.b.reshape(t.b.convert(bias, kind), (bias.type.shape[0], *[1] * n)))
    return t.narrow(t.b.reshape(out, t.out.shape))


def _transposed(
    t: Lowering,
    x: Value,
    w: Value,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    extra: Sequence[int],
    groups: int,
    kind: DType,
) -> Value:
    """The gradient of a convolution: x spread by the stride, convolved with the flipped, transposed kernel."""
    inputs, outputs, *window = (t.static(d, "a weight's extent") for d in w.type.shape)
    n = len(window)
    flipped = t.b.slice(w, [0, 0, *(k - 1 for k in window)], w.type.shape, [1, 1, *[-1] * n])
    grouped = t.b.reshape(flipped, (groups, inputs // groups, outputs, *window))
    turned = t.b.transpose(grouped, [0, 2, 1, *range(3, n + 3)])
    kernel = t.b.reshape(turned, (groups * outputs, inputs // groups, *window))
    lo = [d * (k - 1) - p for d, k, p in zip(dilation, window, padding, strict=True)]
    hi = [a + e for a, e in zip(lo, extra, strict=True)]
    pads = [(max(a, 0), max(c, 0)) for a, c in zip(lo, hi, strict=True)]
    out = t.b.conv(x, kernel, [1] * n, pads, dilation, stride, groups, kind)
    cut = [0, 0, *(min(a, 0) for a in lo)], [0, 0, *(min(c, 0) for c in hi)]
    return t.b.pad(out, 0, *cut)


# ---- attention


def _attention(
    t: Lowering,
    q: Value,
    k: Value,
    v: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(q . k^T * scale + mask) . v over [.., heads, length, width], scores in f32.

    With fewer key heads than query heads, the query heads that share one become rows of one product.
    """
    if dropout_p:
        raise t.refuse("dropout inside attention", "call model.eval() before the export")
    b, n, kind = t.b, q.type.rank - 2, t.opmath(q.type.dtype)
    scale = scale or 1 / math.sqrt(t.static(q.type.shape[-1], "the width of attention"))
    lead = k.type.shape[:-2]
    share = 1
    if enable_gqa and q.type.shape[n - 1] != k.type.shape[n - 1]:
        share = t.static(q.type.shape[n - 1], "the number of heads") // t.static(lead[-1], "the number of heads")
        q = b.reshape(q, (*lead, share, *q.type.shape[-2:]))
    else:
        lead = q.type.shape[:-2]
        k, v = (b.broadcast_to(z, lead + z.type.shape[-2:]) for z in (k, v))
    batch = (range(n), range(n))
    scores = b.dot(q, k, ((q.type.rank - 1,), (n + 1,)), batch, kind)
    scores = b.binary_scalar("mul", scores, scale)
    if is_causal:
        scores = _causal(b, scores)
    if attn_mask is not None:
        scores = _masked(t, scores, attn_mask, share)
    powers = b.softmax(scores, -1) if attn_mask is None else safe_softmax(b, scores, -1)
    out = b.dot(b.convert(powers, v.type.dtype), v, ((scores.type.rank - 1,), (n,)), batch, t.out.dtype)
    return b.reshape(out, t.out.shape)


def _causal(b: Builder, scores: Value) -> Value:
    """Row i sees columns 0..i."""
    square = TensorType(DType.i64, scores.type.shape[-2:])
    seen = b.compare("ge", b.iota(square, 0), b.iota(square, 1))
    return b.select(seen, scores, b.scalar(-math.inf, scores.type.dtype))


def _masked(t: Lowering, scores: Value, mask: Value, share: int) -> Value:
    """A boolean mask keeps where it is true, another is added."""
    if share > 1 and mask.type.rank > 2:
        heads = mask.type.shape[-3]
        split = (1, 1) if heads == 1 else (t.static(heads, "the heads of the mask") // share, share)
        mask = t.b.reshape(mask, (*mask.type.shape[:-3], *split, *mask.type.shape[-2:]))
    if mask.type.dtype is DType.b1:
        return t.b.select(mask, scores, t.b.scalar(-math.inf, scores.type.dtype))
    return t.b.add(scores, t.b.convert(mask, scores.type.dtype))


def _cdist(t: Lowering, x: Value, y: Value, p: float = 2.0, mode: Any = None) -> Value:
    if p not in (1.0, 2.0):
        raise t.refuse(f"cdist of order {p}", "use order 1 or 2")
    rows, columns = (x.type.shape[-2], 1, x.type.shape[-1]), (1, y.type.shape[-2], y.type.shape[-1])
    left = t.b.reshape(x, (*x.type.shape[:-2], *rows))
    right = t.b.reshape(y, (*y.type.shape[:-2], *columns))
    apart = t.b.sub(left, right)
    if p == 1:
        return t.b.reduce("sum", t.b.unary("abs", apart), [-1])
    return t.b.unary("sqrt", t.b.reduce("sum", t.b.mul(apart, apart), [-1]))


def _pdist(t: Lowering, x: Value, p: float = 2.0) -> Value:
    """The distances of all pairs of rows i < j, in that order."""
    rows, columns = np.triu_indices(t.static(x.type.shape[0], "the rows of pdist"), 1)
    left, right = (t.b.gather(x, t.b.constant(i.astype(np.int64)), 0) for i in (rows, columns))
    return t.b.reshape(_cdist(t, _rows(t, left), _rows(t, right), p), t.out.shape)


def _rows(t: Lowering, x: Value) -> Value:
    return t.b.reshape(x, (x.type.shape[0], 1, x.type.shape[1]))


def _outer(t: Lowering, x: Value, y: Operand) -> Value:
    column = t.b.reshape(x, (*x.type.shape, 1))
    return t.binary("mul", column, y)


def _trilinear(
    t: Lowering,
    x: Value,
    y: Value,
    z: Value,
    x_new: Sequence[int],
    y_new: Sequence[int],
    z_new: Sequence[int],
    axes: Sequence[int],
    *_: Any,
) -> Value:
    """Sum over `axes` of the product of all three, each with new dimensions first."""
    rank = x.type.rank + len(x_new)

    def spread(v: Value, new: Sequence[int]) -> Value:
        extents = iter(v.type.shape)
        return t.b.reshape(v, [1 if i in new else next(extents) for i in range(rank)])

    both = t.b.mul(t.b.mul(spread(x, x_new), spread(y, y_new)), spread(z, z_new))
    return t.b.reduce("sum", both, axes)


TABLE: Mapping[str, Handler] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "mv": _matmul,
    "dot": _matmul,
    "addmm": _added(0),
    "addmv": _added(0),
    "baddbmm": _added(1),
    "convolution": _convolution,
    "scaled_dot_product_attention": _attention,
    "_cdist_forward": _cdist,
    "_pdist_forward": _pdist,
    "outer": _outer,
    "_trilinear": _trilinear,
}
