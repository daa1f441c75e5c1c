"""What lowering has built so far of one kernel: rooms of tiles, slots of loops, and where the present tile begins."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeout.chip.spec import Chip
from tapeout.compiler.packing import Packs
from tapeout.compiler.roles import (
    memory_of,
    roles_of,
)
from tapeout.compiler.rooms import rooms_of
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.tile import ALIGNMENT, LocalBuffer, Window
from tapeout.errors import DoesNotFit
from tapeout.ir import kernel as k
from tapeout.isa import commands as c
from tapeout.isa.operands import CORE, Affine, Term


@dataclass
class Body:
    """A body of the tree under construction; `slot` is its loop's slot."""

    slot: int
    nodes: list[c.Node] = field(default_factory=list[c.Node])


class TileState:
    """One kernel's lowering: state is only what is being built."""

    def __init__(self, kernel: k.KernelSpec, schedule: Schedule, chip: Chip, packs: Packs) -> None:
        self.kernel, self.schedule, self.chip, self.packs = kernel, schedule, chip, packs
        self._slots = 0
        self._buffers: list[LocalBuffer] = []
        self._windows: list[Window] = []
        self._number: dict[k.Tile, int] = {}
        self._strides: dict[k.Tile, dict[k.Axis, int]] = {}
        self._dim_strides: dict[k.Tile, tuple[int, ...]] = {}
        self._loop_slot: dict[k.Axis, int] = {}
        self._scopes: dict[int, tuple[int, ...]] = {0: ()}
        self._trips: dict[int, int] = {}
        self._stage_slots: list[int] = []
        self._rests: dict[k.Tile, k.Tile] = {}
        self._roles = roles_of(kernel)
        self._rooms = rooms_of(kernel, self._roles)
        self._taken: dict[tuple[int, int], int] = {}
        self._digit: dict[k.Axis, Term] = {}
        div = 1
        for axis, parts in schedule.spread:
            self._digit[axis] = Term(CORE, 1, div, parts)
            div *= parts

    def _slot(self) -> int:
        self._slots += 1
        return self._slots

    def _define(
        self,
        tile: k.Tile,
        scope: int,
        index: tuple[k.DimIndex, ...] | None = None,
        order: list[int] | None = None,
        cut: int | None = None,
        room: int = 0,
        together: bool = False,
    ) -> None:
        """Gives a tile room, at least `room` bytes: packed dimensions, in layout order or in the given one. Tiles that
        are brought `together` come in parts from the cores of a cluster; dimension `cut` is rounded up to a multiple of
        their number."""
        if tile in self._number:
            return
        dims = index if index is not None else tile.index
        rank = {axis: n for n, axis in enumerate(self.kernel.layout)}
        if order is None:
            order = sorted(range(len(dims)), key=lambda d: min((rank[a] for a, _ in dims[d].terms), default=0))
        sizes = [self.schedule.extent(i) for i in dims]
        if cut is not None:
            sizes[cut] = round_up(sizes[cut], self.chip.topology.cores)
        stride = tile.dtype.bytes
        strides: dict[k.Axis, int] = {}
        by_dim = [0] * len(dims)
        for d in reversed(order):
            by_dim[d] = stride
            for axis, coef in dims[d].terms:
                strides[axis] = strides.get(axis, 0) + coef * stride
            stride *= sizes[d]
        self._dim_strides[tile] = tuple(n for n, i in zip(by_dim, dims, strict=True) if i.terms)
        memory = memory_of(self.chip, self._roles[tile])
        if memory is None:
            raise DoesNotFit(
                f"no local memory serves {', '.join(sorted(self._roles[tile]))}",
                self.kernel.name,
                "give one memory that reach",
            )
        streamed = self._roles[tile] - {"ve"}
        depth = self.schedule.depth if scope and streamed else 1
        room = round_up(max(stride, room), ALIGNMENT)
        self._strides[tile] = strides
        shared = self._taken.get((self._rooms.get(tile, -1), scope))
        if shared is not None and self._buffers[shared].bytes == room:
            self._number[tile] = shared
            return
        self._number[tile] = len(self._buffers)
        if tile in self._rooms:
            self._taken[self._rooms[tile], scope] = self._number[tile]
        self._buffers.append(LocalBuffer(tile.name, memory, room, depth, scope, together))

    def _turn(self, axis: k.Axis) -> Affine:
        """The number of the present tile along the axis."""
        terms: list[Term] = []
        if axis in self._digit:
            digit = self._digit[axis]
            terms.append(Term(CORE, self.schedule.trip(axis), digit.div, digit.mod))
        if axis in self._loop_slot:
            terms.append(Term(self._loop_slot[axis], 1))
        return Affine(0, tuple(terms))

    def _origin(self, axis: k.Axis, coef: int) -> Affine:
        """coef * (first element of the present tile along the axis)."""
        return self._turn(axis) * (coef * self.schedule.tile[axis])


def round_up(n: int, quantum: int) -> int:
    return -(-n // quantum) * quantum
