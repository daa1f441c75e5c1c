"""A small assembler for the control processor: RV32IMA, Zicsr, Zifencei and the privileged instructions.

``encode("addi", rd=1, rs1=2, imm=-4)`` gives one word; ``assemble(text, base)`` a program. The text form is the
manual's (``lw a0, 4(sp)``, ``amoadd.w.aqrl a0, a1, (a2)``, ``csrrw a0, mscratch, a1``), one instruction a line, with
labels (``loop:``), comments (``#``), ``.word value``, and as pseudo-instructions only ``li``, ``la``, ``mv``, ``nop``,
``j``. Encodings: the RISC-V Instruction Set Manual, volume I, chapter 24, and volume II, chapter 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tapeout.errors import UserError

CSRS = {
    "mstatus": 0x300,
    "misa": 0x301,
    "mie": 0x304,
    "mtvec": 0x305,
    "mscratch": 0x340,
    "mepc": 0x341,
    "mcause": 0x342,
    "mtval": 0x343,
    "mip": 0x344,
    "mvendorid": 0xF11,
    "marchid": 0xF12,
    "mimpid": 0xF13,
    "mhartid": 0xF14,
}
"""The control and status registers that exist."""

_ABI = "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6".split()
REGISTERS = {**{f"x{i}": i for i in range(32)}, **{name: i for i, name in enumerate(_ABI)}, "fp": 8}
"""Register numbers by either name."""


@dataclass(frozen=True, slots=True)
class Form:
    """How an instruction is encoded: its operands' form and the bits that never change."""

    operands: str
    bits: int


def _forms() -> dict[str, Form]:
    forms: dict[str, Form] = {}

    def add(operands: str, opcode: int, names: str, first: int = 0) -> None:
        """One name for each funct3 from `first` on; a dash leaves one out."""
        for funct3, name in enumerate(names.split(), first):
            if name != "-":
                forms[name] = Form(operands, funct3 << 12 | opcode)

    add("rd,upper", 0x37, "lui")
    add("rd,upper", 0x17, "auipc")
    add("rd,jump", 0x6F, "jal")
    add("rd,imm(rs1)", 0x67, "jalr")
    add("rs1,rs2,branch", 0x63, "beq bne - - blt bge bltu bgeu")
    add("rd,imm(rs1)", 0x03, "lb lh lw - lbu lhu")
    add("rs2,imm(rs1)", 0x23, "sb sh sw")
    add("rd,rs1,imm", 0x13, "addi - slti sltiu xori - ori andi")
    add("rd,rs1,shift", 0x13, "- slli - - - srli")
    forms["srai"] = Form("rd,rs1,shift", 0x40005013)
    add("rd,rs1,rs2", 0x33, "add sll slt sltu xor srl or and")
    add("rd,rs1,rs2", 0x40000033, "sub - - - - sra")
    add("rd,rs1,rs2", 0x02000033, "mul mulh mulhsu mulhu div divu rem remu")
    add("", 0x0F, "fence fence.i")
    add("rd,csr,rs1", 0x73, "csrrw csrrs csrrc", 1)
    add("rd,csr,uimm", 0x73, "csrrwi csrrsi csrrci", 5)
    for name, word in {"ecall": 0x73, "ebreak": 0x100073, "mret": 0x30200073, "wfi": 0x10500073}.items():
        forms[name] = Form("", word)
    atomics = {"lr": 2, "sc": 3, "amoswap": 1, "amoadd": 0, "amoxor": 4, "amoor": 8, "amoand": 12}
    atomics |= {"amomin": 16, "amomax": 20, "amominu": 24, "amomaxu": 28}
    for name, funct5 in atomics.items():
        for suffix, order in {"": 0, ".rl": 1, ".aq": 2, ".aqrl": 3}.items():
            operands = "rd,(rs1)" if name == "lr" else "rd,rs2,(rs1)"
            forms[f"{name}.w{suffix}"] = Form(operands, funct5 << 27 | order << 25 | 0x202F)
    return forms


FORMS: Mapping[str, Form] = _forms()
"""Every instruction of ``rv32ima-machine``, by name."""


def encode(name: str, *, rd: int = 0, rs1: int = 0, rs2: int = 0, imm: int = 0) -> int:
    """The word of one instruction.

    ``imm`` is the signed offset in bytes of jumps and branches, the upper 20 bits of LUI and AUIPC, the number of a
    CSR; ``rs1`` is the immediate of CSRRWI and its like. The fields of FENCE are 0. Raises `UserError` for an
    immediate that does not fit.
    """
    form = FORMS[name]
    operands = form.operands
    word = form.bits | rd << 7 | rs1 << 15 | rs2 << 20
    if operands.endswith("branch"):
        _fits(name, imm, -4096, 4094, 2)
        return (
            word | _bits(imm, 12, 12) << 31 | _bits(imm, 10, 5) << 25 | _bits(imm, 4, 1) << 8 | _bits(imm, 11, 11) << 7
        )
    if operands.endswith("jump"):
        _fits(name, imm, -(1 << 20), (1 << 20) - 2, 2)
        return word | _bits(imm, 20, 20) << 31 | _bits(imm, 10, 1) << 21 | _bits(imm, 11, 11) << 20 | imm & 0xFF000
    if operands.endswith("upper"):
        _fits(name, imm, 0, 0xFFFFF)
        return word | imm << 12
    if operands.endswith("shift"):
        _fits(name, imm, 0, 31)
        return word | imm << 20
    if operands == "rs2,imm(rs1)":
        _fits(name, imm, -2048, 2047)
        return word | _bits(imm, 11, 5) << 25 | _bits(imm, 4, 0) << 7
    if "csr" in operands:
        _fits(name, imm, 0, 0xFFF)
        return word | imm << 20
    if "imm" in operands:
        _fits(name, imm, -2048, 2047)
        return word | _bits(imm, 11, 0) << 20
    return word


def _bits(value: int, high: int, low: int) -> int:
    return value >> low & (1 << high - low + 1) - 1


def _fits(name: str, value: int, low: int, high: int, step: int = 1) -> None:
    if not low <= value <= high or value % step:
        multiple = f", a multiple of {step}" if step > 1 else ""
        raise UserError(f"{value} does not fit into {name}", action=f"use a value from {low} to {high}{multiple}")


@dataclass(frozen=True, slots=True)
class Program:
    """Words from address `base` on, and the addresses of the labels."""

    base: int
    words: tuple[int, ...]
    labels: Mapping[str, int]

    @property
    def image(self) -> bytes:
        """The bytes as they stand in memory."""
        return b"".join(word.to_bytes(4, "little") for word in self.words)


def assemble(text: str, base: int = 0) -> Program:
    """Assembles a program that starts at `base`. `UserError` with the line of a mistake."""
    lines: list[tuple[int, int, str, list[str]]] = []  # line, address, name, operands
    labels: dict[str, int] = {}
    address = base
    for number, line in enumerate(text.splitlines(), 1):
        code = line.partition("#")[0].strip()
        while match := re.match(r"(\w+):\s*", code):
            labels[match[1]] = address
            code = code[match.end() :]
        if code:
            mnemonic, _, rest = code.partition(" ")
            for name, operands in _expand(mnemonic, [item.strip() for item in rest.split(",") if item.strip()]):
                lines.append((number, address, name, operands))
                address += 4
    words: list[int] = []
    for number, address, name, operands in lines:
        try:
            words.append(_word(name, operands, address, labels))
        except UserError as error:
            raise UserError(error.what, f"assembly line {number}", error.action) from None
    return Program(base, tuple(words), labels)


def _expand(name: str, operands: list[str]) -> list[tuple[str, list[str]]]:
    """A pseudo-instruction as instructions; anything else as it is. `li` and `la` always take two."""
    match name, operands:
        case (("li" | "la"), [rd, value]):
            return [("lui", [rd, f"%hi({value})"]), ("addi", [rd, rd, f"%lo({value})"])]
        case "mv", [rd, rs]:
            return [("addi", [rd, rs, "0"])]
        case "nop", []:
            return [("addi", ["x0", "x0", "0"])]
        case "j", [target]:
            return [("jal", ["x0", target])]
        case _:
            return [(name, operands)]


def _word(name: str, operands: list[str], address: int, labels: Mapping[str, int]) -> int:
    if name == ".word":
        return _value(operands[0], labels) & 0xFFFFFFFF
    if name not in FORMS:
        raise UserError(f"there is no instruction {name!r}", action="use the names of tapeout.cpu.assembler.FORMS")
    expected = FORMS[name].operands
    names = [item for item in re.split(r"[,()]", expected) if item]
    given = [item for text in operands for item in _split(text)]
    if len(given) != len(names):
        raise UserError(f"{name} has {len(given)} operands", action=f"write {name} {expected}".rstrip())
    fields: dict[str, int] = {}
    for kind, item in zip(names, given, strict=True):
        if kind in ("rd", "rs1", "rs2"):
            if item not in REGISTERS:
                raise UserError(f"{item!r} is not a register", action="use x0 to x31 or a name such as a0")
            fields[kind] = REGISTERS[item]
        elif kind == "csr":
            fields["imm"] = CSRS[item] if item in CSRS else _value(item, labels)
        elif kind == "uimm":
            fields["rs1"] = _value(item, labels)
            _fits(name, fields["rs1"], 0, 31)
        else:
            relative = kind in ("jump", "branch") and item in labels
            fields["imm"] = _value(item, labels) - (address if relative else 0)
    return encode(name, **fields)


def _split(text: str) -> list[str]:
    """``4(sp)`` as offset and register; ``%hi(...)`` stays whole."""
    match = re.fullmatch(r"([^%(]*)\((\w+)\)", text)
    return [text] if match is None else [item.strip() for item in match.groups() if item.strip()]


def _value(text: str, labels: Mapping[str, int]) -> int:
    """A number, a label, or the upper or lower part of either, such that LUI and ADDI make it whole."""
    if match := re.fullmatch(r"%(hi|lo)\((.*)\)", text):
        value = _value(match[2], labels)
        low = (value + 0x800 & 0xFFF) - 0x800
        return low if match[1] == "lo" else value - low >> 12 & 0xFFFFF
    if text in labels:
        return labels[text]
    try:
        return int(text, 0)
    except ValueError:
        raise UserError(
            f"{text!r} is neither a number nor a label", action="define the label or write a number"
        ) from None
