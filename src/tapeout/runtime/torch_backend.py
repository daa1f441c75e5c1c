"""`torch.compile(model, backend="tapeout", options={"chip": "mlu370-x4"})`: PyTorch runs on a simulated chip.

PyTorch hands over a graph of the whole model, or of the part that it could capture. At the first call with new shapes
the graph is imported and compiled for them. Parameters and buffers that the graph only reads become constants, so that
the chip can keep them; they are read again when they have changed. What the graph writes in place is written back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapeout.chip.load import load_chip
from tapeout.errors import UserError
from tapeout.frontend.torch_export import TorchProgram, import_torch, torch_module
from tapeout.ir.graph import Graph
from tapeout.ir.interp import interpret
from tapeout.runtime.model import Array, Model

DEFAULT_CHIP = "mlu370-x4"
STAGES = ("chip", "graph")
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def compile_backend(
    module: Any, example_inputs: Sequence[Any], *, options: Mapping[str, Any] | None = None, **_: Any
) -> Callable[..., Any]:
    """The entry point that PyTorch calls with a `torch.fx.GraphModule`.

    Options: `chip`, a preset's name or a chip file; `run_at`, "chip" (the compiled program on the simulated chip) or
    "graph" (the graph's meaning in NumPy, to tell a wrong compiler from a wrong import). Inference only: `UserError`
    when a gradient would be needed.
    """
    given = dict(options or {})
    chip, stage = given.pop("chip", DEFAULT_CHIP), given.pop("run_at", "chip")
    if given or stage not in STAGES:
        what = f"option {next(iter(given))!r}" if given else f"run_at={stage!r}"
        raise UserError(f"{what} is unknown", "torch.compile", f"use chip and run_at, one of {', '.join(STAGES)}")
    _refuse_gradients(example_inputs)
    load_chip(chip)  # a wrong name is told now, not at the first call
    return _Backend(module, chip, stage, _fixed_positions(example_inputs))


@dataclass(frozen=True, slots=True, eq=False)
class _Compiled:
    program: TorchProgram
    run: Run


class _Backend:
    """One captured graph: a program for each set of shapes that it is called with.

    `fixed` are the positions of arguments that are constants of these programs, `versions` what these then held.
    """

    def __init__(self, module: Any, chip: Any, stage: str, fixed: tuple[int, ...]) -> None:
        self.module, self.chip, self.stage, self.fixed = module, chip, stage, fixed
        self.compiled: dict[Any, _Compiled] = {}
        self.versions: tuple[Any, ...] = ()

    def __call__(self, *args: Any) -> Any:
        """Runs on tensors and numbers; the result is as the captured graph's."""
        _refuse_gradients(args)
        compiled = self._for(args)
        outputs = compiled.run(compiled.program.pack_leaves(args))
        leaves = dict(zip(compiled.program.leaves, args, strict=True))
        for name, output in compiled.program.written.items():
            with torch_module("torch").no_grad():
                leaves[name].copy_(compiled.program.tensor(outputs[output]))
        return compiled.program.unpack(outputs)

    def _for(self, args: Sequence[Any]) -> _Compiled:
        """The program for these shapes and the present constants."""
        if tuple(_version(args[i]) for i in self.fixed) != self.versions:
            self.compiled.clear()
        key = tuple(_signature(a) for a in args)
        if key not in self.compiled:
            constants = {i: args[i] for i in self.fixed}
            program = import_torch(self.module, args, name="torch_compile", constants=constants)
            self.fixed = tuple(i for i in self.fixed if program.leaves[i] is None)  # the others are written
            self.compiled[key] = _Compiled(program, _executable(program.graph, self.chip, self.stage))
        self.versions = tuple(_version(args[i]) for i in self.fixed)
        return self.compiled[key]


def _executable(graph: Graph, chip: Any, stage: str) -> Run:
    if stage == "graph":
        return lambda inputs: interpret(graph, inputs).outputs
    executable = Model(graph, load_chip(chip)).executable({})
    return lambda inputs: executable.run(inputs).outputs


def _refuse_gradients(values: Sequence[Any]) -> None:
    torch = torch_module("torch")
    if torch.is_grad_enabled() and any(getattr(v, "requires_grad", False) for v in values):
        action = "call the model inside torch.no_grad() or torch.inference_mode()"
        raise UserError("gradients are needed and only inference is compiled", "torch.compile", action)


def _fixed_positions(values: Sequence[Any]) -> tuple[int, ...]:
    """Parameters, and the buffers that PyTorch marks as staying where they are."""
    parameter = torch_module("torch").nn.Parameter
    return tuple(
        i
        for i, value in enumerate(values)
        if isinstance(value, parameter) or getattr(value, "_dynamo_static_input_type", None) is not None
    )


def _version(value: Any) -> tuple[int, int]:
    """Changes when a tensor is replaced or written."""
    return id(value), 0 if value.is_inference() else value._version


def _signature(value: Any) -> Any:
    return (tuple(value.shape), value.dtype) if hasattr(value, "shape") else value
