"""Canonical form: constants folded, compositions merged, affine chains folded into weights, odd ops rewritten as
plain ones.

Each rule is a function of one op that returns the value to use instead, or None. Rules see an op whose operands are
already canonical, so one walk over the graph is enough.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tapeout.compiler.expand import EXPANSIONS, everywhere
from tapeout.compiler.quantize import Dequantised, integer_contraction, note_constant
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.infer import infer
from tapeout.ir.interp import evaluate
from tapeout.ir.mapped import made_of
from tapeout.ir.types import DType, TensorType

FOLD_LIMIT = 1 << 22
"""Largest result (elements) that is computed when compiling."""


class Rewriter:
    """The graph being rebuilt: ops so far, who produced what, who reads what in the source graph."""

    def __init__(self, graph: g.Graph) -> None:
        self.build = Builder(graph.name)
        self.producer: dict[g.Value, g.Op] = {}
        self.readers = g.users(graph)
        self.exits = set(graph.exits)
        self.single_use: set[g.Value] = set()
        self.dequantised: dict[g.Value, Dequantised] = {}
        self._known: dict[tuple[Any, ...], tuple[g.Value, ...]] = {}

    def op(self, value: g.Value) -> g.Op | None:
        return self.producer.get(value)

    def constant(self, value: g.Value) -> np.ndarray | None:
        """The array behind a constant."""
        op = self.producer.get(value)
        return op.data if isinstance(op, g.Constant) else None

    def spread(self, value: g.Value) -> tuple[np.ndarray, tuple[int, ...]] | None:
        """A constant and the dimensions of `value` that its own are, where `value` is a constant or a broadcast of
        one."""
        op = self.producer.get(value)
        if isinstance(op, g.Constant):
            return op.data, tuple(range(op.data.ndim))
        if isinstance(op, g.Broadcast) and (data := self.constant(op.x)) is not None:
            return data, op.dims
        return None

    def emit(self, op: g.Op) -> tuple[g.Value, ...]:
        """Adds an op; one that was computed before is taken over."""
        key = _key(op)
        if key is not None and key in self._known:
            return self._known[key]
        outs = self.build.emit(op)
        made = dataclasses.replace(op, outs=outs)
        for out in outs:
            self.producer[out] = made
        if key is not None:
            self._known[key] = outs
        return outs

    def add(self, op: g.Op) -> g.Value:
        """Adds an op in canonical form."""
        return self.rewrite(op)[0]

    def array(self, data: np.ndarray) -> g.Value:
        """A constant."""
        return self.emit(g.Constant(data))[0]

    def rewrite(self, op: g.Op) -> tuple[g.Value, ...]:
        for rule in RULES:
            value = rule(op, self)
            if isinstance(value, tuple):
                return value
            if value is not None:
                note_constant(op, value, self)
                return (value,)
        return self.emit(op)


def _key(op: g.Op) -> tuple[Any, ...] | None:
    """What makes two ops equal; None for those that are kept apart."""
    if isinstance(op, g.Constant | g.RandomBits | g.HostCall | g.If | g.While | g.Scan):
        return None
    return (type(op), *(getattr(op, name) for name in g.op_fields(type(op))))


Rule = Callable[[g.Op, Rewriter], g.Value | tuple[g.Value, ...] | None]


def fold_constants(op: g.Op, r: Rewriter) -> g.Value | None:
    """An op on constants alone is a constant. Moves of large constants stay views of the same array."""
    if isinstance(op, g.Iota):
        shape = op.type.static_shape
        data = np.arange(shape[op.axis]).astype(op.type.dtype.numpy)
        return r.add(g.Broadcast(_const(r, data), shape, (op.axis,)))
    operands = g.operands(op)
    if not operands or isinstance(op, g.Broadcast | g.If | g.While | g.Scan | g.HostCall | g.Sort):
        return None
    arrays = [r.constant(v) for v in operands]
    if any(a is None for a in arrays):
        return None
    size = max(t.elements for t in (*infer(op), *(v.type for v in operands)))
    if size > FOLD_LIMIT and not isinstance(op, g.Reshape | g.Transpose | g.Slice):
        return None
    return _const(r, evaluate(op, [a for a in arrays if a is not None])[0], op.source)


def _const(r: Rewriter, data: np.ndarray, source: str = "") -> g.Value:
    return r.emit(g.Constant(data, source=source))[0]


def fold_spread(op: g.Op, r: Rewriter) -> g.Value | None:
    """Element by element on constants that repeat alike: computed on what they repeat."""
    if not isinstance(op, g.Unary | g.Binary | g.Compare | g.Select | g.Convert):
        return None
    operands = g.operands(op)
    spreads = [r.spread(v) for v in operands]
    if any(s is None for s in spreads):
        return None
    found = [s for s in spreads if s is not None]
    axes = sorted({d for _, dims in found for d in dims})
    rank = operands[0].type.rank
    shape = operands[0].type.static_shape
    if axes == list(range(rank)) and operands[0].type.elements > FOLD_LIMIT:
        return None
    small = tuple(shape[d] for d in axes)
    arrays = [
        np.broadcast_to(np.expand_dims(data, tuple(i for i, d in enumerate(axes) if d not in dims)), small)
        for data, dims in found
    ]
    values = [g.Value("_", TensorType(DType.of(a.dtype), small)) for a in arrays]
    names = [n for n in g.op_fields(type(op)) if isinstance(getattr(op, n), g.Value)]
    little = dataclasses.replace(op, **dict(zip(names, values, strict=True)))
    result = evaluate(dataclasses.replace(little, outs=tuple(g.Value("_", t) for t in infer(little))), arrays)[0]
    return r.add(g.Broadcast(_const(r, result), shape, tuple(axes), source=op.source))


def drop_identities(op: g.Op, r: Rewriter) -> g.Value | None:
    """x + 0, x * 1, a conversion to the same type, moves that move nothing."""
    match op:
        case g.Binary(fn="add" | "sub" | "mul" | "div" | "max"):
            neutral = {"add": 0, "sub": 0, "mul": 1, "div": 1}.get(op.fn)
            y = r.spread(op.y)
            if neutral is not None and y is not None and _is_all(y[0], neutral):
                return op.x
            x = r.spread(op.x)
            if op.fn in ("add", "mul") and x is not None and _is_all(x[0], neutral):
                return op.y
        case g.Convert() if op.dtype is op.x.type.dtype:
            return op.x
        case g.Reshape() if tuple(op.shape) == op.x.type.shape:
            return op.x
        case g.Transpose() if op.perm == tuple(range(len(op.perm))):
            return op.x
        case g.Broadcast() if tuple(op.shape) == op.x.type.shape and op.dims == tuple(range(len(op.shape))):
            return op.x
        case g.Slice() if tuple(op.sizes) == op.x.type.shape and all(s == 1 for s in op.steps):
            return op.x
        case g.Pad() if not any(op.lo) and not any(op.hi):
            return op.x
        case g.Concat() if len(op.xs) == 1:
            return op.xs[0]
        case g.Reduce() if not op.axes:
            return op.x
        case _:
            pass
    return None


def _is_all(data: np.ndarray, number: float | None) -> bool:
    """Whether all elements are `number`; most arrays show by their first one that they are not."""
    return bool(data.size and data[(0,) * data.ndim] == number and (data == number).all())


def merge_moves(op: g.Op, r: Rewriter) -> g.Value | None:
    """Two moves of one kind in a row are one; broadcasts drop dimensions of extent 1 first."""
    match op:
        case g.Reshape():
            if isinstance(inner := r.op(op.x), g.Reshape):
                return r.add(g.Reshape(inner.x, op.shape, source=op.source))
        case g.Transpose():
            if isinstance(inner := r.op(op.x), g.Transpose):
                return r.add(g.Transpose(inner.x, tuple(inner.perm[p] for p in op.perm), source=op.source))
        case g.Broadcast():
            if isinstance(inner := r.op(op.x), g.Broadcast):
                return r.add(g.Broadcast(inner.x, op.shape, tuple(op.dims[d] for d in inner.dims), source=op.source))
            kept = [d for d, n in enumerate(op.x.type.static_shape) if n != 1]
            if len(kept) < op.x.type.rank:
                small = r.add(g.Reshape(op.x, tuple(op.x.type.shape[d] for d in kept), source=op.source))
                return r.add(g.Broadcast(small, op.shape, tuple(op.dims[d] for d in kept), source=op.source))
            if isinstance(inner := r.op(op.x), g.Reshape) and r.constant(inner.x) is not None:
                return None
        case _:
            pass
    return None


def gather_affine(op: g.Op, r: Rewriter) -> g.Value | None:
    """Chains of constant factors and offsets become one factor and one offset: (y + c) * d = y * d + c * d, and so
    on."""
    if not isinstance(op, g.Binary) or not op.x.type.dtype.is_float:
        return None
    if op.fn in ("add", "mul") and r.spread(op.x) is not None and r.spread(op.y) is None:
        return r.add(dataclasses.replace(op, x=op.y, y=op.x))
    if r.spread(op.y) is None:
        return None
    if op.fn == "sub":
        return r.add(g.Binary("add", op.x, r.add(g.Unary("neg", op.y)), source=op.source))
    inner = r.op(op.x)
    if not isinstance(inner, g.Binary) or op.x not in r.single_use or r.spread(inner.y) is None:
        return None
    if (inner.fn, op.fn) not in (("add", "add"), ("mul", "mul"), ("add", "mul")):
        return None
    constant = r.add(g.Binary(op.fn, inner.y, op.y))
    if not _holds_up(constant, (inner.y, op.y), op.fn, r):
        return None
    if op.fn == inner.fn:
        return r.add(g.Binary(op.fn, inner.x, constant, source=op.source))
    if op.x.type.dtype is not DType.f16 and _rounded(inner.x, r):  # y * d could overflow where (y + c) * d does not
        scaled = r.add(g.Binary("mul", inner.x, op.y, source=op.source))
        r.single_use.add(scaled)
        return r.add(g.Binary("add", scaled, constant, source=op.source))
    return None


def _holds_up(constant: g.Value, made_of: tuple[g.Value, g.Value], fn: str, r: Rewriter) -> bool:
    """Whether a constant that was computed of two others neither overflowed nor lost places to underflow."""
    found, parts = r.spread(constant), [known[0] for v in made_of if (known := r.spread(v)) is not None]
    if found is None:
        return False
    size = np.abs(found[0].astype(np.float64))
    if not np.isfinite(size).all():
        return any(not np.isfinite(part).all() for part in parts)
    exact = fn == "add" or any((part == 0).any() for part in parts)
    return exact or bool((size >= constant.type.dtype.smallest_normal).all())


def _rounded(value: g.Value, r: Rewriter) -> bool:
    """Whether a value has an error already, as large as that of a product with it. What is exact, an input say, may
    lie so near the number that is added to it that such an error would be all that is left."""
    op = r.op(value)
    if isinstance(op, g.Reshape | g.Transpose | g.Broadcast | g.Slice):
        return _rounded(op.x, r)
    if isinstance(op, g.Convert):
        return op.x.type.dtype in (DType.i8, DType.u8) or (op.x.type.dtype.is_float and _rounded(op.x, r))
    return isinstance(op, g.Conv | g.Dot | g.Reduce | g.Binary | g.Unary)


def scale_before_clamp(op: g.Op, r: Rewriter) -> g.Value | None:
    """max(y, c) * s = max(y * s, c * s) for s > 0, and so for min: factors gather behind the contraction."""
    if not isinstance(op, g.Binary) or op.fn != "mul" or op.x not in r.single_use or not op.x.type.dtype.is_float:
        return None
    inner, factor = r.op(op.x), r.spread(op.y)
    if factor is None or factor[0].size != 1 or not factor[0].reshape(()) > 0:
        return None
    if not isinstance(inner, g.Binary) or inner.fn not in ("max", "min") or (bound := r.spread(inner.y)) is None:
        return None
    if bound[0].size != 1:
        return None
    scaled = r.add(g.Binary("mul", inner.x, op.y, source=op.source))
    r.single_use.add(scaled)
    return r.add(g.Binary(inner.fn, scaled, r.add(g.Binary("mul", inner.y, op.y)), source=op.source))


def scale_behind_pool(op: g.Op, r: Rewriter) -> g.Value | None:
    """max over a window of convert(q) * s is convert(max of q) * s for s > 0: narrow values go through the pool."""
    if not isinstance(op, g.Pool) or op.fn != "max":
        return None
    inner = r.op(op.x)
    if not isinstance(inner, g.Binary) or inner.fn != "mul" or (factor := r.spread(inner.y)) is None:
        return None
    source = r.op(inner.x)
    if factor[0].size != 1 or not factor[0].reshape(()) > 0 or not isinstance(source, g.Convert):
        return None
    if source.x.type.dtype not in (DType.i8, DType.u8):
        return None
    pooled = r.add(dataclasses.replace(op, x=source.x, outs=()))
    wide = r.add(g.Convert(pooled, source.dtype, source=op.source))
    spread = r.add(g.Broadcast(r.array(factor[0].reshape(())), wide.type.static_shape, ()))
    return r.add(g.Binary("mul", wide, spread, source=op.source))


def round_of_quotient(op: g.Op, r: Rewriter) -> g.Value | None:
    """round(x / s) = round(x * (1 / s)) where s is one number: half a unit of x decides only at exact ties."""
    if not isinstance(op, g.Unary) or op.fn != "round" or op.x not in r.single_use:
        return None
    inner = r.op(op.x)
    if not isinstance(inner, g.Binary) or inner.fn != "div" or inner.x not in r.single_use:
        return None
    factor = r.spread(inner.y)
    if factor is None or factor[0].size != 1:
        return None
    inverse = r.array(np.asarray(1.0 / factor[0].reshape(()), factor[0].dtype))
    spread = r.add(g.Broadcast(inverse, inner.x.type.static_shape, ()))
    scaled = r.add(g.Binary("mul", inner.x, spread, source=inner.source))
    r.single_use.add(scaled)
    return r.add(g.Unary("round", scaled, source=op.source))


def scale_weights(op: g.Op, r: Rewriter) -> g.Value | None:
    """A factor per output channel behind a contraction with constant weights goes into the weights."""
    if not isinstance(op, g.Binary) or op.fn != "mul" or not op.x.type.dtype.is_float:
        return None
    factor, inner = r.spread(op.y), r.op(op.x)
    if factor is None or op.x not in r.single_use or op.x.type.dtype is not DType.f32:
        return None
    data, dims = factor
    if isinstance(inner, g.Conv) and set(dims) <= {1}:
        weights = r.constant(inner.w)
        if weights is None or inner.w.type.dtype is not DType.f32:  # the products would be rounded to narrow weights
            return None
        factors = np.broadcast_to(
            data.reshape(-1, *[1] * (weights.ndim - 1)), (len(weights), *[1] * (weights.ndim - 1))
        )
        scaled = _const(r, made_of(weights, weights.dtype, lambda rows, w: w * factors[rows]), inner.source)
        out = r.add(dataclasses.replace(inner, w=scaled, outs=()))
        r.single_use.add(out)
        return out
    return None


def plain_scatter(op: g.Op, r: Rewriter) -> g.Value | None:
    """A dynamic update along one dimension is a scatter of consecutive rows; a dynamic slice a gather of them."""
    if isinstance(op, g.DynamicUpdate):
        sizes, extents = op.update.type.static_shape, op.x.type.static_shape
    elif isinstance(op, g.DynamicSlice):
        sizes, extents = tuple(op.sizes), op.x.type.static_shape
    else:
        return None
    moving = [d for d in range(len(sizes)) if sizes[d] != extents[d] or r.constant(op.starts[d]) is None]
    moving = [d for d in moving if sizes[d] != extents[d]]
    if not moving:
        return op.update if isinstance(op, g.DynamicUpdate) else op.x
    if isinstance(op, g.DynamicSlice):
        value = op.x
        for d in moving:
            value = r.add(g.Gather(value, _rows(r, op.starts[d], sizes[d], extents[d]), d, source=op.source))
        return value
    if len(moving) > 1:
        return None
    axis = moving[0]
    return r.add(
        g.Scatter("set", op.x, _rows(r, op.starts[axis], sizes[axis], extents[axis]), op.update, axis, source=op.source)
    )


def _rows(r: Rewriter, start: g.Value, size: int, extent: int) -> g.Value:
    """Indices start .. start+size-1, the start moved so that all lie inside."""
    dtype = start.type.dtype
    low = r.add(g.Binary("max", start, _const(r, np.zeros((), dtype.numpy))))
    inside = r.add(g.Binary("min", low, _const(r, np.asarray(extent - size, dtype.numpy))))
    spread = r.add(g.Broadcast(inside, (size,), ()))
    return r.add(g.Binary("add", spread, _const(r, np.arange(size).astype(dtype.numpy))))


def plain_indices(op: g.Op, r: Rewriter) -> g.Value | None:
    """Indexed moves take one list of non-negative indices: others are brought to that, and the result is reshaped."""
    if not isinstance(op, g.Gather | g.Scatter) or (isinstance(op, g.Gather) and op.batch):
        return None
    indices, x = op.indices, op.x
    known = r.constant(indices)
    extent = x.type.static_shape[op.axis]
    if indices.type.rank != 1:
        count = indices.type.elements
        flat = r.add(g.Reshape(indices, (count,)))
        if isinstance(op, g.Gather):
            out = r.add(g.Gather(x, flat, op.axis, source=op.source))
            return r.add(g.Reshape(out, infer(op)[0].shape, source=op.source))
        shape = x.type.static_shape
        updates = r.add(g.Reshape(op.updates, (*shape[: op.axis], count, *shape[op.axis + 1 :])))
        return r.add(g.Scatter(op.fn, x, flat, updates, op.axis, source=op.source))
    if known is not None:
        if (known < 0).any():
            fixed = _const(r, np.where(known < 0, known + extent, known).astype(known.dtype))
            return r.add(dataclasses.replace(op, indices=fixed, outs=()))
        if isinstance(op, g.Gather) and known.size and (np.diff(known) == 1).all() and known[-1] < extent:
            starts, sizes = [0] * x.type.rank, list(x.type.static_shape)
            starts[op.axis], sizes[op.axis] = int(known[0]), int(known.size)
            return r.add(g.Slice(x, tuple(starts), tuple(sizes), (1,) * x.type.rank, source=op.source))
        return None
    if _wrapped(indices, extent, r):
        return None
    shape = indices.type.static_shape
    zero = r.add(g.Broadcast(_const(r, np.zeros((), indices.type.dtype.numpy)), shape, ()))
    span = r.add(g.Broadcast(_const(r, np.asarray(extent, indices.type.dtype.numpy)), shape, ()))
    fixed = r.add(g.Select(r.add(g.Compare("lt", indices, zero)), r.add(g.Binary("add", indices, span)), indices))
    return r.add(dataclasses.replace(op, indices=fixed, outs=()))


def _wrapped(indices: g.Value, extent: int, r: Rewriter) -> bool:
    """Whether the list is already non-negative: wrapped by the rule above, or a clamped start plus a count."""
    op = r.op(indices)
    if isinstance(op, g.Select) and isinstance(test := r.op(op.cond), g.Compare) and test.fn == "lt" and test.x is op.y:
        return True
    if isinstance(op, g.Binary) and op.fn == "add":
        return _at_least_zero(op.x, r) and _at_least_zero(op.y, r)
    return _at_least_zero(indices, r) and extent > 0


def _at_least_zero(value: g.Value, r: Rewriter) -> bool:
    spread = r.spread(value)
    if spread is not None:
        return bool((spread[0] >= 0).all())
    op = r.op(value)
    match op:
        case g.Broadcast() | g.Reshape():
            return _at_least_zero(op.x, r)
        case g.Binary(fn="max"):
            return _at_least_zero(op.x, r) or _at_least_zero(op.y, r)
        case g.Binary(fn="min" | "add"):
            return _at_least_zero(op.x, r) and _at_least_zero(op.y, r)
        case _:
            return False


Plain = g.Unary | g.Binary | g.Convert


def before_moves(op: g.Op, r: Rewriter) -> g.Value | None:
    """What is done to each element of a moved or repeated value is done before that is moved, where it is made."""
    if not isinstance(op, Plain) or (value := _argument(op, r)) is None or value not in r.single_use:
        return None
    inner = r.op(value)
    if not isinstance(inner, g.Reshape | g.Transpose | g.Broadcast) or _widens(op, value):
        return None
    if (maker := r.op(inner.x)) is None or isinstance(maker, g.Constant):
        return None
    return r.add(dataclasses.replace(inner, x=_again(op, inner.x, r), outs=()))


def narrow_before_concat(op: g.Op, r: Rewriter) -> g.Value | None:
    """What only narrows a concatenation, element by element, is done to its operands: they are joined narrow, and may
    be narrowed where they are made."""
    if not isinstance(op, g.Convert) or op.dtype.bytes >= op.x.type.dtype.bytes:
        return None
    chain: list[Plain] = [op]
    value: g.Value | None = op.x
    while value in r.single_use and isinstance(inner := r.op(value), Plain):
        chain.append(inner)
        value = _argument(inner, r)
    joined = r.op(value) if value in r.single_use else None
    if not isinstance(joined, g.Concat):
        return None
    pieces = list(joined.xs)
    for each in reversed(chain):
        pieces = [_again(each, x, r) for x in pieces]
    return r.add(g.Concat(tuple(pieces), joined.axis, source=joined.source))


def _argument(op: Plain, r: Rewriter) -> g.Value | None:
    """The operand of an op whose other one, if any, is the same number for all elements."""
    found = [v for v in g.operands(op) if _one_number(v, r) is None]
    return found[0] if len(found) == 1 else None


def _one_number(value: g.Value, r: Rewriter) -> np.ndarray | None:
    """The number that a value is everywhere."""
    known = r.spread(value)
    return known[0] if known is not None and known[0].size == 1 else None


def _widens(op: Plain, value: g.Value) -> bool:
    return isinstance(op, g.Convert) and op.dtype.bytes > value.type.dtype.bytes


def _again(op: Plain, x: g.Value, r: Rewriter) -> g.Value:
    """An op with one argument, beside numbers, on another value."""
    operands: dict[g.Value, g.Value] = {}
    for v in g.operands(op):
        number = _one_number(v, r)
        operands[v] = x if number is None else everywhere(r, number, TensorType(v.type.dtype, x.type.shape))
    made = r.add(dataclasses.replace(g.substitute(op, operands), outs=()))
    r.single_use.add(made)
    return made


def _slice(r: Rewriter, value: g.Value, axis: int, start: int, size: int) -> g.Value:
    starts, sizes = [0] * value.type.rank, list(value.type.static_shape)
    starts[axis], sizes[axis] = start, size
    return r.add(g.Slice(value, tuple(starts), tuple(sizes), (1,) * value.type.rank))


def undilate_input(op: g.Op, r: Rewriter) -> g.Value | None:
    """Zeros between the elements of a convolution's operand are put there by pads and reshapes."""
    if not isinstance(op, g.Conv) or all(n == 1 for n in op.x_dilation):
        return None
    value = op.x
    zero = _const(r, np.zeros((), value.type.dtype.numpy))
    for d, step in enumerate(op.x_dilation, 2):
        if step == 1:
            continue
        shape = value.type.static_shape
        split = r.add(g.Reshape(value, (*shape[: d + 1], 1, *shape[d + 1 :])))
        rank = len(shape) + 1
        hi = tuple(step - 1 if i == d + 1 else 0 for i in range(rank))
        padded = r.add(g.Pad(split, zero, (0,) * rank, hi))
        merged = r.add(g.Reshape(padded, (*shape[:d], shape[d] * step, *shape[d + 1 :])))
        value = _slice(r, merged, d, 0, (shape[d] - 1) * step + 1)
    return r.add(dataclasses.replace(op, x=value, x_dilation=(1,) * len(op.x_dilation), outs=()))


RULES: tuple[Rule, ...] = (
    fold_constants,
    fold_spread,
    *EXPANSIONS,
    drop_identities,
    merge_moves,
    integer_contraction,
    gather_affine,
    scale_before_clamp,
    scale_behind_pool,
    round_of_quotient,
    scale_weights,
    before_moves,
    narrow_before_concat,
    plain_scatter,
    plain_indices,
    undilate_input,
)
"""In order of trial; the first that answers wins."""


def canonicalize(graph: g.Graph) -> g.Graph:
    """The canonical form of a graph whose shapes are all known."""
    r = Rewriter(graph)
    mapping: dict[g.Value, g.Value] = {}
    for value in graph.inputs:
        entry = r.build.input(value.name, value.type)
        empty = not value.type.elements
        mapping[value] = r.array(np.zeros(value.type.static_shape, value.type.dtype.numpy)) if empty else entry
    for state in graph.states:
        mapping[state.entry] = r.build.state(state.name, state.initial)
    exits = set(graph.exits)
    for op in graph.ops:
        r.build.source = op.source
        outs = r.rewrite(dataclasses.replace(g.substitute(op, mapping), outs=()))
        for old, new in zip(op.outs, outs, strict=True):
            mapping[old] = new
            if len(r.readers.get(old, ())) == 1 and old not in exits:
                r.single_use.add(new)
    for name, value in graph.outputs:
        r.build.output(name, mapping[value])
    for state in graph.states:
        r.build.set_state(state.name, mapping[state.exit])
    return g.drop_dead(r.build.finish())
