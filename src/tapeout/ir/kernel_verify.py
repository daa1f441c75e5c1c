"""The verifier of kernels. A kernel is valid when

1. its layout names every axis once, by a unique name, each of at least one element; resident, sequential and ordered
   axes are of the layout, and no sequential one is any of the others;
2. every tile is defined once, by a load, contraction, map or fold, before it is read, under a unique name; the axes of
   its index are of the layout, no dimension names an axis twice or with a coefficient below 1;
3. dimensions of computed tiles are indexed by one axis alone; a map of a window keeps the window's index;
4. an access has as many extents and strides as indices; what it reaches within its extents lies in its buffer; bytes
   are taken for a type of the same size; a gather goes along one of its dimensions, by a list of integers whose
   index is that dimension's;
5. a load has the type of its access and those of its indices that name axes;
6. the pairs of a contraction have the same indices; it reduces axes of its operands, and the axes of its result are
   all the others; it accumulates in f32, or in i32 or i64 for integers;
7. a map's fn is known and has as many operands as that takes, at least one of them a tile but for `iota`; their axes
   are the result's; scans, `iota` and `sort` run along one of these that is resident, no other fn does; a move keeps
   the type; a drain takes f32 or i32 accumulators;
8. a fold's fn is known; it reduces axes of its source, and the axes of its result are all the others; `arg_` folds
   give integers;
9. a store covers each axis of its source, by dimensions of one axis each; source and access have types of one size;
   it writes no input and no constant;
10. every reduced axis is resident or sequential; sequential ones are reduced by one op alone, none of them by an
    `arg_` fold, and no store sees them;
11. constants have their contents, and nothing else has; a list of kernels reads a temporary only after one has stored
    into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import assert_never

from tapeout.errors import VerifyError
from tapeout.ir import kernel as k
from tapeout.ir.types import DType

ROLES = ("input", "output", "constant", "state", "temporary")
UNARY = frozenset("copy neg abs sign floor ceil round exp log sqrt rsqrt sin cos tanh erf not".split())
BINARY = frozenset("add sub mul div rem pow max min and or xor shl shr atan2 eq ne lt le gt ge".split())
ARITY = {**dict.fromkeys(UNARY, (1,)), **dict.fromkeys(BINARY, (2,)), "select": (3,), "fma": (3,), "clamp": (3,),
         "move": (1,), "drain": (1, 6), "iota": (2,), "sort": (1, 2),
         **dict.fromkeys(("scan_sum", "scan_prod", "scan_max", "scan_min"), (1,))}  # fmt: skip
"""How many operands each fn of a map takes: a drain a contraction alone, or with scale, bias, lo, hi and zero."""
ALONG = ("iota", "sort", "scan_sum", "scan_prod", "scan_max", "scan_min")
"""Fns of maps that run along an axis."""
FOLDS = ("sum", "prod", "max", "min", "and", "or", "arg_max", "arg_min")
INDICES = (DType.i32, DType.i64)


def verify_kernels(kernels: Iterable[k.KernelSpec], stage: str = "forming kernels") -> None:
    """Checks every kernel and what they leave for one another. `VerifyError` names kernel and tile."""
    stored: set[k.Buffer] = set()
    for kernel in kernels:
        verify_kernel(kernel, stage)
        for op in kernel.ops:
            if not isinstance(op, k.LoadTile | k.StoreTile):
                continue
            buffer = op.access.buffer
            if isinstance(op, k.LoadTile) and buffer.role in ("temporary", "output") and buffer not in stored:
                raise VerifyError(stage, f"{kernel.name}: {op.out.name}", f"{buffer.name} is read before it is stored")
        stored.update(op.access.buffer for op in kernel.ops if isinstance(op, k.StoreTile))


def verify_kernel(kernel: k.KernelSpec, stage: str = "forming kernels") -> None:
    """Raises `VerifyError` naming the kernel, the tile and the invariant that does not hold."""
    _Verifier(kernel, stage).run()


class _Verifier:
    def __init__(self, kernel: k.KernelSpec, stage: str) -> None:
        self.kernel, self.stage = kernel, stage
        self.axes = frozenset(kernel.layout)
        self.defined: dict[k.Tile, k.KernelOp] = {}
        self.names: set[str] = set()

    def fail(self, what: str, tile: k.Tile | None = None) -> VerifyError:
        return VerifyError(self.stage, f"{self.kernel.name}: {tile.name}" if tile else self.kernel.name, what)

    def run(self) -> None:
        self.check_axes()
        for op in self.kernel.ops:
            for tile in k.sources_of(op):
                if tile not in self.defined:
                    raise self.fail("read before it is defined", tile)
            self.check(op)
            if not isinstance(op, k.StoreTile):
                self.define(op.out, op)
        self.check_reduced()

    # ---- axes and indices

    def check_axes(self) -> None:
        kernel = self.kernel
        if len(self.axes) != len(kernel.layout) or len({a.name for a in kernel.layout}) != len(kernel.layout):
            raise self.fail("the layout names an axis twice")
        if short := [a.name for a in kernel.layout if a.extent < 1]:
            raise self.fail(f"axis {short[0]} has no elements")
        sets = {"resident": kernel.resident, "sequential": kernel.sequential,
                "ordered": kernel.ordered}  # fmt: skip
        for name, held in sets.items():
            if foreign := held - self.axes:
                raise self.fail(f"{name} axis {next(iter(foreign)).name} is not of the layout")
        if both := kernel.sequential & (kernel.resident | kernel.ordered):
            raise self.fail(f"axis {next(iter(both)).name} is sequential and resident or ordered too")

    def check_index(self, index: tuple[k.DimIndex, ...], tile: k.Tile) -> None:
        for dim in index:
            for axis, coef in dim.terms:
                if axis not in self.axes:
                    raise self.fail(f"axis {axis.name} is not of the layout", tile)
                if coef < 1:
                    raise self.fail(f"axis {axis.name} has the coefficient {coef}", tile)
            if len(dim.terms) > 1 and len({a for a, _ in dim.terms}) != len(dim.terms):
                raise self.fail("a dimension names an axis twice", tile)

    def define(self, tile: k.Tile, op: k.KernelOp) -> None:
        if tile in self.defined:
            raise self.fail("defined twice", tile)
        if tile.name in self.names:
            raise self.fail("two tiles have this name", tile)
        self.names.add(tile.name)
        self.defined[tile] = op
        self.check_index(tile.index, tile)
        if isinstance(op, k.LoadTile) or all(_alone(dim) for dim in tile.index):
            return
        sources = [t.index for t in k.sources_of(op)]
        if not isinstance(op, k.Map) or any(index != tile.index for index in sources):
            raise self.fail("a computed tile is indexed by more than single axes", tile)

    # ---- ops

    def check(self, op: k.KernelOp) -> None:
        match op:
            case k.LoadTile():
                self.check_access(op.access, op.out)
                if op.out.dtype is not op.access.dtype:
                    raise self.fail(f"{op.out.dtype.value} loaded from {op.access.dtype.value}", op.out)
                if op.out.index != tuple(i for i in op.access.index if i.terms):
                    raise self.fail("its index is not that of its access", op.out)
            case k.Contract():
                self.check_contract(op)
            case k.Map():
                self.check_map(op)
            case k.Fold():
                self.check_fold(op)
            case k.StoreTile():
                self.check_store(op)
            case _:
                assert_never(op)

    def check_access(self, access: k.Access, tile: k.Tile) -> None:
        buffer, rank = access.buffer, len(access.index)
        if len(access.extents) != rank or len(access.strides) != rank:
            raise self.fail(f"{len(access.extents)} extents and {len(access.strides)} strides for {rank} indices", tile)
        if buffer.role not in ROLES or (buffer.role == "constant") != (buffer.data is not None):
            contents = "no contents" if buffer.data is None else "contents"
            raise self.fail(f"{buffer.role} {buffer.name} has {contents}", tile)
        if access.dtype.bytes != buffer.dtype.bytes:
            raise self.fail(f"bytes of {buffer.dtype.value} taken for {access.dtype.value}", tile)
        self.check_index(access.index, tile)
        if all(n > 0 for n in access.extents):
            ends = [(n - 1) * s for n, s in zip(access.extents, access.strides, strict=True)]
            low, high = access.offset + sum(e for e in ends if e < 0), access.offset + sum(e for e in ends if e > 0)
            if low < 0 or high >= prod(buffer.shape):
                raise self.fail(f"elements {low} to {high} of {buffer.name}, which has {prod(buffer.shape)}", tile)
        if access.gather is not None:
            self.check_gather(access, access.gather[0], access.gather[1])

    def check_gather(self, access: k.Access, dim: int, listed: k.Tile) -> None:
        if not 0 <= dim < len(access.index):
            raise self.fail(f"a gather along dimension {dim} of {len(access.index)}", listed)
        if listed.dtype not in INDICES or len(listed.index) > 1:
            raise self.fail("an index list is one row of i32 or i64", listed)
        if _terms(listed.index) != _terms(access.index[dim : dim + 1]):
            raise self.fail("an index list has not the index of the gathered dimension", listed)

    def check_contract(self, op: k.Contract) -> None:
        for a, b in op.pairs:
            if (a.index, b.index) != (op.a.index, op.b.index):
                raise self.fail("the pairs have different indices", op.out)
            if a.dtype.is_int != b.dtype.is_int or a.dtype.is_float != b.dtype.is_float:
                raise self.fail(f"{a.dtype.value} times {b.dtype.value}", op.out)
        union = {*op.a.axes, *op.b.axes}
        if not set(op.reduce) <= union or len(set(op.reduce)) != len(op.reduce):
            raise self.fail("reduces an axis that no operand has, or one twice", op.out)
        if set(op.out.axes) != union - set(op.reduce):
            raise self.fail("its axes are not its operands' without the reduced ones", op.out)
        if op.out.dtype not in ((DType.i32, DType.i64) if op.a.dtype.is_int else (DType.f32,)):
            raise self.fail(f"{op.a.dtype.value} accumulated in {op.out.dtype.value}", op.out)

    def check_map(self, op: k.Map) -> None:
        if len(op.srcs) not in ARITY.get(op.fn, ()):
            raise self.fail(f"{op.fn} of {len(op.srcs)} operands", op.out)
        tiles = k.sources_of(op)
        if (op.along is not None) != (op.fn in ALONG) or (op.along and op.along not in self.kernel.resident):
            raise self.fail(f"{op.fn} along {op.along.name if op.along else 'no axis'}", op.out)
        if op.along and (op.along not in op.out.axes or any(t.index != op.out.index for t in tiles[1:])):
            raise self.fail("runs along an axis that it or what it reorders has not", op.out)
        if not (tiles or op.fn == "iota") or not {a for t in tiles for a in t.axes} <= set(op.out.axes):
            raise self.fail("an operand has an axis that it has not, or none is a tile", op.out)
        if op.fn == "move" and tiles[0].dtype is not op.out.dtype:
            raise self.fail(f"{tiles[0].dtype.value} moved to {op.out.dtype.value}", op.out)
        if op.fn == "drain" and (op.srcs[0] is not tiles[0] or tiles[0].dtype not in (DType.f32, DType.i32)):
            raise self.fail("a drain starts at accumulators of f32 or i32", op.out)

    def check_fold(self, op: k.Fold) -> None:
        if op.fn not in FOLDS:
            raise self.fail(f"no fold is called {op.fn}", op.out)
        if not op.reduce or not set(op.reduce) <= set(op.src.axes) or len(set(op.reduce)) != len(op.reduce):
            raise self.fail("reduces nothing, an axis that its source has not, or one twice", op.out)
        if set(op.out.axes) != set(op.src.axes) - set(op.reduce):
            raise self.fail("its axes are not its source's without the reduced ones", op.out)
        if op.fn.startswith("arg_") and not op.out.dtype.is_int:
            raise self.fail(f"positions as {op.out.dtype.value}", op.out)

    def check_store(self, op: k.StoreTile) -> None:
        self.check_access(op.access, op.src)
        if any(len(i.terms) > 1 or any(coef != 1 for _, coef in i.terms) for i in op.access.index):
            raise self.fail("stored to dimensions that are not single axes", op.src)
        if not set(op.src.axes) <= set(k.axes_of(op.access.index)):
            raise self.fail("stored without one of its axes", op.src)
        if op.src.dtype.bytes != op.access.dtype.bytes:
            raise self.fail(f"{op.src.dtype.value} stored as {op.access.dtype.value}", op.src)
        if op.access.buffer.role in ("input", "constant"):
            raise self.fail(f"stored to {op.access.buffer.role} {op.access.buffer.name}", op.src)

    # ---- reductions

    def check_reduced(self) -> None:
        kernel = self.kernel
        reducing: dict[k.Axis, list[k.Contract | k.Fold]] = {}
        for op in kernel.ops:
            if isinstance(op, k.Contract | k.Fold):
                for axis in op.reduce:
                    reducing.setdefault(axis, []).append(op)
        for axis, ops in reducing.items():
            if axis not in kernel.resident and axis not in kernel.sequential:
                raise self.fail(f"reduced axis {axis.name} is neither resident nor sequential", ops[0].out)
        for axis in kernel.sequential:
            ops = reducing.get(axis, [])
            if len(ops) != 1 or (isinstance(ops[0], k.Fold) and ops[0].fn.startswith("arg_")):
                raise self.fail(f"sequential axis {axis.name} is not reduced by one op that may take chunks")
            seen = [op for op in kernel.ops if isinstance(op, k.StoreTile) and axis in op.src.axes]
            if seen:
                raise self.fail(f"stored along the sequential axis {axis.name}", seen[0].src)


def _alone(dim: k.DimIndex) -> bool:
    return len(dim.terms) == 1 and dim.terms[0][1] == 1 and dim.offset == 0


def _terms(index: tuple[k.DimIndex, ...]) -> tuple[tuple[tuple[k.Axis, int], ...], ...]:
    return tuple(i.terms for i in index if i.terms)
