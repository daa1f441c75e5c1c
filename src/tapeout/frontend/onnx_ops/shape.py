"""Movement: everything that only rearranges, repeats, cuts or makes elements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tapeout.frontend.onnx_ops.call import Call, Handler, Item, table
from tapeout.frontend.onnx_proto import Array
from tapeout.ir import graph as g
from tapeout.ir.build import broadcast_shapes
from tapeout.ir.types import Dim, DType, TensorType, dim_add, dim_div, dim_mul, dim_range, dim_sub, product


def constant(c: Call) -> g.Value:
    attributes = c.node.attributes
    if "value" in attributes:
        return c.b.constant(c.attr_array("value"))
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return c.b.constant(np.array(attributes[key], dtype))
    raise c.unsupported("without a dense numeric value", "store it as a tensor")


def shape_of(c: Call) -> g.Value:
    shape = c.x().type.shape
    return c.b.dims(shape[slice(c.attr_int("start", 0), c.attr_int("end", len(shape)))])


def resolve_shape(c: Call, given: Sequence[Dim], old: Sequence[Dim], allow_zero: bool) -> list[Dim]:
    """Target of a reshape with 0 (the old extent) and -1 (what is left) replaced."""
    target = [old[i] if d == 0 and not allow_zero else d for i, d in enumerate(given)]
    if -1 not in target:
        return target
    rest, left = [d for d in target if d != -1], list(old)
    for d in list(rest):  # equal symbolic extents cancel; what remains is affine more often
        if d in left:
            rest.remove(d)
            left.remove(d)
    known = product(rest)
    if not isinstance(known, int):
        raise c.unsupported(f"to [{', '.join(map(str, given))}] of symbolic extents", "pin them with shapes=")
    target[target.index(-1)] = dim_div(product(left), known) if known else 0
    return target


def reshape(c: Call) -> g.Value:
    x = c.x(0)
    return c.b.reshape(x, resolve_shape(c, c.dims(1), x.type.shape, c.flag("allowzero")))


def flatten(c: Call) -> g.Value:
    shape = c.x().type.shape
    axis = c.attr_int("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return c.b.reshape(c.x(), (product(shape[:axis]), product(shape[axis:])))


def squeeze(c: Call) -> g.Value:
    x = c.x()
    axes = c.axes(x.type.rank)
    if axes is None:
        axes = [i for i, d in enumerate(x.type.shape) if d == 1]
    if any(x.type.shape[a] != 1 for a in axes):
        raise c.invalid(f"of axes {axes} of {x.type}, which are not 1")
    return c.b.reshape(x, [d for i, d in enumerate(x.type.shape) if i not in axes])


def unsqueeze(c: Call) -> g.Value:
    x = c.x()
    given = c.ints(1) if c.has(1) else c.attr_ints("axes") or []
    axes = c.axes(x.type.rank + len(given)) or []
    if len(set(axes)) < len(axes):
        raise c.invalid(f"repeats one of the axes {axes}")
    dims = iter(x.type.shape)
    return c.b.reshape(x, [1 if i in axes else next(dims) for i in range(x.type.rank + len(axes))])


def transpose(c: Call) -> g.Value:
    return c.b.transpose(c.x(), c.attr_ints("perm") or range(c.x().type.rank)[::-1])


def expand(c: Call) -> g.Value:
    x = c.x(0)
    return c.b.broadcast_to(x, broadcast_shapes(x.type.shape, tuple(c.dims(1))))


def tile(c: Call) -> g.Value:
    """Each dimension d becomes [repeats, d], which then merge."""
    x, repeats = c.x(0), c.dims(1)
    split = [d for pair in zip(repeats, x.type.shape, strict=True) for d in pair]
    merged = [dim_mul(r, d) for r, d in zip(repeats, x.type.shape, strict=True)]
    return c.b.reshape(c.b.broadcast(x, split, range(1, len(split), 2)), merged)


def concat(c: Call) -> g.Value:
    xs = c.xs()
    axis = c.axis(0, xs[0].type.rank)
    return c.b.concat([x for x in xs if x.type.shape[axis] != 0] or xs[:1], axis)


# ---- cutting


def _clamped(c: Call, at: Dim, extent: Dim, lowest: int) -> Dim:
    """`at`, counted from the end where negative, moved into lowest..extent."""
    lo, hi = dim_range(at, c.b.symbols)
    if isinstance(at, int) and at < 0:
        at = dim_add(at, extent)
        lo, hi = dim_range(at, c.b.symbols)
        if hi < 0:
            return lowest
        if lo < 0 and isinstance(at, int):
            return max(at, lowest)
    elif lo < 0 and hi >= 0:
        raise c.unsupported(f"bound {at} of unknown sign", "pin the symbols with shapes=")
    over_lo, over_hi = dim_range(dim_sub(at, extent), c.b.symbols)
    if over_hi <= 0:
        return at
    if over_lo >= 0:
        return extent
    if isinstance(at, int) and at >= 1 << 30:
        return extent
    raise c.unsupported(f"bound {at} of the extent {extent}", "pin the symbols with shapes=")


def _bounds(c: Call, start: Dim, end: Dim, step: int, extent: Dim) -> tuple[Dim, Dim]:
    """First element and count of one sliced dimension."""
    if isinstance(start, int) and isinstance(end, int) and isinstance(extent, int):
        taken = range(*slice(start, end, step).indices(extent))
        return (taken.start if taken else 0), len(taken)
    if step == 1:
        first, last = _clamped(c, start, extent, 0), _clamped(c, end, extent, 0)
        size = dim_sub(last, first)
        if dim_range(size, c.b.symbols)[0] < 0:
            raise c.unsupported(f"of {size} elements, perhaps none", "pin the symbols with shapes=")
        return first, size
    whole = isinstance(start, int) and (start == -1 or start >= 1 << 30) and isinstance(end, int) and end < -(1 << 30)
    if step == -1 and whole:
        return dim_sub(extent, 1), extent
    raise c.unsupported(f"[{start}:{end}:{step}] of the extent {extent}", "pin the symbols with shapes=")


def slice_(c: Call) -> g.Value:
    x = c.x()
    rank = x.type.rank
    if c.opset < 10:
        begin, end = c.attr_ints("starts") or [], c.attr_ints("ends") or []
        axes, steps = c.attr_ints("axes"), None
    else:
        begin, end = c.dims(1), c.dims(2)
        axes, steps = c.ints(3) if c.has(3) else None, c.ints(4) if c.has(4) else None
    axes = [c.wrap(a, rank) for a in (range(len(begin)) if axes is None else axes)]
    starts: list[Dim] = [0] * rank
    sizes, all_steps = list(x.type.shape), [1] * rank
    for axis, lo, hi, step in zip(axes, begin, end, steps or [1] * len(axes), strict=True):
        all_steps[axis] = step
        starts[axis], sizes[axis] = _bounds(c, lo, hi, step, x.type.shape[axis])
    return c.b.slice(x, starts, sizes, all_steps)


def split(c: Call) -> list[g.Value]:
    x = c.x()
    axis = c.axis(0, x.type.rank)
    extent = x.type.shape[axis]
    sizes = c.dims(1) if c.has(1) else c.attr_ints("split")
    if not sizes:
        count = c.attr_int("num_outputs", len(c.node.outputs))
        if not isinstance(extent, int):
            raise c.unsupported(f"of the symbolic extent {extent}", "pin it with shapes=")
        chunk = -(-extent // count)
        sizes = [max(0, min(chunk, extent - i * chunk)) for i in range(count)]
    return pieces(c, x, axis, sizes)


def pieces(c: Call, x: g.Value, axis: int, sizes: Sequence[Dim]) -> list[g.Value]:
    """x cut along `axis` into pieces of the given sizes."""
    parts: list[g.Value] = []
    at: Dim = 0
    for size in sizes:
        starts: list[Dim] = [at if i == axis else 0 for i in range(x.type.rank)]
        parts.append(c.b.slice(x, starts, [size if i == axis else d for i, d in enumerate(x.type.shape)]))
        at = dim_add(at, size)
    if at != x.type.shape[axis]:
        raise c.invalid(f"into {list(sizes)} does not cover the extent {x.type.shape[axis]}")
    return parts


def pad(c: Call) -> g.Value:
    x, rank = c.x(), c.x().type.rank
    pads = c.ints(1) if c.has(1) else c.attr_ints("pads") or []
    axes = [c.wrap(a, rank) for a in c.ints(3)] if c.has(3) else list(range(len(pads) // 2))
    lo, hi = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        lo[axis], hi[axis] = pads[i], pads[len(axes) + i]
    mode = c.attr_text("mode", "constant")
    if mode != "constant":
        return _pad_by_index(c, x, lo, hi, mode)
    if not any(lo) and not any(hi):
        return x
    fill = c.b.reshape(c.x(2), ()) if c.has(2) else c.b.scalar(c.attr_float("value", 0.0), x.type.dtype)
    return c.b.emit(g.Pad(x, fill, tuple(lo), tuple(hi)))[0]


def _pad_by_index(c: Call, x: g.Value, lo: Sequence[int], hi: Sequence[int], mode: str) -> g.Value:
    """Padding that repeats elements is a gather of constant positions."""
    for axis, (before, after) in enumerate(zip(lo, hi, strict=True)):
        if before or after:
            kept = range(x.type.static_shape[axis])[max(0, -before) : min(0, after) or None]
            padding = (max(0, before), max(0, after))
            x = c.b.gather(x, c.b.constant(_repeated(c, np.array(kept), padding, mode)), axis)
    return x


def _repeated(c: Call, places: Array, padding: tuple[int, int], mode: str) -> Array:
    match mode:
        case "reflect":
            return np.pad(places, padding, "reflect")
        case "edge":
            return np.pad(places, padding, "edge")
        case "wrap":
            return np.pad(places, padding, "wrap")
        case _:
            raise c.unsupported(f"in mode {mode}", "use constant, reflect, edge or wrap")


# ---- rearranging


def depth_to_space(c: Call) -> g.Value:
    x, s = c.x(), c.attr_int("blocksize", 1)
    n, channels, h, w = x.type.shape
    depth = dim_div(channels, s * s)
    if c.attr_text("mode", "DCR") == "DCR":
        x = c.b.transpose(c.b.reshape(x, (n, s, s, depth, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        x = c.b.transpose(c.b.reshape(x, (n, depth, s, s, h, w)), (0, 1, 4, 2, 5, 3))
    return c.b.reshape(x, (n, depth, dim_mul(h, s), dim_mul(w, s)))


def space_to_depth(c: Call) -> g.Value:
    x, s = c.x(), c.attr_int("blocksize", 1)
    n, channels, h, w = x.type.shape
    h, w = dim_div(h, s), dim_div(w, s)
    order = (0, 3, 5, 1, 2, 4) if c.attr_text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    x = c.b.transpose(c.b.reshape(x, (n, channels, h, s, w, s)), order)
    return c.b.reshape(x, (n, dim_mul(channels, s * s), h, w))


def reverse_sequence(c: Call) -> g.Value:
    """The first `lengths[b]` elements along time of each batch row in reverse order."""
    x, lengths = c.x(0), c.x(1)
    batch, time = c.attr_int("batch_axis", 1), c.attr_int("time_axis", 0)
    rest = [i for i in range(x.type.rank) if i not in (batch, time)]
    order = [batch, time, *rest]
    rows = c.b.transpose(x, order)
    grid = TensorType(DType.i64, rows.type.shape[:2])
    at = c.b.iota(grid, 1)
    length = c.b.reshape(c.b.convert(lengths, DType.i64), (rows.type.shape[0], 1))
    mirrored = c.b.binary_scalar("sub", c.b.sub(length, at), 1)
    index = c.b.select(c.b.compare("lt", at, length), mirrored, at)
    return c.b.transpose(c.b.gather(rows, index, 1, batch=1), [order.index(i) for i in range(x.type.rank)])


def trilu(c: Call) -> g.Value:
    x = c.x()
    k = int(c.number(1, 0))
    plane = TensorType(DType.i64, x.type.shape[-2:])
    row, column = c.b.iota(plane, 0), c.b.iota(plane, 1)
    diagonal = c.b.binary_scalar("add", row, k)
    kept = c.b.compare("ge" if c.flag("upper", True) else "le", column, diagonal)
    return c.b.select(kept, x, c.b.scalar(0, x.type.dtype))


# ---- making


def range_(c: Call) -> g.Value:
    """start + delta * i; in steps of 1 the limit may be symbolic."""
    start, delta, dtype = c.number(0, 0), c.number(2, 1), c.x(0).type.dtype
    known = c.known(1)
    if known is not None:
        count: Dim = max(0, math.ceil((known.reshape(()).item() - start) / delta))
    elif delta == 1:
        count = dim_sub(c.dims(1)[0], int(start))
    else:
        raise c.unsupported(f"to {c.dims(1)[0]} in steps of {delta}", "pin the symbols with shapes=")
    out = c.b.iota(TensorType(dtype, (count,)), 0)
    out = c.b.binary_scalar("mul", out, delta) if delta != 1 else out
    return c.b.binary_scalar("add", out, start) if start else out


def constant_of_shape(c: Call) -> g.Value:
    fill: Array = c.attr_array("value") if "value" in c.node.attributes else np.zeros(1, np.float32)
    shape = [] if c.x().type.shape == (0,) else c.dims(0)
    return c.b.broadcast(c.b.constant(fill.reshape(())), shape, ())


def eye_like(c: Call) -> g.Value:
    shape = c.x().type.shape
    dtype = c.attr_dtype("dtype", c.x().type.dtype)
    plane = TensorType(DType.i64, shape)
    diagonal = c.b.binary_scalar("add", c.b.iota(plane, 0), c.attr_int("k", 0))
    return c.b.convert(c.b.compare("eq", diagonal, c.b.iota(plane, 1)), dtype)


def one_hot(c: Call) -> g.Value:
    indices, depth, values = c.x(0), int(c.number(1, 0)), c.x(2)
    axis = c.wrap(c.attr_int("axis", -1), indices.type.rank + 1)
    place = c.b.convert(indices, DType.i64)
    wrapped = c.b.select(
        c.b.compare("lt", place, c.b.scalar(0, DType.i64)), c.b.binary_scalar("add", place, depth), place
    )
    shape = [*indices.type.shape[:axis], depth, *indices.type.shape[axis:]]
    place = c.b.reshape(wrapped, [1 if i == axis else d for i, d in enumerate(shape)])
    hit = c.b.compare("eq", c.b.iota(TensorType(DType.i64, tuple(shape)), axis), place)
    off, on = (c.b.reshape(c.b.slice_axis(values, 0, i, i + 1), ()) for i in (0, 1))
    return c.b.select(hit, on, off)


def dropout(c: Call) -> Sequence[Item]:
    """Inference passes everything; so does training at ratio 0."""
    if c.opset >= 12 and c.has(2) and bool(c.number(2, 0)) and c.number(1, 0.5) != 0:
        raise c.unsupported("in training mode draws random numbers", "export the model for inference")
    x = c.x()
    mask = DType.b1 if c.opset >= 10 else x.type.dtype
    return [x, c.b.full(1, x.type.with_dtype(mask))][: len(c.node.outputs)]


def size(c: Call) -> g.Value:
    return c.b.dim(product(c.x().type.shape))


OPS: Mapping[tuple[str, str], Handler] = table(
    Constant=constant,
    Identity=lambda c: c.items[0],
    Shape=shape_of,
    Size=size,
    Reshape=reshape,
    Flatten=flatten,
    Squeeze=squeeze,
    Unsqueeze=unsqueeze,
    Transpose=transpose,
    Expand=expand,
    Tile=tile,
    Concat=concat,
    Slice=slice_,
    Split=split,
    Pad=pad,
    DepthToSpace=depth_to_space,
    SpaceToDepth=space_to_depth,
    ReverseSequence=reverse_sequence,
    Trilu=trilu,
    Range=range_,
    ConstantOfShape=constant_of_shape,
    EyeLike=eye_like,
    OneHot=one_hot,
    Dropout=dropout,
)
