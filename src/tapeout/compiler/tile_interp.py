"""What tile programs mean, in NumPy: every local buffer is an array of its own, commands do what `isa/meaning.py` says.

The cores of a cluster walk the tree together, command by command, so that each part of a tile that they bring for one
another is there before the next command reads it; clusters and kernels come one after the other. Semaphores are
counted: in program order every wait must find its post, and a kernel must leave them as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.compiler.tile import TileProgram
from tapeout.errors import SimError
from tapeout.ir.kernel_interp import Memory, contents
from tapeout.ir.special import Array
from tapeout.isa import commands as c
from tapeout.isa import meaning
from tapeout.isa.operands import CORE, Affine, Tensor

UNWRITTEN = 0xFF
"""Bytes of local buffers before anything is written: NaN, or -1."""


def run_tiles(programs: Sequence[TileProgram], chip: Chip, memory: Memory, semaphores: Sequence[int] = ()) -> None:
    """Runs all programs in order on `memory`, as `run_kernels` does.

    `semaphores`: initial values; without any they are not looked at. `SimError` where a command waits for a post that
    does not come before it.
    """
    for program in programs:
        for first in range(0, program.active, chip.topology.cores):
            _Cluster(program, chip, memory, first, semaphores).run()


@dataclass(slots=True)
class _Core:
    """One core: what its expressions see, its buffers, its semaphores."""

    slots: list[int]
    buffers: dict[int, Array]
    semaphores: list[int]


class _Cluster:
    """The cores of a cluster that get work in one tile program."""

    def __init__(self, program: TileProgram, chip: Chip, memory: Memory, first: int, semaphores: Sequence[int]) -> None:
        self.program, self.chip, self.initial = program, chip, list(semaphores)
        size = chip.topology.cores
        self.cores: list[_Core] = []
        for core in range(first, first + size):
            buffers = {n: np.full(b.bytes, UNWRITTEN, np.uint8) for n, b in enumerate(program.buffers)}
            self.cores.append(_Core([core, *([0] * program.slots)], buffers, list(semaphores)))
        self.working = [n for n in range(size) if first + n < program.active]
        windows = program.windows
        self.spaces = {n: contents(w.buffer, memory).view(np.uint8) for n, w in enumerate(windows)}
        self.tensors = [
            Tensor(w.buffer.name, n, w.offset * w.buffer.dtype.bytes, w.dtype, w.extents, w.strides, w.fill)
            for n, w in enumerate(windows)
        ]

    def run(self) -> None:
        self.nodes(self.program.body, self.working)
        for n in self.working:
            if self.cores[n].semaphores != self.initial:
                raise SimError(f"kernel {self.program.name} does not leave the semaphores as they were")

    def value(self, affine: Affine, core: int) -> int:
        return affine.value(self.cores[core].slots)

    def nodes(self, nodes: tuple[c.Node, ...], working: list[int]) -> None:
        """One body, on those cores of the cluster that take part in it."""
        for node in nodes if working else ():
            match node:
                case c.Loop():
                    for turn in range(max(self.value(node.trip, n) for n in working)):
                        taking = [n for n in working if turn < self.value(node.trip, n)]
                        for n in taking:
                            self.cores[n].slots[node.slot] = turn
                        self.nodes(node.body, taking)
                case c.If():
                    taken = [n for n in working if self.value(node.value, n) > 0]
                    self.nodes(node.body, taken)
                    self.nodes(node.orelse, [n for n in working if n not in taken])
                case c.Load() | c.Store() | c.Copy() | c.Drain() | c.MatMul() | c.Vector() | c.Nop():
                    self.command(node, working)
                case _:
                    raise SimError(f"{type(node).__name__} is no part of a tile program", command=str(node))

    def command(self, command: c.AnyCommand, working: list[int]) -> None:
        """The command on all cores; none of them needs what another one does in it."""
        local = [core.buffers for core in self.cores]
        if self.initial:
            self.wait(command, working)
        for n in working:
            memories = meaning.Bytes(self.tensors, local, self.spaces, self.cores[n].slots, n, self.chip)
            meaning.execute(memories, command)
        if self.initial:
            self.post(command, working)

    def wait(self, command: c.AnyCommand, working: list[int]) -> None:
        for n in working:
            core = self.cores[n]
            for wait in command.waits:
                core.semaphores[wait.semaphore] -= wait.count
                if core.semaphores[wait.semaphore] < 0:
                    loops = {f"s{slot}": count for slot, count in enumerate(core.slots) if slot != CORE}
                    what = f"core {core.slots[CORE]} waits for semaphore {wait.semaphore}, which nothing has posted"
                    raise SimError(what, command=f"{type(command).__name__} of {self.program.name}", loops=loops)

    def post(self, command: c.AnyCommand, working: list[int]) -> None:
        for n in working:
            for post in command.posts:
                for core in self.cores if post.cluster else [self.cores[n]]:
                    core.semaphores[post.semaphore + (n if post.cluster else 0)] += post.count
