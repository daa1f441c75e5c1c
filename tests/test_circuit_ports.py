"""Arrays found in the state of black boxes, asked in port form, and put back as gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from random_isa.registers import WithRegisters
from tapeout.circuit.columns import columns_to_rows, rows_to_columns
from tapeout.circuit.discovery import find_arrays
from tapeout.circuit.equivalence import check_equal
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.functions import c_source, compile_library, get
from tapeout.circuit.learn import learn
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import FunctionOracle, LibraryOracle, random_rows, to_native
from tapeout.circuit.port_netlists import care_inputs, on_care_set, put_back
from tapeout.circuit.ports import NOTHING, Array, Port, PortForm
from tapeout.circuit.sampling import sparse_rows, structured_rows
from tapeout.circuit.words import Interface, Rows, parse_interface
from tapeout.cpu.core import reference_in_form, standard_form
from tapeout.cpu.rv32 import VARIANTS, rv32_interface, rv32_oracle
from tapeout.errors import UserError, VerifyError


def mixed_rows(interface: Interface, seed: int, count: int = 4000) -> Rows:
    random = np.random.default_rng(seed)
    parts = [random_rows(random, count, interface.input_bits)]
    return np.concatenate([*parts, *(f(random, count, interface) for f in (structured_rows, sparse_rows))])


def instructions(rows: Rows, seed: int) -> Rows:
    """Rows whose first word is often an instruction that is legal, with register fields that are often 0 or equal."""
    random = np.random.default_rng(seed)
    opcodes = np.array([0x13, 0x33, 0x63, 0x03, 0x23, 0x6F, 0x67, 0x37, 0x17, 0x2F, 0x0F, 0x73], np.uint64)
    rows = rows.copy()
    rows[:, 0] = rows[:, 0] & ~np.uint64(127) | opcodes[random.integers(0, len(opcodes), len(rows))]
    for low, bits in ((25, 7), (7, 5), (15, 5), (20, 5)):
        some = random.random(len(rows)) < 0.3
        rows[some, 0] &= ~np.uint64(((1 << bits) - 1) << low)
    some = random.random(len(rows)) < 0.3
    rows[some, 0] = rows[some, 0] & ~np.uint64(31 << 20) | rows[some, 0] << np.uint64(5) & np.uint64(31 << 20)
    return rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_register_file_of_the_processor_is_found(variant: str) -> None:
    found = find_arrays(rv32_oracle(variant, ports=False), rv32_interface(variant, ports=False))
    assert found.form == standard_form(variant)
    assert found.rejected == ()
    assert found.questions < 2_000_000
    assert found.form.facts()[1] == "array x, read port 0: instruction[19:15], 1 of 32 codes name no entry"


def test_a_seed_finds_the_same_with_the_same_questions() -> None:
    words = rv32_interface("rv32ia", ports=False)
    one, two = (find_arrays(rv32_oracle("rv32ia", ports=False), words, seed=4) for _ in range(2))
    assert one == two


@pytest.mark.native
def test_port_form_of_the_processor_is_the_one_written_by_hand() -> None:
    """Don't-cares included: equal indices with different values, register 0 with a value, register 0 written."""
    form = standard_form("rv32ia")
    box = form.oracle(rv32_oracle("rv32ia", ports=False))
    rows = instructions(mixed_rows(form.interface, 1, 20_000), 2)
    wanted = rv32_oracle("rv32ia", ports=True).evaluate(rows)
    assert np.array_equal(box.evaluate(rows), wanted)
    assert np.array_equal(np.concatenate([box.evaluate(part) for part in np.array_split(rows, 7)]), wanted)


@pytest.mark.parametrize("variant", VARIANTS)
def test_port_form_and_whole_form_agree(variant: str) -> None:
    form = standard_form(variant)
    whole = rv32_oracle(variant, ports=False)
    rows = instructions(mixed_rows(form.whole, 3), 4)
    answers = form.oracle(whole).evaluate(form.port_rows(rows))
    assert np.array_equal(form.whole_answers(rows, answers), whole.evaluate(rows))


HIDDEN = [seed for seed in range(24) if len(WithRegisters(seed).numbers) >= 8][:12]


@pytest.mark.parametrize("seed", HIDDEN)
def test_registers_of_hidden_instruction_sets(seed: int, tmp_path: Path) -> None:
    """Fields anywhere, numbers in any order, with or without a register 0: the ports are the fields."""
    machine = WithRegisters(seed)
    library = LibraryOracle(machine.library(tmp_path))
    form = find_arrays(library.native, machine.interface, seed).form
    (array,) = form.arrays
    fields = {name: machine.input_bits(name) for name in machine.fields}
    assert [port.bits for port in array.writes] == [fields["rd"]]
    reads = {port.bits for port in array.reads}
    assert {fields["rs1"], fields["rs2"]} <= reads <= {*fields.values()}
    names = [array.words.index(f"r[{word}]") if word >= 0 else NOTHING for word in machine.numbers]
    assert {port.table for port in (*array.reads, *array.writes)} == {tuple(names)}
    rows = mixed_rows(machine.interface, seed)
    answers = form.oracle(library.native).evaluate(form.port_rows(rows))
    assert np.array_equal(form.whole_answers(rows, answers), library.evaluate(rows))


def test_microcontroller_with_a_result_that_has_its_own_register(tmp_path: Path) -> None:
    """Two addresses, and an instruction that always writes register 7: a port without index bits."""
    function = get("micro8")
    form = find_arrays(LibraryOracle(function.library(tmp_path)).native, function.interface).form
    (array,) = form.arrays
    codes = tuple(range(8))
    assert array.reads == (Port((6, 7, 8), codes), Port((9, 10, 11), codes))
    assert array.writes == (Port((9, 10, 11), codes), Port((), (7,)))
    assert [array.enable_word(index) is None for index in range(2)] == [True, False]
    assert "array r, write port 1: always r[7]" in form.facts()


# ---- a small machine: d = d op s, or d = k, or r3 = d; eight registers of four bits


SMALL = parse_interface(
    "i:9 " + " ".join(f"r[{k}]:4" for k in range(8)) + " -> out:4 " + " ".join(f"r[{k}].next:4" for k in range(8))
)
SMALL_C = """
unsigned d = i & 7, s = i >> 3 & 7, op = i >> 6 & 7;
memcpy(r_next, r, sizeof r);
out = op == 7 ? 0 : r[s];
switch (op) {
case 0: r_next[d] = (r[d] + r[s]) & 15; break;
case 1: r_next[d] = r[d] & r[s]; break;
case 2: r_next[d] = r[d] ^ r[s]; break;
case 3: r_next[d] = r[s]; break;
case 4: r_next[d] = s; break;
case 5: r_next[3] = r[d]; break;
}
"""


def small_library(folder: Path, more: str = "") -> LibraryOracle:
    return LibraryOracle(compile_library(c_source(SMALL, SMALL_C + more), folder / "small.so"))


def small_ports(rows: Rows, form: PortForm) -> Rows:
    """The small machine in port form, as a person would write it."""
    i, s, d = (column.astype(np.int64) for column in rows_to_columns(rows, form.interface.inputs))
    names = [word.name for word in form.interface.inputs]
    assert names == ["i", "r.read0", "r.read1"]
    d, s = s, d  # the field of d has the lower bits
    op, number = i >> 6 & 7, i >> 3 & 7
    value = np.select([op == 0, op == 1, op == 2, op == 3, op == 4], [(d + s) & 15, d & s, d ^ s, s, number], d)
    columns = [np.where(op == 7, 0, s), value, np.where(op == 5, d, 0), op == 5]
    return columns_to_rows([np.asarray(column) for column in columns], form.interface.outputs, len(rows), "test")


def test_do_not_cares_are_filled_as_the_rest(tmp_path: Path) -> None:
    """All rows in port form, also where ports name one register with two values, answer as the simple function."""
    library = small_library(tmp_path)
    form = find_arrays(library.native, SMALL).form
    rows = np.arange(1 << form.interface.input_bits, dtype=np.uint64).reshape(-1, 1)
    differ = (form.oracle(library.native).evaluate(rows) != small_ports(rows, form)).any(axis=1)
    same = np.array([int(row) & 7 == int(row) >> 3 & 7 for row in rows[:, 0]])
    # Op 4 takes the field of s as a constant; op 5 writes register 3, wherever d is.
    assert not differ.any(), f"{differ.sum()} rows, {(differ & same).sum()} of them with equal fields"


def test_a_third_register_shows(tmp_path: Path) -> None:
    """A register that matters in one row of 4096 only, whatever the ports name: the array is not taken without it."""
    library = small_library(tmp_path, "if (i == 511 && r[6] == 9) out = 15;")
    found = find_arrays(library.native, SMALL)
    rows = mixed_rows(SMALL, 1, 30_000)
    if found.form.arrays:
        assert Port((), (6,)) in found.form.arrays[0].reads
        answers = found.form.oracle(library.native).evaluate(found.form.port_rows(rows))
        assert np.array_equal(found.form.whole_answers(rows, answers), library.evaluate(rows))
    else:
        assert "no port explains" in found.rejected[0]


def test_words_that_are_no_array() -> None:
    """Eight words that shift: every one is written in every step."""
    words = " ".join(f"r[{k}]:4" for k in range(8))
    after = " ".join(f"r[{k}].next:4" for k in range(8))
    shift = FunctionOracle(lambda a, *r: (*r[1:], a), f"a:4 {words} -> {after}")
    assert find_arrays(to_native(shift), shift.interface).form.arrays == ()
    nothing = FunctionOracle(lambda a: a, "a:4 -> b:4")
    found = find_arrays(to_native(nothing), nothing.interface)
    assert (found.form.arrays, found.rejected, found.questions) == ((), (), 0)


def test_budget_of_questions() -> None:
    words = rv32_interface("rv32ia", ports=False)
    found = find_arrays(rv32_oracle("rv32ia", ports=False), words, questions=50_000)
    assert found.form.arrays == ()
    assert found.rejected == ("the budget ended while arrays were looked for",)


# ---- netlists


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_registers_put_back(variant: str) -> None:
    form = standard_form(variant)
    whole = put_back(reference_in_form(variant, form), form)
    rows = instructions(mixed_rows(form.whole, 5), 6)
    assert np.array_equal(evaluate(whole, rows), rv32_oracle(variant, ports=False).evaluate(rows))


def test_put_back_with_two_write_ports_and_odd_tables() -> None:
    words = parse_interface("i:4 a:3 b:3 c:3 e -> a.next:3 b.next:3 c.next:3 o:3")
    form = PortForm(words, (Array("m", 3, ("a", "b", "c"), (Port((0, 2), (2, NOTHING, 0, 1)), Port((), (1,))),
                                  (Port((0, 2), (2, NOTHING, 0, 1)), Port((1, 3), (0, 1, 2, 2)))),))  # fmt: skip
    first, second = (form.interface.outputs[k].name for k in (1, 2))
    assert (first, second) == ("m.write0", "m.write1"), "the first stores in every step, and has no enable"
    inputs = form.interface.input_bits
    start = {word.name: sum(w.width for w in form.interface.inputs[:k]) for k, word in enumerate(form.interface.inputs)}

    def word(name: str) -> list[int]:
        return [2 * (1 + start[name] + bit) for bit in range(3)]

    enable = [2 * (1 + start["e"])]
    outputs = [*word("m.read0"), *word("m.read1"), *word("m.read0"), *enable]
    netlist = Netlist(form.interface, np.zeros((0, 2), np.uint32), np.array(outputs, np.uint32))
    assert inputs == 11
    rows = np.arange(1 << 14, dtype=np.uint64).reshape(-1, 1)
    answers = evaluate(netlist, form.port_rows(rows))
    assert np.array_equal(evaluate(put_back(netlist, form), rows), form.whole_answers(rows, answers))


def test_care_set() -> None:
    form = standard_form("rv32ia")
    rows = instructions(mixed_rows(form.interface, 7), 8)
    care = evaluate(care_inputs(form), rows)
    assert np.array_equal(evaluate(care_inputs(form), care), care)
    from_states = form.port_rows(instructions(mixed_rows(form.whole, 9), 10))
    assert np.array_equal(evaluate(care_inputs(form), from_states), from_states)
    columns = dict(
        zip([word.name for word in form.interface.inputs], rows_to_columns(care, form.interface.inputs), strict=True)
    )
    first, second = (columns["instruction"] >> np.uint64(low) & np.uint64(31) for low in (15, 20))
    assert not columns["x.read0"][first == 0].any()
    assert not columns["x.read1"][second == 0].any()
    assert np.array_equal(columns["x.read0"][first == second], columns["x.read1"][first == second])


def test_equal_where_it_matters_only() -> None:
    """A netlist that differs from the reference in don't-cares is equal; one that differs elsewhere is not."""
    form = standard_form("rv32ia")
    right = reference_in_form("rv32ia", form)
    retracted = on_care_set(right, form)
    whole = rv32_oracle("rv32ia", ports=True)
    rows = instructions(mixed_rows(form.interface, 11), 12)
    assert not np.array_equal(evaluate(retracted, rows), whole.evaluate(rows)), "it differs in don't-cares"
    assert check_equal(on_care_set(right, form), on_care_set(retracted, form)).proved
    outputs = right.outputs.copy()
    outputs[-1] ^= 1
    wrong = Netlist(right.interface, right.fanins, outputs)
    result = check_equal(on_care_set(right, form), on_care_set(wrong, form))
    assert result.counterexample is not None
    row = evaluate(care_inputs(form), result.counterexample)
    assert (evaluate(wrong, row) != evaluate(right, row)).any()


def test_other_ports_than_those_of_the_reference() -> None:
    form = standard_form("rv32ia")
    (array,) = form.arrays
    other = PortForm(form.whole, (Array("x", 32, array.words, array.reads[::-1], array.writes),))
    with pytest.raises(VerifyError, match="not those of the reference"):
        reference_in_form("rv32ia", other)


# ---- learning


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return learn(small_library(tmp_path_factory.mktemp("small")), seed=1)


def test_learned_around_the_array(learned: Any, tmp_path: Path) -> None:
    library = small_library(tmp_path)
    rows = mixed_rows(SMALL, 13, 20_000)
    assert learned.netlist.interface == SMALL
    assert np.array_equal(evaluate(learned.netlist, rows), library.evaluate(rows))
    assert learned.ports.interface == learned.form.interface
    assert learned.netlist.nodes == put_back(learned.ports, learned.form).nodes
    assert {line.word for line in learned.coverage} == {word.name for word in SMALL.outputs}
    assert all(line.status.value == "sampled" for line in learned.coverage)
    assert learned.structure[0] == "array r: 8 entries of 4 bits (r[0] ... r[7])"
    (array,) = learned.statistics["arrays"]
    assert [port["index"] for port in array["reads"]] == ["i[2:0]", "i[5:3]"]
    assert learned.ports.nodes < 200


def test_port_form_and_no_arrays(tmp_path: Path) -> None:
    library = small_library(tmp_path)
    ports = learn(library, seed=1, arrays="ports")
    assert [word.name for word in ports.netlist.interface.inputs] == ["i", "r.read0", "r.read1"]
    with pytest.raises(UserError, match="'some' is unknown"):
        learn(library, arrays="some")


def test_not_looked_for() -> None:
    words = "i:2 " + " ".join(f"r[{k}]:2" for k in range(4)) + " -> " + " ".join(f"r[{k}].next:2" for k in range(4))
    box = FunctionOracle(lambda i, *r: tuple(np.where(i == k, r[k] ^ 1, r[k]) for k in range(4)), words)
    assert len(find_arrays(to_native(box), box.interface).form.arrays) == 1
    learned = learn(box, arrays="off")
    assert learned.form is None
    assert "arrays" not in learned.statistics
