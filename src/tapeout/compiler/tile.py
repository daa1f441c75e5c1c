"""The tile program of one kernel: commands in a loop tree on local buffers that have no address and no semaphores yet.

It uses the instruction set's own commands. In a `View`, `memory` is the number of a `LocalBuffer` and `base` an offset
inside it; a DMA command's `tensor` is the number of a `Window`. Each buffer belongs to one body of the tree (`scope`)
and is defined anew in every turn of it. `place.py` gives addresses, `sync.py` semaphores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeout.chip.spec import Chip, Memory
from tapeout.ir.kernel import Buffer
from tapeout.ir.types import DType
from tapeout.isa.commands import Node


@dataclass(frozen=True, slots=True)
class LocalBuffer:
    """One tile's room: `bytes` times `depth` turns in memory number `memory`; `scope` is the slot of the loop whose
    body defines it (0: the kernel itself)."""

    name: str
    memory: int
    bytes: int
    depth: int
    scope: int
    cluster: bool = False
    """Filled by the loads of all cores of the cluster, each bringing a part to all."""


@dataclass(frozen=True, slots=True)
class Window:
    """A tensor descriptor whose base is an offset (elements) into a buffer."""

    buffer: Buffer
    offset: int
    dtype: DType
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    fill: float


@dataclass(frozen=True, slots=True)
class TileProgram:
    """One kernel, lowered."""

    name: str
    sources: tuple[str, ...]
    buffers: tuple[LocalBuffer, ...]
    windows: tuple[Window, ...]
    slots: int
    """Slots used, numbered 1 .. slots."""
    scopes: dict[int, tuple[int, ...]]
    """For each loop slot that is a scope: the slots of the loops around it, outermost first, itself last."""
    trips: dict[int, int]
    active: int
    """Cores that get work; the others skip the body."""
    body: tuple[Node, ...]
    stages: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    """For the slot of each loop whose turns overlap: the stage of each node of its body (`skew.py`)."""


ALIGNMENT = 64
"""Bytes: buffers in local memory begin at multiples of it."""


def room_bytes(memory: Memory) -> int:
    """Bytes of a local memory that aligned buffers can take."""
    return memory.bytes // ALIGNMENT * ALIGNMENT


def local_bytes(program: TileProgram, memories: int) -> list[int]:
    """Bytes that a tile program takes in each local memory."""
    used = [0] * memories
    for buffer in program.buffers:
        used[buffer.memory] += buffer.bytes * buffer.depth
    return used


def fits(program: TileProgram, chip: Chip) -> bool:
    """Whether local memories hold a tile program."""
    used = local_bytes(program, len(chip.memories))
    return all(n <= room_bytes(memory) for n, memory in zip(used, chip.memories, strict=True))


def collapse(dims: list[tuple[int, tuple[int, ...]]]) -> list[tuple[int, tuple[int, ...]]]:
    """Merges neighbouring dimensions that every operand walks evenly; drops those of extent 1."""
    out: list[tuple[int, tuple[int, ...]]] = []
    for size, strides in dims:
        if size == 1:
            continue
        if out and all(o == size * s for o, s in zip(out[-1][1], strides, strict=True)):
            out[-1] = (out[-1][0] * size, strides)
        else:
            out.append((size, strides))
    return out
