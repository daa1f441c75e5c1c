"""Staging: what a kernel's cores read from DRAM again and again is first brought, once, into a memory on the chip that
all of them reach, where there is room beside the temporaries.

Whether it pays is the same prediction that ranks schedules: of the copy and of the kernel that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

from tapeout.chip.spec import Chip
from tapeout.compiler.cost import read_bytes
from tapeout.compiler.memory import Rooms
from tapeout.compiler.schedule import Schedule
from tapeout.ir.kernel import Access, Axis, Buffer, DimIndex, KernelSpec, LoadTile, StoreTile, Tile

AGAIN = 2
"""Kernels are looked at that read what they read so many times over,"""
SHARE = 0.2
"""for at least this share of their time,"""
PART = 0.02
"""and buffers that are at least this part of it."""
GAIN = 0.95
"""A copy must bring the predicted time down to this."""


def staged(
    kernels: Sequence[KernelSpec],
    schedules: Sequence[Schedule],
    near: Mapping[Buffer, int],
    chip: Chip,
    schedule: Callable[[KernelSpec], Schedule],
) -> tuple[tuple[KernelSpec, ...], tuple[Schedule, ...], dict[Buffer, int]]:
    """The kernels with copies in front of those that read them, their schedules, and the addresses of all that lies on
    the chip."""
    rooms = Rooms(kernels, near, chip)
    if not rooms.spaces:
        return tuple(kernels), tuple(schedules), dict(near)
    made: list[KernelSpec] = []
    found: list[Schedule] = []
    where = dict(near)
    for number, (kernel, own) in enumerate(zip(kernels, schedules, strict=True)):
        for buffer in _worth_looking(kernel, chip, own):
            if (room := rooms.find(buffer.bytes, number)) is None:
                continue
            space, address = room
            copy = replace(buffer, name=f"{buffer.name}.staged", role="temporary", data=None, part=-1, space=space)
            moving, reading = _moving(kernel, buffer, copy), _reading(kernel, buffer, copy)
            first, then = schedule(moving), schedule(reading)
            if first.cycles + then.cycles < GAIN * own.cycles:
                rooms.take(space, address, buffer.bytes, number)
                where[copy] = address
                made.append(moving)
                found.append(first)
                kernel, own = reading, then
        made.append(kernel)
        found.append(own)
    return tuple(made), tuple(found), where


def _worth_looking(kernel: KernelSpec, chip: Chip, schedule: Schedule) -> list[Buffer]:
    """The buffers in DRAM of a kernel that reads more than they hold, the largest first: with one of them near, another
    schedule may read the rest less often."""
    listed = {op.access.buffer for op in kernel.ops if isinstance(op, LoadTile) and op.access.gather}
    stored = {op.access.buffer for op in kernel.ops if isinstance(op, StoreTile)}
    read = sum(n for op, n in read_bytes(kernel, chip, schedule).items() if not op.access.buffer.space)
    far = dict.fromkeys(
        op.access.buffer for op in kernel.ops if isinstance(op, LoadTile) and not op.access.buffer.space
    )
    held = sum(buffer.bytes for buffer in far)
    if read < AGAIN * held or read < SHARE * schedule.cycles * chip.dram_bytes_per_cycle:
        return []
    able = [buffer for buffer in far if buffer not in listed | stored and buffer.bytes >= PART * held]
    return sorted(able, key=lambda buffer: -buffer.bytes)


def _moving(kernel: KernelSpec, source: Buffer, target: Buffer) -> KernelSpec:
    """A kernel that copies a whole buffer."""
    axis = Axis("a0", prod(source.shape))
    index = (DimIndex(((axis, 1),)),)
    tile = Tile(f"{source.name}.1", source.dtype, index)
    there, here = (Access(buffer, (axis.extent,), (1,), 0, index) for buffer in (source, target))
    ops = (LoadTile(tile, there), StoreTile(tile, here))
    return KernelSpec(f"{kernel.name}.staged", ops, (axis,), frozenset(), frozenset(), frozenset())


def _reading(kernel: KernelSpec, source: Buffer, target: Buffer) -> KernelSpec:
    """The kernel with its loads of one buffer from another."""
    ops = tuple(
        replace(op, access=replace(op.access, buffer=target))
        if isinstance(op, LoadTile) and op.access.buffer is source
        else op
        for op in kernel.ops
    )
    return replace(kernel, ops=ops)
