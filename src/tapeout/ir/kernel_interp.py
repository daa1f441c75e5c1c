"""What kernels mean, in NumPy: each op on whole tiles, nothing cut, one kernel after the other.

Memory is a table of physical arrays by buffer. A tile holds one array dimension for each of its indices; `_spread`
shows it with one for each axis, so that a window such as `2*oh + kh - 3` appears once for every tap. Vector ops compute
in f32, or in i32 or i64 where all operands are integers, and round to the type of their result; sums are taken in any
order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

import numpy as np

from tapeout.ir import interp_math as m
from tapeout.ir import kernel as k
from tapeout.ir.special import Array
from tapeout.ir.types import DType

Memory = dict[k.Buffer, Array]
"""Contents of buffers in their physical shape."""
Source = k.Tile | float


def run_kernels(kernels: Iterable[k.KernelSpec], memory: Memory) -> None:
    """Runs all kernels in order on `memory`, which has the inputs and states; constants and temporaries are added.

    What nothing has written holds NaN (integers: -1).
    """
    with np.errstate(all="ignore"):
        for kernel in kernels:
            run_kernel(kernel, memory)


def run_kernel(kernel: k.KernelSpec, memory: Memory) -> None:
    """Runs one kernel. `memory` grows by the buffers that it touches and that were not there."""
    tiles: dict[k.Tile, Array] = {}
    for op in kernel.ops:
        match op:
            case k.LoadTile():
                tiles[op.out] = _load(op.access, tiles, memory)
            case k.Contract():
                tiles[op.out] = _contract(op, tiles)
            case k.Map():
                tiles[op.out] = _map(op, tiles)
            case k.Fold():
                tiles[op.out] = _fold(op, tiles)
            case k.StoreTile():
                _store(op, tiles, memory)
            case _:
                assert_never(op)


# ---- memory


def contents(buffer: k.Buffer, memory: Memory) -> Array:
    """The elements of a buffer in a row, shared with `memory`."""
    if buffer not in memory:
        memory[buffer] = k.physical(buffer) if buffer.data is not None else _unwritten(buffer)
    return memory[buffer].reshape(-1)


def _unwritten(buffer: k.Buffer) -> Array:
    return np.full(buffer.shape, np.nan if buffer.dtype.is_float else -1).astype(buffer.dtype.numpy)


def _extent(index: k.DimIndex) -> int:
    """Elements that a dimension covers when its axes run over their whole extents."""
    return 1 + sum(coef * (axis.extent - 1) for axis, coef in index.terms)


def _places(access: k.Access, tiles: dict[k.Tile, Array]) -> tuple[Array, Array]:
    """The element number of every element of the box, and which of them lie within the extents."""
    sizes = [_extent(i) for i in access.index]
    where, inside = np.full(sizes, access.offset, np.int64), np.ones(sizes, bool)
    for d, index in enumerate(access.index):
        along = index.offset + np.arange(sizes[d])
        if access.gather is not None and access.gather[0] == d:
            along = index.offset + tiles[access.gather[1]].astype(np.int64).reshape(-1)
        shape = [-1 if n == d else 1 for n in range(len(sizes))]
        where = where + (along * access.strides[d]).reshape(shape)
        inside = inside & ((along >= 0) & (along < access.extents[d])).reshape(shape)
    return where, inside


def _load(access: k.Access, tiles: dict[k.Tile, Array], memory: Memory) -> Array:
    where, inside = _places(access, tiles)
    dtype = access.dtype
    found = np.empty(where.shape, dtype.numpy)
    found[...] = m.convert(np.asarray(access.fill, np.float64), dtype.numpy)
    found[inside] = contents(access.buffer, memory).view(dtype.numpy)[where[inside]]
    return found.reshape([_extent(i) for i in access.index if i.terms])


def _store(op: k.StoreTile, tiles: dict[k.Tile, Array], memory: Memory) -> None:
    """Along an index list row after row: a row that is named twice is stored, or added, twice in turn."""
    access = op.access
    where, inside = _places(access, tiles)
    target = contents(access.buffer, memory).view(access.dtype.numpy)
    axes = tuple(i.terms[0][0] for i in access.index if i.terms)
    values = _spread(op.src, axes, tiles).reshape(where.shape).view(access.dtype.numpy)
    rows: Sequence[Any] = (...,)
    if access.gather is not None:
        where, inside, values = (np.moveaxis(x, access.gather[0], 0) for x in (where, inside, values))
        rows = range(len(where))
    for row in rows:
        at, new = where[row][inside[row]], values[row][inside[row]]
        target[at] = _added(target[at], new) if op.add else new


def _added(old: Array, new: Array) -> Array:
    return m.binary("add", old, new)


# ---- tiles


def _spread(tile: k.Tile, axes: Sequence[k.Axis], tiles: dict[k.Tile, Array]) -> Array:
    """A read-only view of a tile with one dimension for each of `axes`; it repeats along those that it has not."""
    held = tiles[tile]
    strides = dict.fromkeys(axes, 0)
    for index, stride in zip(tile.index, held.strides, strict=True):
        for axis, coef in index.terms:
            strides[axis] += coef * stride
    shape = [axis.extent for axis in axes]
    return np.lib.stride_tricks.as_strided(held, shape, [strides[a] for a in axes], writeable=False)


def compute_type(dtypes: Iterable[DType]) -> DType:
    """What the vector unit computes in when its operands and result have these types."""
    known = tuple(dtypes)
    if any(t.is_float for t in known):
        return DType.f32
    return DType.i64 if any(t.bytes == 8 or t is DType.u32 for t in known) else DType.i32


def _contract(op: k.Contract, tiles: dict[k.Tile, Array]) -> Array:
    label = {axis: n for n, axis in enumerate(dict.fromkeys((*op.a.axes, *op.b.axes)))}
    axes = [index.terms[0][0] for index in op.out.index]
    total = np.zeros([axis.extent for axis in axes], op.out.dtype.numpy)
    for pair in op.pairs:
        wide = {tile: m.convert(tiles[tile], op.out.dtype.numpy) for tile in pair}
        operands: list[Any] = []
        for tile in pair:
            operands += [_spread(tile, tile.axes, wide), [label[a] for a in tile.axes]]
        total = total + np.einsum(*operands, [label[a] for a in axes], optimize=True)
    return total.astype(op.out.dtype.numpy, copy=False)


def _fold(op: k.Fold, tiles: dict[k.Tile, Array]) -> Array:
    axes = tuple(index.terms[0][0] for index in op.out.index)
    dtype = compute_type((op.out.dtype, op.src.dtype) if not op.fn.startswith("arg_") else (op.src.dtype,))
    x = m.convert(_spread(op.src, (*axes, *op.reduce), tiles), dtype.numpy)
    if op.fn.startswith("arg_"):
        flat = x.reshape(*x.shape[: len(axes)], -1)
        return m.convert(m.arg_reduce(op.fn.removeprefix("arg_"), flat, len(axes)), op.out.dtype.numpy)
    reduced = tuple(range(len(axes), x.ndim))
    return m.convert(m.reduce(op.fn, x, reduced), op.out.dtype.numpy)


# ---- element by element


def _map(op: k.Map, tiles: dict[k.Tile, Array]) -> Array:
    dtype = compute_type(t.dtype for t in (op.out, *k.sources_of(op)))
    windows = any(len(i.terms) != 1 or i.terms[0][1] != 1 or i.offset for i in op.out.index)
    axes = () if windows else tuple(i.terms[0][0] for i in op.out.index)
    sizes = [_extent(i) for i in op.out.index]

    def operand(source: Source) -> Array:
        if not isinstance(source, k.Tile):
            return np.broadcast_to(m.convert(np.asarray(source, np.float64), dtype.numpy), sizes)
        return m.convert(tiles[source] if windows else _spread(source, axes, tiles), dtype.numpy)

    if op.fn == "sort":
        return _sort(op, axes, tiles)
    if op.fn == "drain":
        return _drain(op, [operand(s) for s in op.srcs])
    srcs = [operand(s) for s in op.srcs]
    along = axes.index(op.along) if op.along else 0
    first = k.sources_of(op)[0].dtype if k.sources_of(op) else dtype
    unsigned = not first.is_float and not first.is_signed
    result = _apply(op.fn, srcs, along, op.out.dtype is DType.b1, unsigned)
    return m.convert(np.asarray(result), op.out.dtype.numpy)


def _apply(fn: str, srcs: list[Array], along: int, logical: bool, unsigned: bool) -> Array:
    """fn in the compute type that all of `srcs` have."""
    x, floats = srcs[0], m.is_float(srcs[0])
    match fn:
        case "copy" | "move":
            return x
        case "floor" | "ceil" | "round" if not floats:
            return x
        case "not" if logical or floats:
            return x == 0
        case "and" | "or" | "xor" if floats:
            return m.binary(fn, x != 0, srcs[1] != 0)
        case "eq" | "ne" | "lt" | "le" | "gt" | "ge":
            return m.compare(fn, x, srcs[1])
        case "shr" if unsigned:
            word = np.uint64 if x.dtype.itemsize == 8 else np.uint32
            return m.settle(m.binary("shr", x.astype(word), srcs[1].astype(word)), x.dtype)
        case "select":
            return np.where(x != 0, srcs[1], srcs[2])
        case "fma":
            return m.binary("add", m.binary("mul", x, srcs[1]), srcs[2])
        case "clamp":
            return np.minimum(np.maximum(x, srcs[1]), srcs[2])
        case "iota":
            count = [-1 if n == along else 1 for n in range(x.ndim)]
            return x + srcs[1] * np.arange(x.shape[along], dtype=x.dtype).reshape(count)
        case "scan_sum" | "scan_prod" | "scan_max" | "scan_min":
            return m.cumulate(fn.removeprefix("scan_"), x, along, exclusive=False, reverse=False)
        case _:
            return m.unary(fn, x) if len(srcs) == 1 else m.binary(fn, x, srcs[1])


def _drain(op: k.Map, srcs: list[Array]) -> Array:
    """convert(min(max(acc * scale + bias, lo), hi)) + zero: integers round to nearest even and saturate."""
    result, zero = srcs[0], np.zeros(())
    if len(srcs) == 6:
        _, scale, bias, lo, hi, zero = srcs
        result = srcs[0] * scale + bias
        result = np.where(result < lo, lo, result)
        result = np.where(result > hi, hi, result)
    if not op.out.dtype.is_float:
        result = np.rint(result.astype(np.float64)) + zero
    return m.convert(np.asarray(result), op.out.dtype.numpy)


def _sort(op: k.Map, axes: tuple[k.Axis, ...], tiles: dict[k.Tile, Array]) -> Array:
    """The keys in order; a second source is put into the same order where it lies."""
    assert op.along is not None
    along = axes.index(op.along)
    first, *moved = k.sources_of(op)
    keys = _spread(first, axes, tiles)
    order = np.argsort(m.lift(keys), axis=along, kind="stable")
    for tile in moved:
        tiles[tile] = np.take_along_axis(_spread(tile, axes, tiles), order, along)
    return m.convert(np.take_along_axis(keys, order, along), op.out.dtype.numpy)
