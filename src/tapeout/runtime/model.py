"""The public face: load a model, compile it for a chip, run it on arrays of any admitted shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import Compiled, Progress, compile_graph
from tapeout.compiler.schedule_cache import ScheduleCache, cache_folder
from tapeout.errors import InvalidModel, UserError
from tapeout.ir import graph as g
from tapeout.ir.bind import bind_graph, check_arrays, infer_binding
from tapeout.runtime.executable import Executable
from tapeout.sim.timing import Trace

Array = npt.NDArray[np.generic]


def _quiet(stage: str, done: int, total: int) -> None:
    """Shows nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave. `trace` is the timing of the same program."""

    outputs: dict[str, Array]
    trace: Trace

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]


class Model:
    """A model compiled for a chip. Programs are made for each binding of the model's symbols, once, when first
    needed."""

    def __init__(self, graph: g.Graph, chip: Chip, progress: Progress = _quiet) -> None:
        self.graph, self.chip = graph, chip
        self._progress = progress
        self._executables: dict[tuple[tuple[str, int], ...], Executable] = {}
        self._states: dict[str, Array] = {s.name: s.initial for s in graph.states}

    def executable(self, binding: Mapping[str, int]) -> Executable:
        """The program for one binding of the symbols."""
        key = tuple(sorted(binding.items()))
        if key not in self._executables:
            bound = bind_graph(self.graph, binding) if self.graph.symbols else self.graph
            self._executables[key] = Executable(self.compiled(bound), self.chip)
        return self._executables[key]

    def compiled(self, bound: g.Graph) -> Compiled:
        return compile_graph(bound, self.chip, self._progress, ScheduleCache(cache_folder(), self.chip))

    def named(self, inputs: Sequence[Any]) -> dict[str, Array]:
        """Positional arrays by input name."""
        if len(inputs) != len(self.graph.inputs):
            names = ", ".join(v.name for v in self.graph.inputs)
            raise UserError(f"{len(inputs)} inputs given", self.graph.name, f"give {len(self.graph.inputs)}: {names}")
        return {v.name: np.asarray(x) for v, x in zip(self.graph.inputs, inputs, strict=True)}

    def binding(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """The symbols' values that these arrays mean; `UserError` where they do not fit the model."""
        check_arrays({v.name: v.type for v in self.graph.inputs}, inputs, "input", wide=False)
        return infer_binding(self.graph, {name: a.shape for name, a in inputs.items()})

    @property
    def states(self) -> dict[str, Array]:
        """The present contents of every state."""
        return dict(self._states)

    def run(self, *inputs: Any, exact: bool = False, check: bool = True) -> Run:
        """Runs on arrays in the order of the model's inputs; states carry over from run to run."""
        return self.run_named(self.named(inputs), exact=exact, check=check)

    def run_named(self, given: Mapping[str, Array], *, exact: bool = False, check: bool = True) -> Run:
        """Runs on arrays by input name."""
        executable = self.executable(self.binding(given))
        executable.set_states(self._states)
        outcome = executable.run(given, exact=exact, check=check)
        self._states = executable.states
        return Run(outcome.outputs, executable.time(outcome.scalars))

    def time(self, **binding: int) -> Trace:
        """The cycles of one run with these symbols, without values."""
        return self.executable(binding).time()

    def reset(self) -> None:
        """Gives every state its initial contents."""
        self._states = {s.name: s.initial for s in self.graph.states}


def load(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    dynamic_shapes: Any = None,
    shapes: Mapping[str, Any] | None = None,
    batch: int | None = None,
) -> tuple[g.Graph, Any]:
    """A graph from a graph, an ONNX file or model, a saved `.pt2`, a PyTorch module or exported program; and for the
    latter three the record that maps PyTorch's arguments and results. `batch` pins symbols of an ONNX model; what it
    leaves is for `ir.batch`."""
    if isinstance(model, g.Graph):
        return model, None
    kind = type(model).__module__.split(".")[0]
    if (isinstance(model, str | Path) and Path(model).suffix != ".pt2") or kind.startswith("onnx"):
        from tapeout.frontend.onnx_import import import_onnx

        return import_onnx(model, shapes=shapes, batch=batch), None
    if isinstance(model, str | Path) or any(c.__module__.startswith("torch") for c in type(model).__mro__):
        from tapeout.frontend.torch_export import import_torch

        program = import_torch(str(model) if isinstance(model, Path) else model, example_inputs, dynamic_shapes)
        return program.graph, program
    action = "give an ONNX file, a .pt2 file or a torch module"
    raise InvalidModel(f"cannot read a {type(model).__name__}", "model", action)
