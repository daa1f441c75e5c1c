"""A compiled model with its memory: runs it for values, times it for cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapeout.chip.spec import Chip
from tapeout.compiler.pipeline import Compiled
from tapeout.compiler.views import Place
from tapeout.ir.kernel import Buffer, physical
from tapeout.ir.mapped import let_go
from tapeout.sim import machine, timing

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outputs by name, and the scalars that decided control (core by core), which the timing executor needs."""

    outputs: dict[str, Array]
    scalars: list[list[int]]


class Executable:
    """One program on one chip. States live in it from run to run."""

    def __init__(self, compiled: Compiled, chip: Chip) -> None:
        self.compiled, self.chip = compiled, chip
        self._fixed: list[machine.Segment] | None = None
        self._states: dict[str, Array] = {}
        self.reset()

    def reset(self) -> None:
        """Gives every state its initial contents."""
        self._states = {s.name: np.array(s.initial) for s in self.compiled.source.states}

    @property
    def states(self) -> dict[str, Array]:
        """The present contents of every state."""
        return dict(self._states)

    def set_states(self, states: Mapping[str, Array]) -> None:
        """Replaces states by name; shapes and types stay."""
        for name, value in states.items():
            self._states[name] = np.ascontiguousarray(value)

    def _constants(self) -> list[machine.Segment]:
        """Constants in the layout that the program wants; packed arrays are used in place."""
        if self._fixed is None:
            self._fixed = [
                machine.Segment(address, physical(buffer), True)
                for buffer, address in self.compiled.plan.address.items()
                if buffer.role == "constant"
            ]
        return self._fixed

    def run(
        self, inputs: Mapping[str, Array], *, exact: bool = False, check: bool = True, fuzz_seed: int | None = None
    ) -> Outcome:
        """Runs the program once on arrays of the declared types and shapes."""
        plan, compiled = self.compiled.plan, self.compiled
        memory: dict[Buffer, Array] = {}
        for name, buffer in compiled.inputs.items():
            memory[buffer] = np.ascontiguousarray(inputs[name])
        for name, (buffer, _) in compiled.states.items():
            memory[buffer] = np.array(self._states[name])
        arena = np.empty(plan.arena_bytes, dtype=np.uint8)
        segments = [
            *self._constants(),
            *(machine.Segment(plan.address[b], a, True) for b, a in memory.items()),
            *([machine.Segment(plan.arena, arena, False)] if plan.arena_bytes else []),
        ]
        result = machine.run(compiled.program, self.chip, segments, exact=exact, check=check, fuzz_seed=fuzz_seed)
        for segment in self._constants():
            let_go(segment.data)

        def read(place: Place) -> Array:
            buffer = place.buffer
            if buffer in memory:
                flat = memory[buffer].reshape(-1)
            elif buffer.role == "constant":
                flat = physical(buffer).reshape(-1)
            else:
                at = plan.address[buffer] - plan.arena
                flat = arena[at : at + buffer.bytes].view(buffer.dtype.numpy)
            return read_place(place, flat.view(place.dtype.numpy))

        outputs = {name: read(place) for name, place in compiled.outputs.items()}
        self._states = {name: read(place) for name, (_, place) in compiled.states.items()}
        return Outcome(outputs, result.scalars)

    def time(self, scalars: list[list[int]] | None = None, *, trace: bool = False, skip: bool = True) -> timing.Trace:
        """When each engine does what; no data are touched."""
        return timing.run(self.compiled.program, self.chip, scalars, trace=trace, skip=skip)


def read_place(place: Place, flat: Array) -> Array:
    """The value at a place of a buffer given as its elements in a row."""
    size, dtype = flat.dtype.itemsize, flat.dtype
    flat = flat.view(f"u{size}")  # strided views know NumPy's own element types only
    low = place.offset + sum(min(0, (n - 1) * s) for n, s in zip(place.extents, place.strides, strict=True))
    window = np.lib.stride_tricks.as_strided(
        flat[low:], place.extents, [s * size for s in place.strides], writeable=False
    ) if low == place.offset else _negative(place, flat)  # fmt: skip
    return np.array(window).view(dtype)


def _negative(place: Place, flat: Array) -> Array:
    """A view with negative strides, by explicit element numbers."""
    index = np.full(place.extents, place.offset, dtype=np.int64)
    for d, (n, s) in enumerate(zip(place.extents, place.strides, strict=True)):
        shape = [1] * len(place.extents)
        shape[d] = n
        index = index + (np.arange(n) * s).reshape(shape)
    return flat[index]
