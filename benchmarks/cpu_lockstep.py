"""The step oracle beside QEMU, state by state after every step; writes results/cpu_lockstep.json.

    .venv/bin/python benchmarks/cpu_lockstep.py

Machine mode above all: every CSR and way to access it, every cause of a trap, MRET, U mode, both interrupts. Single
instructions from chosen states, and random programs with a trap handler that changes modes. Where QEMU departs from
docs/processor.md, a rule says so (`DEPARTURES`): the case is counted, QEMU is brought to our state, and the run goes
on. A difference that no rule explains ends the run. Takes about a minute.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import qemu
from common import provenance, save
from cpu_programs import BOTH_ABSENT, HANDLER, RESERVED, disturbed_program, fixed_registers, random_program
from qemu import STATE_CSRS, Qemu

from tapeout.cpu.assembler import CSRS, FORMS, assemble, encode
from tapeout.cpu.machine import CLINT, Clint, Machine, Memory, Outcome
from tapeout.cpu.rv32 import rv32_interface, rv32_oracle

RAM = 0x80000000
DATA = RAM + 0x8000
SIZE = 0x10000
HANDLERS = RAM + 0x6000, RAM + 0x6800
FAR = 1 << 48
"""A time that does not come."""

State = dict[str, int]


@dataclass(frozen=True)
class Difference:
    """States after a step that are not equal; each holds x0 to x31, pc, priv and the CSRs by name."""

    outcome: Outcome
    ours: State
    theirs: State

    @property
    def names(self) -> set[str]:
        return {name for name in self.ours if self.ours[name] != self.theirs[name]}

    @property
    def opcode(self) -> int:
        return self.outcome.instruction & 0x7F

    @property
    def csr(self) -> int:
        """The CSR that the instruction names, -1 if none."""
        word = self.outcome.instruction
        return word >> 20 if self.opcode == 0x73 and word >> 12 & 3 else -1

    def traps(self, cause: int) -> bool:
        return self.outcome.trap and self.ours["mcause"] == cause


MULTIPLICATION = "mul mulh mulhsu mulhu div divu rem remu".split()
READ_ONLY = {0xF11, 0xF12, 0xF13, 0xF14}
ABSENT = {0x302, 0x306, 0x310, 0x320, 0x3A0, 0x3B0, 0xB00, 0xB02, 0xC00, 0xC01, 0xC02, 0xF15}


def _misaligned(d: Difference) -> bool:
    return d.traps(4) or d.traps(6)


def _written(d: Difference, name: str, ignored: int) -> bool:
    """A CSR was written, and only in the bits that QEMU keeps otherwise does it differ."""
    other = d.ours[name] ^ d.theirs[name]
    return d.csr == CSRS[name] and d.names == {name} and not other & ~ignored


DEPARTURES: dict[str, tuple[str, Callable[[Difference], bool]]] = {
    "ebreak-mtval": (
        "mtval of EBREAK is the pc here, 0 in QEMU; the manual allows both (II 3.1.16)",
        lambda d: d.traps(3) and d.names == {"mtval"} and d.theirs["mtval"] == 0,
    ),
    "jump-mtval": (
        "mtval of a misaligned jump or branch is the target, as the manual says (II 3.1.16); QEMU writes the pc",
        lambda d: d.traps(0) and d.opcode != 0x67 and d.names == {"mtval"} and d.theirs["mtval"] == d.ours["mepc"],
    ),
    "atomic-cause": (
        "a misaligned AMO or SC has cause 6, as the manual says (II table 3.6); QEMU gives 4",
        lambda d: d.traps(6) and d.opcode == 0x2F and d.names == {"mcause"} and d.theirs["mcause"] == 4,
    ),
    "failing-sc": (
        "a misaligned SC traps even if it would fail; in QEMU it then fails without a trap",
        lambda d: d.traps(6) and d.outcome.instruction >> 27 == 3 and d.theirs["pc"] == d.outcome.pc + 4,
    ),
    "misaligned-data": (
        "misaligned loads and stores trap; QEMU carries them out; the manual allows both (I 2.6)",
        lambda d: _misaligned(d) and d.opcode in (0x03, 0x23) and d.theirs["pc"] == d.outcome.pc + 4,
    ),
    "sc-value": (
        "a store of this hart leaves the reservation; QEMU's SC fails if the value has changed; the manual allows both",
        lambda d: d.outcome.instruction & 0xF800007F == 0x1800002F and d.outcome.store_mask == 15 and len(d.names) <= 1,
    ),
    "mepc-bits": (
        "the low two bits of mepc are zero, as the manual says for 32-bit instructions (II 3.1.14); QEMU keeps them",
        lambda d: _written(d, "mepc", 3),
    ),
    "mtvec-modes": (
        "mtvec takes the address and stays direct; QEMU has the vectored mode, ignores reserved ones; both allowed",
        lambda d: d.csr == CSRS["mtvec"] and d.names == {"mtvec"},
    ),
    "mpp": (
        "MPP written as 01 or 10 becomes U; QEMU keeps the value; the manual wants a mode that exists (II 3.1.6.1)",
        lambda d: _written(d, "mstatus", 0x1800) and d.theirs["mstatus"] & 0x1800 in (0x800, 0x1000),
    ),
    "other-bits": (
        "mstatus, mie and mip have no bits of extensions that are absent; QEMU keeps some of them",
        lambda d: d.csr in (0x300, 0x304, 0x344) and all(name.startswith("x") for name in d.names) and _other_bits(d),
    ),
    "read-only-csr": (
        "to set no bits of a read-only CSR by a register other than x0 is illegal (I 9.1); QEMU carries it out",
        lambda d: d.traps(2) and d.csr in READ_ONLY and d.theirs["pc"] == d.outcome.pc + 4,
    ),
    "sfence": (
        "SFENCE.VMA is illegal without supervisor mode; QEMU carries it out",
        lambda d: d.traps(2) and d.outcome.instruction == 0x12000073 and d.theirs["pc"] == d.outcome.pc + 4,
    ),
    "short-mtval": (
        "mtval of an illegal instruction is all its 32 bits; QEMU keeps 16 where the word has the form of a short one",
        lambda d: d.traps(2) and d.opcode & 3 != 3 and d.theirs == d.ours | {"mtval": d.outcome.instruction & 0xFFFF},
    ),
    "absent-csr": (
        "counters and their controls, medeleg, mstatush and mconfigptr do not exist here; in QEMU they do",
        lambda d: d.traps(2) and d.csr in ABSENT and d.theirs["pc"] == d.outcome.pc + 4,
    ),
}
"""Where QEMU and docs/processor.md differ: why, and how such a difference is known."""


def _other_bits(d: Difference) -> bool:
    held = 0x1888 if d.csr == 0x300 else 0x88
    return all(not (d.ours[name] ^ d.theirs[name]) & held for name in d.names)


class Pair:
    """Both machines, stepped together."""

    def __init__(self, variant: str, ports: bool, theirs: Qemu) -> None:
        step = rv32_oracle(variant, ports=ports).evaluate
        self.clint = Clint()
        self.memory = Memory(SIZE)
        self.ours = Machine(step, rv32_interface(variant, ports=ports), {RAM: self.memory, CLINT: self.clint}, RAM)
        self.theirs = theirs
        self.departures: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.instructions: Counter[str] = Counter()
        self.skipped_waits = 0
        self.steps = 0

    def load(self, address: int, image: bytes) -> None:
        self.memory.data[address - RAM : address - RAM + len(image)] = image
        self.theirs.set_memory(address, image)

    def set(self, x: list[int], lines: tuple[int, int] = (0, 0), **state: int) -> None:
        """Registers, interrupt lines (software, timer) and the rest of the state; what is not named is zero."""
        self.ours.x[:] = x
        self.ours.state = dict.fromkeys(self.ours.state, 0) | {"pc": RAM} | state
        self.clint.msip, self.clint.mtimecmp = lines[0], 0 if lines[1] else FAR
        self.theirs.store(CLINT, self.clint.msip)
        self.theirs.store(CLINT + 0x4004, self.clint.mtimecmp >> 32)
        self.align()

    def align(self) -> None:
        """Brings QEMU to our state."""
        state = self.our_state()
        self.theirs.set_registers([*self.ours.x, state["pc"]])
        for name in STATE_CSRS:
            self.theirs.write(name, state[name])
        self.theirs.write("mip", 0)  # bits that the supervisor's interrupts would have
        self.theirs.write("priv", state["priv"])

    def our_state(self) -> State:
        s = self.ours.state
        return {
            **{f"x{i}": value for i, value in enumerate(self.ours.x)},
            **{name: s[name] for name in ("pc", "mtvec", "mscratch", "mepc", "mcause", "mtval")},
            "mstatus": s["mie"] << 3 | s["mpie"] << 7 | s["mpp"] * 0x1800,
            "mie": s["msie"] << 3 | s["mtie"] << 7,
            "priv": 3 * s["machine_mode"],
        }

    def their_state(self) -> State:
        """The bits that exist here; other bits of QEMU's are cleared, for they would change what follows."""
        *x, pc = self.theirs.registers()
        state = {f"x{i}": value for i, value in enumerate(x)} | {"pc": pc}
        state |= {name: self.theirs.read(name) for name in (*STATE_CSRS, "priv")}
        for name, held in (("mstatus", 0x1888), ("mie", 0x88)):
            if state[name] & ~held:
                state[name] &= held
                self.theirs.write(name, state[name])
        return state

    def step(self) -> Outcome:
        """One step of both. `SystemExit` with the difference if no rule explains it."""
        wait = self.ours.read(self.ours.state["pc"]) == FORMS["wfi"].bits
        outcome = self.ours.step()
        self.clint.mtime = 1  # time stands still: lines change only where programs write
        if wait and not outcome.trap:  # QEMU sleeps until an interrupt comes, and may execute what follows in one step
            self.skipped_waits += 1
            self.align()
        else:
            self.theirs.step()
        self.steps += 1
        self._count(outcome)
        difference = Difference(outcome, self.our_state(), self.their_state())
        if difference.names:
            self._explain(difference)
        elif outcome.store_mask and (kept := self._stored(outcome)) != self.ours.read(outcome.address):
            raise SystemExit(f"{outcome}: memory holds {kept:#x} in QEMU, {self.ours.read(outcome.address):#x} here")
        return outcome

    def _stored(self, outcome: Outcome) -> int:
        if not RAM <= outcome.address < RAM + SIZE:
            return self.ours.read(outcome.address)
        return int.from_bytes(self.theirs.memory(outcome.address, 4), "little")

    def _count(self, outcome: Outcome) -> None:
        if outcome.trap:
            mode = "M" if self.ours.state["mpp"] else "U"
            self.causes[f"{self.ours.state['mcause']:#x} from {mode}"] += 1
        else:
            self.instructions[name_of(outcome.instruction)] += 1

    def _explain(self, difference: Difference) -> None:
        for rule, (_, applies) in DEPARTURES.items():
            if applies(difference):
                self.departures[rule] += 1
                self.align()
                misaligned = _misaligned(difference)  # QEMU may have stored what it should not
                start = difference.ours["mtval"] & ~3 if misaligned else difference.outcome.address
                if RAM <= start < RAM + SIZE:
                    self.load(start, bytes(self.memory.data[start - RAM : start - RAM + 8]))
                return
        values = {name: f"{difference.ours[name]:#x}, QEMU {difference.theirs[name]:#x}" for name in difference.names}
        raise SystemExit(f"step {self.steps}: {difference.outcome} leaves {values}")


def name_of(word: int) -> str:
    """The instruction's name."""
    for name, form in FORMS.items():
        if form.bits & 0x707F == 0x73:
            mask = 0xFFFFFFFF
        elif form.operands.endswith(("upper", "jump")):
            mask = 0x7F
        elif form.operands in ("rd,rs1,rs2", "rd,rs1,shift", "rd,(rs1)", "rd,rs2,(rs1)"):
            mask = 0xFE00707F
        else:
            mask = 0x707F
        if word & mask == form.bits:
            return name
    raise ValueError(f"{word:08x} is not an instruction")


def registers(r: random.Random) -> list[int]:
    """Random values, addresses of data among them, misaligned ones too."""
    edges = (0, 1, 0x80, 0x800, 0x1800, 0x1888, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    return [0] + [r.choice((r.getrandbits(32), r.choice(edges))) for _ in range(31)]


def random_state(r: random.Random) -> State:
    bits = {name: r.randrange(2) for name in ("machine_mode", "mie", "mpie", "mpp", "msie", "mtie")}
    values = {name: r.getrandbits(32) for name in ("mscratch", "mcause", "mtval")}
    return bits | values | {name: r.getrandbits(30) << 2 for name in ("mtvec", "mepc")}


Single = tuple[int, dict[int, int], tuple[int, int], State]
"""A word, registers, interrupt lines, state that is not random."""


def singles(multiply: bool) -> Iterator[Single]:
    """One instruction each, from states chosen such that every cause and every access to every CSR is met."""
    none = (0, 0)
    for number, field, mode in product([*CSRS.values(), *BOTH_ABSENT, *sorted(ABSENT)], (0, 9), (1, 0)):
        for name, value in product("csrrw csrrs csrrc csrrwi csrrsi csrrci".split(), (0, 0xFFFFFFFF, 0x5A5A1234)):
            word = encode(name, rd=5, rs1=field, imm=number)
            yield word, {9: value}, none, {"machine_mode": mode, "msie": 0, "mtie": 0}
    for software, timer, msie, mtie, mode, mie in product((0, 1), repeat=6):
        state = {"msie": msie, "mtie": mtie, "machine_mode": mode, "mie": mie}
        for word in (encode("sw", rs1=9, rs2=5), encode("ecall"), encode("csrrs", rd=5, imm=CSRS["mip"])):
            yield word, {9: DATA}, (software, timer), state
    for mode, mie, mpie, mpp in product((0, 1), repeat=4):
        state = {"machine_mode": mode, "mie": mie, "mpie": mpie, "mpp": mpp}
        for word in [encode(name) for name in ("mret", "ecall", "ebreak", "wfi")] + list(RESERVED):
            yield word, {}, none, state
    for mode, offset, name in product((0, 1), (0, 1, 2, 3), FORMS):
        operands = FORMS[name].operands
        if "(rs1)" in operands and name != "jalr" and not (name[:3] in ("lr.", "sc.") and offset == 0):
            rs2 = {} if "rs2" not in operands else {"rs2": 5}
            rd = {} if "rd" not in operands else {"rd": 6}
            yield encode(name, rs1=9, **rd, **rs2), {9: DATA + 64 + offset}, none, {"machine_mode": mode}
        elif name == "jalr" or operands.endswith(("branch", "jump")):
            fields = {"rs1": 9} if name == "jalr" else {"rd": 6} if name == "jal" else {"rs1": 5, "rs2": 6}
            imm = offset if name == "jalr" else offset & 2
            yield encode(name, imm=64 + imm, **fields), {9: RAM}, none, {"machine_mode": mode}
        elif operands in ("rd,rs1,rs2", "rd,rs1,shift") and (multiply or FORMS[name].bits >> 25 != 1):
            yield encode(name, rd=6, rs1=9, rs2=5), {}, none, {"machine_mode": mode}


def compare_singles(pair: Pair, r: random.Random, multiply: bool) -> None:
    for word, x, lines, state in singles(multiply):
        start = registers(r)
        for number, value in x.items():
            start[number] = value
        pair.load(RAM, word.to_bytes(4, "little"))
        pair.set(start, lines, **random_state(r) | state)
        pair.step()


def compare_random_program(pair: Pair, r: random.Random, length: int, multiply: bool) -> None:
    """A program and its two handlers, until its end is reached."""
    words = random_program(r, length, multiply=multiply, handlers=HANDLERS)
    image = b"".join(word.to_bytes(4, "little") for word in words)
    pair.load(RAM, image)
    for address in HANDLERS:
        pair.load(address, assemble(HANDLER, address).image)
    pair.load(DATA - 0x800, r.randbytes(0x1000))
    x = registers(r)
    for number, value in fixed_registers(DATA).items():
        x[number] = value
    pair.set(x, machine_mode=1, mie=1, msie=1, mtie=1, mtvec=HANDLERS[0])
    for _ in range(6 * length):
        if pair.ours.state["pc"] == RAM + len(image):
            return
        pair.step()
    raise SystemExit(f"a random program of {length} words is not at its end after {pair.steps} steps")


def compare_disturbed(variant: str, ports: bool, data: bytes) -> dict[str, int]:
    """The interrupted checksum, run freely by both. What it must leave; `SystemExit` if either leaves other values."""
    program = disturbed_program(RAM, DATA)
    memory = Memory(SIZE, program.image)
    memory.data[DATA - RAM : DATA - RAM + len(data)] = data
    step = rv32_oracle(variant, ports=ports).evaluate
    ours = Machine(step, rv32_interface(variant, ports=ports), {RAM: memory, CLINT: Clint()}, RAM)
    ours.x[21] = 10
    while ours.state["pc"] != program.labels["end"]:
        if ours.steps > 200_000:
            raise SystemExit("the interrupted checksum does not end here")
        ours.step()
    with Qemu(multiply=variant == "rv32ima-machine") as theirs:
        theirs.set_memory(RAM, program.image)
        theirs.set_memory(DATA, data)
        theirs.set_registers([0] * 21 + [10] + [0] * 10 + [RAM])
        theirs.run(program.labels["end"])
        x = theirs.registers()
    expected = 0
    for i in range(0, len(data), 4):
        expected = (expected << 5 | expected >> 27) & 0xFFFFFFFF ^ int.from_bytes(data[i : i + 4], "little")
    for side, values in (("here", ours.x), ("in QEMU", x)):
        if values[10] != expected or min(values[18], values[19]) < 10:
            raise SystemExit(f"interrupted checksum {side}: {values[10]:#x}, not {expected:#x}, or too few interrupts")
    return {"checksum": expected, "interrupts_here": ours.x[18], "interrupts_qemu": x[18]}


def compare(variant: str, ports: bool, programs: int, length: int) -> dict[str, Any]:
    """Everything for one oracle."""
    r = random.Random(f"{variant} {ports}")
    multiply = variant == "rv32ima-machine"
    with Qemu(multiply=multiply) as theirs:
        pair = Pair(variant, ports, theirs)
        compare_singles(pair, r, multiply)
        single_steps = pair.steps
        for _ in range(programs):
            compare_random_program(pair, r, length, multiply)
    disturbed = compare_disturbed(variant, ports, r.randbytes(256))
    found = {
        "variant": variant,
        "ports": ports,
        "single_steps": single_steps,
        "random_programs": programs,
        "steps": pair.steps,
        "departures": dict(sorted(pair.departures.items())),
        "traps": dict(sorted(pair.causes.items())),
        "instructions": dict(sorted(pair.instructions.items())),
        "skipped_waits": pair.skipped_waits,
        "interrupted_checksum": disturbed,
    }
    print({name: value for name, value in found.items() if name != "instructions"}, flush=True)
    missing = {name for name in FORMS if "." not in name or name in ("lr.w", "sc.w")} - set(pair.instructions)
    missing -= {"ecall", "ebreak"} if multiply else {"ecall", "ebreak", *MULTIPLICATION}
    if missing:
        raise SystemExit(f"never executed: {sorted(missing)}")
    return found


def main() -> None:
    about = provenance(".venv/bin/python benchmarks/cpu_lockstep.py", "tapeout", "numpy")
    about["versions"]["qemu"] = qemu.version()
    runs = [compare(v, p, 10, 1000) for v in ("rv32ia-machine", "rv32ima-machine") for p in (True, False)]
    why = {name: text for name, (text, _) in DEPARTURES.items()}
    save("cpu_lockstep", {"provenance": about, "departures": why, "runs": runs})


if __name__ == "__main__":
    main()
