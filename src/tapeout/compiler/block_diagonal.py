"""Groups of convolutions packed as a block diagonal: several groups become one dense convolution whose weights are zero
where a group would read another one's channels. One group of a depthwise convolution fills a single column of a matrix
unit; as many groups as the unit has columns fill it.

A product with zero is zero for integers only (0 * inf and 0 * nan are nan, and would reach the other groups), so
floats are not packed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import prod

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.compiler.engines import Extents, depthwise_cycles, fits_matrix, grouped_cycles, prefers_vector
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.contraction import rebuilt, weights


def pack_groups(graph: g.Graph, chip: Chip) -> g.Graph:
    """The same graph, its integer convolutions of constant weights with as many groups packed into one as the chip is
    fastest with."""
    known = weights(graph)
    counts = {
        op: count
        for op in graph.ops
        if isinstance(op, g.Conv) and op.w in known and (count := groups_to_pack(op, chip)) > 1
    }
    if not counts:
        return graph

    def packed(b: Builder, op: g.Op, made: Mapping[g.Value, g.Value]) -> g.Op:
        if op not in counts:
            return b.adopted(op, made)
        assert isinstance(op, g.Conv)
        dense = b.constant(block_diagonal(known[op.w], op.groups, counts[op]))
        return dataclasses.replace(op, x=made[op.x], w=dense, groups=op.groups // counts[op])

    return rebuilt(graph, packed)


def groups_to_pack(op: g.Conv, chip: Chip) -> int:
    """How many groups of a convolution should be one: 1 where none are packed."""
    x, w = op.x.type.dtype, op.w.type.dtype
    if op.groups == 1 or not x.is_int or op.dtype.bytes == 8 or not fits_matrix(chip, x, w):
        return 1
    outputs, channels = op.w.type.static_shape[0] // op.groups, op.w.type.static_shape[1]
    taps, rows = prod(op.w.type.static_shape[2:]), op.out.type.elements // op.w.type.static_shape[0]

    def size(count: int) -> Extents:
        return Extents(op.groups // count, rows, outputs * count, channels * taps * count)

    def cycles(count: int) -> float:
        return grouped_cycles(chip, size(count), channels * count, x)

    best = min((n for n in range(1, op.groups + 1) if op.groups % n == 0), key=cycles)
    if outputs == channels == 1 and depthwise_cycles(chip, rows, op.groups, taps) <= cycles(best):
        return 1
    return 1 if prefers_vector(chip, size(best), x, w) else best


def block_diagonal(w: np.ndarray, groups: int, count: int) -> np.ndarray:
    """Weights [O, C, k..] of a convolution with `groups` groups as [O, count * C, k..] of one with groups / count:
    output o of the group p of a pack reads channels p * C .. (p + 1) * C - 1, all others times zero."""
    split = w.reshape(groups // count, count, -1, *w.shape[1:])
    dense = np.zeros((*split.shape[:3], count, *w.shape[1:]), w.dtype)
    for p in range(count):
        dense[:, p, :, p] = split[:, p]
    return dense.reshape(len(w), count * w.shape[1], *w.shape[2:])
