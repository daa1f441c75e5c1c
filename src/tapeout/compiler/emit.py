"""Emits the program: local buffers and windows get addresses, kernels follow one another behind barriers."""

from __future__ import annotations

import dataclasses
from typing import Any

from tapeout.chip.spec import Chip
from tapeout.compiler.memory import DramPlan
from tapeout.compiler.tile import TileProgram, Window
from tapeout.errors import DoesNotFit
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Tensor, Term, View
from tapeout.isa.program import Binding, Kernel, Program

ALL_QUEUES = tuple(int(q) for q in c.Queue)


class _Emitter:
    """Rewrites one tile program's operands to real ones."""

    def __init__(self, program: TileProgram, chip: Chip, number: int, tensors: dict[Window, int]) -> None:
        self.program, self.chip, self.number, self.tensors = program, chip, number, tensors
        self._generation: dict[int, int] = {}
        self.slots = program.slots
        used = [0] * len(chip.memories)
        self.base: list[int] = []
        for buffer in program.buffers:
            self.base.append(used[buffer.memory])
            used[buffer.memory] += buffer.bytes * buffer.depth
            if buffer.depth > 1:
                self._turn(buffer.scope, buffer.depth)
        self.used = used
        for memory, size in zip(chip.memories, used, strict=True):
            if size > memory.bytes:
                raise DoesNotFit(f"kernel `{program.name}` takes {size} bytes of {memory.name}", chip.name, f"{memory.name} has {memory.bytes}")

    def _turn(self, scope: int, depth: int) -> int:
        """The slot that counts the turns of a scope: its loop's own, or a separate one where nested loops restart it."""
        around = self.program.scopes[scope]
        if all(self.program.trips[s] % depth == 0 for s in around[1:]):
            return scope
        if scope not in self._generation:
            self.slots += 1
            self._generation[scope] = self.slots
        return self._generation[scope]

    def view(self, view: View) -> View:
        buffer = self.program.buffers[view.memory]
        base = view.base + self.base[view.memory]
        if buffer.depth > 1:
            base = base + Affine(0, (Term(self._turn(buffer.scope, buffer.depth), buffer.bytes, 1, buffer.depth),))
        return View(buffer.memory, base, view.strides, view.dtype)

    def _tensor(self, number: int) -> int:
        return self.tensors.setdefault(self.program.windows[number], len(self.tensors))

    def node(self, node: c.Node) -> c.Node:
        match node:
            case c.Loop():
                body = self.nodes(node.body)
                if node.slot in self._generation:
                    slot = self._generation[node.slot]
                    body = (*body, c.Set(slot, Affine(1, (Term(slot, 1),))))
                return c.Loop(node.slot, node.trip, body)
            case c.If():
                return c.If(node.value, self.nodes(node.body), self.nodes(node.orelse))
            case _:
                changes: dict[str, Any] = {}
                for f in dataclasses.fields(node):
                    held = getattr(node, f.name)
                    if isinstance(held, View):
                        changes[f.name] = self.view(held)
                    elif isinstance(held, c.Index):
                        changes[f.name] = c.Index(held.dim, self.view(held.list))
                    elif f.name == "srcs":
                        changes[f.name] = tuple(self.view(s) if isinstance(s, View) else s for s in held)
                    elif f.name == "tensor":
                        changes[f.name] = self._tensor(held)
                    elif f.name == "kernel":
                        changes[f.name] = self.number
                return dataclasses.replace(node, **changes)

    def nodes(self, nodes: tuple[c.Node, ...]) -> tuple[c.Node, ...]:
        return tuple(self.node(n) for n in nodes)

    def emit(self) -> tuple[c.Node, ...]:
        body = self.nodes(self.program.body)
        resets = tuple(c.Set(slot, Affine()) for slot in self._generation.values())
        body = (*resets, *body)
        if self.program.active < self.chip.cores:
            body = (c.If(Affine(self.program.active, (Term(0, -1),)), body),)
        return body


def emit(
    name: str, programs: tuple[TileProgram, ...], plan: DramPlan, bindings: tuple[tuple[str, Window, str], ...], chip: Chip,
    semaphores: tuple[int, ...],
) -> Program:  # fmt: skip
    """One program of all kernels in order."""
    tensors: dict[Window, int] = {}
    body: list[c.Node] = []
    slots = 0
    peaks = [0] * len(chip.memories)
    for number, program in enumerate(programs):
        emitter = _Emitter(program, chip, number, tensors)
        body.extend(emitter.emit())
        body.append(c.Barrier(True, ALL_QUEUES))
        slots = max(slots, emitter.slots)
        peaks = [max(a, b) for a, b in zip(peaks, emitter.used, strict=True)]
    bound = tuple(Binding(label, tensors.setdefault(window, len(tensors)), role) for label, window, role in bindings)
    descriptors = tuple(
        Tensor(
            w.buffer.name, 0, plan.address[w.buffer] + w.offset * w.buffer.dtype.bytes, w.dtype, w.extents, w.strides, w.fill
        )
        for w in tensors
    )
    return Program(
        name, chip.name, chip.cores, descriptors, ("core", *(f"s{n}" for n in range(1, slots + 1))), semaphores, tuple(body),
        tuple(Kernel(p.name, p.sources) for p in programs), bound, plan.total_bytes,
        {m.name: n for m, n in zip(chip.memories, peaks, strict=True)},
    )  # fmt: skip
