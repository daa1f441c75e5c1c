"""Programs for the comparison of processors: random ones in machine and user mode, and one that interrupts disturb."""

from __future__ import annotations

import random

from tapeout.cpu.assembler import CSRS, FORMS, Program, assemble, encode
from tapeout.cpu.machine import CLINT

HANDLER = """
handler: csrrs x25, mcause, x0
    blt x25, x0, interrupt
    csrrs x26, mepc, x0
    addi x26, x26, 4
    csrrw x0, mepc, x26
    addi x27, x27, 1
    andi x26, x27, 3
    bne x26, x0, back
    csrrs x26, mstatus, x0      # every fourth exception returns into the other mode
    li x25, 0x1800
    xor x26, x26, x25
    csrrw x0, mstatus, x26
back: mret
interrupt: andi x26, x25, 4
    bne x26, x0, timer
    sw x0, 0(x30)
    mret
timer: sw x29, 0(x28)
    mret
"""
"""Skips the instruction that trapped, or takes the interrupt's cause away. Uses x25 to x31."""

RESERVED = (
    *(
        0x00000000,
        0x12345678,
        0xABCD0001,
        0xFFFFFFFF,
        0x0000000B,
        0x00002007,
        0x00002027,
        0x0000001B,
        0x0000003B,
        0x00000053,
    ),
    *(0x02001013, 0x02005013, 0x60005013, 0x04000033, 0x40001033, 0x40007033, 0x00001067, 0x00002063, 0x00003063),
    *(0x00003003, 0x00006003, 0x00007003, 0x00003023, 0x00007023, 0x0000200F, 0x1010202F, 0x0000302F, 0x2800202F),
    *(0x00004073, 0x000000F3, 0x00200073, 0x10200073, 0x12000073, 0x302000F3, 0x30208073, 0x7B200073),
)
"""Words that are not instructions of any variant."""

BOTH_ABSENT = (0x000, 0x100, 0x180, 0x7C0, 0xFC0)
"""Numbers of CSRs that neither side has."""


def fixed_registers(data: int) -> dict[int, int]:
    """What random programs and their handler find in x25 to x31."""
    return {25: 0, 26: 0, 27: 0, 28: CLINT + 0x4004, 29: 0x10000, 30: CLINT, 31: data}


def random_program(r: random.Random, length: int, *, multiply: bool, handlers: tuple[int, int]) -> list[int]:
    """About `length` words that run from the first to behind the last, whatever traps or interrupts."""
    words: list[int] = []
    while len(words) < length:
        words += _block(r, multiply, handlers)
    return words


def _block(r: random.Random, multiply: bool, handlers: tuple[int, int]) -> list[int]:
    kind = r.choices(
        ["plain", "memory", "atomic", "jump", "csr", "mtvec", "system", "reserved", "line", "mret"],
        [30, 12, 10, 8, 14, 2, 6, 4, 6, 3],
    )[0]
    rd, rs1, rs2 = r.randrange(25), r.randrange(32), r.randrange(32)
    match kind:
        case "plain":
            return [_plain(r, multiply, rd, rs1, rs2)]
        case "memory":
            name = r.choice("lb lh lw lbu lhu sb sh sw".split())
            imm = r.randrange(-2048, 2048)
            if r.randrange(6):
                imm &= -4
            return [encode(name, rs1=31, imm=imm, **({"rs2": rs2} if name[0] == "s" else {"rd": rd}))]
        case "atomic":
            name = r.choice([n for n in FORMS if n.startswith("amo")] + ["lr.w", "sc.w"] * 20)
            return [encode(name, rd=r.randrange(1, 25), rs1=31, rs2=0 if name == "lr.w" else rs2)]
        case "jump":
            return _jump(r, rd, rs1, rs2)
        case "csr":
            name = r.choice([n for n in FORMS if n.startswith("csr")])
            numbers = [number for name, number in CSRS.items() if name != "mtvec"]
            number = r.choice(numbers + list(BOTH_ABSENT[:1]) * 2)
            return [encode(name, rd=rd, rs1=r.choice((0, rs1)), imm=number)]
        case "mtvec":
            target = r.choice(handlers) + r.choice((0, 0, 0, 1, 2, 3))
            return [*assemble(f"li x24, {target}").words, encode("csrrw", rd=rd, rs1=24, imm=CSRS["mtvec"])]
        case "system":
            return [encode(r.choice("ecall ebreak wfi fence fence.i".split()))]
        case "reserved":
            return [r.choice(RESERVED) if r.randrange(3) else encode("csrrs", rd=rd, imm=r.choice(BOTH_ABSENT))]
        case "line":
            text = r.choice(("addi x24, x0, 1\n sw x24, 0(x30)", "sw x0, 0(x30)", "sw x0, 0(x28)", "sw x29, 0(x28)"))
            return list(assemble(text).words)
        case _:  # without interrupts, or a handler would replace mepc
            text = "csrrci x0, mstatus, 8\n auipc x24, 0\n addi x24, x24, 16\n csrrw x0, mepc, x24\n mret"
            return list(assemble(text).words)


def _plain(r: random.Random, multiply: bool, rd: int, rs1: int, rs2: int) -> int:
    """Arithmetic on registers and immediates."""
    names = [n for n, f in FORMS.items() if f.operands in ("rd,rs1,rs2", "rd,rs1,imm", "rd,rs1,shift", "rd,upper")]
    name = r.choice(names if multiply else [n for n in names if FORMS[n].bits >> 25 != 1])
    match FORMS[name].operands:
        case "rd,rs1,rs2":
            return encode(name, rd=rd, rs1=rs1, rs2=rs2)
        case "rd,rs1,imm":
            return encode(name, rd=rd, rs1=rs1, imm=r.randrange(-2048, 2048))
        case "rd,rs1,shift":
            return encode(name, rd=rd, rs1=rs1, imm=r.randrange(32))
        case _:
            return encode(name, rd=rd, imm=r.getrandbits(20))


def _jump(r: random.Random, rd: int, rs1: int, rs2: int) -> list[int]:
    """A jump or branch over up to three words of nothing; one in four to an address that traps."""
    nop = encode("addi")
    over = r.randrange(4)
    odd = 2 * (r.randrange(4) == 0)
    match r.randrange(3):
        case 0:
            first = [encode("jal", rd=rd, imm=4 + 4 * over + odd)]
        case 1:
            first = [encode("auipc", rd=24), encode("jalr", rd=rd, rs1=24, imm=8 + 4 * over + odd + r.randrange(2))]
        case _:
            name = r.choice("beq bne blt bge bltu bgeu".split())
            first = [encode(name, rs1=rs1, rs2=r.choice((rs1, rs2)), imm=4 + 4 * over + odd)]
    return first + [nop] * over


def disturbed_program(base: int, data: int) -> Program:
    """A checksum in U mode over memory, interrupted by timer and software until both have come ten times.

    Ends at label ``end`` with the checksum in a0, the timer interrupts in s2 and the software interrupts in s3; the
    checksum is right only if no interrupt disturbs it.
    """
    return assemble(
        f"""
        la t0, handler
        csrrw x0, mtvec, t0
        li s0, {CLINT + 0xBFF8}
        li s1, {CLINT + 0x4000}
        li s4, {CLINT}
        la t0, {data + 0x400}
        csrrw x0, mscratch, t0
        addi t0, x0, -1
        sw t0, 0(s1)                # first the low word to all ones: no interrupt between the two
        sw x0, 4(s1)
        lw t1, 0(s0)
        addi t1, t1, 200
        sw t1, 0(s1)
        addi t0, x0, 0x88
        csrrw x0, mie, t0
        la t0, user
        csrrw x0, mepc, t0
        csrrw x0, mstatus, x0
        mret
user:   wfi
        la a1, {data}
        addi a2, x0, 64
        addi a0, x0, 0
sum:    lw a3, 0(a1)
        slli a4, a0, 5
        srli a5, a0, 27
        or a0, a4, a5
        xor a0, a0, a3
        addi a1, a1, 4
        addi a2, a2, -1
        bne a2, x0, sum
        slt a6, s2, s5
        slt a7, s3, s5
        or a6, a6, a7
        bne a6, x0, user
        ecall
handler: csrrw sp, mscratch, sp
        sw t0, 0(sp)
        sw t1, 4(sp)
        csrrs t0, mcause, x0
        blt t0, x0, which
end:    j end
which:  andi t1, t0, 4
        beq t1, x0, software
        addi s2, s2, 1
        lw t1, 0(s0)
        addi t1, t1, 200
        sw t1, 0(s1)
        addi t1, x0, 1
        sw t1, 0(s4)                # the timer asks for a software interrupt
        j done
software: addi s3, s3, 1
        sw x0, 0(s4)
done:   lw t0, 0(sp)
        lw t1, 4(sp)
        csrrw sp, mscratch, sp
        mret
        """,
        base,
    )
