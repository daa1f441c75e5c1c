"""Widenings are made where they are read: a value that is only a wider form of a narrow one (a dequantised
activation, a mask as numbers) is computed again by each reader, so that the narrow form is what goes through memory."""

from __future__ import annotations

import dataclasses

from tapeout.ir import graph as g

ELEMENTWISE = (g.Unary, g.Binary, g.Compare, g.Select, g.Convert)


def _constants(graph: g.Graph) -> set[g.Value]:
    """Constants and broadcasts of them."""
    found: set[g.Value] = set()
    for op in graph.ops:
        if isinstance(op, g.Constant) or (isinstance(op, g.Broadcast) and op.x in found):
            found.add(op.out)
    return found


def widenings(graph: g.Graph) -> dict[g.Value, g.Op]:
    """Values that are conversions of narrower integers, or those times or plus a constant."""
    constants = _constants(graph)
    found: dict[g.Value, g.Op] = {}
    for op in graph.ops:
        match op:
            case g.Convert() if not op.x.type.dtype.is_float and op.dtype.bytes > op.x.type.dtype.bytes:
                if op.x not in constants:
                    found[op.out] = op
            case g.Binary(fn="mul" | "add" | "sub") if op.x in found and op.y in constants:
                found[op.out] = op
            case _:
                pass
    return found


def private_widenings(graph: g.Graph) -> g.Graph:
    """The same graph with a copy of every widening for each elementwise op that reads it beside others."""
    found = widenings(graph)
    readers = g.users(graph)
    ops: list[g.Op] = []
    count = 0

    def copy_of(value: g.Value) -> g.Value:
        nonlocal count
        op = found[value]
        inner = g.operands(op)[0]
        mapping = {inner: copy_of(inner)} if inner in found else {}
        count += 1
        out = g.Value(f"{value.name}.w{count}", value.type)
        ops.append(dataclasses.replace(g.substitute(op, mapping), outs=(out,)))
        return out

    for op in graph.ops:
        shared = [x for x in g.operands(op) if x in found and len(readers[x]) > 1]
        if shared and isinstance(op, ELEMENTWISE) and not any(out in found for out in op.outs):
            op = g.substitute(op, {x: copy_of(x) for x in dict.fromkeys(shared)})
        ops.append(op)
    return g.drop_dead(dataclasses.replace(graph, ops=tuple(ops)))
