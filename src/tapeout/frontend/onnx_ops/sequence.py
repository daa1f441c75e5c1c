"""Sequences and optionals, which exist during the import only: what depends on them must not depend on the run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, TensorSequence, table
from tapeout.frontend.onnx_ops.shape import pieces
from tapeout.ir import graph as g
from tapeout.ir.types import Dim


def _place(c: Call, i: int, default: int) -> int:
    return int(c.number(i, default))


def at(c: Call) -> g.Value:
    return c.sequence(0)[_place(c, 1, 0)]


def insert(c: Call) -> TensorSequence:
    items = TensorSequence(c.sequence(0))
    items.insert(_place(c, 2, len(items)), c.x(1))
    return items


def erase(c: Call) -> TensorSequence:
    items = TensorSequence(c.sequence(0))
    del items[_place(c, 1, -1)]
    return items


def split_to(c: Call) -> TensorSequence:
    x = c.x(0)
    axis = c.axis(0, x.type.rank)
    extent = x.type.static_shape[axis]
    if c.has(1) and c.x(1).type.rank == 1:
        return TensorSequence(pieces(c, x, axis, c.ints(1)))
    chunk = _place(c, 1, 1)
    parts = pieces(c, x, axis, [min(chunk, extent - i) for i in range(0, extent, chunk)])
    if c.has(1) or c.flag("keepdims", True):
        return TensorSequence(parts)
    shape: list[Dim] = [d for i, d in enumerate(x.type.shape) if i != axis]
    return TensorSequence(c.b.reshape(p, shape) for p in parts)


def concat_from(c: Call) -> g.Value:
    items, new = c.sequence(0), c.flag("new_axis")
    axis = c.wrap(c.attr_int("axis", 0), items[0].type.rank + new)
    if new:
        items = [c.b.reshape(x, [*x.type.shape[:axis], 1, *x.type.shape[axis:]]) for x in items]
    return c.b.concat(items, axis)


OPS: Mapping[tuple[str, str], Handler] = table(
    SequenceEmpty=lambda c: TensorSequence(),
    SequenceConstruct=lambda c: TensorSequence(c.xs()),
    SequenceAt=at,
    SequenceInsert=insert,
    SequenceErase=erase,
    SequenceLength=lambda c: c.b.constant(np.array(len(c.sequence(0)), np.int64)),
    SplitToSequence=split_to,
    ConcatFromSequence=concat_from,
    Optional=lambda c: c.items[0] if c.items else None,
    OptionalGetElement=lambda c: c.items[0],
    OptionalHasElement=lambda c: c.b.constant(np.array(c.has(0))),
)
