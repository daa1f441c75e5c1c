"""The step oracle: its two forms against each other, and what docs/processor.md states case by case."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tapeout import _native
from tapeout.circuit.words import Rows, Word, pack, row_words, unpack
from tapeout.cpu.assembler import CSRS, FORMS, assemble, encode
from tapeout.cpu.machine import CLINT, FINISHER, Clint, Finisher, Machine, Memory, Outcome
from tapeout.cpu.rv32 import VARIANTS, rv32_interface, rv32_oracle
from tapeout.errors import SimError, UserError

pytestmark = pytest.mark.native

RAM = 0x80000000
Columns = dict[str, NDArray[np.uint64]]


def columns(rows: Rows, words: Sequence[Word]) -> Columns:
    """The value of each word in each row."""
    bits = unpack(rows, sum(word.width for word in words)).astype(np.uint64)
    values: Columns = {}
    at = 0
    for word in words:
        values[word.name] = bits[:, at : at + word.width] @ (1 << np.arange(word.width)).astype(np.uint64)
        at += word.width
    return values


def rows_of(values: Columns, words: Sequence[Word]) -> Rows:
    parts = [(values[word.name][:, None] >> np.arange(word.width, dtype=np.uint64)) & np.uint64(1) for word in words]
    return pack(np.concatenate(parts, axis=1).astype(np.uint8))


def questions(variant: str, count: int) -> Columns:
    """Inputs of the state form: instructions of every form with random operands, some of them random altogether."""
    rng = np.random.default_rng(3)
    inputs = rv32_interface(variant, ports=False).inputs
    values = {word.name: rng.integers(0, 1 << word.width, count, dtype=np.uint64) for word in inputs}
    for word in inputs:
        if word.width == 32 and word.name != "instruction":  # small numbers and equal words
            choice = rng.integers(0, 4, count)
            values[word.name][choice == 0] &= np.uint64(0x80000003)
            values[word.name][choice == 1] = values["reservation"][choice == 1]
            values[word.name][choice == 2] &= np.uint64(0xFFFFFFFC)
    free = {"upper": 0xFFFFF000, "jump": 0xFFFFF000, "csr": 0xFFF00000, "branch": 0xFE000F80, "imm": 0xFFF00000}
    free |= {"rd": 0xF80, "rs1": 0xF8000, "rs2": 0x1F00000, "shift": 0x1F00000, "uimm": 0xF8000}
    for i in range(count * 9 // 10):
        form = FORMS[list(FORMS)[i % len(FORMS)]]
        mask = sum_mask(free, form.operands)
        word = int(values["instruction"][i]) & mask | form.bits
        if "csr" in form.operands:
            number = list(CSRS.values())[i % len(CSRS)]
            word = word & 0xFFFFF | number << 20
        values["instruction"][i] = word
    return values


def sum_mask(fields: dict[str, int], operands: str) -> int:
    mask = 0
    for name, bits in fields.items():
        if re.search(rf"\b{name}\b", operands):
            mask |= bits
    return mask | (0xFE000F80 if operands == "rs2,imm(rs1)" else 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_forms_agree(variant: str) -> None:
    """The state form is the port form with a register file around it."""
    whole, ports = (rv32_interface(variant, ports=p) for p in (False, True))
    values = questions(variant, 6000)
    rows = rows_of(values, whole.inputs)
    assert rows.shape[1] == row_words(whole.input_bits)
    answer = columns(rv32_oracle(variant, ports=False).evaluate(rows), whole.outputs)

    instruction = values["instruction"]
    zero = np.zeros(len(instruction), np.uint64)
    x = np.stack([zero, *(values[f"x[{i}]"] for i in range(1, 32))])
    each = np.arange(len(instruction))
    port_values = values | {
        "rs1": x[(instruction >> np.uint64(15)) & np.uint64(31), each],
        "rs2": x[(instruction >> np.uint64(20)) & np.uint64(31), each],
    }
    port = columns(rv32_oracle(variant, ports=True).evaluate(rows_of(port_values, ports.inputs)), ports.outputs)
    for word in ports.outputs[:-2]:
        np.testing.assert_array_equal(answer[word.name], port[word.name], word.name)
    number = (instruction >> np.uint64(7)) & np.uint64(31)
    assert port["rd_write"].mean() > 0.2
    assert not port["rd"][port["rd_write"] == 0].any()
    after = x.copy()
    after[number, each] = np.where(port["rd_write"] == 1, port["rd"], after[number, each])
    for i in range(1, 32):
        np.testing.assert_array_equal(answer[f"x[{i}].next"], after[i], f"x[{i}]")


@pytest.mark.parametrize("larger", VARIANTS[1:])
def test_variants_agree(larger: str) -> None:
    """What the smaller variant executes, the larger executes in the same way, in M mode and without interrupts."""
    values = questions(larger, 6000)
    count = len(values["instruction"])
    values |= {"machine_mode": np.ones(count, np.uint64), "msie": np.zeros(count, np.uint64)}
    values["timer_interrupt"] = np.zeros(count, np.uint64)
    answers = []
    for variant in ("rv32ia", larger):
        interface = rv32_interface(variant, ports=False)
        rows = rows_of(values, interface.inputs)
        answers.append(columns(rv32_oracle(variant, ports=False).evaluate(rows), interface.outputs))
    executed = answers[0]["trap"] == 0
    assert executed.mean() > 0.3
    for name, value in answers[0].items():
        np.testing.assert_array_equal(value[executed], answers[1][name][executed], name)
    for name in ("mtvec", "mepc", "mcause", "mtval", "mscratch"):
        unused = np.uint64(0xFFFFFFFC if name in ("mtvec", "mepc") else 0xFFFFFFFF)
        np.testing.assert_array_equal(answers[1][name + ".next"][executed], values[name][executed] & unused, name)


def test_rows_are_checked() -> None:
    oracle = rv32_oracle("rv32ia", ports=True)
    assert oracle.concurrent
    assert oracle.evaluate(np.zeros((0, 4), np.uint64)).shape == (0, 3)
    with pytest.raises(ValueError, match="rows have 5 words of 64 bits, the oracle reads 4"):
        oracle.evaluate(np.zeros((1, 5), np.uint64))
    with pytest.raises(UserError, match="there is no processor variant 'rv64'; use one of rv32ia, "):
        rv32_oracle("rv64", ports=True)
    with pytest.raises(ValueError, match="no processor variant rv64"):
        _native.rv32_oracle("rv64", True)


def machine(text: str, variant: str = "rv32ima-machine", ports: bool = True) -> Machine:
    program = assemble(text, RAM)
    devices = {RAM: Memory(0x10000, program.image), CLINT: Clint(), FINISHER: Finisher()}
    return Machine(rv32_oracle(variant, ports=ports).evaluate, rv32_interface(variant, ports=ports), devices, RAM)


def one(
    text: str, variant: str = "rv32ima-machine", x: dict[int, int] | None = None, **state: int
) -> tuple[Machine, Outcome]:
    """One instruction with the registers and the state given."""
    m = machine(text, variant)
    for number, value in (x or {}).items():
        m.x[number] = value
    m.state |= state
    return m, m.step()


MTVEC = RAM + 0x400
TRAPS = [
    ("jal x1, 2", {}, 0, RAM + 2),
    ("jalr x1, 3(x2)", {2: 0x1000}, 0, 0x1002),
    ("beq x0, x0, -6", {}, 0, RAM - 6),
    (".word 0", {}, 2, 0),
    (".word 0xffffffff", {}, 2, 0xFFFFFFFF),
    ("csrrw x1, 0x7c0, x0", {}, 2, encode("csrrw", rd=1, imm=0x7C0)),
    ("csrrw x1, mhartid, x0", {}, 2, encode("csrrw", rd=1, imm=0xF14)),
    ("csrrsi x1, mimpid, 1", {}, 2, encode("csrrsi", rd=1, rs1=1, imm=0xF13)),
    ("ebreak", {}, 3, RAM),
    ("lw x1, 2(x2)", {2: RAM}, 4, RAM + 2),
    ("lh x1, -1(x2)", {2: RAM}, 4, RAM - 1),
    ("lhu x1, 3(x2)", {2: RAM}, 4, RAM + 3),
    ("lr.w x1, (x2)", {2: RAM + 1}, 4, RAM + 1),
    ("sw x1, 1(x2)", {2: RAM}, 6, RAM + 1),
    ("sh x1, 1(x2)", {2: RAM}, 6, RAM + 1),
    ("sc.w x1, x1, (x2)", {2: RAM + 2}, 6, RAM + 2),
    ("amoadd.w x1, x1, (x2)", {2: RAM + 3}, 6, RAM + 3),
    ("ecall", {}, 11, 0),
]


@pytest.mark.parametrize(("text", "x", "cause", "value"), TRAPS)
def test_traps(text: str, x: dict[int, int], cause: int, value: int) -> None:
    before = {"mie": 1, "mpie": 0, "reserved": 1, "reservation": 8, "mtvec": MTVEC, "mscratch": 5}
    for mode in (1, 0) if not text.startswith(("csr", "ecall")) else (1,):
        m, outcome = one(text, x=x, machine_mode=mode, **before)
        assert outcome.trap
        assert (outcome.load, outcome.address, outcome.store_mask, outcome.store_data) == (False, 0, 0, 0)
        expected = before | {"pc": MTVEC, "mepc": RAM, "mcause": cause, "mtval": value, "machine_mode": 1}
        expected |= {"mie": 0, "mpie": 1, "mpp": mode, "msie": 0, "mtie": 0}
        assert m.state == expected
        assert [m.x[i] for i in range(32)] == [x.get(i, 0) for i in range(32)]


@pytest.mark.parametrize(
    "text", [text for text, *_ in TRAPS] + ["mret", "wfi", "csrrs x1, mscratch, x0", "mul x1, x1, x1"]
)
def test_a_trap_of_the_smallest_variant_changes_nothing(text: str) -> None:
    x = next((x for other, x, *_ in TRAPS if other == text), {})
    m, outcome = one(text, "rv32ia", x=x, reserved=1, reservation=8)
    assert outcome.trap
    assert m.state == {"pc": RAM, "reserved": 1, "reservation": 8}
    assert (outcome.load, outcome.address, outcome.store_mask) == (False, 0, 0)


@pytest.mark.parametrize("text", ["mret", "csrrs x1, mscratch, x0", "csrrs x1, misa, x0", "csrrw x0, 0xc00, x0"])
def test_user_mode_may_not(text: str) -> None:
    m, _ = one(text, machine_mode=0, mtvec=MTVEC)
    word = assemble(text).words[0]
    assert (m.state["pc"], m.state["mcause"], m.state["mtval"], m.state["mpp"]) == (MTVEC, 2, word, 0)


def test_user_mode_may_wait_and_call() -> None:
    m, outcome = one("wfi", machine_mode=0)
    assert not outcome.trap
    assert m.state["pc"] == RAM + 4
    m, _ = one("ecall", machine_mode=0)
    assert m.state["mcause"] == 8


def test_a_branch_not_taken_never_traps() -> None:
    m, outcome = one("bne x0, x0, 6")
    assert not outcome.trap
    assert m.state["pc"] == RAM + 4


def test_multiplication_needs_its_variant() -> None:
    for name in "mul mulh mulhsu mulhu div divu rem remu".split():
        _, outcome = one(f"{name} x1, x2, x3", "rv32ia-machine")
        assert outcome.trap
        _, outcome = one(f"{name} x1, x2, x3")
        assert not outcome.trap


CSR_WRITES = [
    ("mstatus", 0xFFFFFFFF, 0x1888),
    ("mstatus", 0x0800, 0),
    ("mstatus", 0x1000, 0),
    ("mstatus", 0x1880, 0x1880),
    ("mie", 0xFFFFFFFF, 0x88),
    ("mtvec", 0xFFFFFFFF, 0xFFFFFFFC),
    ("mscratch", 0x12345678, 0x12345678),
    ("mepc", 0xFFFFFFFF, 0xFFFFFFFC),
    ("mcause", 0xFFFFFFFF, 0xFFFFFFFF),
    ("mtval", 0xFFFFFFFF, 0xFFFFFFFF),
    ("mip", 0xFFFFFFFF, 0),
    ("misa", 0, 0x40101101),
]


@pytest.mark.parametrize(("name", "written", "read"), CSR_WRITES)
def test_csrs_keep_what_they_hold(name: str, written: int, read: int) -> None:
    m = machine(
        f"csrrw x1, {name}, x2\n csrrs x3, {name}, x0\n csrrc x4, {name}, x5\n"
        f"csrrsi x6, {name}, 8\n csrrci x7, {name}, 8"
    )
    m.x[2], m.x[5] = written, 0x0F0F0F0F
    for _ in range(5):
        assert not m.step().trap
    assert m.x[3] == read
    assert m.x[4] == read
    fixed = name in ("mip", "misa")
    cleared = read if fixed else read & ~0x0F0F0F0F
    if name == "mstatus":  # MPP is one bit of state
        cleared = cleared & ~0x1800
    assert m.x[6] == cleared
    low = {"mstatus": 0xF8, "mie": 0x88}.get(name, 0xFFFFFFFC)
    assert m.x[7] == (read if fixed else cleared | 8 & low)


def test_set_and_clear_of_nothing_do_not_write() -> None:
    for text in ("csrrs x1, mhartid, x0", "csrrc x1, mvendorid, x0", "csrrsi x1, marchid, 0", "csrrci x1, mimpid, 0"):
        m, outcome = one(text, x={1: 7})
        assert not outcome.trap
        assert m.x[1] == 0
    _, outcome = one("csrrs x1, mhartid, x2", x={2: 0})  # the field counts, not the value
    assert outcome.trap


LINES = [  # software, timer, msie, mtie, mode, mie -> cause or none
    (1, 1, 1, 1, 1, 1, 0x80000003),
    (0, 1, 1, 1, 1, 1, 0x80000007),
    (1, 1, 0, 1, 1, 1, 0x80000007),
    (1, 1, 1, 1, 1, 0, None),
    (1, 0, 1, 1, 0, 0, 0x80000003),
    (0, 1, 0, 1, 0, 0, 0x80000007),
    (1, 1, 0, 0, 0, 1, None),
    (0, 0, 1, 1, 0, 1, None),
]


@pytest.mark.parametrize("text", ["sw x2, 0(x3)", ".word 0", "lr.w x1, (x3)"])
@pytest.mark.parametrize("case", LINES)
def test_interrupts(case: tuple[int, int, int, int, int, int, int | None], text: str) -> None:
    software, timer, msie, mtie, mode, mie, cause = case
    m = machine(text)
    assert m.clint is not None
    m.clint.msip, m.clint.mtimecmp = software, 0 if timer else 1 << 32
    m.state |= {"msie": msie, "mtie": mtie, "machine_mode": mode, "mie": mie, "mtvec": MTVEC, "mtval": 1}
    m.x[3] = RAM
    outcome = m.step()
    if cause is None:
        assert m.state["mcause"] in (0, 2)
        return
    assert outcome.trap
    assert (m.state["mcause"], m.state["mtval"], m.state["mepc"], m.state["pc"]) == (cause, 0, RAM, MTVEC)
    assert (m.state["mpie"], m.state["mie"], m.state["mpp"], m.state["machine_mode"]) == (mie, 0, mode, 1)
    assert (outcome.load, outcome.store_mask, m.state["reserved"]) == (False, 0, 0)


def test_return_from_a_trap() -> None:
    for mpp in (0, 1):
        for mpie in (0, 1):
            m, outcome = one("mret", mpp=mpp, mpie=mpie, mie=1 - mpie, mepc=RAM + 0x103)
            assert not outcome.trap
            assert m.state["pc"] == RAM + 0x100
            assert (m.state["machine_mode"], m.state["mie"], m.state["mpie"], m.state["mpp"]) == (mpp, mpie, 1, 0)


def test_reservations() -> None:
    m = machine(
        "lr.w x1, (x2)\n sc.w x3, x4, (x2)\n sc.w x5, x4, (x2)\n lr.w x1, (x2)\n sw x4, 0(x2)\n sc.w x6, x7, (x2)"
    )
    m.x[2], m.x[4], m.x[7] = RAM + 0x100, 11, 13
    outcomes = [m.step() for _ in range(6)]
    assert [(o.load, o.address, o.store_mask) for o in outcomes[:3]] == [
        (True, RAM + 0x100, 0),
        (False, RAM + 0x100, 15),
        (False, 0, 0),
    ]
    assert (m.x[3], m.x[5], m.x[6]) == (0, 1, 0)  # a store of this hart leaves the reservation
    assert m.read(RAM + 0x100) == 13
    assert (m.state["reserved"], m.state["reservation"]) == (0, RAM + 0x100)
    m, _ = one("sc.w x3, x4, (x2)", x={2: RAM + 4}, reserved=1, reservation=RAM + 8)
    assert (m.x[3], m.state["reserved"], m.state["reservation"]) == (1, 0, RAM + 8)


def test_timer_program() -> None:
    """A handler counts ten timer interrupts of a loop in U mode, a software interrupt ends it."""
    text = """
        la t0, handler
        csrrw x0, mtvec, t0
        li s0, 0x2004000
        li t1, 40
        sw t1, 0(s0)
        sw x0, 4(s0)
        li t0, 0x88
        csrrw x0, mie, t0
        la t0, user
        csrrw x0, mepc, t0
        mret
user:   addi s1, s1, 1
        j user
handler: csrrs t3, mcause, x0
        andi t3, t3, 7
        addi t4, x0, 3
        beq t3, t4, end
        addi s2, s2, 1
        lw t2, 0(s0)
        addi t2, t2, 50
        sw t2, 0(s0)
        addi t4, x0, 10
        bne s2, t4, back
        li t5, 0x2000000
        addi t4, x0, 1
        sw t4, 0(t5)
back:   mret
end:    li t0, 0x100000
        li t1, 0x5555
        sw t1, 0(t0)
    """
    for variant in VARIANTS[1:]:
        for ports in (False, True):
            m = machine(text, variant, ports)
            assert m.run(2000)
            assert m.x[18] == 10
            assert m.state["mpp"] == 0
            assert m.state["mepc"] in (assemble(text, RAM).labels["user"], assemble(text, RAM).labels["user"] + 4)
            assert m.x[9] > 100


def test_nothing_on_the_bus() -> None:
    m = machine("lw x1, 0(x0)")
    with pytest.raises(SimError, match="nothing answers on the bus"):
        m.step()


def test_encodings_are_those_of_the_gnu_assembler() -> None:
    """One line for every instruction, words from GNU as 2.40."""
    lines = (Path(__file__).parent / "golden" / "rv32_encodings.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        word, _, text = line.partition(" ")
        assert f"{assemble(text).words[0]:08x}" == word, text
    assert {line.split()[1] for line in lines} | {"fence"} == set(FORMS)


MISTAKES = [
    ("addi x1, x2", "assembly line 2: addi has 2 operands; write addi rd,rs1,imm"),
    ("addi x1, x2, 4096", "assembly line 2: 4096 does not fit into addi; use a value from -2048 to 2047"),
    ("beq x1, x2, 3", "assembly line 2: 3 does not fit into beq; use a value from -4096 to 4094, a multiple of 2"),
    ("addi x1, y2, 0", "assembly line 2: 'y2' is not a register; use x0 to x31 or a name such as a0"),
    ("jump x1", "assembly line 2: there is no instruction 'jump'; use the names of tapeout.cpu.assembler.FORMS"),
    ("j away", "assembly line 2: 'away' is neither a number nor a label; define the label or write a number"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_in_assembly(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        assemble(f"nop\n{text}")
    assert str(caught.value) == message
