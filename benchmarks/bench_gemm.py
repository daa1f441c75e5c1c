"""Speed of the functional executor's matrix product: GFLOP/s on one thread, by element type and shape, as JSON.

The product is a loop of `MatMul` commands in a simulated program, so packing, conversion and checks are included.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time

import numpy as np

from tapeout import __version__, _native
from tapeout.chip.load import load_chip
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Post, Tensor, View, Wait
from tapeout.isa.program import Program
from tapeout.sim.machine import Segment, run

SHAPES = [(512, 512, 512), (196, 64, 1152), (196, 64, 64), (128, 128, 64), (1, 768, 768)]
DTYPES = [DType.f32, DType.bf16, DType.f16, DType.i8, DType.i16]


def measure(shape: tuple[int, int, int], dtype: DType, exact: bool) -> float:
    """GFLOP/s of rows x cols x depth; the second of two runs, so that code and memory are warm."""
    rows, cols, depth = shape
    chip = load_chip("systolic-128")
    kind = chip.matrix.geometry["bf16"]
    geometry = {d.value: kind for d in DTYPES}
    chip = dataclasses.replace(chip, matrix=dataclasses.replace(chip.matrix, geometry=geometry))
    size = dtype.bytes
    a_bytes, b_bytes = rows * depth * size, depth * cols * size
    data = np.random.default_rng(0).integers(-5, 6, rows * depth + depth * cols).astype(dtype.numpy)
    turns = max(1, int((3e8 if exact else 3e9) / (rows * cols * depth)))
    product = c.MatMul(
        (rows,), cols, (depth,),
        View(0, Affine(), (depth * size, size), dtype), View(0, Affine(a_bytes), (cols * size, size), dtype),
        View(0, Affine(a_bytes + b_bytes), (cols * 4, 4), DType.f32 if dtype.is_float else DType.i32), Affine(),
    )  # fmt: skip
    load = c.Load(0, (Affine(),), (len(data),), Affine(), View(0, Affine(), (size,), dtype), posts=(Post(0, turns),))
    body = (load, c.Loop(1, Affine(turns), (dataclasses.replace(product, waits=(Wait(0),)),)))
    tensor = Tensor("x", 0, 0, dtype, (len(data),), (size,))
    program = Program("gemm", chip.name, 1, (tensor,), ("core", "i"), (0,), body)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        run(program, chip, [Segment(0, data, True)], exact=exact)
        seconds = time.perf_counter() - start
    return 2e-9 * rows * cols * depth * turns / seconds


def main() -> None:
    rates = {
        f"{'x'.join(map(str, shape))} {dtype.value}{' exact' if exact else ''}": round(measure(shape, dtype, exact), 1)
        for shape in SHAPES
        for dtype in DTYPES
        for exact in ([False, True] if dtype is DType.f32 else [False])
    }
    where = {"version": __version__, "level": _native.gemm_level(), "machine": platform.machine()}
    print(json.dumps({**where, "threads": 1, "gflop_per_s": rates}, indent=2))


if __name__ == "__main__":
    main()
