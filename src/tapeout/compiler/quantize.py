"""Integer contractions: conv(dequantise(q), dequantise(w)) is an i32 contraction of q and w, scaled afterwards.

A dequantised operand is (convert(q) [+ offset]) * scale with q of 8 or 16 bits. Weights have one scale for all or, as
constants, one per output channel, and no offset; activations one scale and one offset. The sum is exact in i32; only
the one multiplication behind it rounds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tapeout.ir import graph as g
from tapeout.ir.contraction import channel
from tapeout.ir.types import DType

if TYPE_CHECKING:
    from tapeout.compiler.canonicalize import Rewriter

NARROW = (DType.i8, DType.u8, DType.i16)


@dataclasses.dataclass(frozen=True, slots=True)
class Dequantised:
    """value = (q - zero) * scale; `scale` repeats over all dimensions but `dims` of the value."""

    q: g.Value
    zero: int
    scale: np.ndarray
    dims: tuple[int, ...]


def note_constant(op: g.Op, value: g.Value, r: Rewriter) -> None:
    """Remembers which folded constants were dequantised integers, before folding hides it."""
    match op:
        case g.Convert() if op.x.type.dtype in NARROW and op.dtype.is_float:
            r.dequantised[value] = Dequantised(op.x, 0, np.ones((), np.float32), ())
        case g.Binary(fn="mul") if op.x in r.dequantised and not r.dequantised[op.x].dims:
            scale = r.spread(op.y)
            if scale is not None:
                r.dequantised[value] = Dequantised(r.dequantised[op.x].q, 0, *_kept(*scale))
        case g.Transpose() if op.x in r.dequantised:
            held = r.dequantised[op.x]
            dims = tuple(op.perm.index(d) for d in held.dims)
            r.dequantised[value] = dataclasses.replace(held, q=r.add(g.Transpose(held.q, op.perm)), dims=dims)
        case _:
            pass


def _kept(data: np.ndarray, dims: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """A repeated constant without dimensions of extent 1."""
    keep = [i for i, n in enumerate(data.shape) if n != 1]
    return data.reshape([data.shape[i] for i in keep]), tuple(dims[i] for i in keep)


def dequantised(value: g.Value, r: Rewriter) -> Dequantised | None:
    """What `value` is the dequantised form of, if it is one."""
    if value in r.dequantised:
        return r.dequantised[value]
    op, offset = r.op(value), 0.0
    if isinstance(op, g.Reshape | g.Transpose):
        held = dequantised(op.x, r)
        if held is None or (held.dims and isinstance(op, g.Reshape)):
            return None
        dims = tuple(op.perm.index(d) for d in held.dims) if isinstance(op, g.Transpose) else ()
        return dataclasses.replace(held, q=r.add(dataclasses.replace(op, x=held.q, outs=())), dims=dims)
    if isinstance(op, g.Binary) and op.fn == "add" and (constant := r.spread(op.y)) is not None:
        if constant[0].size != 1:
            return None
        offset, op = float(constant[0].reshape(())), r.op(op.x)
    if not isinstance(op, g.Binary) or op.fn != "mul" or (scale := r.spread(op.y)) is None:
        return None
    source = r.op(op.x)
    if not isinstance(source, g.Convert) or source.x.type.dtype not in NARROW:
        return None
    if scale[0].size != 1:  # weights too large to be folded
        plain = not offset and r.constant(source.x) is not None
        return Dequantised(source.x, 0, *_kept(*scale)) if plain else None
    factor = np.asarray(scale[0], np.float32).reshape(())
    zero = round(-offset / float(factor))
    if abs(zero * float(factor) + offset) > 1e-3 * abs(float(factor)):
        return None
    return Dequantised(source.x, zero, factor, ())


def integer_contraction(op: g.Op, r: Rewriter) -> g.Value | None:
    """The integer form of a convolution or matrix product of dequantised operands."""
    if not isinstance(op, g.Conv | g.Dot) or op.dtype is not DType.f32:
        return None
    x, w = (dequantised(v, r) for v in (g.operands(op)[0], g.operands(op)[1]))
    if x is None or w is None or x.dims or w.zero or (r.constant(w.q) is None and (w.dims or x.zero)):
        return None
    dims = channel(op)
    if w.dims not in ((), (dims[0],)):
        return None
    total = _integer(op, x, w, r)
    if total is None:
        return None
    shape = total.type.shape
    wide = r.add(g.Convert(total, DType.f32, source=op.source))
    factor = (x.scale.astype(np.float64) * w.scale.astype(np.float64)).astype(np.float32)
    spread = r.add(g.Broadcast(r.array(factor), shape, (dims[1],) if factor.ndim else ()))
    r.single_use.add(wide)
    return r.add(g.Binary("mul", wide, spread, source=op.source))


def _integer(op: g.Conv | g.Dot, x: Dequantised, w: Dequantised, r: Rewriter) -> g.Value | None:
    """sum (q - zero) * w in i32: the zero point pads the operand, and its share is taken off afterwards."""
    if isinstance(op, g.Dot):
        if x.zero or not {x.q.type.dtype, w.q.type.dtype} <= {DType.i8, DType.u8}:
            return None
        return r.add(dataclasses.replace(op, lhs=x.q, rhs=w.q, dtype=DType.i32, outs=()))
    if x.q.type.dtype.bytes != w.q.type.dtype.bytes:
        return None
    if not x.zero:
        return r.add(dataclasses.replace(op, x=x.q, w=w.q, dtype=DType.i32, outs=()))
    weights = r.constant(w.q)
    assert weights is not None
    fill = r.array(np.asarray(x.zero, x.q.type.dtype.numpy))
    lo, hi = ((0, 0, *(p[end] for p in op.pads)) for end in (0, 1))
    padded = r.add(g.Pad(x.q, fill, lo, hi)) if any((*lo, *hi)) else x.q
    plain = dataclasses.replace(op, x=padded, w=w.q, dtype=DType.i32, pads=((0, 0),) * len(op.pads), outs=())
    total = r.add(plain)
    share = x.zero * weights.sum(axis=tuple(range(1, weights.ndim)), dtype=np.int64)
    spread = r.add(g.Broadcast(r.array(share.astype(np.int32)), total.type.shape, (1,)))
    return r.add(g.Binary("sub", total, spread, source=op.source))
