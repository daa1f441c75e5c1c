"""Terms over words of up to 64 bits: what an instruction of a random instruction set computes.

A term has three readings that share no code: NumPy (`Values`), C (`CWriter`) and gates (`gates.py`). Operands of one
operation have one width, but for the amount of a shift; shifts by the width or more leave 0 (or signs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Column: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """``op`` of ``args``; ``value`` is a constant's value or a slice's first bit, ``name`` an input's name."""

    op: str
    width: int
    args: tuple[Term, ...] = ()
    value: int = 0
    name: str = ""

    def __add__(self, other: Term | int) -> Term:
        return self._same("add", other)

    def __sub__(self, other: Term | int) -> Term:
        return self._same("sub", other)

    def __and__(self, other: Term | int) -> Term:
        return self._same("and", other)

    def __or__(self, other: Term | int) -> Term:
        return self._same("or", other)

    def __xor__(self, other: Term | int) -> Term:
        return self._same("xor", other)

    def __invert__(self) -> Term:
        return Term("not", self.width, (self,))

    def __getitem__(self, bits: int | slice) -> Term:
        """Bit ``i``, or bits ``low:high`` without ``high``."""
        if isinstance(bits, int):
            bits = slice(bits, bits + 1)
        low, high, _ = bits.indices(self.width)
        assert 0 <= low < high <= self.width, (self.width, bits)
        return Term("slice", high - low, (self,), low)

    def _same(self, op: str, other: Term | int) -> Term:
        return Term(op, self.width, (self, self.like(other)))

    def like(self, value: Term | int) -> Term:
        if isinstance(value, Term):
            assert value.width == self.width, (self, value)
            return value
        return constant(value, self.width)

    def shl(self, amount: Term) -> Term:
        return Term("shl", self.width, (self, amount))

    def shr(self, amount: Term) -> Term:
        return Term("shr", self.width, (self, amount))

    def sar(self, amount: Term) -> Term:
        return Term("sar", self.width, (self, amount))

    def eq(self, other: Term | int) -> Term:
        return Term("eq", 1, (self, self.like(other)))

    def ult(self, other: Term | int) -> Term:
        return Term("ult", 1, (self, self.like(other)))

    def slt(self, other: Term | int) -> Term:
        return Term("slt", 1, (self, self.like(other)))

    def where(self, then: Term, other: Term | int) -> Term:
        """``then`` where this bit is 1, else ``other``."""
        assert self.width == 1
        return Term("mux", then.width, (self, then, then.like(other)))

    def extend(self, width: int, is_signed: bool = False) -> Term:
        """To ``width`` bits with zeros or signs; cut to them if it has more."""
        if width <= self.width:
            return self if width == self.width else self[:width]
        more = width - self.width
        return join(self, *([self[self.width - 1]] * more if is_signed else [constant(0, more)]))


def constant(value: int, width: int) -> Term:
    """``value`` modulo ``2**width``."""
    return Term("const", width, value=value & ((1 << width) - 1))


def variable(name: str, width: int) -> Term:
    """An input word."""
    return Term("input", width, name=name)


def join(*parts: Term) -> Term:
    """The parts side by side, the least significant first."""
    return Term("join", sum(part.width for part in parts), parts)


class Values:
    """Terms in NumPy, over input columns ``uint64[rows]``; a term that is used twice is computed once."""

    def __init__(self, inputs: dict[str, Column], rows: int) -> None:
        self.inputs = inputs
        self.rows = rows
        self._known: dict[int, tuple[Term, Column]] = {}

    def __call__(self, term: Term) -> Column:
        known = self._known.get(id(term))
        if known is None:
            known = self._known[id(term)] = (term, self._value(term))
        return known[1]

    def _value(self, term: Term) -> Column:
        if term.op == "input":
            return self.inputs[term.name]
        if term.op == "const":
            return np.full(self.rows, term.value, np.uint64)
        args = [self(arg) for arg in term.args]
        if term.op == "join":
            places = np.cumsum([0] + [part.width for part in term.args])
            return np.bitwise_or.reduce([arg << np.uint64(at) for arg, at in zip(args, places[:-1], strict=True)])
        value = _NUMPY[term.op](term, *args)
        return np.asarray(value, np.uint64) & np.uint64((1 << term.width) - 1)


def _as_signed(word: Column, width: int) -> NDArray[np.int64]:
    return word.astype(np.int64) - (word >> np.uint64(width - 1)).astype(np.int64) * (1 << width)


def _shift_left(term: Term, word: Column, amount: Column) -> Column:
    return np.where(amount < term.width, word << np.minimum(amount, 63), 0)


def _shift_right(term: Term, word: Column, amount: Column) -> Column:
    return np.where(amount < term.width, word >> np.minimum(amount, 63), 0)


_NUMPY: dict[str, Callable[..., Any]] = {
    "add": lambda term, a, b: a + b,
    "sub": lambda term, a, b: a - b,
    "and": lambda term, a, b: a & b,
    "or": lambda term, a, b: a | b,
    "xor": lambda term, a, b: a ^ b,
    "not": lambda term, a: ~a,
    "slice": lambda term, a: a >> np.uint64(term.value),
    "shl": _shift_left,
    "shr": _shift_right,
    "sar": lambda term, a, n: (_as_signed(a, term.width) >> np.minimum(n, 63).astype(np.int64)).astype(np.uint64),
    "eq": lambda term, a, b: a == b,
    "ult": lambda term, a, b: a < b,
    "slt": lambda term, a, b: _as_signed(a, term.args[0].width) < _as_signed(b, term.args[0].width),
    "mux": lambda term, c, a, b: np.where(c == 1, a, b),
}


C_HELPERS = """\
static inline uint64_t shl(uint64_t a, uint64_t n, unsigned w) { return n < w ? a << n & mask(w) : 0; }
static inline uint64_t shr(uint64_t a, uint64_t n, unsigned w) { return n < w ? a >> n : 0; }
static inline uint64_t sar(uint64_t a, uint64_t n, unsigned w) {
    uint64_t fill = a >> (w - 1) & 1 ? mask(w) : 0;
    return n < w ? a >> n | (fill & ~(mask(w) >> n)) : fill;
}
static inline uint64_t slt(uint64_t a, uint64_t b, unsigned w) {
    uint64_t flip = (uint64_t)1 << (w - 1);
    return (a ^ flip) < (b ^ flip);
}
"""


class CWriter:
    """Terms as C statements over variables called as the inputs are; a term that is used twice is computed once."""

    def __init__(self, count: int = 0) -> None:
        self.lines: list[str] = []
        self.count = count
        self._known: dict[int, tuple[Term, str]] = {}

    def __call__(self, term: Term) -> str:
        """The name or constant that holds the term's value."""
        known = self._known.get(id(term))
        if known is None:
            known = self._known[id(term)] = (term, self._name(term))
        return known[1]

    def _name(self, term: Term) -> str:
        if term.op == "input":
            return term.name
        if term.op == "const":
            return f"{term.value:#x}u" + "ll" * (term.value >> 32 != 0)
        self.count += 1
        name = f"t{self.count}"
        self.lines.append(f"const uint64_t {name} = {self._text(term)};")
        self.count += 1
        return name

    def _text(self, term: Term) -> str:
        args = [self(arg) for arg in term.args]
        keep = f"mask({term.width})"
        match term.op:
            case "add" | "sub":
                return f"({args[0]} {'+' if term.op == 'add' else '-'} {args[1]}) & {keep}"
            case "and" | "or" | "xor":
                return f"{args[0]} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[term.op]} {args[1]}"
            case "not":
                return f"{args[0]} ^ {keep}"
            case "slice":
                return f"{args[0]} >> {term.value} & {keep}"
            case "shl" | "shr" | "sar":
                return f"{term.op}({args[0]}, {args[1]}, {term.width})"
            case "eq" | "ult":
                return f"{args[0]} {'==' if term.op == 'eq' else '<'} {args[1]}"
            case "slt":
                return f"slt({args[0]}, {args[1]}, {term.args[0].width})"
            case "mux":
                return f"{args[0]} ? {args[1]} : {args[2]}"
            case "join":
                at, parts = 0, list[str]()
                for part, arg in zip(term.args, args, strict=True):
                    parts.append(f"(uint64_t){arg} << {at}")
                    at += part.width
                return " | ".join(parts)
            case _:
                raise ValueError(term.op)
