"""A 32-bit processor step in two styles that share no structure: what equivalence checks are measured on.

Not the real step (docs/processor.md): its words are cut down to the instruction, two register values and the load.
"""

from __future__ import annotations

from netlists import (
    Bits,
    barrel_shift,
    constant,
    diagram_add,
    equal,
    equal_tree,
    less_ripple,
    matches,
    prefix_add,
    reverse_shift,
    ripple_add,
    select_add,
    tree_shift,
    where,
)
from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import parse_interface

STEP = parse_interface(
    "instruction:32 pc:32 rs1:32 rs2:32 load_data:32 reservation:32 reserved"
    " -> pc_next:32 rd:32 address:32 store_data:32 store_mask:4 load trap"
)

LUI, AUIPC, JAL, JALR, BRANCH, LOAD, STORE, OP_IMM, OP, AMO = 0x37, 0x17, 0x6F, 0x67, 0x63, 0x03, 0x23, 0x13, 0x33, 0x2F


def invert(x: Bits) -> Bits:
    return [bit ^ 1 for bit in x]


def mask(b: Builder, select: int, x: Bits) -> Bits:
    return [b.and_(select, bit) for bit in x]


def union(b: Builder, *terms: Bits) -> Bits:
    out = [FALSE] * len(terms[0])
    for term in terms:
        out = [b.or_(x, y) for x, y in zip(out, term, strict=True)]
    return out


class _Fields:
    def __init__(self, b: Builder) -> None:
        i = b.input("instruction")
        self.opcode, self.f3, self.f7 = i[:7], i[12:15], i[25:]
        sign = i[31]
        self.imm_i = [*i[20:31], *[sign] * 21]
        self.imm_s = [*i[7:12], *i[25:31], *[sign] * 21]
        self.imm_b = [FALSE, *i[8:12], *i[25:31], i[7], *[sign] * 20]
        self.imm_u = [*[FALSE] * 12, *i[12:]]
        self.imm_j = [FALSE, *i[21:31], i[20], *i[12:20], *[sign] * 12]


def step_apart(wide: bool = False) -> Netlist:
    """A unit for each instruction, results chosen by a chain of multiplexers. ``wide``: adders as decision diagrams."""
    b = Builder(STEP)
    f = _Fields(b)
    pc, rs1, rs2, data = (b.input(name) for name in ("pc", "rs1", "rs2", "load_data"))
    pc = [FALSE, FALSE, *pc[2:]]
    add = diagram_add if wide else ripple_add

    def plus(x: Bits, y: Bits) -> Bits:
        return add(b, x, y)[0]

    def minus(x: Bits, y: Bits) -> Bits:
        return ripple_add(b, x, invert(y), TRUE)[0]

    def signed_less(x: Bits, y: Bits) -> int:
        return less_ripple(b, [*x[:31], x[31] ^ 1], [*y[:31], y[31] ^ 1])

    def bit(value: int) -> Bits:
        return [value, *[FALSE] * 31]

    def alu(x: Bits, y: Bits, immediate: bool) -> tuple[Bits, int]:
        f7 = f.f7
        zero7, alt7 = matches(b, f7, 0), matches(b, f7, 0x20)
        cases = [
            (0, None if immediate else zero7, plus(x, y)),
            (1, zero7, barrel_shift(b, x, y[:5], False)),
            (2, None if immediate else zero7, bit(signed_less(x, y))),
            (3, None if immediate else zero7, bit(less_ripple(b, x, y))),
            (4, None if immediate else zero7, [b.xor(p, q) for p, q in zip(x, y, strict=True)]),
            (5, zero7, barrel_shift(b, x, y[:5], True)),
            (5, alt7, barrel_shift(b, x, y[:5], True, x[31])),
            (6, None if immediate else zero7, [b.or_(p, q) for p, q in zip(x, y, strict=True)]),
            (7, None if immediate else zero7, [b.and_(p, q) for p, q in zip(x, y, strict=True)]),
        ]
        if not immediate:
            cases.append((0, alt7, minus(x, y)))
        result, legal = constant(0, 32), FALSE
        for code, condition, value in cases:
            hit = matches(b, f.f3, code)
            hit = hit if condition is None else b.and_(hit, condition)
            result = where(b, hit, value, result)
            legal = b.mux(hit, TRUE, legal)
        return result, legal

    four = constant(4, 32)
    sequential = plus(pc, four)
    nothing = constant(0, 32)

    def load(at: Bits) -> tuple[Bits, int, int]:
        result, legal, aligned = nothing, FALSE, TRUE
        for code in (0, 1, 2, 4, 5):
            size = 8 << (code & 3)
            value = nothing
            for lane in range(0, 32, size):
                part = data[lane : lane + size]
                fill = FALSE if code & 4 else part[-1]
                value = where(b, matches(b, at[:2], lane // 8), [*part, *[fill] * (32 - size)], value)
            hit = matches(b, f.f3, code)
            result = where(b, hit, value, result)
            legal = b.or_(legal, hit)
            bad = FALSE if size == 8 else at[0] if size == 16 else b.or_(at[0], at[1])
            aligned = b.mux(hit, bad ^ 1, aligned)
        return result, legal, aligned

    def store(at: Bits) -> tuple[Bits, Bits, int, int]:
        result, lanes, legal, aligned = nothing, constant(0, 4), FALSE, TRUE
        for code in (0, 1, 2):
            size = 8 << code
            value, chosen = nothing, constant(0, 4)
            for lane in range(0, 32, size):
                hit = matches(b, at[:2], lane // 8)
                value = where(b, hit, [*[FALSE] * lane, *rs2[:size], *[FALSE] * (32 - lane - size)], value)
                chosen = where(b, hit, constant(((1 << size // 8) - 1) << lane // 8, 4), chosen)
            hit = matches(b, f.f3, code)
            result, lanes = where(b, hit, value, result), where(b, hit, chosen, lanes)
            legal = b.or_(legal, hit)
            bad = FALSE if size == 8 else at[0] if size == 16 else b.or_(at[0], at[1])
            aligned = b.mux(hit, bad ^ 1, aligned)
        return result, lanes, legal, aligned

    out = {
        "pc_next": sequential,
        "rd": nothing,
        "address": nothing,
        "store_data": nothing,
        "store_mask": constant(0, 4),
        "load": [FALSE],
        "trap": [TRUE],
    }

    def on(code: int, legal: int, **values: Bits) -> None:
        hit = b.and_(matches(b, f.opcode, code), legal)
        for name, value in {**values, "trap": [FALSE]}.items():
            out[name] = where(b, hit, value, out[name])

    on(LUI, TRUE, rd=f.imm_u)
    on(AUIPC, TRUE, rd=plus(pc, f.imm_u))
    target = plus(pc, f.imm_j)
    on(JAL, target[1] ^ 1, rd=sequential, pc_next=target)
    target = plus(rs1, f.imm_i)
    on(JALR, b.and_(matches(b, f.f3, 0), target[1] ^ 1), rd=sequential, pc_next=[FALSE, *target[1:]])
    taken, legal = FALSE, FALSE
    for code, value in (
        (0, equal(b, rs1, rs2)),
        (1, equal(b, rs1, rs2) ^ 1),
        (4, signed_less(rs1, rs2)),
        (5, signed_less(rs1, rs2) ^ 1),
        (6, less_ripple(b, rs1, rs2)),
        (7, less_ripple(b, rs1, rs2) ^ 1),
    ):
        hit = matches(b, f.f3, code)
        taken, legal = b.mux(hit, value, taken), b.or_(legal, hit)
    target = plus(pc, f.imm_b)
    on(BRANCH, b.and_(legal, b.and_(taken, target[1]) ^ 1), pc_next=where(b, taken, target, sequential))
    at = plus(rs1, f.imm_i)
    value, legal, aligned = load(at)
    on(LOAD, b.and_(legal, aligned), rd=value, address=[FALSE, FALSE, *at[2:]], load=[TRUE])
    at = plus(rs1, f.imm_s)
    value, lanes, legal, aligned = store(at)
    on(STORE, b.and_(legal, aligned), address=[FALSE, FALSE, *at[2:]], store_data=value, store_mask=lanes)
    value, legal = alu(rs1, f.imm_i, True)
    on(OP_IMM, legal, rd=value)
    value, legal = alu(rs1, rs2, False)
    on(OP, legal, rd=value)

    word = b.and_(matches(b, f.f3, 2), b.or_(rs1[0], rs1[1]) ^ 1)
    less, below = signed_less(data, rs2), less_ripple(b, data, rs2)
    atomic = {
        0x00: plus(data, rs2),
        0x01: rs2,
        0x04: [b.xor(p, q) for p, q in zip(data, rs2, strict=True)],
        0x0C: [b.and_(p, q) for p, q in zip(data, rs2, strict=True)],
        0x08: [b.or_(p, q) for p, q in zip(data, rs2, strict=True)],
        0x10: where(b, less, data, rs2),
        0x14: where(b, less, rs2, data),
        0x18: where(b, below, data, rs2),
        0x1C: where(b, below, rs2, data),
    }
    everything = constant(15, 4)
    for code, value in atomic.items():
        hit = b.and_(matches(b, f.f7[2:], code), word)
        on(AMO, hit, rd=data, address=rs1, load=[TRUE], store_data=value, store_mask=everything)
    hit = b.and_(b.and_(matches(b, f.f7[2:], 2), word), matches(b, b.input("instruction")[20:25], 0))
    on(AMO, hit, rd=data, address=rs1, load=[TRUE])
    held = b.and_(b.input("reserved")[0], equal(b, b.input("reservation"), rs1))
    hit = b.and_(matches(b, f.f7[2:], 3), word)
    on(
        AMO,
        hit,
        rd=bit(held ^ 1),
        address=where(b, held, rs1, nothing),
        store_data=where(b, held, rs2, nothing),
        store_mask=mask(b, held, everything),
    )
    return b.finish(out)


def step_shared() -> Netlist:
    """One adder, one comparator, one shifter with chosen operands; results are ORed together."""
    b = Builder(STEP)
    f = _Fields(b)
    pc, rs1, rs2, data = (b.input(name) for name in ("pc", "rs1", "rs2", "load_data"))
    pc = [FALSE, FALSE, *pc[2:]]
    op = {code: equal_tree(b, f.opcode, constant(code, 7)) for code in (LUI, AUIPC, JAL, JALR, BRANCH)}
    op |= {code: equal_tree(b, f.opcode, constant(code, 7)) for code in (LOAD, STORE, OP_IMM, OP, AMO)}
    f3 = [equal_tree(b, f.f3, constant(code, 3)) for code in range(8)]
    f5 = {code: equal_tree(b, f.f7[2:], constant(code, 5)) for code in (0, 1, 2, 3, 4, 8, 12, 16, 20, 24, 28)}
    zero7, alt7 = equal_tree(b, f.f7, constant(0, 7)), equal_tree(b, f.f7, constant(0x20, 7))
    register = b.or_(op[OP], op[AMO])
    arithmetic = b.or_(op[OP], op[OP_IMM])

    second = where(b, op[OP], rs2, f.imm_i)
    subtract = b.and_(op[OP], f.f7[5])
    base = union(b, mask(b, b.or_(op[AUIPC], b.or_(op[JAL], op[BRANCH])), pc), mask(b, op[AMO], data))
    base = union(b, base, mask(b, b.or_(b.or_(op[LOAD], op[STORE]), b.or_(arithmetic, op[JALR])), rs1))
    offset = union(
        b,
        mask(b, op[AUIPC], f.imm_u),
        mask(b, op[JAL], f.imm_j),
        mask(b, op[BRANCH], f.imm_b),
        mask(b, op[STORE], f.imm_s),
        mask(b, b.or_(op[LOAD], b.or_(op[OP_IMM], op[JALR])), f.imm_i),
        mask(b, register, [b.xor(bit, subtract) for bit in rs2]),
    )
    total, _ = prefix_add(b, base, offset, subtract)
    sequential, _ = select_add(b, pc, constant(4, 32))

    left = where(b, op[AMO], data, rs1)
    right = where(b, b.or_(register, op[BRANCH]), rs2, f.imm_i)
    unsigned = b.mux(op[AMO], f.f7[5], b.mux(op[BRANCH], f.f3[1], f.f3[0]))
    _, borrow = select_add(b, left, invert(right), TRUE, 8)
    below = borrow ^ 1
    less = b.mux(unsigned, below, b.mux(b.xor(left[31], right[31]), left[31], below))
    same = equal_tree(b, rs1, rs2)

    shifted = reverse_shift(b, rs1, second[:5], f.f3[2], b.and_(f.f7[5], rs1[31]))
    bits = [
        union(
            b,
            mask(b, f3[4], [b.xor(p, q) for p, q in zip(rs1, second, strict=True)]),
            mask(b, f3[6], [b.or_(p, q) for p, q in zip(rs1, second, strict=True)]),
            mask(b, f3[7], [b.and_(p, q) for p, q in zip(rs1, second, strict=True)]),
            mask(b, b.or_(f3[1], f3[5]), shifted),
            mask(b, f3[0], total),
            [b.and_(b.or_(f3[2], f3[3]), less), *[FALSE] * 31],
        )
    ][0]
    shift_legal = b.or_(b.and_(f3[1], zero7), b.and_(f3[5], b.or_(zero7, alt7)))
    plain = b.or_(f3[1], f3[5]) ^ 1
    imm_legal = b.or_(plain, shift_legal)
    op_legal = b.or_(b.or_(b.and_(plain, zero7), shift_legal), b.and_(f3[0], alt7))

    # Memory: shift the word down to its lane, then extend.
    access_byte, access_half, access_word = f.f3[1] ^ 1 and b.and_(f.f3[0] ^ 1, f.f3[1] ^ 1), f.f3[0], f.f3[1]
    low = tree_shift(b, data, [FALSE, FALSE, FALSE, *total[:2]], True)
    sign = b.and_(f.f3[2] ^ 1, b.mux(access_half, low[15], low[7]))
    loaded = where(b, access_word, data, [*low[:8], *where(b, access_half, low[8:16], [sign] * 8), *[sign] * 16])
    load_ok = b.or_(b.or_(f3[0], f3[4]), b.or_(b.and_(b.or_(f3[1], f3[5]), total[0] ^ 1), FALSE))
    whole = b.and_(f3[2], b.and_(total[0] ^ 1, total[1] ^ 1))
    load_ok = b.or_(load_ok, whole)
    store_ok = b.or_(b.or_(f3[0], b.and_(f3[1], total[0] ^ 1)), whole)
    amount = [FALSE, FALSE, FALSE, total[0], total[1]]
    kept = [*rs2[:8], *mask(b, b.or_(access_half, access_word), rs2[8:16]), *mask(b, access_word, rs2[16:])]
    lanes_kept = [TRUE, b.or_(access_half, access_word), access_word, access_word]
    stored, lanes = barrel_shift(b, kept, amount, False), barrel_shift(b, lanes_kept, total[:2], False)
    del access_byte

    word = b.and_(f3[2], b.and_(rs1[0] ^ 1, rs1[1] ^ 1))
    rs2_zero = equal_tree(b, b.input("instruction")[20:25], constant(0, 5))
    held = b.and_(b.input("reserved")[0], equal_tree(b, b.input("reservation"), rs1))
    lesser = where(b, b.xor(less, f5[20] ^ f5[20] or b.or_(f5[20], f5[28])), data, rs2)
    modified = union(
        b,
        mask(b, f5[0], total),
        mask(b, f5[1], rs2),
        mask(b, f5[4], [b.xor(p, q) for p, q in zip(data, rs2, strict=True)]),
        mask(b, f5[12], [b.and_(p, q) for p, q in zip(data, rs2, strict=True)]),
        mask(b, f5[8], [b.or_(p, q) for p, q in zip(data, rs2, strict=True)]),
        mask(b, b.or_(b.or_(f5[16], f5[20]), b.or_(f5[24], f5[28])), lesser),
    )
    amo = [f5[code] for code in (0, 1, 4, 8, 12, 16, 20, 24, 28)]
    any_amo = FALSE
    for one in amo:
        any_amo = b.or_(any_amo, one)
    any_amo, lr, sc = (b.and_(b.and_(op[AMO], word), kind) for kind in (any_amo, b.and_(f5[2], rs2_zero), f5[3]))
    sc_done = b.and_(sc, held)

    taken = b.xor(b.mux(f.f3[2], less, same), f.f3[0])
    branch_legal = b.and_(f.f3[1], f.f3[2] ^ 1) ^ 1
    jump_ok = total[1] ^ 1
    branches = b.and_(op[BRANCH], branch_legal)
    jumped = union(
        b,
        [b.and_(op[JAL], jump_ok)],
        [b.and_(b.and_(op[JALR], f3[0]), jump_ok)],
        [b.and_(b.and_(branches, taken), jump_ok)],
    )[0]
    target = [b.and_(total[0], op[JALR] ^ 1), *total[1:]]
    loads, stores = b.and_(op[LOAD], load_ok), b.and_(op[STORE], store_ok)
    links = b.or_(b.and_(op[JAL], jump_ok), b.and_(b.and_(op[JALR], f3[0]), jump_ok))
    calculates = b.or_(b.and_(op[OP_IMM], imm_legal), b.and_(op[OP], op_legal))
    rd = union(
        b,
        mask(b, op[LUI], f.imm_u),
        mask(b, op[AUIPC], total),
        mask(b, links, sequential),
        mask(b, loads, loaded),
        mask(b, calculates, bits),
        mask(b, b.or_(any_amo, lr), data),
        [b.and_(sc, held ^ 1), *[FALSE] * 31],
    )
    atomic_access = b.or_(b.or_(any_amo, lr), sc_done)
    legal = union(
        b, [op[LUI]], [op[AUIPC]], [links], [b.and_(branches, b.and_(taken, total[1]) ^ 1)], [loads], [stores],
        [calculates], [any_amo], [lr], [sc],
    )[0]  # fmt: skip
    memory = b.or_(loads, stores)
    return b.finish(
        {
            "pc_next": where(b, jumped, target, sequential),
            "rd": rd,
            "address": union(b, [FALSE, FALSE, *mask(b, memory, total)[2:]], mask(b, atomic_access, rs1)),
            "store_data": union(b, mask(b, stores, stored), mask(b, any_amo, modified), mask(b, sc_done, rs2)),
            "store_mask": union(b, mask(b, stores, lanes), [b.or_(any_amo, sc_done)] * 4),
            "load": [b.or_(loads, b.or_(any_amo, lr))],
            "trap": [legal ^ 1],
        }
    )
