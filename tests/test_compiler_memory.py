"""The DRAM plan: no two buffers that live at the same time share a byte."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings

from compiled import ODD
from strategies import graphs
from tapeout.compiler.memory import ALIGNMENT, lifetimes, plan_dram
from tapeout.compiler.pipeline import Compiled, compile_graph
from tapeout.errors import DoesNotFit
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.kernel import Access, Buffer, DimIndex, KernelSpec, LoadTile, StoreTile, Tile
from tapeout.ir.types import DType, TensorType


def live(compiled: Compiled) -> dict[Buffer, tuple[int, int]]:
    """First and last kernel for which each buffer has to keep its bytes."""
    end = len(compiled.kernels)
    ends = frozenset(p.buffer for p in compiled.outputs.values())
    spans = lifetimes(compiled.kernels, ends)
    for buffer in compiled.plan.address:
        if buffer.role not in ("temporary", "output"):
            spans[buffer] = (-1, end)
    return spans


@settings(max_examples=120)
@given(graphs(states=True, max_ops=12))
def test_live_buffers_do_not_overlap(graph: Graph) -> None:
    compiled = compile_graph(graph, ODD)
    plan, spans = compiled.plan, live(compiled)
    for buffer, address in plan.address.items():
        assert address % ALIGNMENT == 0
        assert address + buffer.bytes <= plan.total_bytes
    for a, b in combinations([b for b in plan.address if b.bytes], 2):
        (first_a, last_a), (first_b, last_b) = spans[a], spans[b]
        together = first_a <= last_b and first_b <= last_a
        low, high = sorted((plan.address[a], plan.address[b]))
        size = (a if plan.address[a] == low else b).bytes
        assert not together or low + size <= high


def copy(name: str, source: Buffer, target: Buffer) -> KernelSpec:
    tile = Tile("t", DType.f32, ())
    index = (DimIndex(),)
    load = LoadTile(tile, Access(source, (1,), (1,), 0, index))
    store = StoreTile(tile, Access(target, (1,), (1,), 0, index))
    return KernelSpec(name, (load, store), (), frozenset(), frozenset())


def test_memory_is_used_again() -> None:
    """In a chain of copies only two temporaries are live at a time."""
    x = Buffer("x", DType.f32, (64,), "input")
    chain = [x, *(Buffer(f"t{n}", DType.f32, (64,), "temporary") for n in range(6))]
    kernels = tuple(copy(f"k{n}", a, b) for n, (a, b) in enumerate(pairwise(chain)))
    plan = plan_dram(kernels, (x,), frozenset(chain[-1:]), ODD)
    assert plan.arena_bytes == 2 * 256
    assert lifetimes(kernels, frozenset(chain[-1:]))[chain[-1]] == (5, 6)


def test_too_large_a_model_is_refused_with_its_size() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (1 << 30,)))
    b.output("y", b.unary("neg", x))
    with pytest.raises(DoesNotFit, match=r"8\.00 GiB of DRAM, the chip has 3\.00 GiB; use at least 3 chips"):
        compile_graph(b.finish(), ODD)


def test_weights_are_constants_of_the_image() -> None:
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (3, 4)))
    b.output("y", b.matmul(x, b.constant(np.ones((4, 5), np.float32))))
    compiled = compile_graph(b.finish(), ODD)
    assert {buffer.role for buffer in compiled.plan.address} >= {"constant", "input"}
