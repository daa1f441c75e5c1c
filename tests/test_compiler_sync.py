"""Semaphores: every order that a tile program needs is there, and none is left hanging."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from compiled import ODD, PRESETS, run_everywhere
from strategies import chips, graphs, inputs_for
from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.compiler.sync import Semaphores
from tapeout.errors import DoesNotFit, SimError, UnsupportedOp
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.types import DType, TensorType
from tapeout.isa import commands as c
from tapeout.isa.program import Program
from tapeout.runtime.executable import Executable


def chain() -> Graph:
    """Loads, a product, vector work and a store: all queues of a core."""
    b = Builder()
    x = b.input("x", TensorType(DType.f32, (120, 96)))
    y = b.matmul(x, b.constant(np.full((96, 80), 0.125, np.float32)))
    b.output("y", b.softmax(y, 1))
    return b.finish()


def test_semaphores_are_shared_between_kernels_only() -> None:
    pool = Semaphores()
    pool.next_kernel()
    first, second = pool.take(0, 4, 0), pool.take(0, 4, 0)
    assert first != second
    pool.next_kernel()
    assert pool.take(0, 4, 0) == first
    assert pool.take(0, 4, 2) not in (first, second)
    several = pool.take(0, 3, 1, 4)
    assert pool.initial[several : several + 4] == [1] * 4


@pytest.mark.parametrize("chip", [ODD, *PRESETS], ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(3))
def test_any_order_gives_the_same_values(chip: Chip, seed: int) -> None:
    run_everywhere(chain(), chip, seed=seed)


@settings(max_examples=40)
@given(graphs(max_ops=4, extent=19), chips())
def test_random_orders_on_random_chips(graph: Graph, chip: Chip) -> None:
    try:
        executable = Executable(compile_graph(graph, chip), chip)
    except (DoesNotFit, UnsupportedOp):
        return
    plain = executable.run(inputs_for(graph)).outputs
    for seed in range(3):
        for name, array in executable.run(inputs_for(graph), fuzz_seed=seed).outputs.items():
            np.testing.assert_array_equal(array, plain[name])


def without_waits(program: Program, queue: c.Queue) -> Program:
    """The program without all that one queue waits for, and without the posts for it."""
    gone = {
        wait.semaphore
        for node in _walk(program.body)
        if isinstance(node, c.Command) and c.queue_of(node) == queue  # type: ignore[arg-type]
        for wait in node.waits
    }

    def unpost(node: c.Node) -> c.Node:
        if isinstance(node, c.Command):
            kept = tuple(p for p in node.posts if p.semaphore not in gone)
            waits = tuple(w for w in node.waits if w.semaphore not in gone)
            return replace(node, posts=kept, waits=waits)
        return over(node, unpost)

    assert gone
    return replace(program, body=tuple(unpost(n) for n in program.body))


def over(node: c.Node, change: object) -> c.Node:
    assert callable(change)
    if isinstance(node, c.Loop):
        return replace(node, body=tuple(change(n) for n in node.body))
    if isinstance(node, c.If):
        return replace(node, body=tuple(change(n) for n in node.body), orelse=tuple(change(n) for n in node.orelse))
    return node


@pytest.mark.parametrize("queue", [c.Queue.ST, c.Queue.MM, c.Queue.VE])
def test_no_queue_may_go_unasked(queue: c.Queue) -> None:
    """Where a queue waits for nothing, the race check finds it."""
    compiled = compile_graph(chain(), ODD)
    broken = replace(compiled, program=without_waits(compiled.program, queue))
    with pytest.raises(SimError):
        Executable(broken, ODD).run(inputs_for(chain()))


def _walk(nodes: tuple[c.Node, ...]) -> list[c.Node]:
    found: list[c.Node] = []
    for node in nodes:
        found.append(node)
        if isinstance(node, c.Loop):
            found += _walk(node.body)
        if isinstance(node, c.If):
            found += _walk(node.body + node.orelse)
    return found
