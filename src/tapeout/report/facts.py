"""What is known of a graph's values before it runs: constants, repeated elements, masked ones, bits that matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir import graph as g
from tapeout.ir.interp import evaluate
from tapeout.ir.mapped import count_nonzero
from tapeout.ir.types import DType

Array = npt.NDArray[Any]

FOLD_ELEMENTS = 1 << 22
"""Largest array that is computed in order to look at it."""
MASK_LEVEL = 1e4
"""Adding a constant of this size to a score is masking it."""
SPECIAL = frozenset("exp log sqrt rsqrt sin cos tanh erf".split())
"""Functions that only the vector unit computes, and never together with another."""

SIGNIFICAND = {"f64": 24, "f32": 24, "f16": 11, "bf16": 8, "f8e4m3": 4, "f8e5m2": 3}
"""Significand bits by type (f64 is computed as f32 on every chip)."""
RANGE_BITS = {"f16": 5, "f8e5m2": 5, "f8e4m3": 4}
"""Exponent bits of the float types that do not have those of f32."""


@dataclass(slots=True)
class Fact:
    """Of one value: `constant` before any input is known (with the `array` where it is small enough); at least
    `distinct` elements are no copies of others by construction, and at least `active` ones are not masked; an element
    has `bits` significant bits, of an `integer` (scaled, perhaps) or of a float with `range_bits` of exponent;
    `stored` are the constants it is made of.
    """

    distinct: int
    active: int
    bits: int
    integer: bool
    range_bits: int
    constant: bool = False
    array: Array | None = None
    stored: frozenset[g.Value] = field(default_factory=frozenset[g.Value])


Facts = dict[g.Value, Fact]


def _plain(value: g.Value) -> Fact:
    dtype = value.type.dtype
    n = value.type.elements
    return Fact(n, n, SIGNIFICAND.get(dtype.value, 8 * dtype.bytes), not dtype.is_float, range_bits(dtype))


def range_bits(dtype: DType) -> int:
    """Exponent bits of a float type; integers have none."""
    return RANGE_BITS.get(dtype.value, 8) if dtype.is_float else 0


def facts_of(graph: g.Graph) -> Facts:
    """Facts of every value outside regions."""
    facts: Facts = {v: _plain(v) for v in graph.entries}
    for op in graph.ops:
        for out in op.outs:
            facts[out] = _plain(out)
        if len(op.outs) == 1:
            _constant(op, facts)
            _derive(op, facts)
    return facts


def _constant(op: g.Op, facts: Facts) -> None:
    """Marks what depends on no input, and computes it where that is cheap."""
    fact = facts[op.out]
    given = g.operands(op)
    if isinstance(op, g.Constant):
        fact.constant, fact.array, fact.stored = True, op.data, frozenset((op.out,))
        fact.active = count_nonzero(op.data) if op.data.dtype.kind in "fiub" else fact.active
        return
    if isinstance(op, g.ArgReduce) and op.x.type.static_shape[op.axis] == 1:
        fact.constant, fact.array = True, np.zeros(op.out.type.static_shape, np.int64)
        return
    if isinstance(op, g.If | g.While | g.Scan | g.HostCall | g.Sort) or not all(facts[v].constant for v in given):
        return
    fact.constant = True
    fact.stored = frozenset(root for v in given for root in facts[v].stored)
    arrays = [facts[v].array for v in given]
    known = [a for a in arrays if a is not None]
    small = max([op.out.type.elements, *(v.type.elements for v in given)]) <= FOLD_ELEMENTS
    if len(known) == len(arrays) and (small or isinstance(op, g.Broadcast | g.Reshape | g.Transpose)):
        fact.array = evaluate(op, known)[0]


def _derive(op: g.Op, facts: Facts) -> None:
    """What an op leaves of the facts of its operands."""
    fact, total = facts[op.out], op.out.type.elements
    match op:
        case g.Broadcast():
            x = facts[op.x]
            repeats = total // max(1, op.x.type.elements)
            _inherit(fact, x, min(x.distinct, total), x.active * repeats)
        case g.Reshape() | g.Transpose():
            _inherit(fact, facts[op.x], facts[op.x].distinct, facts[op.x].active)
        case g.Slice() | g.DynamicSlice():
            x = facts[op.x]
            lost = op.x.type.elements - total
            _inherit(fact, x, max(0, x.distinct - lost), max(0, x.active - lost))
        case g.Pad():
            x = facts[op.x]
            lost = _cropped(op)
            _inherit(fact, x, max(0, x.distinct - lost), max(0, x.active - lost))
        case g.Concat():
            parts = [facts[x] for x in op.xs]
            _inherit(fact, parts[0], max(p.distinct for p in parts), sum(p.active for p in parts))
            _widen(fact, parts)
        case g.Gather():
            indices = facts[op.indices].array
            x = facts[op.x]
            rows = op.x.type.static_shape[op.axis]
            whole = facts[op.indices].constant and (indices is None or np.unique(indices).size < indices.size)
            kept = 0 if whole or x.distinct < op.x.type.elements else total
            _inherit(fact, x, kept, total if x.active == op.x.type.elements and rows else 0)
        case g.Unary():
            _inherit(fact, facts[op.x], facts[op.x].distinct, facts[op.x].active, keep=op.fn in ("neg", "abs"))
        case g.Convert():
            x = facts[op.x]
            _inherit(fact, x, x.distinct, x.active, keep=True)
            own = SIGNIFICAND.get(op.dtype.value, 8 * op.dtype.bytes)
            if own < fact.bits or not op.dtype.is_float:
                fact.bits, fact.integer = min(fact.bits, own), fact.integer or not op.dtype.is_float
            fact.range_bits = 0 if fact.integer else min(x.range_bits, range_bits(op.dtype))
        case g.Binary():
            _binary(op, facts)
        case g.Compare():
            fact.distinct = max(facts[op.x].distinct, facts[op.y].distinct)
        case g.Select():
            _select(op, facts)
        case g.Reduce() | g.ArgReduce() | g.Pool() | g.Cumulate():
            x = facts[op.x]
            fact.distinct = total * x.distinct // max(1, op.x.type.elements)
            if isinstance(op, g.Pool) and op.fn != "sum":
                _inherit(fact, x, fact.distinct, fact.active)
        case g.Dot():
            fact.distinct = _contracted(total, op.lhs, op.rhs, facts)
        case g.Conv():
            fact.distinct = _contracted(total, op.x, op.w, facts)
        case _:
            pass


def _inherit(fact: Fact, x: Fact, distinct: int, active: int, keep: bool = True) -> None:
    fact.distinct, fact.active = distinct, active
    if keep:
        fact.bits, fact.integer, fact.range_bits = x.bits, x.integer, x.range_bits


def _widen(fact: Fact, parts: list[Fact]) -> None:
    fact.bits, fact.integer = max(p.bits for p in parts), all(p.integer for p in parts)
    fact.range_bits = max(p.range_bits for p in parts)


def _contracted(total: int, a: g.Value, b: g.Value, facts: Facts) -> int:
    for v in (a, b):
        if not facts[v].constant:
            total = total * facts[v].distinct // max(1, v.type.elements)
    return total


def _cropped(op: g.Pad) -> int:
    """Elements of x that negative padding drops."""
    shape = op.x.type.static_shape
    kept = prod(max(0, n + min(0, lo) + min(0, hi)) for n, lo, hi in zip(shape, op.lo, op.hi, strict=True))
    return prod(shape) - kept


def _binary(op: g.Binary, facts: Facts) -> None:
    """Constants scale, shift or mask; they add no bits of their own to what they scale."""
    fact, x, y = facts[op.out], facts[op.x], facts[op.y]
    changing = [f for f in (x, y) if not f.constant]
    if not changing:  # a stored array scaled by a few numbers
        changing = [x if x.distinct >= y.distinct else y]
    fact.distinct = max(f.distinct for f in changing)
    fact.active = max(f.active for f in changing)
    if len(changing) == 1 and op.fn in ("add", "sub", "mul", "div", "max", "min"):
        _inherit(fact, changing[0], fact.distinct, fact.active)
        other = y if changing[0] is x else x
        if other.array is not None:
            fact.active = max(0, fact.active + unmasked(op.fn, other.array) - op.out.type.elements)
    elif op.fn in ("max", "min"):
        _widen(fact, [x, y])


def _select(op: g.Select, facts: Facts) -> None:
    """Nothing is certain under a mask that an input decides."""
    fact, cond, x, y = facts[op.out], facts[op.cond], facts[op.x], facts[op.y]
    total = op.out.type.elements
    _widen(fact, [f for f in (x, y) if not f.constant] or [x, y])
    if cond.array is None:
        fact.distinct = fact.active = 0
        if not x.constant and not y.constant:
            fact.distinct = fact.active = max(0, min(x.distinct, x.active, y.distinct, y.active))
        return
    chosen = unmasked("mul", cond.array)
    kept_x = 0 if x.constant else max(0, min(x.distinct, x.active) + chosen - total)
    kept_y = 0 if y.constant else max(0, min(y.distinct, y.active) - chosen)
    fact.distinct = fact.active = max(kept_x, kept_y)


def live_mask(fn: str, constant: Array | None) -> Array | bool:
    """Where `fn` with this constant does not blot the other operand out. Repeated dimensions are looked at once."""
    if constant is None or fn not in ("mul", "add", "sub", "min"):
        return True
    small = constant[tuple(slice(0, 1) if s == 0 else slice(None) for s in constant.strides)]
    if fn == "mul":
        live = small != 0
    elif DType.of(constant.dtype).is_float:
        live = np.abs(small.astype(np.float32)) < MASK_LEVEL
    else:
        return True
    return True if live.all() else np.broadcast_to(live, constant.shape)


def unmasked(fn: str, constant: Array) -> int:
    """Elements that `fn` with this constant does not blot out."""
    live = live_mask(fn, constant)
    return constant.size if isinstance(live, bool) else int(np.count_nonzero(live))
