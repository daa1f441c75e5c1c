"""Boxes of more dimensions than a descriptor names: loops walk the outer ones, by the `offset` of the DMA command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tapeout.compiler.tile import Window
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Term, View

LIMIT = 5
"""Dimensions of a tensor descriptor."""


def walk_outer(node: c.Load | c.Store, window: Window, new_slot: Callable[[], int]) -> tuple[Window, c.Node]:
    """A descriptor of at most five dimensions for `window`, and `node` with loops around it for the others.

    The descriptor knows no bounds of what is walked: outside of them a load reads the fill and a store is left out.
    """
    count = len(window.extents)
    if count <= LIMIT:
        return window, node
    listed = node.index.dim if node.index else -1
    outer = [d for d in range(count) if d != listed][: count - LIMIT]
    kept = [d for d in range(count) if d not in outer]
    slots = {d: new_slot() for d in outer}
    at = {d: node.origin[d] + Affine(0, (Term(slots[d], 1),)) for d in outer}
    offset, base = node.offset, node.local.base
    for d in outer:
        offset = offset + at[d] * window.strides[d]
        base = base + Affine(0, (Term(slots[d], node.local.strides[d]),))
    local = View(node.local.memory, base, _pick(node.local.strides, kept), node.local.dtype)
    index = c.Index(kept.index(listed), node.index.list) if node.index else None
    origin, extents = tuple(node.origin[d] for d in kept), _pick(node.extents, kept)
    inner = replace(node, origin=origin, extents=extents, offset=offset, local=local, index=index)
    beyond: tuple[c.Node, ...] = ()
    if isinstance(node, c.Load):
        nowhere = (Affine(window.extents[kept[0]]), *origin[1:])
        beyond = (replace(inner, origin=nowhere, offset=Affine(), index=None),)
    found: tuple[c.Node, ...] = (inner,)
    for d in outer:
        found = (c.If(Affine(window.extents[d]) + at[d] * -1, found, beyond),)
        if node.origin[d].const < 0:
            found = (c.If(at[d] + 1, found, beyond),)
    for d in reversed(outer):
        found = (c.Loop(slots[d], Affine(node.extents[d]), found),)
    named = replace(window, extents=_pick(window.extents, kept), strides=_pick(window.strides, kept))
    return named, found[0]


def _pick(items: Sequence[int], which: Sequence[int]) -> tuple[int, ...]:
    return tuple(items[i] for i in which)
