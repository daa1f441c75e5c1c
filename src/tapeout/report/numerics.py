"""The numerics contract: how wrong a result may be, derived from the model itself (`docs/numerics.md`).

The reference computes every float in float64. The yardstick runs op by op in the model's own types, as PyTorch and ONNX
Runtime do; its error is what these types cost. A result is right when its error is at most twice that and one unit in
the last place. Where a model rounds to whole numbers, as quantised ones do, a value within the error of these types
may fall to either side of a step, and every value behind it with it: then the second yardstick is a run in which all
of these fall to the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeout.ir import graph as g
from tapeout.ir.interp import Function, Result, interpret
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
    """Outputs and states of the reference runs: `wide` in float64, `narrow` op by op.

    `fallen` makes a run in float64 with all borderline roundings the other way; None where there are none.
    """

    wide: Result
    narrow: Result
    fallen: Callable[[], Result] | None = None


def references(graph: g.Graph, inputs: Mapping[str, Array], states: Mapping[str, Array] | None = None) -> References:
    """The reference runs of `graph`."""
    steps = _Steps()
    wide = interpret(graph, inputs, states, wide=True, step=steps.keep)
    narrow = interpret(graph, inputs, states, step=steps.follow)
    if not steps.borderline:
        return References(wide, narrow)
    return References(wide, narrow, lambda: interpret(graph, inputs, states, wide=True, step=steps.fall))


class _Steps:
    """Roundings to whole numbers in the reference runs.

    The op-by-op run follows the float64 run over each of them, so that its error is that of the types alone. What lies
    closer to a step than twice its root mean square may fall to either side.
    """

    def __init__(self) -> None:
        self.borderline = False
        self._exact: dict[str, list[Array]] = {}  # arguments in float64, by result
        self._slack: dict[str, float] = {}

    def keep(self, name: str, fn: Function, x: Array) -> Array:
        self._exact.setdefault(name, []).append(x)
        return fn(x)

    def follow(self, name: str, fn: Function, x: Array) -> Array:
        waiting = self._exact.get(name, [])
        if not waiting or waiting[0].shape != x.shape:
            return fn(x)  # a loop takes another turn than in float64
        exact = waiting.pop(0)
        with np.errstate(all="ignore"):
            apart = x - exact
        off = FACTOR * _rms(np.where(np.isfinite(apart), apart, 0.0)) if x.size else 0.0
        self._slack[name] = max(off, self._slack.get(name, 0.0))
        self.borderline = self.borderline or bool(np.any(fn(exact - off) != fn(exact + off)))
        return fn(exact.astype(x.dtype))

    def fall(self, name: str, fn: Function, x: Array) -> Array:
        off = self._slack.get(name, 0.0)
        usual, lower, upper = fn(x), fn(x - off), fn(x + off)
        return np.where(lower == upper, usual, np.where(usual == lower, upper, lower))


def judge(
    found: Mapping[str, Array], reference: References, states: Mapping[str, Array] | None = None
) -> tuple[Verdict, ...]:
    """A verdict for every output, and for every state that is given."""
    verdicts = _verdicts(found, states or {}, reference, None)
    if reference.fallen is None or all(v.right for v in verdicts):
        return verdicts
    return _verdicts(found, states or {}, reference, reference.fallen())


def _verdicts(
    found: Mapping[str, Array], states: Mapping[str, Array], reference: References, fallen: Result | None
) -> tuple[Verdict, ...]:
    runs = (reference.wide, reference.narrow, *((fallen,) if fallen else ()))
    return (
        *(verdict(name, array, *(run.outputs[name] for run in runs)) for name, array in found.items()),
        *(verdict(f"state {name}", array, *(run.states[name] for run in runs)) for name, array in states.items()),
    )


def verdict(name: str, found: Array, wide: Array, narrow: Array, fallen: Array | None = None) -> Verdict:
    """Holds one array against the reference `wide`, the op-by-op run `narrow` and, if that is not enough, `fallen`."""
    dtype = DType.of(narrow.dtype)
    if found.shape != narrow.shape or found.dtype != narrow.dtype:
        return Verdict(name, dtype.value, Error(inf, inf), Error(0.0, 0.0), Error(0.0, 0.0))
    own, yardstick = error(found, wide), error(narrow, wide)
    ulp = dtype.epsilon if dtype.is_float else 0.0
    bound = Error(FACTOR * yardstick.rms + ulp, FACTOR * yardstick.largest + ulp)
    if fallen is not None and not own.within(bound):
        steps = error(fallen, wide)
        bound = Error(bound.rms + FACTOR * steps.rms, bound.largest + FACTOR * steps.largest)
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
