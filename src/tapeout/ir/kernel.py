"""Kernels: affine loop nests over named axes, with every intermediate tile in local memory.

A kernel owns a set of axes. A `Tile` is a tensor inside the kernel; each of its dimensions is indexed by an affine
function of axes (`DimIndex`): one axis for everything computed, a window such as `2*oh + kh - 3` for what is loaded.
Ops run in order for one point of the parallel axes' tiles; which axes are cut, how far and in which order is the
schedule's business alone. Buffers are tensors in memory between kernels; an `Access` is a strided view of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from tapeout.ir.mapped import empty, let_go, made_of, packed
from tapeout.ir.types import DType


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One loop dimension. `extent` is its whole length."""

    name: str
    extent: int


@dataclass(frozen=True, slots=True)
class DimIndex:
    """`offset + sum(coef * axis)`."""

    terms: tuple[tuple[Axis, int], ...] = ()
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Packing:
    """A strided view of a constant, tile by tile: element i of the view is at `offset + sum(i[d] * strides[d])`; it is
    cut into tiles of `tile` elements, ragged ones filled up with `fill`; each tile is packed, has room for `room`
    elements, and they follow one another in row-major order."""

    extents: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    tile: tuple[int, ...]
    room: int
    fill: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Tiles along each dimension, and the room of one."""
        return (*(-(-n // t) for n, t in zip(self.extents, self.tile, strict=True)), self.room)

    def tiles(self, flat: np.ndarray) -> np.ndarray:
        """The tiles of the view of an array in one dimension: that itself where they lie so already."""
        size, rank, counts = flat.itemsize, len(self.extents), self.shape[:-1]
        steps = [s * size for s in self.strides]
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.extents, steps, writeable=False)
        used = prod(self.tile)
        whole = all(c * t == n for n, c, t in zip(self.extents, counts, self.tile, strict=True))
        if whole and used == self.room and view.flags.c_contiguous and prod(counts[1:]) == 1:
            return view.reshape(self.shape)
        if not rank:
            view, counts = view.reshape(1), (1,)
        extents, tile = view.shape, self.tile or (1,)
        out = empty((*counts, self.room), flat.dtype)
        order = (*range(1, 2 * len(tile) - 1, 2), 0, *range(2, 2 * len(tile) - 1, 2))
        for n in range(counts[0]):
            piece = view[n * tile[0] : (n + 1) * tile[0]]
            ragged = [(0, c * t - e) for e, c, t in zip(extents, counts, tile, strict=True)]
            ragged[0] = (0, tile[0] - len(piece))
            if any(after for _, after in ragged):
                piece = np.pad(piece, ragged, constant_values=flat.dtype.type(self.fill))
            split = piece.reshape(tile[0], *(m for pair in zip(counts[1:], tile[1:], strict=True) for m in pair))
            out[n, ..., :used] = split.transpose(order).reshape(*counts[1:], used)
            out[n, ..., used:] = 0
            let_go(flat)
            let_go(out)
        return out.reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """A tensor that lives between kernels: `shape` is its physical row-major shape.

    role: input, output, constant, state or temporary; `data` is a constant's contents in any layout, `order` the
    permutation of its dimensions that gives the physical shape (None: as it is).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    role: str
    data: np.ndarray | None = field(default=None, repr=False)
    order: tuple[int, ...] | None = None
    part: int = -1
    """At least 0: what is meant is this part of `data` in `dtype` (see `physical`)."""
    space: int = 0
    """Where it lies: 0 in DRAM, s in the (s-1)-th software-managed memory that cores share."""
    packing: Packing | None = None
    """Which tiles of `data` in that order make up the buffer, where it does not hold all as it is."""

    @property
    def bytes(self) -> int:
        count = self.dtype.bytes
        for n in self.shape:
            count *= n
        return count


def physical(buffer: Buffer) -> np.ndarray:
    """A constant's array in its physical order, packed, or its tiles. Part n of x is what is left of
    x - part 0 - .. - part n-1."""
    assert buffer.data is not None
    data = buffer.data if buffer.order is None else buffer.data.transpose(buffer.order)
    found = packed(data) if buffer.part < 0 else made_of(data, buffer.dtype.numpy, _part(buffer))
    return found if buffer.packing is None else buffer.packing.tiles(found.reshape(-1))


def _part(buffer: Buffer) -> Callable[[slice, np.ndarray], np.ndarray]:
    def part(_: slice, piece: np.ndarray) -> np.ndarray:
        rest = np.asarray(piece, dtype=np.float32)
        made = rest.astype(buffer.dtype.numpy)
        for _number in range(buffer.part):
            rest = rest - made.astype(np.float32)
            made = rest.astype(buffer.dtype.numpy)
        return made

    return part


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """A strided view of a buffer and how axes index it: element i is at `offset + sum(i[d] * strides[d])` elements.

    Outside the extents it reads `fill` and writes nothing. With `gather = (d, list)` the coordinate of dimension d is
    taken from the index list (a 1-d access of integers) at that dimension's index.
    """

    buffer: Buffer
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    index: tuple[DimIndex, ...]
    fill: float = 0.0
    gather: tuple[int, Tile] | None = None
    read_as: DType | None = None
    """The element type that the bytes are taken for, where it is not the buffer's own (of the same size)."""

    @property
    def dtype(self) -> DType:
        return self.read_as or self.buffer.dtype


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A tensor inside a kernel."""

    name: str
    dtype: DType
    index: tuple[DimIndex, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that index it, each once, in order of first use."""
        return axes_of(self.index)


def axes_of(index: Iterable[DimIndex]) -> tuple[Axis, ...]:
    return tuple(dict.fromkeys(axis for dim in index for axis, _ in dim.terms))


@dataclass(frozen=True, slots=True, eq=False)
class LoadTile:
    """out = the access."""

    out: Tile
    access: Access


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """out = sum over the pairs (a, b) and over `reduce` of a * b, accumulated in f32 or i32.

    out's axes are those of a and b without `reduce`; all pairs have the same index. More than one pair stands for
    operands split into narrower parts. `vector` contractions run on the vector unit.
    """

    out: Tile
    pairs: tuple[tuple[Tile, Tile], ...]
    reduce: tuple[Axis, ...]
    vector: bool = False
    source: str = ""

    @property
    def a(self) -> Tile:
        return self.pairs[0][0]

    @property
    def b(self) -> Tile:
        return self.pairs[0][1]


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """out = fn(srcs) element by element; a source without one of out's axes repeats along it. fn: a vector op.

    Scans, `iota` and `sort` run along the axis `along`, which lies in a tile whole; `sort` reorders its second source
    too.
    """

    out: Tile
    fn: str
    srcs: tuple[Tile | float, ...]
    source: str = ""
    along: Axis | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """out = fn (sum, prod, max, min, and, or, arg_max, arg_min) of src over `reduce`, all of out's axes being src's."""

    out: Tile
    fn: str
    src: Tile
    reduce: tuple[Axis, ...]
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StoreTile:
    """access = src; `add` accumulates instead (scatter-add)."""

    src: Tile
    access: Access
    add: bool = False


KernelOp = LoadTile | Contract | Map | Fold | StoreTile


@dataclass(frozen=True, slots=True, eq=False)
class KernelSpec:
    """A kernel: ops in order, and `layout`, the order of all axes from outermost to innermost in local tiles."""

    name: str
    ops: tuple[KernelOp, ...]
    layout: tuple[Axis, ...]
    resident: frozenset[Axis]
    """Axes that must lie in a tile whole."""
    sequential: frozenset[Axis]
    """Axes that are reduced and may be cut into chunks inside one stage."""
    ordered: frozenset[Axis] = frozenset()
    """Axes whose tiles one core must store one after the other (index lists that may name a row twice)."""

    @property
    def parallel(self) -> tuple[Axis, ...]:
        """Axes that may be cut into tiles, in layout order."""
        return tuple(a for a in self.layout if a not in self.resident and a not in self.sequential)

    @property
    def spreadable(self) -> tuple[Axis, ...]:
        """Parallel axes that different cores may work on."""
        return tuple(a for a in self.parallel if a not in self.ordered)


def sources_of(op: KernelOp) -> tuple[Tile, ...]:
    """The tiles that an op reads."""
    match op:
        case LoadTile():
            return (op.access.gather[1],) if op.access.gather else ()
        case Contract():
            return tuple(tile for pair in op.pairs for tile in pair)
        case Map():
            return tuple(s for s in op.srcs if isinstance(s, Tile))
        case Fold():
            return (op.src,)
        case StoreTile():
            return (op.src, op.access.gather[1]) if op.access.gather else (op.src,)
