"""Reductions in two steps: a long one of which a chip has fewer rows than cores is made of partial ones, so that all
cores take part and may read what lies side by side in memory together.

The place of the largest or smallest element of a row that no local memory holds is found in steps, too: the element
itself, then the first place where it stands. Both go through the row in chunks, which a search for the place cannot.

An image of which each channel is summed has one row a channel, and channels lie innermost: dealt out channel by
channel, each core would read single elements. Dealt out by lines of the image too, cores read whole lines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import prod

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.compiler.layouts import Order, assign_layouts
from tapeout.compiler.roles import memory_of
from tapeout.compiler.tile import ALIGNMENT
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.contraction import rebuilt
from tapeout.ir.types import DType

SPLITTABLE = ("sum", "max", "min")


def split_reductions(graph: g.Graph, chip: Chip) -> g.Graph:
    """The same graph with long reductions of few rows in two steps, and no search in a row longer than local memory."""
    graph = _without_long_searches(graph, chip)
    orders = assign_layouts(graph)
    reductions = [op for op in graph.ops if isinstance(op, g.Reduce)]
    cuts = {op: cut for op in reductions if (cut := _cut(op, orders[op.x], chip)) is not None}
    if not cuts:
        return graph

    def split(b: Builder, op: g.Op, made: Mapping[g.Value, g.Value]) -> g.Op:
        if op not in cuts:
            return b.adopted(op, made)
        assert isinstance(op, g.Reduce)
        axis, parts = cuts[op]
        shape = op.x.type.static_shape
        cut = b.reshape(made[op.x], (*shape[:axis], parts, shape[axis] // parts, *shape[axis + 1 :]))
        inner = tuple(d + 1 if d >= axis else d for d in op.axes)
        (partial,) = b.emit(dataclasses.replace(op, x=cut, axes=inner, outs=()))
        return g.Reduce(op.fn, partial, (axis - sum(d < axis for d in op.axes),), source=op.source)

    return rebuilt(graph, split)


def _without_long_searches(graph: g.Graph, chip: Chip) -> g.Graph:
    memory = memory_of(chip, {"ld", "ve"})
    room = 0 if memory is None else chip.memories[memory].bytes
    long = {
        op
        for op in graph.ops
        if isinstance(op, g.ArgReduce)
        and op.x.type.static_shape[op.axis] * op.x.type.dtype.bytes > room - 2 * ALIGNMENT
    }
    if not long:
        return graph

    def search(b: Builder, op: g.Op, made: Mapping[g.Value, g.Value]) -> g.Op:
        if op not in long:
            return b.adopted(op, made)
        assert isinstance(op, g.ArgReduce)
        x, axis = made[op.x], op.axis
        found = b.reduce(op.fn, x, (axis,), keep=True)  # NaN where the row has one
        shape = x.type.static_shape
        places = b.broadcast(b.constant(np.arange(shape[axis], dtype=np.int32)), shape, (axis,))
        none = b.full(shape[axis], places.type)
        first = b.select(b.compare("eq", x, found), places, none)
        if x.type.dtype.is_float:
            first = b.select(b.compare("ne", x, x), places, first)
        return g.Convert(b.reduce("min", first, (axis,)), DType.i64, source=op.source)

    return rebuilt(graph, search)


def _cut(op: g.Reduce, order: Order, chip: Chip) -> tuple[int, int] | None:
    """The axis of a reduction to cut, and into how many parts; None where one step is better. `order`: the dimensions
    in memory."""
    shape, size = op.x.type.static_shape, op.x.type.dtype.bytes
    if op.fn not in SPLITTABLE:
        return None
    beside = 1 if order[-1] in op.axes else max(1, chip.dram.granule_bytes // size)  # rows that come together
    row = prod(shape[d] for d in op.axes)
    local = chip.memories[chip.memory_for("ve")].bytes
    if beside * row * max(4, size) * 2 <= local or _saved_cycles(prod(shape) // row, row, size, beside, chip) < 0:
        return None
    wanted = -(-chip.cores * beside * row // prod(shape))
    able = [(d, n) for d in op.axes for n in range(2, shape[d] + 1) if shape[d] % n == 0]
    enough = [(d, n) for d, n in able if n >= wanted]
    if wanted < 2 or not able:
        return None
    return min(enough, key=lambda cut: cut[1]) if enough else max(able, key=lambda cut: cut[1])


def _saved_cycles(rows: int, row: int, size: int, beside: int, chip: Chip) -> float:
    """What two steps save: in one, either few cores read rows that lie side by side together, or all that have a row
    read whole granules for single elements; the second step costs a barrier and a way through memory."""
    together = rows * row * size / min(chip.cores, max(1, rows // beside))
    apart = rows * row * min(beside * size, chip.dram.granule_bytes) / min(chip.cores, rows)
    one = min(together, apart) / chip.dma.bytes_per_cycle
    two = rows * row * size / chip.cores / chip.dma.bytes_per_cycle
    return one - two - chip.control.barrier_cycles - 4 * chip.dram_way_cycles
