"""Software pipelining: turns of a loop that overlap in stages (modulo scheduling of a loop's body on in-order queues;
B. R. Rau, "Iterative modulo scheduling", MICRO 1994).

Queues work in order. Where a turn comes back to an engine behind another one (matrix unit, vector unit, matrix unit
again: attention), the engine would wait for its own turn's vector work before it may begin the next turn. So the nodes
of a loop's body get stages: a node that comes back to the matrix or vector unit begins the next one. A pass through the
emitted loop issues stage 0 of turn t, stage 1 of turn t - 1, and so on:

    stage 0: scores, softmax         MM  QK(0)  QK(1)       PV(0)  QK(2)       PV(1)  ...
    stage 1: product with values     VE         softmax(0)  softmax(1)         softmax(2)

Loops around it belong to the same *nest*: the turns of all are numbered through, so that the first turn of an inner
loop overlaps with the last one before it. What stands in an outer body takes part in the first turn of the loops
inside, or, behind them, in the last one.

The tile program keeps its turns one after the other, which is its meaning; it only says the stages, and its buffers
have room for the turns that are under way. `skew_emit.py` writes the skewed loop. The order of a turn's commands within
each queue is that of the tile program, and a wait's post is issued before it as long as

1. stages do not decrease along a queue or from what a node depends on;
2. a buffer has room for all turns of its scope that are under way between the stages that touch it;
3. what is written inside of a loop that it outlasts belongs to one stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from tapeout.chip.spec import Chip
from tapeout.compiler.tile import LocalBuffer, TileProgram, fits
from tapeout.compiler.uses import children, loops_in, queues_of, uses_of
from tapeout.ir import kernel as k
from tapeout.isa import commands as c

ENGINES = frozenset((int(c.Queue.MM), int(c.Queue.VE)))
"""Queues whose units must not wait for one another within a turn."""
LATE = frozenset((int(c.Queue.LD), int(c.Queue.MV)))
"""Queues that bring operands: they do so in the stage that needs them."""
INSIDE = -1
"""In place of a stage: the loop whose body goes on with the nest."""
Stages = dict[int, tuple[int, ...]]
"""By slot of a loop, the stage of each node of its body."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A node of a nest: it stands in the body of loop number `level`, before the loop inside or behind it."""

    node: c.Node
    level: int
    behind: bool
    stage: int = 0


def stage_turns(program: TileProgram, chip: Chip) -> TileProgram:
    """The program with stages for all nests that come back to an engine, as many as there is room for."""
    found: Stages = {}
    for nest in _nests(program):
        found |= _staged(nest, program)
    for last in range(max((max(stages) for stages in found.values()), default=0), 0, -1):
        cut = {slot: tuple(min(stage, last) for stage in stages) for slot, stages in found.items()}
        deep = replace(program, stages=cut, buffers=_deepened(program, cut))
        if fits(deep, chip):
            return deep
    return program


def _nests(program: TileProgram) -> list[tuple[c.Loop, ...]]:
    """The innermost loops that come back to an engine, each with all loops around it that are not another one's."""
    found: list[tuple[c.Loop, ...]] = []
    taken: set[int] = set()

    def visit(loop: c.Loop, around: tuple[c.Loop, ...]) -> bool:
        path = (*around, loop)
        inside = [visit(n, path) for n in loop.body if isinstance(n, c.Loop) and n.slot in program.scopes]
        if any(inside):
            return True
        if not _staged((loop,), program):
            return False
        found.append(tuple(outer for outer in path if outer.slot not in taken))
        taken.update(outer.slot for outer in path)
        return True

    for node in program.body:
        if isinstance(node, c.Loop) and node.slot in program.scopes:
            visit(node, ())
    return found


def _staged(nest: tuple[c.Loop, ...], program: TileProgram) -> Stages:
    """The stages of a nest; of its inner loops alone where turns of the outer ones cannot overlap; none where it does
    not come back to an engine."""
    for first in range(len(nest)):
        loops = nest[first:]
        stages = stages_of(loops, program.buffers)
        if max(stages, default=0) > 0:
            left = iter(_inner_first(loops, stages))
            return {loop.slot: next(left) for loop in loops}
    return {}


def _inner_first(loops: tuple[c.Loop, ...], stages: Sequence[int]) -> list[tuple[int, ...]]:
    """The stages of the spots of a nest as those of each loop's body."""
    bodies: list[list[int]] = [[] for _ in loops]
    placed = [(spot, stage) for spot, stage in zip(spots_of(loops), stages, strict=True)]
    for level, body in enumerate(bodies):
        body += [stage for spot, stage in placed if spot.level == level and not spot.behind]
        if level < len(loops) - 1:
            body.append(INSIDE)
        body += [stage for spot, stage in placed if spot.level == level and spot.behind]
    return [tuple(body) for body in bodies]


def nest_of(loop: c.Loop, stages: Mapping[int, Sequence[int]]) -> tuple[c.Loop, ...]:
    """A loop with stages and those inside that its nest goes on with."""
    nest = [loop]
    while INSIDE in stages[nest[-1].slot]:
        inner = nest[-1].body[stages[nest[-1].slot].index(INSIDE)]
        assert isinstance(inner, c.Loop)
        nest.append(inner)
    return tuple(nest)


def spots_of(nest: Sequence[c.Loop], stages: Mapping[int, Sequence[int]] | None = None) -> list[Spot]:
    """The nodes of a nest in the order of one turn of all its loops, with their stages where they are known."""
    before: list[Spot] = []
    behind: list[Spot] = []
    for level, loop in enumerate(nest):
        at = stages[loop.slot] if stages else (0,) * len(loop.body)
        inner = nest[level + 1].slot if level + 1 < len(nest) else -1
        cut = next((i for i, n in enumerate(loop.body) if isinstance(n, c.Loop) and n.slot == inner), len(loop.body))
        nodes = list(zip(loop.body, at, strict=True))
        before += [Spot(node, level, False, stage) for node, stage in nodes[:cut]]
        behind = [*(Spot(node, level, True, stage) for node, stage in nodes[cut + 1 :]), *behind]
    return [*before, *behind]


def accesses(loop: c.Loop, stages: Stages, buffer: int, queue: int) -> list[int]:
    """The stages in which a queue touches a buffer in a loop that its nest goes on with, in the order of a turn."""
    return [s.stage for s in spots_of(nest_of(loop, stages), stages) if _touches(s.node, buffer, queue)]


def _touches(node: c.Node, buffer: int, queue: int) -> bool:
    return any(q == queue for q, _ in uses_of(node).get(buffer, ()))


# ---- which stage


@dataclass(slots=True)
class Node:
    """What gets a stage: queues, the nodes before it that it depends on, and what is found about it."""

    queues: frozenset[int]
    needs: list[int]
    stage: int = 0
    visited: frozenset[int] = frozenset()
    """Queues on the ways to it within its stage."""


def stages_of(nest: Sequence[c.Loop], buffers: Sequence[LocalBuffer]) -> tuple[int, ...]:
    """The stage of each spot of a nest; all 0 where turns cannot overlap."""
    nodes, groups = _order(nest, spots_of(nest), buffers)
    if not settle(nodes, groups):
        return (0,) * len(nodes)
    _delay(nodes, {id(node) for group in groups for node in group})
    least = min((node.stage for node in nodes), default=0)
    return tuple(node.stage - least for node in nodes)


def _order(
    nest: Sequence[c.Loop], spots: Sequence[Spot], buffers: Sequence[LocalBuffer]
) -> tuple[list[Node], list[list[Node]]]:
    """The spots' queues and dependences, and groups of them that must have one stage."""
    uses = [uses_of(spot.node) for spot in spots]
    writes = [{b for b, found in use.items() if any(w for _, w in found)} for use in uses]
    nodes = [Node(frozenset(queues_of(spot.node)), [], spot.stage) for spot in spots]
    for j, node in enumerate(nodes):
        node.needs += [i for i in range(j) if writes[i] & uses[j].keys() or uses[i].keys() & writes[j]]
    level = {loop.slot: n for n, loop in enumerate(nest)}
    inside = {loop.slot for loop in loops_in(spot.node for spot in spots)}
    lasting = {
        b
        for spot, found in zip(spots, writes, strict=True)
        for b in found
        if buffers[b].scope not in inside and spot.level > level.get(buffers[b].scope, -1)
    }
    groups = [[nodes[i] for i, use in enumerate(uses) if b in use] for b in sorted(lasting)]
    return nodes, [group for group in groups if len(group) > 1]


def fault_of(nest: Sequence[c.Loop], stages: Stages, buffers: Sequence[LocalBuffer]) -> str | None:
    """What is wrong with the stages of a nest."""
    spots = [spot for spot in spots_of(nest, stages) if not isinstance(spot.node, c.Nop)]  # with what they guard
    nodes, groups = _order(nest, spots, buffers)
    for j, node in enumerate(nodes):
        before = [nodes[i] for i in node.needs] + [other for other in nodes[:j] if other.queues & node.queues]
        if any(other.stage > node.stage for other in before):
            return f"a node of stage {node.stage} comes behind one of a later stage"
    if any(node.stage != group[0].stage for group in groups for node in group):
        return "what outlasts its turns is touched in two stages"
    for number, turns in depths(nest, stages, buffers).items():
        if buffers[number].depth < turns:
            return f"m{number} has room for {buffers[number].depth} of {turns} turns that are under way"
    return None


def settle(nodes: list[Node], groups: list[list[Node]]) -> bool:
    """Raises stages until all rules hold; False where they never do: a chain through what outlasts the turn."""
    changed = True
    while changed:
        changed = False
        for j in range(len(nodes)):
            changed |= _raise(nodes, j)
        for group in groups:
            top = max(node.stage for node in group)
            changed |= any(node.stage < top for node in group)
            for node in group:
                node.stage = top
        if max((node.stage for node in nodes), default=0) > len(nodes):
            return False
    return True


def _raise(nodes: list[Node], j: int) -> bool:
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
    node.stage, node.visited = stage, node.queues.union(*(other.visited for other in same))
    return changed


def _delay(nodes: list[Node], fixed: set[int]) -> None:
    """Puts what only brings operands into the stage that needs them: their buffers are free again the sooner."""
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        if id(node) in fixed or not node.queues <= LATE:
            continue
        readers = [other.stage for other in nodes[i + 1 :] if i in other.needs]
        behind = [other.stage for other in nodes[i + 1 :] if other.queues & node.queues]
        if readers:
            node.stage = max(node.stage, min(readers + behind))


# ---- room


def turns_of_tiles(kernel: k.KernelSpec, rooms: Mapping[k.Tile, int]) -> dict[k.Tile, int]:
    """For each tile, the turns that are under way at once between the ops that touch it or another tile of its room, if
    all ops are in one nest: what search counts before there is a nest."""
    made = {op.out: n for n, op in enumerate(kernel.ops) if not isinstance(op, k.StoreTile)}
    nodes = [Node(frozenset((_queue(op),)), [made[t] for t in k.sources_of(op)]) for op in kernel.ops]
    settle(nodes, [])
    _delay(nodes, set())
    touched: dict[k.Tile | int, set[int]] = {}
    for op, node in zip(kernel.ops, nodes, strict=True):
        for tile in (*k.sources_of(op), *(() if isinstance(op, k.StoreTile) else (op.out,))):
            touched.setdefault(rooms.get(tile, tile), set()).add(node.stage)
    return {tile: 1 + max(at) - min(at) for tile in made for at in (touched[rooms.get(tile, tile)],)}


def _queue(op: k.KernelOp) -> c.Queue:
    match op:
        case k.LoadTile():
            return c.Queue.LD
        case k.StoreTile():
            return c.Queue.ST
        case k.Contract():
            return c.Queue.VE if op.vector else c.Queue.MM
        case k.Map() if op.fn in ("move", "drain"):
            return c.Queue.MV
        case _:
            return c.Queue.VE


def depths(nest: Sequence[c.Loop], stages: Stages, buffers: Sequence[LocalBuffer]) -> dict[int, int]:
    """For each buffer of a nest's turns, the turns of its scope that are under way at once."""
    found: dict[int, set[int]] = {}
    for spot in spots_of(nest, stages):
        for buffer in uses_of(spot.node):
            found.setdefault(buffer, set()).add(spot.stage)
    level = {loop.slot: n for n, loop in enumerate(nest)}
    needed: dict[int, int] = {}
    for number, at in found.items():
        if buffers[number].scope in level:
            turns = prod(loop.trip.const for loop in nest[level[buffers[number].scope] + 1 :])
            needed[number] = 1 + -(-(max(at) - min(at)) // turns)
    return needed


def nests_of(program: TileProgram, stages: Stages) -> Iterator[tuple[c.Loop, ...]]:
    """The nests of a program, outermost loop first."""
    inner: set[int] = set()
    pending: list[c.Node] = list(program.body)
    while pending:
        node = pending.pop()
        if isinstance(node, c.Loop) and node.slot in stages and node.slot not in inner:
            nest = nest_of(node, stages)
            inner |= {loop.slot for loop in nest}
            yield nest
        pending += children(node)


def _deepened(program: TileProgram, stages: Stages) -> tuple[LocalBuffer, ...]:
    """The buffers, with room for all turns that are under way."""
    buffers = list(program.buffers)
    for nest in nests_of(program, stages):
        for number, turns in depths(nest, stages, buffers).items():
            buffers[number] = replace(buffers[number], depth=max(buffers[number].depth, turns))
    return tuple(buffers)
