"""Matrix products, convolutions and Einstein sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tapeout.frontend.onnx_ops.call import Call, Handler, table
from tapeout.frontend.onnx_ops.reduce import reversed_along
from tapeout.ir import graph as g
from tapeout.ir.types import Dim, DType, TensorType


def matmul(c: Call) -> g.Value:
    x, y = c.x(0), c.x(1)
    return c.b.convert(c.b.matmul(x, y), x.type.dtype)


def fused_matmul(c: Call) -> g.Value:
    """alpha * x^T . y^T, each transposed or not."""
    x, y = (_swapped(c, c.x(i)) if c.flag(name) else c.x(i) for i, name in ((0, "transA"), (1, "transB")))
    return _scaled(c, c.b.matmul(x, y), c.attr_float("alpha", 1.0))


def _swapped(c: Call, x: g.Value) -> g.Value:
    lead = list(range(x.type.rank - 2))
    return c.b.transpose(x, [*lead, x.type.rank - 1, x.type.rank - 2])


def _scaled(c: Call, x: g.Value, factor: float) -> g.Value:
    return x if factor == 1.0 else c.b.binary_scalar("mul", x, factor)


def gemm(c: Call) -> g.Value:
    x, y = c.x(0), c.x(1)
    contract = [0 if c.flag("transA") else 1], [1 if c.flag("transB") else 0]
    out = _scaled(c, c.b.dot(x, y, contract, dtype=x.type.dtype), c.attr_float("alpha", 1.0))
    return c.b.add(out, _scaled(c, c.x(2), c.attr_float("beta", 1.0))) if c.has(2) else out


# ---- windows


def window_pads(
    c: Call, spatial: Sequence[Dim], window: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding (lo, hi) of each spatial dimension from `pads` or `auto_pad`."""
    mode = c.attr_text("auto_pad", "NOTSET")
    rank = len(window)
    if mode in ("NOTSET", "VALID", ""):
        pads = (mode != "VALID" and c.attr_ints("pads")) or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    result: list[tuple[int, int]] = []
    for extent, k, s, d in zip(spatial, window, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        if isinstance(extent, int):
            total = max(0, (math.ceil(extent / s) - 1) * s + reach - extent)
        elif s == 1:
            total = reach - 1
        else:
            raise c.unsupported(f"with auto_pad over the symbolic extent {extent}", "pin it with shapes=")
        small, large = total // 2, total - total // 2
        result.append((large, small) if mode == "SAME_LOWER" else (small, large))
    return result


def kernel_shape(c: Call, w: g.Value) -> list[int]:
    """Spatial extents of a weight, which the attribute may only repeat."""
    shape = list(w.type.static_shape[2:])
    if c.attr_ints("kernel_shape") not in (None, shape):
        raise c.invalid(f"has kernel_shape {c.attr_ints('kernel_shape')} but the weight {w.type}")
    return shape


def convolve(c: Call, x: g.Value, w: g.Value, dtype: DType | None = None) -> g.Value:
    """The convolution that the attributes describe, without a bias."""
    window = kernel_shape(c, w)
    ones = [1] * len(window)
    strides, dilations = c.attr_ints("strides") or ones, c.attr_ints("dilations") or ones
    pads = window_pads(c, x.type.shape[2:], window, strides, dilations)
    return c.b.conv(x, w, strides, pads, dilations, groups=c.attr_int("group", 1), dtype=dtype)


def per_channel(c: Call, v: g.Value, rank: int, axis: int = 1) -> g.Value:
    """v[C] shaped to broadcast along dimension `axis` of a tensor of the given rank."""
    return c.b.reshape(v, [v.type.shape[0] if i == axis else 1 for i in range(rank)]) if v.type.rank else v


def conv(c: Call) -> g.Value:
    out = convolve(c, c.x(0), c.x(1))
    return c.b.add(out, per_channel(c, c.x(2), out.type.rank)) if c.has(2) else out


def conv_transpose(c: Call) -> g.Value:
    """A convolution of x with zeros put between its elements by the flipped weight w[C, O / groups, k..]."""
    x, w = c.x(0), c.x(1)
    window = kernel_shape(c, w)
    rank, groups = len(window), c.attr_int("group", 1)
    ones = [1] * rank
    strides, dilations = c.attr_ints("strides") or ones, c.attr_ints("dilations") or ones
    pads = _transposed_pads(c, x.type.static_shape[2:], window, strides, dilations)
    inner, outer = w.type.static_shape[0] // groups, w.type.static_shape[1]
    w = c.b.reshape(w, (groups, inner, outer, *window))
    w = c.b.transpose(w, (0, 2, 1, *range(3, 3 + rank)))
    for axis in range(3, 3 + rank):
        w = reversed_along(c, w, axis)
    w = c.b.reshape(w, (groups * outer, inner, *window))
    out = c.b.conv(x, w, ones, pads, dilations, strides, groups)
    return c.b.add(out, per_channel(c, c.x(2), rank + 2)) if c.has(2) else out


def _transposed_pads(
    c: Call, spatial: Sequence[int], window: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding of the equivalent convolution: what the transposed one would cut off is not produced."""
    rank = len(window)
    extra = c.attr_ints("output_padding") or [0] * rank
    wanted, mode = c.attr_ints("output_shape"), c.attr_text("auto_pad", "NOTSET")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [d * s for d, s in zip(spatial, strides, strict=True)]
    given = c.attr_ints("pads") or [0] * (2 * rank)
    result: list[tuple[int, int]] = []
    for i, (extent, k, s, d) in enumerate(zip(spatial, window, strides, dilations, strict=True)):
        reach = (k - 1) * d
        lo, hi = given[i], given[i + rank]
        if wanted is not None:
            total = s * (extent - 1) + extra[i] + reach + 1 - wanted[-rank:][i]
            small, large = total // 2, total - total // 2
            lo, hi = (large, small) if mode in ("SAME_LOWER", "NOTSET") else (small, large)
        result.append((reach - lo, reach - hi + extra[i]))
    return result


# ---- Einstein sums


def einsum(c: Call) -> g.Value:
    operands = c.xs()
    text = c.attr_text("equation", "").replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise c.invalid(f"'{text}' has {len(terms)} terms for {len(operands)} operands")
    labels = [_labels(term, v.type.rank) for term, v in zip(terms, operands, strict=True)]
    dots = max((sum(d.isdigit() for d in ls) for ls in labels), default=0)
    if arrow:
        out = _labels(right, dots + len(right.replace("...", "")))
    else:
        flat = [n for ls in labels for n in ls]
        out = [str(i) for i in range(dots - 1, -1, -1)]
        out += sorted({n for n in flat if not n.isdigit() and flat.count(n) == 1})
    value, names = operands[0], labels[0]
    value, names = _diagonal(c, value, names)
    for i, y in enumerate(operands[1:], start=1):
        y, y_names = _diagonal(c, y, labels[i])
        later = {*out, *(n for ls in labels[i + 1 :] for n in ls)}
        value, names = _pair(c, value, names, y, y_names, later)
    value, names = _summed(c, value, names, set(out))
    return c.b.transpose(value, [names.index(n) for n in out])


def _labels(term: str, rank: int) -> list[str]:
    """One label per dimension; those of an ellipsis are digits counted from its end, so that they align."""
    head, dots, tail = term.partition("...")
    hidden = rank - len(head) - len(tail) if dots else 0
    return [*head, *(str(i) for i in range(hidden - 1, -1, -1)), *tail]


def _summed(c: Call, x: g.Value, names: list[str], keep: set[str]) -> tuple[g.Value, list[str]]:
    """x summed over the labels that nothing needs any more."""
    axes = [i for i, n in enumerate(names) if n not in keep]
    return c.b.reduce("sum", x, axes), [n for n in names if n in keep]


def _diagonal(c: Call, x: g.Value, names: list[str]) -> tuple[g.Value, list[str]]:
    """x with a repeated label's two dimensions replaced by their diagonal."""
    for name in names:
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            rest = [i for i in range(len(names)) if i not in (first, second)]
            x = c.b.transpose(x, [first, second, *rest])
            index = c.b.iota(_index_type(x), 0)
            x = c.b.gather(x, c.b.reshape(index, (x.type.shape[0], 1)), axis=1, batch=1)
            x = c.b.reshape(x, [x.type.shape[0], *x.type.shape[2:]])
            names = [name, *(names[i] for i in rest)]
    return x, names


def _index_type(x: g.Value) -> TensorType:
    return TensorType(DType.i64, x.type.shape[:1])


def _pair(c: Call, x: g.Value, xs: list[str], y: g.Value, ys: list[str], later: set[str]) -> tuple[g.Value, list[str]]:
    """The contraction of two operands over the labels that only they have."""
    x, xs = _summed(c, x, xs, later | set(ys))
    y, ys = _summed(c, y, ys, later | set(xs))
    shared = [n for n in xs if n in ys]
    for n in shared:  # an extent of 1 is broadcast, as NumPy does it
        a, b = xs.index(n), ys.index(n)
        if x.type.shape[a] != y.type.shape[b]:
            common = y.type.shape[b] if x.type.shape[a] == 1 else x.type.shape[a]
            x, y = _stretched(c, x, a, common), _stretched(c, y, b, common)
    batch = [n for n in shared if n in later]
    summed = [n for n in shared if n not in later]
    out = c.b.dot(
        x,
        y,
        ([xs.index(n) for n in summed], [ys.index(n) for n in summed]),
        ([xs.index(n) for n in batch], [ys.index(n) for n in batch]),
        dtype=x.type.dtype,
    )
    return out, [*batch, *(n for n in xs if n not in shared), *(n for n in ys if n not in shared)]


def _stretched(c: Call, x: g.Value, axis: int, extent: Dim) -> g.Value:
    return c.b.broadcast_to(x, [extent if i == axis else d for i, d in enumerate(x.type.shape)])


OPS: Mapping[tuple[str, str], Handler] = {
    **table(MatMul=matmul, Gemm=gemm, Conv=conv, ConvTranspose=conv_transpose, Einsum=einsum),
    ("com.microsoft", "FusedMatMul"): fused_matmul,
}
