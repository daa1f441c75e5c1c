"""A graph brought to another precision, and the chip as it computes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir.post_training import int4w, int8, tf32
from tapeout.ir.retype import retype
from tapeout.ir.types import DType

FLOATS = {"fp32": DType.f32, "fp16": DType.f16, "bf16": DType.bf16}
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int4w")


def with_precision(
    graph: g.Graph, precision: str, chip: Chip, inputs: Mapping[str, np.ndarray] | None
) -> tuple[g.Graph, Chip]:
    """The graph in `precision`, one of `PRECISIONS` ("": as it is), and the chip in that mode.

    int8 measures activations in a run on `inputs`; without them only cycles are meant. `UserError` where the chip
    cannot.
    """
    match precision:
        case "":
            return graph, chip
        case "fp32" | "fp16" | "bf16":
            return retype(graph, FLOATS[precision]), chip
        case "int8":
            wide = retype(graph, DType.f32)
            shown = None if inputs is None else {v.name: inputs[v.name].astype(v.type.dtype.numpy) for v in wide.inputs}
            return int8(wide, shown), chip
        case "int4w":
            return int4w(graph), chip
        case "tf32":
            return tf32(retype(graph, DType.f32)), tf32_mode(chip)
        case _:
            raise UserError(f"no precision '{precision}'", graph.name, f"use one of {', '.join(PRECISIONS)}")


def tf32_mode(chip: Chip) -> Chip:
    """The chip with its switch for f32 set to tf32: contractions of f32 run on the tf32 unit."""
    geometry = chip.matrix.geometry
    if "tf32" not in geometry:
        has = ", ".join(geometry) or "no matrix unit"
        raise UserError(f"the matrix unit has no tf32 ({has})", chip.name, "use --precision fp32")
    return replace(chip, matrix=replace(chip.matrix, geometry={**geometry, "f32": geometry["tf32"]}))
