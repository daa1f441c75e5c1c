"""Turns that overlap: stages are found, values stay right in any order, units no longer wait for their own turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiled import ODD, PRESETS, run_everywhere, runs_or_says_why
from strategies import chips, inputs_for
from structure import same
from tapeout.chip.spec import Chip
from tapeout.compiler import lower
from tapeout.compiler.lower import Lowering
from tapeout.compiler.packing import Packs
from tapeout.compiler.pipeline import compile_graph
from tapeout.compiler.skew import INSIDE, Spot, depths, nests_of, spots_of, stage_turns
from tapeout.compiler.skew_emit import issue_order
from tapeout.compiler.tile import TileProgram, local_bytes
from tapeout.compiler.tile_interp import run_tiles
from tapeout.compiler.tile_text import parse_tiles, print_tiles
from tapeout.compiler.tile_verify import verify_tiles
from tapeout.errors import VerifyError
from tapeout.ir.build import Builder
from tapeout.ir.graph import Graph
from tapeout.ir.kernel_interp import contents
from tapeout.ir.types import DType, TensorType
from tapeout.isa import commands as c
from tapeout.runtime.executable import Executable

CHIP = PRESETS[0]
QUEUES = {"MM": c.Queue.MM, "VE": c.Queue.VE}


def attention(heads: int = 6, rows: int = 48, keys: int = 32, width: int = 16, residual: bool = False) -> Graph:
    """softmax(tanh(q k)) v for each head; with a `residual` the scores are needed again behind the second product."""
    b = Builder()
    q = b.input("q", TensorType(DType.f32, (heads, rows, width)))
    k = b.input("k", TensorType(DType.f32, (heads, width, keys)))
    v = b.input("v", TensorType(DType.f32, (heads, keys, keys if residual else width)))
    scores = b.unary("tanh", b.matmul(q, k))
    mixed = b.matmul(b.softmax(scores, 2), v)
    b.output("y", b.add(mixed, scores) if residual else mixed)
    return b.finish()


def normalised(rows: int = 96, width: int = 32) -> Graph:
    """Contraction, norm, contraction, elementwise ops."""
    b = Builder()
    r = np.random.default_rng(0)
    x = b.input("x", TensorType(DType.f32, (rows, width)))
    for _ in range(2):
        weights = b.constant(r.normal(size=(width, width)).astype(np.float32) / 4)
        x = b.softmax(b.matmul(x, weights), 1)
    b.output("y", b.relu(x))
    return b.finish()


def few_cores(chip: Chip, **topology: int) -> Chip:
    """A chip whose cores have many turns each."""
    return replace(chip, topology=replace(chip.topology, **{"dies": 1, "clusters": 1, "cores": 1, **topology}))


ONE = tuple(few_cores(chip) for chip in (ODD, *PRESETS))


def staged(graph: Graph, chip: Chip) -> TileProgram:
    """The program with stages; there is one."""
    (program,) = (tiles for tiles in compile_graph(graph, chip).tiles if tiles.stages)
    return program


@pytest.mark.parametrize("chip", ONE, ids=lambda chip: chip.name)
@pytest.mark.parametrize("graph", [attention(), attention(residual=True), normalised()], ids=["plain", "again", "norm"])
def test_values_in_any_order(chip: Chip, graph: Graph) -> None:
    executable = run_everywhere(graph, chip, seed=1)
    plain = executable.run(inputs_for(graph)).outputs
    for seed in range(3):
        for name, array in executable.run(inputs_for(graph), fuzz_seed=seed).outputs.items():
            np.testing.assert_array_equal(array, plain[name])


@settings(max_examples=25)
@given(chips(), st.integers(1, 5), st.integers(1, 40), st.integers(2, 20), st.booleans())
def test_random_chips(chip: Chip, heads: int, rows: int, keys: int, residual: bool) -> None:
    runs_or_says_why(attention(heads, rows, keys, 8, residual), chip)


@pytest.mark.parametrize("chip", ONE[1:], ids=lambda chip: chip.name)
def test_both_units_work_at_once(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that overlap take clearly fewer cycles than turns that do not, which is what is measured without stages."""
    graph = attention(heads=16, rows=256, keys=256, width=64)

    def cycles() -> int:
        return Executable(compile_graph(graph, chip), chip).time().cycles

    overlapped = cycles()
    monkeypatch.setattr(lower, "stage_turns", lambda program, _: program)
    assert overlapped < 0.85 * cycles()


def test_the_nest_has_the_loops_of_heads_and_rows() -> None:
    program = staged(attention(heads=16, rows=256, keys=256, width=64), ONE[1])
    (nest,) = nests_of(program, program.stages)
    assert len(nest) == 2
    assert max(spot.stage for spot in spots_of(nest, program.stages)) == 1


def test_what_a_later_stage_needs_has_room_for_two_turns() -> None:
    """The scores are kept by the vector unit, for which one turn had room."""
    program = staged(attention(residual=True), ONE[1])
    (nest,) = nests_of(program, program.stages)
    needed = depths(nest, program.stages, program.buffers)
    kept = [n for n, b in enumerate(program.buffers) if needed.get(n, 1) > 1]
    assert kept
    tight = tuple(replace(b, depth=1) if n in kept else b for n, b in enumerate(program.buffers))
    with pytest.raises(VerifyError, match="has room for 1 of 2 turns that are under way"):
        verify_tiles(replace(program, buffers=tight), ONE[1])


def test_no_stages_without_room() -> None:
    """Where memory holds no second turn, turns follow one another."""
    graph, chip = attention(residual=True), ONE[1]
    compiled = compile_graph(graph, chip)
    (at,) = (n for n, tiles in enumerate(compiled.tiles) if tiles.stages)
    plain = Lowering(compiled.kernels[at], compiled.schedules[at], chip, Packs()).lower()
    deep = stage_turns(plain, chip)
    needed = local_bytes(deep, len(chip.memories))
    for missing, stages in ((64, {}), (0, deep.stages)):
        memories = tuple(replace(m, bytes=n - missing) for m, n in zip(chip.memories, needed, strict=True))
        assert stage_turns(plain, replace(chip, memories=memories)).stages == stages
    assert deep.stages


def test_the_tile_program_means_its_turns_in_order() -> None:
    """Tiles are interpreted one turn after the other: stages only say what may overlap."""
    graph, chip = attention(), ONE[1]
    compiled = compile_graph(graph, chip)
    inputs = inputs_for(graph)
    found = []
    for tiles in (compiled.tiles, tuple(replace(t, stages={}) for t in compiled.tiles)):
        memory = {}
        for name, buffer in compiled.inputs.items():
            contents(buffer, memory)[...] = inputs[name].reshape(-1)
        run_tiles(tiles, chip, memory, compiled.program.semaphores)
        found.append(contents(compiled.outputs["y"].buffer, memory).copy())
    np.testing.assert_array_equal(*found)


def spots(text: str) -> list[Spot]:
    """`MM0 VE0 MM1`: nodes of a queue in a stage."""
    return [Spot(c.Nop(QUEUES[word[:2]]), 0, False, int(word[2:])) for word in text.split()]


@pytest.mark.parametrize(
    ("body", "order"),
    [
        ("MM0 VE0 MM1", [0, 2, 1]),  # the product of the turn before does not stand behind the vector unit's queue
        ("MM0 VE0 MM1 VE1", [0, 2, 1, 3]),  # the newest turn's vector work goes first
        ("MM0 VE0 VE0 MM1 VE1 MM2", [0, 3, 5, 1, 2, 4]),
        ("MM0 VE0", [0, 1]),
    ],
)
def test_the_order_of_a_pass(body: str, order: list[int]) -> None:
    assert issue_order(spots(body)) == order


def test_stages_are_printed_and_checked() -> None:
    chip = ONE[1]
    program = staged(attention(heads=16, rows=256, keys=256, width=64), chip)
    text = print_tiles((program,), chip)
    assert "inside" in text
    assert same(parse_tiles(text, chip), (program,))
    inner = max(program.stages)
    (outer,) = (slot for slot, stages in program.stages.items() if INSIDE in stages)

    def fails(stages: dict[int, tuple[int, ...]], message: str) -> None:
        with pytest.raises(VerifyError, match=message):
            verify_tiles(replace(program, stages={**program.stages, **stages}), chip)

    fails({inner: tuple(1 - stage for stage in program.stages[inner])}, "comes behind one of a later stage")
    fails({inner: program.stages[inner][:-1]}, f"the stages of slot {inner} are not those of a loop's body")
    fails({outer: (INSIDE,) * len(program.stages[outer])}, f"the nest of slot {outer} does not go on in one loop")
