"""Compiles a graph for a chip, runs it in every mode and holds the results against the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from strategies import inputs_for
from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import compile_graph
from tapeout.errors import DoesNotFit, UnsupportedOp
from tapeout.ir.graph import Graph
from tapeout.ir.interp import Result, interpret
from tapeout.ir.types import DType
from tapeout.runtime.executable import Executable

ULPS = 16.0
"""Units in the last place, of the largest number in the graph, that any result may be off."""

ODD = load_chip(Path(__file__).parent / "chips" / "odd.toml")
PRESETS = tuple(load_chip(name) for name in ("mlu370-x4", "systolic-128"))

Arrays = Mapping[str, np.ndarray]


def allowed(wide: np.ndarray, narrow: np.ndarray, values: Arrays) -> float:
    """How far a result may be off: twice as much as op by op, and some places of the largest value on the way."""
    epsilon, largest = DType.of(narrow.dtype).epsilon, 1.0
    for array in values.values():
        dtype = DType.of(array.dtype)
        if dtype.is_float and array.size:
            epsilon = max(epsilon, dtype.epsilon)
            finite = np.abs(array.astype(np.float64))
            largest = max(largest, float(np.max(finite, initial=0.0, where=np.isfinite(finite))))
    apart = np.abs(narrow.astype(np.float64) - wide)
    return 2 * float(np.max(apart, initial=0.0, where=np.isfinite(apart))) + ULPS * epsilon * largest


def assert_close(found: Arrays, wide: Arrays, narrow: Arrays, values: Arrays) -> None:
    """Every result within the contract; integers, infinities and NaN as they are."""
    assert found.keys() == narrow.keys()
    for name, array in found.items():
        wanted = narrow[name]
        assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype), name
        if not DType.of(wanted.dtype).is_float:
            np.testing.assert_array_equal(array, wanted, err_msg=name)
            continue
        slack = allowed(wide[name], wanted, values)
        np.testing.assert_allclose(array.astype(np.float64), wide[name], rtol=0, atol=slack, err_msg=name)


def references(graph: Graph, inputs: Arrays) -> tuple[Result, Result]:
    """What is right: without rounding, and rounded after every op (with all values)."""
    return interpret(graph, inputs, wide=True), interpret(graph, inputs, values=True)


def run_everywhere(graph: Graph, chip: Chip, inputs: Arrays | None = None, seed: int = 0) -> Executable:
    """Compiles `graph` and runs it checked, exact, in a random order and for time; all must agree and be right."""
    given = inputs_for(graph, seed) if inputs is None else inputs
    wide, narrow = references(graph, given)
    executable = Executable(compile_graph(graph, chip), chip)
    plain = executable.run(given)
    assert_close(plain.outputs, wide.outputs, narrow.outputs, narrow.values)
    assert_close(executable.states, wide.states, narrow.states, narrow.values)
    executable.reset()
    shuffled = executable.run(given, fuzz_seed=seed)
    for name, array in plain.outputs.items():
        np.testing.assert_array_equal(array, shuffled.outputs[name], err_msg=f"{name}, another order")
    executable.reset()
    exact = executable.run(given, exact=True)
    assert_close(exact.outputs, wide.outputs, narrow.outputs, narrow.values)
    assert executable.time(plain.scalars).cycles >= 0
    return executable


def runs_or_says_why(graph: Graph, chip: Chip, seed: int = 0) -> bool:
    """`run_everywhere`, where the compiler may refuse with one clear line; whether it ran."""
    refused: DoesNotFit | UnsupportedOp | None = None
    try:
        run_everywhere(graph, chip, seed=seed)
    except (DoesNotFit, UnsupportedOp) as error:
        refused = error
    assert refused is None or (refused.what and refused.action)
    assert refused is None or "no local memory serves" not in refused.what, "every tile can be moved to its reader"
    return refused is None
