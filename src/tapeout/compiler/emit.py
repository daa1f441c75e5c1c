"""Emits the program: local buffers and windows get addresses, runs of kernels follow one another behind barriers.

Kernels that neither read nor overwrite what those before them since the last barrier wrote or read, and whose buffers
find room beside theirs, need no barrier: they are one run. Runs take turns at the two ends of each local memory.
Constants that the first kernel of a run loads once, and the first turns of those that it streams, are loaded before the
barrier in front of it, while the run before still computes, where they do not touch what that one uses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from tapeout.chip.spec import Chip
from tapeout.compiler.memory import MemoryPlan
from tapeout.compiler.runs import Touched, touched_by
from tapeout.compiler.skew import nest_of, spots_of
from tapeout.compiler.skew_emit import Skew
from tapeout.compiler.tile import TileProgram, Window, local_bytes, room_bytes
from tapeout.errors import DoesNotFit
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Tensor, Term, View
from tapeout.isa.program import Binding, Kernel, Program

CONSUMERS = tuple(int(q) for q in c.Queue if q is not c.Queue.LD)
"""A barrier waits for what uses loaded data; loads themselves may run ahead."""
Range = tuple[int, int, int]
"""Memory, first byte, end."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """A load of constants in every turn of a loop; `loops` around it, outermost first."""

    load: c.Load
    loops: tuple[c.Loop, ...]
    turns: int
    """As many turns have a buffer of their own."""

    @property
    def later(self) -> Affine:
        """Above 0 behind the first turns."""
        *around, own = self.loops
        return Affine(1 - self.turns, (Term(own.slot, 1), *(Term(loop.slot, self.turns) for loop in around)))


class _Emitter:
    """Rewrites one tile program's operands to real ones."""

    def __init__(
        self, program: TileProgram, chip: Chip, number: int, tensors: dict[Window, int], used: list[int], low: bool
    ) -> None:
        """`used` bytes of each memory, from its `low` end or else its high one, are taken by the run so far."""
        self.program, self.chip, self.number, self.tensors = program, chip, number, tensors
        self._generation: dict[int, int] = {}
        self._late: dict[tuple[int, int], int] = {}
        self.slots = program.slots
        self.used = list(used)
        self.base = [0] * len(program.buffers)
        early = self._early()
        for n in sorted(range(len(program.buffers)), key=lambda n: n not in early):
            buffer = program.buffers[n]
            start = self.used[buffer.memory]
            self.used[buffer.memory] = end = start + buffer.bytes * buffer.depth
            self.base[n] = start if low else room_bytes(chip.memories[buffer.memory]) - end
            if buffer.depth > 1:
                self._turn(buffer.scope, buffer.depth)
        for memory, size in zip(chip.memories, self.used, strict=True):
            if size > room_bytes(memory):
                raise DoesNotFit(
                    f"kernel `{program.name}` takes {size} bytes of {memory.name}",
                    chip.name,
                    f"{memory.name} has {memory.bytes}",
                )

    def _early(self) -> set[int]:
        """Buffers that the kernel fills once, from constants, before anything else may touch them."""
        return {
            node.local.memory
            for node in self.program.body
            if isinstance(node, c.Load)
            and not node.waits
            and node.index is None
            and self.program.windows[node.tensor].buffer.role == "constant"
        }

    def _streams(self) -> list[_Stream]:
        """Constants that the kernel loads in every turn of a loop, without a word to the queue before."""
        found: list[_Stream] = []
        pending: list[tuple[tuple[c.Node, ...], tuple[c.Loop, ...]]] = [(self.program.body, ())]
        while pending:
            nodes, loops = pending.pop()
            for node in nodes:
                if isinstance(node, c.Nop) and node.queue == c.Queue.LD:
                    break
                if isinstance(node, c.Loop):
                    pending.append((node.body, (*loops, node)))
                elif isinstance(node, c.Load) and loops and node.index is None:
                    buffer = self.program.buffers[node.local.memory]
                    constant = self.program.windows[node.tensor].buffer.role == "constant"
                    if constant and buffer.scope == loops[-1].slot:
                        turns = min(buffer.depth, self.program.trips[buffer.scope])
                        found.append(_Stream(node, loops, turns))
        return found

    def ranges(self, buffers: set[int] | None = None) -> list[Range]:
        """Where the kernel's buffers lie (all, or the given ones)."""
        found: list[Range] = []
        for n, buffer in enumerate(self.program.buffers):
            if buffers is None or n in buffers:
                found.append((buffer.memory, self.base[n], self.base[n] + buffer.bytes * buffer.depth))
        return found

    def _free(self, number: int, before: list[Range] | None) -> bool:
        """Whether a buffer can be filled in front of a barrier, while the run before, which holds `before`, still
        goes on."""
        return before is not None and not any(_overlap(r, other) for r in self.ranges({number}) for other in before)

    def _turn(self, scope: int, depth: int) -> int:
        """The slot that counts the turns of a scope: its loop's own, or a separate one where nested loops restart
        it."""
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
                return self._loop(node)
            case c.If():
                return c.If(node.value, self.nodes(node.body), self.nodes(node.orelse))
            case _:
                changes: dict[str, Any] = {}
                for f in fields(node):
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
                return replace(node, **changes)

    def _loop(self, node: c.Loop) -> c.Loop:
        if node.slot in self.program.stages:
            return self._nest(node)
        body = self.nodes(node.body)
        if node.slot in self._generation:
            slot = self._generation[node.slot]
            body = (*body, c.Set(slot, Affine(1, (Term(slot, 1),))))
        return c.Loop(node.slot, node.trip, body)

    def _nest(self, node: c.Loop) -> c.Loop:
        nest = nest_of(node, self.program.stages)
        spots = [replace(spot, node=self.node(spot.node)) for spot in spots_of(nest, self.program.stages)]
        counters = [(self._generation[n.slot], level) for level, n in enumerate(nest) if n.slot in self._generation]
        loops = tuple((n.slot, n.trip.const) for n in nest)
        return Skew(loops, tuple(reversed(counters)), max(s.stage for s in spots), self._late_slot).emit(spots)

    def _late_slot(self, stage: int, slot: int) -> int:
        """What counts in place of a slot in a later stage."""
        if (stage, slot) not in self._late:
            self.slots += 1
            self._late[stage, slot] = self.slots
        return self._late[stage, slot]

    def nodes(self, nodes: tuple[c.Node, ...]) -> tuple[c.Node, ...]:
        return tuple(self.node(n) for n in nodes)

    def emit(self, before: list[Range] | None) -> tuple[tuple[c.Node, ...], tuple[c.Node, ...]]:
        """What goes in front of the barrier, and the rest. `before`: what the run before holds; None where there is no
        barrier."""
        ahead = {n for n in self._early() if self._free(n, before)}
        lead = tuple(n for n in self.program.body if isinstance(n, c.Load) and n.local.memory in ahead)
        rest = tuple(n for n in self.program.body if n not in lead)
        streams = [s for s in self._streams() if self._free(s.load.local.memory, before)]
        first = tuple(node for stream in streams for node in self._first_turns(stream))
        later = {id(s.load): s.later for s in streams}
        rest = self.nodes(_behind(rest, later))
        counters = (*self._generation.values(), *self._late.values())
        resets = tuple(c.Set(slot, Affine()) for slot in counters)
        return self._guarded((*self.nodes(lead), *first)), self._guarded((*resets, *rest))

    def _first_turns(self, stream: _Stream) -> tuple[c.Node, ...]:
        """The loads of a stream that need not wait for a buffer."""
        *around, own = (loop.slot for loop in stream.loops)
        nodes: list[c.Node] = [c.Set(slot, Affine()) for slot in around]
        counter = self._generation.get(own)
        for turn in range(stream.turns):
            nodes += [c.Set(slot, Affine(turn)) for slot in (own, counter) if slot is not None]
            nodes.append(self.node(stream.load))
        return tuple(nodes)

    def _guarded(self, nodes: tuple[c.Node, ...]) -> tuple[c.Node, ...]:
        if not nodes or self.program.active == self.chip.cores:
            return nodes
        return (c.If(Affine(self.program.active, (Term(0, -1),)), nodes),)


def _behind(nodes: tuple[c.Node, ...], later: dict[int, Affine]) -> tuple[c.Node, ...]:
    """The tree with conditions around some loads (by identity)."""
    out: list[c.Node] = []
    for node in nodes:
        if isinstance(node, c.Loop):
            out.append(c.Loop(node.slot, node.trip, _behind(node.body, later)))
        elif id(node) in later:
            out.append(c.If(later[id(node)], (node,)))
        else:
            out.append(node)
    return tuple(out)


def _overlap(a: Range, b: Range) -> bool:
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


def _fits(program: TileProgram, used: list[int], chip: Chip) -> bool:
    """Whether a kernel's buffers find room beside what its run uses."""
    sizes = local_bytes(program, len(chip.memories))
    return all(a + b <= room_bytes(m) for a, b, m in zip(used, sizes, chip.memories, strict=True))


def emit(
    name: str,
    programs: tuple[TileProgram, ...],
    plan: MemoryPlan,
    bindings: tuple[tuple[str, Window, str], ...],
    chip: Chip,
    semaphores: tuple[int, ...],
) -> Program:
    """One program of all kernels in order."""
    tensors: dict[Window, int] = {}
    body: list[c.Node] = []
    slots, low = 0, True
    peaks = used = [0] * len(chip.memories)
    before: list[Range] = []  # of the run before
    own: list[Range] = []  # of this one
    run: list[Touched] = []
    for number, program in enumerate(programs):
        touched = touched_by(program, plan)
        if number and not (touched.independent(run) and _fits(program, used, chip)):
            low, used, before, own, run = not low, [0] * len(chip.memories), own, [], []
        emitter = _Emitter(program, chip, number, tensors, used, low)
        lead, rest = emitter.emit(None if run else before)
        body.extend((*lead, *((c.Barrier(True, CONSUMERS),) if number and not run else ()), *rest))
        run.append(touched)
        own += emitter.ranges()
        used = emitter.used
        slots = max(slots, emitter.slots)
        peaks = [max(a, b) for a, b in zip(peaks, emitter.used, strict=True)]
    bound = tuple(Binding(label, tensors.setdefault(window, len(tensors)), role) for label, window, role in bindings)
    descriptors = tuple(
        Tensor(
            w.buffer.name,
            w.buffer.space,
            plan.address[w.buffer] + w.offset * w.buffer.dtype.bytes,
            w.dtype,
            w.extents,
            w.strides,
            w.fill,
        )
        for w in tensors
    )
    return Program(
        name,
        chip.name,
        chip.cores,
        descriptors,
        ("core", *(f"s{n}" for n in range(1, slots + 1))),
        semaphores,
        tuple(body),
        tuple(Kernel(p.name, p.sources) for p in programs),
        bound,
        plan.dram_bytes,
        {m.name: n for m, n in zip((*chip.memories, *chip.spaces), (*peaks, *plan.on_chip_bytes), strict=True)},
    )
