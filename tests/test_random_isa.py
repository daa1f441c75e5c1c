"""Random instruction sets: three readings agree, a seed is one instruction set, and the sets are not all alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from judge import Draw
from random_isa import random_isa
from random_isa.operations import BINARY, CONDITIONS, UNARY, WIDE_UNARY
from random_isa.terms import Values, variable
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.oracle import LibraryOracle, check_oracle

SEEDS = range(12)
MANY = range(120)


@pytest.mark.parametrize("seed", SEEDS)
def test_numpy_c_and_gates_agree(seed: int, tmp_path: Path) -> None:
    isa = random_isa(seed)
    library = LibraryOracle(isa.library(tmp_path))
    assert str(library.interface) == str(isa.interface)
    rows, _ = Draw(isa.interface, seed, isa.codes)(12_000)
    answers = isa.evaluate(rows)
    assert np.array_equal(library.evaluate(rows), answers)
    assert np.array_equal(evaluate(isa.netlist(), rows), answers)
    check_oracle(isa)


def test_a_seed_is_one_instruction_set() -> None:
    texts = {str(random_isa(seed)) for seed in MANY}
    assert len(texts) == len(MANY)
    assert str(random_isa(5)) == str(random_isa(5))
    assert random_isa(5).c_text() == random_isa(5).c_text()


def test_the_sets_differ_in_what_is_drawn() -> None:
    sets = [random_isa(seed) for seed in MANY]
    inputs = [isa.drawn.inputs for isa in sets]
    assert {words["rs1"] for words in inputs} == {8, 12, 16, 24, 32}
    assert {words["pc"] for words in inputs} == {10, 12, 16, 24, 32}
    assert {words["instruction"] for words in inputs} == set(range(16, 41))
    assert len({next(iter(words)) for words in inputs}) > 6, "the order of the words is drawn"
    counts = [len(isa.instructions) for isa in sets]
    assert min(counts) >= 8
    assert max(counts) == 40
    assert len(set(counts)) > 20
    for fact in ("illegal: hold", "illegal: trap", "illegal: alias", "flags: none", "in one word"):
        assert any(fact in str(isa) for isa in sets), fact
    assert any(instruction.reserved for isa in sets for instruction in isa.instructions)
    for state in ("acc", "counter", "mode", "old", "status", "zero", "load_data"):
        assert any(state in words for words in inputs), state
        assert any(state not in words for words in inputs), state


def test_every_operation_is_drawn() -> None:
    names = {part for seed in MANY for i in random_isa(seed).instructions for part in i.name.split()[0].split(".")}
    plain = {name.removesuffix("f") for name in names} | names
    assert plain >= {*BINARY, *UNARY, *WIDE_UNARY, *CONDITIONS}
    assert names >= {
        "adc",
        "sbc",
        "cmp",
        "loop",
        "jal",
        "jr",
        "jalr",
        "li",
        "lui",
        "lpc",
        "amo",
        "mov",
        "l8",
        "l16u",
        "s8",
        "s32",
    }


@pytest.mark.parametrize("seed", MANY)
def test_codes_exclude_each_other(seed: int) -> None:
    codes = [code for instruction in random_isa(seed).instructions for code in instruction.codes]
    for index, (mask, match) in enumerate(codes):
        assert match & ~mask == 0
        for other_mask, other in codes[:index]:
            assert (match ^ other) & mask & other_mask, "a word would be two instructions"


@pytest.mark.parametrize("seed", MANY)
def test_immediates_keep_off_the_fields(seed: int) -> None:
    for instruction in random_isa(seed).instructions:
        if instruction.immediate:
            used = set(instruction.immediate.bits)
            assert len(used) == len(instruction.immediate.bits)
            assert not any(mask >> bit & 1 for mask, _ in instruction.codes[:1] for bit in used)


def value(operation, *words: int, width: int) -> int:
    names = [variable(f"w{index}", width) for index in range(len(words))]
    columns = {term.name: np.array([word], np.uint64) for term, word in zip(names, words, strict=True)}
    return int(Values(columns, 1)(operation(*names))[0])


@pytest.mark.parametrize(
    ("name", "a", "b", "width", "meant"),
    [
        ("rol", 0x81, 1, 8, 0x03),
        ("rol", 0x812345, 20, 24, 0x581234),
        ("rol", 0x1234, 16, 16, 0x1234),
        ("ror", 0x812345, 4, 24, 0x581234),
        ("sra", 0x80, 3, 8, 0xF0),
        ("sra", 0x800, 13, 12, 0xFFF),
        ("srl", 0x80, 11, 8, 0x10),
        ("min", 0x80, 0x7F, 8, 0x80),
        ("maxu", 0x80, 0x7F, 8, 0x80),
        ("slt", 0xFFF, 0, 12, 1),
        ("sltu", 0xFFF, 0, 12, 0),
        ("adds", 0xF0, 0x20, 8, 0xFF),
        ("subs", 0x10, 0x20, 8, 0),
        ("absd", 3, 9, 16, 6),
        ("bext", 0x40, 6, 8, 1),
        ("bclr", 0xFF, 3, 8, 0xF7),
        ("pack", 0x1234, 0x5678, 16, 0x7834),
        ("shadd", 0x81, 1, 8, 3),
        ("rsub", 1, 3, 8, 2),
    ],
)
def test_what_operations_mean(name: str, a: int, b: int, width: int, meant: int) -> None:
    assert value(BINARY[name], a, b, width=width) == meant


@pytest.mark.parametrize(
    ("name", "a", "width", "meant"),
    [
        ("bswap", 0x123456, 24, 0x563412),
        ("count", 0xF7, 8, 7),
        ("clz", 0x0010, 16, 11),
        ("clz", 0, 12, 12),
        ("abs", 0x80, 8, 0x80),
        ("abs", 0xFFF, 12, 1),
        ("reverse", 0b00010111, 8, 0b11101000),
        ("isolate", 0b0101000, 8, 0b1000),
        ("sext4", 0x8, 8, 0xF8),
        ("sextb", 0x80, 16, 0xFF80),
        ("swap", 0x1234, 16, 0x3412),
        ("parity", 0x7, 8, 1),
    ],
)
def test_what_unary_operations_mean(name: str, a: int, width: int, meant: int) -> None:
    assert value((UNARY | WIDE_UNARY)[name], a, width=width) == meant
