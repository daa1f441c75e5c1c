"""The formal reference of the processor: against unicorn (QEMU's RISC-V), and against cases written from the manual."""

import random
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from netlist_rows import evaluate, rows_of, word_values
from tapeout.circuit.netlist import Netlist
from tapeout.cpu.encodings import VARIANTS, encodings
from tapeout.cpu.reference import interface, reference
from tapeout.errors import UserError

M32 = (1 << 32) - 1
FULL = "rv32ima-machine"
MACHINE_VARIANTS = ["rv32ia-machine", FULL]


@cache
def netlist_of(variant: str) -> Netlist:
    return reference(variant)


def run(variant: str, states: list[dict[str, int]]) -> list[dict[str, int]]:
    """The outputs of the reference for each state, by word."""
    netlist = netlist_of(variant)
    values = word_values(netlist.interface.outputs, evaluate(netlist, rows_of(netlist.interface.inputs, states)))
    return [{name: int(column[row]) for name, column in values.items()} for row in range(len(states))]


def test_words_stand_in_the_order_of_the_page() -> None:
    assert str(interface("rv32ia")) == (
        "instruction:32 pc:32 load_data:32 reservation:32 reserved rs1:32 rs2:32 -> pc.next:32 address:32 "
        "store_data:32 store_mask:4 load reservation.next:32 reserved.next trap rd:32 rd_write"
    )
    assert str(interface(FULL)) == (
        "instruction:32 pc:32 load_data:32 reservation:32 reserved machine_mode mie mpie mpp msie mtie mtvec:32 "
        "mscratch:32 mepc:32 mcause:32 mtval:32 software_interrupt timer_interrupt rs1:32 rs2:32 -> "
        "pc.next:32 address:32 store_data:32 store_mask:4 load reservation.next:32 reserved.next trap "
        "machine_mode.next mie.next mpie.next mpp.next msie.next mtie.next mtvec.next:32 mscratch.next:32 "
        "mepc.next:32 mcause.next:32 mtval.next:32 rd:32 rd_write"
    )


@pytest.mark.parametrize(("variant", "most"), [("rv32ia", 4100), ("rv32ia-machine", 6100), (FULL, 21300)])
def test_the_reference_stays_small(variant: str, most: int) -> None:
    assert netlist_of(variant).nodes <= most


def test_an_unknown_variant_is_an_error() -> None:
    with pytest.raises(UserError, match="rv64gc"):
        reference("rv64gc")


# Against unicorn


def operands(rng: random.Random) -> tuple[int, int]:
    """Two words that stress carries, signs, shift amounts and equality."""

    def word() -> int:
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice([0, 1, 2, M32, M32 - 1, 1 << 31, (1 << 31) - 1, 0x55555555, 0xFFFF])
        if kind == 1:
            return rng.randrange(64)
        if kind == 2:
            return (1 << rng.randrange(32)) + rng.randrange(-1, 2) & M32
        if kind == 3:
            return -rng.randrange(1, 64) & M32
        return rng.getrandbits(32)

    a = word()
    b = rng.choice([word, word, lambda: a, lambda: ~a & M32, lambda: a ^ 1 << rng.randrange(32)])()
    return a, b


CHECKED_CSRS = {0x340: "mscratch", 0x342: "mcause", 0x343: "mtval"}  # those that unicorn keeps as plain words
NOT_COMPARED = {"ECALL", "EBREAK", "MRET", "WFI"}  # these need a trap handler; by hand below


def unicorn_states(rng: random.Random, rows: int) -> Iterator[dict[str, int]]:
    """States in machine mode, ``rows`` for each instruction, without accesses and jumps that only we refuse."""
    for name, encoding in encodings(FULL).items():
        for _ in range(0 if name in NOT_COMPARED else rows):
            instruction = encoding.match | rng.getrandbits(32) & ~encoding.mask & M32
            if name.startswith("CSRR"):
                instruction = instruction & 0xFFFFF | rng.choice(list(CHECKED_CSRS)) << 20
            rs1, rs2 = operands(rng)
            field1, field2 = instruction >> 15 & 31, instruction >> 20 & 31
            rs1 = rs1 if field1 else 0
            rs2 = rs1 if field2 == field1 else rs2 if field2 else 0
            if name in {"SC.W", "LR.W"} or name.startswith("AMO"):
                rs1 &= ~3
                rs2 = rs1 if field2 == field1 else rs2
            yield {
                "instruction": instruction,
                "pc": rng.getrandbits(32) & ~3,
                "load_data": operands(rng)[0] if rng.randrange(2) else rs2,
                "reservation": rng.choice([rs1, rs1 ^ 4, rng.getrandbits(32)]) & ~3,
                "reserved": int(rng.random() < 0.8),
                "machine_mode": 1,
                "rs1": rs1,
                "rs2": rs2,
                **{csr: rng.getrandbits(32) for csr in CHECKED_CSRS.values()},
            }


class Unicorn:
    """One hart with four gigabytes of memory."""

    def __init__(self) -> None:
        unicorn = pytest.importorskip("unicorn")
        import unicorn.riscv_const as constants

        self.registers = [getattr(constants, f"UC_RISCV_REG_X{number}") for number in range(32)]
        self.csrs = {name: getattr(constants, f"UC_RISCV_REG_{name.upper()}") for name in CHECKED_CSRS.values()}
        self.pc = constants.UC_RISCV_REG_PC
        self.uc: Any = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        for quarter in range(4):
            self.uc.mem_map(quarter << 30, 1 << 30)

    def execute(self, pc: int, instruction: int) -> None:
        """Runs one instruction.

        Raises:
            UcError: it trapped.
        """
        self.uc.mem_write(pc, instruction.to_bytes(4, "little"))
        self.uc.ctl_remove_cache(pc, pc + 4)
        self.uc.emu_start(pc, 1 << 40, count=1)

    def reserve(self, address: int, valid: bool) -> None:
        """An LR of ``address``; an SC behind it takes the reservation back."""
        self.uc.reg_write(self.registers[1], address)
        place = address ^ 0x1000
        self.execute(place, 0x1000A02F)  # lr.w x0, (x1)
        if not valid:
            self.execute(place, 0x1800A02F)  # sc.w x0, x0, (x1)

    def step(self, before: Mapping[str, int], address: int) -> dict[str, int]:
        """The state after one instruction; ``word`` is what memory then holds at ``address``."""
        instruction, pc = before["instruction"], before["pc"]
        memory = before["load_data"].to_bytes(4, "little")
        self.uc.mem_write(address, memory)  # before the LR: QEMU's SC compares the word with the one that LR read
        self.reserve(before["reservation"], bool(before["reserved"]))
        self.uc.mem_write(address, memory)
        if instruction >> 7 & 31:  # unicorn would give register 0 a value
            self.uc.reg_write(self.registers[instruction >> 7 & 31], 0x5EED5EED)
        self.uc.reg_write(self.registers[instruction >> 15 & 31], before["rs1"])
        self.uc.reg_write(self.registers[instruction >> 20 & 31], before["rs2"])
        for name, number in self.csrs.items():
            self.uc.reg_write(number, before[name])
        self.execute(pc, instruction)
        return {
            "pc.next": self.uc.reg_read(self.pc) & M32,
            "rd": self.uc.reg_read(self.registers[instruction >> 7 & 31]) & M32,
            "word": int.from_bytes(self.uc.mem_read(address, 4), "little"),
            **{f"{name}.next": self.uc.reg_read(number) & M32 for name, number in self.csrs.items()},
        }


def memory_after(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    lanes = sum(0xFF << 8 * lane for lane in range(4) if after["store_mask"] >> lane & 1)
    assert after["store_data"] & ~lanes == 0
    return before["load_data"] & ~lanes | after["store_data"]


def test_every_instruction_does_what_unicorn_does() -> None:
    machine = Unicorn()
    states = list(unicorn_states(random.Random(1), 40))
    compared: set[str] = set()
    names = {name: (encoding.mask, encoding.match) for name, encoding in encodings(FULL).items()}
    for before, after in zip(states, run(FULL, states), strict=True):
        if after["trap"] or abs(after["address"] - before["pc"]) < 4:
            continue  # misaligned: unicorn allows it, we do not
        seen = machine.step(before, after["address"])
        rd = before["instruction"] >> 7 & 31
        read = {field: before[word] for field, word in ((15, "rs1"), (20, "rs2"))}
        held = {before["instruction"] >> field & 31: value for field, value in read.items()}.get(rd, 0x5EED5EED)
        expected = {
            "pc.next": after["pc.next"],
            "rd": after["rd"] if after["rd_write"] and rd else held if rd else 0,
            "word": memory_after(before, after),
            **{f"{name}.next": after[f"{name}.next"] for name in CHECKED_CSRS.values()},
        }
        assert seen == expected, {name: hex(value) for name, value in before.items()}
        compared |= {name for name, (mask, match) in names.items() if before["instruction"] & mask == match}
    assert compared == set(names) - NOT_COMPARED


def test_words_that_unicorn_refuses_are_refused() -> None:
    unicorn = pytest.importorskip("unicorn")
    machine = Unicorn()
    rng = random.Random(2)
    opcodes = sorted({encoding.match & 127 for encoding in encodings(FULL).values()})
    states = [{"instruction": rng.getrandbits(25) << 7 | rng.choice(opcodes), "pc": 0x1000} for _ in range(2000)]
    refused = 0
    for state, after in zip(states, run("rv32ia", states), strict=True):
        for register in machine.registers:
            machine.uc.reg_write(register, 0)
        try:
            machine.execute(state["pc"], state["instruction"])
        except unicorn.UcError:
            refused += 1
            assert after["trap"], hex(state["instruction"])
    assert refused > 300


@pytest.mark.parametrize(("small", "large"), [("rv32ia", "rv32ia-machine"), ("rv32ia-machine", FULL)])
def test_a_larger_variant_does_the_same_with_the_instructions_of_a_smaller(small: str, large: str) -> None:
    known = encodings(small).values()
    states = [
        state
        for state in unicorn_states(random.Random(3), 30)
        if any(state["instruction"] & encoding.mask == encoding.match for encoding in known)
    ]
    for before, a, b in zip(states, run(small, states), run(large, states), strict=True):
        if not a["trap"]:
            assert a == {name: b[name] for name in a}, before


# Against the manual, by hand. A case names what differs from the state below, and the outputs that differ from a step
# that goes on to the next instruction and changes nothing.


def r_type(funct7: int, funct3: int, opcode: int, rd: int = 1, rs1: int = 2, rs2: int = 3) -> int:
    return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode


def i_type(immediate: int, funct3: int, opcode: int, rd: int = 1, rs1: int = 2) -> int:
    return r_type(immediate >> 5 & 127, funct3, opcode, rd, rs1, immediate & 31)


def csr(number: int, funct3: int, rs1: int = 2, rd: int = 1) -> int:
    return i_type(number, funct3, 0x73, rd, rs1)


def atomic(funct5: int, rs2: int = 3) -> int:
    return r_type(funct5 << 2, 2, 0x2F, rs2=rs2)


RW, RS, RC, RWI, RSI, RCI = 1, 2, 3, 5, 6, 7
ECALL, EBREAK, MRET, WFI, SRET = 0x00000073, 0x00100073, 0x30200073, 0x10500073, 0x10200073
LW, LH, LHU, LB = (i_type(8, funct3, 0x03) for funct3 in (2, 1, 5, 0))
SW, SH, SB = (r_type(0, funct3, 0x23, rd=8) for funct3 in (2, 1, 0))
LR, SC, AMOADD = atomic(2, 0), atomic(3), atomic(0)
JAL_6 = 0x006000EF  # jal x1, .+6
JALR, BEQ_6, BNE_6 = i_type(4, 0, 0x67), r_type(0, 0, 0x63, rd=6), r_type(0, 1, 0x63, rd=6)
FENCE = 0x0FF0000F
ILLEGAL = 0xFFFFFFFF

PC, MTVEC, MEPC = 0x80001000, 0x80000100, 0x80002000
STATE = {
    "instruction": FENCE,
    "pc": PC,
    "load_data": 0x89ABCDEF,
    "reservation": 0x5000,
    "reserved": 1,
    "machine_mode": 1,
    "mie": 0,
    "mpie": 1,
    "mpp": 0,
    "msie": 1,
    "mtie": 1,
    "mtvec": MTVEC,
    "mscratch": 0x11111111,
    "mepc": MEPC,
    "mcause": 0x22222222,
    "mtval": 0x33333333,
    "software_interrupt": 0,
    "timer_interrupt": 0,
    "rs1": 0x4000,
    "rs2": 0x76543210,
}


def unchanged(before: Mapping[str, int]) -> dict[str, int]:
    kept = {f"{name}.next": before[name] for name in STATE if f"{name}.next" in NEXT}
    none = {"address": 0, "store_data": 0, "store_mask": 0, "load": 0, "trap": 0, "rd": 0, "rd_write": 0}
    return kept | none | {"pc.next": before["pc"] + 4}


NEXT = {word.name for word in interface(FULL).outputs}


def trap(cause: int, value: int = 0, mode: int = 1, mie: int = 0, pc: int = PC) -> dict[str, int]:
    """What a trap changes (II 3.1.6.1, 3.1.14 to 3.1.16)."""
    taken = {"pc.next": MTVEC, "trap": 1, "mepc.next": pc, "mcause.next": cause, "mtval.next": value}
    return taken | {"machine_mode.next": 1, "mpp.next": mode, "mpie.next": mie, "mie.next": 0}


def rd(value: int) -> dict[str, int]:
    return {"rd": value, "rd_write": 1}


U = {"machine_mode": 0}
SOFT, TIMER = {"software_interrupt": 1}, {"timer_interrupt": 1}
SOFTWARE, TIME = 0x80000003, 0x80000007

Case = tuple[dict[str, int], dict[str, int]]
CASES: dict[str, Case] = {
    "fence": ({}, {}),
    "fence with odd fields": ({"instruction": 0xABCD8F8F}, {}),
    "fence.i": ({"instruction": 0x0000100F}, {}),
    "wfi": ({"instruction": WFI}, {}),
    "wfi in user mode": ({"instruction": WFI, **U}, {}),
    "the low bits of pc": ({"pc": PC + 3}, {"pc.next": PC + 4}),
    "auipc with low bits of pc": ({"instruction": 0x12345097, "pc": PC + 3}, {"pc.next": PC + 4, **rd(0x92346000)}),
    "a write to register 0": ({"instruction": i_type(5, 0, 0x13, rd=0)}, rd(0x4005)),
    # exceptions
    "illegal": ({"instruction": ILLEGAL}, trap(2, ILLEGAL)),
    "illegal, all zeros": ({"instruction": 0}, trap(2, 0)),
    "illegal in user mode": ({"instruction": ILLEGAL, **U, "mie": 1}, trap(2, ILLEGAL, mode=0, mie=1)),
    "illegal keeps mie": ({"instruction": ILLEGAL, "mie": 1}, trap(2, ILLEGAL, mie=1)),
    "shift with bit 26": ({"instruction": r_type(2, 1, 0x13)}, trap(2, r_type(2, 1, 0x13))),
    "shift with bit 25": ({"instruction": r_type(1, 5, 0x13)}, trap(2, r_type(1, 5, 0x13))),
    "left shift with bit 30": ({"instruction": r_type(32, 1, 0x13)}, trap(2, r_type(32, 1, 0x13))),
    "sub's bit on and": ({"instruction": r_type(32, 7, 0x33)}, trap(2, r_type(32, 7, 0x33))),
    "jalr funct3": ({"instruction": i_type(4, 1, 0x67)}, trap(2, i_type(4, 1, 0x67))),
    "branch funct3": ({"instruction": r_type(0, 2, 0x63)}, trap(2, r_type(0, 2, 0x63))),
    "load funct3": ({"instruction": i_type(8, 3, 0x03)}, trap(2, i_type(8, 3, 0x03))),
    "store funct3": ({"instruction": r_type(0, 3, 0x23)}, trap(2, r_type(0, 3, 0x23))),
    "fence funct3": ({"instruction": 0x200F}, trap(2, 0x200F)),
    "lr with rs2": ({"instruction": atomic(2, 1)}, trap(2, atomic(2, 1))),
    "amo funct3": ({"instruction": r_type(0, 3, 0x2F)}, trap(2, r_type(0, 3, 0x2F))),
    "amo funct5": ({"instruction": atomic(5)}, trap(2, atomic(5))),
    "compressed": ({"instruction": 0x0001}, trap(2, 0x0001)),
    "sret": ({"instruction": SRET}, trap(2, SRET)),
    "ecall with rd": ({"instruction": ECALL | 1 << 7}, trap(2, ECALL | 1 << 7)),
    "mret with rs1": ({"instruction": MRET | 1 << 15}, trap(2, MRET | 1 << 15)),
    "system funct3": ({"instruction": csr(0x340, 4)}, trap(2, csr(0x340, 4))),
    "ebreak": ({"instruction": EBREAK}, trap(3, PC)),
    "ebreak in user mode": ({"instruction": EBREAK, **U}, trap(3, PC, mode=0)),
    "ebreak with low bits of pc": ({"instruction": EBREAK, "pc": PC + 2}, trap(3, PC)),
    "ecall from user mode": ({"instruction": ECALL, **U}, trap(8, mode=0)),
    "ecall from machine mode": ({"instruction": ECALL}, trap(11)),
    "low bits of mtvec": ({"instruction": ECALL, "mtvec": MTVEC + 3}, trap(11) | {"mtvec.next": MTVEC}),
    "lw misaligned": ({"instruction": LW, "rs1": 0x4002}, trap(4, 0x400A)),
    "lh misaligned": ({"instruction": LH, "rs1": 0x4001}, trap(4, 0x4009)),
    "lhu misaligned": ({"instruction": LHU, "rs1": 0x4003}, trap(4, 0x400B)),
    "lr misaligned": ({"instruction": LR, "rs1": 0x4001}, trap(4, 0x4001)),
    "sw misaligned": ({"instruction": SW, "rs1": 0x4001}, trap(6, 0x4009)),
    "sh misaligned": ({"instruction": SH, "rs1": 0x4001}, trap(6, 0x4009)),
    "sc misaligned, would succeed": ({"instruction": SC, "rs1": 0x5002, "reservation": 0x5002}, trap(6, 0x5002)),
    "sc misaligned, would fail": ({"instruction": SC, "rs1": 0x5002, "reserved": 0}, trap(6, 0x5002)),
    "amo misaligned": ({"instruction": AMOADD, "rs1": 0x4002}, trap(6, 0x4002)),
    "jal misaligned": ({"instruction": JAL_6}, trap(0, PC + 6)),
    "jalr misaligned": ({"instruction": JALR, "rs1": 0x4003}, trap(0, 0x4006)),
    "beq misaligned, taken": ({"instruction": BEQ_6, "rs2": 0x4000}, trap(0, PC + 6)),
    "beq misaligned, not taken": ({"instruction": BEQ_6}, {}),
    "bne misaligned, taken": ({"instruction": BNE_6}, trap(0, PC + 6)),
    "jalr clears bit 0": ({"instruction": JALR, "rs1": 0x4001}, {"pc.next": 0x4004, **rd(PC + 4)}),
    "jalr wraps": ({"instruction": JALR, "rs1": M32}, trap(0, 2)),
    # memory
    "lw": ({"instruction": LW}, {"address": 0x4008, "load": 1, **rd(0x89ABCDEF)}),
    "lh": ({"instruction": LH, "rs1": 0x4002}, {"address": 0x4008, "load": 1, **rd(0xFFFF89AB)}),
    "lhu": ({"instruction": LHU, "rs1": 0x4002}, {"address": 0x4008, "load": 1, **rd(0x89AB)}),
    "lb": ({"instruction": LB, "rs1": 0x4001}, {"address": 0x4008, "load": 1, **rd(0xFFFFFFCD)}),
    "sw": ({"instruction": SW}, {"address": 0x4008, "store_mask": 15, "store_data": 0x76543210}),
    "sh": ({"instruction": SH, "rs1": 0x4002}, {"address": 0x4008, "store_mask": 12, "store_data": 0x32100000}),
    "sb": ({"instruction": SB, "rs1": 0x4001}, {"address": 0x4008, "store_mask": 2, "store_data": 0x1000}),
    "lr": (
        {"instruction": LR, "reserved": 0},
        {"address": 0x4000, "load": 1, "reservation.next": 0x4000, "reserved.next": 1, **rd(0x89ABCDEF)},
    ),
    "sc": (
        {"instruction": SC, "rs1": 0x5000},
        {"address": 0x5000, "store_mask": 15, "store_data": 0x76543210, "reserved.next": 0, **rd(0)},
    ),
    "sc elsewhere": ({"instruction": SC}, {"reserved.next": 0, **rd(1)}),
    "sc without reservation": ({"instruction": SC, "rs1": 0x5000, "reserved": 0}, rd(1)),
    "amoadd": (
        {"instruction": AMOADD | 3 << 25},
        {"address": 0x4000, "load": 1, "store_mask": 15, "store_data": 0xFFFFFFFF, **rd(0x89ABCDEF)},
    ),
    # interrupts (II 3.1.9)
    "software interrupt": ({**SOFT, "mie": 1}, trap(SOFTWARE, mie=1)),
    "timer interrupt": ({**TIMER, "mie": 1}, trap(TIME, mie=1)),
    "both": ({**SOFT, **TIMER, "mie": 1}, trap(SOFTWARE, mie=1)),
    "software not enabled, timer is": ({**SOFT, **TIMER, "mie": 1, "msie": 0}, trap(TIME, mie=1)),
    "neither enabled": ({**SOFT, **TIMER, "mie": 1, "msie": 0, "mtie": 0}, {}),
    "machine mode without mie": ({**SOFT, **TIMER}, {}),
    "user mode without mie": ({**SOFT, **U}, trap(SOFTWARE, mode=0)),
    "interrupt before an illegal word": ({**TIMER, "mie": 1, "instruction": ILLEGAL}, trap(TIME, mie=1)),
    "interrupt before ecall": ({**TIMER, **U, "instruction": ECALL}, trap(TIME, mode=0)),
    "interrupt before a store": ({**TIMER, **U, "instruction": SW}, trap(TIME, mode=0)),
    "interrupt before sc": ({**TIMER, **U, "instruction": SC, "rs1": 0x5000}, trap(TIME, mode=0)),
    "interrupt before a jump": ({**TIMER, "mie": 1, "instruction": JAL_6}, trap(TIME, mie=1)),
    "interrupt before mret": ({**TIMER, "mie": 1, "instruction": MRET}, trap(TIME, mie=1)),
    "interrupt before a csr write": ({**TIMER, "mie": 1, "instruction": csr(0x340, RW)}, trap(TIME, mie=1)),
    # MRET (II 3.1.6.1)
    "mret to user mode": (
        {"instruction": MRET},
        {"pc.next": MEPC, "machine_mode.next": 0, "mie.next": 1, "mpie.next": 1, "mpp.next": 0},
    ),
    "mret to machine mode": (
        {"instruction": MRET, "mpp": 1, "mpie": 0, "mie": 1},
        {"pc.next": MEPC, "machine_mode.next": 1, "mie.next": 0, "mpie.next": 1, "mpp.next": 0},
    ),
    "mret, low bits of mepc": (
        {"instruction": MRET, "mepc": MEPC + 3, "mpp": 1},
        {"pc.next": MEPC, "mepc.next": MEPC, "mie.next": 1, "mpie.next": 1, "mpp.next": 0},
    ),
    "mret in user mode": ({"instruction": MRET, **U}, trap(2, MRET, mode=0)),
    # CSR instructions (chapter 9)
    "csrrw": ({"instruction": csr(0x340, RW)}, {"mscratch.next": 0x4000, **rd(0x11111111)}),
    "csrrs": ({"instruction": csr(0x340, RS)}, {"mscratch.next": 0x11115111, **rd(0x11111111)}),
    "csrrc": ({"instruction": csr(0x340, RC), "rs1": 0xFFFF}, {"mscratch.next": 0x11110000, **rd(0x11111111)}),
    "csrrwi": ({"instruction": csr(0x340, RWI, 31)}, {"mscratch.next": 31, **rd(0x11111111)}),
    "csrrsi": ({"instruction": csr(0x340, RSI, 6)}, {"mscratch.next": 0x11111117, **rd(0x11111111)}),
    "csrrci": ({"instruction": csr(0x340, RCI, 17)}, {"mscratch.next": 0x11111100, **rd(0x11111111)}),
    "csrrw of register 0": ({"instruction": csr(0x340, RW, 0)}, {"mscratch.next": 0x4000, **rd(0x11111111)}),
    "csrrw to register 0": ({"instruction": csr(0x340, RW, rd=0)}, {"mscratch.next": 0x4000, **rd(0x11111111)}),
    "csrrs of register 0": ({"instruction": csr(0x340, RS, 0)}, rd(0x11111111)),
    "csrrc of register 0": ({"instruction": csr(0x340, RC, 0)}, rd(0x11111111)),
    "csrrwi 0": ({"instruction": csr(0x340, RWI, 0)}, {"mscratch.next": 0, **rd(0x11111111)}),
    "csrrsi 0": ({"instruction": csr(0x340, RSI, 0)}, rd(0x11111111)),
    "csr from user mode": ({"instruction": csr(0x340, RS, 0), **U}, trap(2, csr(0x340, RS, 0), mode=0)),
    "csr that is not there": ({"instruction": csr(0x3A0, RS, 0)}, trap(2, csr(0x3A0, RS, 0))),
    "cycle": ({"instruction": csr(0xC00, RS, 0)}, trap(2, csr(0xC00, RS, 0))),
    "mhartid": ({"instruction": csr(0xF14, RS, 0)}, rd(0)),
    "mvendorid set by nothing": ({"instruction": csr(0xF11, RSI, 0)}, rd(0)),
    "mvendorid set by a zero": ({"instruction": csr(0xF11, RS), "rs1": 0}, trap(2, csr(0xF11, RS))),
    "marchid written": ({"instruction": csr(0xF12, RW)}, trap(2, csr(0xF12, RW))),
    "mimpid cleared": ({"instruction": csr(0xF13, RCI, 1)}, trap(2, csr(0xF13, RCI, 1))),
    "mimpid": ({"instruction": csr(0xF13, RC, 0)}, rd(0)),
    "mstatus read": ({"instruction": csr(0x300, RS, 0)}, rd(0x80)),
    "mstatus read, all": ({"instruction": csr(0x300, RS, 0), "mie": 1, "mpp": 1}, rd(0x1888)),
    "mstatus written": (
        {"instruction": csr(0x300, RW), "rs1": M32},
        {"mie.next": 1, "mpie.next": 1, "mpp.next": 1, **rd(0x80)},
    ),
    "mpp written as 01": ({"instruction": csr(0x300, RW), "rs1": 0x880, "mpp": 1}, {"mpp.next": 0, **rd(0x1880)}),
    "mpp written as 10": ({"instruction": csr(0x300, RW), "rs1": 0x1080, "mpp": 1}, {"mpp.next": 0, **rd(0x1880)}),
    "mpp set by 01": ({"instruction": csr(0x300, RS), "rs1": 0x800}, rd(0x80)),
    "mpp cleared by 01": ({"instruction": csr(0x300, RC), "rs1": 0x800, "mpp": 1}, {"mpp.next": 0, **rd(0x1880)}),
    "mstatus mie set": ({"instruction": csr(0x300, RSI, 8)}, {"mie.next": 1, **rd(0x80)}),
    "mie read": ({"instruction": csr(0x304, RS, 0), "msie": 0}, rd(0x80)),
    "mie written": ({"instruction": csr(0x304, RW), "rs1": 8}, {"msie.next": 1, "mtie.next": 0, **rd(0x88)}),
    "mtvec": ({"instruction": csr(0x305, RW), "rs1": M32}, {"mtvec.next": 0xFFFFFFFC, **rd(MTVEC)}),
    "mtvec, low bits": ({"instruction": csr(0x305, RS, 0), "mtvec": 7}, {"mtvec.next": 4, **rd(4)}),
    "mepc": ({"instruction": csr(0x341, RW), "rs1": 0x4003}, {"mepc.next": 0x4000, **rd(MEPC)}),
    "mcause": ({"instruction": csr(0x342, RW), "rs1": 0xDEADBEEF}, {"mcause.next": 0xDEADBEEF, **rd(0x22222222)}),
    "mtval": ({"instruction": csr(0x343, RW), "rs1": 0xDEADBEEF}, {"mtval.next": 0xDEADBEEF, **rd(0x33333333)}),
    "mip": ({"instruction": csr(0x344, RW), **SOFT}, rd(8)),
    "mip, timer": ({"instruction": csr(0x344, RS), "rs1": 8, **TIMER}, rd(0x80)),
}


def assert_step(variant: str, changes: Mapping[str, int], expected: Mapping[str, int]) -> None:
    before = STATE | changes
    after = run(variant, [before])[0]
    assert after == {name: (unchanged(before) | expected)[name] for name in after}


@pytest.mark.parametrize("variant", MACHINE_VARIANTS)
def test_the_manual_case_by_case(variant: str) -> None:
    states = [STATE | changes for changes, _ in CASES.values()]
    for (name, (_, expected)), before, after in zip(CASES.items(), states, run(variant, states), strict=True):
        assert after == unchanged(before) | expected, name


def test_misa_names_the_extensions() -> None:
    for variant, value in zip(MACHINE_VARIANTS, (0x40100101, 0x40101101), strict=True):
        assert_step(variant, {"instruction": csr(0x301, RW), "rs1": M32}, rd(value))


@pytest.mark.parametrize(
    "instruction", [ILLEGAL, ECALL, EBREAK, MRET, WFI, csr(0x340, RW), r_type(1, 0, 0x33), JAL_6, 0x00000001]
)
def test_a_trap_of_rv32ia_changes_nothing(instruction: int) -> None:
    assert_step("rv32ia", {"instruction": instruction, "pc": PC + 1}, {"pc.next": PC, "trap": 1})


def test_without_m_its_words_are_illegal() -> None:
    assert_step("rv32ia-machine", {"instruction": r_type(1, 4, 0x33)}, trap(2, r_type(1, 4, 0x33)))


@pytest.mark.parametrize(
    ("funct3", "rs1", "rs2", "result"),
    [
        # table 7.1 of the manual, and the signs of quotient and remainder
        (5, 7, 0, M32),
        (7, 7, 0, 7),
        (4, 7, 0, M32),
        (4, -7, 0, M32),
        (6, -7, 0, -7),
        (4, -(1 << 31), -1, -(1 << 31)),
        (6, -(1 << 31), -1, 0),
        (4, -7, 2, -3),
        (6, -7, 2, -1),
        (4, 7, -2, -3),
        (6, 7, -2, 1),
        (1, -1, -1, 0),
        (2, -1, -1, -1),
        (3, -1, -1, -2),
        (0, -1, -1, 1),
        (1, -(1 << 31), -(1 << 31), 1 << 30),
    ],
)
def test_multiply_and_divide(funct3: int, rs1: int, rs2: int, result: int) -> None:
    changes = {"instruction": r_type(1, funct3, 0x33), "rs1": rs1 & M32, "rs2": rs2 & M32}
    assert_step(FULL, changes, rd(result & M32))


def test_every_row_of_the_tables_is_a_word() -> None:
    for variant in VARIANTS:
        table = list(encodings(variant).values())
        for encoding in table:
            assert encoding.match & ~encoding.mask == 0
            others = [other for other in table if other is not encoding]
            assert all((encoding.match ^ other.match) & encoding.mask & other.mask for other in others), encoding.name
