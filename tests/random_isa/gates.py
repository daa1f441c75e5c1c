"""Terms as gates: a random instruction set as a netlist, so that what was learned from it can be proved."""

from __future__ import annotations

from functools import reduce

from random_isa.terms import Term
from tapeout.circuit.netlist import FALSE, TRUE, Builder

Bits = list[int]


class Gates:
    """Terms as literals of ``builder``, the least significant bit first."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._known: dict[int, tuple[Term, Bits]] = {}

    def __call__(self, term: Term) -> Bits:
        known = self._known.get(id(term))
        if known is None:
            known = self._known[id(term)] = (term, self._bits(term))
        return known[1]

    def _bits(self, term: Term) -> Bits:
        b = self.builder
        if term.op == "input":
            return b.input(term.name)
        if term.op == "const":
            return [TRUE if term.value >> bit & 1 else FALSE for bit in range(term.width)]
        args = [self(arg) for arg in term.args]
        match term.op:
            case "add":
                return self.sum(args[0], args[1], FALSE)[0]
            case "sub":
                return self.sum(args[0], invert(args[1]), TRUE)[0]
            case "and" | "or" | "xor":
                gate = {"and": b.and_, "or": b.or_, "xor": b.xor}[term.op]
                return [gate(x, y) for x, y in zip(*args, strict=True)]
            case "not":
                return invert(args[0])
            case "slice":
                return args[0][term.value : term.value + term.width]
            case "join":
                return [literal for arg in args for literal in arg]
            case "shl":
                return self.shift(args[0][::-1], args[1], FALSE)[::-1]
            case "shr":
                return self.shift(args[0], args[1], FALSE)
            case "sar":
                return self.shift(args[0], args[1], args[0][-1])
            case "eq":
                return [self.all([b.xor(x, y) ^ 1 for x, y in zip(*args, strict=True)])]
            case "ult":
                return [self.sum(args[0], invert(args[1]), TRUE)[1] ^ 1]
            case "slt":
                x, y = ([*arg[:-1], arg[-1] ^ 1] for arg in args)
                return [self.sum(x, invert(y), TRUE)[1] ^ 1]
            case "mux":
                return self.choose(args[0][0], args[1], args[2])
            case _:
                raise ValueError(term.op)

    def all(self, literals: Bits) -> int:
        return reduce(self.builder.and_, literals, TRUE)

    def choose(self, select: int, then: Bits, other: Bits) -> Bits:
        return [self.builder.mux(select, x, y) for x, y in zip(then, other, strict=True)]

    def sum(self, x: Bits, y: Bits, carry: int) -> tuple[Bits, int]:
        b = self.builder
        total: Bits = []
        for p, q in zip(x, y, strict=True):
            half = b.xor(p, q)
            total.append(b.xor(half, carry))
            carry = b.or_(b.and_(p, q), b.and_(half, carry))
        return total, carry

    def shift(self, word: Bits, amount: Bits, fill: int) -> Bits:
        """To the right, by stages."""
        for stage, chosen in enumerate(amount):
            by = min(1 << stage, len(word))
            word = self.choose(chosen, word[by:] + [fill] * by, word)
        return word


def invert(bits: Bits) -> Bits:
    return [literal ^ 1 for literal in bits]
