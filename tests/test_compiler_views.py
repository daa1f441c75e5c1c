"""Places against NumPy: whatever a view says about a buffer is what the op does to the array."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeout.compiler.views import Place, row_major, view, whole
from tapeout.ir import graph as g
from tapeout.ir.infer import infer
from tapeout.ir.interp import evaluate
from tapeout.ir.kernel import Buffer
from tapeout.ir.types import DType, TensorType

FILL = 7.0


def read(place: Place, shape: tuple[int, ...], flat: np.ndarray) -> np.ndarray:
    """The value at a place, element by element, by the docstring of `Place`."""
    out = np.empty(shape, flat.dtype)
    for i in np.ndindex(*shape):
        at = [n - s for n, s in zip(i, place.shifts, strict=True)]
        inside = all(0 <= n < e for n, e in zip(at, place.extents, strict=True))
        where = place.offset + sum(n * s for n, s in zip(at, place.strides, strict=True))
        assert not inside or 0 <= where < flat.size
        out[i] = flat[where] if inside else place.fill
    return out


@st.composite
def moves(draw: Callable, value: g.Value, fill: g.Value) -> g.Op:
    """A random view op of `value`."""
    shape, rank = value.type.static_shape, value.type.rank
    kind = draw(st.sampled_from("reshape transpose broadcast slice pad".split()))
    if kind == "transpose":
        return g.Transpose(value, tuple(draw(st.permutations(range(rank)))))
    if kind == "broadcast":
        new = [n if n != 1 else draw(st.integers(1, 2)) for n in shape]
        at = draw(st.integers(0, rank))
        return g.Broadcast(value, (*new[:at], 2, *new[at:]), (*range(at), *range(at + 1, rank + 1)))
    if kind == "slice":
        parts = [draw(_cut(n)) for n in shape]
        return g.Slice(value, *(tuple(p[i] for p in parts) for i in range(3)))
    if kind == "pad":
        lo = tuple(draw(st.integers(-n, 2)) for n in shape)
        hi = tuple(draw(st.integers(max(-2, -n - a), 2)) for n, a in zip(shape, lo, strict=True))
        return g.Pad(value, fill, lo, hi)
    return g.Reshape(value, draw(_split(value.type.elements)))


@st.composite
def _cut(draw: Callable, extent: int) -> tuple[int, int, int]:
    if not extent:
        return 0, 0, 1
    step = draw(st.sampled_from((1, 1, 2, -1, -2)))
    start = draw(st.integers(0, extent - 1))
    room = (extent - 1 - start if step > 0 else start) // abs(step) + 1
    return start, draw(st.integers(1, room)), step


@st.composite
def _split(draw: Callable, count: int) -> tuple[int, ...]:
    if not count:
        return (0,)
    parts: list[int] = []
    while count > 1 and len(parts) < 5:
        divisor = draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
        parts.append(divisor)
        count //= divisor
    return (*parts, count)


@settings(max_examples=400)
@given(st.data())
def test_views_are_what_the_ops_do(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=4)))
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    array = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    flat = np.ascontiguousarray(array.transpose(order)).reshape(-1)
    value = g.Value("x", TensorType(DType.f32, shape))
    fill = g.Value("fill", TensorType(DType.f32, ()))
    place = whole(Buffer("b", DType.f32, shape, "input"), shape, order)
    for _ in range(data.draw(st.integers(1, 4))):
        if value.type.elements > 2000:
            break
        op = data.draw(moves(value, fill))
        made = g.Value("y", infer(op)[0])
        op = type(op)(*(getattr(op, n) for n in g.op_fields(type(op))), outs=(made,))
        found = view(op, place, FILL)
        array = evaluate(op, [array, np.float32(FILL)][: len(g.operands(op))])[0]
        if found is None:  # a copy is needed: go on from it
            flat = np.ascontiguousarray(array).reshape(-1)
            found = whole(Buffer("copy", DType.f32, array.shape, "temporary"), array.shape, tuple(range(array.ndim)))
        np.testing.assert_array_equal(read(found, array.shape, flat), array)
        place, value = found, made


def test_row_major() -> None:
    assert row_major((2, 3, 4)) == (12, 4, 1)
    assert row_major(()) == ()


def test_a_reshape_that_strides_cannot_say() -> None:
    buffer = Buffer("b", DType.f32, (2, 3), "input")
    value, out = (g.Value(n, TensorType(DType.f32, s)) for n, s in (("x", (3, 2)), ("y", (6,))))
    transposed = Place(buffer, (3, 2), (1, 3))
    assert view(g.Reshape(value, (6,), outs=(out,)), transposed) is None


def test_bitcasts_keep_the_place() -> None:
    place = whole(Buffer("b", DType.f32, (3,), "input"), (3,), (0,))
    out = g.Value("y", TensorType(DType.i32, (3,)))
    found = view(g.Bitcast(g.Value("x", TensorType(DType.f32, (3,))), DType.i32, outs=(out,)), place)
    assert found is not None
    assert found.dtype is DType.i32
