"""Drain fusion: the steps right behind a matrix contraction that the mover does while it empties the accumulators.

The drain computes convert(min(max(acc * scale + bias, lo), hi)) + zero (see `isa/commands.py`). Whatever prefix of the
elementwise chain behind a contraction has that form becomes one `Map(fn="drain")`; the vector unit keeps the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from tapeout.ir import kernel as k
from tapeout.ir.types import DType

NARROW = (DType.i8, DType.u8, DType.i16)


@dataclass(slots=True)
class _Chain:
    """A drain under construction; `step` counts up through scale, bias, clamp, round, zero, saturate."""

    scale: k.Tile | float = 1.0
    bias: k.Tile | float = 0.0
    lo: float = -inf
    hi: float = inf
    zero: float = 0.0
    step: int = 0
    rounded: bool = False

    def take(self, op: k.Map, value: k.Tile, columns: frozenset[k.Axis]) -> bool:
        """Adds one op of the chain where it still fits."""
        others = [s for s in op.srcs if s is not value]
        if op.fn == "copy":
            return self._convert(op.out.dtype)
        if op.fn == "round":
            fits = self.step <= 3 and not self.rounded
            self.step, self.rounded = 3, True
            return fits
        if len(others) != 1 or op.srcs[0] is not value:
            return False
        other = others[0]
        if isinstance(other, k.Tile) and not (set(other.axes) <= columns and other.dtype.is_float):
            return False
        match op.fn:
            case "mul" if self.step < 1:
                self.scale, self.step = other, 1
            case "add" if self.step < 2:
                self.bias, self.step = other, 2
            case "add" if self.rounded and self.step <= 4 and isinstance(other, float) and other == int(other):
                self.zero, self.step = other, 5
            case "max" | "min" if self.step <= 3 and isinstance(other, float):
                self._clamp(op.fn, other)
            case "max" | "min" if self.rounded and isinstance(other, float):
                self._clamp(op.fn, other - self.zero)
                self.step = 5
            case _:
                return False
        return True

    def _clamp(self, fn: str, bound: float) -> None:
        if fn == "max":
            self.lo, self.hi = max(self.lo, bound), max(self.hi, bound)
        else:
            self.lo, self.hi = min(self.lo, bound), min(self.hi, bound)
        self.step = max(self.step, 3)

    def _convert(self, dtype: DType) -> bool:
        """Whether a conversion fits: i32 to f32 before anything else, to the result's type at the end."""
        if dtype is DType.f32:
            return self.step == 0
        if dtype in NARROW:
            fits = self.rounded and self._saturates(dtype)
            self.step = 6
            return fits
        fits = dtype.is_float and not self.rounded
        self.step = 6 if fits else self.step
        return fits

    def _saturates(self, dtype: DType) -> bool:
        limits = np.iinfo(dtype.numpy)
        return self.lo + self.zero >= limits.min and self.hi + self.zero <= limits.max


def fuse_drains(ops: list[k.KernelOp]) -> list[k.KernelOp]:
    """The ops of a kernel with drains in place of the chains that have their form."""
    readers: dict[k.Tile, list[k.KernelOp]] = {}
    for op in ops:
        for tile in k.sources_of(op):
            readers.setdefault(tile, []).append(op)
    replaced: dict[k.KernelOp, k.KernelOp | None] = {}
    for op in ops:
        if isinstance(op, k.Contract) and not op.vector:
            replaced.update(_drain_of(op, readers))
    return [new for op in ops if (new := replaced.get(op, op)) is not None]


def _drain_of(contract: k.Contract, readers: dict[k.Tile, list[k.KernelOp]]) -> dict[k.KernelOp, k.KernelOp | None]:
    """What to put in place of each op of the chain behind one contraction: the drain for the last, nothing for
    others."""
    columns = frozenset(contract.out.axes) & frozenset(contract.b.axes)
    chain = _Chain()
    best: tuple[int, k.Map] | None = None
    taken: list[k.Map] = []
    value = contract.out
    while len(readers.get(value, ())) == 1 and isinstance(op := readers[value][0], k.Map):
        if op.fn in ("move", "drain") or not chain.take(op, value, columns):
            break
        taken.append(op)
        value = op.out
        if not chain.rounded or op.out.dtype in NARROW:
            srcs = (contract.out, chain.scale, chain.bias, chain.lo, chain.hi, chain.zero)
            best = (len(taken), k.Map(op.out, "drain", srcs, op.source))
        if chain.step == 6:
            break
    if best is None:
        return {}
    count, drain = best
    found: dict[k.KernelOp, k.KernelOp | None] = dict.fromkeys(taken[:count])
    found[taken[count - 1]] = drain
    return found
