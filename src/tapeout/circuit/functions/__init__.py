"""Functions to try the learner on, each in NumPy and in C: ``get("add32")`` is a black box."""

from __future__ import annotations

import re
from collections.abc import Callable

from tapeout.circuit.functions import arithmetic, bits, codes, machines
from tapeout.circuit.functions.function import Function, c_source, compile_library
from tapeout.circuit.functions.permuted import Permuted
from tapeout.errors import UserError

__all__ = ["FAMILIES", "FIXED", "SHOWN", "Function", "Permuted", "c_source", "compile_library", "get"]

FAMILIES: dict[str, Callable[[int], Function]] = {
    make.__name__: make
    for make in (
        arithmetic.add, arithmetic.subtract, arithmetic.compare, arithmetic.min_max, arithmetic.saturating_add,
        arithmetic.absolute_difference, arithmetic.multiply, arithmetic.multiply_signed, arithmetic.multiply_mixed,
        arithmetic.popcount, arithmetic.leading_zeros, arithmetic.binary_to_bcd,
        bits.shift_left, bits.shift_right, bits.shift_arithmetic, bits.shifts, bits.rotate, bits.multiplexer,
        bits.priority_encoder, bits.gray_encode, bits.gray_decode, bits.parity, machines.alu,
    )
}  # fmt: skip
"""Functions of one width, by name; the width follows the name: ``add32``."""

FIXED: dict[str, Callable[[], Function]] = {
    make.__name__: make for make in (codes.crc32_step, codes.aes_sbox, machines.uart_transmitter, machines.micro8)
}
"""Functions without a width."""

SHOWN = (
    "add32 subtract32 compare32 shift_left32 shift_right32 shift_arithmetic32 shifts32 rotate32 multiplexer8 "
    "multiplexer32 priority_encoder32 crc32_step aes_sbox alu8 alu32 uart_transmitter micro8 multiply8 multiply16 "
    "multiply32 multiply_signed16 multiply_signed32 multiply_mixed32 min_max32 popcount32 leading_zeros32 "
    "saturating_add32 absolute_difference32 binary_to_bcd8 binary_to_bcd16 gray_encode32 gray_decode32 parity32"
).split()
"""The functions on which the learner is measured."""


def get(name: str) -> Function:
    """The function called ``name``: one of `FIXED`, or one of `FAMILIES` with a width behind it.

    Raises:
        UserError: no such function, or a width for which it is not defined.
    """
    if name in FIXED:
        return FIXED[name]()
    match = re.fullmatch(r"(\w*?)([1-9]\d*)", name)
    if match is None or match[1] not in FAMILIES:
        known = ", ".join([*FIXED, *(f"{family}32" for family in FAMILIES)])
        raise UserError(f"there is no function {name!r}", "functions", f"use one of {known}, or another width")
    try:
        return FAMILIES[match[1]](int(match[2]))
    except ValueError as error:
        raise UserError(str(error), "functions", "give another width") from None
