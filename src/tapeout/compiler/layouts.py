"""Layouts: the order of a value's dimensions in memory, outermost first.

Channels lie innermost around convolutions and pools, and in what is joined of their results; a value that is only
transposed before it is used is stored transposed, so that the transpose and a reshape behind it are views; everything
else is row-major.
"""

from __future__ import annotations

from tapeout.ir import graph as g

Order = tuple[int, ...]


def _channels_last(rank: int) -> Order:
    return (0, *range(2, rank), 1)


def _follow(op: g.Op, orders: dict[g.Value, Order]) -> Order | None:
    """The order that an element-by-element op, or a concatenation, takes over from an operand."""
    natural = tuple(range(op.out.type.rank))
    for x in g.operands(op):
        if x.type.rank == op.out.type.rank and orders[x] != natural:
            return orders[x]
    return None


def _weights_order(op: g.Op) -> dict[g.Value, Order]:
    """Orders that a contraction would like its constants in: contracted dimensions outside, results inside."""
    match op:
        case g.Conv():
            return {op.w: (*range(2, op.w.type.rank), 1, 0)}
        case g.Dot():
            rest = [d for d in range(op.rhs.type.rank) if d not in (*op.rhs_batch, *op.rhs_contract)]
            left = [d for d in range(op.lhs.type.rank) if d not in (*op.lhs_batch, *op.lhs_contract)]
            rhs = (*op.rhs_batch, *op.rhs_contract, *rest)
            return {op.rhs: rhs, op.lhs: (*op.lhs_batch, *left, *op.lhs_contract)}
        case _:
            return {}


def assign_layouts(graph: g.Graph) -> dict[g.Value, Order]:
    """The order of every value of the graph."""
    readers = g.users(graph)
    constants = {op.out for op in graph.ops if isinstance(op, g.Constant)}
    exits = set(graph.exits)
    orders: dict[g.Value, Order] = {v: tuple(range(v.type.rank)) for v in graph.entries}
    for op in graph.ops:
        for out in op.outs:
            orders[out] = tuple(range(out.type.rank))
        match op:
            case g.Conv() | g.Pool() if op.out.type.rank > 2:
                orders[op.out] = _channels_last(op.out.type.rank)
            case g.Unary() | g.Binary() | g.Compare() | g.Select() | g.Convert() | g.Concat():
                orders[op.out] = _follow(op, orders) or orders[op.out]
            case g.Reduce():
                kept = [d for d in orders[op.x] if d not in op.axes]
                rank_of = {d: i for i, d in enumerate(sorted(kept))}
                orders[op.out] = tuple(rank_of[d] for d in kept)
            case g.Transpose():
                place = {p: i for i, p in enumerate(op.perm)}
                orders[op.out] = tuple(place[d] for d in orders[op.x])
            case g.Broadcast():
                order = [op.dims[d] for d in orders[op.x]]
                new = [d for d in range(op.out.type.rank) if d not in order]
                orders[op.out] = orders[op.out] if order == sorted(order) else tuple(new + order)
            case _:
                pass
        wishes = _weights_order(op).items()
        orders |= {value: order for value, order in wishes if value in constants and len(readers[value]) == 1}
        for out in op.outs:
            uses = readers.get(out, [])
            if out not in exits and len(uses) == 1 and isinstance(uses[0], g.Transpose):
                orders[out] = uses[0].perm
    return orders
