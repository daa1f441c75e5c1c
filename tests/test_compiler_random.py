"""Any graph on any chip: what the compiler makes is right in every mode, or it says in one line why it cannot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiled import ODD, PRESETS, runs_or_says_why
from strategies import chips, graphs
from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.ir.graph import Graph
from tapeout.ir.types import DType

FLOATS = (DType.f32, DType.f16, DType.bf16)
REFUSED = "what a random graph holds has a lowering"


@pytest.mark.parametrize("chip", [ODD, *PRESETS], ids=lambda c: c.name)
@settings(max_examples=120)
@given(graph=graphs(states=True, dtypes=FLOATS), seed=st.integers(0, 9))
def test_small_tensors(chip: Chip, graph: Graph, seed: int) -> None:
    assert runs_or_says_why(graph, chip, seed), REFUSED


@settings(max_examples=60)
@given(graph=graphs(states=True, max_ops=5, extent=23), seed=st.integers(0, 9))
def test_larger_tensors(graph: Graph, seed: int) -> None:
    assert runs_or_says_why(graph, ODD, seed), REFUSED


@settings(max_examples=250)
@given(graph=graphs(states=True, dtypes=FLOATS), chip=chips(), seed=st.integers(0, 9))
def test_random_chips(graph: Graph, chip: Chip, seed: int) -> None:
    runs_or_says_why(graph, chip, seed)


@settings(max_examples=40)
@given(graph=graphs(states=True, max_ops=5, extent=23), chip=chips())
def test_larger_tensors_on_random_chips(graph: Graph, chip: Chip) -> None:
    runs_or_says_why(graph, chip)


@settings(max_examples=100)
@given(graph=graphs(max_ops=4, extent=17, only=("dot", "conv", "chain", "integer_dot", "binary")), chip=chips())
def test_products_on_random_chips(graph: Graph, chip: Chip) -> None:
    """Large enough for the matrix unit, whatever memories its operands lie in."""
    runs_or_says_why(graph, chip)


KINDS = ("dot", "conv", "pool", "chain", "reduce", "cumulate", "order", "scatter", "gather", "box", "pad", "bitcast")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_each_kind(kind: str, data: st.DataObject) -> None:
    """Few ops of one kind, so that each of them is met."""
    graph = data.draw(graphs(max_ops=3, extent=11, only=(kind, "binary")))
    assert runs_or_says_why(graph, load_chip("systolic-128")), REFUSED
