"""The machine of a random instruction set: its words, and the operations that it offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from random_isa.layout import Dice
from random_isa.operations import BINARY, CONDITIONS, UNARY, WIDE_UNARY
from random_isa.terms import Term, constant, join, variable

Effects = dict[str, Term]
"""What an instruction sets, by output word; all others rest."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Drawn, not yet encoded. ``make`` gets the immediate as drawn for its kind, and whether that has a sign."""

    name: str
    kind: str
    make: Callable[[Term, bool], Effects]


class Architecture:
    """The words of the machine and the operations that it offers."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.word = dice.one_of((8, 12, 16, 24, 32))
        self.pc_width = dice.one_of(tuple(width for width in (10, 12, 16, 24, 32) if width >= min(self.word, 16)))
        self.step = dice.one_of((1, 2, 4))
        self.has_memory = dice.chance(0.85)
        self.flags = dice.one_of(((), (), ("zero", "carry"), ("zero", "carry", "negative", "overflow")))
        self.packed = bool(self.flags) and dice.chance(0.5)
        self.order = dice.shuffled(self.flags)
        self.borrow_is_carry = dice.chance(0.5)
        self.extras = [name for name in ("old", "acc", "counter", "mode") if dice.chance(0.35)]
        self.illegal = dice.one_of(("hold", "trap", "alias"))
        self.lanes = self.word // 8 if self.word % 8 == 0 else 1
        self.byte_address = self.lanes > 1
        self.a, self.b = variable("rs1", self.word), variable("rs2", self.word)
        self.old, self.acc, self.counter = (variable(name, self.word) for name in ("old", "acc", "counter"))
        self.pc, self.mode = variable("pc", self.pc_width), variable("mode", 1)
        self.load_data = variable("load_data", self.word)

    def flag(self, name: str) -> Term:
        if self.packed:
            return variable("status", len(self.order))[self.order.index(name)]
        return variable(name, 1)

    def set_flags(self, values: Effects) -> Effects:
        """Effects of setting some of the flags."""
        if not self.packed:
            return {f"{name}.next": values[name] for name in self.flags if name in values}
        return {"status.next": join(*(values.get(name, self.flag(name)) for name in self.order))}

    # Kinds: R reads two registers, I one and a constant, S two and a constant (no destination), U and J a constant.

    def result(self, value: Term) -> Effects:
        return {"result": value, "write": constant(1, 1)}

    def second(self, kind: str, immediate: Term, is_signed: bool) -> Term:
        return self.b if kind == "R" else immediate.extend(self.word, is_signed)

    def binary(self) -> Operation:
        name, kind = self.dice.one_of(sorted(BINARY)), self.dice.one_of("RRI")
        operation, flagged = BINARY[name], bool(self.flags) and self.dice.chance(0.5)

        def make(immediate: Term, is_signed: bool) -> Effects:
            b = self.second(kind, immediate, is_signed)
            value = operation(self.a, b)
            return self.result(value) | (self.set_flags(self.flag_values(name, self.a, b, value)) if flagged else {})

        return Operation(name + ("f" if flagged else ""), kind, make)

    def flag_values(self, name: str, a: Term, b: Term, value: Term) -> Effects:
        top = self.word - 1
        values = {"zero": value.eq(0), "negative": value[top]}
        if name == "add":
            values |= {"carry": value.ult(a), "overflow": ((a ^ value) & (b ^ value))[top]}
        if name == "sub":
            borrow = a.ult(b)
            values |= {"carry": borrow if self.borrow_is_carry else ~borrow, "overflow": ((a ^ b) & (a ^ value))[top]}
        return values

    def with_carry(self) -> Operation:
        """Add with carry or subtract with borrow."""
        kind, subtracts = self.dice.one_of("RI"), self.dice.chance(0.5)

        def make(immediate: Term, is_signed: bool) -> Effects:
            b = self.second(kind, immediate, is_signed)
            carry = self.flag("carry")
            if subtracts and not self.borrow_is_carry:
                carry = ~carry
            a, other = self.a.extend(self.word + 1), b.extend(self.word + 1)
            total = a - other - carry.extend(self.word + 1) if subtracts else a + other + carry.extend(self.word + 1)
            value, out = total[: self.word], total[self.word]
            flags = {"zero": value.eq(0), "carry": ~out if subtracts and not self.borrow_is_carry else out}
            return self.result(value) | self.set_flags(flags)

        return Operation("sbc" if subtracts else "adc", kind, make)

    def compare(self) -> Operation:
        """Sets the flags of a subtraction and nothing else."""
        kind = self.dice.one_of("RI")

        def make(immediate: Term, is_signed: bool) -> Effects:
            b = self.second(kind, immediate, is_signed)
            return self.set_flags(self.flag_values("sub", self.a, b, self.a - b))

        return Operation("cmp", kind, make)

    def unary(self) -> Operation:
        pool = UNARY | (WIDE_UNARY if self.word > 8 and self.word % 8 == 0 else {})
        name = self.dice.one_of(sorted(pool))
        return Operation(name, "R", lambda immediate, is_signed: self.result(pool[name](self.a)))

    def constant(self) -> Operation:
        how = self.dice.one_of(("low", "high", "pc"))

        def make(immediate: Term, is_signed: bool) -> Effects:
            value = immediate.extend(self.word, is_signed)
            if how == "high" and immediate.width < self.word:
                value = join(constant(0, self.word - immediate.width), immediate)
            if how == "pc":
                value = self.pc.extend(self.word) + value
            return self.result(value)

        return Operation({"low": "li", "high": "lui", "pc": "lpc"}[how], "U", make)

    def accumulate(self) -> Operation:
        name = self.dice.one_of(("add", "sub", "xor", "maxu", "adds"))
        target = self.dice.one_of([extra for extra in self.extras if extra in ("old", "acc")])
        kind = self.dice.one_of("RI")

        def make(immediate: Term, is_signed: bool) -> Effects:
            product = BINARY["and" if self.word == 12 else "add"](self.a, self.second(kind, immediate, is_signed))
            if target == "old":
                return self.result(BINARY[name](self.old, product))
            return {"acc.next": BINARY[name](self.acc, product)}

        return Operation(f"{name}.{target}", kind, make)

    def move_if(self) -> Operation:
        name, write = self.dice.one_of(sorted(CONDITIONS)), constant(1, 1)

        def make(immediate: Term, is_signed: bool) -> Effects:
            holds = CONDITIONS[name](self.a, self.b)
            if "old" in self.extras:
                return self.result(holds.where(self.a, self.old))
            return {"result": holds.where(self.a, 0), "write": holds & write}

        return Operation(f"mov.{name}", "R", make)

    def address(self, indexed: bool, immediate: Term, is_signed: bool) -> Term:
        return self.a + (self.b if indexed else immediate.extend(self.word, is_signed))

    def lane(self, address: Term) -> Term:
        return address[: (self.lanes - 1).bit_length()]

    def aligned(self, address: Term) -> Term:
        low = (self.lanes - 1).bit_length()
        return join(constant(0, low), address[low:]) if low else address

    def load(self) -> Operation:
        indexed = self.dice.chance(0.25)
        size = self.dice.one_of([size for size in (1, 2, self.lanes) if size <= self.lanes])
        is_signed_load, back = self.dice.chance(0.5), self.dice.chance(0.15)

        def make(immediate: Term, is_signed: bool) -> Effects:
            address = self.address(indexed, immediate, is_signed)
            value = self.load_data
            if size < self.lanes:
                lane = self.lane(address)
                by = join(constant(0, 3), lane if size == 1 else join(constant(0, 1), lane[1:]))
                value = value.shr(by)[: 8 * size].extend(self.word, is_signed_load)
            effects = self.result(value) | {"address": self.aligned(address), "load": constant(1, 1)}
            return effects | ({"acc.next": address} if back and "acc" in self.extras else {})

        return Operation(
            f"l{8 * size if self.lanes > 1 else ''}" + "u" * (not is_signed_load), "R" if indexed else "I", make
        )

    def store(self) -> Operation:
        size = self.dice.one_of([size for size in (1, 2, self.lanes) if size <= self.lanes])
        back = self.dice.chance(0.25)

        def make(immediate: Term, is_signed: bool) -> Effects:
            address = self.address(False, immediate, is_signed)
            data, lanes = self.b, constant((1 << size) - 1, self.lanes)
            if size < self.lanes:
                lane = self.lane(address)
                lane = lane if size == 1 else join(constant(0, 1), lane[1:])
                data = data[: 8 * size].extend(self.word).shl(join(constant(0, 3), lane))
                lanes = lanes.shl(lane)
            effects = {"address": self.aligned(address), "store_data": data, "store_mask": lanes}
            return effects | (self.result(address) if back else {})

        return Operation(f"s{8 * size if self.lanes > 1 else ''}" + ".back" * back, "S", make)

    def read_modify(self) -> Operation:
        name = self.dice.one_of(("add", "and", "or", "xor", "minu", "max", "swap"))

        def make(immediate: Term, is_signed: bool) -> Effects:
            value = self.b if name == "swap" else BINARY[name](self.load_data, self.b)
            everywhere = constant(-1, self.lanes)
            access = {
                "address": self.aligned(self.a),
                "load": constant(1, 1),
                "store_data": value,
                "store_mask": everywhere,
            }
            return self.result(self.load_data) | access

        return Operation(f"amo.{name}", "R", make)

    def target(self, immediate: Term, is_signed: bool, scale: int, after: bool) -> Term:
        offset = join(constant(0, scale), immediate) if scale else immediate
        base = self.pc + self.step if after else self.pc
        return base + offset.extend(self.pc_width, is_signed)

    def branch(self) -> Operation:
        name, scale, after = self.dice.one_of(sorted(CONDITIONS)), self.dice.between(0, 2), self.dice.chance(0.5)

        def make(immediate: Term, is_signed: bool) -> Effects:
            taken = CONDITIONS[name](self.a, self.b)
            return {"pc.next": taken.where(self.target(immediate, is_signed, scale, after), self.pc + self.step)}

        return Operation(f"b.{name}", "S", make)

    def flag_branch(self) -> Operation:
        flag, negated = self.dice.one_of(self.order), self.dice.chance(0.5)
        both, scale = self.dice.chance(0.3), self.dice.between(0, 2)

        def make(immediate: Term, is_signed: bool) -> Effects:
            condition = self.flag(flag)
            if both:
                condition = condition | self.flag(self.order[0])
            condition = ~condition if negated else condition
            return {"pc.next": condition.where(self.target(immediate, is_signed, scale, True), self.pc + self.step)}

        return Operation(f"b.{'not.' * negated}{flag}", "J", make)

    def jump(self) -> Operation:
        links, absolute, scale = self.dice.chance(0.5), self.dice.chance(0.3), self.dice.between(0, 2)

        def make(immediate: Term, is_signed: bool) -> Effects:
            target = self.target(immediate, is_signed, scale, False)
            if absolute:
                target = immediate.extend(self.pc_width)
            return {"pc.next": target} | (self.result((self.pc + self.step).extend(self.word)) if links else {})

        return Operation("jal" if links else "j", "U" if links else "J", make)

    def register_jump(self) -> Operation:
        links, clears = self.dice.chance(0.5), self.dice.between(0, 2)

        def make(immediate: Term, is_signed: bool) -> Effects:
            target = (self.a + immediate.extend(self.word, is_signed)).extend(self.pc_width)
            target = join(constant(0, clears), target[clears:]) if clears else target
            return {"pc.next": target} | (self.result((self.pc + self.step).extend(self.word)) if links else {})

        return Operation("jalr" if links else "jr", "I", make)

    def count_down(self) -> Operation:
        def make(immediate: Term, is_signed: bool) -> Effects:
            after = self.counter - 1
            taken = ~after.eq(0)
            target = self.target(immediate, is_signed, 0, True)
            return {"counter.next": after, "pc.next": taken.where(target, self.pc + self.step)}

        return Operation("loop", "J", make)

    def move_state(self) -> Operation:
        name = self.dice.one_of([extra for extra in self.extras if extra in ("acc", "counter")])
        reads = self.dice.chance(0.5)
        word = variable(name, self.word)
        effects = self.result(word) if reads else {f"{name}.next": self.a}
        return Operation(f"{'get' if reads else 'set'}.{name}", "R", lambda immediate, is_signed: effects)

    def privileged(self) -> Operation:
        """Leaves the mode; in mode 0 it does nothing."""

        def make(immediate: Term, is_signed: bool) -> Effects:
            target = self.a.extend(self.pc_width)
            return {"mode.next": constant(0, 1), "pc.next": self.mode.where(target, self.pc + self.step)}

        return Operation("leave", "R", make)

    def enter(self) -> Operation:
        vector = self.dice.between(0, 255)

        def make(immediate: Term, is_signed: bool) -> Effects:
            return {"mode.next": constant(1, 1), "pc.next": constant(vector * 4, self.pc_width)} | self.result(
                self.pc.extend(self.word)
            )

        return Operation("enter", "U", make)

    def pool(self) -> list[tuple[float, Callable[[], Operation]]]:
        """Kinds of operations that this machine can have, and how often they are drawn."""
        pool: list[tuple[float, Callable[[], Operation]]] = [
            (8, self.binary), (3, self.unary), (1.5, self.constant), (1.5, self.move_if), (3, self.branch),
            (1, self.jump), (0.8, self.register_jump),
        ]  # fmt: skip
        if self.has_memory:
            pool += [(2.5, self.load), (2.5, self.store), (0.8, self.read_modify)]
        if self.flags:
            pool += [(1.5, self.with_carry), (1, self.compare), (2, self.flag_branch)]
        if "old" in self.extras or "acc" in self.extras:
            pool.append((1.5, self.accumulate))
        if "counter" in self.extras:
            pool.append((0.7, self.count_down))
        if "acc" in self.extras or "counter" in self.extras:
            pool.append((1.2, self.move_state))
        if "mode" in self.extras:
            pool += [(0.4, self.privileged), (0.4, self.enter)]
        return pool
