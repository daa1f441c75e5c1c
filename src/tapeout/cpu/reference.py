"""The processor as terms over bits: the formal reference of docs/processor.md, in port form.

Written from that page and the RISC-V manual (unprivileged 20191213, privileged 20211203; the sections are named), to
be read beside them. Where instructions share an adder or a shifter, their operands are chosen first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapeout.circuit.bitvector import Bits, add_with_carry, any_of, concat, constant, mux, one_of, product_steps
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.words import Interface, Word, parse_interface, parse_words
from tapeout.cpu.encodings import Encoding, encodings

MACHINE_STATE = (
    "machine_mode mie mpie mpp msie mtie mtvec:32 mscratch:32 mepc:32 mcause:32 mtval:32"  # chapter 3.1 of volume II
)
INTERRUPTS = "software_interrupt timer_interrupt"

ALL = frozenset(encodings("rv32ima-machine"))
LOADS = "LB LH LW LBU LHU"
STORES = "SB SH SW"
BRANCHES = "BEQ BNE BLT BGE BLTU BGEU"
OP = "ADD SUB SLL SLT SLTU XOR SRL SRA OR AND"
AMOS = "AMOSWAP.W AMOADD.W AMOXOR.W AMOAND.W AMOOR.W AMOMIN.W AMOMAX.W AMOMINU.W AMOMAXU.W"
CSRS = "CSRRW CSRRS CSRRC CSRRWI CSRRSI CSRRCI"


def interface(variant: str) -> Interface:
    """The words of a variant in port form, in the order of docs/processor.md."""
    machine = MACHINE_STATE if "machine" in variant else ""
    lines = INTERRUPTS if "machine" in variant else ""
    machine_next = " ".join(str(Word(f"{word.name}.next", word.width)) for word in parse_words(machine))
    return parse_interface(
        f"instruction:32 pc:32 load_data:32 reservation:32 reserved {machine} {lines} rs1:32 rs2:32 -> "
        "pc.next:32 address:32 store_data:32 store_mask:4 load reservation.next:32 reserved.next trap "
        f"{machine_next} rd:32 rd_write"
    )


def reference(variant: str) -> Netlist:
    """The step function of a variant as a netlist.

    Raises:
        UserError: no such variant.
    """
    return traced_reference(variant)[0]


def traced_reference(variant: str) -> tuple[Netlist, dict[str, Bits]]:
    """The netlist, and the words inside it that certify its multiplier (cpu/multiplier.py)."""
    table = encodings(variant)
    builder = Builder(interface(variant))
    step = _Step(builder, table, "machine" in variant)
    outputs = step.outputs()
    netlist = builder.finish({name: list(word.literals) for name, word in outputs.items()})
    return netlist, step.traced


@dataclass(frozen=True, slots=True)
class _Trap:
    """A reason to trap: when, and what ``mcause`` and ``mtval`` become."""

    when: Bits
    cause: int
    value: Bits


class _Step:
    """One step. Attributes are terms named after the words of the manual; methods follow its chapters."""

    def __init__(self, builder: Builder, table: dict[str, Encoding], machine: bool) -> None:
        self.builder = builder
        self.table = table
        self.machine = machine
        self.traced: dict[str, Bits] = {}
        self.inputs = {word.name: Bits(builder, tuple(builder.input(word.name))) for word in builder.interface.inputs}
        self.instruction = self.inputs["instruction"]
        self.rs1 = self.inputs["rs1"]
        self.rs2 = self.inputs["rs2"]
        self.load_data = self.inputs["load_data"]
        self.reservation = self.inputs["reservation"]
        self.pc = self.aligned(self.inputs["pc"])
        self.decoded = {name: self._matches(encoding) for name, encoding in table.items()}
        self.immediate = self._immediate()
        self._compute()
        self._jump()
        self._access()

    # Notation

    def op(self, names: str) -> Bits:
        """1 where the instruction is one of ``names``; those that the variant lacks never are."""
        if unknown := set(names.split()) - ALL:
            raise KeyError(*unknown)
        return any_of([self.number(0, 1)] + [self.decoded[name] for name in names.split() if name in self.decoded])

    def number(self, value: int, width: int = 32) -> Bits:
        return constant(self.builder, value, width)

    def field(self, high: int, low: int) -> Bits:
        """Bits ``high`` to ``low`` of the instruction, as the manual counts them."""
        return self.instruction[low : high + 1]

    def aligned(self, word: Bits) -> Bits:
        """The word with its two lowest bits cleared."""
        return concat(word[2:], self.number(0, 2))

    # I 2.2, 2.3: decoding and immediates

    def _matches(self, encoding: Encoding) -> Bits:
        """One chain of ANDs from bit 0 upwards, so that instructions share what is common: a tree of opcodes."""
        bits = [
            bit if encoding.match >> place & 1 else ~bit
            for place, bit in enumerate(self.instruction)
            if encoding.mask >> place & 1
        ]
        return concat(*reversed(bits)).all()

    def _immediate(self) -> Bits:
        """Bits that the word does not hold are 0 below, copies of the sign above. ``shamt`` has no sign."""
        users: dict[tuple[tuple[int, int], ...], list[str]] = {}
        for encoding in self.table.values():
            if encoding.immediate:
                users.setdefault(encoding.immediate, []).append(encoding.name)
        cases: list[tuple[Bits, Bits]] = []
        for layout, names in users.items():
            places = dict(layout)
            sign = self.number(0, 1) if "SLLI" in names else self.instruction[31]
            top = max(places)
            bits = [self.instruction[places[bit]] if bit in places else self.number(0, 1) for bit in range(top + 1)]
            cases.append((self.op(" ".join(names)), concat(sign.repeat(31 - top), *reversed(bits))))
        return one_of(cases)

    # I 2.4: integer computation; A 8.4: the same operations on memory; M: chapter 7

    def _compute(self) -> None:
        op = self.op
        self.amo = op(AMOS)
        left = mux(self.amo, self.load_data, self.rs1)
        right = mux(self.amo | op(OP) | op(BRANCHES), self.rs2, self.immediate)

        minimum, maximum = op("AMOMIN.W AMOMINU.W"), op("AMOMAX.W AMOMAXU.W")
        compare = op("SLT SLTU SLTI SLTIU") | op(BRANCHES) | minimum | maximum
        subtract = op("SUB") | compare
        self.sum, carry = add_with_carry(left, right ^ subtract.repeat(32), subtract)
        self.equal = ~self.sum.any()  # of the difference
        signed = op("SLT SLTI BLT BGE AMOMIN.W AMOMAX.W")
        self.less = ~carry ^ (
            signed & (left[31] ^ right[31])
        )  # order of signed numbers: turned round where signs differ

        to_left = op("SLL SLLI")
        shifted = mux(to_left, self.rs1.reverse(), self.rs1).shift_right(right[0:5], op("SRA SRAI") & self.rs1[31])

        self.result = one_of(
            [
                (op("ADD ADDI SUB AMOADD.W"), self.sum),
                (op("SLT SLTI SLTU SLTIU"), self.less.zero_extend(32)),
                (op("XOR XORI AMOXOR.W"), left ^ right),
                (op("OR ORI AMOOR.W"), left | right),
                (op("AND ANDI AMOAND.W"), left & right),
                (to_left, shifted.reverse()),
                (op("SRL SRLI SRA SRAI"), shifted),
                (minimum & self.less | maximum & ~self.less, left),
                (minimum & ~self.less | maximum & self.less | op("LUI AMOSWAP.W"), right),
                *(self._multiply() + self._divide() if "MUL" in self.table else []),
            ]
        )

    def _multiply(self) -> list[tuple[Bits, Bits]]:
        """M 7.1. The product of unsigned numbers; a negative factor stands for itself less 2**32."""
        product = self.number(0, 64)
        for bit, (row, product) in enumerate(product_steps(self.rs1.zero_extend(64), self.rs2.zero_extend(64))):
            if bit < 32:
                self.traced[f"row[{bit}]"] = row
                self.traced[f"sum[{bit}]"] = product
        low = self.number(0)
        less = {
            "rs1": concat(self.rs2 & (self.op("MULH MULHSU") & self.rs1[31]).repeat(32), low),
            "rs2": concat(self.rs1 & (self.op("MULH") & self.rs2[31]).repeat(32), low),
        }
        for factor, excess in less.items():
            product = product - excess
            self.traced[f"excess_{factor}"] = excess
            self.traced[f"product_{factor}"] = product
        return [(self.op("MUL"), product[:32]), (self.op("MULH MULHSU MULHU"), product[32:])]

    def _divide(self) -> list[tuple[Bits, Bits]]:
        """M 7.2, table 7.1: x / 0 = -1, x rem 0 = x, -2**31 / -1 = -2**31, -2**31 rem -1 = 0."""
        signed = self.op("DIV REM")
        negative1, negative2 = signed & self.rs1[31], signed & self.rs2[31]
        quotient, remainder = divmod(_negated(self.rs1, negative1), _negated(self.rs2, negative2))
        return [
            (self.op("DIV DIVU"), _negated(quotient, (negative1 ^ negative2) & self.rs2.any())),
            (self.op("REM REMU"), _negated(remainder, negative1)),
        ]

    # I 2.5: control transfer

    def _jump(self) -> None:
        op = self.op
        self.next_pc = self.pc + 4
        self.pc_relative = self.pc + self.immediate
        self.target = mux(op("JALR"), concat(self.sum[1:], self.number(0, 1)), self.pc_relative)
        taken = op("BEQ") & self.equal | op("BNE") & ~self.equal
        taken |= op("BLT BLTU") & self.less | op("BGE BGEU") & ~self.less
        self.jump = op("JAL JALR") | taken
        self.misaligned_target = self.jump & self.target[1]

    # I 2.6: loads and stores; A 8.2: LR and SC

    def _access(self) -> None:
        op = self.op
        self.byte_address = mux(self.amo | op("LR.W SC.W"), self.rs1, self.sum)
        self.offset = self.byte_address[0:2]
        halfword = op("LH LHU SH") & self.offset[0]
        word = (op("LW SW LR.W SC.W") | self.amo) & self.offset.any()
        self.misaligned = halfword | word
        reserved = self.inputs["reserved"] & self.reservation.equals(self.rs1)
        self.conditional_store = op("SC.W") & reserved
        half = mux(self.offset[1], self.load_data[16:32], self.load_data[0:16])
        byte = mux(self.offset[0], half[8:16], half[0:8])
        self.loaded = one_of(
            [
                (op("LB"), byte.sign_extend(32)),
                (op("LH"), half.sign_extend(32)),
                (op("LBU"), byte.zero_extend(32)),
                (op("LHU"), half.zero_extend(32)),
                (op("LW LR.W") | self.amo, self.load_data),
                (op("SC.W") & ~reserved, self.number(1)),
            ]
        )

    # The step as a whole

    def outputs(self) -> dict[str, Bits]:
        op = self.op
        csr = _Csr(self) if self.machine else None
        illegal = ~any_of(self.decoded.values())
        if csr:
            illegal |= op(CSRS) & ~csr.allowed | op("MRET") & ~self.inputs["machine_mode"]
        traps = self._traps(illegal)
        trap = any_of(case.when for case in traps)
        done = ~trap

        written = one_of([(op("SB"), self.number(0b0001, 4)), (op("SH"), self.number(0b0011, 4))])
        written |= (op("SW") | self.conditional_store | self.amo).repeat(4)
        stored = mux(self.amo, self.result, self.rs2)
        lanes = concat(*(lane.repeat(8) for lane in reversed(tuple(written))))
        access = done & (op(LOADS) | op("LR.W") | op(STORES) | self.conditional_store | self.amo)
        writes = done & any_of(self.decoded[name] for name, encoding in self.table.items() if encoding.writes_rd)
        reserve = done & op("LR.W")
        value = self.loaded | mux(self.amo, self.number(0), self.result)
        value |= one_of([(op("AUIPC"), self.pc_relative), (op("JAL JALR"), self.next_pc)])
        if csr:
            value |= csr.read & op(CSRS).repeat(32)
        after = mux(self.jump, self.target, self.next_pc)
        if csr:
            after = mux(op("MRET"), csr.mepc, after)
        outputs = {
            "pc.next": self.aligned(mux(trap, csr.mtvec if csr else self.pc, after)),
            "address": self.aligned(self.byte_address) & access.repeat(32),
            "store_data": ((stored & lanes) << concat(self.offset, self.number(0, 3))) & done.repeat(32),
            "store_mask": (written << self.offset) & done.repeat(4),
            "load": done & (op(LOADS) | op("LR.W") | self.amo),
            "reservation.next": mux(reserve, self.rs1, self.reservation),
            "reserved.next": reserve | self.inputs["reserved"] & ~(done & op("SC.W")),
            "trap": trap,
            "rd": value & writes.repeat(32),
            "rd_write": writes,
        }
        return outputs | (csr.next_state(traps, done) if csr else {})

    def _traps(self, illegal: Bits) -> list[_Trap]:
        """II 3.1.9, 3.1.15, 3.1.16. At most one holds: an interrupt comes before the instruction."""
        op, zero = self.op, self.number(0)
        loads = op(LOADS) | op("LR.W")
        machine = self.inputs["machine_mode"] if self.machine else self.number(1, 1)
        exceptions = [
            _Trap(self.misaligned_target, 0, self.target),
            _Trap(illegal, 2, self.instruction),
            _Trap(op("EBREAK"), 3, self.pc),
            _Trap(self.misaligned & loads, 4, self.byte_address),
            _Trap(self.misaligned & ~loads, 6, self.byte_address),
            _Trap(op("ECALL") & ~machine, 8, zero),
            _Trap(op("ECALL") & machine, 11, zero),
        ]
        if not self.machine:
            return exceptions
        enabled = ~machine | self.inputs["mie"]
        software = enabled & self.inputs["software_interrupt"] & self.inputs["msie"]
        timer = enabled & self.inputs["timer_interrupt"] & self.inputs["mtie"] & ~software
        interrupts = [_Trap(software, 1 << 31 | 3, zero), _Trap(timer, 1 << 31 | 7, zero)]
        return [_Trap(case.when & ~(software | timer), case.cause, case.value) for case in exceptions] + interrupts


class _Csr:
    """Zicsr (chapter 9) and the machine-level registers (II 3.1) of a step."""

    def __init__(self, step: _Step) -> None:
        self.step = step
        self.before = before = step.inputs
        self.mtvec = step.aligned(before["mtvec"])
        self.mepc = step.aligned(before["mepc"])
        mpp = before["mpp"]
        extensions = "AIU" + ("M" if "MUL" in step.table else "")
        contents = {
            0x300: self._bits({3: before["mie"], 7: before["mpie"], 11: mpp, 12: mpp}),  # mstatus
            0x301: step.number(1 << 30 | sum(1 << ord(letter) - ord("A") for letter in extensions)),  # misa, MXL = 1
            0x304: self._bits({3: before["msie"], 7: before["mtie"]}),  # mie
            0x305: self.mtvec,
            0x340: before["mscratch"],
            0x341: self.mepc,
            0x342: before["mcause"],
            0x343: before["mtval"],
            0x344: self._bits({3: before["software_interrupt"], 7: before["timer_interrupt"]}),  # mip
            **{number: step.number(0) for number in (0xF11, 0xF12, 0xF13, 0xF14)},  # vendor, architecture, ...
        }
        self.named = {number: step.field(31, 20).equals(number) for number in contents}
        self.read = one_of([(self.named[number], value) for number, value in contents.items()])
        source = mux(step.op("CSRRWI CSRRSI CSRRCI"), step.field(19, 15).zero_extend(32), step.rs1)
        self.new = one_of(
            [
                (step.op("CSRRW CSRRWI"), source),
                (step.op("CSRRS CSRRSI"), self.read | source),
                (step.op("CSRRC CSRRCI"), self.read & ~source),
            ]
        )
        self.writes = step.op("CSRRW CSRRWI") | step.op("CSRRS CSRRC CSRRSI CSRRCI") & step.field(19, 15).any()
        read_only = step.field(31, 30).all()
        self.allowed = before["machine_mode"] & any_of(self.named.values()) & ~(self.writes & read_only)

    def _bits(self, bits: dict[int, Bits]) -> Bits:
        """A register that holds ``bits`` at their places, 0 elsewhere."""
        return concat(*(bits.get(place, self.step.number(0, 1)) for place in reversed(range(32))))

    def next_state(self, traps: list[_Trap], done: Bits) -> dict[str, Bits]:
        """II 3.1.6.1: what a trap, MRET and a CSR instruction leave behind."""
        step, before, new = self.step, self.before, self.new
        trap = ~done
        returns = done & step.op("MRET")
        zero, one = step.number(0, 1), step.number(1, 1)
        writing = done & step.op(CSRS) & self.writes

        def write(number: int, value: Bits, old: Bits) -> Bits:
            return mux(writing & self.named[number], value, old)

        cause = one_of([(case.when, step.number(case.cause)) for case in traps])
        value = one_of([(case.when, case.value) for case in traps])
        state = {
            "machine_mode": mux(trap, one, mux(returns, before["mpp"], before["machine_mode"])),
            "mie": mux(trap, zero, mux(returns, before["mpie"], write(0x300, new[3], before["mie"]))),
            "mpie": mux(trap, before["mie"], mux(returns, one, write(0x300, new[7], before["mpie"]))),
            "mpp": mux(trap, before["machine_mode"], mux(returns, zero, write(0x300, new[11:13].all(), before["mpp"]))),
            "msie": write(0x304, new[3], before["msie"]),
            "mtie": write(0x304, new[7], before["mtie"]),
            "mtvec": write(0x305, step.aligned(new), self.mtvec),
            "mscratch": write(0x340, new, before["mscratch"]),
            "mepc": mux(trap, step.pc, write(0x341, step.aligned(new), self.mepc)),
            "mcause": mux(trap, cause, write(0x342, new, before["mcause"])),
            "mtval": mux(trap, value, write(0x343, new, before["mtval"])),
        }
        return {f"{name}.next": word for name, word in state.items()}


def _negated(word: Bits, when: Bits) -> Bits:
    """``-word`` where ``when`` is 1, else ``word``."""
    return add_with_carry(word ^ when.repeat(word.width), word.zero(word.width), when)[0]
