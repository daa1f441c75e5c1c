"""Another batch: a graph that does for each of `new` samples what the given one does for its own.

The first dimension of inputs is the batch. Where it is a symbol it is bound. Where it is a number, every value gets a
dimension whose major part is the batch (`at`), op by op, scans written out; what is the same for all samples stays as
it is until it meets what is not. No rule mixes samples, so each sample's results are those of the given graph. What
has no rule of its own is done sample by sample.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir.build import Builder
from tapeout.ir.types import Dim, DimExpr, Shape, dim_div, dim_scale, product
from tapeout.ir.unroll import unroll_scans

ACTION = "export the model with a symbolic batch"


def with_batch(graph: g.Graph, new: int) -> tuple[g.Graph, dict[str, int]]:
    """A graph of `new` samples, or the same graph and what its symbols have to be for that.

    `UserError` where there is no batch, or where the batch of a fixed one cannot be told from other dimensions.
    """
    leads = [v.type.shape[0] for v in graph.inputs if v.type.rank]
    if not leads:
        raise UserError("no input has a first dimension", f"--batch of {graph.name}", "leave --batch out")
    if symbolic := [d for d in leads if isinstance(d, DimExpr)]:
        return graph, _binding(graph, symbolic[0], new)
    old = leads[0]
    assert isinstance(old, int)
    return (graph, {}) if old == new else (_Rebatcher(unroll_scans(graph), old, new).run(), {})


def _binding(graph: g.Graph, lead: DimExpr, new: int) -> dict[str, int]:
    """`lead` is the batch, and so are first dimensions that nobody gave a name."""
    unnamed = [v.type.shape[0] for v in graph.inputs if v.type.rank and str(v.type.shape[0]) == f"{v.name}_0"]
    binding: dict[str, int] = {}
    for dim in (lead, *(d for d in unnamed if isinstance(d, DimExpr))):
        (symbol, factor), *others = dim.terms
        if others or (new - dim.const) % factor:
            raise UserError(f"the first dimension is {dim}", f"--batch of {graph.name}", "give its symbols with --set")
        binding[symbol] = (new - dim.const) // factor
    return binding


class _Rebatcher:
    """`made` has what stands for each value, `at` the dimension whose major part is the batch; without: the same for
    all samples."""

    def __init__(self, graph: g.Graph, old: int, new: int) -> None:
        self.graph, self.old, self.new = graph, old, new
        self.b = Builder(graph.name)
        self.made: dict[g.Value, g.Value] = {}
        self.at: dict[g.Value, int] = {}
        self.producer: dict[g.Value, g.Op] = {}

    def run(self) -> g.Graph:
        for s in self.graph.symbols:
            self.b.symbol(s.name, s.lo, s.hi)
        for value in self.graph.inputs:
            own = value.type.rank > 0 and value.type.shape[0] == self.old
            type_ = value.type.with_shape(self.scaled(value.type.shape, 0)) if own else value.type
            self.note(value, self.b.input(value.name, type_), 0 if own else None)
        for state in self.graph.states:
            own = state.initial.ndim > 0 and state.initial.shape[0] == self.old
            initial = self.repeated(state) if own else state.initial
            self.note(state.entry, self.b.state(state.name, initial), 0 if own else None)
        for op in self.graph.ops:
            self.b.source = op.source
            self.producer.update((out, op) for out in op.outs)
            self.op(op)
        for name, value in self.graph.outputs:
            first = value in self.at and value.type.shape[0] == self.old == 1
            self.b.output(name, self.aligned(value, 0) if first else self.made[value])
        for state in self.graph.states:
            own = self.at.get(state.entry)
            if own is None and state.exit in self.at:
                raise self.refusal(f"the state {state.name}")
            self.b.set_state(state.name, self.made[state.exit] if own is None else self.aligned(state.exit, own))
        return self.b.finish()

    # ---- values

    def note(self, value: g.Value, made: g.Value, at: int | None) -> None:
        self.made[value] = made
        if at is not None:
            self.at[value] = at

    def refusal(self, what: str) -> UserError:
        message = f"{what} is made for a batch of {self.old} and not for one of {self.new}"
        return UserError(message, f"--batch of {self.graph.name}", ACTION)

    def scaled(self, shape: Shape, at: int) -> tuple[Dim, ...]:
        """A shape with the new batch in dimension `at`."""
        try:
            extent = dim_scale(dim_div(shape[at], self.old), self.new)
        except ValueError:
            raise self.refusal(f"a dimension of {shape[at]}") from None
        return (*shape[:at], extent, *shape[at + 1 :])

    def repeated(self, state: g.State) -> np.ndarray:
        if self.old != 1:
            raise self.refusal(f"the state {state.name}")
        return np.repeat(state.initial, self.new, axis=0)

    def aligned(self, value: g.Value, at: int) -> g.Value:
        """What stands for `value`, with the batch in dimension `at`."""
        if self.at.get(value) == at:
            return self.made[value]
        op, shape = self.producer.get(value), value.type.shape
        if value not in self.at and isinstance(op, g.Broadcast) and at not in op.dims:
            return self.b.broadcast(self.made[op.x], self.scaled(shape, at), op.dims)
        if self.old != 1:
            raise self.refusal(str(value))
        apart = (*shape[:at], self.new, *shape[at:])  # the batch as a dimension of its own
        if value in self.at:
            now = self.at[value]
            rest = [i for i in range(len(shape) + 1) if i != now]
            split = self.b.reshape(self.made[value], (*shape[:now], self.new, *shape[now:]))
            wide = self.b.transpose(split, (*rest[:at], now, *rest[at:]))
        else:
            wide = self.b.broadcast(self.made[value], apart, [i + (i >= at) for i in range(len(shape))])
        return self.b.reshape(wide, self.scaled(shape, at))

    # ---- ops

    def op(self, op: g.Op) -> None:
        """Emits what does `op` for all samples."""
        operands = g.operands(op)
        if not any(v in self.at for v in operands):
            for out, made in zip(op.outs, self.b.emit(self.b.adopted(op, self.made)), strict=True):
                self.note(out, made, None)
        elif not self.rule(op):
            self.each(op)

    def emit(self, op: g.Op, at: int, wanted: dict[g.Value, int]) -> bool:
        """Emits `op` on operands whose batch is where `wanted` says; the first result has it at `at`."""
        made = {v: self.aligned(v, wanted[v]) if v in wanted else self.made[v] for v in g.operands(op)}
        outs = self.b.emit(self.b.adopted(op, made))
        for out, value in zip(op.outs, outs, strict=True):
            self.note(out, value, at)
        return True

    def rule(self, op: g.Op) -> bool:
        """Does `op` on all samples at once; False where it has no rule for that."""
        where = {v: self.at[v] for v in g.operands(op) if v in self.at}
        at = next(iter(where.values()))
        match op:
            case g.Unary() | g.Binary() | g.Compare() | g.Select() | g.Convert() | g.Bitcast():
                return self.emit(op, at, dict.fromkeys(g.operands(op), at))
            case g.Reduce() if at not in op.axes:
                return self.emit(op, at - sum(a < at for a in op.axes), where)
            case g.ArgReduce() if at != op.axis:
                return self.emit(op, at - (op.axis < at), where)
            case g.Cumulate() | g.Sort() if at != op.axis:
                return self.emit(op, at, where)
            case g.Dot():
                return self.dot(op)
            case g.Conv() if where == {op.x: 0}:
                return self.emit(op, 0, where)
            case g.Pool() if at < op.x.type.rank - len(op.window):
                return self.emit(op, at, where)
            case g.Reshape():
                return self.reshape(op.out, op.x)
            case g.Gather() if self.only_one(op, at):
                return self.reshape(op.out, op.x)
            case g.Transpose():
                return self.emit(op, op.perm.index(at), where)
            case g.Broadcast():
                return self.broadcast(op, at)
            case g.Slice() if op.sizes[at] == op.x.type.shape[at] and op.steps[at] == 1:
                sizes = self.scaled(op.sizes, at)
                return self.emit(dataclasses.replace(op, sizes=sizes), at, where)
            case g.Pad() if not op.lo[at] and not op.hi[at] and op.value not in where:
                return self.emit(op, at, where)
            case g.Concat() if at != op.axis:
                return self.emit(op, at, dict.fromkeys(op.xs, at))
            case g.Gather():
                return self.gather(op, where)
            case g.Scatter() if at != op.axis and op.indices not in where:
                return self.emit(op, at, {op.x: at, op.updates: at - (at > op.axis) + self.more(op, at)})
            case g.DynamicUpdate() if not any(s in where for s in op.starts) and self.whole(op, at):
                return self.emit(op, at, {op.x: at, op.update: at})
            case _:
                return False

    def only_one(self, op: g.Gather, at: int) -> bool:
        """x[0] of the batch itself: its only sample."""
        return self.old == 1 and op.axis == at and op.x.type.shape[at] == 1 and op.indices.type.rank == 0

    def more(self, op: g.Scatter, at: int) -> int:
        """By how much a dimension behind the axis moves in the updates."""
        return op.indices.type.rank if at > op.axis else 0

    def whole(self, op: g.DynamicUpdate, at: int) -> bool:
        return op.update.type.shape[at] == op.x.type.shape[at]

    def gather(self, op: g.Gather, where: dict[g.Value, int]) -> bool:
        if op.batch or (op.x in where and op.indices in where) or where.get(op.x) == op.axis:
            return False
        if op.indices in where:
            return self.emit(op, op.axis + where[op.indices], where)
        at = where[op.x]
        return self.emit(op, at if at < op.axis else at - 1 + op.indices.type.rank, where)

    def dot(self, op: g.Dot) -> bool:
        """The batch is a free dimension of one side, or a batch dimension of both."""
        left, right = self.at.get(op.lhs), self.at.get(op.rhs)
        pairs = list(zip(op.lhs_batch, op.rhs_batch, strict=True))
        for i, (a, b) in enumerate(pairs):
            if left == a or right == b:
                return self.emit(op, i, {op.lhs: a, op.rhs: b})
        if left is not None and right is not None:
            return False
        if left is not None and left not in op.lhs_contract:
            before = [d for d in range(left) if d not in (*op.lhs_batch, *op.lhs_contract)]
            return self.emit(op, len(pairs) + len(before), {op.lhs: left})
        if right is not None and right not in op.rhs_contract:
            free = op.lhs.type.rank - len(op.lhs_batch) - len(op.lhs_contract)
            before = [d for d in range(right) if d not in (*op.rhs_batch, *op.rhs_contract)]
            return self.emit(op, len(pairs) + free + len(before), {op.rhs: right})
        return False

    def reshape(self, out: g.Value, x: g.Value) -> bool:
        """In row-major order nothing moves where as many elements stand before the batch as did."""
        shape, at = out.type.shape, self.at[x]
        if not shape:
            return False
        before = product(x.type.shape[:at])
        same = (e for e in range(len(shape)) if product(shape[:e]) == before and self.divides(shape[e]))
        found = next(same, None)
        source = self.made[x] if found is not None else self.aligned(x, 0)
        self.note(out, self.b.reshape(source, self.scaled(shape, found or 0)), found or 0)
        return True

    def divides(self, dim: Dim) -> bool:
        try:
            dim_div(dim, self.old)
        except ValueError:
            return False
        return True

    def broadcast(self, op: g.Broadcast, at: int) -> bool:
        """A dimension of 1 that repeats holds the batch before what repeats."""
        to = op.dims[at]
        if op.x.type.shape[at] == op.shape[to]:
            return self.emit(dataclasses.replace(op, shape=self.scaled(op.shape, to)), to, {op.x: at})
        if self.old != 1:
            return False
        wide: Sequence[Dim] = (*op.shape[:to], self.new, *op.shape[to:])
        dims = [d + (d > to) for d in op.dims]
        repeated = self.b.broadcast(self.made[op.x], wide, dims)
        self.note(op.out, self.b.reshape(repeated, self.scaled(op.shape, to)), to)
        return True

    def each(self, op: g.Op) -> None:
        """Sample by sample."""
        if self.old != 1 or any(not out.type.rank for out in op.outs):
            raise self.refusal(f"{type(op).__name__} (from {op.source or 'the model'})")
        rows: list[tuple[g.Value, ...]] = []
        for i in range(self.new):
            made = {v: self.sample(v, i) if v in self.at else self.made[v] for v in g.operands(op)}
            rows.append(self.b.emit(self.b.adopted(op, made)))
        for out, column in zip(op.outs, zip(*rows, strict=True), strict=True):
            self.note(out, self.b.concat(column, 0), 0)

    def sample(self, value: g.Value, number: int) -> g.Value:
        at, shape = self.at[value], value.type.shape
        extent = shape[at]
        if not isinstance(extent, int):
            raise self.refusal(str(value))
        starts = [number * extent if d == at else 0 for d in range(len(shape))]
        return self.b.slice(self.made[value], starts, shape)
