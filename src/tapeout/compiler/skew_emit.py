"""The loop of a nest whose turns overlap: one pass issues each stage's nodes for a turn of its own (`skew.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import groupby
from math import prod
from typing import Any, cast

from tapeout.compiler.skew import Spot
from tapeout.compiler.uses import queues_of
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Term


def issue_order(spots: Sequence[Spot]) -> list[int]:
    """The order in which one pass issues its nodes. In each queue the newest turn, which is in stage 0, comes first, so
    that an older one may still wait for other engines; beyond that the oldest turn goes first, which has its operands
    soonest: control should not stand before a full queue with it."""
    queues = [queues_of(spot.node) for spot in spots]
    left = {
        stage: [i for i, spot in enumerate(spots) if spot.stage == stage]
        for stage in sorted({spot.stage for spot in spots}, reverse=True)
    }
    order: list[int] = []
    while any(left.values()):
        for stage, nodes in left.items():
            newer = [i for s, others in left.items() if s < stage for i in others]
            if nodes and not any(queues[i] & queues[nodes[0]] for i in newer):
                order.append(nodes.pop(0))
                break
    return order


@dataclass(frozen=True, slots=True)
class Skew:
    """A nest under emission: slots and trips of its loops, outermost first; the slots that count turns of buffers, each
    with its loop's level; the number of the last stage. `slots(stage, slot)` is what counts in place of a slot for a
    later stage (for one behind the last: the passes)."""

    loops: tuple[tuple[int, int], ...]
    counters: tuple[tuple[int, int], ...]
    last: int
    slots: Callable[[int, int], int]

    @property
    def passes(self) -> int:
        """The slot that counts passes."""
        outer = self.loops[0][0]
        return outer if len(self.loops) == 1 else self.slots(self.last + 1, outer)

    @property
    def turns(self) -> int:
        return prod(trip for _, trip in self.loops)

    def slot(self, stage: int, slot: int) -> int:
        return self.slots(stage, slot) if stage else slot

    def begin(self) -> list[c.Node]:
        """Gives the loops' slots their values in each stage."""
        nodes: list[c.Node] = []
        for stage in range(1 if len(self.loops) == 1 else 0, self.last + 1):
            outer, div = self.slot(stage, self.loops[0][0]), 1
            nodes.append(c.Set(outer, Affine(-stage, (Term(self.passes, 1),))))
            for slot, trip in reversed(self.loops[1:]):
                nodes.append(c.Set(self.slot(stage, slot), Affine(0, (Term(outer, 1, div, trip),))))
                div *= trip
            if div > 1:
                nodes.append(c.Set(outer, Affine(0, (Term(outer, 1, div),))))
        return nodes

    def guarded(self, stage: int, level: int, behind: bool, nodes: Sequence[c.Node]) -> tuple[c.Node, ...]:
        """Nodes of a stage in passes that have a turn for it; those of an outer body in the first or, `behind` the
        loops inside, last one of their turns."""
        known = {slot: self.slot(stage, slot) for slot in (*(s for s, _ in self.loops), *(s for s, _ in self.counters))}
        own = tuple(rename(node, known) for node in nodes)
        inside = self.loops[level + 1 :]
        if inside:
            ends = tuple(Term(known[slot], 1 if behind else -1) for slot, _ in inside)
            own = (c.If(Affine(1 - (sum(trip - 1 for _, trip in inside) if behind else 0), ends), own),)
        if stage:
            own = (c.If(Affine(1 - stage, (Term(self.passes, 1),)), own),)
        if stage < self.last:
            own = (c.If(Affine(self.turns + stage, (Term(self.passes, -1),)), own),)
        return own

    def emit(self, spots: Sequence[Spot]) -> c.Loop:
        body = self.begin()
        for (stage, level, behind), group in groupby(
            (spots[i] for i in issue_order(spots)), lambda spot: (spot.stage, spot.level, spot.behind)
        ):
            body += self.guarded(stage, level, behind, [spot.node for spot in group])
        for slot, level in self.counters:
            step = c.Set(slot, Affine(1, (Term(slot, 1),)))
            for stage in range(self.last + 1):
                body += self.guarded(stage, level, True, [step])
        return c.Loop(self.passes, Affine(self.turns + self.last), tuple(body))


def rename(node: c.Node, slots: Mapping[int, int]) -> c.Node:
    """The node, and everything below it, with other slots in its expressions."""
    return node if all(a == b for a, b in slots.items()) else _renamed(node, slots)


def _renamed(value: Any, slots: Mapping[int, int]) -> Any:
    """Goes through all fields that hold expressions."""
    match value:
        case Term():
            return replace(value, slot=slots.get(value.slot, value.slot))
        case c.Set():
            return c.Set(slots.get(value.slot, value.slot), _renamed(value.value, slots))
        case tuple():
            return tuple(_renamed(item, slots) for item in cast(tuple[Any, ...], value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{f.name: _renamed(getattr(value, f.name), slots) for f in fields(value)})
        case _:
            return value
