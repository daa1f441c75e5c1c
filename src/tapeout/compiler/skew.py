"""Software pipelining: turns of a loop that overlap in stages (modulo scheduling of a loop body on in-order queues; B. R.
Rau, "Iterative modulo scheduling", MICRO 1994).

Queues work in order. Where a turn comes back to an engine behind another one (matrix unit, vector unit, matrix unit
again: attention), the engine would wait for its own turn's vector work before it may begin the next turn. So the nodes
of a loop's body get stages: a node that comes back to the matrix or vector unit begins the next one. A pass through the
emitted loop issues stage 0 of turn t, stage 1 of turn t - 1, and so on:

    stage 0: scores, softmax         MM  QK(0)  QK(1)       PV(0)  QK(2)       PV(1)  ...
    stage 1: product with values     VE         softmax(0)  softmax(1)         softmax(2)

The tile program keeps its turns one after the other, which is its meaning; it only says the stages, and its buffers have
room for the turns that are under way. `emit.py` writes the skewed loop. The order of a turn's commands within each
queue is that of the tile program, and a wait's post is issued before it as long as

1. stages do not decrease along a queue or from what a node depends on;
2. a buffer of the loop has room for as many turns as stages touch it;
3. what lies outside of the loop and is written in it belongs to one stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

from tapeout.chip.spec import Chip
from tapeout.compiler.tile import LocalBuffer, TileProgram, local_bytes
from tapeout.compiler.uses import children, queues_of, uses_of
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Term

ENGINES = frozenset((int(c.Queue.MM), int(c.Queue.VE)))
"""Queues whose units must not wait for one another within a turn."""
LATE = frozenset((int(c.Queue.LD), int(c.Queue.MV)))
"""Queues that bring operands: they do so in the stage that needs them."""


@dataclass(slots=True)
class _Node:
    """A node of a body: queues, the nodes before it that it depends on, and what is found about it."""

    queues: set[int]
    needs: list[int]
    stage: int = 0
    visited: frozenset[int] = frozenset()
    """Queues on the ways to it within its stage."""


def stage_turns(program: TileProgram, chip: Chip) -> TileProgram:
    """The program with stages for all loops that come back to an engine, as many as there is room for."""
    found = {loop.slot: stages_of(loop, program.buffers) for loop in loops_of(program)}
    for last in range(max((max(stages) for stages in found.values()), default=0), 0, -1):
        cut = {slot: tuple(min(stage, last) for stage in stages) for slot, stages in found.items() if max(stages)}
        deep = replace(program, stages=cut, buffers=_deepened(program, cut))
        sizes = local_bytes(deep, len(chip.memories))
        if all(size <= memory.bytes // 64 * 64 for size, memory in zip(sizes, chip.memories, strict=True)):
            return deep
    return program


def loops_of(program: TileProgram) -> Iterator[c.Loop]:
    """The loops whose turns define buffers."""
    pending = list(program.body)
    while pending:
        node = pending.pop()
        if isinstance(node, c.Loop) and node.slot in program.scopes:
            yield node
        pending += children(node)


def stages_of(loop: c.Loop, buffers: Sequence[LocalBuffer]) -> tuple[int, ...]:
    """The stage of each node of a loop's body; all 0 where turns cannot overlap."""
    uses = [uses_of(node) for node in loop.body]
    writes = [{b for b, found in use.items() if any(w for _, w in found)} for use in uses]
    nodes = [_Node(queues_of(node), []) for node in loop.body]
    for j, node in enumerate(nodes):
        node.needs = [i for i in range(j) if writes[i] & uses[j].keys() or uses[i].keys() & writes[j]]
    lasting = {b for found in writes for b in found if buffers[b].scope != loop.slot}
    together = [[nodes[i] for i, use in enumerate(uses) if b in use] for b in sorted(lasting)]
    together = [group for group in together if len(group) > 1]
    changed = True
    while changed:
        changed = False
        for j in range(len(nodes)):
            changed |= _raise(nodes, j)
        for group in together:
            top = max(node.stage for node in group)
            changed |= any(node.stage < top for node in group)
            for node in group:
                node.stage = top
        if max((node.stage for node in nodes), default=0) > len(nodes):  # a chain through what outlasts the turn
            return (0,) * len(nodes)
    _delay(nodes, {id(node) for group in together for node in group})
    least = min((node.stage for node in nodes), default=0)
    return tuple(node.stage - least for node in nodes)


def _raise(nodes: list[_Node], j: int) -> bool:
    """Brings one node to the stage that those before it ask for; whether that is another one."""
    node = nodes[j]
    before = [nodes[i] for i in node.needs]
    queue = [other.stage for other in nodes[:j] if other.queues & node.queues]
    stage = max([node.stage, *queue, *(other.stage for other in before)])
    same = [other for other in before if other.stage == stage]
    left = {q for other in same for q in other.visited - other.queues}
    if left & node.queues & ENGINES:
        stage, same = stage + 1, []
    changed = stage != node.stage
    node.stage, node.visited = stage, frozenset(node.queues).union(*(other.visited for other in same))
    return changed


def _delay(nodes: list[_Node], fixed: set[int]) -> None:
    """Puts what only brings operands into the stage that needs them: their buffers are free again the sooner."""
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        if id(node) in fixed or not node.queues <= LATE:
            continue
        readers = [other.stage for other in nodes[i + 1 :] if i in other.needs]
        behind = [other.stage for other in nodes[i + 1 :] if other.queues & node.queues]
        if readers:
            node.stage = max(node.stage, min(readers + behind))


def spans(loop: c.Loop, stages: Sequence[int], buffers: Sequence[LocalBuffer]) -> dict[int, tuple[int, int]]:
    """For each buffer of the loop's turns, and each of others that it writes, the first and last stage that touch
    it."""
    found: dict[int, set[int]] = {}
    written: set[int] = set()
    for node, stage in zip(loop.body, stages, strict=True):
        for buffer, uses in uses_of(node).items():
            found.setdefault(buffer, set()).add(stage)
            written |= {buffer} if any(w for _, w in uses) else set()
    return {b: (min(at), max(at)) for b, at in found.items() if buffers[b].scope == loop.slot or b in written}


def _deepened(program: TileProgram, stages: dict[int, tuple[int, ...]]) -> tuple[LocalBuffer, ...]:
    """The buffers, with room for all turns that are under way."""
    buffers = list(program.buffers)
    for loop in loops_of(program):
        for number, (first, last) in spans(loop, stages.get(loop.slot, (0,) * len(loop.body)), buffers).items():
            buffer = buffers[number]
            if buffer.scope == loop.slot:
                buffers[number] = replace(buffer, depth=max(buffer.depth, last - first + 1))
    return tuple(buffers)


# ---- the skewed loop


def issue_order(body: Sequence[c.Node], stages: Sequence[int]) -> list[int]:
    """The order in which one pass issues its nodes. In each queue the newest turn, which is in stage 0, comes first, so
    that an older one may still wait for other engines; beyond that the oldest turn goes first, which has its operands
    soonest: control should not stand before a full queue with it."""
    queues = [queues_of(node) for node in body]
    left = {stage: [i for i, s in enumerate(stages) if s == stage] for stage in sorted(set(stages), reverse=True)}
    order: list[int] = []
    while any(left.values()):
        for stage, nodes in left.items():
            newer = [i for s, others in left.items() if s < stage for i in others]
            if nodes and not any(queues[i] & queues[nodes[0]] for i in newer):
                order.append(nodes.pop(0))
                break
    return order


def skewed(
    loop: c.Loop, stages: Sequence[int], end: tuple[c.Node, ...], slots: Callable[[int, int], int]
) -> c.Loop:
    """The loop that issues its body in stages, `end` behind all nodes of each. `slots(stage, slot)` is what counts in
    place of a slot for the nodes of a later stage."""
    last, trip = max(stages), loop.trip.const
    counted = {loop.slot, *(node.slot for node in end if isinstance(node, c.Set))}
    renamed = [{slot: slots(stage, slot) if stage else slot for slot in counted} for stage in range(last + 1)]

    def guarded(stage: int, nodes: Sequence[c.Node]) -> tuple[c.Node, ...]:
        """The nodes of a stage, in passes that have a turn for it."""
        own = tuple(rename(node, renamed[stage]) for node in nodes)
        if stage:
            own = (c.If(Affine(1 - stage, (Term(loop.slot, 1),)), own),)
        return (c.If(Affine(trip + stage, (Term(loop.slot, -1),)), own),) if stage < last else own

    body: list[c.Node] = [
        c.Set(renamed[stage][loop.slot], Affine(-stage, (Term(loop.slot, 1),))) for stage in range(1, last + 1)
    ]
    run: list[int] = []
    for i in issue_order(loop.body, stages):
        if run and stages[i] != stages[run[-1]]:
            body += guarded(stages[run[-1]], [loop.body[n] for n in run])
            run = []
        run.append(i)
    body += guarded(stages[run[-1]], [loop.body[n] for n in run])
    if end:
        body += [node for stage in range(last + 1) for node in guarded(stage, end)]
    return c.Loop(loop.slot, Affine(trip + last), tuple(body))


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
