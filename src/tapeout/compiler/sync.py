"""Synchronisation: gives a tile program its semaphores.

For each local buffer, in the body that defines it: an access waits for the last conflicting access of every other queue
before it; the first write of turn t + depth waits for all accesses of turn t. Accesses deeper in the tree count as
one at the level of their loop, and are ordered among themselves by the same rule one level down with depth 1.

A buffer that the cores of a cluster fill together has such an edge between every two of them: posts go to all cores
of the cluster, each of which keeps one semaphore per source.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tapeout.compiler.skew import INSIDE, accesses
from tapeout.compiler.tile import LocalBuffer, TileProgram
from tapeout.compiler.uses import Use, children, queues_of, uses_of
from tapeout.isa import commands as c
from tapeout.isa.operands import Post, Wait

Before = tuple[int, int, Wait]
"""(stage, queue, what it waits for)."""
After = tuple[int, int, Post]


@dataclass
class Semaphores:
    """Hands out semaphores; a pair of queues shares one between kernels, as each returns to its initial value."""

    initial: list[int] = field(default_factory=list[int])
    _pools: dict[tuple[int, int, int, int], list[int]] = field(
        default_factory=dict[tuple[int, int, int, int], list[int]]
    )
    _used: dict[tuple[int, int, int, int], int] = field(default_factory=dict[tuple[int, int, int, int], int])

    def next_kernel(self) -> None:
        self._used.clear()

    def take(self, source: int, target: int, initial: int, count: int = 1) -> int:
        """The first of `count` semaphores in a row that `source` posts and `target` waits for."""
        key = (source, target, initial, count)
        pool = self._pools.setdefault(key, [])
        at = self._used.get(key, 0)
        self._used[key] = at + 1
        if at == len(pool):
            pool.append(len(self.initial))
            self.initial.extend([initial] * count)
        return pool[at]


def _self_order(node: c.Node, buffer: int) -> bool:
    """Whether the loads of the node, or of what stands below it, read `buffer` asynchronously: as an index list."""
    own = isinstance(node, c.Load) and node.index is not None and node.index.list.memory == buffer
    return own or any(_self_order(child, buffer) for child in children(node))


class _Sync:
    def __init__(self, program: TileProgram, semaphores: Semaphores, cluster: int) -> None:
        self.program, self.semaphores, self.cluster = program, semaphores, cluster
        self.stages: dict[int, tuple[int, ...]] = {}

    def run(self) -> TileProgram:
        body = self._body(self.program.body, 0, {})
        return replace(self.program, body=body, stages=self.stages)

    def _body(self, nodes: tuple[c.Node, ...], scope: int, carried: dict[int, int]) -> tuple[c.Node, ...]:
        """Synchronises one body. `carried`: buffers of outer bodies that several queues share in here, with depth 1."""
        uses = [uses_of(n) for n in nodes]
        before: list[list[Before]] = [[] for _ in nodes]
        after: list[list[After]] = [[] for _ in nodes]
        inner: list[dict[int, int]] = [{} for _ in nodes]
        for number, buffer in enumerate(self.program.buffers):
            if buffer.scope != scope and number not in carried:
                continue
            touched = [i for i, u in enumerate(uses) if number in u]
            if not touched:
                continue
            self._edges(number, buffer, scope, carried, nodes, uses, touched, before, after)
            for i in touched:
                if children(nodes[i]) and _conflicting(uses[i][number]):
                    inner[i][number] = 1
        out: list[c.Node] = []
        stages: list[int] = []
        known = self.program.stages.get(scope, (0,) * len(nodes))
        for i, node in enumerate(nodes):
            match node:
                case c.Loop():
                    child = replace(node, body=self._body(node.body, node.slot, inner[i]))
                case c.If():
                    child = replace(node, body=self._body(node.body, -1, inner[i]))
                case _:
                    child = node
            for at, attached in _attach(child, known[i], before[i], after[i]):
                out.append(attached)
                stages.append(at)
        if scope in self.program.stages:
            self.stages[scope] = tuple(stages)
        return tuple(out)

    def _edges(
        self,
        number: int,
        buffer: LocalBuffer,
        scope: int,
        carried: dict[int, int],
        nodes: tuple[c.Node, ...],
        uses: list[dict[int, set[Use]]],
        touched: list[int],
        before: list[list[Before]],
        after: list[list[After]],
    ) -> None:
        seen: dict[tuple[int, int], int] = {}
        for position, j in enumerate(touched):
            for target, writes in sorted(uses[j][number]):
                for source in range(5):
                    same = source == target
                    if same and not _self_order(nodes[j], number):
                        continue
                    earlier = [
                        i for i in touched[:position] for s, w in uses[i][number] if s == source and (w or writes)
                    ]
                    if not earlier or seen.get((source, target), -1) >= earlier[-1]:
                        continue
                    seen[source, target] = earlier[-1]
                    self._edge(number, source, target, 0, scope, nodes, earlier[-1], j, before, after)
        looped = number in carried or (scope != 0 and self.program.trips.get(scope, 1) > 1)
        if not looped:
            return
        depth = carried.get(number, buffer.depth)
        writers = {t for i in touched for t, w in uses[i][number] if w}
        for target in sorted(writers):
            first = next(i for i in touched if any(t == target and w for t, w in uses[i][number]))
            for source in range(5):
                # a queue's own loads read their lists before later ones write; those of other cores may not have yet
                if source == target and not (buffer.cluster and any(_self_order(nodes[i], number) for i in touched)):
                    continue
                last = [i for i in touched for s, _ in uses[i][number] if s == source]
                if last:
                    self._edge(number, source, target, depth, scope, nodes, last[-1], first, before, after)

    def _edge(
        self,
        number: int,
        source: int,
        target: int,
        initial: int,
        scope: int,
        nodes: tuple[c.Node, ...],
        start: int,
        end: int,
        before: list[list[Before]],
        after: list[list[After]],
    ) -> None:
        across = self.program.buffers[number].cluster and int(c.Queue.LD) in (source, target)
        count = self.cluster if across else 1
        semaphore = self.semaphores.take(source, target, initial, count)
        post, wait = self._stage(scope, nodes, start, number, source), self._stage(scope, nodes, end, number, target, 0)
        after[start].append((post, source, Post(semaphore, 1, across)))
        before[end] += [(wait, target, Wait(semaphore + n)) for n in range(count)]

    def _stage(self, scope: int, nodes: tuple[c.Node, ...], at: int, buffer: int, queue: int, access: int = -1) -> int:
        """The stage of a queue's first (`access` 0) or last (-1) access to a buffer in a node of a body."""
        known, node = self.program.stages.get(scope, ()), nodes[at]
        if not known or known[at] != INSIDE:
            return known[at] if known else 0
        assert isinstance(node, c.Loop)
        return accesses(node, self.program.stages, buffer, queue)[access]


def _conflicting(uses: set[Use]) -> bool:
    queues = {q for q, _ in uses}
    return len(queues) > 1 and any(w for _, w in uses)


def _attach(node: c.Node, stage: int, before: list[Before], after: list[After]) -> list[tuple[int, c.Node]]:
    """The node with its waits and posts, on itself where it is a command of that queue, else on `Nop`s around it; each
    with its stage."""
    if isinstance(node, c.Command):
        (queue,) = queues_of(node)
        waits = tuple(w for _, q, w in before if q == queue)
        posts = tuple(p for _, q, p in after if q == queue)
        assert len(waits) == len(before)
        assert len(posts) == len(after)
        if waits or posts:
            node = replace(node, waits=node.waits + waits, posts=node.posts + posts)
        return [(stage, node)]
    leading, trailing = (sorted({(s, q) for s, q, _ in edges}) for edges in (before, after))
    lead = [(at, c.Nop(q, waits=tuple(w for s, t, w in before if (s, t) == (at, q)))) for at, q in leading]
    tail = [(at, c.Nop(q, posts=tuple(p for s, t, p in after if (s, t) == (at, q)))) for at, q in trailing]
    return [*lead, (stage, node), *tail]


def synchronise(program: TileProgram, semaphores: Semaphores, cluster: int) -> TileProgram:
    """The same tile program with semaphores on its commands; `cluster` is the number of cores of a cluster."""
    semaphores.next_kernel()
    return _Sync(program, semaphores, cluster).run()
