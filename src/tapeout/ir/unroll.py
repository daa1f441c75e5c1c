"""Scans written out: each turn becomes ops of its own."""

from __future__ import annotations

import dataclasses

from tapeout.ir import graph as g
from tapeout.ir.build import Builder

LIMIT = 20_000
"""Most ops that the turns of one scan may become."""


def unroll_scans(graph: g.Graph) -> g.Graph:
    """The graph without regions; as it is where it has none, where control depends on data, and where the turns of a
    scan are very many."""
    if not any(g.regions(op) for op in graph.ops) or not _is_plain(graph.ops):
        return graph
    b = Builder(graph.name)
    known = {v: b.input(v.name, v.type) for v in graph.inputs}
    known |= {s.entry: b.state(s.name, s.initial) for s in graph.states}
    _copy(b, graph.ops, known)
    for name, value in graph.outputs:
        b.output(name, known[value])
    for state in graph.states:
        b.set_state(state.name, known[state.exit])
    return b.finish()


def _is_plain(ops: tuple[g.Op, ...]) -> bool:
    """Whether all control flow in `ops` is scans that may be written out."""
    return all(_size(op) <= LIMIT and (isinstance(op, g.Scan) or not g.regions(op)) for op in ops) and all(
        _is_plain(region.ops) for op in ops for region in g.regions(op)
    )


def _size(op: g.Op) -> int:
    """How many ops it becomes."""
    return op.length * sum(map(_size, op.body.ops)) if isinstance(op, g.Scan) else 1


def _copy(b: Builder, ops: tuple[g.Op, ...], known: dict[g.Value, g.Value]) -> None:
    """Emits `ops`, their operands replaced by what is `known` of them, and notes their results there."""
    for op in ops:
        b.source = op.source
        outs = _scan(b, op, known) if isinstance(op, g.Scan) else b.emit(_plain(op, known))
        known.update(zip(op.outs, outs, strict=True))


def _plain(op: g.Op, known: dict[g.Value, g.Value]) -> g.Op:
    return dataclasses.replace(g.substitute(op, known), outs=())


def _scan(b: Builder, op: g.Scan, known: dict[g.Value, g.Value]) -> tuple[g.Value, ...]:
    carries, xs = [known[v] for v in op.carries], [known[v] for v in op.xs]
    count, source = len(carries), op.source
    columns: list[list[g.Value]] = [[] for _ in op.body.results[count:]]
    for i in reversed(range(op.length)) if op.reverse else range(op.length):
        b.source = source
        rows = [b.reshape(b.slice_axis(x, 0, i, i + 1), x.type.shape[1:]) for x in xs]
        inner = dict(zip(op.body.params, [*carries, *rows], strict=True))
        _copy(b, op.body.ops, inner)
        results = [inner[v] for v in op.body.results]
        carries = results[:count]
        for column, y in zip(columns, results[count:], strict=True):
            column.append(y)
    b.source = source
    ordered = [column[::-1] if op.reverse else column for column in columns]
    return (*carries, *(_stacked(b, rows, out) for rows, out in zip(ordered, op.outs[count:], strict=True)))


def _stacked(b: Builder, rows: list[g.Value], out: g.Value) -> g.Value:
    """Rows one below the other; a scan without turns has none."""
    if not rows:
        return b.full(0, out.type)
    return b.concat([b.reshape(row, (1, *row.type.shape)) for row in rows], 0)
