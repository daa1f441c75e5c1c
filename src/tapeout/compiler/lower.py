"""Lowers a kernel under a schedule to a tile program."""

from __future__ import annotations

from math import inf, prod
from typing import assert_never

from tapeout.chip.spec import Chip
from tapeout.compiler.lower_state import Body, round_up
from tapeout.compiler.lower_vector import VectorLowering
from tapeout.compiler.outer import LIMIT, walk_outer
from tapeout.compiler.packing import Packs, divided_dimension, memory_order, shared_by_cluster
from tapeout.compiler.roles import (
    MAX_DIMS,
    split_sums,
)
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.skew import stage_turns
from tapeout.compiler.tile import TileProgram, Window, collapse
from tapeout.compiler.views import row_major
from tapeout.ir import kernel as k
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import CORE, Affine, Immediate, Term, View


class Lowering(VectorLowering):
    """A kernel's loop tree, its loads and stores, the matrix unit and the mover."""

    # ---- structure

    def lower(self) -> TileProgram:
        schedule = self.schedule
        loops = [a for a in schedule.order if schedule.trip(a) > 1]
        bodies = [Body(0)]
        for axis in loops:
            slot = self._slot()
            self._loop_slot[axis] = slot
            self._trips[slot] = schedule.trip(axis)
            self._scopes[slot] = (*self._scopes[bodies[-1].slot], slot)
            bodies.append(Body(slot))
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
        bodies: list[Body],
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

    def _emit_stage(self, op: k.Contract | k.Fold, inside: list[k.KernelOp], body: Body) -> None:
        """Chunk loops of a reduction with everything that depends on the chunk."""
        self._define(op.out, body.slot)
        if isinstance(op, k.Contract) and split_sums(self.chip, op, self._roles):
            rest = self._rests[op.out] = k.Tile(f"{op.out.name}.rest", op.out.dtype, op.out.index)
            self._roles[rest] = self._roles[op.out] | {"ve"}
            self._define(rest, body.slot)
        nested = [body]
        for axis in op.reduce:
            if axis in self.kernel.sequential and self.schedule.trip(axis) > 1:
                slot = self._slot()
                self._loop_slot[axis] = slot
                self._trips[slot] = self.schedule.trip(axis)
                self._scopes[slot] = (*self._scopes[nested[-1].slot], slot)
                self._stage_slots.append(slot)
                nested.append(Body(slot))
        for other in inside:
            self._emit(other, nested[-1])
        self._emit(op, nested[-1])
        for inner, outer in zip(reversed(nested), reversed(nested[:-1]), strict=False):
            outer.nodes.append(c.Loop(inner.slot, Affine(self._trips[inner.slot]), tuple(inner.nodes)))
        self._stage_slots.clear()
        if isinstance(op, k.Contract) and op.out in self._rests:
            self._vector("add", op.out, (op.out, self._rests[op.out]), body)

    # ---- tiles

    # ---- ops

    def _emit(self, op: k.KernelOp, body: Body) -> None:
        match op:
            case k.LoadTile():
                self._load(op, body)
            case k.StoreTile():
                self._store(op, body)
            case k.Contract():
                self._define(op.out, body.slot)
                (self._vector_contract if op.vector else self._matmul)(op, body)
            case k.Map():
                self._define(op.out, body.slot)
                self._map(op, body)
            case k.Fold():
                self._define(op.out, body.slot)
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

    def _load(self, op: k.LoadTile, body: Body) -> None:
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
        sizes = [round_up(n, cluster) if d == cut else n for d, n in enumerate(extents)]
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

    def _load_packed(self, op: k.LoadTile, packed: k.Buffer, body: Body) -> None:
        """A tile of a packed constant: one run, or as many as there are cores in the cluster, each of whole
        granules."""
        access, size = op.access, op.out.dtype.bytes
        order = memory_order(access)
        together = shared_by_cluster(access, self.schedule, self.chip)
        room = packed.shape[-1]
        cluster = self.chip.topology.cores if together else 1
        part = room // cluster if together else prod(self.schedule.extent(i) for i in access.index)
        self._define(op.out, body.slot, access.index, order, room=part * cluster * size, together=together)
        own = (Term(CORE, part, 1, cluster),) if together else ()
        cuts = [d for d, n in enumerate(packed.shape[:-1]) if n > 1]
        shape = (*(packed.shape[d] for d in cuts), room)
        # a dimension of which only the first element is read has no axis
        terms = [access.index[order[d]].terms for d in cuts]
        turns = [self._turn(of_tile[0][0]) if of_tile else Affine() for of_tile in terms]
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

    def _store(self, op: k.StoreTile, body: Body) -> None:
        order = memory_order(op.access)
        window, origin, extents = self._box(op.access, order)
        index = [op.access.index[d] for d in order]
        strides = tuple(self._strides[op.src].get(i.terms[0][0], 0) if i.terms else 0 for i in index)
        local = View(self._number[op.src], Affine(), strides, op.src.dtype)
        node = self._walked(c.Store(window, origin, extents, Affine(), local, op.add, self._indices(op.access, order)))
        stored = set(k.axes_of(op.access.index))
        others = tuple(Term(t.slot, -1, t.div, t.mod) for a, t in self._digit.items() if a not in stored)
        body.nodes.append(c.If(Affine(1, others), (node,)) if others else node)

    def _map(self, op: k.Map, body: Body) -> None:
        if op.fn in ("move", "drain"):
            self._move(op, body)
        elif op.fn == "not" and op.out.dtype is DType.b1:
            self._vector("eq", op.out, (*op.srcs, 0.0), body)
        else:
            self._vector(op.fn, op.out, op.srcs, body, along=op.along)

    def _move(self, op: k.Map, body: Body) -> None:
        """A copy or a drain over out's axes, collapsed to four dimensions, loops around them."""
        src, *rest = op.srcs
        assert isinstance(src, k.Tile)
        axes = tuple(a for a in self.kernel.layout if a in op.out.axes)
        tiles = [op.out, src, *(t for t in rest[:2] if isinstance(t, k.Tile))]
        dims = [(self.schedule.tile[a], tuple(self._strides[t].get(a, 0) for t in tiles)) for a in axes]
        if any(len(i.terms) > 1 for i in op.out.index):  # a window: as it lies, not once for each tap
            by_dim = zip(*(self._dim_strides[t] for t in tiles), strict=True)
            dims = [(self.schedule.extent(i), strides) for i, strides in zip(op.out.index, by_dim, strict=True)]
            dims.sort(key=lambda d: -d[1][0])
        dims = collapse(dims)
        varying = [n for n, (_, strides) in enumerate(dims[:-1], 1) if any(strides[2:])]
        outside = max([0, len(dims) - MAX_DIMS, *varying])  # scale and bias repeat over all but the last dimension
        loops, dims = dims[:outside], dims[outside:]
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

    def _matmul(self, op: k.Contract, body: Body) -> None:
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


def lower(kernel: k.KernelSpec, schedule: Schedule, chip: Chip, packs: Packs | None = None) -> TileProgram:
    """The tile program of a kernel; constants lie as `packs` has them. `DoesNotFit` where no memory can hold a tile's
    kind."""
    return stage_turns(Lowering(kernel, schedule, chip, Packs() if packs is None else packs).lower(), chip)
