"""The codes of RV32IMA with Zicsr and the machine-mode instructions, for `judge.py`.

From the listings of *The RISC-V Instruction Set Manual* (unprivileged 20191213, chapter 24; privileged 20211203,
chapter 2): one line for each instruction, bits 31 to 0, a dot for a bit that is an operand.
"""

from __future__ import annotations

from judge import Code

_CSRS = (0x300, 0x301, 0x304, 0x305, 0x340, 0x341, 0x342, 0x343, 0x344, 0xF11, 0xF12, 0xF13, 0xF14)

_I = """
lui     .................... ..... 0110111
auipc   .................... ..... 0010111
jal     .................... ..... 1101111
jalr    ............ ..... 000 ..... 1100111
beq     ....... ..... ..... 000 ..... 1100011
bne     ....... ..... ..... 001 ..... 1100011
blt     ....... ..... ..... 100 ..... 1100011
bge     ....... ..... ..... 101 ..... 1100011
bltu    ....... ..... ..... 110 ..... 1100011
bgeu    ....... ..... ..... 111 ..... 1100011
lb      ............ ..... 000 ..... 0000011
lh      ............ ..... 001 ..... 0000011
lw      ............ ..... 010 ..... 0000011
lbu     ............ ..... 100 ..... 0000011
lhu     ............ ..... 101 ..... 0000011
sb      ....... ..... ..... 000 ..... 0100011
sh      ....... ..... ..... 001 ..... 0100011
sw      ....... ..... ..... 010 ..... 0100011
addi    ............ ..... 000 ..... 0010011
slti    ............ ..... 010 ..... 0010011
sltiu   ............ ..... 011 ..... 0010011
xori    ............ ..... 100 ..... 0010011
ori     ............ ..... 110 ..... 0010011
andi    ............ ..... 111 ..... 0010011
slli    0000000 ..... ..... 001 ..... 0010011
srli    0000000 ..... ..... 101 ..... 0010011
srai    0100000 ..... ..... 101 ..... 0010011
add     0000000 ..... ..... 000 ..... 0110011
sub     0100000 ..... ..... 000 ..... 0110011
sll     0000000 ..... ..... 001 ..... 0110011
slt     0000000 ..... ..... 010 ..... 0110011
sltu    0000000 ..... ..... 011 ..... 0110011
xor     0000000 ..... ..... 100 ..... 0110011
srl     0000000 ..... ..... 101 ..... 0110011
sra     0100000 ..... ..... 101 ..... 0110011
or      0000000 ..... ..... 110 ..... 0110011
and     0000000 ..... ..... 111 ..... 0110011
fence   ............ ..... 000 ..... 0001111
fence.i ............ ..... 001 ..... 0001111
ecall   000000000000 00000 000 00000 1110011
ebreak  000000000001 00000 000 00000 1110011
"""
_A = """
lr      00010 .. 00000 ..... 010 ..... 0101111
sc      00011 .. ..... ..... 010 ..... 0101111
amoswap 00001 .. ..... ..... 010 ..... 0101111
amoadd  00000 .. ..... ..... 010 ..... 0101111
amoxor  00100 .. ..... ..... 010 ..... 0101111
amoand  01100 .. ..... ..... 010 ..... 0101111
amoor   01000 .. ..... ..... 010 ..... 0101111
amomin  10000 .. ..... ..... 010 ..... 0101111
amomax  10100 .. ..... ..... 010 ..... 0101111
amominu 11000 .. ..... ..... 010 ..... 0101111
amomaxu 11100 .. ..... ..... 010 ..... 0101111
"""
_M = """
mul     0000001 ..... ..... 000 ..... 0110011
mulh    0000001 ..... ..... 001 ..... 0110011
mulhsu  0000001 ..... ..... 010 ..... 0110011
mulhu   0000001 ..... ..... 011 ..... 0110011
div     0000001 ..... ..... 100 ..... 0110011
divu    0000001 ..... ..... 101 ..... 0110011
rem     0000001 ..... ..... 110 ..... 0110011
remu    0000001 ..... ..... 111 ..... 0110011
"""
_MACHINE = """
csrrw   ............ ..... 001 ..... 1110011
csrrs   ............ ..... 010 ..... 1110011
csrrc   ............ ..... 011 ..... 1110011
csrrwi  ............ ..... 101 ..... 1110011
csrrsi  ............ ..... 110 ..... 1110011
csrrci  ............ ..... 111 ..... 1110011
mret    001100000010 00000 000 00000 1110011
wfi     000100000101 00000 000 00000 1110011
"""
VARIANTS = {"rv32ia": (_I, _A), "rv32ia-machine": (_I, _A, _MACHINE), "rv32ima-machine": (_I, _A, _M, _MACHINE)}
_CONSTANTS = {
    0b0010011: tuple(range(20, 32)),
    0b0000011: tuple(range(20, 32)),
    0b1100111: tuple(range(20, 32)),
    0b0100011: (*range(7, 12), *range(25, 32)),
    0b1100011: (*range(8, 12), *range(25, 31), 7, 31),
}
"""Where the constant stands, by opcode (I, S and B formats); that of a branch without its lowest bit."""


def rv32_codes(variant: str) -> dict[str, list[Code]]:
    """Encodings by instruction; a CSR instruction has one for each CSR, and one for a CSR of any number."""
    codes: dict[str, list[Code]] = {}
    for line in "".join(VARIANTS[variant]).split("\n"):
        name, _, bits = line.partition(" ")
        if not name:
            continue
        bits = bits.replace(" ", "")
        mask = int("".join("0" if bit == "." else "1" for bit in bits), 2)
        match = int(bits.replace(".", "0"), 2)
        constant = _CONSTANTS.get(match & 0x7F, ())
        numbers = _CSRS if name.startswith("csr") else ()
        known = [Code(mask | 0xFFF << 20, match | number << 20) for number in numbers]
        codes[name] = [*known, Code(mask, match, constant, bool(constant))]
    return codes
