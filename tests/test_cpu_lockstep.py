"""The step oracle beside unicorn (the CPU of QEMU 5), user instructions one by one: all variants and forms."""

import random
import re
from collections.abc import Iterator

import pytest
import unicorn
from unicorn import riscv_const as uc_names

from tapeout.cpu.assembler import FORMS, assemble, encode
from tapeout.cpu.machine import Machine, Memory
from tapeout.cpu.rv32 import VARIANTS, rv32_interface, rv32_oracle

CODE, DATA, LOCKED = 0x10000, 0x40000, 0x60000
"""Where programs, what they load and store, and what LR and SC use stand; 64 KiB each."""

SIZE = 0x10000
EDGES = (0, 1, 2, 3, 31, 32, 0x7F, 0x80, 0xFFFF8000, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF)
REGISTERS = [getattr(uc_names, f"UC_RISCV_REG_X{i}") for i in range(32)]
USER = [name for name in FORMS if not re.match(r"csr|mret|wfi|ecall|ebreak", name)]
MULTIPLY = "mul mulh mulhsu mulhu div divu rem remu".split()
FORM_IDS = [(variant, ports) for variant in VARIANTS for ports in (False, True)]


class Unicorn:
    """The peer: same memory, registers as a list."""

    def __init__(self) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        for base in (CODE, DATA, LOCKED):
            self.uc.mem_map(base, SIZE)
        # The peer decodes one instruction ahead after some, and traps where it finds none.
        self.load(CODE, encode("addi").to_bytes(4, "little") * (SIZE // 4))

    def load(self, base: int, image: bytes) -> None:
        self.uc.mem_write(base, image)
        self.uc.ctl_remove_cache(base, base + len(image))  # it may have translated what stood there

    def set(self, x: list[int]) -> None:
        for name, value in zip(REGISTERS[1:], x[1:], strict=True):
            self.uc.reg_write(name, value)

    def step(self, pc: int) -> int:
        """One instruction; the next pc. `unicorn.UcError` if it traps."""
        self.uc.emu_start(pc, 0, count=1)
        return self.uc.reg_read(uc_names.UC_RISCV_REG_PC)

    @property
    def x(self) -> list[int]:
        return [self.uc.reg_read(name) for name in REGISTERS]

    def memory(self, base: int) -> bytes:
        return bytes(self.uc.mem_read(base, SIZE))


def machine(variant: str, ports: bool) -> Machine:
    """Ours, with the same memory."""
    memory = {base: Memory(SIZE) for base in (CODE, DATA, LOCKED)}
    return Machine(rv32_oracle(variant, ports=ports).evaluate, rv32_interface(variant, ports=ports), memory, CODE)


def memory_of(ours: Machine, base: int) -> bytes:
    device = ours.devices[base]
    assert isinstance(device, Memory)
    return bytes(device.data)


def value(r: random.Random) -> int:
    """A register's value: an edge, near an edge, or any."""
    match r.randrange(4):
        case 0:
            return r.choice(EDGES)
        case 1:
            return (r.choice(EDGES) + r.randrange(-3, 4)) & 0xFFFFFFFF
        case _:
            return r.getrandbits(32)


def sample(name: str, r: random.Random) -> tuple[int, list[int]]:
    """One legal instruction that neither leaves the memory nor traps, and registers for it."""
    x = [0] + [value(r) for _ in range(31)]
    operands = FORMS[name].operands
    imm = 0
    if "upper" in operands:
        imm = r.getrandbits(20)
    elif "branch" in operands or "jump" in operands:
        imm = r.randrange(-1024, 1024) * 4
    elif "shift" in operands:
        imm = r.randrange(32)
    elif "imm" in operands:
        imm = r.choice((r.randrange(-2048, 2048), 0, -1, -2048, 2047))
    fields = {field: r.randrange(32) for field in ("rd", "rs1", "rs2") if field in operands}
    if r.randrange(4) == 0 and "rs2" in fields:
        fields["rs2"] = fields["rs1"]
    elif r.randrange(3) == 0 and fields.get("rs2"):
        x[fields["rs2"]] = x[fields["rs1"]]
    if "(rs1)" in operands:
        fields["rs1"] = fields["rs1"] or 1
        if name == "jalr":  # bit 0 of the sum is cleared
            x[fields["rs1"]] = CODE + 4 * r.randrange(SIZE // 4) + r.randrange(2) - imm
        else:
            width = {"b": 1, "h": 2}.get(name.strip("slu"), 4)
            x[fields["rs1"]] = DATA + width * r.randrange(SIZE // width) - imm
    return encode(name, imm=imm, **fields), x


@pytest.mark.parametrize("name", USER)
def test_instruction(name: str) -> None:
    r = random.Random(name)
    peer = Unicorn()
    image = r.randbytes(SIZE)
    ours = [machine(v, ports) for v, ports in FORM_IDS if name not in MULTIPLY or v == "rv32ima-machine"]
    pc = CODE + 0x4000
    for m in ours:
        memory = m.devices[DATA]
        assert isinstance(memory, Memory)
        memory.data[:] = image
    peer.load(DATA, image)
    for _ in range(30):
        word, x = sample(name, r)
        peer.load(pc, word.to_bytes(4, "little"))
        peer.set(x)
        next_pc = peer.step(pc)
        after = peer.x
        for m in ours:
            m.devices[CODE].write(pc - CODE, word, 15)
            m.x[:] = x
            m.state["pc"] = pc
            outcome = m.step()
            assert not outcome.trap, f"{name} {word:08x}"
            assert (m.state["pc"], m.x) == (next_pc, after), f"{name} {word:08x}"
        pc += 4
    for m in ours:
        assert memory_of(m, DATA) == peer.memory(DATA)


PAIRS = [name for name in USER if "rs2" in FORMS[name].operands and not re.match(r"s[bhwc]\b", name)]


@pytest.mark.parametrize("name", PAIRS)
def test_edge_operands(name: str) -> None:
    """Every pair of edges as operands of whatever has two, division and atomics among them."""
    peer = Unicorn()
    ours = machine("rv32ima-machine", ports=True)
    atomic = name.startswith("amo")
    word = encode(name, rs1=6, rs2=7, **({"imm": 64} if "branch" in FORMS[name].operands else {"rd": 5}))
    peer.load(CODE, word.to_bytes(4, "little"))
    ours.devices[CODE].write(0, word, 15)
    for a in EDGES:
        for b in EDGES:
            x = [0] * 32
            x[6], x[7] = DATA if atomic else a, b
            peer.load(DATA, a.to_bytes(4, "little"))
            ours.devices[DATA].write(0, a, 15)
            peer.set(x)
            ours.x[:] = x
            ours.state["pc"] = CODE
            ours.step()
            assert (ours.state["pc"], ours.x) == (peer.step(CODE), peer.x), f"{name} {a:#x} {b:#x}"
            if atomic:
                assert ours.read(DATA).to_bytes(4, "little") == peer.memory(DATA)[:4], f"{name} {a:#x} {b:#x}"


def random_program(seed: int, length: int) -> list[int]:
    """Straight code with short branches forward; x28 to x31 hold addresses and stay."""
    r = random.Random(seed)
    names = [name for name in USER if name not in ("jalr", "jal")]
    words: list[int] = []
    for at in range(length):
        name = r.choice([*names, "lr.w", "sc.w", "lr.w", "sc.w"])
        operands = FORMS[name].operands
        rd, rs1, rs2 = r.randrange(28), r.randrange(32), r.randrange(32)
        imm = r.randrange(-2048, 2048)
        if operands == "":
            words.append(FORMS[name].bits)
        elif "branch" in operands:
            words.append(encode(name, rs1=rs1, rs2=rs2, imm=4 * r.randrange(1, min(8, length - at + 1))))
        elif "upper" in operands:
            words.append(encode(name, rd=rd, imm=r.getrandbits(20)))
        elif "shift" in operands:
            words.append(encode(name, rd=rd, rs1=rs1, imm=r.randrange(32)))
        elif operands == "rs2,imm(rs1)":
            words.append(encode(name, rs1=31, rs2=rs2, imm=imm & -4))
        elif operands == "rd,imm(rs1)":
            words.append(encode(name, rd=rd, rs1=31, imm=imm & -4))
        elif "imm" in operands:
            words.append(encode(name, rd=rd, rs1=rs1, imm=imm))
        elif operands == "rd,(rs1)":
            words.append(encode(name, rd=rd, rs1=r.choice((29, 30))))
        elif operands == "rd,rs2,(rs1)":
            # The peer compares the value as well as the address: nothing else writes where LR and SC work.
            locked = name.startswith("sc")
            words.append(encode(name, rd=rd, rs2=rs2, rs1=r.choice((29, 30)) if locked else 28))
        else:
            words.append(encode(name, rd=rd, rs1=rs1, rs2=rs2))
    return words


@pytest.mark.parametrize("seed", range(6))
def test_random_program(seed: int) -> None:
    """Every step of programs whose state carries over, LR and SC in between."""
    words = random_program(seed, 800)
    r = random.Random(seed)
    x = [0] + [value(r) for _ in range(27)] + [DATA + 0x8000, LOCKED, LOCKED + 8, DATA + 0x800]
    image = b"".join(word.to_bytes(4, "little") for word in words)
    peer = Unicorn()
    ours = machine("rv32ima-machine", ports=bool(seed % 2))
    peer.load(CODE, image)
    memory = ours.devices[CODE]
    assert isinstance(memory, Memory)
    memory.data[: len(image)] = image
    peer.set(x)
    ours.x[:] = x
    pc = CODE
    succeeded = 0
    while pc < CODE + len(image):
        outcome = ours.step()
        succeeded += outcome.instruction & 0xF800007F == 0x1800002F and outcome.store_mask == 15
        pc = peer.step(pc)
        assert not outcome.trap
        assert (ours.state["pc"], ours.x) == (pc, peer.x), f"after {outcome}"
    assert succeeded, "no SC succeeded: the program shows nothing about it"
    for base in (DATA, LOCKED):
        assert memory_of(ours, base) == peer.memory(base)


def decodings() -> Iterator[tuple[int, int]]:
    """Words of the user opcodes with every other bit random, the reserved ones among them; and what all registers hold.

    Addresses and targets are legal, so that only the encoding can trap.
    """
    r = random.Random(7)
    upper = (0, 1, 0x20, 0x02 << 2, 0x03 << 2, 0x10 << 2, 0x1C << 2, 0x14 << 2)
    for opcode in (0x37, 0x17, 0x13, 0x33, 0x0F, 0x2F, 0x03, 0x23, 0x63, 0x67):
        for _ in range(150):
            word = r.getrandbits(32) & ~0x7F | opcode
            if r.randrange(2) and opcode in (0x13, 0x33, 0x2F):  # so that what is legal is met too
                word = word & 0x01FFFFFF | r.choice(upper) << 25
            if opcode == 0x2F and r.randrange(2):
                word = word & ~0x7000 | 0x2000
            if opcode == 0x2F and r.randrange(3) == 0:
                word &= ~(31 << 20)
            if opcode in (0x03, 0x67):
                word &= ~(3 << 20)
            if opcode in (0x23, 0x63):
                word &= ~(3 << 7)
            if opcode in (0x03, 0x23, 0x2F, 0x67):
                word |= 1 << 15  # not register 0
            yield word, (CODE if opcode == 0x67 else DATA) + 0x8000


def test_reserved_encodings() -> None:
    """What is an instruction and what is not."""
    peer = Unicorn()
    ours = machine("rv32ima-machine", ports=False)
    counts = {True: 0, False: 0}
    for number, (word, register) in enumerate(decodings()):
        x = [0] + [register] * 31
        pc = CODE + 0x4000 + 4 * number
        peer.load(pc, word.to_bytes(4, "little"))
        peer.set(x)
        ours.devices[CODE].write(pc - CODE, word, 15)
        ours.x[:] = x
        ours.state["pc"] = pc
        try:
            peer.step(pc)
            trapped = False
        except unicorn.UcError:
            trapped = True
        assert ours.step().trap == trapped, f"{word:08x}"
        counts[trapped] += 1
        if trapped:
            assert (ours.state["mcause"], ours.state["mtval"], ours.state["mepc"]) == (2, word, pc)
        else:
            assert ours.x == peer.x, f"{word:08x}"
    assert min(counts.values()) > 300, counts


def test_program_of_primes() -> None:
    """A sieve, run to its end by both."""
    program = assemble(
        f"""
        la s0, {DATA}
        li s1, 200
        li t0, 2
outer:  add t1, s0, t0
        lbu t2, 0(t1)
        bne t2, x0, next
        slli t3, t0, 1
inner:  bge t3, s1, next
        add t4, s0, t3
        sb t0, 0(t4)
        add t3, t3, t0
        j inner
next:   addi t0, t0, 1
        blt t0, s1, outer
        ecall
        """,
        CODE,
    )
    peer = Unicorn()
    peer.load(CODE, program.image)
    peer.uc.emu_start(CODE, CODE + len(program.image) - 4)
    for variant, ports in FORM_IDS:
        ours = machine(variant, ports)
        memory = ours.devices[CODE]
        assert isinstance(memory, Memory)
        memory.data[: len(program.image)] = program.image
        assert ours.run(5000, stop_on_trap=True)
        assert ours.x == peer.x
        assert memory_of(ours, DATA) == peer.memory(DATA)
