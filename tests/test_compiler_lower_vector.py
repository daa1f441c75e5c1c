"""Reductions on the vector unit: how often a command passes over the result, and what they give in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from compiled import ODD, run_everywhere
from tapeout.compiler import pipeline
from tapeout.compiler.schedule import Schedule
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.kernel import KernelSpec, StoreTile
from tapeout.ir.types import DType, TensorType
from tapeout.isa import commands as c

pytestmark = pytest.mark.native


def depthwise(dtype: DType = DType.f32) -> Graph:
    """A 3x3 convolution of channels apart."""
    b = Builder()
    weights = np.arange(72).reshape(8, 1, 3, 3) % 7 - 3
    x = b.input("x", TensorType(dtype, (1, 8, 9, 9)))
    out = DType.i32 if dtype.is_int else dtype
    y = b.conv(x, b.constant(weights.astype(dtype.numpy)), [1, 1], [(1, 1), (1, 1)], groups=8, dtype=out)
    b.output("y", y)
    return b.finish()


def pooled(fn: str = "max", dtype: DType = DType.f32) -> Graph:
    b = Builder()
    b.output("y", b.pool(fn, b.input("x", TensorType(dtype, (1, 8, 9, 9))), (3, 2), (1, 2), [(1, 1), (0, 0)]))
    return b.finish()


def long_sum() -> Graph:
    """A matrix by a vector: more terms than one partial sum takes."""
    b = Builder()
    weights = np.random.default_rng(0).normal(size=(600, 1)).astype(np.float32)
    b.output("y", b.matmul(b.input("x", TensorType(DType.f32, (3, 600))), b.constant(weights)))
    return b.finish()


def of_columns(fn: str, dtype: DType) -> Graph:
    """A reduction of what does not lie innermost."""
    b = Builder()
    b.output("y", b.reduce(fn, b.input("x", TensorType(dtype, (24, 40))), (0,)))
    return b.finish()


def widened(reader: str) -> Graph:
    """A product of halves, stored, and read in f32 by another kernel: as it lies where that only computes."""
    b = Builder()
    x = b.input("x", TensorType(DType.f16, (48, 64)))
    y = b.matmul(x, b.constant(np.eye(64, dtype=np.float16)))
    wide = b.convert(y, DType.f32)
    b.output("y", y)
    match reader:
        case "sum":
            b.output("z", b.reduce("sum", wide, (0,)))
        case "transpose":
            b.output("z", b.unary("exp", b.reshape(b.transpose(wide, (1, 0)), (32, 96))))
        case "output":
            b.output("z", b.reshape(wide, (64, 48)))
        case _:
            b.output("z", b.binary_scalar("add", b.bitcast(wide, DType.i32), 1))
    return b.finish()


@pytest.mark.parametrize("reader", ["sum", "transpose", "output", "bits"])
def test_widened_values_are_read_as_they_lie(reader: str) -> None:
    graph = widened(reader)
    run_everywhere(graph, ODD)
    kernels = pipeline.compile_graph(graph, ODD).kernels
    stored = {op.access.buffer for x in kernels for op in x.ops if isinstance(op, StoreTile)}
    assert len([x for x in stored if x.dtype is DType.f32]) == 1, "the result, or what its bits are read from"


def vectors(nodes: tuple[c.Node, ...], times: int = 1) -> Iterator[tuple[str, int]]:
    """Vector commands with how often a core runs them; of two branches the later one."""
    for node in nodes:
        match node:
            case c.Vector():
                yield node.op, times
            case c.Loop():
                yield from vectors(node.body, times * node.trip.const)
            case c.If():
                yield from vectors(node.body, times)
            case _:
                pass


def passes(graph: Graph) -> Counter[str]:
    """How often each vector op runs on a core, a tile."""
    compiled = pipeline.compile_graph(graph, ODD)
    found: Counter[str] = Counter()
    for tiles in compiled.tiles:
        for op, times in vectors(tiles.body):
            found[op] += times
    return found


def test_the_first_term_begins_a_result() -> None:
    found = passes(depthwise())
    assert found["fma"] == 8 * found["mul"]
    assert found.keys() == {"mul", "fma"}
    for dtype in (DType.f32, DType.f16):  # the largest half is one: nothing is converted
        found = passes(pooled("max", dtype))
        assert found["max"] == 5 * found["copy"]
        assert found.keys() == {"copy", "max"}


CASES = {
    "depthwise": depthwise(),
    "depthwise of bytes": depthwise(DType.i8),
    "largest of windows": pooled(),
    "largest of windows of halves": pooled("max", DType.f16),
    "sums of windows": pooled("sum", DType.f16),
    "long sum": long_sum(),
    "columns": of_columns("sum", DType.f32),
    "columns of bytes": of_columns("min", DType.i8),
    "products of columns": of_columns("prod", DType.f32),
}


@pytest.mark.parametrize("chunk", [1, 3, 8, 50])
@pytest.mark.parametrize("name", CASES)
def test_chunks_accumulate(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequential axes in chunks of about `chunk`."""
    found = pipeline.search

    def in_chunks(kernel: KernelSpec, *args: object, **more: object) -> Schedule:
        schedule = found(kernel, *args, **more)  # type: ignore[arg-type]
        parts = {a: next(n for n in range(min(chunk, a.extent), 0, -1) if a.extent % n == 0) for a in kernel.sequential}
        return replace(schedule, tile=schedule.tile | parts)

    monkeypatch.setattr(pipeline, "search", in_chunks)
    run_everywhere(CASES[name], ODD)
