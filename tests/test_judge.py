"""The judge finds what uniform rows do not: faults put into right answers, each of them rare."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from judge import Draw, corners, judge
from random_isa import random_isa
from rv32_codes import rv32_codes
from tapeout.circuit.columns import columns_to_rows, rows_to_columns
from tapeout.circuit.functions import get
from tapeout.circuit.words import Rows

Fault = Callable[..., np.ndarray]


def broken(name: str, fault: Fault) -> Callable[[Rows], Rows]:
    """The function ``name`` with its last output bit wrong where ``fault`` of the input words holds."""
    function = get(name)

    def answer(rows: Rows) -> Rows:
        columns = rows_to_columns(function.evaluate(rows), function.interface.outputs)
        columns[-1] = columns[-1] ^ fault(*rows_to_columns(rows, function.interface.inputs)).astype(np.uint64)
        return columns_to_rows(columns, function.interface.outputs, len(rows), "broken")

    return answer


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("compare32", lambda a, b: a == b),
        ("compare32", lambda a, b: a == b + 1),
        ("compare32", lambda a, b: a ^ b == 1 << 17),
        ("add32", lambda a, b: (a + b) & 0xFFFFFFFF == 0),
        ("add32", lambda a, b: a ^ b == 0xFFFFFFFF),
        ("subtract32", lambda a, b: a == 0x80000000),
        ("min_max32", lambda a, b: (a == 0) & (b == 0xFFFFFFFF)),
        ("multiply32", lambda a, b: (a == 0xFFFFFFFF) & (b == a)),
        ("shift_arithmetic32", lambda a, n: (a == 0x80000000) & (n == 31)),
        ("popcount32", lambda a: a == 0xFFFFFFFF),
        ("absolute_difference32", lambda a, b: a >> 16 == b >> 16),
        ("compare64", lambda a, b: (a == b) & (a >> 63 == 1)),
    ],
)
def test_finds_rare_faults(name: str, fault: Fault) -> None:
    function = get(name)
    verdict = judge(function.evaluate, broken(name, fault), function.interface, 200_000, seed=3)
    assert verdict.wrong > 10
    assert list(verdict.by_output) == [function.interface.outputs[-1].name]
    assert verdict.first is not None
    assert fault(*rows_to_columns(verdict.first, function.interface.inputs)).all()
    assert verdict.bound == 1.0


def test_right_answers_are_right() -> None:
    function = get("alu32")
    verdict = judge(function.evaluate, function.evaluate, function.interface, 100_001)
    assert (verdict.rows, verdict.wrong, verdict.first, verdict.by_output) == (100_001, 0, None, {})
    assert verdict.bound == pytest.approx(3e-5, rel=1e-3)


def test_each_operation_is_drawn_equally_often() -> None:
    isa = random_isa(9)
    draw = Draw(isa.interface, 1, isa.codes)
    rows, groups = draw(50_000)
    counts = np.bincount(groups, minlength=len(draw.names))
    assert counts.min() > 0.85 * counts.mean()
    columns = rows_to_columns(rows, isa.interface.inputs)
    word = columns[[w.name for w in isa.interface.inputs].index("instruction")]
    for number, instruction in enumerate(isa.instructions):
        assert isa.decodes(instruction, word[groups == number]).mean() > 0.5
    damaged = word[groups == len(draw.names) - 1]
    assert any(isa.decodes(instruction, damaged).any() for instruction in isa.instructions)


def test_words_meet_the_constant_of_the_instruction() -> None:
    codes = {"addi": rv32_codes("rv32ia")["addi"]}
    function = get("add32")  # any two words of 32 bits: the first one as the instruction
    rows, groups = Draw(function.interface, 1, codes, word="a")(40_000)
    word, operand = rows_to_columns(rows, function.interface.inputs)
    constant = (word << np.uint64(32)).astype(np.int64) >> 52
    equal = constant.astype(np.uint64) & np.uint64(0xFFFFFFFF) == operand
    assert equal[groups == 0].mean() > 0.03


def test_rows_follow_from_the_seed() -> None:
    interface = get("compare256").interface
    first, again, other = (Draw(interface, seed)(500)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 31, 64, 65, 200])
def test_corners_of_any_width(width: int) -> None:
    limbs = corners(np.random.default_rng(1), 4000, width)
    values = {sum(int(limb[row]) << 64 * index for index, limb in enumerate(limbs)) for row in range(4000)}
    assert max(values) == (1 << width) - 1
    assert values >= {0, 1, (1 << width) - 1, 1 << width - 1}


@pytest.mark.parametrize(("variant", "count"), [("rv32ia", 52), ("rv32ia-machine", 60), ("rv32ima-machine", 68)])
def test_rv32_codes(variant: str, count: int) -> None:
    codes = rv32_codes(variant)
    assert len(codes) == count
    assert all(code.match & ~code.mask == 0 for group in codes.values() for code in group)
    general = [group[-1] for group in codes.values()]
    for index, code in enumerate(general):
        assert all((code.match ^ other.match) & code.mask & other.mask for other in general[:index])
    # add x1, x2, x3; lw x5, -4(x6); beq x1, x2, 8; amoadd.w x7, x8, (x9): as an assembler makes them.
    for name, word in (("add", 0x003100B3), ("lw", 0xFFC32283), ("beq", 0x00208463), ("amoadd", 0x0084A3AF)):
        assert [key for key, group in codes.items() if word & group[-1].mask == group[-1].match] == [name]
