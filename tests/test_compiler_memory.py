"""The memory plan: no two buffers that live at the same time in one memory share a byte."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiled import ODD
from strategies import graphs
from tapeout.chip.spec import Chip, Shared
from tapeout.compiler.memory import ALIGNMENT, buffers_of, lifetimes, plan_memory
from tapeout.compiler.pipeline import Compiled, compile_graph
from tapeout.errors import DoesNotFit
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.kernel import Buffer
from tapeout.ir.types import DType, TensorType


def live(compiled: Compiled) -> dict[Buffer, tuple[int, int]]:
    """First and last kernel for which each buffer has to keep its bytes."""
    end = len(compiled.kernels)
    ends = frozenset(p.buffer for p in compiled.outputs.values())
    spans = lifetimes([buffers_of(t) for t in compiled.tiles], ends)
    for buffer in compiled.plan.address:
        if buffer.role not in ("temporary", "output"):
            spans[buffer] = (-1, end)
    return spans


NEAR = replace(ODD, shared=(Shared("small", 512, 0.0, "chip"), Shared("pool", 2048, 32.0, "distributed")))
"""The chip with two memories on it that all cores reach."""


@settings(max_examples=120)
@given(graphs(states=True, max_ops=12), st.sampled_from((ODD, NEAR)))
def test_live_buffers_do_not_overlap(graph: Graph, chip: Chip) -> None:
    compiled = compile_graph(graph, chip)
    plan, spans = compiled.plan, live(compiled)
    room = (plan.dram_bytes, *map(chip.shared_bytes, chip.spaces))
    for buffer, address in plan.address.items():
        assert address % ALIGNMENT == 0
        assert address + buffer.bytes <= room[buffer.space]
        assert not buffer.space or buffer.role == "temporary"
    for a, b in combinations([b for b in plan.address if b.bytes], 2):
        if a.space != b.space:
            continue
        (first_a, last_a), (first_b, last_b) = spans[a], spans[b]
        together = first_a <= last_b and first_b <= last_a
        low, high = sorted((plan.address[a], plan.address[b]))
        size = (a if plan.address[a] == low else b).bytes
        assert not together or low + size <= high


def test_memory_is_used_again() -> None:
    """In a chain of copies only two temporaries are live at a time."""
    x = Buffer("x", DType.f32, (64,), "input")
    chain = [x, *(Buffer(f"t{n}", DType.f32, (64,), "temporary") for n in range(6))]
    copies = list(pairwise(chain))
    plan = plan_memory(copies, (x,), frozenset(chain[-1:]), ODD)
    assert plan.arena_bytes == 2 * 256
    assert lifetimes(copies, frozenset(chain[-1:]))[chain[-1]] == (5, 6)


def test_temporaries_go_on_the_chip_where_they_fit() -> None:
    """Of a chain of layers that need 4, 4 and 1 KiB the memory of 6 KiB (three slices) takes what fits, and DRAM moves
    nothing for these."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (1, 4, 8, 8)))
    for wide in (16, 16, 4, 4):
        kernel = b.constant(np.ones((wide, x.type.static_shape[1], 1, 1), np.float32))
        x = b.conv(x, kernel, (1, 1), ((0, 0), (0, 0)))
    b.output("y", x)
    chip = replace(NEAR, topology=replace(NEAR.topology, dies=1, clusters=3), shared=NEAR.shared[1:])
    compiled = compile_graph(b.finish(), chip)
    near = [buffer.bytes for buffer in compiled.plan.address if buffer.space]
    assert sum(near) >= 4096 + 1024
    assert compiled.program.peaks["pool"] == compiled.plan.on_chip_bytes[0] <= 3 * 2048
    assert {t.space for t in compiled.program.tensors} == {0, 1}


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
