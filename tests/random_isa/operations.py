"""What instructions of a random instruction set may do: the pool that they are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from random_isa.terms import Term, constant, join

Binary = Callable[[Term, Term], Term]
Unary = Callable[[Term], Term]


def amount(word: Term, b: Term) -> Term:
    """The bits of ``b`` that a shift of ``word`` looks at."""
    bits = (word.width - 1).bit_length()
    return b.extend(bits)


def rotate_left(a: Term, b: Term) -> Term:
    by = amount(a, b)
    return a.shl(by) | a.shr(constant(a.width, by.width) - by)


def rotate_right(a: Term, b: Term) -> Term:
    by = amount(a, b)
    return a.shr(by) | a.shl(constant(a.width, by.width) - by)


def one_hot(a: Term, b: Term) -> Term:
    return constant(1, a.width).shl(amount(a, b))


def saturating_add(a: Term, b: Term) -> Term:
    total = a + b
    return total.ult(a).where(constant(-1, a.width), total)


def saturating_subtract(a: Term, b: Term) -> Term:
    return a.ult(b).where(constant(0, a.width), a - b)


def halves(a: Term) -> tuple[Term, Term]:
    return a[: a.width // 2], a[a.width // 2 :]


def bit(value: Term, width: int) -> Term:
    return value.extend(width)


BINARY: dict[str, Binary] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "rsub": lambda a, b: b - a,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "nand": lambda a, b: ~(a & b),
    "nor": lambda a, b: ~(a | b),
    "xnor": lambda a, b: ~(a ^ b),
    "andn": lambda a, b: a & ~b,
    "orn": lambda a, b: a | ~b,
    "slt": lambda a, b: bit(a.slt(b), a.width),
    "sltu": lambda a, b: bit(a.ult(b), a.width),
    "sge": lambda a, b: bit(~a.slt(b), a.width),
    "seq": lambda a, b: bit(a.eq(b), a.width),
    "sne": lambda a, b: bit(~a.eq(b), a.width),
    "sll": lambda a, b: a.shl(amount(a, b)),
    "srl": lambda a, b: a.shr(amount(a, b)),
    "sra": lambda a, b: a.sar(amount(a, b)),
    "rol": rotate_left,
    "ror": rotate_right,
    "min": lambda a, b: a.slt(b).where(a, b),
    "max": lambda a, b: a.slt(b).where(b, a),
    "minu": lambda a, b: a.ult(b).where(a, b),
    "maxu": lambda a, b: a.ult(b).where(b, a),
    "bset": lambda a, b: a | one_hot(a, b),
    "bclr": lambda a, b: a & ~one_hot(a, b),
    "binv": lambda a, b: a ^ one_hot(a, b),
    "bext": lambda a, b: bit(a.shr(amount(a, b))[0], a.width),
    "adds": saturating_add,
    "subs": saturating_subtract,
    "pack": lambda a, b: join(halves(a)[0], b[: b.width - b.width // 2]),
    "merge": lambda a, b: join(halves(b)[0], halves(a)[1]),
    "absd": lambda a, b: a.ult(b).where(b - a, a - b),
    "shadd": lambda a, b: join(constant(0, 1), a[: a.width - 1]) + b,
}


def byte_swap(a: Term) -> Term:
    return join(*(a[at : at + 8] for at in range(a.width - 8, -1, -8)))


def count_ones(a: Term) -> Term:
    return reduce(Term.__add__, [bit(a[index], a.width) for index in range(a.width)])


def leading_zeros(a: Term) -> Term:
    count = constant(a.width, a.width)
    for index in range(a.width):
        count = a[index].where(constant(a.width - 1 - index, a.width), count)
    return count


UNARY: dict[str, Unary] = {
    "not": lambda a: ~a,
    "neg": lambda a: constant(0, a.width) - a,
    "inc": lambda a: a + 1,
    "dec": lambda a: a - 1,
    "abs": lambda a: a[a.width - 1].where(constant(0, a.width) - a, a),
    "swap": lambda a: join(halves(a)[1], halves(a)[0]),
    "sexth": lambda a: halves(a)[0].extend(a.width, True),
    "zexth": lambda a: halves(a)[0].extend(a.width),
    "sext4": lambda a: a[:4].extend(a.width, True),
    "reverse": lambda a: join(*(a[index] for index in range(a.width - 1, -1, -1))),
    "parity": lambda a: bit(reduce(Term.__xor__, [a[index] for index in range(a.width)]), a.width),
    "isolate": lambda a: a & (constant(0, a.width) - a),
    "bool": lambda a: bit(~a.eq(0), a.width),
    "count": count_ones,
    "clz": leading_zeros,
}
WIDE_UNARY: dict[str, Unary] = {
    "bswap": byte_swap,
    "sextb": lambda a: a[:8].extend(a.width, True),
    "zextb": lambda a: a[:8].extend(a.width),
}
"""For words of several bytes."""

CONDITIONS: dict[str, Binary] = {
    "eq": lambda a, b: a.eq(b),
    "ne": lambda a, b: ~a.eq(b),
    "lt": lambda a, b: a.slt(b),
    "ge": lambda a, b: ~a.slt(b),
    "ltu": lambda a, b: a.ult(b),
    "geu": lambda a, b: ~a.ult(b),
    "gt0": lambda a, b: ~a[a.width - 1] & ~a.eq(0),
    "eqz": lambda a, b: a.eq(0),
    "neg": lambda a, b: a[a.width - 1],
    "odd": lambda a, b: a[0],
    "all": lambda a, b: (a & b).eq(b),
    "none": lambda a, b: (a & b).eq(0),
}
