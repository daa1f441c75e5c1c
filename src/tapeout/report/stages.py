"""The stages of a compilation as text, for `--emit`."""

from __future__ import annotations

from pathlib import Path

from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import Compiled
from tapeout.compiler.tile import TileProgram
from tapeout.errors import UserError
from tapeout.ir import kernel as k
from tapeout.ir.text import print_graph
from tapeout.isa import asm
from tapeout.isa.operands import Tensor
from tapeout.isa.program import Kernel, Program

STAGES = ("graph", "canonical", "kernels", "schedules", "tiles", "program")


def stage_text(compiled: Compiled, chip: Chip, stage: str) -> str:
    """One stage, ending in a newline."""
    match stage:
        case "graph":
            return print_graph(compiled.source)
        case "canonical":
            return print_graph(compiled.graph)
        case "kernels":
            return "\n".join(kernel_text(kernel) for kernel in compiled.kernels)
        case "schedules":
            pairs = zip(compiled.kernels, compiled.schedules, strict=True)
            return "".join(f"{kernel.name}: {schedule.text(kernel)}\n" for kernel, schedule in pairs)
        case "tiles":
            return "\n".join(tile_text(tile, chip, n) for n, tile in enumerate(compiled.tiles))
        case _:
            return asm.text(compiled.program)


def kernel_text(kernel: k.KernelSpec) -> str:
    """A kernel: its axes with their extents, then one op per line."""
    marks = ((kernel.resident, "!"), (kernel.single, "1"), (kernel.sequential, "+"))
    axes = [f"{a.name}{''.join(m for held, m in marks if a in held)}={a.extent}" for a in kernel.layout]
    lines = [f"kernel {kernel.name} [{' '.join(axes)}]  // ! whole, 1 one at a time, + reduced in chunks"]
    return "\n".join([*lines, *(f"  {_op(op)}" for op in kernel.ops), ""])


def _op(op: k.KernelOp) -> str:
    match op:
        case k.LoadTile():
            return f"{_tile(op.out)} = load {_access(op.access)}"
        case k.Contract():
            pairs = " + ".join(f"{a.name} * {b.name}" for a, b in op.pairs)
            unit = " on vector" if op.vector else ""
            return f"{_tile(op.out)} = sum over {_axes(op.reduce)} of {pairs}{unit}{_source(op.source)}"
        case k.Map():
            sources = ", ".join(s.name if isinstance(s, k.Tile) else repr(s) for s in op.srcs)
            return f"{_tile(op.out)} = {op.fn} {sources}{_source(op.source)}"
        case k.Fold():
            return f"{_tile(op.out)} = {op.fn} over {_axes(op.reduce)} of {op.src.name}{_source(op.source)}"
        case k.StoreTile():
            return f"store {_access(op.access)} {'+=' if op.add else '='} {op.src.name}"


def _tile(tile: k.Tile) -> str:
    return f"{tile.name} {tile.dtype.value}[{', '.join(_index(i) for i in tile.index)}]"


def _access(access: k.Access) -> str:
    index = ", ".join(f"{_index(i)} < {n}" for i, n in zip(access.index, access.extents, strict=True))
    gathered = f" rows {access.gather[1].name} along {access.gather[0]}" if access.gather else ""
    strides = ", ".join(map(str, access.strides))
    return f"{access.buffer.role} {access.buffer.name}[{index}] at {access.offset} strides ({strides}){gathered}"


def _index(index: k.DimIndex) -> str:
    terms = [axis.name if coef == 1 else f"{coef}*{axis.name}" for axis, coef in index.terms]
    if index.offset or not terms:
        terms.append(str(index.offset))
    return "+".join(terms).replace("+-", "-")


def _axes(axes: tuple[k.Axis, ...]) -> str:
    return " ".join(a.name for a in axes) or "nothing"


def _source(source: str) -> str:
    return f"  // {source}" if source else ""


def tile_text(tile: TileProgram, chip: Chip, number: int) -> str:
    """A tile program: its buffers, then its commands, in which `m3` is buffer 3 and a tensor is a window."""
    tensors = tuple(Tensor(w.buffer.name, 0, w.offset, w.dtype, w.extents, w.strides, w.fill) for w in tile.windows)
    slots = ("core", *(f"s{n}" for n in range(1, tile.slots + 1)))
    program = Program(
        tile.name, chip.name, chip.cores, tensors, slots, (), tile.body, (Kernel(tile.name, tile.sources),)
    )
    lines = [f"tiles {number} {tile.name} on {tile.active} cores"]
    for n, b in enumerate(tile.buffers):
        lines.append(
            f"  m{n} {b.name}: {b.depth} x {b.bytes} bytes of {chip.memories[b.memory].name} in loop {slots[b.scope]}"
        )
    body = asm.Printer(program).lines(tile.body, "  ")
    return "\n".join([*lines, *body, ""])


def read_program(path: str) -> str:
    """A saved program's text, read and printed again. `UserError` where it is none."""
    try:
        source = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError("is not a program's text", path, "give what `run --emit program` wrote, or --chip") from None
    except OSError as error:
        raise UserError(f"cannot read it ({error.strerror})", path, "give a program's text, or --chip") from None
    return asm.text(asm.parse(source))
