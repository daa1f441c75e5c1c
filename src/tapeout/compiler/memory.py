"""The DRAM plan: where every buffer lies, and the image of constants.

Constants, inputs and states have places of their own for the life of the model. Temporaries and outputs share an arena:
largest first, each at the lowest address that is free over its whole lifetime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeout.chip.spec import Chip
from tapeout.compiler.tile import TileProgram
from tapeout.errors import DoesNotFit
from tapeout.ir.kernel import Buffer

ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class DramPlan:
    """`address` of every buffer; bytes [arena, arena + arena_bytes) hold temporaries and outputs."""

    address: dict[Buffer, int]
    arena: int
    arena_bytes: int
    total_bytes: int


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def lifetimes(programs: Sequence[TileProgram], outputs: frozenset[Buffer]) -> dict[Buffer, tuple[int, int]]:
    """First and last kernel that touches each buffer; outputs live to the end."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for n, program in enumerate(programs):
        for window in program.windows:
            spans[window.buffer] = (spans.get(window.buffer, (n, n))[0], n)
    for buffer in outputs:
        spans[buffer] = (spans.get(buffer, (0, 0))[0], len(programs))
    return spans


def plan_dram(
    programs: Sequence[TileProgram], fixed: tuple[Buffer, ...], outputs: frozenset[Buffer], chip: Chip
) -> DramPlan:
    """Addresses for all buffers that the kernels touch, and for the `fixed` ones. `DoesNotFit` past the DRAM."""
    spans = lifetimes(programs, outputs)
    address: dict[Buffer, int] = {}
    top = 0
    for buffer in dict.fromkeys((*fixed, *(b for b in spans if b.role not in ("temporary", "output")))):
        address[buffer] = top
        top += _aligned(buffer.bytes)
    arena = top
    placed: list[tuple[int, int, int, int]] = []
    for buffer in sorted((b for b in spans if b not in address), key=lambda b: -b.bytes):
        first, last = spans[buffer]
        size, at = _aligned(buffer.bytes), 0
        for low, high in sorted((lo, hi) for lo, hi, s, e in placed if not (e < first or s > last)):
            if low - at >= size:
                break
            at = max(at, high)
        placed.append((at, at + size, first, last))
        address[buffer] = arena + at
    arena_bytes = max((high for _, high, _, _ in placed), default=0)
    total = arena + arena_bytes
    if total > chip.dram.capacity_bytes:
        kind, room = "memory on chip" if chip.dram.on_chip else "DRAM", chip.dram.capacity_bytes
        raise DoesNotFit(
            f"the model needs {total / 2**30:.2f} GiB of {kind}, the chip has {room / 2**30:.2f} GiB",
            chip.name,
            f"use at least {-(-total // room)} chips or a smaller batch",
        )
    return DramPlan(address, arena, arena_bytes, total)
