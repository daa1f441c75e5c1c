"""Draws an instruction set from a seed: machine, layout, operations and their codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from random_isa.architecture import Architecture, Effects, Operation
from random_isa.layout import Dice, Immediate, Layout, draw_immediate, draw_layout, scatter
from random_isa.terms import constant, join, variable


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name, its codes, the bits that must be 0 or it is illegal, and what it changes.

    ``codes`` are (mask, match) of the instruction word; those of all instructions exclude each other. ``immediate`` is
    the constant of those that have one.
    """

    name: str
    codes: tuple[tuple[int, int], ...]
    reserved: int
    immediate: Immediate | None
    effects: Effects


@dataclass(frozen=True, slots=True)
class Drawn:
    """An instruction set as it was drawn.

    ``rest`` is what an output is where the instruction does not set it, ``illegal`` what it is for an illegal one.
    ``inputs`` and ``outputs`` are widths by name, in the order of the interface.
    """

    text: str
    inputs: dict[str, int]
    outputs: dict[str, int]
    instructions: tuple[Instruction, ...]
    rest: Effects
    illegal: Effects


def draw_operations(machine: Architecture, count: int) -> list[Operation]:
    """``count`` operations, no two of one name and kind, at least one of each important sort."""
    wanted: list[Callable[[], Operation]] = [machine.binary, machine.binary, machine.branch, machine.jump]
    wanted += [machine.load, machine.store] if machine.has_memory else []
    wanted += [machine.flag_branch] if machine.flags else []
    if "old" in machine.extras or "acc" in machine.extras:
        wanted.append(machine.accumulate)
    if "counter" in machine.extras:
        wanted.append(machine.count_down)
    if "mode" in machine.extras:
        wanted += [machine.privileged, machine.enter]
    pool = machine.pool()
    total = sum(weight for weight, _ in pool)
    chosen: dict[tuple[str, str], Operation] = {}
    while len(chosen) < count:
        if wanted:
            operation = wanted.pop(0)()
        else:
            weights = [weight / total for weight, _ in pool]
            operation = pool[int(machine.dice.random.choice(len(pool), p=weights))][1]()
        chosen.setdefault((operation.name, operation.kind), operation)
    return list(chosen.values())


def group(dice: Dice, layout: Layout, operations: list[Operation]) -> list[list[Operation]]:
    """Groups that share an opcode and are told apart by the function field; as many as there are opcodes."""
    slots = 1 << len(layout.function)
    alone = dice.one_of((0.0, 0.3, 0.7))
    while True:
        groups: list[list[Operation]] = []
        for kind in "RISUJ":
            shared: list[Operation] = []
            for operation in operations:
                if operation.kind == kind:
                    if dice.chance(alone):
                        groups.append([operation])
                    else:
                        shared.append(operation)
            groups += [shared[start : start + slots] for start in range(0, len(shared), slots)]
        if len(groups) <= 1 << len(layout.opcode):
            return groups
        if alone == 0:
            operations = operations[:-1]
        alone = 0.0


def give_codes(
    dice: Dice, layout: Layout, machine: Architecture, groups: list[list[Operation]]
) -> tuple[Instruction, ...]:
    """Opcodes for groups, functions for their operations, immediates for their kinds; aliases for codes left over."""
    opcodes = dice.shuffled(range(1 << len(layout.opcode)))
    opcode_mask, function_mask = scatter(-1, layout.opcode), scatter(-1, layout.function)
    checked = machine.illegal != "alias" and dice.chance(0.4)
    spare = [(opcode_mask, scatter(code, layout.opcode)) for code in opcodes[len(groups) :]]
    drawn: list[tuple[Operation, tuple[int, int], int, Immediate]] = []
    for opcode, group in zip(opcodes, groups, strict=False):
        match = scatter(opcode, layout.opcode)
        codes = [(opcode_mask, match)]
        if len(group) > 1:
            functions = dice.shuffled(range(1 << len(layout.function)))
            codes = [(opcode_mask | function_mask, match | scatter(code, layout.function)) for code in functions]
            spare += codes[len(group) :]
        immediates: dict[str, Immediate] = {}
        for code, operation in zip(codes, group, strict=False):
            available = layout.available(operation.kind, len(group) > 1)
            if operation.kind not in immediates or dice.chance(0.2):
                immediates[operation.kind] = draw_immediate(dice, available, min(machine.word, 24), layout.width)
            reserved = scatter(-1, available) if operation.kind == "R" and checked and dice.chance(0.5) else 0
            drawn.append((operation, code, reserved, immediates[operation.kind]))
    owners = [dice.between(0, len(drawn) - 1) for _ in spare] if machine.illegal == "alias" else []
    return tuple(
        Instruction(
            f"{operation.name} {operation.kind}",
            (code, *(other for other, owner in zip(spare, owners, strict=False) if owner == index)),
            reserved,
            immediate if operation.kind != "R" else None,
            operation.make(immediate.value, immediate.is_signed),
        )
        for index, (operation, code, reserved, immediate) in enumerate(drawn)
    )


def draw_words(dice: Dice, layout: Layout, machine: Architecture) -> tuple[dict[str, int], dict[str, int], Effects]:
    """Input and output words in any order, and what the outputs are at rest."""
    word, pc = machine.word, machine.pc_width
    state = {name: 1 if name == "mode" else word for name in machine.extras if name != "old"}
    state |= {"status": len(machine.order)} if machine.packed else dict.fromkeys(machine.order, 1)
    inputs = {"instruction": layout.width, "pc": pc, "rs1": word, "rs2": word, **state}
    inputs |= {"old": word} if "old" in machine.extras else {}
    outputs = {"pc.next": pc, "result": word, "write": 1, **{f"{name}.next": width for name, width in state.items()}}
    if machine.has_memory:
        inputs["load_data"] = word
        outputs |= {"address": word, "load": 1, "store_data": word, "store_mask": machine.lanes}
    if machine.illegal == "trap":
        outputs["trap"] = 1
    rest = {name: constant(0, width) for name, width in outputs.items()}
    rest |= {f"{name}.next": variable(name, width) for name, width in state.items()}
    rest["pc.next"] = machine.pc + machine.step
    if dice.chance(0.5):
        instruction = variable("instruction", layout.width)
        rest["rd"] = join(*(instruction[bit] for bit in layout.destination))
        outputs["rd"] = len(layout.destination)
    in_order = [{name: words[name] for name in dice.shuffled(list(words))} for words in (inputs, outputs)]
    return in_order[0], in_order[1], rest


def draw(seed: int) -> Drawn:
    """The instruction set of a seed."""
    dice = Dice(seed)
    layout = draw_layout(dice)
    machine = Architecture(dice)
    operations = draw_operations(machine, dice.between(8, 40))
    groups = group(dice, layout, operations)
    instructions = give_codes(dice, layout, machine, groups)
    inputs, outputs, rest = draw_words(dice, layout, machine)
    illegal = {name: rest[name] if name != "pc.next" else machine.pc for name in rest}
    if machine.illegal == "trap":
        illegal["trap"] = constant(1, 1)
        if dice.chance(0.5):
            illegal["pc.next"] = constant(dice.between(0, 63) * 16, machine.pc_width)
    return Drawn(describe(layout, machine, instructions), inputs, outputs, instructions, rest, illegal)


def pattern(width: int, mask: int, match: int) -> str:
    """A code as text, the most significant bit first, a dot for a bit that is free."""
    return "".join(str(match >> bit & 1) if mask >> bit & 1 else "." for bit in reversed(range(width)))


def describe(layout: Layout, machine: Architecture, instructions: tuple[Instruction, ...]) -> str:
    """The instruction set in words, for a person."""
    fields = {"opcode": layout.opcode, "function": layout.function, "rd": layout.destination}
    fields |= {"rs1": layout.first, "rs2": layout.second, "free": layout.free}
    reserved = sum(instruction.reserved != 0 for instruction in instructions)
    lines = [
        f"{layout.width}-bit instructions, {machine.word}-bit words, {machine.pc_width}-bit pc",
        f"illegal: {machine.illegal}; reserved bits checked by {reserved} of {len(instructions)} instructions",
        f"flags: {' '.join(machine.order) or 'none'}{' in one word' * machine.packed}",
        *(f"{name}: bits {' '.join(map(str, bits))}" for name, bits in fields.items()),
        *(
            f"{' or '.join(pattern(layout.width, *code) for code in instruction.codes)}  {instruction.name}"
            for instruction in instructions
        ),
    ]
    return "\n".join(lines)
