"""Packed constants: the tiles that a schedule cuts, one behind the other, judged by slices of the array."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeout.chip.load import load_chip
from tapeout.compiler.packing import divided_dimension, packing_of, shared_by_cluster
from tapeout.compiler.schedule import Schedule
from tapeout.ir.kernel import Access, Axis, Buffer, DimIndex, Packing, physical
from tapeout.ir.types import DType


@given(st.data())
def test_tiles_are_slices(data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, 4))
    extents = tuple(data.draw(st.integers(1, 7)) for _ in range(rank))
    tile = tuple(data.draw(st.integers(1, n)) for n in extents)
    order = data.draw(st.permutations(range(rank)))
    used = int(np.prod(tile, dtype=np.int64))
    room = used + data.draw(st.integers(0, 3))
    stored = np.arange(int(np.prod(extents, dtype=np.int64)), dtype=np.float32).reshape([extents[d] for d in order])
    strides = [0] * rank
    for d, axis in enumerate(order):
        strides[axis] = stored.strides[d] // 4
    view = stored.transpose(np.argsort(order)) if rank else stored
    found = Packing(extents, tuple(strides), 0, tile, room, -1.0).tiles(stored.reshape(-1))
    assert found.shape == (*(-(-n // t) for n, t in zip(extents, tile, strict=True)), room)
    for at in product(*map(range, found.shape[:-1])):
        wanted = np.full(tile, -1.0, np.float32)
        cut = view[tuple(slice(i * t, (i + 1) * t) for i, t in zip(at, tile, strict=True))]
        wanted[tuple(map(slice, cut.shape))] = cut
        assert np.array_equal(found[at][:used], wanted.reshape(-1))
        assert not found[at][used:].any()


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ((171, 64), 0),  # a quarter of a row would be half a granule
        ((3, 256), 1),  # a quarter of a row is two granules
        ((6, 8, 256), 1),
        ((600, 1), 0),
        ((1, 1024), 1),
        ((5, 7, 3), 1),
    ],
)
def test_cores_divide_a_tile_where_granules_stay_whole(sizes: tuple[int, ...], wanted: int) -> None:
    """On a chip with clusters of 4 cores and granules of 64 bytes, 2-byte elements."""
    assert divided_dimension(list(sizes), 2, load_chip("mlu370-x4")) == wanted


@given(st.data())
def test_a_tile_has_room_for_every_core_of_a_cluster(data: st.DataObject) -> None:
    """Whatever the granule: the cores bring equal parts of whole elements, and together all of the tile."""
    chip = load_chip("mlu370-x4")
    cores, granule = data.draw(st.integers(1, 7)), data.draw(st.sampled_from((1, 3, 6, 32, 64)))
    topology = replace(chip.topology, cores=cores)
    chip = replace(chip, topology=topology, dram=replace(chip.dram, granule_bytes=granule))
    dtype = data.draw(st.sampled_from((DType.i8, DType.bf16, DType.f32)))
    rows, columns = Axis("a0", data.draw(st.integers(1, 90))), Axis("a1", data.draw(st.integers(1, 90)))
    index = (DimIndex(((rows, 1),)), DimIndex(((columns, 1),)))
    shape = (rows.extent, columns.extent)
    buffer = Buffer("w", dtype, shape, "constant", np.zeros(shape, dtype.numpy))
    access = Access(buffer, shape, (columns.extent, 1), 0, index)
    other = Axis("a2", cores)  # the cores of a cluster differ in it alone
    tile = {rows: rows.extent, columns: columns.extent, other: 1}
    schedule = Schedule(tile, ((other, cores),), (rows, columns, other))
    packing = packing_of(access, schedule, chip)
    assert packing
    assert packing.room >= rows.extent * columns.extent
    assert packing.room * dtype.bytes % granule == 0
    if shared_by_cluster(access, schedule, chip):
        assert packing.room % cores == 0


@pytest.mark.parametrize("part", [-1, 0, 1])
def test_rows_of_a_packed_constant_stay_in_place(part: int) -> None:
    """Tiles that are rows already cost no copy, parts of a split constant are cut as any other."""
    data = np.arange(48, dtype=np.float32).reshape(6, 8) / 7
    packing = Packing((6, 8), (8, 1), 0, (2, 8), 16, 0.0)
    buffer = Buffer("w", DType.bf16 if part >= 0 else DType.f32, (3, 1, 16), "constant", data, None, part, 0, packing)
    found = physical(buffer)
    plain = physical(Buffer("w", buffer.dtype, (6, 8), "constant", data, None, part))
    assert np.array_equal(found.reshape(6, 8), plain)
    assert np.shares_memory(found, data) == (part < 0)
