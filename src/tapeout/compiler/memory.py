"""The memory plan: where every buffer lies.

In DRAM constants, inputs and states have places of their own for the life of the model. Temporaries and outputs share
an arena: largest first, each at the lowest address that is free over its whole lifetime. Temporaries that all cores
reach in a software-managed memory on the chip go there instead, the most often used for their lifetime first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tapeout.chip.spec import Chip
from tapeout.compiler.tile import TileProgram
from tapeout.errors import DoesNotFit
from tapeout.ir.kernel import Buffer, KernelOp, KernelSpec, LoadTile, StoreTile

ALIGNMENT = 256


Span = tuple[int, int]
"""The first and the last kernel that touch a buffer."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`address` of every buffer in its memory; bytes [arena, arena + arena_bytes) of DRAM hold temporaries and outputs.
    `on_chip_bytes`: how far each shared memory is used, by the number of the space - 1."""

    address: dict[Buffer, int]
    arena: int
    arena_bytes: int
    dram_bytes: int
    on_chip_bytes: tuple[int, ...] = ()


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


class _Arena:
    """Room that buffers share whose lifetimes do not meet."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, int, Span]] = []
        self.end = 0

    def find(self, size: int, span: Span) -> int:
        """The lowest address that is free over a lifetime."""
        at = 0
        for low, high in sorted((lo, hi) for lo, hi, (s, e) in self._taken if not (e < span[0] or s > span[1])):
            if low - at >= size:
                break
            at = max(at, high)
        return at

    def take(self, at: int, size: int, span: Span) -> None:
        self._taken.append((at, at + size, span))
        self.end = max(self.end, at + size)


def kernel_steps(kernels: Sequence[KernelSpec]) -> list[int]:
    """The number of each kernel's step. Kernels of one step may run side by side: they neither read nor overwrite what
    others of it write. Two writers of a buffer write different parts."""
    found: list[int] = []
    read: set[Buffer] = set()
    written: set[Buffer] = set()
    for kernel in kernels:
        reads = {op.access.buffer for op in kernel.ops if isinstance(op, LoadTile)}
        writes = {op.access.buffer for op in kernel.ops if isinstance(op, StoreTile)}
        again = bool(reads & written or writes & read)
        if again:
            read, written = set(), set()
        found.append((found[-1] if found else 0) + again)
        read |= reads
        written |= writes
    return found


def by_step(touched: Sequence[Iterable[Buffer]], steps: Sequence[int]) -> list[list[Buffer]]:
    """What the kernels of each step touch."""
    found: list[list[Buffer]] = [[] for _ in range(steps[-1] + 1 if steps else 0)]
    for buffers, step in zip(touched, steps, strict=True):
        found[step] += buffers
    return found


def lifetimes(touched: Sequence[Iterable[Buffer]], outputs: frozenset[Buffer]) -> dict[Buffer, Span]:
    """First and last kernel that touches each buffer; outputs live to the end. `touched`: buffers of each kernel."""
    spans: dict[Buffer, Span] = {}
    for n, buffers in enumerate(touched):
        for buffer in buffers:
            spans[buffer] = (spans.get(buffer, (n, n))[0], n)
    for buffer in outputs:
        spans[buffer] = (spans.get(buffer, (0, 0))[0], len(touched))
    return spans


def buffers_of(program: TileProgram) -> tuple[Buffer, ...]:
    """The buffers that a tile program touches."""
    return tuple(w.buffer for w in program.windows)


def on_chip(kernels: Sequence[KernelSpec], kept: frozenset[Buffer], chip: Chip) -> dict[Buffer, tuple[int, int]]:
    """Space and address of the temporaries that lie in shared memories on the chip; `kept` ones stay in DRAM."""
    uses = by_step([_touched(kernel) for kernel in kernels], kernel_steps(kernels))
    spans = lifetimes(uses, frozenset())
    touches = Counter(buffer for buffers in uses for buffer in buffers)
    able = [b for b in spans if b.role == "temporary" and b not in kept and b.bytes]
    able.sort(key=lambda b: (spans[b][1] - spans[b][0] + 1) / touches[b])
    arenas = {space: _Arena() for space, level in enumerate(chip.spaces, 1) if chip.reached_by_all(level)}
    found: dict[Buffer, tuple[int, int]] = {}
    for buffer in able:
        for space, arena in arenas.items():
            size, span = _aligned(buffer.bytes), spans[buffer]
            at = arena.find(size, span)
            if at + size <= chip.shared_bytes(chip.spaces[space - 1]):
                arena.take(at, size, span)
                found[buffer] = (space, at)
                break
    return found


class Rooms:
    """What is left of the memories on the chip that all cores reach, kernel by kernel."""

    def __init__(self, kernels: Sequence[KernelSpec], near: Mapping[Buffer, int], chip: Chip) -> None:
        levels = enumerate(chip.spaces, 1)
        self.spaces = {space: chip.shared_bytes(level) for space, level in levels if chip.reached_by_all(level)}
        self._arenas = {space: _Arena() for space in self.spaces}
        self._steps = kernel_steps(kernels)
        touched = by_step([_touched(kernel) for kernel in kernels], self._steps)
        for buffer, span in lifetimes(touched, frozenset()).items():
            if buffer in near:
                self._arenas[buffer.space].take(near[buffer], _aligned(buffer.bytes), span)

    def find(self, size: int, kernel: int) -> tuple[int, int] | None:
        """A memory and an address in it that are free while a kernel runs."""
        step = self._steps[kernel]
        for space, arena in self._arenas.items():
            at = arena.find(_aligned(size), (step, step))
            if at + _aligned(size) <= self.spaces[space]:
                return space, at
        return None

    def take(self, space: int, at: int, size: int, kernel: int) -> None:
        step = self._steps[kernel]
        self._arenas[space].take(at, _aligned(size), (step, step))


def _touched(kernel: KernelSpec) -> list[Buffer]:
    return [op.access.buffer for op in kernel.ops if isinstance(op, LoadTile | StoreTile)]


def placed(
    kernels: Sequence[KernelSpec], kept: frozenset[Buffer], chip: Chip
) -> tuple[tuple[KernelSpec, ...], dict[Buffer, int]]:
    """The kernels with temporaries moved to memories on the chip, and the addresses of these."""
    where = on_chip(kernels, kept, chip)
    moved = {buffer: replace(buffer, space=space) for buffer, (space, _) in where.items()}

    def at(op: KernelOp) -> KernelOp:
        if isinstance(op, LoadTile | StoreTile) and op.access.buffer in moved:
            return replace(op, access=replace(op.access, buffer=moved[op.access.buffer]))
        return op

    changed = tuple(replace(kernel, ops=tuple(map(at, kernel.ops))) for kernel in kernels)
    return changed, {moved[buffer]: address for buffer, (_, address) in where.items()}


def plan_memory(
    touched: Sequence[Iterable[Buffer]],
    fixed: tuple[Buffer, ...],
    outputs: frozenset[Buffer],
    chip: Chip,
    near: Mapping[Buffer, int] | None = None,
) -> MemoryPlan:
    """Addresses for all buffers that the kernels touch, and for the `fixed` ones; `near`: those that are not in DRAM.
    `DoesNotFit` past the DRAM."""
    near = near or {}
    spans = lifetimes(touched, outputs)
    address = dict(near)
    top = 0
    for buffer in dict.fromkeys((*fixed, *(b for b in spans if b.role not in ("temporary", "output")))):
        address[buffer] = top
        top += _aligned(buffer.bytes)
    arena = _Arena()
    for buffer in sorted((b for b in spans if b not in address), key=lambda b: -b.bytes):
        at = arena.find(_aligned(buffer.bytes), spans[buffer])
        arena.take(at, _aligned(buffer.bytes), spans[buffer])
        address[buffer] = top + at
    total = top + arena.end
    if total > chip.dram.capacity_bytes:
        kind, room = "memory on chip" if chip.dram.on_chip else "DRAM", chip.dram.capacity_bytes
        raise DoesNotFit(
            f"the model needs {_size(total)} of {kind}, the chip has {_size(room)}",
            chip.name,
            f"use at least {-(-total // room)} chips or a smaller batch",
        )
    ends = (
        max((at + b.bytes for b, at in near.items() if b.space == s), default=0) for s in range(1, len(chip.spaces) + 1)
    )
    return MemoryPlan(address, top, arena.end, total, tuple(ends))


def _size(n: int) -> str:
    """Bytes in the unit that tells sizes apart."""
    unit, scale = next(((u, x) for u, x in (("GiB", 2**30), ("MiB", 2**20)) if n >= x), ("KiB", 2**10))
    return f"{n / scale:.2f} {unit}"
