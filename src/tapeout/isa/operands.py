"""Operands of commands: quasi-affine expressions, strided views of local memory, tensor descriptors, semaphores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeout.ir.types import DType

CORE = 0
"""The slot that holds the core's own number, 0 .. cores-1, cluster by cluster."""


@dataclass(frozen=True, slots=True)
class Term:
    """`coef * ((slot // div) % mod)`; `mod == 0` means no modulus."""

    slot: int
    coef: int
    div: int = 1
    mod: int = 0

    def value(self, slots: Sequence[int]) -> int:
        digit = slots[self.slot] // self.div
        return self.coef * (digit % self.mod if self.mod else digit)


@dataclass(frozen=True, slots=True)
class Affine:
    """`const + sum(terms)` over the slots of a core: loop counters, scalar registers and the core number."""

    const: int = 0
    terms: tuple[Term, ...] = ()

    def value(self, slots: Sequence[int]) -> int:
        return self.const + sum(term.value(slots) for term in self.terms)

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.const + other, self.terms)
        return Affine(self.const + other.const, self.terms + other.terms)

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(self.const * factor, tuple(Term(t.slot, t.coef * factor, t.div, t.mod) for t in self.terms))

    def text(self, names: Sequence[str]) -> str:
        """Readable form, for example `4096+64*(i0%2)`."""
        parts = [str(self.const)] if self.const or not self.terms else []
        for t in self.terms:
            body = names[t.slot] if t.div == 1 else f"{names[t.slot]}/{t.div}"
            body = f"({body}%{t.mod})" if t.mod else (f"({body})" if t.div != 1 else body)
            parts.append(body if t.coef == 1 else f"{t.coef}*{body}")
        return "+".join(parts)


def slot_value(slot: int, coef: int = 1, div: int = 1, mod: int = 0) -> Affine:
    """The expression of one term."""
    return Affine(0, (Term(slot, coef, div, mod),))


@dataclass(frozen=True, slots=True)
class View:
    """Elements of one local memory: the element at index i has the byte address `base + sum(i[d] * strides[d])`.

    The extents are those of the command's own dimensions, one stride in bytes for each of them; stride 0 repeats.
    """

    memory: int
    base: Affine
    strides: tuple[int, ...]
    dtype: DType


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number in the command itself, seen at every index."""

    value: float
    dtype: DType


Source = View | Immediate


@dataclass(frozen=True, slots=True)
class Tensor:
    """Tensor descriptor: up to 5 dimensions in DRAM or in a software-managed shared memory.

    The element at index i lies at byte `base + sum(i[d] * strides[d])` of `space` (0 is DRAM, s is the chip's shared
    memory s-1). What lies outside the extents reads as `fill` and is not written.
    """

    name: str
    space: int
    base: int
    dtype: DType
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    fill: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """The command starts only once semaphore `semaphore` of its core holds at least `count`, which it then takes."""

    semaphore: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Post:
    """On completion `count` is added to `semaphore` of the own core, or, if `cluster`, to semaphore
    `semaphore + own number within the cluster` of every core of the cluster, so that each keeps a single source."""

    semaphore: int
    count: int = 1
    cluster: bool = False
