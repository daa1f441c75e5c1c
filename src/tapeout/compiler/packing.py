"""Packing: constants lie in DRAM tile by tile, as the schedules of their readers cut them.

A tile is then one run of whole granules, whatever the layout of the tensor, and the cores of a cluster can divide it
anywhere. A constant that is cut in several ways lies there once for each; one that is read by index stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import lcm, prod

from tapeout.chip.spec import Chip
from tapeout.compiler.roles import MULTICAST_BYTES
from tapeout.compiler.schedule import Schedule
from tapeout.ir import kernel as k

CUTS = 4
"""Dimensions that may be cut: a descriptor has one more, for the tile."""


def packable(access: k.Access) -> bool:
    """Whether an access reads a constant in tiles that do not overlap."""
    single = all(not i.offset and (not i.terms or (len(i.terms) == 1 and i.terms[0][1] == 1)) for i in access.index)
    axes = [axis for i in access.index for axis, _ in i.terms]
    return access.buffer.role == "constant" and access.gather is None and single and len(set(axes)) == len(axes)


def memory_order(access: k.Access) -> list[int]:
    """Dimensions from the widest stride in memory to the narrowest, so that runs are as long as they can be."""
    return sorted(range(len(access.index)), key=lambda d: -abs(access.strides[d]))


def shared_by_cluster(access: k.Access, schedule: Schedule, chip: Chip) -> bool:
    """Whether the cores of a cluster bring the tile together, each a part of it."""
    cluster = chip.topology.cores
    small = prod(schedule.extent(i) for i in access.index) * access.dtype.bytes < MULTICAST_BYTES
    if not chip.multicast or cluster == 1 or small or access.gather is not None:
        return False
    return schedule.shares(set(k.axes_of(access.index)), cluster)


def divided_dimension(sizes: list[int], element_bytes: int, chip: Chip) -> int:
    """Which dimension of a tile (outermost first) the cores of a cluster divide: of those that leave whole granules in
    a row the outermost one that divides evenly, else the longest."""
    cluster, last = chip.topology.cores, len(sizes) - 1
    short = sizes[last] * element_bytes < cluster * chip.dram.granule_bytes and prod(sizes[:last]) > 1
    able = [d for d, n in enumerate(sizes) if n > 1 and not (short and d == last)]
    even = [d for d in able if sizes[d] % cluster == 0]
    return even[0] if even else max(able, key=lambda d: sizes[d])


def packing_of(access: k.Access, schedule: Schedule, chip: Chip) -> k.Packing | None:
    """The tiles that an access reads under a schedule, None where it is not packed. Dimensions as in
    `memory_order`."""
    if not packable(access):
        return None
    order = memory_order(access)
    tile = tuple(schedule.extent(access.index[d]) for d in order)
    size = access.dtype.bytes
    quantum = lcm(chip.dram.granule_bytes, size) * (
        chip.topology.cores if shared_by_cluster(access, schedule, chip) else 1
    )
    room = -(-prod(tile) * size // quantum) * quantum // size
    extents, strides = tuple(access.extents[d] for d in order), tuple(access.strides[d] for d in order)
    packing = k.Packing(extents, strides, access.offset, tile, room, access.fill)
    return packing if sum(n > 1 for n in packing.shape[:-1]) <= CUTS else None


@dataclass
class Packs:
    """The packed constants of a program."""

    _made: dict[tuple[k.Buffer, k.Packing], k.Buffer] = field(
        default_factory=dict[tuple[k.Buffer, k.Packing], k.Buffer]
    )

    def packed(self, access: k.Access, schedule: Schedule, chip: Chip) -> k.Buffer | None:
        """The buffer that holds the tiles which an access reads under a schedule."""
        buffer = access.buffer
        packing = packing_of(access, schedule, chip)
        if packing is None:
            return None
        if (buffer, packing) not in self._made:
            name, shape = f"{buffer.name}.tiles", packing.shape
            self._made[buffer, packing] = k.Buffer(
                name, buffer.dtype, shape, "constant", buffer.data, buffer.order, buffer.part, packing=packing
            )
        return self._made[buffer, packing]
