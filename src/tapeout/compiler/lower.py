"""Lowers a kernel under a schedule to a tile program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, prod
from typing import assert_never

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.compiler.outer import LIMIT, walk_outer
from tapeout.compiler.packing import Packs, divided_dimension, memory_order, shared_by_cluster
from tapeout.compiler.roles import MAX_DIMS, by_steps, identity_of, memory_of, roles_of, split_sums
from tapeout.compiler.rooms import rooms_of
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.tile import LocalBuffer, TileProgram, Window, collapse
from tapeout.compiler.views import row_major
from tapeout.errors import DoesNotFit
from tapeout.ir import kernel as k
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import CORE, Affine, Immediate, Source, Term, View

STEP = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}
ALIGNMENT = 64
RUN = 64
"""Longest partial sum of a contraction on the vector unit."""
ORDERED = frozenset(("iota", "philox"))
"""Vector ops whose result depends on the order of dimensions."""


@dataclass
class _Body:
    """A body of the tree under construction; `slot` is its loop's slot."""

    slot: int
    nodes: list[c.Node] = field(default_factory=list[c.Node])


_Emit = Callable[[Callable[[k.Tile], Affine], _Body], None]
"""Emits one step of a reduction: given where each operand's element of that step begins, and the body to put it in."""


class Lowering:
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

    # ---- structure

    def _slot(self) -> int:
        self._slots += 1
        return self._slots

    def lower(self) -> TileProgram:
        schedule = self.schedule
        loops = [a for a in schedule.order if schedule.trip(a) > 1]
        bodies = [_Body(0)]
        for axis in loops:
            slot = self._slot()
            self._loop_slot[axis] = slot
            self._trips[slot] = schedule.trip(axis)
            self._scopes[slot] = (*self._scopes[bodies[-1].slot], slot)
            bodies.append(_Body(slot))
        level: dict[k.Tile, int] = {}
        position = {axis: n + 1 for n, axis in enumerate(loops)}
        staged = self._stages()
        for op in self.kernel.ops:
            if op in staged:
                continue
            self._op_at_level(op, bodies, level, position, staged)
        for n in range(len(loops), 0, -1):
            slot = bodies[n].slot
            bodies[n - 1].nodes.append(c.Loop(slot, Affine(self._trips[slot]), tuple(bodies[n].nodes)))
        body = tuple(bodies[0].nodes)
        sources = tuple(
            dict.fromkeys(
                op.source for op in self.kernel.ops if not isinstance(op, k.LoadTile | k.StoreTile) and op.source
            )
        )
        return TileProgram(
            self.kernel.name,
            sources,
            tuple(self._buffers),
            tuple(self._windows),
            self._slots,
            self._scopes,
            self._trips,
            schedule.cores,
            body,
        )

    def _stages(self) -> dict[k.KernelOp, k.KernelOp]:
        """Ops that lie inside the chunk loops of a reduction: op -> the reducing op."""
        staged: dict[k.KernelOp, k.KernelOp] = {}
        for op in self.kernel.ops:
            if isinstance(op, k.Contract | k.Fold):
                chunked = {a for a in op.reduce if a in self.kernel.sequential and self.schedule.trip(a) > 1}
                for other in self.kernel.ops:
                    if (
                        chunked
                        and other is not op
                        and not isinstance(other, k.StoreTile)
                        and chunked & set(other.out.axes)
                    ):
                        staged[other] = op
        return staged

    def _op_at_level(
        self,
        op: k.KernelOp,
        bodies: list[_Body],
        level: dict[k.Tile, int],
        position: dict[k.Axis, int],
        staged: dict[k.KernelOp, k.KernelOp],
    ) -> None:
        inside = [o for o, owner in staged.items() if owner is op]
        reads = {t for o in (*inside, op) for t in k.sources_of(o)} - {
            o.out for o in inside if not isinstance(o, k.StoreTile)
        }
        axes = {a for o in (*inside, op) for a in self._axes(o)}
        at = max([level[t] for t in reads] + [position.get(a, 0) for a in axes] + [0])
        body = bodies[at]
        if not isinstance(op, k.StoreTile):
            level[op.out] = at
        if not inside:
            self._emit(op, body)
            return
        assert isinstance(op, k.Contract | k.Fold)
        self._emit_stage(op, inside, body)

    def _axes(self, op: k.KernelOp) -> tuple[k.Axis, ...]:
        return k.axes_of(op.access.index) if isinstance(op, k.StoreTile) else op.out.axes

    def _emit_stage(self, op: k.Contract | k.Fold, inside: list[k.KernelOp], body: _Body) -> None:
        """Chunk loops of a reduction with everything that depends on the chunk."""
        self._define(op.out, body.slot)
        if isinstance(op, k.Contract) and split_sums(self.chip, op, self._roles):
            rest = self._rests[op.out] = k.Tile(f"{op.out.name}.rest", op.out.dtype, op.out.index)
            self._roles[rest] = self._roles[op.out] | {"ve"}
            self._define(rest, body.slot)
        self._initialise(op, body)
        nested = [body]
        for axis in op.reduce:
            if axis in self.kernel.sequential and self.schedule.trip(axis) > 1:
                slot = self._slot()
                self._loop_slot[axis] = slot
                self._trips[slot] = self.schedule.trip(axis)
                self._scopes[slot] = (*self._scopes[nested[-1].slot], slot)
                self._stage_slots.append(slot)
                nested.append(_Body(slot))
        for other in inside:
            self._emit(other, nested[-1])
        self._emit(op, nested[-1], initialised=True)
        for inner, outer in zip(reversed(nested), reversed(nested[:-1]), strict=False):
            outer.nodes.append(c.Loop(inner.slot, Affine(self._trips[inner.slot]), tuple(inner.nodes)))
        self._stage_slots.clear()
        if isinstance(op, k.Contract) and op.out in self._rests:
            self._vector("add", op.out, (op.out, self._rests[op.out]), body)

    # ---- tiles

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
            sizes[cut] = _round_up(sizes[cut], self.chip.topology.cores)
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
        room = _round_up(max(stride, room), ALIGNMENT)
        self._strides[tile] = strides
        shared = self._taken.get((self._rooms.get(tile, -1), scope))
        if shared is not None and self._buffers[shared].bytes == room:
            self._number[tile] = shared
            return
        self._number[tile] = len(self._buffers)
        if tile in self._rooms:
            self._taken[self._rooms[tile], scope] = self._number[tile]
        self._buffers.append(LocalBuffer(tile.name, memory, room, depth, scope, together))

    def _view(self, tile: k.Tile, axes: tuple[k.Axis, ...], base: Affine | None = None) -> View:
        strides = self._strides[tile]
        return View(self._number[tile], base or Affine(), tuple(strides.get(a, 0) for a in axes), tile.dtype)

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

    # ---- ops

    def _emit(self, op: k.KernelOp, body: _Body, initialised: bool = False) -> None:
        match op:
            case k.LoadTile():
                self._load(op, body)
            case k.StoreTile():
                self._store(op, body)
            case k.Contract():
                self._define(op.out, body.slot)
                if op.vector and not initialised:
                    self._initialise(op, body)
                (self._vector_contract if op.vector else self._matmul)(op, body)
            case k.Map():
                self._define(op.out, body.slot)
                self._map(op, body)
            case k.Fold():
                self._define(op.out, body.slot)
                if not initialised:
                    self._initialise(op, body)
                self._fold(op, body)
            case _:
                assert_never(op)

    def _box(self, access: k.Access, order: list[int]) -> tuple[int, tuple[Affine, ...], tuple[int, ...]]:
        """Window number, origin and extents of the box that one tile covers; dimensions in `order`."""
        origin: list[Affine] = []
        for d in order:
            start = Affine(access.index[d].offset)
            listed = access.gather is not None and access.gather[0] == d
            for axis, coef in () if listed else access.index[d].terms:
                start = start + self._origin(axis, coef)
            origin.append(start)
        size = access.dtype.bytes
        extents = tuple(access.extents[d] for d in order)
        strides = tuple(access.strides[d] * size for d in order)
        self._windows.append(Window(access.buffer, access.offset, access.dtype, extents, strides, access.fill))
        return len(self._windows) - 1, tuple(origin), tuple(self.schedule.extent(access.index[d]) for d in order)

    def _indices(self, access: k.Access, order: list[int]) -> c.Index | None:
        if access.gather is None:
            return None
        dim, listed = access.gather
        return c.Index(order.index(dim), View(self._number[listed], Affine(), (listed.dtype.bytes,), listed.dtype))

    def _load(self, op: k.LoadTile, body: _Body) -> None:
        access = op.access
        packed = self.packs.packed(access, self.schedule, self.chip)
        if packed is not None:
            self._load_packed(op, packed, body)
            return
        order = memory_order(access)
        cut = self._cut(access, order)
        self._define(
            op.out, body.slot, access.index, order, None if cut is None else order[cut], together=cut is not None
        )
        window, origin, extents = self._box(access, order)
        cluster = self.chip.topology.cores
        sizes = [_round_up(n, cluster) if d == cut else n for d, n in enumerate(extents)]
        strides = [0] * len(extents)
        stride = op.out.dtype.bytes
        for d in reversed(range(len(extents))):
            strides[d] = stride
            stride *= sizes[d]
        base = Affine()
        if cut is not None:
            part = sizes[cut] // cluster
            own = Term(CORE, part, 1, cluster)
            origin = tuple(o + Affine(0, (own,)) if d == cut else o for d, o in enumerate(origin))
            extents = tuple(part if d == cut else n for d, n in enumerate(extents))
            base = Affine(0, (Term(CORE, part * strides[cut], 1, cluster),))
        local = View(self._number[op.out], base, tuple(strides), op.out.dtype)
        indices = self._indices(access, order)
        load = c.Load(window, origin, extents, Affine(), local, cut is not None, indices)
        body.nodes.append(self._walked(load))

    def _load_packed(self, op: k.LoadTile, packed: k.Buffer, body: _Body) -> None:
        """A tile of a packed constant: one run, or as many as there are cores in the cluster."""
        access, size = op.access, op.out.dtype.bytes
        order = memory_order(access)
        together = shared_by_cluster(access, self.schedule, self.chip)
        room = packed.shape[-1]
        self._define(op.out, body.slot, access.index, order, room=room * size, together=together)
        cluster = self.chip.topology.cores if together else 1
        part = room // cluster
        own = (Term(CORE, part, 1, cluster),) if together else ()
        cuts = [d for d, n in enumerate(packed.shape[:-1]) if n > 1]
        shape = (*(packed.shape[d] for d in cuts), room)
        turns = [self._turn(access.index[order[d]].terms[0][0]) for d in cuts]
        self._windows.append(
            Window(packed, 0, access.dtype, shape, tuple(n * size for n in row_major(shape)), access.fill)
        )
        origin, extents = (*turns, Affine(0, own)), (*(1 for _ in cuts), part)
        local = View(self._number[op.out], Affine(0, own) * size, (*(0 for _ in cuts), size), op.out.dtype)
        body.nodes.append(c.Load(len(self._windows) - 1, origin, extents, Affine(), local, together))

    def _walked(self, node: c.Load | c.Store) -> c.Node:
        """The command with loops around it where its box has more dimensions than descriptors."""
        self._windows[node.tensor], walked = walk_outer(node, self._windows[node.tensor], self._slot)
        return walked

    def _cut(self, access: k.Access, order: list[int]) -> int | None:
        """The dimension (position in `order`) that the cores of a cluster divide among them when all need the same
        tile. None where each core loads for itself."""
        if len(order) > LIMIT or not shared_by_cluster(access, self.schedule, self.chip):
            return None
        sizes = [self.schedule.extent(access.index[d]) for d in order]
        return divided_dimension(sizes, access.dtype.bytes, self.chip)

    def _store(self, op: k.StoreTile, body: _Body) -> None:
        order = memory_order(op.access)
        window, origin, extents = self._box(op.access, order)
        index = [op.access.index[d] for d in order]
        strides = tuple(self._strides[op.src].get(i.terms[0][0], 0) if i.terms else 0 for i in index)
        local = View(self._number[op.src], Affine(), strides, op.src.dtype)
        node = self._walked(c.Store(window, origin, extents, Affine(), local, op.add, self._indices(op.access, order)))
        stored = set(k.axes_of(op.access.index))
        others = tuple(Term(t.slot, -1, t.div, t.mod) for a, t in self._digit.items() if a not in stored)
        body.nodes.append(c.If(Affine(1, others), (node,)) if others else node)

    def _sizes(self, axes: tuple[k.Axis, ...]) -> list[int]:
        return [self.schedule.tile[a] for a in axes]

    def _initialise(self, op: k.Contract | k.Fold, body: _Body) -> None:
        """The neutral element, where steps on the vector unit accumulate into the result."""
        if isinstance(op, k.Contract):
            if op.vector:
                self._fill(op.out, 0.0, body)
        elif self._by_steps(op):
            self._fill(op.out, identity_of(op.fn, op.out.dtype), body)

    def _fill(self, tile: k.Tile, value: float, body: _Body) -> None:
        self._vector("copy", tile, (value,), body)

    def _compute(self, tiles: tuple[DType, ...]) -> str:
        if any(t.is_float for t in tiles):
            return "f32"
        return "i64" if any(t.bytes == 8 or t is DType.u32 for t in tiles) else "i32"

    def _vector(
        self,
        fn: str,
        out: k.Tile,
        srcs: tuple[k.Tile | float, ...],
        body: _Body,
        reduce: tuple[k.Axis, ...] = (),
        bases: dict[k.Tile, Affine] | None = None,
        accumulate: Affine | None = None,
        along: k.Axis | None = None,
    ) -> None:
        """Vector commands over out's axes (and trailing `reduce` ones, or its axis `along` last), collapsed to four
        dimensions, loops around them."""
        compute = self._compute(tuple(t.dtype for t in (out, *srcs) if isinstance(t, k.Tile)))
        kept = tuple(a for a in self.kernel.layout if a in out.axes and a is not along)
        axes = (*kept, *reduce, *((along,) if along else ()))
        tiles = [t for t in (out, *srcs) if isinstance(t, k.Tile)]
        dims = [(self.schedule.tile[a], tuple(self._strides[t].get(a, 0) for t in tiles)) for a in axes]
        if any(len(i.terms) > 1 for i in out.index):  # parts of a window: as it lies, not once for each tap
            by_dim = list(zip(*(self._dim_strides[t] for t in tiles), strict=True))
            dims = [(self.schedule.extent(i), strides) for i, strides in zip(out.index, by_dim, strict=True)]
            dims.sort(key=lambda d: -d[1][0])
            kept = tuple(out.axes[: len(dims)])
        outer = collapse(dims[: len(kept)])
        inner = collapse(dims[len(kept) :])
        if not inner and fn not in ORDERED:
            outer = _longest_last(outer, self.chip.vector.lanes[compute])
        room = MAX_DIMS - len(inner)
        loops, outer = (outer[: len(outer) - room], outer[len(outer) - room :]) if len(outer) > room else ([], outer)
        shape = outer + inner or [(1, (0,) * len(tiles))]
        slots = [self._slot() for _ in loops]
        views: dict[k.Tile, View] = {}
        for n, tile in enumerate(tiles):
            base = (bases or {}).get(tile, Affine())
            base = base + Affine(0, tuple(Term(s, strides[n]) for s, (_, strides) in zip(slots, loops, strict=True)))
            views[tile] = View(self._number[tile], base, tuple(st[n] for _, st in shape), tile.dtype)
        operands: tuple[Source, ...] = tuple(
            views[s] if isinstance(s, k.Tile) else Immediate(s, DType.f32 if compute == "f32" else DType.i64)
            for s in srcs
        )
        node: c.Node = c.Vector(
            fn,
            compute,
            tuple(n for n, _ in shape),
            views[out],
            operands,
            0 if along else len(inner),
            accumulate or Affine(),
        )
        for slot, (trip, _) in zip(reversed(slots), reversed(loops), strict=True):
            node = c.Loop(slot, Affine(trip), (node,))
        body.nodes.append(node)

    def _map(self, op: k.Map, body: _Body) -> None:
        if op.fn in ("move", "drain"):
            self._move(op, body)
        elif op.fn == "not" and op.out.dtype is DType.b1:
            self._vector("eq", op.out, (*op.srcs, 0.0), body)
        else:
            self._vector(op.fn, op.out, op.srcs, body, along=op.along)

    def _move(self, op: k.Map, body: _Body) -> None:
        """A copy or a drain over out's axes, collapsed to four dimensions, loops around them."""
        src, *rest = op.srcs
        assert isinstance(src, k.Tile)
        axes = tuple(a for a in self.kernel.layout if a in op.out.axes)
        tiles = [op.out, src, *(t for t in rest[:2] if isinstance(t, k.Tile))]
        dims = collapse([(self.schedule.tile[a], tuple(self._strides[t].get(a, 0) for t in tiles)) for a in axes])
        loops, dims = dims[: max(0, len(dims) - MAX_DIMS)], dims[max(0, len(dims) - MAX_DIMS) :]
        slots = [self._slot() for _ in loops]
        shape = dims or [(1, (0,) * len(tiles))]
        views: dict[k.Tile, View] = {}
        for n, tile in enumerate(tiles):
            base = Affine(0, tuple(Term(s, strides[n]) for s, (_, strides) in zip(slots, loops, strict=True)))
            views[tile] = View(self._number[tile], base, tuple(strides[n] for _, strides in shape), tile.dtype)
        extents = tuple(n for n, _ in shape)
        node: c.Node = c.Copy(extents, views[op.out], views[src])
        if op.fn == "drain":
            scale, bias, lo, hi, zero = rest or (1.0, 0.0, -inf, inf, 0.0)
            factors = [views[s] if isinstance(s, k.Tile) else Immediate(s, DType.f32) for s in (scale, bias)]
            assert isinstance(lo, float)
            assert isinstance(hi, float)
            assert isinstance(zero, float)
            node = c.Drain(extents, views[op.out], views[src], factors[0], factors[1], lo, hi, int(zero))
        for slot, (trip, _) in zip(reversed(slots), reversed(loops), strict=True):
            node = c.Loop(slot, Affine(trip), (node,))
        body.nodes.append(node)

    def _by_steps(self, op: k.Fold) -> bool:
        return bool(by_steps(self.kernel, op, self.chip, lambda axis: np.array(self.schedule.tile[axis])))

    def _fold(self, op: k.Fold, body: _Body) -> None:
        if not self._by_steps(op):
            fn, axes = op.fn, op.reduce
            if not fn.startswith("arg_"):  # their order is free: neighbours in memory become one long row
                fn, strides = f"reduce_{fn}", self._strides[op.src]
                axes = tuple(sorted(axes, key=lambda a: -strides.get(a, 0)))
            counters = Affine(0, tuple(Term(s, 1) for s in self._stage_slots))
            self._vector(fn, op.out, (op.src,), body, axes, accumulate=counters)
            return
        self._steps(
            op.reduce,
            body,
            lambda base, inner: self._vector(
                STEP[op.fn], op.out, (op.out, op.src), inner, bases={op.src: base(op.src)}
            ),
        )

    def _steps(self, reduce: tuple[k.Axis, ...], body: _Body, emit: _Emit) -> None:
        """Loops over every element of the reduced axes' tiles around what `emit` makes."""
        slots = {a: self._slot() for a in reduce if self.schedule.tile[a] > 1}

        def base(tile: k.Tile) -> Affine:
            return Affine(0, tuple(Term(s, self._strides[tile].get(a, 0)) for a, s in slots.items()))

        inner = _Body(body.slot)
        emit(base, inner)
        nodes = tuple(inner.nodes)
        for axis, slot in reversed(slots.items()):
            nodes = (c.Loop(slot, Affine(self.schedule.tile[axis]), nodes),)
        body.nodes.extend(nodes)

    def _vector_contract(self, op: k.Contract, body: _Body) -> None:
        """Multiply-adds of rows, one for each element of the reduced axes. A long float sum, in one tile or over the
        chunks of several, is made of partial sums of at most `RUN` terms: its rounding error grows with the square
        root of the length otherwise."""
        longest = max(op.reduce, key=lambda a: self.schedule.tile[a], default=None)
        size = self.schedule.tile[longest] if longest else 1
        run = max(n for n in range(1, RUN + 1) if size % n == 0)
        chunks = prod(self._trips[s] for s in self._stage_slots)
        if longest is None or size * chunks <= RUN or run * run < RUN or not op.out.dtype.is_float:
            self._multiply_add(op, op.out, op.reduce, {}, {}, body)
            return
        partial = k.Tile(f"{op.out.name}.part", op.out.dtype, op.out.index)
        self._roles[partial] = {"ve"}
        self._define(partial, body.slot)
        outer = {a: self._slot() for a in op.reduce if a is not longest and self.schedule.tile[a] > 1}
        slot = self._slot()
        inner = _Body(body.slot)
        self._fill(partial, 0.0, inner)
        around, steps = (outer | ({longest: slot} if size > run else {})), dict.fromkeys(outer, 1) | {longest: run}
        self._multiply_add(op, partial, (longest,), around, steps, inner, run)
        self._vector("add", op.out, (op.out, partial), inner)
        nodes = tuple(inner.nodes)
        if size > run:
            nodes = (c.Loop(slot, Affine(size // run), nodes),)
        for axis, around in reversed(outer.items()):
            nodes = (c.Loop(around, Affine(self.schedule.tile[axis]), nodes),)
        body.nodes.extend(nodes)

    def _multiply_add(
        self,
        op: k.Contract,
        out: k.Tile,
        reduce: tuple[k.Axis, ...],
        around: dict[k.Axis, int],
        steps: dict[k.Axis, int],
        body: _Body,
        size: int = 0,
    ) -> None:
        """out += a * b for every element of `reduce`; loops `around` advance their axes by `steps` elements."""
        slots = {a: self._slot() for a in reduce if (size or self.schedule.tile[a]) > 1}

        def base(tile: k.Tile) -> Affine:
            own = [Term(s, self._strides[tile].get(a, 0)) for a, s in slots.items()]
            return Affine(0, (*own, *(Term(s, steps[a] * self._strides[tile].get(a, 0)) for a, s in around.items())))

        inner = _Body(body.slot)
        self._vector("fma", out, (op.a, op.b, out), inner, bases={op.a: base(op.a), op.b: base(op.b)})
        nodes = tuple(inner.nodes)
        for axis, slot in reversed(slots.items()):
            nodes = (c.Loop(slot, Affine(size or self.schedule.tile[axis]), nodes),)
        body.nodes.extend(nodes)

    def _matmul(self, op: k.Contract, body: _Body) -> None:
        """One command per pair: m from a, n from b, k from the reduced axes; further dimensions become loops. The last
        pair is that of the leading parts."""
        a, b, out = op.a, op.b, op.out
        free = [x for x in self.kernel.layout if x in out.axes]
        n_axes = [x for x in free if x in b.axes and x not in a.axes]
        batch = [x for x in free if x in b.axes and x in a.axes]
        m_axes = [x for x in free if x not in b.axes]
        sizes = self.schedule.tile
        n_axis = max(n_axes, key=lambda x: sizes[x], default=None)
        ordered_k = [x for x in self.kernel.layout if x in op.reduce]
        st = self._strides
        m = collapse([(sizes[x], (st[a].get(x, 0), 0, st[out].get(x, 0))) for x in m_axes])
        depth = collapse([(sizes[x], (st[a].get(x, 0), st[b].get(x, 0), 0)) for x in ordered_k])
        loops = [
            (sizes[x], (st[a].get(x, 0), st[b].get(x, 0), st[out].get(x, 0)))
            for x in (*batch, *(x for x in n_axes if x is not n_axis))
            if sizes[x] > 1
        ]
        outer_m, m = m[: max(0, len(m) - 3)], m[max(0, len(m) - 3) :]
        outer_k, depth = depth[: max(0, len(depth) - 3)], depth[max(0, len(depth) - 3) :]
        loops += outer_m
        slots = [self._slot() for _ in (*loops, *outer_k)]
        every = [*loops, *outer_k]
        base = [
            Affine(0, tuple(Term(s, strides[n]) for s, (_, strides) in zip(slots, every, strict=True)))
            for n in range(3)
        ]
        m, depth = m or [(1, (0, 0, 0))], depth or [(1, (0, 0, 0))]
        counters = [Term(s, 1) for s in (*self._stage_slots, *slots[len(loops) :])]
        nodes: list[c.Node] = []
        for number, (left, right) in enumerate(op.pairs):
            view_a = View(self._number[left], base[0], (*(s[0] for _, s in m), *(s[0] for _, s in depth)), left.dtype)
            n_stride = (st[right].get(n_axis, 0), st[out].get(n_axis, 0)) if n_axis else (0, 0)
            view_b = View(self._number[right], base[1], (*(s[1] for _, s in depth), n_stride[0]), right.dtype)
            apart = out in self._rests
            into = self._rests[out] if apart and number < len(op.pairs) - 1 else out
            first = 0 if into is out and apart else number
            view_c = View(self._number[into], base[2], (*(s[2] for _, s in m), n_stride[1]), out.dtype)
            nodes.append(
                c.MatMul(
                    tuple(n for n, _ in m),
                    sizes[n_axis] if n_axis else 1,
                    tuple(n for n, _ in depth),
                    view_a,
                    view_b,
                    view_c,
                    Affine(first, tuple(counters)),
                )
            )
        body_nodes = tuple(nodes)
        for slot, (trip, _) in zip(reversed(slots), reversed(every), strict=True):
            body_nodes = (c.Loop(slot, Affine(trip), body_nodes),)
        body.nodes.extend(body_nodes)


def _longest_last(dims: list[tuple[int, tuple[int, ...]]], lanes: int) -> list[tuple[int, tuple[int, ...]]]:
    """Dimensions of an elementwise command, the one last that fills the lanes best: a command takes whole vectors for
    each row of its last dimension."""
    if len(dims) < 2:
        return dims
    last = min(reversed(range(len(dims))), key=lambda d: -(-dims[d][0] // lanes) / dims[d][0])
    return [*dims[:last], *dims[last + 1 :], dims[last]]


def _round_up(n: int, quantum: int) -> int:
    return -(-n // quantum) * quantum


def lower(kernel: k.KernelSpec, schedule: Schedule, chip: Chip, packs: Packs | None = None) -> TileProgram:
    """The tile program of a kernel; constants lie as `packs` has them. `DoesNotFit` where no memory can hold a tile's
    kind."""
    return Lowering(kernel, schedule, chip, Packs() if packs is None else packs).lower()
