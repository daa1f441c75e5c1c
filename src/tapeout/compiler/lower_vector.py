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
    identity_of,
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
_Emit = Callable[[Callable[[k.Tile], Affine], Body], None]
"""Emits one step of a reduction: given where each operand's element of that step begins, and the body to put it in."""


class VectorLowering(TileState):
    """The vector unit's part of a kernel."""

    def _initialise(self, op: k.Contract | k.Fold, body: Body) -> None:
        """The neutral element, where steps on the vector unit accumulate into the result."""
        if isinstance(op, k.Contract):
            if op.vector:
                self._fill(op.out, 0.0, body)
        elif self._by_steps(op):
            self._fill(op.out, identity_of(op.fn, op.out.dtype), body)

    def _fill(self, tile: k.Tile, value: float, body: Body) -> None:
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

    def _fold(self, op: k.Fold, body: Body) -> None:
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

    def _steps(self, reduce: tuple[k.Axis, ...], body: Body, emit: _Emit) -> None:
        """Loops over every element of the reduced axes' tiles around what `emit` makes."""
        slots = {a: self._slot() for a in reduce if self.schedule.tile[a] > 1}

        def base(tile: k.Tile) -> Affine:
            return Affine(0, tuple(Term(s, self._strides[tile].get(a, 0)) for a, s in slots.items()))

        inner = Body(body.slot)
        emit(base, inner)
        nodes = tuple(inner.nodes)
        for axis, slot in reversed(slots.items()):
            nodes = (c.Loop(slot, Affine(self.schedule.tile[axis]), nodes),)
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
            self._multiply_add(op, op.out, {a: (self.schedule.tile[a], 1) for a in op.reduce}, {}, body)
            return
        partial = self._partial(op, longest, sides, body)
        outer = {a: self._slot() for a in op.reduce if a is not longest and self.schedule.tile[a] > 1}
        slot = self._slot()
        inner = Body(body.slot)
        self._vector("copy", partial, (0.0,), inner, extents={longest: sides})
        around = {slot: (a, 1) for a, slot in outer.items()} | ({slot: (longest, run * sides)} if steps > run else {})
        self._multiply_add(op, partial, {longest: (run, sides)}, around, inner, {longest: sides})
        left = sides
        while left > 1:
            left //= 2
            half = Affine(left * self._strides[partial][longest])
            upper = k.Tile(partial.name, partial.dtype, partial.index)
            self._number[upper], self._strides[upper] = self._number[partial], self._strides[partial]
            self._vector("add", partial, (partial, upper), inner, bases={upper: half}, extents={longest: left})
        self._vector("add", op.out, (op.out, partial), inner)
        nodes = tuple(inner.nodes)
        if steps > run:
            nodes = (c.Loop(slot, Affine(steps // run), nodes),)
        for axis, around_slot in reversed(outer.items()):
            nodes = (c.Loop(around_slot, Affine(self.schedule.tile[axis]), nodes),)
        body.nodes.extend(nodes)

    def _sides(self, op: k.Contract, size: int) -> int:
        if not op.out.dtype.is_float:
            return 1
        elements = prod(self.schedule.tile[a] for a in op.out.axes)
        return int(sides_of_sum(self.chip, np.array(float(elements)), np.array(float(size)))[0])

    def _partial(self, op: k.Contract, longest: k.Axis, sides: int, body: Body) -> k.Tile:
        """Room for partial sums like the result, `sides` times."""
        partial = k.Tile(f"{op.out.name}.part", op.out.dtype, (k.DimIndex(((longest, 1),)), *op.out.index))
        self._roles[partial] = {"ve"}
        self._define(partial, body.slot, op.out.index)
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
        extents: dict[k.Axis, int] | None = None,
    ) -> None:
        """out += a * b, so many times for each axis of `steps`, which goes on by so many elements; the loops `around`
        (by slot) advance an axis by some elements as well. `extents`: what one command covers of an axis."""
        slots = {a: self._slot() for a, (count, _) in steps.items() if count > 1}

        def base(tile: k.Tile) -> Affine:
            strides = self._strides[tile]
            own = [Term(s, steps[a][1] * strides.get(a, 0)) for a, s in slots.items()]
            return Affine(0, (*own, *(Term(s, by * strides.get(a, 0)) for s, (a, by) in around.items())))

        inner = Body(body.slot)
        bases = {op.a: base(op.a), op.b: base(op.b)}
        self._vector("fma", out, (op.a, op.b, out), inner, bases=bases, extents=extents)
        nodes = tuple(inner.nodes)
        for axis, slot in reversed(slots.items()):
            nodes = (c.Loop(slot, Affine(steps[axis][0]), nodes),)
        body.nodes.extend(nodes)


def _longest_last(dims: list[tuple[int, tuple[int, ...]]], lanes: int) -> list[tuple[int, tuple[int, ...]]]:
    """Dimensions of an elementwise command, the one last that fills the lanes best: a command takes whole vectors for
    each row of its last dimension."""
    if len(dims) < 2:
        return dims
    last = min(reversed(range(len(dims))), key=lambda d: -(-dims[d][0] // lanes) / dims[d][0])
    return [*dims[:last], *dims[last + 1 :], dims[last]]
