"""The verifier of schedule records. A record fits its kernel when

1. it has a tile for each axis of the layout, of 1 to all of its elements;
2. resident axes are whole, chunks of an axis that a fold reduces divide it, unless what its last chunk reads behind the
   end is neutral (`neutral_outside`);
3. only axes that may be spread are, each once, in at least 2 parts and no more than it has tiles; the parts multiply to
   no more than the cores of the chip;
4. the order has each parallel axis once, and no other;
5. streamed tiles are buffered for at least one turn, and the expected cycles are not negative.
"""

from __future__ import annotations

from tapeout.chip.spec import Chip
from tapeout.compiler.roles import neutral_outside
from tapeout.compiler.schedule import Schedule
from tapeout.errors import VerifyError
from tapeout.ir.kernel import Axis, Fold, KernelSpec


def verify_schedule(kernel: KernelSpec, schedule: Schedule, chip: Chip, stage: str = "search") -> None:
    """Raises `VerifyError` naming the kernel, the axis and what does not hold."""

    def fail(what: str, axis: Axis | None = None) -> VerifyError:
        return VerifyError(stage, f"{kernel.name}: {axis.name}" if axis else kernel.name, what)

    if schedule.tile.keys() != set(kernel.layout):
        raise fail("tiles are not of the axes of the layout")
    folded = {a for op in kernel.ops if isinstance(op, Fold) for a in op.reduce} & kernel.sequential
    for axis, tile in schedule.tile.items():
        if not 1 <= tile <= axis.extent:
            raise fail(f"a tile of {tile} of {axis.extent} elements", axis)
        if axis in kernel.resident and tile != axis.extent:
            raise fail(f"a tile of {tile} where all {axis.extent} elements must be", axis)
        if axis in folded and axis.extent % tile and not neutral_outside(kernel, axis):
            raise fail(f"chunks of {tile} of {axis.extent} folded elements", axis)
    for axis, parts in schedule.spread:
        if axis not in kernel.spreadable or not 2 <= parts <= schedule.tiles(axis):
            raise fail(f"spread in {parts} parts", axis)
    if len(schedule.factor) != len(schedule.spread):
        raise fail("an axis is spread twice")
    if schedule.cores > chip.cores:
        raise fail(f"spread over {schedule.cores} of {chip.cores} cores")
    if len(schedule.order) != len(kernel.parallel) or set(schedule.order) != set(kernel.parallel):
        raise fail("the order is not one of the parallel axes")
    if schedule.depth < 1 or not schedule.cycles >= 0:
        raise fail(f"depth {schedule.depth}, {schedule.cycles} cycles")
