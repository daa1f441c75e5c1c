"""Which local buffers the nodes of a tile program touch, by which queue, and whether they write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tapeout.isa import commands as c
from tapeout.isa.operands import View

Use = tuple[int, bool]
"""(queue, writes)."""


def _views(node: c.Node) -> Iterable[tuple[View, int, bool]]:
    """Local views of a command with the queue that touches them and whether it writes."""
    match node:
        case c.Load():
            yield node.local, c.Queue.LD, True
            if node.index:
                yield node.index.list, c.Queue.LD, False
        case c.Store():
            yield node.local, c.Queue.ST, False
            if node.index:
                yield node.index.list, c.Queue.ST, False
        case c.Copy():
            yield node.dst, c.Queue.MV, True
            yield node.src, c.Queue.MV, False
        case c.Drain():
            yield node.dst, c.Queue.MV, True
            yield from ((v, int(c.Queue.MV), False) for v in (node.acc, node.scale, node.bias) if isinstance(v, View))
        case c.MatMul():
            yield node.c, c.Queue.MM, True
            yield node.a, c.Queue.MM, False
            yield node.b, c.Queue.MM, False
        case c.Vector():
            yield node.dst, c.Queue.VE, True
            yield from ((v, int(c.Queue.VE), False) for v in node.srcs if isinstance(v, View))
        case _:
            return


def uses_of(node: c.Node) -> dict[int, set[Use]]:
    """For each buffer, how the node and everything below it touch it."""
    found: dict[int, set[Use]] = {}
    for child in children(node):
        for buffer, uses in uses_of(child).items():
            found.setdefault(buffer, set()).update(uses)
    for view, queue, writes in _views(node):
        found.setdefault(view.memory, set()).add((int(queue), writes))
    return found


def children(node: c.Node) -> tuple[c.Node, ...]:
    """The nodes right below a node."""
    match node:
        case c.Loop() | c.While():
            return node.body
        case c.If():
            return node.body + node.orelse
        case _:
            return ()


def queues_of(node: c.Node) -> set[int]:
    """The queues of the commands of a node and everything below it."""
    if isinstance(node, c.Command):
        return {int(c.queue_of(node))}  # type: ignore[arg-type] commands are the nodes of this base
    return {queue for child in children(node) for queue in queues_of(child)}


def loops_in(nodes: Iterable[c.Node]) -> Iterator[c.Loop]:
    """All loops of a tree."""
    for node in nodes:
        if isinstance(node, c.Loop):
            yield node
        yield from loops_in(children(node))
