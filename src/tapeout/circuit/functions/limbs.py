"""Arithmetic on words of any width in NumPy.

A word is a list of ``uint64[rows]``, 64 bits each, the least significant first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.columns import Column

Limbs = list[Column]
Flags = NDArray[np.bool_]


def mask(width: int) -> int:
    """``width`` ones."""
    return (1 << width) - 1


def split(column: Column) -> Limbs:
    """A column as limbs."""
    return (
        [column] if column.ndim == 1 else [np.ascontiguousarray(column[:, index]) for index in range(column.shape[1])]
    )


def join(limbs: Limbs) -> Column:
    """Limbs as a column."""
    return limbs[0] if len(limbs) == 1 else np.stack(limbs, axis=1)


def trim(limbs: Limbs, width: int) -> Limbs:
    """The low ``width`` bits; the limbs must be as many as they need."""
    return [limb & np.uint64(mask(min(64, width - 64 * index))) for index, limb in enumerate(limbs)]


def invert(limbs: Limbs, width: int) -> Limbs:
    """All bits the other way."""
    return trim([~limb for limb in limbs], width)


def add(a: Limbs, b: Limbs, width: int, carry: Any = False) -> tuple[Limbs, Flags]:
    """``a + b + carry`` modulo ``2**width``, and the carry out."""
    total: Limbs = []
    carry = np.asarray(carry, np.bool_)
    for x, y in zip(a, b, strict=True):
        part = x + y
        whole = part + carry
        carry = (part < x) | (whole < part)
        total.append(whole)
    top = width % 64
    if top:
        carry = total[-1] >> np.uint64(top) != 0
    return trim(total, width), np.asarray(carry, np.bool_)


def subtract(a: Limbs, b: Limbs, width: int) -> tuple[Limbs, Flags]:
    """``a - b`` modulo ``2**width``, and whether it is negative."""
    total, carry = add(a, invert(b, width), width, True)
    return total, ~carry


def equal(a: Limbs, b: Limbs) -> Flags:
    """``a == b``"""
    return np.all([x == y for x, y in zip(a, b, strict=True)], axis=0)


def less(a: Limbs, b: Limbs) -> Flags:
    """``a < b``, unsigned."""
    below = np.zeros(len(a[0]), np.bool_)
    for x, y in zip(a, b, strict=True):
        below = (x < y) | (x == y) & below
    return below


def sign(limbs: Limbs, width: int) -> Flags:
    """The most significant bit."""
    return limbs[-1] >> np.uint64((width - 1) % 64) & np.uint64(1) != 0


def flip_sign(limbs: Limbs, width: int) -> Limbs:
    """The most significant bit the other way: turns the signed order into the unsigned one."""
    return [*limbs[:-1], limbs[-1] ^ np.uint64(1 << (width - 1) % 64)]


def select(condition: Flags, then: Limbs, other: Limbs) -> Limbs:
    """``then`` where ``condition``, else ``other``."""
    return [np.where(condition, x, y) for x, y in zip(then, other, strict=True)]


def shift_left(limbs: Limbs, by: int, width: int) -> Limbs:
    """``limbs << by`` for a constant ``by``."""
    whole, part = divmod(by, 64)
    zero = np.zeros_like(limbs[0])
    moved = [zero] * whole + limbs
    result: Limbs = []
    for index in range(len(limbs)):
        low = moved[index - 1] if index else zero
        result.append(moved[index] << np.uint64(part) | low >> np.uint64(64 - part) if part else moved[index])
    return trim(result, width)


def shift_right(limbs: Limbs, by: int) -> Limbs:
    """``limbs >> by`` for a constant ``by``, zeros shifted in."""
    whole, part = divmod(by, 64)
    zero = np.zeros_like(limbs[0])
    moved = limbs[whole:] + [zero] * (whole + 1)
    if not part:
        return moved[: len(limbs)]
    return [moved[index] >> np.uint64(part) | moved[index + 1] << np.uint64(64 - part) for index in range(len(limbs))]


def either(a: Limbs, b: Limbs) -> Limbs:
    """``a | b``"""
    return [x | y for x, y in zip(a, b, strict=True)]


def constant(value: int, like: Limbs) -> Limbs:
    """``value`` in every row."""
    return [np.full_like(limb, value >> 64 * index & mask(64)) for index, limb in enumerate(like)]
