"""What kernels touch in the memories that cores share, and which of them may overlap in time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tapeout.compiler.memory import MemoryPlan
from tapeout.compiler.tile import TileProgram, Window
from tapeout.isa import commands as c


@dataclass(frozen=True, slots=True)
class Box:
    """A strided window into a memory: bytes [low, high) of a space hold it. `dims`: stride and extent of each dimension
    of more than one element, the widest stride first."""

    space: int
    low: int
    high: int
    dims: tuple[tuple[int, int], ...]

    def meets(self, other: Box) -> bool:
        """Whether two windows may have a byte in common."""
        if self.space != other.space or self.low >= other.high or other.low >= self.high:
            return False
        strides = [stride for stride, _ in self.dims]
        if strides != [stride for stride, _ in other.dims] or any(stride <= 0 for stride in strides):
            return True
        return not _apart(self, other)


def _apart(a: Box, b: Box) -> bool:
    """Whether two windows of the same strides are parts of one grid that have no place in common."""
    left = [box.low - min(a.low, b.low) for box in (a, b)]
    room, disjoint = None, False
    for (stride, m), (_, n) in zip(a.dims, b.dims, strict=True):
        (x, first), (y, second) = (divmod(rest, stride) for rest in left)
        left = [first, second]
        if room is not None and max(x + m, y + n) * stride > room:
            return False  # a row goes on in the next one, so that coordinates say nothing
        disjoint = disjoint or x + m <= y or y + n <= x
        room = stride
    return disjoint and not any(left)


@dataclass(frozen=True, slots=True)
class Touched:
    """What a kernel reads and writes; constants left out."""

    reads: tuple[Box, ...]
    writes: tuple[Box, ...]

    def independent(self, others: Sequence[Touched]) -> bool:
        """Whether the kernel may run beside others that come before it."""
        return not any(
            _meet(self.writes, (*other.reads, *other.writes)) or _meet(self.reads, other.writes) for other in others
        )


def _meet(ours: Iterable[Box], theirs: Sequence[Box]) -> bool:
    return any(a.meets(b) for a in ours for b in theirs)


def touched_by(program: TileProgram, plan: MemoryPlan) -> Touched:
    """The windows that a kernel's commands load from and store to."""
    reads: set[int] = set()
    writes: set[int] = set()
    pending: list[c.Node] = list(program.body)
    while pending:
        match node := pending.pop():
            case c.Loop() | c.While():
                pending += node.body
            case c.If():
                pending += (*node.body, *node.orelse)
            case c.Load():
                reads.add(node.tensor)
            case c.Store():
                writes.add(node.tensor)
            case _:
                pass
    windows = program.windows
    read = (w for n in sorted(reads) if (w := windows[n]).buffer.role != "constant")
    return Touched(tuple(_box(w, plan) for w in read), tuple(_box(windows[n], plan) for n in sorted(writes)))


def _box(window: Window, plan: MemoryPlan) -> Box:
    start = plan.address[window.buffer] + window.offset * window.buffer.dtype.bytes
    steps = [(n - 1) * s for n, s in zip(window.extents, window.strides, strict=True)]
    low = start + sum(step for step in steps if step < 0)
    high = start + sum(step for step in steps if step > 0) + window.dtype.bytes
    dims = sorted(((s, n) for n, s in zip(window.extents, window.strides, strict=True) if n != 1), reverse=True)
    return Box(window.buffer.space, low, high if all(window.extents) else low, tuple(dims))
