"""Lowers what runs on the vector unit: elementwise ops, folds, and contractions that are sums of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from tapeout.compiler.lower_state import Body, TileState
from tapeout.compiler.roles import (
    MAX_DIMS,
    RUN,
    by_steps,
    sides_of_sum,
)
from tapeout.compiler.tile import collapse
from tapeout.ir import kernel as k
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Immediate, Source, Term, View

STEP = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}
ORDERED = frozenset(("iota", "philox"))
"""Vector ops whose result depends on the order of dimensions."""
_Emit = Callable[[Callable[[k.Tile], Affine], Body, bool], None]
"""Emits one step of a reduction: given where each operand's element of that step begins, the body to put it in, and
whether it is the first one, which makes the result instead of adding to it."""


class VectorLowering(TileState):
    """The vector unit's part of a kernel."""

    def _compute(self, tiles: tuple[DType, ...]) -> str:
        if any(t.is_float for t in tiles):
            return "f32"
        return "i64" if any(t.bytes == 8 or t is DType.u32 for t in tiles) else "i32"

    def _vector(
        self,
        fn: str,
        out: k.Tile,
        srcs: tuple[k.Tile | float, ...],
        body: Body,
        reduce: tuple[k.Axis, ...] = (),
        bases: dict[k.Tile, Affine] | None = None,
        accumulate: Affine | None = None,
        along: k.Axis | None = None,
        extents: dict[k.Axis, int] | None = None,
    ) -> None:
        """Vector commands over out's axes (and trailing `reduce` ones, or its axis `along` last), collapsed to four
        dimensions, loops around them."""
        compute = self._compute(tuple(t.dtype for t in (out, *srcs) if isinstance(t, k.Tile)))
        kept = tuple(a for a in self.kernel.layout if a in out.axes and a is not along)
        axes = (*kept, *reduce, *((along,) if along else ()))
        tiles = [t for t in (out, *srcs) if isinstance(t, k.Tile)]
        cut = extents or {}
        dims = [(cut.get(a, self.schedule.tile[a]), tuple(self._strides[t].get(a, 0) for t in tiles)) for a in axes]
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

    def _by_steps(self, op: k.Fold) -> bool:
        return bool(by_steps(self.kernel, op, self.chip, lambda axis: np.array(self.schedule.tile[axis])))

    def _chunks(self) -> Affine:
        """0 in the first chunk of a reduction that comes in chunks."""
        return Affine(0, tuple(Term(s, 1) for s in self._stage_slots))

    def _fold(self, op: k.Fold, body: Body) -> None:
        if not self._by_steps(op):
            fn, axes = op.fn, op.reduce
            if not fn.startswith("arg_"):  # their order is free: neighbours in memory become one long row
                fn, strides = f"reduce_{fn}", self._strides[op.src]
                axes = tuple(sorted(axes, key=lambda a: -strides.get(a, 0)))
            self._vector(fn, op.out, (op.src,), body, axes, accumulate=self._chunks())
            return

        def step(base: Callable[[k.Tile], Affine], inner: Body, first: bool) -> None:
            fn, srcs = ("copy", (op.src,)) if first else (STEP[op.fn], (op.out, op.src))
            self._vector(fn, op.out, srcs, inner, bases={op.src: base(op.src)})

        self._steps({a: (self.schedule.tile[a], 1) for a in op.reduce}, body, step, self._chunks())

    def _steps(self, steps: dict[k.Axis, tuple[int, int]], body: Body, emit: _Emit, done: Affine) -> None:
        """Loops over so many steps along each axis, which go on by so many elements, around what `emit` makes. The
        first step stands alone, with the rest of each loop around it behind: where nothing is `done` (0) before, it
        makes the result, so that no neutral element has to be filled in."""
        walked = [(a, count, by) for a, (count, by) in steps.items() if count > 1]
        self._either(done, body, lambda inner, first: emit(lambda _: Affine(), inner, first))
        for n in reversed(range(len(walked))):
            self._walk_rest(walked[n:], body, emit)

    def _either(self, done: Affine, body: Body, emit: Callable[[Body, bool], None]) -> None:
        """What `emit` makes for a first step where `done` is 0, else what it makes for a later one."""
        first, later = Body(body.slot), Body(body.slot)
        emit(first, True)
        if done.terms:
            emit(later, False)
            body.nodes.append(c.If(done, tuple(later.nodes), tuple(first.nodes)))
        else:
            body.nodes.extend(first.nodes)

    def _walk_rest(self, walked: list[tuple[k.Axis, int, int]], body: Body, emit: _Emit) -> None:
        """Loops over axes, the first of which from its second step on."""
        slots = [self._slot() for _ in walked]

        def base(tile: k.Tile) -> Affine:
            strides = [by * self._strides[tile].get(a, 0) for a, _, by in walked]
            return Affine(strides[0], tuple(Term(slot, n) for slot, n in zip(slots, strides, strict=True)))

        inner = Body(body.slot)
        emit(base, inner, False)
        nodes = tuple(inner.nodes)
        for n, (_, count, _) in reversed(list(enumerate(walked))):
            nodes = (c.Loop(slots[n], Affine(count if n else count - 1), nodes),)
        body.nodes.extend(nodes)

    def _vector_contract(self, op: k.Contract, body: Body) -> None:
        """Multiply-adds of rows, one for each element of the reduced axes, or for several at once that add to sums side
        by side. A long float sum, in one tile or over the chunks of several, is made of partial sums of at most `RUN`
        terms: its rounding error grows with the square root of the length otherwise."""
        longest = max(op.reduce, key=lambda a: self.schedule.tile[a], default=None)
        size = self.schedule.tile[longest] if longest else 1
        sides = self._sides(op, size)
        steps = size // sides
        run = max(n for n in range(1, RUN + 1) if steps % n == 0)
        chunks = prod(self._trips[s] for s in self._stage_slots)
        short = sides == 1 and (size * chunks <= RUN or run * run < RUN)
        if longest is None or short or not op.out.dtype.is_float:
            self._multiply_add(op, op.out, {a: (self.schedule.tile[a], 1) for a in op.reduce}, {}, body, self._chunks())
            return
        outer = {a: self._slot() for a in op.reduce if a is not longest and self.schedule.tile[a] > 1}
        slot = self._slot()
        around = {slot: (a, 1) for a, slot in outer.items()} | ({slot: (longest, run * sides)} if steps > run else {})
        group = 1 if around else self._group(run)
        partial = self._partial(op, longest, sides, body, group > 1)
        inner, ends = Body(body.slot), Body(body.slot)
        chunk = self._stage_slots[-1] if group > 1 else 0
        begun = Affine(0, (Term(chunk, 1, 1, group),)) if group > 1 else Affine()
        self._multiply_add(op, partial, {longest: (run, sides)}, around, inner, begun, {longest: sides})
        before = [Term(s, 1, group if s == chunk else 1) for s in self._stage_slots]
        before = [t for t in before if t.slot != chunk or self._trips[chunk] > group]
        done = Affine(0, (*before, *(Term(s, 1) for s in around)))
        self._add_up(op.out, partial, longest, sides, done, ends)
        inner.nodes += [c.If(begun + (2 - group), tuple(ends.nodes))] if group > 1 else ends.nodes
        nodes = tuple(inner.nodes)
        if steps > run:
            nodes = (c.Loop(slot, Affine(steps // run), nodes),)
        for axis, around_slot in reversed(outer.items()):
            nodes = (c.Loop(around_slot, Affine(self.schedule.tile[axis]), nodes),)
        body.nodes.extend(nodes)

    def _add_up(self, out: k.Tile, partial: k.Tile, longest: k.Axis, sides: int, done: Affine, body: Body) -> None:
        """out += the partial sums side by side, which are added by halves; they are all that it holds where nothing is
        `done` (0) before."""
        left = sides
        while left > 1:
            left //= 2
            half = Affine(left * self._strides[partial][longest])
            upper = k.Tile(partial.name, partial.dtype, partial.index)
            self._number[upper], self._strides[upper] = self._number[partial], self._strides[partial]
            total = out if left == 1 and not done.terms else partial
            self._vector("add", total, (partial, upper), body, bases={upper: half}, extents={longest: left})
        if not done.terms and sides > 1:
            return

        def add(into: Body, first: bool) -> None:
            fn, srcs = ("copy", (partial,)) if first else ("add", (out, partial))
            self._vector(fn, out, srcs, into)

        self._either(done, body, add)

    def _group(self, run: int) -> int:
        """How many chunks, of `run` terms for each partial sum, add to the same ones."""
        trips = self._trips[self._stage_slots[-1]] if self._stage_slots else 1
        return max(n for n in range(1, trips + 1) if trips % n == 0 and (n == 1 or n * run <= RUN))

    def _sides(self, op: k.Contract, size: int) -> int:
        if not op.out.dtype.is_float:
            return 1
        elements = prod(self.schedule.tile[a] for a in op.out.axes)
        return int(sides_of_sum(self.chip, np.array(float(elements)), np.array(float(size)))[0])

    def _partial(self, op: k.Contract, longest: k.Axis, sides: int, body: Body, lasting: bool) -> k.Tile:
        """Room for partial sums like the result, `sides` times; `lasting` from chunk to chunk."""
        partial = k.Tile(f"{op.out.name}.part", op.out.dtype, (k.DimIndex(((longest, 1),)), *op.out.index))
        self._roles[partial] = {"ve"}
        around = self._scopes[body.slot][:-1]
        self._define(partial, (around[-1] if around else 0) if lasting else body.slot, op.out.index)
        number = self._number[partial]
        room = self._buffers[number].bytes
        self._buffers[number] = replace(self._buffers[number], bytes=room * sides)
        self._strides[partial][longest] = room
        return partial

    def _multiply_add(
        self,
        op: k.Contract,
        out: k.Tile,
        steps: dict[k.Axis, tuple[int, int]],
        around: dict[int, tuple[k.Axis, int]],
        body: Body,
        done: Affine,
        extents: dict[k.Axis, int] | None = None,
    ) -> None:
        """out += a * b, so many times for each axis of `steps`, which goes on by so many elements; the loops `around`
        (by slot) advance an axis by some elements as well. Where nothing is `done` (0) before, `out` begins as the
        first product. `extents`: what one command covers of an axis."""

        def step(base: Callable[[k.Tile], Affine], inner: Body, first: bool) -> None:
            bases: dict[k.Tile, Affine] = {}
            for tile in (op.a, op.b):
                turns = (Term(s, by * self._strides[tile].get(a, 0)) for s, (a, by) in around.items())
                bases[tile] = base(tile) + Affine(0, tuple(turns))
            fn, srcs = ("mul", (op.a, op.b)) if first else ("fma", (op.a, op.b, out))
            self._vector(fn, out, srcs, inner, bases=bases, extents=extents)

        self._steps(steps, body, step, done)


def _longest_last(dims: list[tuple[int, tuple[int, ...]]], lanes: int) -> list[tuple[int, tuple[int, ...]]]:
    """Dimensions of an elementwise command, the one last that fills the lanes best: a command takes whole vectors for
    each row of its last dimension."""
    if len(dims) < 2:
        return dims
    last = min(reversed(range(len(dims))), key=lambda d: -(-dims[d][0] // lanes) / dims[d][0])
    return [*dims[:last], *dims[last + 1 :], dims[last]]
