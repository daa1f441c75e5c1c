"""Every operator of bit-vector terms against Python's integers, exhaustively at small widths."""

from collections.abc import Callable

import numpy as np
import pytest

from netlist_rows import evaluate, word_values
from tapeout.circuit import bitvector
from tapeout.circuit.bitvector import Bits, concat, constant, mux, one_of
from tapeout.circuit.netlist import Builder
from tapeout.circuit.words import Interface, Word, pack

WIDTH = 5
MASK = (1 << WIDTH) - 1


def signed(value: int) -> int:
    return value - (value >> (WIDTH - 1) << WIDTH)


def table(make: Callable[[Bits, Bits], Bits]) -> np.ndarray:
    """The values of a term for all pairs of 5-bit operands ``[a, b]``."""
    inputs = (Word("a", WIDTH), Word("b", WIDTH))
    builder = Builder(Interface(inputs, ()))
    result = make(*(Bits(builder, tuple(builder.input(name))) for name in "ab"))
    builder.interface = Interface(inputs, (Word("y", result.width),))
    netlist = builder.finish({"y": list(result.literals)})
    rows = pack((np.arange(1 << 2 * WIDTH)[:, None] >> np.arange(2 * WIDTH) & 1).astype(np.uint8))
    return word_values(netlist.interface.outputs, evaluate(netlist, rows))["y"].reshape(1 << WIDTH, 1 << WIDTH).T


CASES: dict[str, tuple[Callable[[Bits, Bits], Bits], Callable[[int, int], int]]] = {
    "not": (lambda a, b: ~a, lambda a, b: ~a & MASK),
    "and": (lambda a, b: a & b, lambda a, b: a & b),
    "or": (lambda a, b: a | b, lambda a, b: a | b),
    "xor": (lambda a, b: a ^ b, lambda a, b: a ^ b),
    "xor constant": (lambda a, b: a ^ 0b01101, lambda a, b: a ^ 0b01101),
    "add": (lambda a, b: a + b, lambda a, b: a + b & MASK),
    "add constant": (lambda a, b: a + -3, lambda a, b: a - 3 & MASK),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b & MASK),
    "negate": (lambda a, b: -a, lambda a, b: -a & MASK),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b & MASK),
    "multiply wide": (lambda a, b: a.zero_extend(10) * b.zero_extend(10), lambda a, b: a * b),
    "multiply signed": (lambda a, b: a.sign_extend(10) * b.sign_extend(10), lambda a, b: signed(a) * signed(b) & 1023),
    "divide": (lambda a, b: divmod(a, b)[0], lambda a, b: a // b if b else MASK),
    "remainder": (lambda a, b: divmod(a, b)[1], lambda a, b: a % b if b else a),
    "shift left": (lambda a, b: a << b[:3], lambda a, b: a << (b & 7) & MASK),
    "shift left by 2": (lambda a, b: a << 2, lambda a, b: a << 2 & MASK),
    "shift right": (lambda a, b: a >> b[:3], lambda a, b: a >> (b & 7)),
    "shift right by 7": (lambda a, b: a >> 7, lambda a, b: 0),
    "shift arithmetic": (lambda a, b: a.shift_right(b[:3], a[-1]), lambda a, b: signed(a) >> (b & 7) & MASK),
    "equals": (lambda a, b: a.equals(b), lambda a, b: int(a == b)),
    "unsigned less": (lambda a, b: a.ult(b), lambda a, b: int(a < b)),
    "signed less": (lambda a, b: a.slt(b), lambda a, b: int(signed(a) < signed(b))),
    "all": (lambda a, b: a.all(), lambda a, b: int(a == MASK)),
    "any": (lambda a, b: a.any(), lambda a, b: int(a != 0)),
    "parity": (lambda a, b: a.parity(), lambda a, b: a.bit_count() & 1),
    "reverse": (lambda a, b: a.reverse(), lambda a, b: int(f"{a:05b}"[::-1], 2)),
    "concat": (lambda a, b: concat(a, b), lambda a, b: a << WIDTH | b),
    "slice": (lambda a, b: a[1:4], lambda a, b: a >> 1 & 7),
    "bit": (lambda a, b: a[-2], lambda a, b: a >> 3 & 1),
    "mux": (lambda a, b: mux(b[0], a, 9), lambda a, b: a if b & 1 else 9),
    "one of": (lambda a, b: one_of([(b[0], a), (~b[0] & b[1], ~a)]), lambda a, b: (0, a, ~a & MASK, a)[b & 3]),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    make, meaning = CASES[name]
    expected = [[meaning(a, b) for b in range(1 << WIDTH)] for a in range(1 << WIDTH)]
    assert table(make).tolist() == expected


def test_a_full_adder_takes_seven_gates() -> None:
    builder = Builder(Interface((Word("a", 32), Word("b", 32), Word("c")), (Word("y", 33),)))
    a, b, c = (Bits(builder, tuple(builder.input(name))) for name in "abc")
    total, carry = bitvector.add_with_carry(a, b, c)
    assert builder.finish({"y": list(concat(carry, total).literals)}).nodes == 7 * 32


def test_constants_make_no_gates() -> None:
    builder = Builder(Interface((Word("a", 8),), (Word("y", 8),)))
    a = Bits(builder, tuple(builder.input("a")))
    zero = constant(builder, 0, 8)
    terms = [a + zero, a - zero, a * constant(builder, 4, 8) >> 2, mux(zero[0], zero, a), a ^ zero, a | zero, a & -1]
    assert all(term.literals[:6] == a.literals[:6] for term in terms)
    assert builder.finish({"y": list(a.literals)}).nodes == 0


def test_operands_of_different_widths_are_refused() -> None:
    builder = Builder(Interface((Word("a", 8),), ()))
    a = Bits(builder, tuple(builder.input("a")))
    with pytest.raises(ValueError, match="8 and 4 bits"):
        _ = a + a[:4]
