"""Forms kernels: each group of ops becomes loads, computations and stores of tiles over named axes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from tapeout.compiler.combine import combine
from tapeout.compiler.drain import fuse_drains
from tapeout.compiler.engines import PAIRS, Extents, fits_matrix, parts_on_matrix, prefers_vector
from tapeout.compiler.group import Dims, Group
from tapeout.compiler.groups import Grouping, pool_identity
from tapeout.compiler.moves import insert_moves
from tapeout.compiler.roles import identity_of
from tapeout.compiler.views import Place, whole
from tapeout.errors import UnsupportedOp
from tapeout.ir import graph as g
from tapeout.ir import kernel as k
from tapeout.ir.types import DType

SMALL = 1 << 18
"""Bytes of a value that may be made long before it is read."""
NOWHERE = -1.0
"""The index behind the end of a list: it lies outside every tensor, so nothing is read or written there."""


class Former:
    """Builds the kernel of one group."""

    def __init__(self, grouping: Grouping, group: Group, parts: dict[tuple[k.Buffer, int, DType], k.Buffer]) -> None:
        self.grouping, self.group, self._parts = grouping, group, parts
        self.chip = grouping.chip
        self._axis: dict[int, k.Axis] = {}
        self._tiles: dict[g.Value, k.Tile] = {}
        self._typed: dict[g.Value, k.Tile] = {}
        self._loads: dict[tuple[object, ...], k.Tile] = {}
        self.ops: list[k.KernelOp] = []
        self._layout: list[k.Axis] = []
        self._ordered: set[k.Axis] = set()
        self._inner: set[k.Axis] = set()
        """Inner parts of axes."""
        self._whole: set[k.Axis] = set()
        """Those of them that are not cut."""
        self._count = 0

    # ---- axes and tiles

    def axis(self, number: int) -> k.Axis:
        root = self.grouping.axes.find(number)
        if root not in self._axis:
            self._axis[root] = k.Axis(f"a{len(self._axis)}", self.grouping.axes.extent[root])
        return self._axis[root]

    def axes(self, numbers: Iterable[int]) -> tuple[k.Axis, ...]:
        """The axes of numbers, those with parts by their parts."""
        return tuple(self.axis(part) for a in numbers for part in self.grouping.axes.parts(a))

    def index(self, dims: Dims) -> tuple[k.DimIndex, ...]:
        return tuple(self._dim(a) if a is not None else k.DimIndex() for a in dims)

    def _dim(self, number: int) -> k.DimIndex:
        outer, *inner = self.axes((number,))
        if not inner:
            return k.DimIndex(((outer, 1),))
        self._inner.update(inner)
        return k.DimIndex(((outer, inner[0].extent), (inner[0], 1)))

    def _divides(self, index: k.DimIndex) -> bool:
        """Whether a dimension is indexed by an axis of two parts (and not by a window)."""
        return len(index.terms) == 2 and index.terms[1][0] in self._inner

    def tile(self, name: str, dtype: DType, index: tuple[k.DimIndex, ...]) -> k.Tile:
        self._count += 1
        return k.Tile(f"{name}.{self._count}", dtype, tuple(i for i in index if i.terms))

    def computed(self, name: str, dtype: DType, dims: Dims) -> k.Tile:
        """A tile that is computed: it has a dimension for each axis, and for each part of one."""
        axes = self.axes(a for a in dims if a is not None)
        return self.tile(name, dtype, tuple(k.DimIndex(((axis, 1),)) for axis in axes))

    def load(
        self,
        place: Place,
        index: tuple[k.DimIndex, ...],
        keep: frozenset[int] = frozenset(),
        fill: float | None = None,
        gather: tuple[int, k.Tile] | None = None,
    ) -> k.Tile:
        """A tile read from memory. Dimensions that repeat (stride 0) are dropped unless in `keep`."""

        def repeats(d: int) -> bool:
            still = place.extents[d] == 1 and not index[d].terms and not index[d].offset
            return (place.strides[d] == 0 and not place.padded) or still

        kept = [d for d in range(len(index)) if d in keep or place.shifts[d] or not repeats(d)]
        moved = tuple(replace(index[d], offset=index[d].offset - place.shifts[d]) for d in kept)
        where = gather and (kept.index(gather[0]), gather[1])
        extents, strides = tuple(place.extents[d] for d in kept), tuple(place.strides[d] for d in kept)
        outside = place.fill if fill is None else fill
        access = self._divided(
            k.Access(place.buffer, extents, strides, place.offset, moved, outside, where, place.read_as)
        )
        access = _without_gaps(access)
        moved = access.index
        key = (place.buffer, moved, access.offset, access.extents, access.strides, outside, place.read_as)
        if key in self._loads and gather is None:
            return self._loads[key]
        out = self.tile(place.buffer.name, place.dtype, tuple(i for i in moved if i.terms))
        self.ops.append(k.LoadTile(out, access))
        if gather is None:
            self._loads[key] = out
        return out

    def _divided(self, access: k.Access) -> k.Access:
        """The same elements, with a dimension for each part of an axis. Where something lies around them (padded
        channels) that cannot be: one dimension runs over both parts, and the inner one is not cut."""
        columns: list[tuple[int, int, k.DimIndex]] = []
        for extent, stride, index in zip(access.extents, access.strides, access.index, strict=True):
            if not self._divides(index):
                columns.append((extent, stride, index))
                continue
            (outer, step), (inner, _) = index.terms
            if index.offset or extent != outer.extent * step:
                self._whole.add(inner)
                columns.append((extent, stride, index))
                continue
            columns.append((outer.extent, stride * step, k.DimIndex(((outer, 1),))))
            columns.append((step, stride, k.DimIndex(((inner, 1),))))
        assert access.gather is None or len(columns) == len(access.index), "lists index undivided dimensions"
        extents, strides, indices = zip(*columns, strict=True) if columns else ((), (), ())
        return replace(access, extents=extents, strides=strides, index=indices)

    def operand(
        self, value: g.Value, dims: Dims, keep: frozenset[int] = frozenset(), fill: float | None = None
    ) -> k.Tile | float:
        """What an op reads: a number, a tile of this kernel, or a load."""
        number = self.grouping.scalar(value)
        if number is not None and (math.isnan(number) or float(number) == number):  # what f64 holds; NaN is not itself
            return float(number)
        if self.grouping.trace(value, self.group) is not None:
            return self._tiles[self.grouping.root(value)]
        return self.load(self.grouping.place(value), self.index(dims), keep, fill)

    def typed(self, value: g.Value) -> k.Tile:
        """The tile of a computed value in its own element type (contractions leave accumulators)."""
        root = self.grouping.root(value)
        tile = self._tiles[root]
        if tile.dtype is root.type.dtype:
            return tile
        if root not in self._typed:
            out = self.tile(root.name, root.type.dtype, tile.index)
            self.ops.append(k.Map(out, "copy", (tile,)))
            self._typed[root] = out
        return self._typed[root]

    # ---- ops

    def form(self) -> k.KernelSpec:
        group = self.group
        if group.copy_of is not None:
            self._form_copy(group.copy_of)
        for op in group.ops:
            self._form(op)
        for op in group.ops:
            for out in op.outs:
                if out in self.grouping.stored and out in self._tiles:
                    self._store(self.typed(out), self.grouping.home(out), self.index(group.dims[out]))
        return self._finish()

    def _store(
        self,
        tile: k.Tile,
        place: Place,
        index: tuple[k.DimIndex, ...],
        add: bool = False,
        gather: tuple[int, k.Tile] | None = None,
    ) -> None:
        kept = [d for d in range(len(index)) if index[d].terms or place.extents[d] != 1]
        where = gather and (kept.index(gather[0]), gather[1])
        access = k.Access(
            place.buffer,
            tuple(place.extents[d] for d in kept),
            tuple(place.strides[d] for d in kept),
            place.offset,
            tuple(index[d] for d in kept),
            0.0,
            where,
        )
        self.ops.append(k.StoreTile(tile, self._divided(access), add))

    def _form(self, op: g.Op) -> None:
        match op:
            case g.Unary():
                self._map(op, op.fn, op.x)
            case g.Binary() | g.Compare():
                self._map(op, op.fn, op.x, op.y)
            case g.Select():
                self._map(op, "select", op.cond, op.x, op.y)
            case g.Convert():
                self._convert(op)
            case g.Reduce() | g.ArgReduce():
                self._fold(op)
            case g.Cumulate():
                self._along(op, op.out, f"scan_{op.fn}", (self._whole_rows(op, op.x),))
            case g.Sort():
                self._sort(op)
            case g.Dot():
                a, b = (self._contracted(op, n, x) for n, x in enumerate((op.lhs, op.rhs)))
                self._contract(op, a, b)
            case g.Conv():
                self._conv(op)
            case g.Pool():
                self._pool(op)
            case g.Gather():
                self._gather(op)
            case g.Scatter():
                self._scatter(op)
            case g.Concat():
                self._concat(op)
            case _:
                raise UnsupportedOp(f"{type(op).__name__} has no lowering yet", op.source, "run this part on the host")

    def _map(self, op: g.Op, fn: str, *values: g.Value) -> None:
        dims = self.group.dims[op.outs[0]]
        out = self.computed(op.outs[0].name, op.outs[0].type.dtype, dims)
        srcs = tuple(self.operand(v, dims) for v in values)
        self._tiles[op.outs[0]] = out
        self.ops.append(k.Map(out, fn, srcs, op.source))

    def _convert(self, op: g.Convert) -> None:
        if op.dtype is DType.b1:
            dims = self.group.dims[op.out]
            out = self.computed(op.out.name, DType.b1, dims)
            source = self.operand(op.x, dims)
            self._tiles[op.out] = out
            self.ops.append(k.Map(out, "ne", (source, 0.0), op.source))
        else:
            self._map(op, "copy", op.x)

    def _fold(self, op: g.Reduce | g.ArgReduce) -> None:
        dims = self.group.operand_dims[op, 0]
        axes = op.axes if isinstance(op, g.Reduce) else (op.axis,)
        fn = op.fn if isinstance(op, g.Reduce) else f"arg_{op.fn}"
        src = self.operand(op.x, dims, frozenset(axes), self._neutral(op, fn))
        if not isinstance(src, k.Tile):
            raise UnsupportedOp("reduction of a constant", op.source, "this is a bug: it should have been folded")
        out = self.computed(op.out.name, _partial(fn, op.out.type.dtype), self.group.dims[op.out])
        reduce = self.axes(self.group.reduce[op])
        self._tiles[op.out] = out
        self.ops.append(k.Fold(out, fn, src, reduce, op.source) if reduce else k.Map(out, "copy", (src,), op.source))

    def _whole_rows(self, op: g.Cumulate | g.Sort, value: g.Value) -> k.Tile:
        if self.grouping.trace(value, self.group) is not None:
            return self.typed(value)
        return self.load(self.grouping.place(value), self.index(self.group.operand_dims[op, 0]))

    def _along(self, op: g.Cumulate | g.Sort, value: g.Value, fn: str, srcs: tuple[k.Tile | float, ...]) -> k.Tile:
        """A value made by a vector op that runs along one axis."""
        dims = self.group.operand_dims[op, 0]
        axis = dims[op.axis]
        assert axis is not None, "canonical form has no rows of one element here"
        out = self.computed(value.name, value.type.dtype, dims)
        self.ops.append(k.Map(out, fn, srcs, op.source, self.axis(axis)))
        self._tiles[value] = out
        return out

    def _sort(self, op: g.Sort) -> None:
        """Keys are sorted; positions are numbers in a row that the sort reorders with them."""
        ordered, positions = op.outs
        keys = self._whole_rows(op, op.x)
        if not self.grouping.read(positions):
            self._along(op, ordered, "sort", (keys,))
            return
        numbers = self._along(op, positions, "iota", (0.0, 1.0))
        self._along(op, ordered, "sort", (keys, numbers))
        self._tiles[positions] = self.tile(positions.name, positions.type.dtype, numbers.index)
        self.ops.append(k.Map(self._tiles[positions], "copy", (numbers,), op.source))

    def _neutral(self, op: g.Reduce | g.ArgReduce, fn: str) -> float | None:
        """What a reduction may read outside its operand, where nothing else reads the same tile: its neutral
        element."""
        alone = sum(op.x in g.operands(o) for o in self.group.ops) == 1
        inside = self.grouping.trace(op.x, self.group) is not None
        if fn.startswith("arg_") or not alone or inside or op.x.type.dtype is DType.f8e4m3:
            return None
        if self.grouping.scalar(op.x) is not None or self.grouping.place(op.x).padded:
            return None
        if fn == "and" and op.x.type.dtype.is_int and not op.x.type.dtype.is_signed:
            return None  # a fill is a number: all bits of an unsigned one are not -1
        return identity_of(fn, _partial(fn, op.out.type.dtype))

    def _contracted(self, op: g.Dot, number: int, value: g.Value) -> k.Tile:
        dims = self.group.operand_dims[op, number]
        if self.grouping.trace(value, self.group) is not None:
            return self.typed(value)
        repeat = op.rhs_batch if number else ()  # the other operand has these axes
        keep = frozenset(d for d, a in enumerate(dims) if a is not None and d not in repeat)
        return self.load(self.grouping.place(value), self.index(dims), keep)

    def _contract(self, op: g.Dot | g.Conv, a: k.Tile, b: k.Tile, vector: bool = False) -> None:
        dtype = a.dtype
        long = dtype.is_int and 8 in (dtype.bytes, b.dtype.bytes, op.dtype.bytes)
        accumulator = DType.f32 if not dtype.is_int else DType.i64 if long else DType.i32
        vector = vector or long
        out = self.computed(op.out.name, accumulator, self.group.dims[op.out])
        reduce = self.axes(self.group.reduce[op])
        pairs = ((a, b),)
        vector = vector or prefers_vector(self.chip, _extents(a, b, out, reduce), a.dtype, b.dtype)
        if not vector and not fits_matrix(self.chip, a.dtype, b.dtype):
            pairs = self._split(a, b)
        self._tiles[op.out] = out
        self.ops.append(k.Contract(out, pairs, reduce, vector, op.source))

    def _split(self, a: k.Tile, b: k.Tile) -> tuple[tuple[k.Tile, k.Tile], ...]:
        """Pairs of parts in a type that the matrix unit has."""
        parts = parts_on_matrix(self.chip, a.dtype, b.dtype)
        assert parts is not None
        narrow, count = parts
        parts_a, parts_b = self._parts_of(a, narrow, count), self._parts_of(b, narrow, count)
        return tuple((parts_a[i], parts_b[j]) for i, j in PAIRS[count])

    def _parts_of(self, tile: k.Tile, narrow: DType, count: int) -> list[k.Tile]:
        """x = p0 + p1 + ..: each part is the rest so far in the narrow type. Constants are split when compiled."""
        load = next((o for o in self.ops if isinstance(o, k.LoadTile) and o.out is tile), None)
        if load is not None and load.access.buffer.role == "constant":
            if not any(tile in k.sources_of(o) for o in self.ops):
                self.ops.remove(load)
            return [self._load_part(load, n, narrow) for n in range(count)]
        parts: list[k.Tile] = []
        rest = tile
        for n in range(count):
            part = self.tile(f"{tile.name}.p{n}", narrow, tile.index)
            self.ops.append(k.Map(part, "copy", (rest,)))
            parts.append(part)
            if n + 1 < count:
                left = self.tile(f"{tile.name}.r{n}", DType.f32, tile.index)
                self.ops.append(k.Map(left, "sub", (rest, part)))
                rest = left
        return parts

    def _load_part(self, load: k.LoadTile, number: int, narrow: DType) -> k.Tile:
        buffer = load.access.buffer
        key = (buffer, number, narrow)
        if key not in self._parts:
            name = f"{buffer.name}.p{number}"
            self._parts[key] = k.Buffer(name, narrow, buffer.shape, "constant", buffer.data, buffer.order, number)
        out = self.tile(self._parts[key].name, narrow, load.out.index)
        self.ops.append(k.LoadTile(out, replace(load.access, buffer=self._parts[key])))
        return out

    def _window(self, dims: Dims, taps: tuple[int | None, ...], op: g.Conv | g.Pool) -> list[k.DimIndex]:
        """Index of the spatial dimensions of a window op's operand."""
        found: list[k.DimIndex] = []
        for out, tap, stride, pad, dilation in zip(dims, taps, op.strides, op.pads, op.dilation, strict=True):
            terms: list[tuple[k.Axis, int]] = []
            if out is not None:
                terms.append((self.axis(out), stride))
            if tap is not None:
                terms.append((self.axis(tap), dilation))
            found.append(k.DimIndex(tuple(terms), -pad[0]))
        return found

    def _conv(self, op: g.Conv) -> None:
        out_dims = self.group.dims[op.out]
        w_dims, x_dims = self.group.operand_dims[op, 1], self.group.operand_dims[op, 0]
        index = (*self.index(x_dims[:2]), *self._window(out_dims[2:], w_dims[2:], op))
        keep = frozenset(d for d, i in enumerate(index) if i.terms or d >= 2)
        a = self.load(self.grouping.plain_places[op, op.x], index, keep, 0.0)
        b = self.load(self.grouping.place(op.w), self.index(w_dims), frozenset({0} if w_dims[0] is not None else ()))
        depthwise = op.groups > 1 and op.w.type.static_shape[:2] == (op.groups, 1)
        self._contract(op, a, b, vector=depthwise)  # its channels fill the lanes

    def _pool(self, op: g.Pool) -> None:
        dims = self.group.dims[op.out]
        kept = len(dims) - len(op.window)
        taps: list[int | None] = []
        numbers = list(self.group.reduce[op])
        for n in op.window:
            taps.append(numbers.pop(0) if n != 1 else None)
        index = (*self.index(dims[:kept]), *self._window(dims[kept:], tuple(taps), op))
        place = self.grouping.plain_places[op, op.x]
        src = self.load(place, index, frozenset(range(kept, len(dims))), pool_identity(op))
        out = self.computed(op.out.name, _partial(op.fn, op.out.type.dtype), dims)
        self._tiles[op.out] = out
        reduce = tuple(self.axis(a) for a in self.group.reduce[op])
        self.ops.append(k.Fold(out, op.fn, src, reduce, op.source) if reduce else k.Map(out, "copy", (src,), op.source))

    def _gather(self, op: g.Gather) -> None:
        dims = self.group.dims[op.out]
        at = self.index((dims[op.axis],))
        listed = self.load(self.grouping.plain_places[op, op.indices], at, fill=NOWHERE)
        rows = self.grouping.plain_places[op, op.x]
        self._tiles[op.out] = self.load(rows, self.index(dims), frozenset({op.axis}), 0.0, (op.axis, listed))

    def _scatter(self, op: g.Scatter) -> None:
        buffer = self.grouping.buffer(op.out)
        self.grouping.place(op.out)
        dims = tuple(self.grouping.axes.new(n) for n in op.updates.type.static_shape)
        numbers = self.grouping.plain_places[op, op.indices]
        listed = self.load(numbers, self.index((dims[op.axis],)), frozenset({0}), NOWHERE)
        self._ordered.add(self.axis(dims[op.axis]))
        values = self.load(self.grouping.place(op.updates), self.index(dims), frozenset(range(len(dims))))
        place = whole(buffer, op.out.type.static_shape, self.grouping.orders[op.out])
        self._store(values, place, self.index(dims), op.fn == "add", (op.axis, listed))

    def _concat(self, op: g.Concat) -> None:
        x = op.xs[self.group.piece]
        dims = self.group.dims[x]
        start = sum(y.type.static_shape[op.axis] for y in op.xs[: self.group.piece])
        self._move_whole(self.grouping.place(x), self.grouping.piece(op, x, start), dims)

    def _form_copy(self, value: g.Value) -> None:
        buffer, source, order = self.grouping.copy_made_by(self.group)
        self._move_whole(source, whole(buffer, value.type.static_shape, order), self.group.dims[value])

    def _move_whole(self, source: Place, target: Place, dims: Dims) -> None:
        """A kernel that only loads and stores."""
        self._store(self.load(source, self.index(dims)), target, self.index(dims))

    # ---- the finished kernel

    def _finish(self) -> k.KernelSpec:
        self.ops = insert_moves(combine(fuse_drains(self.ops)), self.chip)
        used = self._use_order()
        parts = self.grouping.axes.parts
        resident = {self._axis[r] for a in self.group.resident for r in parts(a) if r in self._axis} | self._whole
        reduced = [a for op in self.ops if isinstance(op, k.Contract | k.Fold) for a in op.reduce]
        sequential = {a for a in reduced if a not in resident and self._sequential(a)}
        resident |= set(reduced) - sequential
        name = next((op.source for op in self.group.ops if isinstance(op, g.Conv | g.Dot | g.Pool)), "")
        name = name or next((op.source for op in self.group.ops if op.source), "copy")
        return k.KernelSpec(
            name,
            tuple(self.ops),
            used,
            frozenset(resident),
            frozenset(sequential),
            frozenset(self._ordered),
        )

    def _sequential(self, axis: k.Axis) -> bool:
        """Whether one stage alone sees the axis, so that it may be walked in chunks."""
        reducing = [op for op in self.ops if isinstance(op, k.Contract | k.Fold) and axis in op.reduce]
        if len(reducing) != 1 or (isinstance(reducing[0], k.Fold) and reducing[0].fn.startswith("arg_")):
            return False
        return all(not isinstance(op, k.StoreTile) or axis not in op.src.axes for op in self.ops)

    def _use_order(self) -> tuple[k.Axis, ...]:
        """Order of axes in local tiles: as the widest result lies in memory, reduced axes before its last one."""
        order: list[k.Axis] = []
        reduced = {a for op in self.ops if isinstance(op, k.Contract) for a in op.reduce}
        stores = [op.access for op in self.ops if isinstance(op, k.StoreTile)]
        for access in sorted(stores, key=lambda s: -math.prod(s.extents)):
            by_stride = sorted(range(len(access.index)), key=lambda d: -access.strides[d])
            order += [a for d in by_stride for a, _ in access.index[d].terms if a not in order and a not in reduced]
        others: list[k.Axis] = []
        for op in self.ops:
            tiles = (op.out,) if not isinstance(op, k.StoreTile) else ()
            others += [a for t in tiles for a in t.axes if a not in order and a not in others]
        last = order[-1:]
        late = [a for a in others if a in reduced]
        return (*order[:-1], *(a for a in others if a not in late and a not in last), *late, *last)


def _without_gaps(access: k.Access) -> k.Access:
    """The same elements, without the rows between those that are read: where one axis walks a dimension in steps (a
    convolution of one tap with a stride), the stride in memory takes the steps over. What lies packed is read whole."""
    index, extents, strides, offset = list(access.index), list(access.extents), list(access.strides), access.offset
    for d, i in enumerate(index):
        listed = access.gather is not None and access.gather[0] == d
        if len(i.terms) != 1 or i.terms[0][1] < 2 or strides[d] == 1 or listed:
            continue
        axis, step = i.terms[0]
        first, inside = divmod(i.offset, step)
        index[d] = k.DimIndex(((axis, 1),), first)
        offset += inside * strides[d]
        extents[d] = max(0, -(-(extents[d] - inside) // step))
        strides[d] *= step
    return replace(access, index=tuple(index), extents=tuple(extents), strides=tuple(strides), offset=offset)


def _partial(fn: str, dtype: DType) -> DType:
    """The type that partial results of a reduction have: sums and products of narrow floats are made in f32, extremes
    are elements (but f8e4m3 has no infinity to begin with)."""
    return DType.f32 if dtype.is_float and (fn not in ("max", "min") or dtype.bytes == 1) else dtype


def _extents(a: k.Tile, b: k.Tile, out: k.Tile, reduce: tuple[k.Axis, ...]) -> Extents:
    """The size of a contraction by its axes."""
    m = math.prod(x.extent for x in out.axes if x not in b.axes)
    n = math.prod(x.extent for x in out.axes if x not in a.axes)
    batch = math.prod(x.extent for x in out.axes if x in a.axes and x in b.axes)
    return Extents(batch, m, n, math.prod(x.extent for x in reduce))


def form_kernels(grouping: Grouping) -> tuple[tuple[k.KernelSpec, Group], ...]:
    """The kernels of all groups, with the groups, in an order that respects their needs. Small ones that do not wait
    for those just before them are brought forward: they may run beside them (`emit.py`)."""
    parts: dict[tuple[k.Buffer, int, DType], k.Buffer] = {}
    done = run = 0
    left = list(grouping.groups)
    kernels: list[tuple[k.KernelSpec, Group]] = []
    while left:
        first = next((x for x in left if not x.needs & ~done), None)
        assert first is not None, "groups wait for each other"
        group = first
        if first.needs & run:
            beside = (x for x in left if not x.needs & (~done | run) and _small(x))
            group = next(beside, first)
        left.remove(group)
        run = run | 1 << group.number if not group.needs & run else 1 << group.number
        done |= 1 << group.number
        kernel = Former(grouping, group, parts).form()
        if any(isinstance(op, k.StoreTile) for op in kernel.ops):  # else all that it makes is read another way
            kernels.append((kernel, group))
    return tuple(kernels)


def _small(group: Group) -> bool:
    """Whether what a group makes may wait in memory for its readers."""
    values = (*(out for op in group.ops for out in op.outs), *((group.copy_of,) if group.copy_of else ()))
    return all(v.type.elements * v.type.dtype.bytes <= SMALL for v in values)
