"""What is loaded before the barrier in front of a kernel: constants, whole or the first turns of streamed ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from compiled import ODD
from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.interp import interpret
from tapeout.ir.types import DType, TensorType
from tapeout.isa import commands as c
from tapeout.runtime.executable import Executable

INNER = 2048


def two_layers() -> Graph:
    """Two products with weights too large for a memory at once."""
    b = Builder()
    r = np.random.default_rng(0)
    x = b.input("x", TensorType(DType.f32, (24, INNER)))
    for _ in range(2):
        x = b.matmul(x, b.constant(r.normal(size=(INNER, INNER)).astype(np.float32) / 32))
    b.output("y", x)
    return b.finish()


def loads(nodes: tuple[c.Node, ...]) -> Iterator[c.Load]:
    for node in nodes:
        if isinstance(node, c.Load):
            yield node
        elif isinstance(node, c.If):
            yield from loads((*node.body, *node.orelse))
        elif isinstance(node, c.Loop):
            yield from loads(node.body)


def small(memory_bytes: int) -> Chip:
    memories = tuple(replace(m, bytes=memory_bytes) for m in ODD.memories)
    return replace(ODD, memories=memories, dram=replace(ODD.dram, capacity_bytes=1 << 30))


def test_first_turns_of_streamed_weights_come_before_the_barrier() -> None:
    chip = small(1 << 21)
    compiled = compile_graph(two_layers(), chip)
    body = compiled.program.body
    barriers = [n for n, node in enumerate(body) if isinstance(node, c.Barrier)]
    ahead = [load for load in loads(body[: barriers[0]]) if load.kernel == 1]
    weights = [t.name for t in compiled.program.tensors if t.name.endswith(".tiles")]
    assert ahead
    assert all(compiled.program.tensors[load.tensor].name in weights for load in ahead)
    x = np.random.default_rng(1).normal(size=(24, INNER)).astype(np.float32)
    outcome = Executable(compiled, chip).run({"x": x}, fuzz_seed=3)
    wanted = interpret(compiled.source, {"x": x}).outputs["y"]
    assert np.allclose(outcome.outputs["y"], wanted, rtol=1e-3, atol=1e-3)
