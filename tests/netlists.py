"""Circuits for tests and measurements: the same functions in differing architectures, and random netlists."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import Interface, Rows, parse_interface, row_words

Bits = list[int]
Step = Callable[[int, object, int], object]


def random_rows(interface: Interface, count: int, seed: int = 0) -> Rows:
    """Uniform input rows, padding zero."""
    bits = interface.input_bits
    rows = np.random.default_rng(seed).integers(0, 1 << 64, (count, row_words(bits)), np.uint64, endpoint=False)
    if bits % 64:
        rows[:, -1] &= np.uint64((1 << bits % 64) - 1)
    return rows


def random_netlist(
    seed: int, inputs: Sequence[int] = (3, 5), outputs: Sequence[int] = (2, 4), nodes: int = 40
) -> Netlist:
    """A netlist of random gates over input words of the given widths; outputs are late gates, inputs and constants."""
    rng = random.Random(seed)
    ins = " ".join(f"i{n}:{width}" for n, width in enumerate(inputs))
    outs = " ".join(f"o{n}:{width}" for n, width in enumerate(outputs))
    builder = Builder(parse_interface(f"{ins} -> {outs}"))
    literals = [FALSE, *(lit for n in range(len(inputs)) for lit in builder.input(f"i{n}"))]
    for _ in range(nodes):
        a, b, c = (rng.choice(literals) ^ rng.getrandbits(1) for _ in range(3))
        literals.append(rng.choice((builder.and_(a, b), builder.xor(a, b), builder.mux(a, b, c))))
    late = literals[-max(4, nodes // 2) :] + literals[:2]
    return builder.finish(
        {f"o{n}": [rng.choice(late) ^ rng.getrandbits(1) for _ in range(width)] for n, width in enumerate(outputs)}
    )


def full_adder(b: Builder, x: int, y: int, c: int) -> tuple[int, int]:
    half = b.xor(x, y)
    return b.xor(half, c), b.or_(b.and_(x, y), b.and_(half, c))


def ripple_add(b: Builder, x: Bits, y: Bits, carry: int = FALSE) -> tuple[Bits, int]:
    total: Bits = []
    for xi, yi in zip(x, y, strict=True):
        bit, carry = full_adder(b, xi, yi, carry)
        total.append(bit)
    return total, carry


def select_add(b: Builder, x: Bits, y: Bits, carry: int = FALSE, block: int = 4) -> tuple[Bits, int]:
    """Carry-select: both sums of each block, chosen by its carry."""
    total: Bits = []
    for at in range(0, len(x), block):
        zero, carry0 = ripple_add(b, x[at : at + block], y[at : at + block], FALSE)
        one, carry1 = ripple_add(b, x[at : at + block], y[at : at + block], TRUE)
        total += [b.mux(carry, t, f) for t, f in zip(one, zero, strict=True)]
        carry = b.mux(carry, carry1, carry0)
    return total, carry


def prefix_add(b: Builder, x: Bits, y: Bits, carry: int = FALSE) -> tuple[Bits, int]:
    """Kogge-Stone: generate and propagate over spans that double."""
    generate = [b.and_(xi, yi) for xi, yi in zip(x, y, strict=True)]
    propagate = [b.xor(xi, yi) for xi, yi in zip(x, y, strict=True)]
    half = list(propagate)
    generate[0] = b.or_(generate[0], b.and_(propagate[0], carry))
    step = 1
    while step < len(x):
        for i in range(len(x) - 1, step - 1, -1):
            generate[i] = b.or_(generate[i], b.and_(propagate[i], generate[i - step]))
            propagate[i] = b.and_(propagate[i], propagate[i - step])
        step *= 2
    return [b.xor(half[i], generate[i - 1] if i else carry) for i in range(len(x))], generate[-1]


def barrel_shift(b: Builder, x: Bits, amount: Bits, right: bool, fill: int = FALSE) -> Bits:
    for stage, select in enumerate(amount):
        by = 1 << stage
        moved = [*x[by:], *[fill] * by] if right else [*[fill] * by, *x[:-by]]
        x = [b.mux(select, m, k) for m, k in zip(moved, x, strict=True)]
    return x


def tree_shift(b: Builder, x: Bits, amount: Bits, right: bool, fill: int = FALSE) -> Bits:
    """A multiplexer tree for each bit, the most significant select bit first."""
    width = len(x)

    def pick(i: int, stage: int, by: int) -> int:
        if stage < 0:
            at = i + by if right else i - by
            return x[at] if 0 <= at < width else fill
        return b.mux(amount[stage], pick(i, stage - 1, by + (1 << stage)), pick(i, stage - 1, by))

    return [pick(i, len(amount) - 1, 0) for i in range(width)]


def reverse_shift(b: Builder, x: Bits, amount: Bits, right: int, fill: int) -> Bits:
    """One right shifter for both directions: the operand and the result are mirrored for a left shift."""
    operand = [b.mux(right, i, j) for i, j in zip(x, reversed(x), strict=True)]
    moved = barrel_shift(b, operand, amount, True, b.and_(right, fill))
    return [b.mux(right, i, j) for i, j in zip(moved, reversed(moved), strict=True)]


def less_ripple(b: Builder, x: Bits, y: Bits) -> int:
    """Unsigned ``x < y`` from the least significant bit up."""
    less = FALSE
    for xi, yi in zip(x, y, strict=True):
        less = b.mux(b.xor(xi, yi), yi, less)
    return less


def equal(b: Builder, x: Bits, y: Bits) -> int:
    same = TRUE
    for xi, yi in zip(x, y, strict=True):
        same = b.and_(same, b.xor(xi, yi) ^ 1)
    return same


def equal_tree(b: Builder, x: Bits, y: Bits) -> int:
    terms = [b.xor(xi, yi) ^ 1 for xi, yi in zip(x, y, strict=True)]
    while len(terms) > 1:
        terms = [b.and_(*terms[i : i + 2]) if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


def where(b: Builder, select: int, then: Bits, other: Bits) -> Bits:
    return [b.mux(select, t, o) for t, o in zip(then, other, strict=True)]


def matches(b: Builder, word: Bits, value: int) -> int:
    return equal(b, word, constant(value, len(word)))


def constant(value: int, width: int) -> Bits:
    return [TRUE if value >> i & 1 else FALSE for i in range(width)]


def diagram(b: Builder, order: Bits, step: Step, start: object) -> int:
    """A multiplexer for each node of a decision diagram: ``step(level, state, bit)`` is the next state, at the end a
    bool."""
    made: dict[tuple[int, object], int] = {}

    def node(level: int, state: object) -> int:
        if level == len(order):
            return TRUE if state else FALSE
        if (level, state) not in made:
            made[level, state] = b.mux(
                order[level], node(level + 1, step(level, state, 1)), node(level + 1, step(level, state, 0))
            )
        return made[level, state]

    return node(0, start)


def diagram_add(b: Builder, x: Bits, y: Bits, carry: int = FALSE) -> tuple[Bits, int]:
    """Each sum bit and the carry as a diagram of its own, the most significant bit first or last by turns."""

    def bit(i: int, up: bool, carry_out: bool) -> int:
        order = [lit for pair in zip(x[: i + 1], y[: i + 1], strict=True) for lit in pair]
        if up:

            def step(level: int, state: object, value: int) -> object:
                carried, held = state if level else (0, 0)  # type: ignore[misc]
                if level % 2 == 0:
                    return carried, value
                total = carried + held + value
                if level == len(order) - 1:
                    return bool(total >> 1 if carry_out else total & 1)
                return total >> 1, 0

            return diagram(b, order, step, (0, 0))

        def down(level: int, state: object, value: int) -> object:
            # state: the result if the carry from below is 0, if it is 1
            zero, one, held = state  # type: ignore[misc]
            if level % 2 == 0:
                return zero, one, value
            total = held + value
            if level == 1:
                zero, one = (total >> 1, total + 1 >> 1) if carry_out else (total & 1, ~total & 1)
            else:
                zero, one = (one, one) if total == 2 else (zero, zero) if total == 0 else (zero, one)
            return bool(zero) if level == len(order) - 1 else (zero, one, 0)

        return diagram(b, order_down(order), down, (0, 1, 0))

    if carry != FALSE:
        raise ValueError("diagram_add takes no carry")
    return [bit(i, i % 2 == 0, False) for i in range(len(x))], bit(len(x) - 1, True, True)


def order_down(order: Bits) -> Bits:
    pairs = [order[i : i + 2] for i in range(0, len(order), 2)]
    return [lit for pair in reversed(pairs) for lit in pair]
