"""The verifier of tile programs. A tile program is valid for a chip when

1. every loop has a slot of its own, of 1 .. slots; the loops of `scopes` lie in the tree as it says and have the
   constant trips of `trips`;
2. every local buffer lies in a memory of the chip, belongs to a scope, has room for at least one turn, and no more than
   one outside of loops;
3. a view names a buffer of its scope or one around it, has a stride for each dimension of its command, and lies inside
   the buffer for all values of the loop counters and all cores that get work;
4. the memory of a view is one that the command's engine reaches, in the role that the operand has;
5. a DMA command names a window and has the window's dimensions, at most 5; windows lie inside their buffers; other
   commands have at most 4 dimensions, matrix products at most 3 rows and 3 depths; expressions use counters of the
   loops around them and the core number only;
6. loads for a whole cluster fill buffers that are marked so, and whole clusters get work then;
7. each semaphore is posted by one queue and waited for by one queue, and as often as it is posted, whatever branches
   are taken: every wait has its post, and the kernel leaves all semaphores as they were;
8. the stages of a loop are one for each node of its body, or say that a nest goes on in one of them, a loop with
   stages; over a nest no command has an earlier stage than one of its queue or one that it depends on before it; its
   buffers have room for the turns that are under way, and what outlasts the turns that write it has one stage
   (`skew.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod

from tapeout.chip.spec import Chip
from tapeout.compiler.skew import INSIDE, fault_of, nests_of
from tapeout.compiler.tile import TileProgram
from tapeout.compiler.uses import loops_in
from tapeout.errors import VerifyError
from tapeout.isa import commands as c
from tapeout.isa.asm import Printer
from tapeout.isa.operands import CORE, Affine, View
from tapeout.isa.program import Program

Range = tuple[int, int]
"""Least and greatest value."""
Operand = tuple[View, tuple[int, ...], str]
"""A view, the extents of its dimensions, and the role in which the engine reaches it."""


def verify_tiles(program: TileProgram, chip: Chip, stage: str = "lowering") -> None:
    """Raises `VerifyError` naming the kernel, the command and what does not hold."""
    _Verifier(program, chip, stage).run()


def bounds(value: Affine, slots: Mapping[int, Range]) -> Range:
    """Least and greatest value of an expression. `KeyError` where it uses a slot that has none."""
    low = high = value.const
    for term in value.terms:
        least, most = (n // term.div for n in slots[term.slot])
        if term.mod and (most - least >= term.mod or most % term.mod < least % term.mod):
            least, most = 0, term.mod - 1
        elif term.mod:
            least, most = least % term.mod, most % term.mod
        ends = sorted((term.coef * least, term.coef * most))
        low, high = low + ends[0], high + ends[1]
    return low, high


def operands(command: c.AnyCommand) -> Iterator[Operand]:
    """The local views of a command."""
    match command:
        case c.Load() | c.Store():
            yield command.local, command.extents, "ld" if isinstance(command, c.Load) else "st"
            if command.index:
                yield command.index.list, (command.extents[command.index.dim],), "ve"
        case c.Copy():
            yield command.dst, command.dims, "mv"
            yield command.src, command.dims, "mv"
        case c.Drain():
            views = (command.dst, command.acc, command.scale, command.bias)
            yield from ((v, command.dims, "mv") for v in views if isinstance(v, View))
        case c.MatMul():
            yield command.a, (*command.m, *command.k), "a"
            yield command.b, (*command.k, command.n), "b"
            yield command.c, (*command.m, command.n), "c"
        case c.Vector():
            yield from ((v, command.dims, "ve") for v in (command.dst, *command.srcs) if isinstance(v, View))
        case c.Nop():
            return


class _Verifier:
    def __init__(self, program: TileProgram, chip: Chip, stage: str) -> None:
        self.program, self.chip, self.stage = program, chip, stage
        self.slots: dict[int, Range] = {CORE: (0, max(0, program.active - 1))}
        self.around: tuple[int, ...] = ()
        self.met: set[int] = set()
        self.posted: dict[int, int] = {}
        self.waited: dict[int, int] = {}

    def fail(self, what: str, node: object = None) -> VerifyError:
        return VerifyError(self.stage, f"{self.program.name}: {self._text(node)}" if node else self.program.name, what)

    def _text(self, node: object) -> str:
        if not isinstance(node, c.Command):
            return type(node).__name__
        slots = ("core", *(f"s{n}" for n in range(1, self.program.slots + 1)))
        printer = Printer(Program("", "", 1, (), slots, (), ()))
        printer.tensors = tuple(f"${n}" for n in range(len(self.program.windows)))
        try:
            return printer.command(node)  # type: ignore[arg-type] commands are the nodes of this base
        except IndexError:  # what is wrong is a number in it
            return type(node).__name__

    def run(self) -> None:
        self.check_buffers()
        self.check_windows()
        self.check_stages()
        left = self.check_nodes(self.program.body)
        if any(left.values()):
            semaphore = next(s for s, n in left.items() if n)
            raise self.fail(f"semaphore {semaphore} is posted {left[semaphore]} more times than it is waited for")
        missing = (self.program.scopes.keys() | self.program.trips.keys()) - self.met - {0}
        if missing:
            raise self.fail(f"there is no loop for the scope of slot {min(missing)}")

    # ---- declarations

    def check_buffers(self) -> None:
        program = self.program
        if not 1 <= program.active <= self.chip.cores or program.scopes.get(0) != ():
            raise self.fail(f"{program.active} cores get work, the outermost scope is {program.scopes.get(0)}")
        for n, buffer in enumerate(program.buffers):
            if not 0 <= buffer.memory < len(self.chip.memories):
                raise self.fail(f"buffer m{n} ({buffer.name}) lies in memory {buffer.memory}")
            if buffer.scope not in program.scopes or buffer.bytes < 1 or buffer.depth < 1:
                size = f"{buffer.depth} x {buffer.bytes} bytes"
                raise self.fail(f"buffer m{n} ({buffer.name}): scope {buffer.scope}, {size}")
            if buffer.depth > 1 and not buffer.scope:
                raise self.fail(f"buffer m{n} ({buffer.name}) has {buffer.depth} turns outside of loops")

    def check_windows(self) -> None:
        for n, window in enumerate(self.program.windows):
            if not len(window.extents) == len(window.strides) <= 5:
                raise self.fail(f"window {n} of {window.buffer.name} has {len(window.extents)} dimensions")
            size = window.buffer.dtype.bytes
            ends = [(e - 1) * s for e, s in zip(window.extents, window.strides, strict=True)]
            low = window.offset * size + sum(e for e in ends if e < 0)
            high = window.offset * size + sum(e for e in ends if e > 0) + window.dtype.bytes
            if all(window.extents) and (low < 0 or high > window.buffer.bytes):
                raise self.fail(f"window {n} takes bytes {low} to {high} of {window.buffer.name}")

    def check_stages(self) -> None:
        program = self.program
        loops = {loop.slot: loop for loop in loops_in(program.body)}
        for slot, stages in program.stages.items():
            loop = loops.get(slot)
            if loop is None or slot not in program.scopes or len(stages) != len(loop.body) or min(stages) < INSIDE:
                raise self.fail(f"the stages of slot {slot} are not those of a loop's body")
            inner = [node for node, stage in zip(loop.body, stages, strict=True) if stage == INSIDE]
            if any(not isinstance(n, c.Loop) or n.slot not in program.stages for n in inner) or len(inner) > 1:
                raise self.fail(f"the nest of slot {slot} does not go on in one loop")
        for nest in nests_of(program, program.stages):
            if (wrong := fault_of(nest, program.stages, program.buffers)) is not None:
                raise self.fail(f"slot {nest[0].slot}: {wrong}")

    # ---- the tree

    def check_nodes(self, nodes: tuple[c.Node, ...]) -> Counter[int]:
        """Checks a body. What it posts more than it waits for, by semaphore."""
        left: Counter[int] = Counter()
        for node in nodes:
            match node:
                case c.Loop():
                    for semaphore, n in self.check_loop(node).items():
                        left[semaphore] += n * node.trip.const
                case c.If():
                    self.check_affine(node.value, node)
                    then, otherwise = self.check_nodes(node.body), self.check_nodes(node.orelse)
                    if any(then[s] != otherwise[s] for s in then.keys() | otherwise.keys()):
                        raise self.fail("its branches leave semaphores different", node)
                    left.update(then)
                case c.Load() | c.Store() | c.Copy() | c.Drain() | c.MatMul() | c.Vector() | c.Nop():
                    self.check_command(node)
                    self.check_order(node, left)
                case _:
                    raise self.fail("is no part of a tile program", node)
        return left

    def check_loop(self, node: c.Loop) -> Counter[int]:
        program, slot = self.program, node.slot
        if not 1 <= slot <= program.slots or slot in self.met:
            raise self.fail(f"slot {slot} is not of the program, or of two loops", node)
        if node.trip.terms or node.trip.const < 1 or program.trips.get(slot, node.trip.const) != node.trip.const:
            raise self.fail(f"slot {slot} has a trip of {node.trip.const}", node)
        self.met.add(slot)
        around = self.around
        self.around = (*around, slot)
        if slot in program.scopes and program.scopes[slot] != self.around:
            raise self.fail(f"the scope of slot {slot} lies in {program.scopes[slot]}, its loop in {self.around}", node)
        self.slots[slot] = (0, node.trip.const - 1)
        left = self.check_nodes(node.body)
        del self.slots[slot]
        self.around = around
        return left

    def check_affine(self, value: Affine, node: c.Node) -> Range:
        try:
            return bounds(value, self.slots)
        except KeyError as error:
            raise self.fail(f"uses slot {error}, whose loop is not around it", node) from None

    # ---- commands

    def check_command(self, node: c.AnyCommand) -> None:
        match node:
            case c.Load() | c.Store():
                self.check_dma(node)
            case c.MatMul() if len(node.m) > 3 or len(node.k) > 3:
                raise self.fail("has more than 3 dimensions of rows or depth", node)
            case c.Copy() | c.Drain() | c.Vector() if len(node.dims) > 4:
                raise self.fail("has more than 4 dimensions", node)
            case _:
                pass
        if isinstance(node, c.MatMul | c.Vector):
            self.check_affine(node.accumulate, node)
        for view, extents, role in operands(node):
            self.check_view(view, extents, role, node)

    def check_dma(self, node: c.Load | c.Store) -> None:
        if not 0 <= node.tensor < len(self.program.windows):
            raise self.fail(f"there is no window {node.tensor}", node)
        rank = len(self.program.windows[node.tensor].extents)
        if len(node.origin) != rank or len(node.extents) != rank or (node.index and not 0 <= node.index.dim < rank):
            raise self.fail(f"a box that has not the {rank} dimensions of its window", node)
        for value in (*node.origin, node.offset):
            self.check_affine(value, node)
        together = isinstance(node, c.Load) and node.multicast
        known = range(len(self.program.buffers))
        marked = node.local.memory in known and self.program.buffers[node.local.memory].cluster
        if isinstance(node, c.Load) and together != marked:
            raise self.fail("a buffer and a load disagree on whether a cluster fills it", node)
        if together and self.program.active % self.chip.topology.cores:
            raise self.fail("a load for a cluster of which only some cores get work", node)

    def check_view(self, view: View, extents: tuple[int, ...], role: str, node: c.AnyCommand) -> None:
        if not 0 <= view.memory < len(self.program.buffers):
            raise self.fail(f"there is no buffer m{view.memory}", node)
        buffer = self.program.buffers[view.memory]
        if buffer.scope and buffer.scope not in self.around:
            raise self.fail(f"uses m{view.memory} ({buffer.name}) outside of its scope", node)
        if role not in self.chip.memories[buffer.memory].reach:
            raise self.fail(f"{role} does not reach {self.chip.memories[buffer.memory].name}", node)
        if len(view.strides) != len(extents):
            raise self.fail(f"a view of m{view.memory} has {len(view.strides)} strides for {len(extents)}", node)
        if not prod(extents):
            return
        low, high = self.check_affine(view.base, node)
        for n, stride in zip(extents, view.strides, strict=True):
            low, high = low + min(0, (n - 1) * stride), high + max(0, (n - 1) * stride)
        end = high + view.dtype.bytes
        if low < 0 or end > buffer.bytes:
            raise self.fail(f"bytes {low} to {end} of m{view.memory}, which has {buffer.bytes}", node)

    def check_order(self, node: c.AnyCommand, left: Counter[int]) -> None:
        """Counts what the command posts and waits for."""
        queue, cluster = int(c.queue_of(node)), self.chip.topology.cores
        for wait in node.waits:
            left[wait.semaphore] -= wait.count
            if self.waited.setdefault(wait.semaphore, queue) != queue:
                raise self.fail(f"semaphore {wait.semaphore} is waited for by two queues", node)
        for post in node.posts:
            for n in range(cluster if post.cluster else 1):
                left[post.semaphore + n] += post.count
                if self.posted.setdefault(post.semaphore + n, queue) != queue:
                    raise self.fail(f"semaphore {post.semaphore + n} is posted by two queues", node)
