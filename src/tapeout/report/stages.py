"""The stages of a compilation as text, for `--emit`."""

from __future__ import annotations

from pathlib import Path

from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import Compiled
from tapeout.compiler.schedule_text import print_schedules
from tapeout.compiler.tile_text import print_tiles
from tapeout.errors import UserError
from tapeout.ir.kernel_text import print_kernels
from tapeout.ir.text import print_graph
from tapeout.isa import asm

STAGES = ("graph", "canonical", "kernels", "schedules", "tiles", "program")


def stage_text(compiled: Compiled, chip: Chip, stage: str) -> str:
    """One stage, ending in a newline."""
    match stage:
        case "graph":
            return print_graph(compiled.source)
        case "canonical":
            return print_graph(compiled.graph)
        case "kernels":
            return print_kernels(compiled.kernels)
        case "schedules":
            return print_schedules(compiled.kernels, compiled.schedules)
        case "tiles":
            return print_tiles(compiled.tiles, chip)
        case _:
            return asm.text(compiled.program)


def read_program(path: str) -> str:
    """A saved program's text, read and printed again. `UserError` where it is none."""
    try:
        source = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError("is not a program's text", path, "give what `run --emit program` wrote, or --chip") from None
    except OSError as error:
        raise UserError(f"cannot read it ({error.strerror})", path, "give a program's text, or --chip") from None
    return asm.text(asm.parse(source))
