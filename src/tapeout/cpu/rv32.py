"""The control processor's step as a black box: its variants, its words, its oracle.

docs/processor.md says what every word means. Two forms: with the register file in the state (``x[1]`` ... ``x[31]``),
or without it (port form: ``rs1 rs2`` in, ``rd rd_write`` out).
"""

from __future__ import annotations

from tapeout import _native
from tapeout.circuit.words import NEXT, Interface, Word
from tapeout.errors import UserError

VARIANTS = ("rv32ia", "rv32ia-machine", "rv32ima-machine")
"""Each a superset of the one before."""

_MODE = tuple(Word(name) for name in "machine_mode mie mpie mpp msie mtie".split())
_CSRS = tuple(Word(name, 32) for name in "mtvec mscratch mepc mcause mtval".split())
_LINES = (Word("software_interrupt"), Word("timer_interrupt"))
_REGISTERS = tuple(Word(f"x[{number}]", 32) for number in range(1, 32))
_RESERVATION = (Word("reservation", 32), Word("reserved"))


def _after(words: tuple[Word, ...]) -> tuple[Word, ...]:
    return tuple(Word(word.name + NEXT, word.width) for word in words)


def rv32_interface(variant: str, *, ports: bool) -> Interface:
    """The words of a variant's step, in the order of its rows. `UserError` for an unknown variant."""
    _check(variant)
    machine = variant != "rv32ia"
    inputs = (Word("instruction", 32), Word("pc", 32), Word("load_data", 32), *_RESERVATION)
    outputs = (
        *(Word("pc" + NEXT, 32), Word("address", 32), Word("store_data", 32), Word("store_mask", 4), Word("load")),
        *_after(_RESERVATION),
        Word("trap"),
    )
    if machine:
        inputs += _MODE + _CSRS + _LINES
        outputs += _after(_MODE + _CSRS)
    if ports:
        return Interface((*inputs, Word("rs1", 32), Word("rs2", 32)), (*outputs, Word("rd", 32), Word("rd_write")))
    return Interface(inputs + _REGISTERS, outputs + _after(_REGISTERS))


def rv32_oracle(variant: str, *, ports: bool) -> _native.Oracle:
    """The native step of a variant, tens of millions of rows a second. `UserError` for an unknown variant."""
    _check(variant)
    return _native.rv32_oracle(variant, ports)


def _check(variant: str) -> None:
    if variant not in VARIANTS:
        raise UserError(f"there is no processor variant {variant!r}", action=f"use one of {', '.join(VARIANTS)}")
