"""Circuits written once, as functions of gates: run on columns of examples to judge them, on a builder to make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.netlist import FALSE, Builder

S = TypeVar("S")
Column = NDArray[np.uint64]
"""Values of one signal on all rows, 64 to an element."""


class Gates(Protocol[S]):
    """The gates that circuits are written with; a signal is whatever they pass on."""

    zero: S

    def not_(self, a: S) -> S: ...
    def and_(self, a: S, b: S) -> S: ...
    def or_(self, a: S, b: S) -> S: ...
    def xor(self, a: S, b: S) -> S: ...
    def mux(self, select: S, then: S, other: S) -> S: ...


class AigGates:
    """Gates that make nodes of a netlist; signals are literals."""

    zero = FALSE

    def __init__(self, builder: Builder) -> None:
        self.and_ = builder.and_
        self.or_ = builder.or_
        self.xor = builder.xor
        self.mux = builder.mux

    def not_(self, a: int) -> int:
        return a ^ 1


class ColumnGates:
    """Gates that compute; signals are columns."""

    def __init__(self, rows: int) -> None:
        self.zero = np.zeros((rows + 63) // 64, np.uint64)

    def not_(self, a: Column) -> Column:
        return ~a

    def and_(self, a: Column, b: Column) -> Column:
        return a & b

    def or_(self, a: Column, b: Column) -> Column:
        return a | b

    def xor(self, a: Column, b: Column) -> Column:
        return a ^ b

    def mux(self, select: Column, then: Column, other: Column) -> Column:
        return other ^ (select & (then ^ other))


def to_columns(bits: NDArray[Any]) -> list[Column]:
    """``bits[rows, signals]`` as a column for each signal; spare bits are zero."""
    rows, count = bits.shape
    padded = np.zeros((count, (rows + 63) // 64 * 64), np.uint8)
    padded[:, :rows] = np.asarray(bits, np.uint8).T
    return list(np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False))


def to_bits(column: Column, rows: int) -> NDArray[np.bool_]:
    """A column as ``bool[rows]``."""
    return np.unpackbits(column.astype("<u8").view(np.uint8), bitorder="little")[:rows].astype(np.bool_)


def full_adder(gates: Gates[S], a: S, b: S, carry: S) -> tuple[S, S]:
    """Sum and carry of three bits: seven ANDs."""
    half = gates.xor(a, b)
    return gates.xor(half, carry), gates.or_(gates.and_(a, b), gates.and_(half, carry))


def add(gates: Gates[S], a: Sequence[S], b: Sequence[S], carry: S | None = None) -> list[S]:
    """``a + b + carry``, one bit longer than the longer of them."""
    carry = gates.zero if carry is None else carry
    result: list[S] = []
    for bit in range(max(len(a), len(b))):
        x = a[bit] if bit < len(a) else gates.zero
        y = b[bit] if bit < len(b) else gates.zero
        total, carry = full_adder(gates, x, y, carry)
        result.append(total)
    return [*result, carry]


def subtract(gates: Gates[S], a: Sequence[S], b: Sequence[S]) -> list[S]:
    """``a - b`` modulo 2 to the length, then the borrow (1 where ``a < b``, unsigned)."""
    total = add(gates, a, [gates.not_(bit) for bit in b], gates.not_(gates.zero))
    return [*total[:-1], gates.not_(total[-1])]


def at_least(gates: Gates[S], word: Sequence[S], threshold: int) -> S:
    """Whether the unsigned ``word`` is at least ``threshold``."""
    result = gates.not_(gates.zero)
    for bit, signal in enumerate(word):
        result = gates.and_(signal, result) if threshold >> bit & 1 else gates.or_(signal, result)
    return gates.zero if threshold >> len(word) else result


def multiply(gates: Gates[S], a: Sequence[S], b: Sequence[S]) -> list[S]:
    """``a * b``, as long as both together."""
    return weigh(
        gates, [(gates.and_(x, y), 1 << (i + j)) for i, x in enumerate(a) for j, y in enumerate(b)], len(a) + len(b)
    )


def weigh(gates: Gates[S], terms: Sequence[tuple[S, int]], width: int) -> list[S]:
    """The sum of positive weights whose signals are set, modulo 2 to the ``width``."""
    columns: list[list[S]] = [[] for _ in range(width)]
    for signal, weight in terms:
        for bit in range(width):
            if weight >> bit & 1:
                columns[bit].append(signal)
    result: list[S] = []
    for bit, column in enumerate(columns):
        while len(column) > 1:
            third = column.pop(0) if len(column) > 2 else gates.zero
            total, carry = full_adder(gates, column.pop(0), column.pop(0), third)
            column.append(total)
            if bit + 1 < width:
                columns[bit + 1].append(carry)
        result.append(column[0] if column else gates.zero)
    return result


def look_up(gates: Gates[S], index: Sequence[S], table: Sequence[bool]) -> S:
    """Entry ``index`` of ``table`` (2 to the length of ``index`` entries), as multiplexers; equal halves are shared."""
    known: dict[tuple[bool, ...], S] = {}

    def part(bit: int, entries: tuple[bool, ...]) -> S:
        if not any(entries):
            return gates.zero
        if all(entries):
            return gates.not_(gates.zero)
        if entries not in known:
            half = len(entries) // 2
            known[entries] = gates.mux(index[bit], part(bit - 1, entries[half:]), part(bit - 1, entries[:half]))
        return known[entries]

    return part(len(index) - 1, tuple(table))
