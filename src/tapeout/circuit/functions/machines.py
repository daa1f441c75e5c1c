"""The steps of small machines: an ALU, a UART transmitter, and an 8-bit microcontroller of our own."""

from __future__ import annotations

import numpy as np

from tapeout.circuit.columns import Column
from tapeout.circuit.functions import limbs as L
from tapeout.circuit.functions.function import Function
from tapeout.circuit.words import parse_interface

_1 = np.uint64(1)


def alu(width: int) -> Function:
    """Sixteen operations on words of 8, 16 or 32 bits.

    ``op``: 0 add, 1 add with carry, 2 subtract, 3 subtract with borrow (the carry is the borrow), 4 and, 5 or, 6 xor,
    7 nor, 8 shift left, 9 right, 10 arithmetic right (by the low bits of ``b``), 11 rotate left, 12 signed less,
    13 unsigned less, 14 ``b``, 15 not ``a``. ``carry_out`` and ``overflow`` are 0 for operations 4 to 15.
    """
    amount_bits = (width - 1).bit_length()

    def columns(op: Column, a: Column, b: Column, carry: Column) -> tuple[Column, ...]:
        full, top = np.uint64(L.mask(width)), np.uint64(1 << (width - 1))
        by = b & np.uint64(L.mask(amount_bits))
        taken = carry * (op & _1)
        sum_, difference = a + b + taken, a - b - taken
        signed_a = (a ^ top).astype(np.int64) - np.int64(top)
        less = (a ^ top) < (b ^ top)
        results = [
            sum_, sum_, difference, difference, a & b, a | b, a ^ b, ~(a | b),
            a << by, a >> by, (signed_a >> by.astype(np.int64)).astype(np.uint64),
            a << by | a >> (np.uint64(width) - by), less, a < b, b, ~a,
        ]  # fmt: skip
        result = np.choose(op.astype(np.intp), [np.asarray(value, np.uint64) for value in results]) & full
        carry_out = np.where(op < 2, sum_ >> np.uint64(width), np.where(op < 4, difference >> np.uint64(63), 0))
        into = np.where(op < 2, b, ~b)
        overflow = np.where(op < 4, (a ^ result) & (into ^ result) & top != 0, False)
        return result, result == 0, result & top != 0, carry_out, overflow

    interface = parse_interface(f"op:4 a:{width} b:{width} carry -> result:{width} zero negative carry_out overflow")
    return Function(f"alu{width}", interface, columns, f"enum {{ W = {width} }};" + _ALU_C)


_ALU_C = """
const uint64_t full = mask(W);
const unsigned by = b & (W - 1);
const int64_t x = (int64_t)(a << (64 - W)) >> (64 - W), y = (int64_t)(b << (64 - W)) >> (64 - W);
int64_t exact = 0;  /* the sum of the operands in two's complement: overflows where it needs another bit */
switch (op) {
case 0: case 1: carry &= op; result = a + b + carry; carry_out = result > full; exact = x + y + (int64_t)carry; break;
case 2: case 3: carry &= op; result = a - b - carry; carry_out = a < b + carry; exact = x - y - (int64_t)carry; break;
case 4: result = a & b; break;
case 5: result = a | b; break;
case 6: result = a ^ b; break;
case 7: result = ~(a | b); break;
case 8: result = a << by; break;
case 9: result = a >> by; break;
case 10: result = (uint64_t)(x >> by); break;
case 11: result = by ? a << by | a >> (W - by) : a; break;
case 12: result = x < y; break;
case 13: result = a < b; break;
case 14: result = b; break;
default: result = ~a; break;
}
result &= full;
zero = !result;
negative = result >> (W - 1);
if (op < 4) overflow = exact < -((int64_t)1 << (W - 1)) || exact >= (int64_t)1 << (W - 1);
"""


def uart_transmitter() -> Function:
    """One clock of a transmitter of 8 data bits, no parity, one stop bit; each bit lasts ``divider + 1`` clocks.

    ``bits`` counts the bits left to send, 0 is idle; ``shift`` holds them, the next one lowest; ``count`` clocks are
    left of the present one. ``start`` and ``data`` are looked at while idle only, where ``ready`` is 1.
    """

    def columns(
        divider: Column, start: Column, data: Column, count: Column, bits: Column, shift: Column
    ) -> tuple[Column, ...]:
        idle, begins, ends = bits == 0, (bits == 0) & (start == 1), (bits != 0) & (count == 0)
        return (
            np.select([begins | ends, idle], [divider, count], count - _1),
            np.select([begins, ends], [np.uint64(10), bits - _1], bits),
            np.select([begins, ends], [data << _1, shift >> _1 | np.uint64(256)], shift),
            np.where(idle, _1, shift & _1),
            idle,
        )

    return Function(
        "uart_transmitter",
        parse_interface(
            "divider:16 start data:8 count:16 bits:4 shift:9 -> count.next:16 bits.next:4 shift.next:9 line ready"
        ),
        columns,
        """\
count_next = count; bits_next = bits; shift_next = shift;
ready = !bits;
line = ready | (shift & 1);
if (!bits) {
    if (start) { count_next = divider; bits_next = 10; shift_next = data << 1; }
} else if (count) {
    count_next--;
} else {
    count_next = divider; bits_next--; shift_next = 0x100 | shift >> 1;
}""",
    )  # fmt: skip


def micro8() -> Function:
    """One instruction of an 8-bit microcontroller: eight registers, three flags, 8-bit data and program addresses.

    Instruction bits: 15:12 what to do, 11:9 ``d``, 8:6 ``s``, 7:0 ``k``. ``k6`` are bits 5:0 in two's complement.

    ==  =====================================================================================================
    0   ALU on registers d and s, bits 5:2: 0 add, 1 adc, 2 sub, 3 sbc, 4 and, 5 or, 6 xor, 7 mov, 8 cmp (sub without
        a result), 9 shl, 10 shr, 11 asr, 12 ror (all by one, of s; the carry is the bit shifted out, and for ror the
        bit shifted in), 13 swap nibbles of s, 14 neg s, 15 not s
    1-6 d = d + k, d - k, d & k, d | k, d ^ k, k
    7   cmp d, k
    8   d = memory[s + k6]
    9   memory[s + k6] = d
    10  branch by k if condition d: always, never, zero, not zero, carry, not carry, negative, not negative
    11  jump to k
    12  r7 = pc + 1, jump to k
    13  jump to s
    14  bit s of d, bits 5:4: 0 test (zero flag), 1 clear, 2 set, 3 toggle; flags otherwise hold
    15  halt: pc holds
    ==  =====================================================================================================

    Rows 0 (but for ``mov``), 1 to 5 and 7 set zero and negative; of these additions, subtractions and ``neg`` set the
    carry (with the borrow), shifts with the bit that leaves. All other flags, and registers, hold.
    """
    registers = " ".join(f"r[{index}]:8" for index in range(8))
    after = " ".join(f"r[{index}].next:8" for index in range(8))
    return Function(
        "micro8",
        parse_interface(
            f"instruction:16 pc:8 carry zero negative load_data:8 {registers} -> "
            f"pc.next:8 carry.next zero.next negative.next address:8 store_data:8 load store halt {after}"
        ),
        _micro8, _MICRO8_C,
    )  # fmt: skip


def _micro8_alu(fn: Column, a: Column, b: Column, carry: Column) -> tuple[Column, Column, Column]:
    """Operation ``fn`` of the register ALU: its result (8 bits), the carry, and whether it sets the flags at all."""
    taken = carry * (fn & _1)
    seven = np.uint64(7)
    results = [
        a + b + taken, a + b + taken, a - b - taken, a - b - taken, a & b, a | b, a ^ b, b,
        a - b, b << _1, b >> _1, b >> _1 | b & np.uint64(128), b >> _1 | carry << seven,
        b << np.uint64(4) | b >> np.uint64(4), np.uint64(0) - b, ~b,
    ]  # fmt: skip
    index = fn.astype(np.intp)
    result = np.choose(index, results)
    ninth = result >> np.uint64(8) & _1
    carries = [ninth] * 4 + [carry] * 4 + [ninth, ninth] + [b & _1] * 3 + [carry, ninth, carry]
    return result & np.uint64(255), np.choose(index, carries), np.asarray(fn != 7, np.uint64)


def _micro8(
    instruction: Column, pc: Column, carry: Column, zero: Column, negative: Column, load_data: Column, *r: Column
) -> tuple[Column, ...]:
    def field(low: int, width: int) -> Column:
        return instruction >> np.uint64(low) & np.uint64(L.mask(width))

    kind, d, s, k, k6 = field(12, 4), field(9, 3), field(6, 3), field(0, 8), field(0, 6)
    d_index, s_index = d.astype(np.intp), s.astype(np.intp)
    value, source = np.choose(d_index, r), np.choose(s_index, r)
    # Rows 1 to 7 are operations of the register ALU on the constant.
    fn = np.choose(kind.clip(0, 7).astype(np.intp), [field(2, 4), *(np.full_like(d, x) for x in (0, 2, 4, 5, 6, 7, 8))])
    result, carried, _ = _micro8_alu(fn, value, np.where(kind == 0, source, k), carry)
    computes = kind < 8
    flagged = computes & (fn != 7)

    address = source + (k6 ^ np.uint64(32)) - np.uint64(32) & np.uint64(255)
    bit = _1 << s
    changed = np.choose(field(4, 2).astype(np.intp), [value, value & ~bit, value | bit, value ^ bit])
    conditions: list[Column] = [_1 + 0 * zero, 0 * zero, zero, _1 - zero, carry, _1 - carry, negative, _1 - negative]
    taken = np.choose(d_index, conditions) == 1

    loads, stores, tests = kind == 8, kind == 9, (kind == 14) & (field(4, 2) == 0)
    written = np.select([computes, loads, kind == 12], [result, load_data, pc + _1], changed) & np.uint64(255)
    writes = computes & (fn != 8) | loads | (kind == 12) | (kind == 14)
    target = np.where(kind == 12, np.uint64(7), d)
    following = np.select(
        [(kind == 10) & taken, (kind == 11) | (kind == 12), kind == 13, kind == 15],
        [pc + _1 + k, k, source, pc],
        pc + _1,
    )
    return (
        following & np.uint64(255),
        np.where(flagged, carried, carry),
        np.select([flagged, tests], [result == 0, value & bit == 0], zero == 1),
        np.where(flagged, result >> np.uint64(7), negative),
        np.where(loads | stores, address, 0),
        np.where(stores, value, 0),
        loads, stores, kind == 15,
        *(np.where(writes & (target == index), written, r[index]) for index in range(8)),
    )  # fmt: skip


_MICRO8_C = """
const unsigned k = instruction & 255, d = instruction >> 9 & 7, s = instruction >> 6 & 7, action = instruction >> 4 & 3;
const unsigned at = (r[s] + (k & 31) - (k & 32)) & 255;
unsigned fn = instruction >> 2 & 15, a = r[d], b = r[s], target = d, kind = instruction >> 12, taken;
int wide = 0;
memcpy(r_next, r, sizeof r);
pc_next = pc + 1; carry_next = carry; zero_next = zero; negative_next = negative;
switch (kind) {
case 1: fn = 0; b = k; break;
case 2: fn = 2; b = k; break;
case 3: fn = 4; b = k; break;
case 4: fn = 5; b = k; break;
case 5: fn = 6; b = k; break;
case 6: r_next[d] = k; break;
case 7: fn = 8; b = k; break;
case 8: load = 1; address = at; r_next[d] = load_data; break;
case 9: store = 1; address = at; store_data = r[d]; break;
case 10:
    taken = d < 2 ? 1 : d < 4 ? zero : d < 6 ? carry : negative;
    if (taken ^ (d & 1)) pc_next += k;
    break;
case 12: r_next[7] = (pc + 1) & 255;  /* fall through */
case 11: pc_next = k; break;
case 13: pc_next = r[s]; break;
case 14:
    if (action == 0) zero_next = !(r[d] >> s & 1);
    if (action == 1) r_next[d] &= ~((uint64_t)1 << s);
    if (action == 2) r_next[d] |= (uint64_t)1 << s;
    if (action == 3) r_next[d] ^= (uint64_t)1 << s;
    break;
case 15: halt = 1; pc_next = pc; break;
}
pc_next &= 255;
if (kind < 6 || kind == 7) {
    switch (fn) {
    case 0: wide = a + b; break;
    case 1: wide = a + b + carry; break;
    case 2: case 8: wide = (int)a - (int)b; break;
    case 3: wide = (int)a - (int)b - (int)carry; break;
    case 4: wide = a & b; break;
    case 5: wide = a | b; break;
    case 6: wide = a ^ b; break;
    case 7: wide = b; break;
    case 9: wide = b << 1; break;
    case 10: wide = b >> 1; break;
    case 11: wide = b >> 1 | (b & 128); break;
    case 12: wide = b >> 1 | carry << 7; break;
    case 13: wide = b << 4 | b >> 4; break;
    case 14: wide = -(int)b; break;
    case 15: wide = ~b; break;
    }
    if (fn != 8) r_next[target] = wide & 255;
    if (fn != 7) {
        zero_next = !(wide & 255);
        negative_next = wide >> 7 & 1;
        if (fn < 4 || fn == 8 || fn == 9 || fn == 14) carry_next = wide >> 8 & 1;
        if (fn >= 10 && fn <= 12) carry_next = b & 1;
    }
}
"""
