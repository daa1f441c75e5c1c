"""Combining: fewer passes of the vector unit over the same elements, by rules on neighbouring ops of a kernel.

- what only widens a narrow value is left to its readers, which convert their operands anyway; what only narrows a
  result, to the op that makes it;
- sums of products with numbers become one multiply-add for each term. A factor goes into a sum only where it meets
  factors that are there already, so that nothing cancels that did not before;
- p * (t + 1) is the multiply-add p * t + p, and (x * y^2 * a + x) * c is x * (y^2 * (a * c) + c);
- a quotient by one value for each row is a product with its inverse, a product with any other inverse is a quotient;
- of the factors of a product, numbers are multiplied with what has one value for each row;
- limits behind one another, and those before a rounding, become one clamp behind it, or nothing where the conversion
  to a narrow integer saturates there.

Every rule leaves at most as many roundings as there were, but for the inverse, which adds one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, isfinite

import numpy as np

from tapeout.compiler.factors import MODEST
from tapeout.ir import kernel as k
from tapeout.ir.types import DType

Rule = Callable[["Ops", k.Map], list[k.KernelOp] | None]
LIMITS = ("max", "min", "clamp")
_SATURATES = (DType.i8, DType.u8, DType.i16)
_SANE = 1e30
"""Larger factors, and inverses of smaller ones, are not multiplied with one another."""


class Ops:
    """The ops of a kernel, with who makes and who reads each tile."""

    def __init__(self, ops: list[k.KernelOp]) -> None:
        self.ops = ops
        self.maker: dict[k.Tile, k.KernelOp] = {}
        self.readers: dict[k.Tile, list[k.KernelOp]] = {}
        for op in ops:
            if not isinstance(op, k.StoreTile):
                self.maker[op.out] = op
            for tile in k.sources_of(op):
                self.readers.setdefault(tile, []).append(op)

    def inner(self, value: k.Tile | float, like: k.Tile) -> k.Map | None:
        """The vector op behind a value that nothing else reads, over the same axes as `like`."""
        if not isinstance(value, k.Tile) or len(self.readers.get(value, ())) != 1:
            return None
        op = self.maker[value]
        if not isinstance(op, k.Map) or not _plain(op):
            return None
        return op if value.dtype.is_float and set(value.axes) == set(like.axes) else None


def combine(ops: list[k.KernelOp]) -> list[k.KernelOp]:
    """The ops of a kernel, combined by the rules as often as one applies."""
    ops = _widened(ops)
    for rule in (_inverse, _quotient, _linear, _one_more, _powers, _rows, _limits, _narrowed):
        ops = _everywhere(ops, rule)
    return ops


def _everywhere(ops: list[k.KernelOp], rule: Rule) -> list[k.KernelOp]:
    number = 0
    held = Ops(ops)
    while number < len(held.ops):
        op = held.ops[number]
        made = rule(held, op) if isinstance(op, k.Map) and _plain(op) else None
        if made is None:
            number += 1
            continue
        before = _live([*held.ops[:number], *made, *held.ops[number + 1 :]])
        number -= len(held.ops) + len(made) - 1 - len(before)
        number = max(0, number)
        held = Ops(before)
    return held.ops


def _live(ops: list[k.KernelOp]) -> list[k.KernelOp]:
    """Without maps that nothing reads; a sort reorders its second source, too."""
    kept: list[k.KernelOp] = []
    read: set[k.Tile] = set()
    for op in reversed(ops):
        if isinstance(op, k.Map) and read.isdisjoint((op.out, *(op.srcs[1:] if op.fn == "sort" else ()))):
            continue
        read.update(k.sources_of(op))
        kept.append(op)
    return kept[::-1]


def _plain(op: k.Map) -> bool:
    """Whether an op works element by element on the vector unit."""
    return op.fn not in ("move", "drain") and op.along is None


def _float(op: k.Map) -> bool:
    """Whether an op computes in f32 and gives a float."""
    return op.out.dtype.is_float


def _widened(ops: list[k.KernelOp]) -> list[k.KernelOp]:
    """Ops that compute in f32 read other types as they are: they convert their operands as the copy would."""
    held = Ops(ops)
    source: dict[k.Tile, k.Tile] = {}
    for op in ops:
        if isinstance(op, k.Map) and op.fn == "copy" and op.out.dtype is DType.f32:
            x = op.srcs[0]
            if isinstance(x, k.Tile) and x.dtype.bytes <= 4 and _in_f32(held, op.out, x.dtype):
                source[op.out] = source.get(x, x)
    return _live([_reading(op, source) for op in ops])


def _in_f32(held: Ops, tile: k.Tile, dtype: DType) -> bool:
    """Whether all that read a tile would compute in f32 as well if it had type `dtype`."""

    def converts(reader: k.KernelOp) -> bool:
        if isinstance(reader, k.Fold):
            return dtype.is_float if reader.fn.startswith("arg_") else reader.out.dtype.is_float
        return isinstance(reader, k.Map) and _plain(reader) and _float(reader)

    return all(converts(r) for r in held.readers.get(tile, ()))


def _reading(op: k.KernelOp, source: dict[k.Tile, k.Tile]) -> k.KernelOp:
    """The op with other tiles in place of some."""
    if isinstance(op, k.Fold) and op.src in source:
        return replace(op, src=source[op.src])
    if isinstance(op, k.Map) and any(s in source for s in k.sources_of(op)):
        return replace(op, srcs=tuple(source.get(s, s) if isinstance(s, k.Tile) else s for s in op.srcs))
    return op


# ---- products and quotients


def _inverse(_: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """A quotient by a value of fewer axes is a product with its inverse."""
    if op.fn != "div" or not _float(op):
        return None
    above, below = op.srcs
    if not isinstance(below, k.Tile) or not below.dtype.is_float or not set(below.axes) < set(op.out.axes):
        return None
    inverse = k.Tile(f"{below.name}.inv", DType.f32, below.index)
    return [k.Map(inverse, "div", (1.0, below), op.source), replace(op, fn="mul", srcs=(above, inverse))]


def _quotient(held: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """x * (1 / y) is a quotient, and so is (a / y) * b with numbers a and b."""
    if op.fn != "mul" or not _float(op):
        return None
    for n, value in enumerate(op.srcs):
        inner, other = held.inner(value, op.out), op.srcs[1 - n]
        if inner is not None and inner.fn == "copy":  # to a narrower type
            inner = held.inner(inner.srcs[0], op.out)
        if inner is None or inner.fn != "div":
            continue
        above, below = inner.srcs
        if isinstance(above, k.Tile):
            continue
        if isinstance(other, k.Tile) and above == 1.0 and isinstance(below, k.Tile) and below.dtype.is_float:
            return [replace(op, fn="div", srcs=(other, below))]
        if not isinstance(other, k.Tile) and 1 / MODEST < abs(other) < MODEST and abs(above) < MODEST:
            return [replace(op, fn="div", srcs=(above * other, below))]
    return None


def _times_number(held: Ops, op: k.Map) -> tuple[float, k.Map | None]:
    """The number that a product has as a factor, and the op that makes the other one; None where it is no such product
    or the number is large."""
    numbers = [s for s in op.srcs if not isinstance(s, k.Tile)]
    if op.fn != "mul" or not _float(op) or len(numbers) != 1 or not abs(numbers[0]) < MODEST:
        return 0.0, None
    return numbers[0], next((made for s in op.srcs if (made := held.inner(s, op.out)) is not None), None)


def _rows(held: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """(x * r) * c is x * (r * c) for a number c where r has fewer axes."""
    number, inner = _times_number(held, op)
    if inner is None or inner.fn != "mul" or not abs(number) > 1 / MODEST:
        return None
    for n, value in enumerate(inner.srcs):
        if not isinstance(value, k.Tile) or not value.dtype.is_float or not set(value.axes) < set(op.out.axes):
            continue
        maker = held.maker[value]
        scaled = k.Tile(f"{value.name}.x", DType.f32, value.index)
        step = k.Map(scaled, "mul", (value, number), op.source)
        if isinstance(maker, k.Map) and held.inner(value, value) is maker and maker.fn == "div":
            above, below = maker.srcs
            if not isinstance(above, k.Tile) and abs(above) < MODEST:
                step = k.Map(scaled, "div", (above * number, below), op.source)
        return [step, replace(op, srcs=(inner.srcs[1 - n], scaled))]
    return None


def _powers(held: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """(x * y^2 * a + x) * c is x * (y^2 * (a * c) + c) for numbers a > 0 and c: terms of one sign, before as after."""
    number, total = _times_number(held, op)
    if total is None or total.fn != "fma":
        return None
    cube, factor, x = total.srcs
    product = held.inner(cube, op.out)
    if isinstance(factor, k.Tile) or not factor > 0 or product is None or product.fn != "mul" or x not in product.srcs:
        return None
    square = product.srcs[1 - product.srcs.index(x)]
    maker = held.maker.get(square) if isinstance(square, k.Tile) else None
    if not isinstance(maker, k.Map) or maker.fn != "mul" or maker.srcs[0] is not maker.srcs[1]:
        return None
    if not factor < MODEST:
        return None
    inner = k.Tile(f"{op.out.name}.p", DType.f32, op.out.index)
    return [
        k.Map(inner, "fma", (square, factor * number, number), op.source),
        replace(op, srcs=(x, inner)),
    ]


# ---- sums of products


class _Sum:
    """constant + the sum of factor * tile; `ops`: how many ops it stands for."""

    def __init__(self) -> None:
        self.terms: dict[k.Tile, float] = {}
        self.constant = 0.0
        self.ops = 0

    def add(self, held: Ops, value: k.Tile | float, factor: float, root: k.Map) -> None:
        if not isinstance(value, k.Tile):
            self.constant += factor * value
            return
        op = held.inner(value, root.out)
        if op is None or not self.take(held, op, factor, root):
            self.terms[value] = self.terms.get(value, 0.0) + factor

    def take(self, held: Ops, op: k.Map, factor: float, root: k.Map) -> bool:
        """Adds factor * op, taken apart where that is allowed."""
        match op.fn, op.srcs:
            case (("add" | "sub"), (x, y)) if factor in (1.0, -1.0) or (
                _scaled(held, x, root) and _scaled(held, y, root)
            ):
                self.ops += 1
                self.add(held, x, factor, root)
                self.add(held, y, factor if op.fn == "add" else -factor, root)
                return True
            case "mul", (k.Tile() as x, float() as y) | (float() as y, k.Tile() as x) if 1 / _SANE < abs(y) < _SANE:
                self.ops += 1
                self.add(held, x, factor * y, root)
                return True
            case "neg", (x,):
                self.ops += 1
                self.add(held, x, -factor, root)
                return True
            case _:
                return False


def _scaled(held: Ops, value: k.Tile | float, root: k.Map) -> bool:
    """Whether a term has a factor of its own, or is a number."""
    if not isinstance(value, k.Tile):
        return True
    op = held.inner(value, root.out)
    return op is not None and op.fn == "mul" and any(not isinstance(s, k.Tile) for s in op.srcs)


def _linear(held: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """A sum of products with numbers, one op for each term."""
    if op.fn not in ("add", "sub", "mul", "neg") or not _float(op):
        return None
    reader = held.readers.get(op.out, [None])[0]
    outer = _Sum()
    larger = (
        isinstance(reader, k.Map) and held.inner(op.out, reader.out) is op and outer.take(held, reader, 1.0, reader)
    )
    if larger and op.out not in outer.terms:
        return None  # part of a larger sum
    found = _Sum()
    if not found.take(held, op, 1.0, op):
        return None
    numbers = [*found.terms.values(), found.constant]
    if not found.terms or not all(isfinite(n) and abs(n) < _SANE for n in numbers) or 0.0 in found.terms.values():
        return None
    if not any(set(t.axes) == set(op.out.axes) for t in found.terms):
        return None
    made = _terms(found, op)
    return made if len(made) < found.ops else None


def _terms(total: _Sum, op: k.Map) -> list[k.KernelOp]:
    """The ops that add up a sum, the last of which is in the place of `op`."""
    terms = sorted(total.terms.items(), key=lambda term: (set(term[0].axes) != set(op.out.axes), term[1] != 1.0))
    (first, factor), *rest = terms
    made: list[k.Map] = []
    value: k.Tile | float = first

    def step(fn: str, *srcs: k.Tile | float) -> k.Tile:
        out = k.Tile(f"{op.out.name}.t{len(made)}", DType.f32, op.out.index)
        made.append(k.Map(out, fn, srcs, op.source))
        return out

    if factor != 1.0:
        value = step("fma", first, factor, total.constant) if total.constant else step("mul", first, factor)
    elif total.constant:
        value = step("add", first, total.constant)
    for tile, factor in rest:
        if factor == 1.0:
            value = step("add", value, tile)
        elif factor == -1.0:
            value = step("sub", value, tile)
        else:
            value = step("fma", tile, factor, value)
    if not made:
        return [k.Map(op.out, "copy", (first,), op.source)]
    return [*made[:-1], replace(made[-1], out=op.out)]


def _one_more(held: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """Products that are added to something, and p * (t + 1)."""
    if not _float(op):
        return None
    for n, value in enumerate(op.srcs[:2] if op.fn in ("add", "mul") else ()):
        inner, other = held.inner(value, op.out), op.srcs[1 - n]
        if inner is None or not isinstance(other, k.Tile):
            continue
        if op.fn == "add" and inner.fn == "mul":
            return [replace(op, fn="fma", srcs=(*inner.srcs, other))]
        if op.fn == "mul" and inner.fn == "add" and 1.0 in inner.srcs:
            rest = inner.srcs[1 - inner.srcs.index(1.0)]
            return [replace(op, fn="fma", srcs=(other, rest, other))]
    return None


# ---- limits


def _limits(held: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """Limits and roundings behind one another, up to `op`: at most one rounding and one limit."""
    chain = _chain(held, op)
    if not chain:
        return None
    low, high, rounds = -inf, inf, False
    for step in chain:
        if step.fn == "round":
            rounds, low, high = True, float(np.rint(low)), float(np.rint(high))
        elif step.fn != "copy":
            a, b = _bounds(step)
            low, high = min(max(low, a), b), min(max(high, a), b)
    if op.fn == "copy":
        if not rounds:
            return None
        info = np.iinfo(op.out.dtype.numpy)
        low, high = (-inf if low <= info.min else low), (inf if high >= info.max else high)
    steps: list[tuple[str, tuple[float, ...]]] = [("round", ())] if rounds else []
    if low > -inf and high < inf:
        steps.append(("clamp", (low, high)))
    elif low > -inf or high < inf:
        steps.append(("max", (low,)) if low > -inf else ("min", (high,)))
    if not steps or len(steps) >= len(chain):
        return None
    value = chain[0].srcs[0]
    made: list[k.KernelOp] = []
    for n, (fn, numbers) in enumerate(steps):
        last = n == len(steps) - 1
        out = op.out if last else k.Tile(f"{op.out.name}.int", DType.f32, op.out.index)
        made.append(k.Map(out, fn, (value, *numbers), op.source))
        value = out
    return made


def _chain(held: Ops, op: k.Map) -> list[k.Map]:
    """Limits and roundings of a float up to `op`, the first one first."""
    chain: list[k.Map] = []
    at: k.Map | None = op
    while at is not None and _limits_only(at, last=at is op):
        chain.insert(0, at)
        at = held.inner(at.srcs[0], op.out)
    source = chain[0].srcs[0] if chain else None
    return chain if isinstance(source, k.Tile) and source.dtype.is_float else []


def _limits_only(op: k.Map, last: bool) -> bool:
    """Whether an op only limits or rounds its first operand; at the end of a chain it may convert to an integer."""
    if op.fn == "copy":
        return last and op.out.dtype in _SATURATES
    numbers = not any(isinstance(s, k.Tile) for s in op.srcs[1:])
    return op.fn in (*LIMITS, "round") and _float(op) and isinstance(op.srcs[0], k.Tile) and numbers


def _bounds(op: k.Map) -> tuple[float, float]:
    numbers = [s for s in op.srcs[1:] if not isinstance(s, k.Tile)]
    match op.fn:
        case "max":
            return numbers[0], inf
        case "min":
            return -inf, numbers[0]
        case _:
            return numbers[0], numbers[1]


def _narrowed(held: Ops, op: k.Map) -> list[k.KernelOp] | None:
    """The op behind a conversion gives its result in the type that is wanted."""
    if op.fn != "copy" or op.out.dtype is DType.b1:
        return None
    inner = held.inner(op.srcs[0], op.out)
    if inner is None or inner.out.dtype is not DType.f32:
        return None
    if not any(isinstance(s, k.Tile) and s.dtype.is_float for s in inner.srcs):
        return None  # it would compute in integers
    return [replace(inner, out=op.out)]
