"""Programs as text, and back: `parse(text(p)) == p`.

    program "net" for "systolic-128" on 1 cores
    dram 4096
    slots core, i
    semaphores 2, 0
    tensor x: f32 (64, 32) strides (128, 4) at 0:1024 fill 0.0
    kernel "conv" of "conv1", "relu1"
    bind "input" x as input
    peak "sram" 8192
    body {
      for i in 16 {
        load x[4*i, 0 | 4, 32] + 0 -> m0[512*(i%2) | 128, 4]:f32 wait 0 post 1 kernel 0
        matmul (4 | 8 | 32) m0[1024 | 32, 4]:f32 <- m0[512*(i%2) | 128, 4]:f32, m0[2048 | 32, 4]:f32 add 0 wait 1 post 0
      }
    }

A view is memory, base and strides. `3:2` in a wait or post list is a count of 2, `3@` a post to the cluster. A slot or
tensor whose name is no identifier, or not unique, is written by number: `$3`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tapeout.isa import commands as c
from tapeout.isa.asm_parser import NAME, parse
from tapeout.isa.operands import Affine, Post, Source, View, Wait
from tapeout.isa.program import Program

__all__ = ["Printer", "command_text", "parse", "text"]


def _labels(names: Sequence[str]) -> tuple[str, ...]:
    """How each of them is written."""
    plain = [bool(NAME.fullmatch(name)) and names.count(name) == 1 for name in names]
    return tuple(name if ok else f"${i}" for i, (name, ok) in enumerate(zip(names, plain, strict=True)))


def _declared(name: str) -> str:
    return name if NAME.fullmatch(name) else json.dumps(name)


def _list(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items)


class Printer:
    """Writes nodes with the names of a program's slots and tensors."""

    def __init__(self, program: Program) -> None:
        self.slots = _labels(program.slots)
        self.tensors = _labels([tensor.name for tensor in program.tensors])

    def affine(self, value: Affine) -> str:
        return value.text(self.slots)

    def view(self, view: View) -> str:
        return f"m{view.memory}[{self.affine(view.base)} | {_list(view.strides)}]:{view.dtype.value}"

    def source(self, source: Source) -> str:
        if isinstance(source, View):
            return self.view(source)
        return f"#{float(source.value)!r}:{source.dtype.value}"

    def _dma(self, command: c.Load | c.Store) -> tuple[str, str]:
        origin = _list([self.affine(at) for at in command.origin])
        box = f"{self.tensors[command.tensor]}[{origin} | {_list(command.extents)}] + {self.affine(command.offset)}"
        index = command.index
        return box, f" index {index.dim} {self.view(index.list)}" if index else ""

    def command(self, command: c.AnyCommand) -> str:
        """One line without its semaphores and kernel."""
        view, affine = self.view, self.affine
        match command:
            case c.Load():
                box, index = self._dma(command)
                return f"load {box} -> {view(command.local)}{' multicast' if command.multicast else ''}{index}"
            case c.Store():
                box, index = self._dma(command)
                return f"store {view(command.local)} -> {box}{' adding' if command.add else ''}{index}"
            case c.Copy():
                return f"copy ({_list(command.dims)}) {view(command.dst)} <- {view(command.src)}"
            case c.Drain():
                clip = f"lo {float(command.lo)!r} hi {float(command.hi)!r} zero {command.zero}"
                scaled = f"scale {self.source(command.scale)} bias {self.source(command.bias)} {clip}"
                return f"drain ({_list(command.dims)}) {view(command.dst)} <- {view(command.acc)} {scaled}"
            case c.MatMul():
                sizes = f"{_list(command.m)} | {command.n} | {_list(command.k)}"
                operands = f"{view(command.c)} <- {view(command.a)}, {view(command.b)}"
                return f"matmul ({sizes}) {operands} add {affine(command.accumulate)}"
            case c.Vector():
                sources = _list([self.source(s) for s in command.srcs])
                head = f"vector {command.op} {command.compute} ({_list(command.dims)}) {view(command.dst)}"
                return f"{head} <- ({sources}) reduced {command.reduced} add {affine(command.accumulate)}"
            case c.Nop():
                return f"nop {c.Queue(command.queue).name}"

    def order(self, waits: tuple[Wait, ...], posts: tuple[Post, ...] = ()) -> str:
        """Semaphores, for a command's end."""
        wait = _list([f"{w.semaphore}:{w.count}" if w.count != 1 else w.semaphore for w in waits])
        post = _list([f"{p.semaphore}{'@' * p.cluster}{f':{p.count}' if p.count != 1 else ''}" for p in posts])
        return f"{' wait ' + wait if wait else ''}{' post ' + post if post else ''}"

    def lines(self, nodes: tuple[c.Node, ...], indent: str) -> list[str]:
        """The nodes, a line for each and its block inside."""
        out: list[str] = []
        for node in nodes:
            match node:
                case c.Loop():
                    out.append(f"{indent}for {self.slots[node.slot]} in {self.affine(node.trip)} {{")
                    out += [*self.lines(node.body, indent + "  "), indent + "}"]
                case c.While():
                    out.append(f"{indent}while {self.affine(node.value)} {{")
                    out += [*self.lines(node.body, indent + "  "), indent + "}"]
                case c.If():
                    out += [f"{indent}if {self.affine(node.value)} {{", *self.lines(node.body, indent + "  ")]
                    if node.orelse:
                        out += [indent + "} else {", *self.lines(node.orelse, indent + "  ")]
                    out.append(indent + "}")
                case c.Barrier():
                    queues = _list([c.Queue(q).name for q in node.queues])
                    out.append(f"{indent}barrier {'chip' if node.chip else 'cluster'} ({queues})")
                case c.Set():
                    out.append(f"{indent}set {self.slots[node.slot]} = {self.affine(node.value)}")
                case c.LoadScalar():
                    head = f"{indent}scalar {self.slots[node.slot]} = {self.view(node.source)}"
                    out.append(head + self.order(node.waits))
                case _:
                    order = self.order(node.waits, node.posts)
                    out.append(f"{indent}{self.command(node)}{order} kernel {node.kernel}")
        return out


def text(program: Program) -> str:
    """The whole program."""
    printer = Printer(program)
    out = [f"program {json.dumps(program.name)} for {json.dumps(program.chip)} on {program.cores} cores"]
    out += [f"dram {program.dram_bytes}", f"slots {_list([_declared(s) for s in program.slots])}"]
    out.append(f"semaphores {_list(program.semaphores)}".rstrip())
    for t in program.tensors:
        shape = f"{t.dtype.value} ({_list(t.extents)}) strides ({_list(t.strides)})"
        out.append(f"tensor {_declared(t.name)}: {shape} at {t.space}:{t.base} fill {float(t.fill)!r}")
    for kernel in program.kernels:
        sources = _list([json.dumps(s) for s in kernel.sources])
        out.append(f"kernel {json.dumps(kernel.name)}{' of ' + sources if sources else ''}")
    for b in program.bindings:
        out.append(f"bind {json.dumps(b.name)} {printer.tensors[b.tensor]} as {_declared(b.role)}")
    out += [f"peak {json.dumps(name)} {size}" for name, size in program.peaks.items()]
    return "\n".join([*out, "body {", *printer.lines(program.body, "  "), "}"]) + "\n"


def command_text(node: c.AnyCommand, program: Program) -> str:
    """One command as a line, for messages."""
    return Printer(program).lines((node,), "")[0]
