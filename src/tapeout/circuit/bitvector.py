"""Terms over bit vectors, made into gates as they are written: ``(a + b) & mask`` is a piece of a netlist.

Meanings are those of SMT-LIB's theory of fixed-size bit vectors: operators work modulo ``2**width`` on operands of
one width, division by zero gives all ones and the remainder is the dividend. A Python integer beside a term is a
constant of the term's width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

from tapeout.circuit.netlist import FALSE, TRUE, Builder


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """A vector of literals of ``builder``, the least significant bit first."""

    builder: Builder
    literals: tuple[int, ...]

    @property
    def width(self) -> int:
        return len(self.literals)

    def __getitem__(self, index: int | slice) -> Bits:
        """One bit, or a slice counted from the least significant bit: ``a[0:8]`` is the low byte."""
        picked = self.literals[index]
        return Bits(self.builder, picked if isinstance(picked, tuple) else (picked,))

    def __iter__(self) -> Iterator[Bits]:
        return (self[bit] for bit in range(self.width))

    def __invert__(self) -> Bits:
        return Bits(self.builder, tuple(literal ^ 1 for literal in self.literals))

    def __and__(self, other: Bits | int) -> Bits:
        pairs = zip(self.literals, self.like(other).literals, strict=True)
        return Bits(self.builder, tuple(self.builder.and_(a, b) for a, b in pairs))

    def __or__(self, other: Bits | int) -> Bits:
        return ~(~self & ~self.like(other))

    def __xor__(self, other: Bits | int) -> Bits:
        pairs = zip(self.literals, self.like(other).literals, strict=True)
        return Bits(self.builder, tuple(_xor(self.builder, a, b) for a, b in pairs))

    def __add__(self, other: Bits | int) -> Bits:
        return add_with_carry(self, self.like(other), self.zero(1))[0]

    def __sub__(self, other: Bits | int) -> Bits:
        return add_with_carry(self, ~self.like(other), ~self.zero(1))[0]

    def __neg__(self) -> Bits:
        return self.zero(self.width) - self

    def __mul__(self, other: Bits | int) -> Bits:
        total = self.zero(self.width)
        for _, total in product_steps(self, self.like(other)):  # noqa: B007 (the last total is the product)
            pass
        return total

    def __divmod__(self, other: Bits | int) -> tuple[Bits, Bits]:
        """Unsigned quotient and remainder, by restoring division."""
        other = self.like(other)
        quotient: list[Bits] = []
        remainder = self[:0]
        for step, bit in enumerate(reversed(tuple(self)), 1):
            # Before step n the remainder has n - 1 bits: nothing is built for the bits that can't be set yet.
            remainder = concat(remainder, bit)
            fits = ~other[step:].any() & ~remainder.ult(other[:step])
            remainder = mux(fits, remainder - other[:step], remainder)
            quotient.append(fits)
        return concat(*quotient), remainder

    def __lshift__(self, amount: Bits | int) -> Bits:
        if isinstance(amount, int):
            return concat(self, self.zero(amount))[: self.width]
        return self.reverse().shift_right(amount, self.zero(1)).reverse()

    def __rshift__(self, amount: Bits | int) -> Bits:
        """Logical shift; vacated bits are 0."""
        return self.shift_right(amount, self.zero(1))

    def shift_right(self, amount: Bits | int, fill: Bits) -> Bits:
        """Shift to the right, vacated bits are ``fill``: 0 for a logical shift, the sign for an arithmetic one."""
        if isinstance(amount, int):
            return concat(fill.repeat(amount), self)[amount : amount + self.width]
        word = self
        for bit, chosen in enumerate(amount):
            word = mux(chosen, word.shift_right(1 << bit, fill), word)
        return word

    def like(self, value: Bits | int) -> Bits:
        """``value`` as an operand beside this term.

        Raises:
            ValueError: a term of another width.
        """
        if isinstance(value, int):
            return constant(self.builder, value, self.width)
        if value.width != self.width:
            raise ValueError(f"operands have {self.width} and {value.width} bits")
        return value

    def zero(self, width: int) -> Bits:
        return Bits(self.builder, (FALSE,) * width)

    def repeat(self, times: int) -> Bits:
        return Bits(self.builder, self.literals * times)

    def reverse(self) -> Bits:
        return Bits(self.builder, self.literals[::-1])

    def zero_extend(self, width: int) -> Bits:
        return concat(self.zero(width - self.width), self)

    def sign_extend(self, width: int) -> Bits:
        return concat(self[-1].repeat(width - self.width), self)

    def all(self) -> Bits:
        """1 where every bit is 1; of no bits 1."""
        return Bits(self.builder, (reduce(self.builder.and_, self.literals, TRUE),))

    def any(self) -> Bits:
        """1 where some bit is 1; of no bits 0."""
        return ~(~self).all()

    def parity(self) -> Bits:
        """The exclusive or of all bits; of no bits 0."""
        return reduce(Bits.__xor__, self, self.zero(1))

    def equals(self, other: Bits | int) -> Bits:
        return ~(self ^ other).any()

    def ult(self, other: Bits | int) -> Bits:
        """1 where this is less than ``other``, both unsigned."""
        return ~add_with_carry(self, ~self.like(other), ~self.zero(1))[1]

    def slt(self, other: Bits | int) -> Bits:
        """1 where this is less than ``other``, both in two's complement."""
        other = self.like(other)
        return concat(~self[-1], self[:-1]).ult(concat(~other[-1], other[:-1]))


def constant(builder: Builder, value: int, width: int) -> Bits:
    """``value`` modulo ``2**width``."""
    return Bits(builder, tuple(TRUE if value >> bit & 1 else FALSE for bit in range(width)))


def concat(*parts: Bits) -> Bits:
    """The parts side by side, the most significant first as in Verilog's ``{a, b}``."""
    return Bits(parts[0].builder, tuple(literal for part in reversed(parts) for literal in part.literals))


def mux(select: Bits, then: Bits, other: Bits | int) -> Bits:
    """``then`` where the bit ``select`` is 1, else ``other``."""
    pairs = zip(then.literals, then.like(other).literals, strict=True)
    return Bits(then.builder, tuple(then.builder.mux(select.literals[0], a, b) for a, b in pairs))


def one_of(cases: Sequence[tuple[Bits, Bits]]) -> Bits:
    """The value whose bit is 1: at most one of the ``(bit, value)`` may be, and where none is the result is 0."""
    return any_of(value & bit.repeat(value.width) for bit, value in cases)


def any_of(words: Iterable[Bits]) -> Bits:
    """The bitwise or of one or more words."""
    return reduce(Bits.__or__, words)


def add_with_carry(a: Bits, b: Bits, carry: Bits) -> tuple[Bits, Bits]:
    """``a + b + carry`` as sum and carry out, rippling: 7 ANDs a bit, the fewest for a full adder."""
    builder = a.builder
    total: list[int] = []
    c = carry.literals[0]
    for x, y in zip(a.literals, b.literals, strict=True):
        either = _xor(builder, x, y)
        total.append(_xor(builder, either, c))
        c = builder.or_(builder.and_(x, y), builder.and_(either, c))
    return Bits(builder, tuple(total)), Bits(builder, (c,))


def product_steps(a: Bits, b: Bits) -> Iterator[tuple[Bits, Bits]]:
    """The array multiplier: row ``j``, ``a << j`` where bit ``j`` of ``b`` is 1, and the sum of the rows so far."""
    total = a.zero(a.width)
    for shift, bit in enumerate(b):
        row = (a << shift) & bit.repeat(a.width)
        total = total + row
        yield row, total


def _xor(builder: Builder, a: int, b: int) -> int:
    """Not both, not neither: it shares ``a & b`` and ``a | b`` with whoever needs them, a full adder for one."""
    return builder.and_(builder.and_(a, b) ^ 1, builder.or_(a, b))
