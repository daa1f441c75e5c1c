"""Adders, comparators, multipliers and their like, for words of any width."""

from __future__ import annotations

import numpy as np

from tapeout.circuit.columns import Column
from tapeout.circuit.functions import limbs as L
from tapeout.circuit.functions.function import Function
from tapeout.circuit.words import parse_interface

ADD_C = """\
static inline uint64_t add_limbs(const uint64_t* a, const uint64_t* b, uint64_t flip, uint64_t carry, unsigned width,
                                 uint64_t* sum) {
    for (unsigned i = 0; i * 64 < width; i++) {
        unsigned here = width - i * 64 < 64 ? width - i * 64 : 64;
        unsigned __int128 total = (unsigned __int128)a[i] + ((b[i] ^ flip) & mask(here)) + carry;
        sum[i] = (uint64_t)total & mask(here);
        carry = (uint64_t)(total >> here);
    }
    return carry;
}
static inline int less_limbs(const uint64_t* a, const uint64_t* b, unsigned width, int is_signed) {
    unsigned top = (width - 1) / 64, bit = (width - 1) % 64;
    if (is_signed && (a[top] ^ b[top]) >> bit & 1) return a[top] >> bit & 1;
    for (unsigned i = top + 1; i--;)
        if (a[i] != b[i]) return a[i] < b[i];
    return 0;
}
"""


def add(width: int) -> Function:
    """``a + b`` and the carry out."""

    def columns(a: Column, b: Column) -> tuple[Column, Column]:
        total, carry = L.add(L.split(a), L.split(b), width)
        return L.join(total), carry.astype(np.uint64)

    return Function(
        f"add{width}", parse_interface(f"a:{width} b:{width} -> sum:{width} carry"), columns,
        f"carry[0] = add_limbs(a, b, 0, 0, {width}, sum);", ADD_C, limbs=True,
    )  # fmt: skip


def subtract(width: int) -> Function:
    """``a - b`` and whether it borrows."""

    def columns(a: Column, b: Column) -> tuple[Column, Column]:
        total, borrow = L.subtract(L.split(a), L.split(b), width)
        return L.join(total), borrow.astype(np.uint64)

    return Function(
        f"subtract{width}", parse_interface(f"a:{width} b:{width} -> difference:{width} borrow"), columns,
        f"borrow[0] = !add_limbs(a, b, ~(uint64_t)0, 1, {width}, difference);", ADD_C, limbs=True,
    )  # fmt: skip


def compare(width: int) -> Function:
    """Equal, less and not less, unsigned and in two's complement."""

    def columns(a: Column, b: Column) -> tuple[Column, ...]:
        x, y = L.split(a), L.split(b)
        below = L.less(x, y)
        less = L.less(L.flip_sign(x, width), L.flip_sign(y, width))
        return tuple(flag.astype(np.uint64) for flag in (L.equal(x, y), below, less, ~below, ~less))

    return Function(
        f"compare{width}", parse_interface(f"a:{width} b:{width} -> eq ltu lt geu ge"), columns,
        f"eq[0] = !memcmp(a, b, sizeof a); ltu[0] = less_limbs(a, b, {width}, 0); lt[0] = less_limbs(a, b, {width}, 1);"
        "geu[0] = !ltu[0]; ge[0] = !lt[0];", ADD_C, limbs=True,
    )  # fmt: skip


def min_max(width: int) -> Function:
    """The smaller and the larger of two words, unsigned and in two's complement."""

    def columns(a: Column, b: Column) -> tuple[Column, ...]:
        x, y = L.split(a), L.split(b)
        below = L.less(x, y)
        less = L.less(L.flip_sign(x, width), L.flip_sign(y, width))
        pairs = ((below, x, y), (below, y, x), (less, x, y), (less, y, x))
        return tuple(L.join(L.select(*pair)) for pair in pairs)

    return Function(
        f"min_max{width}",
        parse_interface(f"a:{width} b:{width} -> minu:{width} maxu:{width} min:{width} max:{width}"), columns,
        f"""\
int below = less_limbs(a, b, {width}, 0), less = less_limbs(a, b, {width}, 1);
memcpy(minu, below ? a : b, sizeof minu); memcpy(maxu, below ? b : a, sizeof maxu);
memcpy(min, less ? a : b, sizeof min); memcpy(max, less ? b : a, sizeof max);""", ADD_C, limbs=True,
    )  # fmt: skip


def saturating_add(width: int) -> Function:
    """``a + b`` held at the largest and smallest value, unsigned and in two's complement."""

    def columns(a: Column, b: Column) -> tuple[Column, ...]:
        x, y = L.split(a), L.split(b)
        total, carry = L.add(x, y, width)
        unsigned = L.select(carry, L.constant(L.mask(width), total), total)
        negative = L.sign(x, width)
        overflow = (negative == L.sign(y, width)) & (negative != L.sign(total, width))
        top = 1 << (width - 1)
        bound = L.select(negative, L.constant(top, total), L.constant(top - 1, total))
        return L.join(unsigned), L.join(L.select(overflow, bound, total))

    return Function(
        f"saturating_add{width}", parse_interface(f"a:{width} b:{width} -> sumu:{width} sum:{width}"), columns,
        f"""\
const unsigned top = {(width - 1) // 64}, bit = {(width - 1) % 64};
uint64_t carry = add_limbs(a, b, 0, 0, {width}, sum);
memcpy(sumu, sum, sizeof sum);
if (carry) for (unsigned i = 0; i <= top; i++) sumu[i] = i < top ? ~(uint64_t)0 : mask(bit + 1);
if (((a[top] ^ sum[top]) & (b[top] ^ sum[top])) >> bit & 1) {{
    uint64_t negative = a[top] >> bit & 1;
    for (unsigned i = 0; i <= top; i++) sum[i] = negative ? 0 : ~(uint64_t)0;
    sum[top] = negative ? (uint64_t)1 << bit : mask(bit);
}}""", ADD_C, limbs=True,
    )  # fmt: skip


def absolute_difference(width: int) -> Function:
    """``|a - b|``, unsigned."""

    def columns(a: Column, b: Column) -> Column:
        x, y = L.split(a), L.split(b)
        down, borrow = L.subtract(x, y, width)
        return L.join(L.select(borrow, L.subtract(y, x, width)[0], down))

    return Function(
        f"absolute_difference{width}", parse_interface(f"a:{width} b:{width} -> distance:{width}"), columns,
        f"""\
if (less_limbs(a, b, {width}, 0)) add_limbs(b, a, ~(uint64_t)0, 1, {width}, distance);
else add_limbs(a, b, ~(uint64_t)0, 1, {width}, distance);""", ADD_C, limbs=True,
    )  # fmt: skip


def multiply(width: int) -> Function:
    """The whole product of two words of up to 32 bits, unsigned."""
    return _multiply(width, "multiply", False, False)


def multiply_signed(width: int) -> Function:
    """The whole product of two words of up to 32 bits, both in two's complement."""
    return _multiply(width, "multiply_signed", True, True)


def multiply_mixed(width: int) -> Function:
    """The whole product of two words of up to 32 bits, ``a`` in two's complement and ``b`` unsigned."""
    return _multiply(width, "multiply_mixed", True, False)


def _multiply(width: int, name: str, a_signed: bool, b_signed: bool) -> Function:
    if not 1 <= width <= 32:
        raise ValueError(f"{name} is defined for 1 to 32 bits, not {width}")
    modulus, keep = np.uint64(1 << width), L.mask(2 * width)

    def extend(word: Column, is_signed: bool) -> Column:
        return word - modulus * (word >> np.uint64(width - 1)) if is_signed else word

    def columns(a: Column, b: Column) -> Column:
        return extend(a, a_signed) * extend(b, b_signed) & np.uint64(keep)

    def extend_c(word: str, is_signed: bool) -> str:
        return f"((int64_t)({word} << {64 - width}) >> {64 - width})" if is_signed else f"(int64_t){word}"

    product = f"(uint64_t){extend_c('a', a_signed)} * (uint64_t){extend_c('b', b_signed)}"
    return Function(
        f"{name}{width}", parse_interface(f"a:{width} b:{width} -> product:{2 * width}"), columns,
        f"product = {product} & mask({2 * width});",
    )  # fmt: skip


def popcount(width: int) -> Function:
    """How many bits are 1."""

    def columns(a: Column) -> Column:
        return np.asarray(np.sum([np.bitwise_count(limb) for limb in L.split(a)], axis=0), np.uint64)

    return Function(
        f"popcount{width}", parse_interface(f"a:{width} -> count:{width.bit_length()}"), columns,
        f"for (unsigned i = 0; i < {(width + 63) // 64}; i++) for (; a[i]; a[i] &= a[i] - 1) count[0]++;", limbs=True,
    )  # fmt: skip


def leading_zeros(width: int) -> Function:
    """How many bits above the highest 1; of zero, all."""

    def columns(a: Column) -> Column:
        count = np.full(len(a), width, np.uint64)
        for index, limb in enumerate(L.split(a)):
            # frexp is exact below 2**53: the halves are counted apart.
            for shift in (0, 32):
                half = limb >> np.uint64(shift) & np.uint64(L.mask(32))
                length = np.frexp(half.astype(np.float64))[1].astype(np.uint64)
                count = np.where(half != 0, np.uint64(width) - (length + np.uint64(64 * index + shift)), count)
        return count

    return Function(
        f"leading_zeros{width}", parse_interface(f"a:{width} -> count:{width.bit_length()}"), columns,
        f"for (unsigned i = {width}; i-- && !(a[i / 64] >> i % 64 & 1);) count[0]++;",
        limbs=True,
    )  # fmt: skip


def binary_to_bcd(width: int) -> Function:
    """Decimal digits of a word of up to 32 bits, four bits each, the least significant first."""
    digits = len(str(L.mask(width)))

    def columns(a: Column) -> Column:
        result = np.zeros(len(a), np.uint64)
        for digit in range(digits):
            result |= (a // np.uint64(10**digit) % np.uint64(10)) << np.uint64(4 * digit)
        return result

    return Function(
        f"binary_to_bcd{width}", parse_interface(f"binary:{width} -> digits:{4 * digits}"), columns,
        "for (unsigned at = 0; binary; binary /= 10, at += 4) digits |= binary % 10 << at;",
    )  # fmt: skip
