"""Functions that move and pick bits: shifts, multiplexers, encoders, parities, permutations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tapeout.circuit.columns import Column
from tapeout.circuit.functions import limbs as L
from tapeout.circuit.functions.function import Function
from tapeout.circuit.functions.limbs import Limbs
from tapeout.circuit.words import parse_interface

SHIFT_C = """\
static inline uint64_t bit_of(const uint64_t* a, unsigned i) { return a[i / 64] >> i % 64 & 1; }
static inline void set_bit(uint64_t* a, unsigned i, uint64_t bit) { a[i / 64] |= bit << i % 64; }
static inline void left(const uint64_t* a, unsigned by, unsigned width, uint64_t* out) {
    unsigned n = (width + 63) / 64, whole = by / 64, part = by % 64;
    for (unsigned i = whole; i < n; i++) {
        uint64_t low = part && i > whole ? a[i - whole - 1] >> (64 - part) : 0;
        out[i] = (a[i - whole] << part | low) & mask(width - 64 * i);
    }
}
static inline void right(const uint64_t* a, unsigned by, unsigned width, uint64_t* out) {
    unsigned n = (width + 63) / 64, whole = by / 64, part = by % 64;
    for (unsigned i = 0; i + whole < n; i++) {
        uint64_t high = part && i + whole + 1 < n ? a[i + whole + 1] << (64 - part) : 0;
        out[i] = a[i + whole] >> part | high;
    }
}
static inline void fill(unsigned by, unsigned width, uint64_t* out) {
    if (by > width) by = width;
    for (unsigned i = 0, n = (width + 63) / 64; i < n; i++) {
        unsigned here = width - 64 * i < 64 ? width - 64 * i : 64, low = width - by;
        if (low < 64 * i + here) out[i] |= mask(here) & ~(low > 64 * i ? mask(low - 64 * i) : 0);
    }
}
"""


def _by_stages(stage: Callable[[Limbs, int], Limbs], word: Column, amount: Column) -> Limbs:
    """``stage(word, amount)`` as a barrel shifter does it: by 1, by 2, by 4, where the bits of ``amount`` say so."""
    limbs = L.split(word)
    for bit in range(8):
        chosen = amount >> np.uint64(bit) & np.uint64(1) != 0
        if chosen.any():
            limbs = L.select(chosen, stage(limbs, 1 << bit), limbs)
    return limbs


def _arithmetic(limbs: Limbs, by: int, width: int) -> Limbs:
    ones = L.constant(L.mask(width) ^ L.mask(max(0, width - by)), limbs)
    filled = L.either(L.shift_right(limbs, by), ones)
    return L.select(L.sign(limbs, width), filled, L.shift_right(limbs, by))


def _rotate(limbs: Limbs, by: int, width: int) -> Limbs:
    by %= width
    return L.either(L.shift_left(limbs, by, width), L.shift_right(limbs, width - by))


def _shifter(name: str, width: int, stage: Callable[[Limbs, int], Limbs], statements: str) -> Function:
    amount_bits = max(1, (width - 1).bit_length())
    if amount_bits > 8:
        raise ValueError(f"{name} is defined for up to 256 bits, not {width}")

    def columns(a: Column, amount: Column) -> Column:
        return L.join(_by_stages(stage, a, amount))

    interface = parse_interface(f"a:{width} amount:{amount_bits} -> result:{width}")
    return Function(f"{name}{width}", interface, columns, statements, SHIFT_C, limbs=True)


def shift_left(width: int) -> Function:
    """``a << amount``"""
    statements = f"left(a, amount[0], {width}, result);"
    return _shifter("shift_left", width, lambda a, by: L.shift_left(a, by, width), statements)


def shift_right(width: int) -> Function:
    """``a >> amount``, zeros shifted in."""
    return _shifter("shift_right", width, L.shift_right, f"right(a, amount[0], {width}, result);")


def shift_arithmetic(width: int) -> Function:
    """``a >> amount``, the sign shifted in."""
    statements = f"right(a, amount[0], {width}, result); if (bit_of(a, {width - 1})) fill(amount[0], {width}, result);"
    return _shifter("shift_arithmetic", width, lambda a, by: _arithmetic(a, by, width), statements)


def rotate(width: int) -> Function:
    """``a`` rotated to the left by ``amount``."""
    statements = f"for (unsigned i = 0; i < {width}; i++) set_bit(result, (i + amount[0]) % {width}, bit_of(a, i));"
    return _shifter("rotate", width, lambda a, by: _rotate(a, by, width), statements)


def shifts(width: int) -> Function:
    """Left, right and arithmetic right shift side by side, of a width that is a power of two up to 64."""

    def columns(a: Column, amount: Column) -> tuple[Column, ...]:
        top = np.uint64(64 - width)
        arithmetic = (a << top).astype(np.int64) >> (amount + top).astype(np.int64)
        left = a << amount & np.uint64(L.mask(width))
        return left, a >> amount, arithmetic.astype(np.uint64) & np.uint64(L.mask(width))

    return Function(
        f"shifts{width}",
        parse_interface(f"a:{width} amount:{(width - 1).bit_length()} -> sll:{width} srl:{width} sra:{width}"), columns,
        f"left(a, amount[0], {width}, sll); right(a, amount[0], {width}, srl); right(a, amount[0], {width}, sra);"
        f"if (bit_of(a, {width - 1})) fill(amount[0], {width}, sra);", SHIFT_C, limbs=True,
    )  # fmt: skip


def multiplexer(width: int, ways: int = 16) -> Function:
    """One of ``ways`` words (a power of two up to 32) of up to 64 bits."""

    def columns(select: Column, *words: Column) -> Column:
        return np.choose(select.astype(np.intp), words)

    inputs = " ".join(f"word[{index}]:{width}" for index in range(ways))
    return Function(
        f"multiplexer{width}", parse_interface(f"select:{(ways - 1).bit_length()} {inputs} -> chosen:{width}"), columns,
        "chosen = word[select];",
    )  # fmt: skip


def priority_encoder(width: int) -> Function:
    """The number of the highest bit that is 1, and whether there is one; 0 if there is none."""

    def columns(request: Column) -> tuple[Column, Column]:
        index = np.zeros(len(request), np.uint64)
        limbs = L.split(request)
        for bit in range(width):
            index[limbs[bit // 64] >> np.uint64(bit % 64) & np.uint64(1) != 0] = bit
        return index, np.any([limb != 0 for limb in limbs], axis=0).astype(np.uint64)

    return Function(
        f"priority_encoder{width}",
        parse_interface(f"request:{width} -> index:{max(1, (width - 1).bit_length())} valid"), columns,
        f"for (unsigned i = {width}; i-- && !valid[0];) if (bit_of(request, i)) index[0] = i, valid[0] = 1;",
        SHIFT_C, limbs=True,
    )  # fmt: skip


def gray_encode(width: int) -> Function:
    """Binary to Gray code."""

    def columns(binary: Column) -> Column:
        limbs = L.split(binary)
        return L.join([x ^ y for x, y in zip(limbs, L.shift_right(limbs, 1), strict=True)])

    return Function(
        f"gray_encode{width}", parse_interface(f"binary:{width} -> gray:{width}"), columns,
        f"right(binary, 1, {width}, gray); for (unsigned i = 0; i < {(width + 63) // 64}; i++) gray[i] ^= binary[i];",
        SHIFT_C, limbs=True,
    )  # fmt: skip


def gray_decode(width: int) -> Function:
    """Gray code to binary."""

    def columns(gray: Column) -> Column:
        limbs = L.split(gray)
        by = 1
        while by < width:
            limbs = [x ^ y for x, y in zip(limbs, L.shift_right(limbs, by), strict=True)]
            by *= 2
        return L.join(limbs)

    return Function(
        f"gray_decode{width}", parse_interface(f"gray:{width} -> binary:{width}"), columns,
        f"for (unsigned i = {width}, bit = 0; i--;) set_bit(binary, i, bit ^= bit_of(gray, i));", SHIFT_C, limbs=True,
    )  # fmt: skip


def parity(width: int) -> Function:
    """The exclusive or of all bits."""

    def columns(a: Column) -> Column:
        folded = np.bitwise_xor.reduce(L.split(a), axis=0)
        return np.bitwise_count(folded).astype(np.uint64) & np.uint64(1)

    return Function(
        f"parity{width}", parse_interface(f"a:{width} -> odd"), columns,
        f"for (unsigned i = 0; i < {(width + 63) // 64}; i++) odd[0] ^= a[i];\n"
        "for (unsigned by = 32; by; by /= 2) odd[0] ^= odd[0] >> by;\nodd[0] &= 1;", limbs=True,
    )  # fmt: skip
