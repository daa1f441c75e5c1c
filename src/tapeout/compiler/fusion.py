"""Whether it pays that an op joins a group: a row must fit in local memory, enough parallel work must be left, and what
is read again for every tile of rows must be less than the traffic that is saved."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING

from tapeout.compiler.engines import parts_on_matrix
from tapeout.ir import graph as g

if TYPE_CHECKING:
    from tapeout.compiler.group import Dims, Group
    from tapeout.compiler.groups import Grouping

ELEMENTWISE = (g.Unary, g.Binary, g.Compare, g.Select, g.Convert)


@dataclass(frozen=True, slots=True)
class _Reread:
    """An operand from memory: its bytes, and the row axes that it shares (one part of it for each of their points)."""

    bytes: int
    shared: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Join:
    """A reduction or contraction of a value that a group computes."""

    value: g.Value
    dims: Dims
    reduced: tuple[int, ...]
    """The dimensions of `value` that become resident."""
    other: _Reread | None
    """The operand from memory, of a contraction."""


class Fusion:
    """Judges one op against one group."""

    def __init__(self, grouping: Grouping, group: Group) -> None:
        self.grouping, self.group, self.chip = grouping, group, grouping.chip
        parts = grouping.axes.parts
        self._resident = {p for a in group.resident for p in parts(a)}
        self._reduced = {p for axes in group.reduce.values() for a in axes for p in parts(a)}

    def _found(self, dims: Dims) -> set[int]:
        return {p for a in dims if a is not None for p in self.grouping.axes.parts(a)}

    def _extent(self, axes: set[int] | frozenset[int]) -> int:
        return prod(self.grouping.axes.extent[a] for a in axes)

    def _memory(self, role: str) -> int:
        return self.chip.memories[self.chip.memory_for(role if self.chip.matrix.geometry else "ve")].bytes

    def _row_bytes(self, whole: set[int]) -> int:
        """Local bytes that one row takes when the axes `whole` are resident: contractions have room of their own,
        twice; of the rest about three are alive at once."""
        contracted = {out for op in self.group.ops if isinstance(op, g.Dot | g.Conv) for out in op.outs}
        total, widest = 0, 0
        for value, dims in self.group.dims.items():
            size = self._extent(self._found(dims) & whole) * max(4, value.type.dtype.bytes)
            if value in contracted:
                total += 2 * size
            else:
                widest = max(widest, size)
        return total + 3 * widest

    def worthwhile(self, op: g.Op) -> bool:
        """Whether `op`, which may legally join, should."""
        if isinstance(op, ELEMENTWISE):
            return self._holds_row(op)
        join = self._join(op)
        if any(join.dims[d] is None and join.value.type.shape[d] != 1 for d in join.reduced):
            return False
        whole = self._found(tuple(join.dims[d] for d in join.reduced))
        resident = whole | self._resident
        row = self._row_bytes(resident)
        if join.other is not None:  # the contracted value lies there in its parts too
            row += self._extent(self._found(join.dims) & resident) * self._width(join.value)
        room = self._room(resident)
        if row * 2 > room:
            return False
        if join.other is not None and self._part(join.other) * 2 > self._memory("b"):
            return False
        parallel = {a for dims in self.group.dims.values() for a in self._found(dims)} - resident - self._reduced
        rows = self._extent(parallel)
        was = rows * self._extent(whole - self._resident)
        if rows < self.chip.cores <= was and rows * 2 <= self.chip.cores:
            return False
        saved = 2 * self._extent(self._found(join.dims)) * join.value.type.dtype.bytes
        tile_rows = max(1, min(room // 2 // max(1, row), rows // self.chip.cores))
        if join.other is not None and self._stalls(op, tile_rows, rows) > self._cycles(saved, join.value):
            return False
        if join.other is None and self._underfilled(resident, tile_rows, rows) > self._cycles(saved, join.value):
            return False
        apart = self._cycles(saved, join.value) + self.chip.control.barrier_cycles + 2 * self.chip.dram_way_cycles
        if self._shreds(join, whole, tile_rows) > apart:
            return False
        again = [join.other] if join.other is not None else []
        again += [r for o in self.group.ops if isinstance(o, g.Dot | g.Conv) for r in self._rereads(o, whole)]
        return self._cycles(sum(self._extra(r, rows, tile_rows) for r in again), join.value) <= apart

    def _stalls(self, op: g.Op, tile_rows: int, rows: int) -> float:
        """Cycles of the matrix units where tiles have too few rows to hide the loading of weights: contractions of the
        group and `op`, one behind the other with the vector unit's work in between."""
        unit = self.chip.matrix
        if tile_rows >= min(self._busy_rows(), rows // self.chip.cores):
            return 0.0
        shape = max(unit.geometry.values(), key=lambda kind: kind.macs)
        passes = sum(
            ceil(o.out.type.elements / rows / shape.n0) * ceil(_depth(o) / shape.k0)
            for o in (*self.group.ops, op)
            if isinstance(o, g.Dot | g.Conv)
        )
        return rows / tile_rows / self.chip.cores * passes * unit.load_cycles

    def _underfilled(self, resident: set[int], tile_rows: int, rows: int) -> float:
        """Cycles that the contractions of the group take longer where a tile has fewer results beside one another than
        the array has columns."""
        columns = min(self._columns(resident), max(1, rows // self.chip.cores))
        if tile_rows >= columns:
            return 0.0
        macs = sum(o.out.type.elements * _depth(o) for o in self.group.ops if isinstance(o, g.Dot | g.Conv))
        fastest = max(kind.macs for kind in self.chip.matrix.geometry.values())
        return macs / fastest / self.chip.cores * (columns / tile_rows - 1)

    def _cycles(self, moved: int, value: g.Value) -> float:
        """Cycles of moving so many bytes of a value between its makers and readers, where it is likely to lie."""
        size = value.type.elements * value.type.dtype.bytes
        rates = [
            level.bytes_per_cycle * (self.chip.clusters if level.scope == "distributed" else 1)
            for level in self.chip.spaces
            if self.chip.reached_by_all(level) and size <= self.chip.shared_bytes(level)
        ]
        if rates:
            return moved / max(self.chip.dram_bytes_per_cycle, *rates)
        cache = self.chip.cache
        hits = moved // 2 if cache is not None and size <= cache.bytes // 2 else 0
        return (moved - hits) / self.chip.dram_bytes_per_cycle

    def _shreds(self, join: _Join, whole: set[int], tile_rows: int) -> float:
        """Cycles of DRAM that are wasted where tiles of whole rows hold so few of them that what lies side by side in
        memory comes in less than granules: as where an image is summed whose channels lie innermost."""
        root = self.grouping.root(join.value)
        order, size = self.grouping.orders[root], root.type.dtype.bytes
        inner = self.group.dims[root][order[-1]] if order else None
        if inner is None or self._found((inner,)) <= whole | self._resident:
            return 0.0
        beside = self._extent(self._found((inner,)))
        granule = min(self.chip.dram.granule_bytes, beside * size)
        waste = max(0.0, granule / (min(tile_rows, beside) * size) - 1)
        return 2 * waste * root.type.elements * size / self.chip.dram_bytes_per_cycle

    def _room(self, resident: set[int]) -> int:
        """Bytes of the vector unit's memory that are left for rows beside the operands that lie whole in a memory; none
        where these do not fit at all."""
        contractions = [op for op in self.group.ops if isinstance(op, g.Dot | g.Conv)]
        held = sum(self._part(r) for op in contractions for r in self._rereads(op, resident))
        if held > self._memory("b"):
            return 0
        same = not self.chip.matrix.geometry or self.chip.memory_for("b") == self.chip.memory_for("ve")
        return self._memory("ve") - (held if same else 0)

    def _busy_rows(self) -> int:
        """Rows of a tile that keep the array busy while it loads its next weights."""
        unit = self.chip.matrix
        if unit.stationary != "weight" or not unit.geometry:
            return 1
        return unit.load_cycles * min(shape.m0 for shape in unit.geometry.values())

    def _columns(self, resident: set[int]) -> int:
        """Results beside one another that a tile has to hold beyond the axes `resident` to fill the array."""
        unit, columns = self.chip.matrix, 1
        for op in self.group.ops:
            if unit.geometry and isinstance(op, g.Dot | g.Conv):
                a, b = (self._found(self.group.operand_dims[op, n]) for n in range(2))
                free = (self._found(self.group.dims[op.out]) & b) - a - resident
                columns = max(columns, min(self._extent(free), *(shape.n0 for shape in unit.geometry.values())))
        return columns

    def _holds_row(self, op: g.Op) -> bool:
        """Whether local memory holds a row once the axes that an elementwise op reads again, and the group reduces,
        are resident."""
        group, trace = self.group, self.grouping.trace
        again = [x for x in g.operands(op) if x in group.external and trace(x, group) is None]
        resident = {a for x in again for a in self._found(group.external[x])} & self._reduced
        return not resident or self._row_bytes(resident | self._resident) * 2 <= self._memory("ve")

    def _join(self, op: g.Op) -> _Join:
        trace = self.grouping.trace
        if isinstance(op, g.Dot):
            left = trace(op.lhs, self.group) is not None
            value, other = (op.lhs, op.rhs) if left else (op.rhs, op.lhs)
            contract, batch = (op.lhs_contract, op.lhs_batch) if left else (op.rhs_contract, op.rhs_batch)
            dims = trace(value, self.group)
            assert dims is not None
            shared = frozenset(self._found(tuple(dims[d] for d in batch)))
            return _Join(value, dims, contract, _Reread(other.type.elements * self._width(other), shared))
        assert isinstance(op, g.Reduce | g.ArgReduce)
        dims = trace(op.x, self.group)
        assert dims is not None
        return _Join(op.x, dims, op.axes if isinstance(op, g.Reduce) else (op.axis,), None)

    def _width(self, value: g.Value) -> int:
        """Bytes of one element as the matrix unit takes it, in parts where it lacks the type."""
        parts = parts_on_matrix(self.chip, value.type.dtype, value.type.dtype)
        return parts[0].bytes * parts[1] if parts is not None else value.type.dtype.bytes

    def _rereads(self, op: g.Dot | g.Conv, whole: set[int]) -> list[_Reread]:
        """Operands of a contraction of the group that every row tile reads whole once the axes `whole` are resident."""
        found: list[_Reread] = []
        row_axes = self._found(self.group.dims[op.out]) - whole
        for n, x in enumerate(g.operands(op)):
            dims = self.group.operand_dims.get((op, n))
            if dims is not None and self._found(dims) & whole and self.grouping.trace(x, self.group) is None:
                found.append(_Reread(x.type.elements * self._width(x), frozenset(self._found(dims) & row_axes)))
        return found

    def _part(self, operand: _Reread) -> int:
        """Bytes of the operand for one point of the row axes that it shares."""
        return operand.bytes // max(1, self._extent(operand.shared))

    def _extra(self, operand: _Reread, rows: int, tile_rows: int) -> int:
        """Bytes that are read again when each tile of rows reads its part of the operand."""
        parts = max(1, self._extent(operand.shared))
        times = -(-rows // (parts * tile_rows))
        if self._part(operand) <= self._memory("b") // 2:  # it stays while the row tiles of its part pass by
            times = min(times, -(-self.chip.cores // parts))
        return operand.bytes * max(0, times - 1)


def _depth(op: g.Dot | g.Conv) -> int:
    """Products that are summed for one result."""
    if isinstance(op, g.Conv):
        return prod(op.w.type.static_shape[1:])
    return prod(op.lhs.type.static_shape[d] for d in op.lhs_contract)
