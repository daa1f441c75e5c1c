"""One input at each level of a compilation: where the first level's values are wrong, there the bug is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import Compiled
from tapeout.compiler.tile_interp import run_tiles
from tapeout.compiler.views import Place
from tapeout.ir.kernel import Buffer
from tapeout.ir.kernel_interp import Memory, contents, run_kernels
from tapeout.runtime.executable import Array, read_place


@dataclass(frozen=True, slots=True)
class Values:
    """Outputs and states by name."""

    outputs: dict[str, Array]
    states: dict[str, Array]


Arrays = Mapping[str, Array]


def run_at_kernels(compiled: Compiled, inputs: Arrays, states: Arrays | None = None) -> Values:
    """The values that the kernels of a compilation give, from the states' initial contents or the given ones."""
    memory = entering(compiled, inputs, states or {})
    run_kernels(compiled.kernels, memory)
    return leaving(compiled, memory)


def run_at_tiles(compiled: Compiled, chip: Chip, inputs: Arrays, states: Arrays | None = None) -> Values:
    """The values that the tile programs of a compilation give, one core after the other, semaphores counted."""
    memory = entering(compiled, inputs, states or {})
    run_tiles(compiled.tiles, chip, memory, compiled.program.semaphores)
    return leaving(compiled, memory)


def entering(compiled: Compiled, inputs: Arrays, states: Arrays) -> Memory:
    """Inputs and states as the kernels find them."""
    held = {s.name: states.get(s.name, s.initial) for s in compiled.source.states}
    memory: dict[Buffer, Array] = {}
    for name, buffer in compiled.inputs.items():
        memory[buffer] = np.array(inputs[name]).reshape(buffer.shape)
    for name, (buffer, _) in compiled.states.items():
        memory[buffer] = np.array(held[name]).reshape(buffer.shape)
    return memory


def leaving(compiled: Compiled, memory: Memory) -> Values:
    """Outputs and states where the kernels left them."""

    def read(place: Place) -> Array:
        return read_place(place, contents(place.buffer, memory).view(place.dtype.numpy))

    outputs = {name: read(place) for name, place in compiled.outputs.items()}
    return Values(outputs, {name: read(place) for name, (_, place) in compiled.states.items()})
