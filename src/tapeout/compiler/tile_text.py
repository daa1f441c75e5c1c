"""Tile programs as text, and back: `parse_tiles(print_tiles(ts, chip), chip, constants(..))` is `ts` again.

    buffer x: f32 (8, 64) input

    tiles "fc" of "fc1", "relu1" on 4 cores {
      slots 2
      scope s1 in s1 trip 4
      m0 "x.1": 512 bytes x 2 of nram in s1
      window x: f32 (8, 64) strides (256, 4) at 0 fill 0.0
      body {
        for s1 in 4 {
          load x[2*s1, 0 | 2, 64] + 0 -> m0[0 | 256, 4]:f32 post 3 kernel 0
        }
      }
    }

Commands are written as in programs (`isa/asm.py`), with `m0` for buffer 0 and a window for a tensor. A scope is a loop
with those around it, outermost first; a buffer belongs to one of them (`s0`: to the kernel) and has room for a number
of turns. `cluster` marks one that all cores of the cluster fill. Where turns overlap, `stages s1 of 0, inside, 1` says
the stage of each node of a loop's body, or that the nest goes on inside of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tapeout.chip.spec import Chip
from tapeout.compiler.skew import INSIDE
from tapeout.compiler.tile import LocalBuffer, TileProgram, Window
from tapeout.ir import kernel_text
from tapeout.ir.kernel import Buffer
from tapeout.ir.special import Array
from tapeout.isa.asm import Printer
from tapeout.isa.asm_parser import Parser
from tapeout.isa.operands import Tensor
from tapeout.isa.program import Program


def print_tiles(programs: Sequence[TileProgram], chip: Chip) -> str:
    """The buffers that the programs' windows show, then the programs."""
    buffers = buffers_of(programs)
    labels = kernel_text.buffer_labels(buffers)
    head = "".join(f"{kernel_text.buffer_line(b)}\n" for b in buffers)
    return "\n".join([head, *(_program(p, chip, labels) for p in programs)])


def buffers_of(programs: Sequence[TileProgram]) -> tuple[Buffer, ...]:
    """The buffers behind all windows, in order of first use."""
    return tuple(dict.fromkeys(w.buffer for p in programs for w in p.windows))


def _slots(count: int) -> tuple[str, ...]:
    return ("core", *(f"s{n}" for n in range(1, count + 1)))


def _list(items: Sequence[object]) -> str:
    return f"({', '.join(map(str, items))})"


def _program(program: TileProgram, chip: Chip, labels: Mapping[Buffer, str]) -> str:
    sources = ", ".join(json.dumps(s) for s in program.sources)
    of = f" of {sources}" if sources else ""
    lines = [f"tiles {json.dumps(program.name)}{of} on {program.active} cores {{", f"  slots {program.slots}"]
    for slot, path in program.scopes.items():
        if slot:
            lines.append(f"  scope s{slot} in {', '.join(f's{s}' for s in path)} trip {program.trips[slot]}")
    for slot, stages in program.stages.items():
        lines.append(f"  stages s{slot} of {', '.join('inside' if n == INSIDE else str(n) for n in stages)}")
    for n, b in enumerate(program.buffers):
        where = f"{b.bytes} bytes x {b.depth} of {kernel_text.word(chip.memories[b.memory].name)} in s{b.scope}"
        lines.append(f"  m{n} {json.dumps(b.name)}: {where}{' cluster' if b.cluster else ''}")
    for w in program.windows:
        box = f"{w.dtype.value} {_list(w.extents)} strides {_list(w.strides)}"
        lines.append(f"  window {labels[w.buffer]}: {box} at {w.offset} fill {float(w.fill)!r}")
    body = Printer(_frame(program.slots, program.windows)).lines(program.body, "    ")
    return "\n".join([*lines, "  body {", *body, "  }", "}", ""])


def _frame(slots: int, windows: Sequence[Window]) -> Program:
    """A program with the names of a tile program, for printing and reading its commands."""
    tensors = tuple(Tensor(w.buffer.name, 0, 0, w.dtype, w.extents, w.strides, w.fill) for w in windows)
    return Program("", "", 1, tensors, _slots(slots), (), ())


def parse_tiles(text: str, chip: Chip, arrays: Mapping[str, Array] | None = None) -> tuple[TileProgram, ...]:
    """The programs that `print_tiles` wrote for this chip; `UserError` with the line where it is not of that form."""
    lines = text.splitlines()
    count = next((n for n, line in enumerate(lines) if line and not line.startswith("buffer ")), len(lines))
    buffers = kernel_text.parse_buffers("\n".join(lines[:count]), arrays)
    parser = _TileParser("\n" * count + "\n".join(lines[count:]), chip, buffers)
    found: list[TileProgram] = []
    while parser.took("tiles"):
        found.append(parser.tiles())
    parser.end()
    return tuple(found)


class _TileParser(Parser):
    """Reads tile programs; commands are the base's business."""

    def __init__(self, source: str, chip: Chip, buffers: tuple[Buffer, ...]) -> None:
        super().__init__(source)
        self.memories = {kernel_text.word(m.name): n for n, m in enumerate(chip.memories)}
        self.known = dict(zip(kernel_text.buffer_labels(buffers).values(), buffers, strict=True))

    def end(self) -> None:
        if self.ahead:
            raise self.fail(f"`{self.next()}` after the end of the programs")

    def slot(self) -> int:
        name = self.next()
        if not (name[0] == "s" and name[1:].isdigit()):
            raise self.fail(f"`{name}` where a slot should be")
        return int(name[1:])

    def tiles(self) -> TileProgram:
        name = self.name()
        sources = self.items(self.name) if self.took("of") else ()
        self.expect("on")
        active = self.number()
        self.expect("cores", "{", "slots")
        slots = self.number()
        scopes: dict[int, tuple[int, ...]] = {0: ()}
        trips: dict[int, int] = {}
        while self.took("scope"):
            slot = self.slot()
            self.expect("in")
            scopes[slot] = self.items(self.slot)
            self.expect("trip")
            trips[slot] = self.number()
        stages: dict[int, tuple[int, ...]] = {}
        while self.took("stages"):
            slot = self.slot()
            self.expect("of")
            stages[slot] = self.items(self.stage)
        buffers: list[LocalBuffer] = []
        while self.took(f"m{len(buffers)}"):
            buffers.append(self.local())
        windows: list[Window] = []
        while self.took("window"):
            windows.append(self.window())
        frame = Printer(_frame(slots, windows))
        self.slots = {label: n for n, label in enumerate(frame.slots)}
        self.tensors = {label: n for n, label in enumerate(frame.tensors)}
        self.expect("body")
        body = self.block()
        self.expect("}")
        return TileProgram(name, sources, tuple(buffers), tuple(windows), slots, scopes, trips, active, body, stages)

    def stage(self) -> int:
        return INSIDE if self.took("inside") else self.number()

    def local(self) -> LocalBuffer:
        name = self.name()
        self.expect(":")
        size = self.number()
        self.expect("bytes", "x")
        depth = self.number()
        self.expect("of")
        memory = self.pick(self.memories)
        self.expect("in")
        return LocalBuffer(name, memory, size, depth, self.slot(), self.took("cluster"))

    def window(self) -> Window:
        label = self.next()
        if label not in self.known:
            raise self.fail(f"there is no buffer {label}")
        self.expect(":")
        dtype, extents = self.dtype(), self.sizes()
        self.expect("strides")
        strides = self.sizes()
        self.expect("at")
        offset = self.number()
        self.expect("fill")
        return Window(self.known[label], offset, dtype, extents, strides, self.real())
