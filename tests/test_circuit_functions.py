"""The functions that the learner is judged on: NumPy against plain integers, C against NumPy, published values."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.circuit.functions import FAMILIES, FIXED, SHOWN, Function, Permuted, get
from tapeout.circuit.oracle import LibraryOracle, check_oracle, random_rows
from tapeout.circuit.words import Rows, Word, pack, row_words, unpack
from tapeout.errors import UserError

Answer = int | tuple[int, ...]


def values_of(rows: Rows, words: tuple[Word, ...]) -> list[tuple[int, ...]]:
    """Each row as plain integers, cut from one long integer."""
    result: list[tuple[int, ...]] = []
    for row in rows.tolist():
        whole = sum(element << 64 * index for index, element in enumerate(row))
        values: list[int] = []
        for word in words:
            values.append(whole & ((1 << word.width) - 1))
            whole >>= word.width
        assert whole == 0, "padding is not zero"
        result.append(tuple(values))
    return result


def rows_of(values: list[tuple[int, ...]], words: tuple[Word, ...]) -> Rows:
    bits = [
        [value >> bit & 1 for word, value in zip(words, row, strict=True) for bit in range(word.width)]
        for row in values
    ]
    return pack(np.array(bits, np.uint8))


def questions(function: Function, count: int, seed: int = 1) -> Rows:
    """Uniform rows, rows with few ones and few zeros, and rows whose words repeat: carries, equalities, extremes."""
    random = np.random.default_rng(seed)
    inputs = function.interface.inputs
    rows = random_rows(random, count, function.interface.input_bits)
    for part in range(count // 4, count // 2):
        words = [0, -1, 1, -2, int(random.integers(1 << 62)), 1 << int(random.integers(256)), 1 << inputs[0].width - 1]
        picked = random.choice(len(words), 2)
        made = [tuple(words[int(random.choice(picked))] & ((1 << w.width) - 1) for w in inputs)]
        rows[part] = rows_of(made, inputs)[0]
    sparse = slice(count // 2, 3 * count // 4)
    rows[sparse] &= np.roll(rows, 7, axis=0)[sparse] & np.roll(rows, 11, axis=0)[sparse]
    return rows


def signed(value: int, width: int) -> int:
    return value - (value >> (width - 1) << width)


def bound(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def digits(value: int, width: int) -> int:
    return int(str(value), 16)


def decoded_gray(value: int) -> int:
    result = 0
    while value:
        result ^= value
        value >>= 1
    return result


def compared(a: int, b: int, w: int) -> Answer:
    sa, sb = signed(a, w), signed(b, w)
    return int(a == b), int(a < b), int(sa < sb), int(a >= b), int(sa >= sb)


def extremes(a: int, b: int, w: int) -> Answer:
    by_sign = sorted((a, b), key=lambda value: signed(value, w))
    return min(a, b), max(a, b), by_sign[0], by_sign[1]


def saturated(a: int, b: int, w: int) -> Answer:
    top = 1 << (w - 1)
    return min(a + b, 2 * top - 1), bound(signed(a, w) + signed(b, w), -top, top - 1)


def alu(op: int, a: int, b: int, carry: int, w: int) -> Answer:
    sa, sb, by = signed(a, w), signed(b, w), b % w
    carried = carry if op in (1, 3) else 0
    exact = {0: sa + sb + carried, 1: sa + sb + carried, 2: sa - sb - carried, 3: sa - sb - carried}.get(op, 0)
    result = {
        4: a & b, 5: a | b, 6: a ^ b, 7: ~(a | b), 8: a << by, 9: a >> by, 10: sa >> by, 11: a << by | a >> (w - by),
        12: int(sa < sb), 13: int(a < b), 14: b, 15: ~a,
    }.get(op, exact) & ((1 << w) - 1)  # fmt: skip
    carry_out = a + b + carried >> w if op < 2 else int(a < b + carried) if op < 4 else 0
    return result, int(result == 0), result >> (w - 1), carry_out, int(exact != signed(exact & ((1 << w) - 1), w))


# The last argument is the width; results may be negative, they are taken modulo the width of their word.
MEANINGS: dict[str, Callable[..., Answer]] = {
    "add": lambda a, b, w: (a + b, a + b >> w),
    "subtract": lambda a, b, w: (a - b, int(a < b)),
    "compare": compared,
    "min_max": extremes,
    "saturating_add": saturated,
    "absolute_difference": lambda a, b, w: abs(a - b),
    "multiply": lambda a, b, w: a * b,
    "multiply_signed": lambda a, b, w: signed(a, w) * signed(b, w),
    "multiply_mixed": lambda a, b, w: signed(a, w) * b,
    "popcount": lambda a, w: a.bit_count(),
    "leading_zeros": lambda a, w: w - a.bit_length(),
    "binary_to_bcd": digits,
    "shift_left": lambda a, by, w: a << by,
    "shift_right": lambda a, by, w: a >> by,
    "shift_arithmetic": lambda a, by, w: signed(a, w) >> by,
    "shifts": lambda a, by, w: (a << by, a >> by, signed(a, w) >> by),
    "rotate": lambda a, by, w: a << by % w | a >> w - by % w,
    "multiplexer": lambda select, *rest: rest[select],
    "priority_encoder": lambda a, w: (max(0, a.bit_length() - 1), int(a != 0)),
    "gray_encode": lambda a, w: a ^ a >> 1,
    "gray_decode": lambda a, w: decoded_gray(a),
    "parity": lambda a, w: a.bit_count() & 1,
    "alu": alu,
}

NARROW = {"multiply", "multiply_signed", "multiply_mixed", "binary_to_bcd", "multiplexer"}
POWERS = {"shifts", "alu"}
WIDTHS = {
    family: (8, 32) if family in POWERS else (8, 13, 32) if family in NARROW else (8, 13, 32, 64, 65, 96, 256)
    for family in FAMILIES
}
CASES = [(family, width) for family, widths in WIDTHS.items() for width in widths]


def test_every_family_has_a_meaning() -> None:
    assert MEANINGS.keys() == FAMILIES.keys()


@pytest.mark.parametrize(("family", "width"), CASES)
def test_numpy_against_integers(family: str, width: int) -> None:
    function = FAMILIES[family](width)
    rows = questions(function, 400)
    answers = values_of(function.evaluate(rows), function.interface.outputs)
    for given, answer in zip(values_of(rows, function.interface.inputs), answers, strict=True):
        meant = MEANINGS[family](*given, width)
        meant = meant if isinstance(meant, tuple) else (meant,)
        words = function.interface.outputs
        assert answer == tuple(value % (1 << word.width) for value, word in zip(meant, words, strict=True)), given


@pytest.mark.parametrize("name", [*SHOWN, "add256", "compare100", "shift_arithmetic256", "rotate96", "min_max65"])
def test_c_against_numpy(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CC", f"{os.environ.get('CC', 'cc')} -Wall -Wextra -Werror -Wno-unused")
    function = get(name)
    library = LibraryOracle(function.library(tmp_path))
    assert str(library.interface) == str(function.interface)
    rows = questions(function, 4000, seed=2)
    assert np.array_equal(library.evaluate(rows), function.evaluate(rows))


@pytest.mark.parametrize("name", SHOWN)
def test_is_a_black_box(name: str) -> None:
    check_oracle(get(name))


def test_crc32_of_the_standard_message() -> None:
    crc = 0xFFFFFFFF
    for byte in b"123456789":
        [(crc,)] = values_of(ask("crc32_step", crc=crc, byte=byte), get("crc32_step").interface.outputs)
    assert crc ^ 0xFFFFFFFF == 0xCBF43926 == zlib.crc32(b"123456789")


def test_aes_sbox_of_fips_197() -> None:
    box = get("aes_sbox")
    table = box.evaluate(np.arange(256, dtype=np.uint64)[:, None])[:, 0].tolist()
    # FIPS 197, figure 7: the first row, the last row, and the example of section 5.1.1, {53} to {ed}.
    assert bytes(table[:16]).hex() == "637c777bf26b6fc53001672bfed7ab76"
    assert bytes(table[240:]).hex() == "8ca1890dbfe6426841992d0fb054bb16"
    assert table[0x53] == 0xED
    assert sorted(table) == list(range(256))


def ask(name: str, **values: int) -> Rows:
    function = get(name)
    return function.evaluate(
        rows_of([tuple(values[word.name] for word in function.interface.inputs)], function.interface.inputs)
    )


class Machine:
    """A function with state, run step by step: outputs ``NAME.next`` become inputs ``NAME``."""

    def __init__(self, name: str, **state: int) -> None:
        self.function = get(name)
        self.state = {word.name: 0 for word in self.function.interface.inputs} | state

    def step(self, **inputs: int) -> dict[str, int]:
        words = self.function.interface
        given = self.state | inputs
        rows = self.function.evaluate(rows_of([tuple(given[word.name] for word in words.inputs)], words.inputs))
        values = values_of(rows, words.outputs)[0]
        out = {word.name: value for word, value in zip(words.outputs, values, strict=True)}
        self.state |= {name.removesuffix(".next"): value for name, value in out.items() if name.endswith(".next")}
        return out


@pytest.mark.parametrize(("divider", "data"), [(0, 0x55), (2, 0xA7), (4, 0)])
def test_uart_sends_the_frame(divider: int, data: int) -> None:
    uart = Machine("uart_transmitter", divider=divider)
    first = uart.step(start=1, data=data)
    assert first["line"] == first["ready"] == 1
    line: list[int] = []
    while not (out := uart.step(start=0))["ready"]:
        line.append(out["line"])
    frame = [0, *(data >> bit & 1 for bit in range(8)), 1]
    assert line == [bit for bit in frame for _ in range(divider + 1)]
    assert out["line"] == 1


def run(program: list[int], memory: dict[int, int], steps: int = 500) -> Machine:
    """Runs micro8 on a program and a memory (changed in place) until it halts."""
    machine = Machine("micro8")
    for _ in range(steps):
        instruction = program[machine.state["pc"]]
        before = dict(machine.state)
        out = machine.step(instruction=instruction)
        if out["load"]:
            machine.state = before
            out = machine.step(instruction=instruction, load_data=memory.get(out["address"], 0))
        if out["store"]:
            memory[out["address"]] = out["store_data"]
        if out["halt"]:
            return machine
    raise AssertionError("no halt")


def constant(kind: int, d: int, k: int) -> int:
    return kind << 12 | d << 9 | k & 255


def registers(fn: int, d: int, s: int) -> int:
    return d << 9 | s << 6 | fn << 2


def test_micro8_sums_bytes_in_sixteen_bits() -> None:
    load, decrement, halt = 8 << 12 | 2 << 9 | 1 << 6 | 0x3F, constant(2, 1, 1), 15 << 12
    program = [
        constant(6, 1, 5),  # r1 = 5
        load,  # r2 = memory[r1 - 1]
        registers(0, 3, 2),  # r3 += r2
        registers(1, 4, 0),  # r4 += carry
        decrement,
        constant(10, 3, -5),  # to the load while not zero
        9 << 12 | 3 << 9 | 1 << 6 | 8,  # memory[r1 + 8] = r3
        constant(12, 0, 9),  # call 9: r7 = 8
        halt,
        registers(13, 5, 4),  # r5 = swapped r4
        13 << 12 | 7 << 6,  # return
    ]
    memory = {0: 200, 1: 100, 2: 255, 3: 7, 4: 90}
    state = run(program, memory).state
    total = 200 + 100 + 255 + 7 + 90
    assert (state["r[3]"], state["r[4]"], memory[8]) == (total & 255, total >> 8, total & 255)
    assert (state["r[5]"], state["r[7]"], state["pc"]) == (total >> 8 << 4, 8, 8)


@pytest.mark.parametrize(
    ("instruction", "before", "after"),
    [
        (registers(2, 1, 2), {"r[1]": 3, "r[2]": 5}, {"r[1]": 254, "carry": 1, "negative": 1, "zero": 0}),
        (registers(3, 1, 2), {"r[1]": 6, "r[2]": 5, "carry": 1}, {"r[1]": 0, "carry": 0, "negative": 0, "zero": 1}),
        (registers(7, 1, 2), {"r[2]": 0, "carry": 1, "zero": 0}, {"r[1]": 0, "carry": 1, "zero": 0}),
        (registers(8, 1, 2), {"r[1]": 5, "r[2]": 5}, {"r[1]": 5, "zero": 1}),
        (registers(11, 1, 2), {"r[2]": 0x81}, {"r[1]": 0xC0, "carry": 1, "negative": 1}),
        (registers(12, 1, 2), {"r[2]": 2, "carry": 1}, {"r[1]": 0x81, "carry": 0}),
        (registers(14, 1, 2), {"r[2]": 0, "carry": 1}, {"r[1]": 0, "carry": 0, "zero": 1}),
        (constant(7, 1, 9), {"r[1]": 8}, {"r[1]": 8, "carry": 1, "negative": 1}),
        (constant(10, 4, -1), {"pc": 9, "carry": 1}, {"pc": 9}),
        (constant(10, 5, -1), {"pc": 255, "carry": 1}, {"pc": 0}),
        (14 << 12 | 1 << 9 | 7 << 6, {"r[1]": 0x7F}, {"zero": 1, "r[1]": 0x7F}),
        (14 << 12 | 1 << 9 | 7 << 6 | 2 << 4, {"r[1]": 0x7F}, {"zero": 0, "r[1]": 0xFF}),
        (15 << 12, {"pc": 7}, {"pc": 7}),
    ],
)
def test_micro8_instructions(instruction: int, before: dict[str, int], after: dict[str, int]) -> None:
    machine = Machine("micro8", **before)
    machine.step(instruction=instruction)
    assert {name: machine.state[name] for name in after} == after


@pytest.mark.parametrize("name", ["add32", "multiplexer8", "micro8"])
def test_permuted_is_the_function_in_another_order(name: str, tmp_path: Path) -> None:
    function = get(name)
    permuted = Permuted(function, 5)
    inputs, outputs = function.interface.input_bits, function.interface.output_bits
    rows = random_rows(np.random.default_rng(3), 300, inputs)
    answers = permuted.evaluate(rows)
    asked = np.zeros((300, inputs), np.uint8)
    asked[:, permuted.order_in] = unpack(rows, inputs)
    expected = np.zeros((300, outputs), np.uint8)
    expected[:, permuted.order_out] = unpack(function.evaluate(pack(asked)), outputs)
    assert np.array_equal(unpack(answers, outputs), expected)
    assert np.array_equal(LibraryOracle(permuted.library(tmp_path)).evaluate(rows), answers)
    assert sorted(permuted.order_in) == list(range(inputs)) != permuted.order_in.tolist()
    assert not np.array_equal(Permuted(function, 6).order_in, permuted.order_in)


def test_no_rows() -> None:
    for name in (*FIXED, "add256", "multiplexer32"):
        function = get(name)
        empty = np.zeros((0, row_words(function.interface.input_bits)), np.uint64)
        assert function.evaluate(empty).shape == (0, row_words(function.interface.output_bits))


@pytest.mark.parametrize("name", ["adder32", "add", "multiply33", "shift_left512", "aes_sbox8"])
def test_unknown_names_and_widths(name: str) -> None:
    with pytest.raises(UserError, match="functions: "):
        get(name)


def test_no_compiler(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="no C compiler"):
        get("add8").library(tmp_path)
