"""Which elements the results of a graph need, from the outputs backwards, and the bytes that have to cross DRAM.

The need for a value is a mask of its elements, or True for all of them. It is never too large: where it depends on data
(rows of a dynamic gather, regions) nothing is needed for certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from tapeout.ir import graph as g
from tapeout.report.facts import Array, Facts, live_mask

ELEMENTWISE = g.Unary | g.Binary | g.Compare | g.Select | g.Convert
MOVES = g.Reshape | g.Transpose | g.Broadcast | g.Slice | g.Pad | g.Concat | g.Bitcast

Mask = Array | bool


@dataclass(slots=True)
class Demand:
    """`masks` of the values that are needed; bytes of each constant that are read (`stored`), of inputs and states
    that are read row by row (`rows`), and bytes that outputs and states have written."""

    masks: dict[g.Value, Mask] = field(default_factory=dict[g.Value, Mask])
    stored: dict[g.Value, int] = field(default_factory=dict[g.Value, int])
    rows: dict[g.Value, int] = field(default_factory=dict[g.Value, int])
    output_bytes: int = 0
    state_bytes: int = 0

    def elements(self, value: g.Value) -> int:
        """Elements of a value that are needed."""
        mask = self.masks.get(value, False)
        if isinstance(mask, bool):
            return value.type.elements if mask else 0
        return int(np.count_nonzero(mask))

    def array(self, value: g.Value) -> Array:
        return np.broadcast_to(np.asarray(self.masks.get(value, False)), value.type.static_shape)

    def want(self, value: g.Value, mask: Mask) -> None:
        old = self.masks.get(value, False)
        if old is True or mask is False:
            return
        new = mask if old is False or mask is True else np.logical_or(old, mask)
        self.masks[value] = True if not isinstance(new, bool) and bool(np.all(new)) else new


def spread(graph: g.Graph, facts: Facts) -> Demand:
    """The demand of a graph's outputs and states on every value."""
    demand = Demand()
    producer = {out: op for op in graph.ops for out in op.outs}
    written: dict[g.Value, Mask] = {}
    for _, value in graph.outputs:
        _view(value, True, producer, facts, demand, written)
    for root in written:
        count, known = demand.elements(root), facts[root].distinct
        demand.output_bytes += max(0, count + known - root.type.elements) * root.type.dtype.bytes
    for state in graph.states:
        _write_state(state, producer, facts, demand, written)
    for op in reversed(graph.ops):
        wanted = [demand.masks.get(out, False) for out in op.outs]
        if any(w is not False for w in wanted) and not facts[op.outs[0]].constant:
            if len(op.outs) == 1:
                _demand(op, wanted[0], facts, demand)
            elif isinstance(op, g.Sort | g.HostCall):
                for v in g.operands(op):
                    demand.want(v, all(w is True for w in wanted) or isinstance(op, g.HostCall))
    return demand


NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1, "pow": 1}
"""What leaves the left operand as it is."""


def _same(op: g.Op | None, facts: Facts) -> g.Value | None:
    """The operand that an op returns unchanged, if it is such an op."""
    match op:
        case g.Binary() if op.fn in NEUTRAL:
            for x, y in ((op.x, op.y), (op.y, op.x)):
                array = facts[y].array
                if (
                    array is not None
                    and bool((array == NEUTRAL[op.fn]).all())
                    and (x is op.x or op.fn in ("add", "mul"))
                ):
                    return x
        case g.Convert() if op.x.type.dtype is op.dtype:
            return op.x
        case g.Reduce() | g.Pool() | g.Cumulate() | g.DynamicSlice() if _of_one(op):
            return op.x
        case g.Select() if (chosen := facts[op.cond].array) is not None:
            return op.x if bool(chosen.all()) else op.y if not bool(chosen.any()) else None
        case _:
            pass
    return None


def _of_one(op: g.Reduce | g.Pool | g.Cumulate | g.DynamicSlice) -> bool:
    """Whether each result is just one element of x, and every element is one."""
    match op:
        case g.Pool():
            return all(n == 1 for n in op.window) and op.x.type.shape == op.out.type.shape
        case g.Cumulate():
            return op.x.type.shape[op.axis] == 1 and not op.exclusive
        case _:
            return op.x.type.elements == op.out.type.elements


def _view(
    value: g.Value,
    mask: Mask,
    producer: dict[g.Value, g.Op],
    facts: Facts,
    demand: Demand,
    written: dict[g.Value, Mask],
) -> None:
    """The computed values that an output is a view of; inputs and constants need neither reading nor writing."""
    op = producer.get(value)
    if op is None or facts[value].constant:
        return
    if (same := _same(op, facts)) is not None:
        given = mask if isinstance(mask, bool) else mask.reshape(same.type.static_shape)
        _view(same, given, producer, facts, demand, written)
        return
    selects = isinstance(op, g.Gather) and facts[op.indices].array is not None and mask is True
    if isinstance(op, MOVES) or selects:
        parts = Demand({value: mask})
        _demand(op, mask, facts, parts)
        for operand in g.operands(op):
            if (part := parts.masks.get(operand, False)) is not False:
                _view(operand, part, producer, facts, demand, written)
        return
    written[value] = True
    demand.want(value, mask)


def _write_state(
    state: g.State, producer: dict[g.Value, g.Op], facts: Facts, demand: Demand, written: dict[g.Value, Mask]
) -> None:  # fmt: skip
    """A state that is updated in place is written where it changes."""
    value = state.exit
    while value is not state.entry:
        if (same := _same(producer.get(value), facts)) is not None:
            value = same
            continue
        match producer.get(value):
            case g.DynamicUpdate() as op:
                demand.state_bytes += op.update.type.bytes
                demand.want(op.update, True)
                value = op.x
            case g.Scatter() as op:  # all its indices may be equal
                demand.state_bytes += op.updates.type.bytes // max(1, op.indices.type.elements)
                demand.want(op.updates, op.indices.type.elements == 1)
                value = op.x
            case _:
                fresh: dict[g.Value, Mask] = {}
                _view(value, True, producer, facts, demand, fresh)
                demand.state_bytes += sum(root.type.bytes for root in fresh if root not in written)
                return


def _read_constant(value: g.Value, size: int, facts: Facts, demand: Demand) -> None:
    """Charges a constant operand to the largest stored array that it is made of."""
    if facts[value].stored:
        root = max(facts[value].stored, key=lambda v: (v.type.bytes, v.name))
        demand.stored[root] = max(demand.stored.get(root, 0), min(size, root.type.bytes))


def _demand(op: g.Op, mask: Mask, facts: Facts, demand: Demand) -> None:
    """What the elements in `mask` of an op's only result need of its operands."""
    match op:
        case g.Unary() | g.Convert() | g.Bitcast():
            demand.want(op.x, mask)
        case g.Binary():
            demand.want(op.x, _and(mask, live_mask(op.fn, facts[op.y].array)))
            demand.want(op.y, _and(mask, live_mask(op.fn, facts[op.x].array)))
        case g.Compare():
            demand.want(op.x, mask)
            demand.want(op.y, mask)
        case g.Select():
            demand.want(op.cond, mask)
            chosen = facts[op.cond].array
            if chosen is not None:
                demand.want(op.x, _and(mask, chosen))
                demand.want(op.y, _and(mask, ~chosen))
        case g.Reduce():
            demand.want(op.x, _spread_over(op.x, mask, op.axes))
        case g.ArgReduce():
            demand.want(op.x, _spread_over(op.x, mask, (op.axis,)))
        case g.Cumulate():
            demand.want(op.x, False if op.exclusive else mask)
        case g.DynamicSlice():
            demand.want(op.x, op.out.type.shape == op.x.type.shape and mask is True)
        case g.DynamicUpdate():
            demand.want(op.update, mask is True)
        case g.Scatter():
            demand.want(op.updates, mask is True and op.fn == "set" and op.indices.type.elements == 1)
        case g.Gather():
            _gather(op, mask, facts, demand)
        case g.Dot():
            _dot(op, mask, facts, demand)
        case g.Conv() | g.Pool():
            _window(op, mask, facts, demand)
        case g.Reshape() | g.Transpose() | g.Broadcast() | g.Slice() | g.Pad() | g.Concat():
            _move(op, mask, demand)
        case g.HostCall():
            for v in op.operands:
                demand.want(v, True)
        case g.Constant() | g.Iota() | g.RandomBits() | g.Sort() | g.If() | g.While() | g.Scan():
            pass


def _and(mask: Mask, live: Mask) -> Mask:
    if isinstance(mask, bool):
        return live if mask else False
    return mask if live is True else np.logical_and(mask, live)


def _spread_over(x: g.Value, mask: Mask, axes: tuple[int, ...]) -> Mask:
    return mask if isinstance(mask, bool) else np.broadcast_to(np.expand_dims(mask, axes), x.type.static_shape)


def _move(
    op: g.Reshape | g.Transpose | g.Broadcast | g.Slice | g.Pad | g.Concat, mask: Mask, demand: Demand
) -> None:  # fmt: skip
    whole = np.broadcast_to(np.asarray(mask), op.out.type.static_shape)
    match op:
        case g.Reshape():
            demand.want(op.x, mask if isinstance(mask, bool) else mask.reshape(op.x.type.static_shape))
        case g.Transpose():
            demand.want(op.x, mask if isinstance(mask, bool) else mask.transpose(np.argsort(op.perm)))
        case g.Broadcast():
            _broadcast(op, mask, demand)
        case g.Slice():
            x = np.zeros(op.x.type.static_shape, np.bool_)
            where: list[Any] = [a + np.arange(n) * s for a, n, s in zip(op.starts, op.sizes, op.steps, strict=True)]
            x[np.ix_(*where)] = whole
            demand.want(op.x, x)
        case g.Pad():
            x = np.zeros(op.x.type.static_shape, np.bool_)
            shape = op.x.type.static_shape
            bounds = [(max(0, -lo), n - max(0, -hi), lo) for n, lo, hi in zip(shape, op.lo, op.hi, strict=True)]
            inner = tuple(slice(a, b) for a, b, _ in bounds)
            x[inner] = whole[tuple(slice(a + lo, b + lo) for a, b, lo in bounds)]
            demand.want(op.x, x)
        case g.Concat():
            at = 0
            for part in op.xs:
                end = at + part.type.static_shape[op.axis]
                piece = whole[(slice(None),) * op.axis + (slice(at, end),)]
                demand.want(part, mask if isinstance(mask, bool) else piece)
                at = end


def _broadcast(op: g.Broadcast, mask: Mask, demand: Demand) -> None:
    if isinstance(mask, bool):
        demand.want(op.x, mask)
        return
    repeated = tuple(d for d in range(mask.ndim) if d not in op.dims)
    kept: Any = mask.any(axis=repeated)  # dimensions in the order of the result
    kept = kept.transpose(np.argsort(np.argsort(op.dims))) if op.dims else kept
    ones = tuple(d for d, n in enumerate(op.x.type.static_shape) if n == 1 and kept.shape[d] != 1)
    demand.want(op.x, kept.any(axis=ones, keepdims=True) if ones else kept)


def _gather(op: g.Gather, mask: Mask, facts: Facts, demand: Demand) -> None:
    """Rows that are read: each index its own, as far as there are rows and constant indices differ."""
    shape = op.x.type.static_shape
    indices = facts[op.indices].array
    if mask is not True:
        lead = tuple(range(op.axis)) + tuple(range(op.axis + op.indices.type.rank, op.out.type.rank))
        used: Any = None if op.batch else np.asarray(mask).any(axis=lead)
    else:
        used = True if op.batch else np.ones(op.indices.type.static_shape, np.bool_)
    if used is None:
        return
    demand.want(op.indices, used)
    if op.batch:
        return
    inner = op.x.type.elements // max(1, shape[op.axis])
    count = int(np.count_nonzero(used))
    if indices is not None:
        rows = np.zeros(shape[op.axis], np.bool_)
        at = indices[used] + np.where(indices[used] < 0, shape[op.axis], 0)
        rows[at[(at >= 0) & (at < shape[op.axis])]] = True
        count = int(rows.sum())
        if mask is True:
            demand.want(op.x, _spread_over(op.x, rows, tuple(d for d in range(len(shape)) if d != op.axis)))
    elif mask is True:
        size = min(count, shape[op.axis]) * inner * op.x.type.dtype.bytes
        demand.rows[op.x] = max(demand.rows.get(op.x, 0), size)
    if facts[op.x].constant and mask is True:
        _read_constant(op.x, min(count, shape[op.axis]) * inner * op.x.type.dtype.bytes, facts, demand)


# ---- contractions and windows


def _operand(value: g.Value, mask: Mask, facts: Facts, demand: Demand) -> None:
    demand.want(value, mask)
    if facts[value].constant:
        _read_constant(value, demand.elements(value) * value.type.dtype.bytes, facts, demand)


def _dot(op: g.Dot, mask: Mask, facts: Facts, demand: Demand) -> None:
    """A row of an operand is needed by any result of its row or column."""
    batch = len(op.lhs_batch)
    free_l = [d for d in range(op.lhs.type.rank) if d not in op.lhs_batch + op.lhs_contract]
    free_r = [d for d in range(op.rhs.type.rank) if d not in op.rhs_batch + op.rhs_contract]
    split = batch + len(free_l)
    for value, mine, other, own_batch in (
        (op.lhs, free_l, range(split, split + len(free_r)), op.lhs_batch),
        (op.rhs, free_r, range(batch, split), op.rhs_batch),
    ):
        if isinstance(mask, bool):
            _operand(value, mask, facts, demand)
            continue
        kept: Any = mask.any(axis=tuple(other))
        order = [*own_batch, *mine]
        lined = kept.transpose(np.argsort(order)) if order else kept
        contract = tuple(d for d in range(value.type.rank) if d not in order)
        _operand(value, _spread_over(value, lined, contract), facts, demand)


def _hits(op: g.Conv | g.Pool) -> list[tuple[Array, Array]]:
    """For each spatial dimension, b1[places, taps] of windows that fall on an element of x, and which element."""
    window = op.window if isinstance(op, g.Pool) else op.w.type.static_shape[2:]
    found: list[tuple[Array, Array]] = []
    for i, taps in enumerate(window):
        d = op.x.type.rank - len(window) + i
        step = op.x_dilation[i] if isinstance(op, g.Conv) else 1
        places = np.arange(op.out.type.static_shape[d])[:, None] * op.strides[i]
        at = places + np.arange(taps)[None, :] * op.dilation[i] - op.pads[i][0]
        hit = (at >= 0) & (at <= (op.x.type.static_shape[d] - 1) * step) & (at % step == 0)
        found.append((hit, np.where(hit, at // step, 0)))
    return found


def _window(op: g.Conv | g.Pool, mask: Mask, facts: Facts, demand: Demand) -> None:
    """Elements under the windows of the results that are needed: per dimension, so only where all results are."""
    hits = _hits(op)
    shape = op.x.type.static_shape
    if isinstance(op, g.Conv):
        if not isinstance(mask, bool):
            outs: Any = mask.any(axis=tuple(d for d in range(mask.ndim) if d != 1))
        else:
            outs = np.full(op.w.type.static_shape[0], mask)
        used = [outs, np.ones(op.w.type.static_shape[1], np.bool_), *(h.any(axis=0) for h, _ in hits)]
        if mask is True:
            _operand(op.w, _grid(used), facts, demand)
        elif facts[op.w].constant:  # some tap of each needed channel
            size = int(outs.sum()) * op.w.type.static_shape[1] * op.w.type.dtype.bytes
            _read_constant(op.w, size, facts, demand)
    if mask is not True:
        return
    touched = [np.ones(n, np.bool_) for n in shape[: len(shape) - len(hits)]]
    for (hit, at), n in zip(hits, shape[len(shape) - len(hits) :], strict=True):
        line = np.zeros(n, np.bool_)
        line[at[hit]] = True
        touched.append(line)
    _operand(op.x, _grid(touched), facts, demand)


def _grid(lines: Sequence[Any]) -> Mask:
    """The product of one mask per dimension."""
    if all(bool(line.all()) for line in lines):
        return True
    out = np.ones((), np.bool_)
    for line in lines:
        out = np.logical_and(out[..., None], line)
    return out


def macs(op: g.Dot | g.Conv, d: int) -> int:
    """Multiply-accumulates for `d` elements of the result; taps outside x need none."""
    if isinstance(op, g.Dot):
        return d * prod(op.lhs.type.static_shape[i] for i in op.lhs_contract)
    shape = op.w.type.static_shape
    all_taps = op.out.type.static_shape[0] * shape[0] * shape[1] * prod(int(h.sum()) for h, _ in _hits(op))
    return max(0, all_taps - (op.out.type.elements - d) * prod(shape[1:]))
