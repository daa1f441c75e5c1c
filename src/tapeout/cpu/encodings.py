"""The instructions of each variant, as the instruction listings of the RISC-V manual (chapter 24) print them.

A row is a word from bit 31 down to bit 0: binary digits are fixed, ``imm[20|10:1|11|19:12]`` says which bits of the
immediate stand there, ``-`` is a bit that is ignored. Words that match no row are illegal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tapeout.errors import UserError

RV32IA = """
imm[31:12]                          rd          0110111  LUI
imm[31:12]                          rd          0010111  AUIPC
imm[20|10:1|11|19:12]               rd          1101111  JAL
imm[11:0]                  rs1 000  rd          1100111  JALR
imm[12|10:5]       rs2     rs1 000  imm[4:1|11] 1100011  BEQ
imm[12|10:5]       rs2     rs1 001  imm[4:1|11] 1100011  BNE
imm[12|10:5]       rs2     rs1 100  imm[4:1|11] 1100011  BLT
imm[12|10:5]       rs2     rs1 101  imm[4:1|11] 1100011  BGE
imm[12|10:5]       rs2     rs1 110  imm[4:1|11] 1100011  BLTU
imm[12|10:5]       rs2     rs1 111  imm[4:1|11] 1100011  BGEU
imm[11:0]                  rs1 000  rd          0000011  LB
imm[11:0]                  rs1 001  rd          0000011  LH
imm[11:0]                  rs1 010  rd          0000011  LW
imm[11:0]                  rs1 100  rd          0000011  LBU
imm[11:0]                  rs1 101  rd          0000011  LHU
imm[11:5]          rs2     rs1 000  imm[4:0]    0100011  SB
imm[11:5]          rs2     rs1 001  imm[4:0]    0100011  SH
imm[11:5]          rs2     rs1 010  imm[4:0]    0100011  SW
imm[11:0]                  rs1 000  rd          0010011  ADDI
imm[11:0]                  rs1 010  rd          0010011  SLTI
imm[11:0]                  rs1 011  rd          0010011  SLTIU
imm[11:0]                  rs1 100  rd          0010011  XORI
imm[11:0]                  rs1 110  rd          0010011  ORI
imm[11:0]                  rs1 111  rd          0010011  ANDI
0000000            shamt   rs1 001  rd          0010011  SLLI
0000000            shamt   rs1 101  rd          0010011  SRLI
0100000            shamt   rs1 101  rd          0010011  SRAI
0000000            rs2     rs1 000  rd          0110011  ADD
0100000            rs2     rs1 000  rd          0110011  SUB
0000000            rs2     rs1 001  rd          0110011  SLL
0000000            rs2     rs1 010  rd          0110011  SLT
0000000            rs2     rs1 011  rd          0110011  SLTU
0000000            rs2     rs1 100  rd          0110011  XOR
0000000            rs2     rs1 101  rd          0110011  SRL
0100000            rs2     rs1 101  rd          0110011  SRA
0000000            rs2     rs1 110  rd          0110011  OR
0000000            rs2     rs1 111  rd          0110011  AND
------------             ----- 000  -----       0001111  FENCE
------------             ----- 001  -----       0001111  FENCE.I
000000000000             00000 000  00000       1110011  ECALL
000000000001             00000 000  00000       1110011  EBREAK
00010        - -   00000   rs1 010  rd          0101111  LR.W
00011        - -   rs2     rs1 010  rd          0101111  SC.W
00001        - -   rs2     rs1 010  rd          0101111  AMOSWAP.W
00000        - -   rs2     rs1 010  rd          0101111  AMOADD.W
00100        - -   rs2     rs1 010  rd          0101111  AMOXOR.W
01100        - -   rs2     rs1 010  rd          0101111  AMOAND.W
01000        - -   rs2     rs1 010  rd          0101111  AMOOR.W
10000        - -   rs2     rs1 010  rd          0101111  AMOMIN.W
10100        - -   rs2     rs1 010  rd          0101111  AMOMAX.W
11000        - -   rs2     rs1 010  rd          0101111  AMOMINU.W
11100        - -   rs2     rs1 010  rd          0101111  AMOMAXU.W
"""

MACHINE = """
csr                        rs1  001 rd          1110011  CSRRW
csr                        rs1  010 rd          1110011  CSRRS
csr                        rs1  011 rd          1110011  CSRRC
csr                        uimm 101 rd          1110011  CSRRWI
csr                        uimm 110 rd          1110011  CSRRSI
csr                        uimm 111 rd          1110011  CSRRCI
0011000            00010  00000 000 00000       1110011  MRET
0001000            00101  00000 000 00000       1110011  WFI
"""

M = """
0000001            rs2     rs1 000  rd          0110011  MUL
0000001            rs2     rs1 001  rd          0110011  MULH
0000001            rs2     rs1 010  rd          0110011  MULHSU
0000001            rs2     rs1 011  rd          0110011  MULHU
0000001            rs2     rs1 100  rd          0110011  DIV
0000001            rs2     rs1 101  rd          0110011  DIVU
0000001            rs2     rs1 110  rd          0110011  REM
0000001            rs2     rs1 111  rd          0110011  REMU
"""

VARIANTS = {"rv32ia": RV32IA, "rv32ia-machine": RV32IA + MACHINE, "rv32ima-machine": RV32IA + MACHINE + M}

WIDTHS = {"rd": 5, "rs1": 5, "rs2": 5, "shamt": 5, "uimm": 5, "csr": 12}
SHAMT = "imm[4:0]"  # what stands in the field shamt


@dataclass(frozen=True, slots=True)
class Encoding:
    """One instruction: a word is this one where ``word & mask == match``.

    ``immediate`` gives for each bit of the immediate that the word holds the bit of the word.
    """

    name: str
    mask: int
    match: int
    writes_rd: bool
    immediate: tuple[tuple[int, int], ...]


def encodings(variant: str) -> dict[str, Encoding]:
    """The instructions of a variant by name.

    Raises:
        UserError: no such variant.
    """
    if variant not in VARIANTS:
        raise UserError(f"variant {variant!r} is unknown", "processor", f"use one of {', '.join(VARIANTS)}")
    rows = [_parse(line) for line in VARIANTS[variant].splitlines() if line]
    return {row.name: row for row in rows}


def _parse(line: str) -> Encoding:
    *fields, name = line.split()
    mask = match = 0
    immediate: list[tuple[int, int]] = []
    top = 32
    for field in fields:
        if field.strip("01-") == "":
            width = len(field)
            mask |= int(re.sub("[01]", "1", field).replace("-", "0"), 2) << top - width
            match |= int(field.replace("-", "0"), 2) << top - width
        elif field in WIDTHS and field != "shamt":
            width = WIDTHS[field]
        else:
            bits = _immediate_bits(SHAMT if field == "shamt" else field)
            width = len(bits)
            immediate += [(bit, top - 1 - place) for place, bit in enumerate(bits)]
        top -= width
    if top != 0:
        raise ValueError(f"the row of {name} has {32 - top} bits")
    return Encoding(name, mask, match, "rd" in fields, tuple(sorted(immediate)))


def _immediate_bits(field: str) -> list[int]:
    """``imm[4:1|11]`` as ``[4, 3, 2, 1, 11]``."""
    bits: list[int] = []
    for part in field.removeprefix("imm[").removesuffix("]").split("|"):
        high, _, low = part.partition(":")
        bits += range(int(high), int(low or high) - 1, -1)
    return bits
