"""Groups: which ops share a kernel. Greedy, in graph order: an op joins the group of an operand where that is legal
(no cycle, same iteration space, whole rows fit in local memory) and where it saves more traffic than it causes.

Row-resident fusion is nothing but this: a reduction over an axis of the group makes the axis *resident* (kept whole
in a tile), a contraction of a computed operand makes its contracted axes resident. Softmax, layer norm and attention
follow.
"""

from __future__ import annotations

from dataclasses import replace

from tapeout.chip.spec import Chip
from tapeout.compiler.fusion import ELEMENTWISE, Fusion
from tapeout.compiler.group import Axes, Dims, Group, unit_reshape
from tapeout.compiler.layouts import Order
from tapeout.compiler.rematerialize import widenings
from tapeout.compiler.views import VIEWS, Place, view, whole
from tapeout.errors import UnsupportedOp
from tapeout.ir import graph as g
from tapeout.ir.kernel import Buffer
from tapeout.ir.types import DType

ANCHORS = (
    g.Conv,
    g.Dot,
    g.Pool,
    g.Gather,
    g.Scatter,
    g.Concat,
    g.Reduce,
    g.ArgReduce,
    g.Cumulate,
    g.Sort,
    *ELEMENTWISE,
)


class Grouping:
    """The groups of a graph, and where every value lies that must lie in memory."""

    def __init__(
        self, graph: g.Graph, chip: Chip, orders: dict[g.Value, Order], apart: frozenset[g.Op] = frozenset()
    ) -> None:
        """Ops of `apart` never join a group (others may join theirs)."""
        self.graph, self.chip, self.orders, self.apart = graph, chip, orders, apart
        self.axes = Axes()
        self.groups: list[Group] = []
        self._made = -1
        self.producer: dict[g.Value, g.Op] = {out: op for op in graph.ops for out in op.outs}
        self.group_of: dict[g.Value, Group] = {}
        self.places: dict[g.Value, Place] = {}
        self.buffers: dict[g.Value, Buffer] = {}
        self.stored: set[g.Value] = set()
        self._copies: dict[Buffer, tuple[Group, Place]] = {}
        self.copy_order: dict[Buffer, Order] = {}
        self.group_of_buffer: dict[Buffer, Group] = {}
        self._scatter_group: Group | None = None
        self._readers = g.users(graph)
        self._exits = set(graph.exits)
        self.plain_places: dict[tuple[g.Op, g.Value], Place] = {}
        """Where windows and indexed moves read their operands."""
        self.exit_places: dict[g.Value, Place] = {}
        """Where outputs lie after a run; not always where their readers find them."""
        self._wide = widenings(graph)
        self._deferred = self._widenings_to_defer()
        self._pieces = self._pieces_in_place()

    def _widenings_to_defer(self) -> set[g.Op]:
        """Widenings with one elementwise reader: they are computed in its group, whatever made the narrow value."""
        found: set[g.Op] = set()
        for value, op in reversed(self._wide.items()):
            readers = self._readers.get(value, [])
            if value in self._exits or len(readers) != 1 or not isinstance(readers[0], ELEMENTWISE):
                continue
            if readers[0] in found or readers[0].outs[0] not in self._wide:
                found.add(op)
        return found

    def _pieces_in_place(self) -> dict[g.Value, tuple[g.Concat, int]]:
        """Operands of concatenations that are written where the result holds them, with the place of their first row.

        Not what is an output itself, or has to be packed for a reader that takes it for another shape.
        """
        found: dict[g.Value, tuple[g.Concat, int]] = {}
        for op in self.graph.ops:
            if not isinstance(op, g.Concat):
                continue
            start = 0
            for x in op.xs:
                if x not in found and op.xs.count(x) == 1 and self._lies_anywhere(x):
                    found[x] = (op, start)
                start += x.type.static_shape[op.axis]
        return found

    def _lies_anywhere(self, value: g.Value) -> bool:
        """Whether a value may lie in a part of another's buffer."""
        op = self.producer.get(value)
        if op is None or isinstance(op, (*VIEWS, g.Constant, g.Scatter)) or op in self._deferred:
            return False
        readers = self._readers.get(value, ())
        return value not in self._exits and not any(isinstance(r, g.Reshape | g.Scatter) for r in readers)

    # ---- places

    def home(self, value: g.Value) -> Place:
        """Where a value that is not a view is written."""
        if value not in self._pieces:
            return whole(self.buffer(value), value.type.static_shape, self.orders[value])
        op, start = self._pieces[value]
        return self.piece(op, value, start)

    def piece(self, op: g.Concat, value: g.Value, start: int) -> Place:
        """The part of a concatenation's result that holds an operand, `start` rows behind the first one."""
        joined = self.place(op.out)
        offset = joined.offset + start * joined.strides[op.axis]
        return replace(joined, extents=value.type.static_shape, offset=offset)

    def buffer(self, value: g.Value) -> Buffer:
        """The buffer of a value that is not a view."""
        if value not in self.buffers:
            order, shape = self.orders[value], value.type.static_shape
            op = self.producer.get(value)
            role, data = "temporary", None
            if isinstance(op, g.Constant):
                role, data = "constant", op.data
            elif op is None:
                role = "input" if value in self.graph.inputs else "state"
            physical = tuple(shape[d] for d in order)
            self.buffers[value] = Buffer(value.name, value.type.dtype, physical, role, data, order)
        return self.buffers[value]

    def place(self, value: g.Value) -> Place:
        """Where a value lies; makes copies where a view cannot be had."""
        if value in self.places:
            return self.places[value]
        op = self.producer.get(value)
        found: Place | None = None
        if isinstance(op, VIEWS) and value not in self.buffers:
            fill = self.scalar(op.value) if isinstance(op, g.Pad) else None
            found = view(op, self.place(op.x), fill)
            if found is None:
                found = view(op, self._copy(op.x), fill)
                if found is None:
                    what = f"{type(op).__name__} of {op.x.type}"
                    raise UnsupportedOp(what, op.source, "give the value of the pad as a constant")
        elif isinstance(op, g.Convert) and self._read_narrow(op):
            found = self.place(op.x)
        else:
            found = self.home(value)
            if op is not None and not isinstance(op, g.Constant):
                self.stored.add(value)
        self.places[value] = found
        return found

    def _read_narrow(self, op: g.Convert) -> bool:
        """Whether what an op widens is read as it is: the vector unit computes in f32 whatever float it reads."""
        narrow = op.x.type.dtype
        widens = narrow.is_float and narrow.bytes < 4 and op.dtype is DType.f32
        return widens and self._computed_with(op.out)

    def _computed_with(self, value: g.Value) -> bool:
        """Whether only vector ops read a value, maybe moved, but not its bytes."""
        readers = self._readers.get(value, [])
        return value not in self._exits and all(
            isinstance(r, (*ELEMENTWISE, g.Reduce))
            or (isinstance(r, VIEWS) and not isinstance(r, g.Bitcast) and self._computed_with(r.out))
            for r in readers
        )

    def _copy(self, value: g.Value) -> Place:
        """A packed row-major copy of `value`, made by a kernel of its own."""
        shape = value.type.static_shape
        buffer = Buffer(f"{value.name}.copy", self.place(value).dtype, shape, "temporary")
        order = tuple(range(len(shape)))
        self.group_of_buffer[buffer] = self._copy_group(value, buffer, shape, order)
        return whole(buffer, shape, order)

    def copy_made_by(self, group: Group) -> tuple[Buffer, Place, Order]:
        """Target, source and order of the copy that a group makes."""
        buffer, (_, source) = next((b, c) for b, c in self._copies.items() if c[0] is group)
        return buffer, source, self.copy_order[buffer]

    def scalar(self, value: g.Value) -> float | None:
        """The number behind a value that is one constant number everywhere."""
        op = self.producer.get(value)
        while isinstance(op, g.Broadcast | g.Reshape):
            op = self.producer.get(op.x)
        if isinstance(op, g.Constant) and op.data.size == 1:
            return op.data.reshape(()).item()
        return None

    # ---- the greedy walk

    def run(self) -> None:
        for op in self.graph.ops:
            if isinstance(op, (*VIEWS, g.Constant)) or op in self._deferred:
                continue
            if not isinstance(op, ANCHORS):
                raise UnsupportedOp(f"{type(op).__name__} has no lowering yet", op.source, "run this part on the host")
            if isinstance(op, g.Concat):
                self._add_pieces(op)
                continue
            if isinstance(op, g.Scatter):
                self._prepare_scatter(op)
            group = self._choose(op) or self._new_group()
            self._absorb(op, group)
            self._add(op, group)
        for value in self.graph.exits:
            self.place(value)
        for _, value in self.graph.outputs:
            lasts = not self.places[value].padded and not self._overwritten(value)
            self.exit_places[value] = self.places[value] if lasts else self._copy(value)
        kept = [self._kept_apart(state) for state in self.graph.states]
        for state, source in zip(self.graph.states, kept, strict=True):
            self._return_state(state, source)

    def left(self) -> tuple[Buffer, ...]:
        """The buffers that outputs and states are in after a run."""
        states = (self.place(s.entry).buffer for s in self.graph.states)
        return tuple(dict.fromkeys((*(self.exit_places[v].buffer for _, v in self.graph.outputs), *states)))

    def _new_group(self, copy_of: g.Value | None = None, piece: int = 0) -> Group:
        self._made += 1
        self.groups.append(Group(self._made, copy_of=copy_of, piece=piece))
        return self.groups[-1]

    def _add_pieces(self, op: g.Concat) -> None:
        """A group for each operand of a concatenation that is not written in its place; the last one stands for all."""
        before = 0
        for number, x in enumerate(op.xs):
            if self._in_place(op, x):
                self.place(x)
                continue
            group = self._new_group(piece=number)
            self._add(op, group)
            group.needs = self._needs(x) | before
            before |= (1 << group.number) | group.needs
            group.dims[x] = self._fresh(x)
        self.place(op.out)

    def _in_place(self, op: g.Concat, x: g.Value) -> bool:
        return x in self._pieces and self._pieces[x][0] is op

    def _readers_of(self, value: g.Value) -> list[g.Op]:
        """Ops that read the memory that holds a value: through views, and what they widen as they read it, too."""
        found: list[g.Op] = []
        for op in self._readers.get(value, ()):
            if isinstance(op, VIEWS) or op in self._deferred:
                found += self._readers_of(op.outs[0])
            elif isinstance(op, g.Convert) and self._read_narrow(op):
                found += [op, *self._readers_of(op.out)]
            else:
                found.append(op)
        return found

    def _held(self, value: g.Value) -> list[g.Value]:
        """What lies in the memory of a computed value: itself, and the operands that a concatenation has in place."""
        op = self.producer.get(value)
        parts = [x for x in op.xs if self._in_place(op, x)] if isinstance(op, g.Concat) else []
        return [value, *(inner for x in parts for inner in self._held(x))]

    def _copy_group(
        self, value: g.Value, buffer: Buffer, shape: tuple[int, ...], order: Order, source: Place | None = None
    ) -> Group:
        """A group that copies `value` (from `source`, where it does not lie in its own place) into `buffer`."""
        source = source or self.place(value)
        group = self._new_group(copy_of=value)
        group.needs = self._needs(value)
        if (maker := self.group_of_buffer.get(source.buffer)) is not None:
            group.needs |= (1 << maker.number) | maker.needs
        group.dims[value] = self._fresh(value)
        self._copies[buffer] = (group, source)
        self.copy_order[buffer] = order
        return group

    def _prepare_scatter(self, op: g.Scatter) -> None:
        """Scatters in place where nothing reads the old contents afterwards, else into a copy of them."""
        old = self.place(op.x)
        position = {o: n for n, o in enumerate(self.graph.ops)}
        held = self._held(self.root(op.x))
        others = [o for value in held for o in self._readers_of(value) if o is not op]
        own = whole(old.buffer, op.x.type.static_shape, self.orders[op.out]) == old
        left = {self.root(value) for value in self._exits}
        free = old.buffer.role in ("temporary", "state") and left.isdisjoint(held)
        group = self._new_group()
        if own and free and all(position[o] < position[op] for o in others):
            self.buffers[op.out] = old.buffer
            for out in (out for other in others for out in other.outs):
                if (reader := self.group_of.get(out)) is not None:  # a concatenation of what lies in place has none
                    group.needs |= (1 << reader.number) | reader.needs
        else:
            copy = self._copy_group(op.x, self.buffer(op.out), op.x.type.static_shape, self.orders[op.out])
            group.needs |= (1 << copy.number) | copy.needs
        self._scatter_group = group

    def _overwritten(self, value: g.Value) -> bool:
        """Whether an output lies in a state that holds something else after the run."""
        for state in self.graph.states:
            entry = self.place(state.entry)
            if self.places[value].buffer is entry.buffer:
                return self.places[state.exit] != entry or self.root(value) is not self.root(state.exit)
        return False

    def _kept_apart(self, state: g.State) -> Place:
        """Where the new contents of a state lie before it is written: not in a state that is written as well."""
        left = self.place(state.exit)
        return self._copy(state.exit) if left != self.place(state.entry) and left.buffer.role == "state" else left

    def _return_state(self, state: g.State, left: Place) -> None:
        """What a state holds afterwards must lie where it was before; readers of the value keep the place it had."""
        entry = self.place(state.entry)
        if entry == left:
            return
        shape, order = state.entry.type.static_shape, self.orders[state.entry]
        copies = [maker for maker, source in self._copies.values() if source.buffer is entry.buffer]
        group = self._copy_group(state.exit, entry.buffer, shape, order, left)
        for reader in copies:
            group.needs |= (1 << reader.number) | reader.needs
        for op in self._readers_of(state.entry):
            for out in op.outs:
                reader = self.group_of[out]
                group.needs |= (1 << reader.number) | reader.needs

    def trace(self, value: g.Value, group: Group) -> Dims | None:
        """Dims of `value` inside `group` when it is computed there or reached by trivial views, else None."""
        if value in group.dims and group.copy_of is None:
            return group.dims[value]
        op = self.producer.get(value)
        match op:
            case g.Transpose():
                inner = self.trace(op.x, group)
                return tuple(inner[p] for p in op.perm) if inner is not None else None
            case g.Broadcast():
                inner = self.trace(op.x, group)
                if inner is None:
                    return None
                dims: list[int | None] = [None] * len(op.shape)
                for d, axis in enumerate(op.dims):
                    dims[axis] = inner[d] if op.x.type.shape[d] != 1 else None
                return tuple(dims)
            case g.Reshape():
                inner = self.trace(op.x, group)
                return (
                    unit_reshape(inner, op.x.type.static_shape, op.out.type.static_shape) if inner is not None else None
                )
            case _:
                return None

    def read(self, value: g.Value) -> bool:
        """Whether anything needs a value."""
        return value in self._exits or bool(self._readers.get(value))

    def root(self, value: g.Value) -> g.Value:
        """The computed value, entry or constant that `value` is a view of."""
        op = self.producer.get(value)
        while isinstance(op, VIEWS):
            value = op.x
            op = self.producer.get(value)
        return value

    def _needs(self, value: g.Value) -> int:
        """Groups behind a value that is read from memory."""
        root = self.root(value)
        source = self.producer.get(root)
        if source in self._deferred:
            return self._needs(g.operands(source)[0])
        group = self.group_of.get(root)
        bits = (1 << group.number) | group.needs if group else 0
        if isinstance(source, g.Concat):
            for x in source.xs:
                bits |= self._needs(x) if self._in_place(source, x) else 0
        place = self.places.get(value)
        if place is not None and place.buffer in self.group_of_buffer:
            copy = self.group_of_buffer[place.buffer]
            bits |= (1 << copy.number) | copy.needs
        return bits

    def _narrow(self, value: g.Value) -> g.Value:
        """What a deferred widening widens; any other value itself."""
        op = self.producer.get(value)
        while op in self._deferred and op is not None:
            value = g.operands(op)[0]
            op = self.producer.get(value)
        return value

    def _choose(self, op: g.Op) -> Group | None:
        """The best group to join, or None."""
        if isinstance(op, g.Scatter):
            return self._scatter_group
        if op in self.apart or not isinstance(op, (*ELEMENTWISE, g.Reduce, g.ArgReduce, g.Dot)):
            return None
        if isinstance(op, g.Reduce) and isinstance(first := self.producer.get(op.x), g.Reduce) and first.fn == op.fn:
            return None  # a second step: the first one is there to be dealt out over the cores
        candidates: dict[int, Group] = {}
        for x in map(self._narrow, g.operands(op)):
            group = self.group_of.get(self.root(x))
            if group is not None and group.copy_of is None and self.trace(x, group) is not None:
                candidates[group.number] = group
        for number in sorted(candidates, reverse=True):
            group = candidates[number]
            if self._legal(op, group) and Fusion(self, group).worthwhile(op):
                return group
        return None

    def _legal(self, op: g.Op, group: Group) -> bool:
        bit = 1 << group.number
        if any(isinstance(o, g.Scatter | g.Concat | g.Gather) for o in group.ops):
            return False
        for x in map(self._narrow, g.operands(op)):
            if self.trace(x, group) is not None:
                continue
            root = self.root(x)
            if self.group_of.get(root) is group:
                return False  # reads its own group through memory
            if self._needs(x) & bit:
                return False
        if isinstance(op, g.Dot):
            return self.trace(op.rhs, group) is None or self.trace(op.lhs, group) is None
        if isinstance(op, g.ArgReduce):
            return all(a is None or len(self.axes.parts(a)) == 1 for a in self.trace(op.x, group) or ())
        if isinstance(op, ELEMENTWISE):
            inside = [dims for x in g.operands(op) if (dims := self.trace(x, group)) is not None]
            return not self._clash(group, inside)
        return True

    def _clash(self, group: Group, alike: list[Dims]) -> bool:
        """Whether giving values the same axes would make two axes of some value of the group one (a diagonal)."""
        axes = Axes()
        number = {root: axes.new(0) for root in {self.axes.find(a) for dims in alike for a in dims if a is not None}}
        for column in zip(*alike, strict=True):
            found = [number[self.axes.find(a)] for a in column if a is not None]
            for a in found[1:]:
                axes.unite(found[0], a)
        for dims in (*group.dims.values(), *group.operand_dims.values()):
            held = [number[r] for r in {self.axes.find(a) for a in dims if a is not None} if r in number]
            if len({axes.find(a) for a in held}) < len(held):
                return True
        return False

    # ---- uniting groups

    def _absorb(self, op: g.Op, group: Group) -> None:
        """Brings the other operands' groups into `group`, where all of these work element by element and none waits for
        the other: the gates of a recurrent cell are one kernel then, not one for each gate."""
        if not isinstance(op, ELEMENTWISE) or not self._elementwise(group):
            return
        for x in map(self._narrow, g.operands(op)):
            other = self.group_of.get(self.root(x))
            if other is None or other is group or not self._elementwise(other):
                continue
            if (group.needs >> other.number | other.needs >> group.number) & 1:
                continue
            inside = [d for y in g.operands(op) if (d := self.trace(y, group)) is not None]
            dims = self.trace(x, other)
            both = Group(
                -1, dims={**other.dims, **group.dims}, operand_dims={**other.operand_dims, **group.operand_dims}
            )
            if dims is not None and not self._clash(both, [*inside, dims]):
                self._unite(group, other)

    def _elementwise(self, group: Group) -> bool:
        return bool(group.ops) and all(isinstance(op, ELEMENTWISE) for op in group.ops)

    def _unite(self, group: Group, other: Group) -> None:
        """`other` becomes part of `group`, in front of what is there."""
        group.ops[:0] = other.ops
        group.dims.update(other.dims)
        group.operand_dims.update(other.operand_dims)
        group.external = {**other.external, **group.external}
        group.needs |= other.needs
        for op in other.ops:
            self.group_of.update(dict.fromkeys(op.outs, group))
        self.groups.remove(other)
        gone, bit = 1 << other.number, 1 << group.number
        for later in self.groups:
            if later.needs & (gone | bit):
                later.needs = later.needs & ~gone | bit | group.needs

    # ---- adding an op to a group

    def _add(self, op: g.Op, group: Group) -> None:
        for x in g.operands(op):
            source = self.producer.get(x)
            if source in self._deferred and x not in group.dims:
                self._add(source, group)
        group.ops.append(op)
        needs = group.needs
        for out in op.outs:
            self.group_of[out] = group
        for x in g.operands(op):
            if self.trace(x, group) is None and self.scalar(x) is None:
                self.place(x)
                group.needs |= self._needs(x)
        if len(group.ops) > 1 and group.needs != needs:  # nobody needs a new group yet
            bit = 1 << group.number
            for later in self.groups:
                if later.needs & bit:
                    later.needs |= group.needs
        match op:
            case g.Unary() | g.Binary() | g.Compare() | g.Select() | g.Convert():
                self._add_elementwise(op, group)
            case g.Reduce() | g.ArgReduce():
                self._add_reduce(op, group)
            case g.Dot():
                self._add_dot(op, group)
            case g.Conv():
                self._add_conv(op, group)
            case g.Pool():
                self._add_pool(op, group)
            case g.Cumulate() | g.Sort():
                dims = tuple(self._operand(op, 0, op.x, group))
                group.dims.update(dict.fromkeys(op.outs, dims))
                group.resident |= {a for a in (dims[op.axis],) if a is not None}
            case g.Gather():
                self._plain(op, op.x, 0.0, group)
                self._plain(op, op.indices, None, group)
                group.dims[op.out] = self._fresh(op.out)
            case g.Scatter():
                self._plain(op, op.indices, None, group)
                self.place(op.updates)
            case _:
                for x in g.operands(op):
                    self.place(x)

    def _axis(self, extent: int) -> int | None:
        return self.axes.new(extent) if extent != 1 else None

    def _fresh(self, value: g.Value) -> Dims:
        return tuple(map(self._axis, value.type.static_shape))

    def _operand(self, op: g.Op, number: int, value: g.Value, group: Group) -> list[int | None]:
        """Dims of an operand: what it has inside the group, new axes where it comes from memory."""
        inner = self.trace(value, group)
        dims: list[int | None] = list(inner) if inner is not None else [None] * value.type.rank
        for d, n in enumerate(value.type.static_shape):
            if dims[d] is None and n != 1:
                dims[d] = self.axes.new(n)
        group.operand_dims[op, number] = tuple(dims)
        return dims

    def _add_elementwise(self, op: g.Op, group: Group) -> None:
        dims: list[int | None] = [None] * op.outs[0].type.rank
        for x in g.operands(op):
            inner = self.trace(x, group)
            for d, a in enumerate(inner or ()):
                if a is not None and dims[d] is not None:
                    self.axes.unite(dims[d] or 0, a)
                elif a is not None:
                    dims[d] = a
        known: list[Dims] = []
        for x in g.operands(op):
            if x in group.external and self.trace(x, group) is None:
                known += [] if self._clash(group, [tuple(dims), *known, group.external[x]]) else [group.external[x]]
        for d, n in enumerate(op.outs[0].type.static_shape):
            for a in [k[d] for k in known if k[d] is not None]:
                if dims[d] is None:
                    dims[d] = a
                self.axes.unite(dims[d] or 0, a or 0)
            if dims[d] is None and n != 1:
                dims[d] = self.axes.new(n)
        group.dims[op.outs[0]] = tuple(dims)
        for x in g.operands(op):
            if self.trace(x, group) is None:
                group.external[x] = tuple(dims)
        if known:
            reduced = {self.axes.find(a) for found in group.reduce.values() for a in found}
            group.resident |= {self.axes.find(a) for k in known for a in k if a is not None} & reduced

    def _add_reduce(self, op: g.Reduce | g.ArgReduce, group: Group) -> None:
        axes = op.axes if isinstance(op, g.Reduce) else (op.axis,)
        dims = self._operand(op, 0, op.x, group)
        group.reduce[op] = tuple(a for d in axes if (a := dims[d]) is not None)
        group.dims[op.out] = tuple(a for d, a in enumerate(dims) if d not in axes)
        if self.trace(op.x, group) is not None:
            group.resident |= set(group.reduce[op])
        else:
            group.external[op.x] = tuple(dims)

    def _add_dot(self, op: g.Dot, group: Group) -> None:
        computed = [x for x in (op.lhs, op.rhs) if self.trace(x, group) is not None]
        lhs, rhs = self._operand(op, 0, op.lhs, group), self._operand(op, 1, op.rhs, group)
        for a, b in zip(op.lhs_batch + op.lhs_contract, op.rhs_batch + op.rhs_contract, strict=True):
            if (x := lhs[a]) is not None and (y := rhs[b]) is not None:
                self.axes.unite(x, y)
        taken_l, taken_r = {*op.lhs_batch, *op.lhs_contract}, {*op.rhs_batch, *op.rhs_contract}
        free = [a for i, a in enumerate(lhs) if i not in taken_l] + [a for i, a in enumerate(rhs) if i not in taken_r]
        group.dims[op.out] = tuple([lhs[i] for i in op.lhs_batch] + free)
        group.reduce[op] = tuple(a for i in op.lhs_contract if (a := lhs[i]) is not None)
        if computed:
            group.resident |= set(group.reduce[op])

    def _add_conv(self, op: g.Conv, group: Group) -> None:
        self._plain(op, op.x, 0.0, group)
        out = self._fresh(op.out)
        w = op.w.type.static_shape
        channel, *window = map(self._axis, w[1:])
        made, read = out[1], channel
        if op.groups > 1:
            number, each = self.axes.new(op.groups), self._axis(w[0] // op.groups)
            made, read = self.axes.of_parts(number, each), self.axes.of_parts(number, channel)
            memory = self.chip.memories[self.chip.memory_for("b" if self.chip.matrix.geometry else "ve")]
            if op.w.type.bytes // op.groups <= memory.bytes // 16:  # to cut one group's channels gains nothing
                group.resident |= {a for a in (each, channel) if a is not None}
        group.dims[op.out] = (out[0], made, *out[2:])
        group.operand_dims[op, 1] = (made, channel, *window)
        group.operand_dims[op, 0] = (out[0], read, *out[2:])
        group.reduce[op] = tuple(a for a in (channel, *window) if a is not None)

    def _plain(self, op: g.Op, value: g.Value, fill: float | None, group: Group) -> None:
        """Where an op reads an operand outside of which it sees `fill`: a copy of a view that is padded otherwise."""
        place = self.place(value)
        if place.padded and place.fill != fill:
            place = self._copy(value)
            copy = self.group_of_buffer[place.buffer]
            group.needs |= (1 << copy.number) | copy.needs
        self.plain_places[op, value] = place

    def _add_pool(self, op: g.Pool, group: Group) -> None:
        self._plain(op, op.x, pool_identity(op), group)
        group.dims[op.out] = self._fresh(op.out)
        group.reduce[op] = tuple(self.axes.new(n) for n in op.window if n != 1)
        group.operand_dims[op, 0] = group.dims[op.out]


def pool_identity(op: g.Pool) -> float:
    """What a pool reads outside its operand."""
    dtype = op.x.type.dtype
    if op.fn == "sum":
        return 0.0
    sign = -1.0 if op.fn == "max" else 1.0
    if dtype is DType.f8e4m3:  # has no infinity
        return sign * 448.0
    if dtype.is_float:
        return sign * float("inf")
    bits = dtype.bytes * 8 - (1 if dtype.is_signed else 0)
    low = -float(2**bits) if dtype.is_signed else 0.0
    return low if op.fn == "max" else float(2**bits - 1)
