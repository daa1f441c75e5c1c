"""The Python face: load a chip, compile a model for it, run it on arrays, read the report.

model = tapeout.compile("model.onnx", "mlu370-x4")
run = model.run(image)
run.outputs["logits"], run.report.cycles
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.chip.load import load_chip
from tapeout.chip.spec import Chip
from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir.batch import with_batch
from tapeout.ir.bind import bind_graph
from tapeout.ir.precision import with_precision
from tapeout.report.numerics import judge, references
from tapeout.report.summary import Summary, summarise
from tapeout.runtime import model as runtime
from tapeout.runtime.inputs import fit_inputs
from tapeout.sim.timing import Trace

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Run:
    """What one run gave: `outputs` by name, `result` as the model's framework returns it, the timing and the report."""

    outputs: dict[str, Array]
    result: Any
    trace: Trace
    _model: Model
    _inputs: dict[str, Array]
    _before: dict[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]

    @cached_property
    def report(self) -> Summary:
        """Latency, bounds, utilisation, memory and costliest kernels; `str()` is what `tapeout run` prints."""
        return self._summary(judged=False)

    @cached_property
    def checked(self) -> Summary:
        """The report with every output held against the numerics contract (runs the float64 reference)."""
        return self._summary(judged=True)

    def _summary(self, judged: bool) -> Summary:
        inner = self._model.inner
        binding = inner.binding(self._inputs)
        compiled = inner.executable(binding).compiled
        verdicts = None
        if judged:
            verdicts = judge(self.outputs, references(compiled.source, self._inputs, self._before))
        return summarise(compiled, inner.chip, self.trace, binding=binding, verdicts=verdicts)


class Model:
    """A model compiled for a chip. Shapes that the model leaves open are bound, and compiled for, by each run.

    `converts`: inputs are brought to the types that the graph has for them.
    """

    def __init__(self, inner: runtime.Model, program: Any = None, converts: bool = False) -> None:
        self.inner, self._program, self._converts = inner, program, converts

    @property
    def chip(self) -> Chip:
        return self.inner.chip

    @property
    def graph(self) -> g.Graph:
        return self.inner.graph

    def run(self, *inputs: Any, exact: bool = False, check: bool = True, **named: Any) -> Run:
        """Runs once on arrays (or tensors), by position or by name. State carries over to the next run.

        `exact` follows the specified order of accumulation bit for bit; `check=False` skips the search for races and
        uninitialised reads. `UserError` where the inputs do not fit the model.
        """
        if self._program is not None:
            given: dict[str, Array] = self._program.pack(*inputs, **named)
        else:
            given = {k: np.asarray(v) for k, v in named.items()} if named else self.inner.named(inputs)
        if self._converts:
            given = fit_inputs(self.graph, given)[0]
        before = self.inner.states
        outcome = self.inner.run_named(given, exact=exact, check=check)
        result = self._program.unpack(outcome.outputs) if self._program is not None else outcome.outputs
        return Run(outcome.outputs, result, outcome.trace, self, given, before)

    def time(self, **binding: int) -> Trace:
        """The cycles of one run with these values of the model's symbols; no values are computed."""
        return self.inner.time(**binding)

    def reset(self) -> None:
        """Gives every state its initial contents."""
        self.inner.reset()


def compile(
    model: Any,
    chip: str | Path | Chip,
    example_inputs: Sequence[Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    shapes: Mapping[str, Any] | None = None,
    batch: int | None = None,
    precision: str = "",
    calibration: Mapping[str, Any] | None = None,
) -> Model:
    """Compiles a model for a chip.

    model: an ONNX file or `ModelProto`, a torch module, exported program or `.pt2` file, or a graph. chip: a preset's
    name, a chip file, or a loaded chip. `example_inputs` and `dynamic_shapes` go to `torch.export`; `shapes` pins or
    bounds symbols of an ONNX model. `batch` and `precision` as on the command line (docs/cli.md); int8 needs inputs
    by name, `calibration`, that show what activations there are. `UserError` says what is wrong with any of them.
    """
    loaded = chip if isinstance(chip, Chip) else load_chip(chip)
    graph, program = runtime.load(model, example_inputs, dynamic_shapes, shapes, batch)
    if batch is not None:
        graph = bind_graph(*with_batch(graph, batch))
    if precision == "int8" and calibration is None:
        raise UserError("int8 needs the range of activations", graph.name, "give calibration={input name: array}")
    shown = calibration and fit_inputs(graph, {name: np.asarray(x) for name, x in calibration.items()})[0]
    graph, loaded = with_precision(graph, precision, loaded, shown)
    compiled = runtime.Model(graph, loaded)
    if not graph.symbols:
        compiled.executable({})  # errors of the model show here, not at the first run
    return Model(compiled, program, converts=bool(precision))
