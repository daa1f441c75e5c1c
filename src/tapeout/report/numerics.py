"""The numerics contract: how wrong a result may be, derived from the model itself (`docs/numerics.md`).

The reference computes every float in float64. The yardstick runs op by op in the model's own types, as PyTorch and ONNX
Runtime do; its error is what these types cost. A result is right when its error is at most twice that and one unit in
the last place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir import graph as g
from tapeout.ir.interp import Result, interpret
from tapeout.ir.types import DType

Array = npt.NDArray[Any]

FACTOR = 2.0
"""A result may be this many times as wrong as the op-by-op run."""


@dataclass(frozen=True, slots=True)
class Error:
    """Distance from the reference: root mean square relative to the reference's, largest relative to its largest.

    For integers both are the share of elements that differ.
    """

    rms: float
    largest: float

    def within(self, bound: Error) -> bool:
        return self.rms <= bound.rms and self.largest <= bound.largest


@dataclass(frozen=True, slots=True)
class Verdict:
    """One output held against the contract: its error, what is allowed, what the op-by-op run has."""

    name: str
    dtype: str
    error: Error
    bound: Error
    yardstick: Error

    @property
    def right(self) -> bool:
        return self.error.within(self.bound)


@dataclass(frozen=True, slots=True)
class References:
    """Outputs and states of the two reference runs."""

    wide: Result
    narrow: Result


def references(graph: g.Graph, inputs: Mapping[str, Array], states: Mapping[str, Array] | None = None) -> References:
    """Both reference runs of `graph`."""
    return References(interpret(graph, inputs, states, wide=True), interpret(graph, inputs, states))


def judge(
    found: Mapping[str, Array], reference: References, states: Mapping[str, Array] | None = None
) -> tuple[Verdict, ...]:
    """A verdict for every output, and for every state that is given."""
    verdicts = [
        verdict(name, array, reference.wide.outputs[name], reference.narrow.outputs[name])
        for name, array in found.items()
    ]
    verdicts += [
        verdict(f"state {name}", array, reference.wide.states[name], reference.narrow.states[name])
        for name, array in (states or {}).items()
    ]
    return tuple(verdicts)


def verdict(name: str, found: Array, wide: Array, narrow: Array) -> Verdict:
    """Holds one array against the reference `wide` and the op-by-op run `narrow`."""
    dtype = DType.of(narrow.dtype)
    if found.shape != narrow.shape or found.dtype != narrow.dtype:
        return Verdict(name, dtype.value, Error(inf, inf), Error(0.0, 0.0), Error(0.0, 0.0))
    own, yardstick = error(found, wide), error(narrow, wide)
    ulp = dtype.epsilon if dtype.is_float else 0.0
    bound = Error(FACTOR * yardstick.rms + ulp, FACTOR * yardstick.largest + ulp)
    return Verdict(name, dtype.value, own, bound, yardstick)


def error(found: Array, reference: Array) -> Error:
    """The distance of `found` from `reference`; infinities and NaNs have to stand in the same places."""
    if not found.size:
        return Error(0.0, 0.0)
    if not DType.of(found.dtype).is_float:
        share = float(np.count_nonzero(found != reference)) / found.size
        return Error(share, share)
    wide = found.astype(np.float64, copy=False)
    finite = np.isfinite(reference)
    if not finite.all():
        odd = ~finite
        if not np.array_equal(wide[odd], reference[odd], equal_nan=True):
            return Error(inf, inf)
        wide, reference = wide[finite], reference[finite]
    return _distance(wide, reference)


def _distance(found: Array, reference: Array) -> Error:
    if not found.size:
        return Error(0.0, 0.0)
    with np.errstate(all="ignore"):
        apart = found - reference
        scale, top = _rms(reference), float(np.max(np.abs(reference)))
        off, furthest = _rms(apart), float(np.max(np.abs(apart)))
    if not np.isfinite(furthest):
        return Error(inf, inf)
    return Error(_ratio(off, scale), _ratio(furthest, top))


def _rms(x: Array) -> float:
    flat = x.reshape(-1)
    return sqrt(float(np.dot(flat, flat)) / flat.size)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else (0.0 if part == 0 else inf)
