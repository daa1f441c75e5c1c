"""The mappings of the peers as programs of our instruction set, to be timed on chips that have the peers' rules.

These programs are for the timing executor: operands lie where there is room, and values are not meant.
"""

from __future__ import annotations

from itertools import product
from math import ceil, prod
from typing import Any

from workloads import COLUMNS, ROWS, Conv, Layer, as_gemm

from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Post, Tensor, View, Wait
from tapeout.isa.program import Program

IN, WEIGHT, OUT = 0, 8 * 2**20, 16 * 2**20
"""Where the operands lie in the scratchpad: a third for each."""

DRAM_BYTES_PER_CYCLE = 1024
WEIGHTS_THERE, PASS_DONE, INPUTS_THERE = 0, 1, 2


def matmul(rows: int, cols: int, depth: int, waits: tuple[c.Wait, ...] = (), posts: tuple[Post, ...] = ()) -> c.MatMul:
    """One pass or several over int8 operands that lie packed in the scratchpad."""
    return c.MatMul(
        (rows,), cols, (depth,),
        View(0, Affine(IN), (depth, 1), DType.i8), View(0, Affine(WEIGHT), (cols, 1), DType.i8),
        View(0, Affine(OUT), (4 * cols, 4), DType.i32), Affine(), waits=waits, posts=posts,
    )  # fmt: skip


def program(name: str, chip: str, body: list[c.Node], tensors: tuple[Tensor, ...] = (), semaphores: int = 0) -> Program:
    return Program(name, chip, 1, tensors, ("core",), (0,) * semaphores, tuple(body))


# ---- SCALE-Sim


def scalesim_program(layer: Layer, dataflow: str) -> Program:
    """SCALE-Sim's folds in its order, one command each: no transfers, for it counts its prefetch apart.

    Strided convolutions have the rows that SCALE-Sim gives them: its output sizes are rounded up.
    """
    g = as_gemm(layer)
    rows = g.m
    if isinstance(layer, Conv):
        rows = ceil((layer.size + 2 * layer.pad - layer.kernel + layer.stride) / layer.stride) ** 2
    body: list[c.Node] = []
    if dataflow == "ws":
        for n, k in product(range(0, g.n, COLUMNS), range(0, g.k, ROWS)):
            body.append(matmul(rows, min(COLUMNS, g.n - n), min(ROWS, g.k - k)))
    else:
        for m, n in product(range(0, rows, ROWS), range(0, g.n, COLUMNS)):
            body.append(matmul(min(ROWS, rows - m), min(COLUMNS, g.n - n), g.k))
    return program("scalesim", f"scalesim-{dataflow}", body)


# ---- ZigZag


def _bytes_of(name: str, number: int) -> Tensor:
    """A tensor of bytes in a row, far from the others."""
    return Tensor(name, 0, number << 28, DType.i8, (1 << 27,), (1,))


def _load(tensor: int, at: int, size: int, local: int, *posts: Post) -> c.Load:
    return c.Load(tensor, (Affine(at),), (size,), Affine(), View(0, Affine(local), (1,), DType.i8), posts=posts)


def _weight_tiles(found: dict[str, Any]) -> list[int]:
    """Of each pass in the mapping's order, which output columns it adds to. A pass is one weight tile over all rows."""
    inner, *outer = found["temporal"]["W"]
    loops = [loop for level in (inner, *outer) for loop in level if loop[0] not in ("B", "OX", "OY")]
    if any(loop[0] in ("B", "OX", "OY") for level in outer for loop in level):
        raise ValueError("a mapping that loads weights anew for other rows has no program here")
    columns: list[int] = []
    for counters in product(*(range(size) for _, size in reversed(loops))):
        column = 0
        for (dim, size), counter in zip(reversed(loops), counters, strict=True):
            column = column * size + counter if dim == "K" else column
        columns.append(column)
    return columns


def zigzag_program(found: dict[str, Any]) -> Program:
    """ZigZag's mapping of one layer: its weight tiles in its order, its transfers, its rules of what must be there.

    All inputs come first, as many DRAM cycles as ZigZag says. Weights stream in behind, tile by tile; of the first only
    what ZigZag asks for is waited for. Results leave in pieces of one DRAM cycle as soon as they are final.
    """
    unrolled = {dim: int(n) for level in found["spatial"]["W"] for dim, n in level}
    cols, depth = unrolled.get("K", 1), unrolled.get("C", 1)
    rows = prod(size for level in found["temporal"]["W"] for dim, size in level if dim in ("B", "OX", "OY"))
    order = _weight_tiles(found)
    assert len(order) * rows == found["array_cycles"], "the mapping is understood"
    onload = found["onload_by_operand"]
    input_bytes = int(onload["I"]["I1_rd_out_to_low"]) * DRAM_BYTES_PER_CYCLE
    tile_bytes = cols * depth
    first_bytes = min(tile_bytes, int(onload["W"]["W1_wr_in_by_high"]) * DRAM_BYTES_PER_CYCLE)
    body: list[c.Node] = [_load(0, 0, input_bytes, IN, Post(INPUTS_THERE))]
    body.append(_load(1, 0, first_bytes, WEIGHT, Post(WEIGHTS_THERE)))
    if tile_bytes > first_bytes:
        body.append(_load(1, first_bytes, tile_bytes - first_bytes, WEIGHT + first_bytes))
    for n in range(1, len(order)):
        body.append(_load(1, n * tile_bytes, tile_bytes, WEIGHT, Post(WEIGHTS_THERE)))
    piece = max(1, DRAM_BYTES_PER_CYCLE // cols)
    written = 0
    for n, column in enumerate(order):
        waits = (Wait(WEIGHTS_THERE), Wait(INPUTS_THERE)) if n == 0 else (Wait(WEIGHTS_THERE),)
        if column in order[n + 1 :]:
            body.append(matmul(rows, cols, depth, waits))
            continue
        for size in [piece + rows % piece, *[piece] * (rows // piece - 1)] if rows > piece else [rows]:
            body.append(matmul(size, cols, depth, waits, (Post(PASS_DONE),)))
            waits = ()
            out = View(0, Affine(OUT), (1,), DType.i8)
            body.append(c.Store(2, (Affine(written),), (size * cols,), Affine(), out, waits=(Wait(PASS_DONE),)))
            written += size * cols
    tensors = (_bytes_of("in", 0), _bytes_of("weights", 1), _bytes_of("out", 2))
    return program("zigzag", "zigzag", body, tensors, semaphores=3)
