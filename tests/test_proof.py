"""The processor proved against its reference: rebuilt ones are equal, broken ones give a row, stopped proofs go on."""

import json
import random
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from adders import prefix_add
from tapeout.circuit import bitvector
from tapeout.circuit.bitvector import Bits
from tapeout.circuit.miter import Finding, compare, input_literals, instantiate, translate, word_values
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.cpu import reference as reference_module
from tapeout.cpu.classes import Cube, instruction_classes, prove_partition
from tapeout.cpu.encodings import VARIANTS
from tapeout.cpu.multiplier import Trace, reference_claims
from tapeout.cpu.proof import describe_row, prove, restrict
from tapeout.cpu.reference import interface, reference, traced_reference
from tapeout.errors import UserError, VerifyError

pytest.importorskip("pysat")

FULL = "rv32ima-machine"
Build = Callable[[str], tuple[Netlist, dict[str, Bits]]]


@pytest.fixture
def other_adders(monkeypatch: pytest.MonkeyPatch) -> Build:
    """The reference of a variant with prefix adders everywhere."""

    def build(variant: str) -> tuple[Netlist, dict[str, Bits]]:
        with monkeypatch.context() as patch:
            for module in (bitvector, reference_module):
                patch.setattr(module, "add_with_carry", prefix_add)
            return traced_reference(variant)

    return build


def test_the_reference_with_other_adders_is_proved(other_adders: Build) -> None:
    variant = "rv32ia-machine"
    learned, _ = other_adders(variant)
    assert learned.nodes > 1.1 * reference(variant).nodes
    proof = prove(learned, variant)
    assert proof.proved
    assert not proof.counterexamples
    assert str(proof) == f"{variant}: {len(proof.classes)} of {len(proof.classes)} classes proved"


def test_multiplication_is_proved_by_its_certificate(other_adders: Build) -> None:
    learned, traced = other_adders(FULL)
    words = {name: word.literals for name, word in traced.items()}
    traces = {name: Trace(words, reference_claims(name)) for name in ("MULH", "MULHSU")}
    proof = prove(learned, FULL, only=list(traces), multipliers=traces)
    assert set(proof.findings) == set(traces)
    assert all(finding.proved for findings in proof.findings.values() for finding in findings.values())
    assert not proof.proved  # the other classes are open


def test_a_certificate_of_a_wrong_multiplier_is_no_proof() -> None:
    """Where the certificate fails the solver decides, and finds the row."""
    right, traced = traced_reference(FULL)
    words = {name: word.literals for name, word in traced.items()}
    wrong = Netlist(right.interface, right.fanins.copy(), right.outputs)
    wrong.fanins[words["sum[7]"][9] // 2 - 1 - right.interface.input_bits, 0] ^= np.uint32(1)
    proof = prove(wrong, FULL, only=["MULHU"], multipliers={"MULHU": Trace(words, reference_claims("MULHU"))})
    assert list(proof.counterexamples) == [("MULHU", "rd")]


@cache
def rv32ia() -> Netlist:
    return reference("rv32ia")


def altered(change: Callable[[Mapping[str, Bits], dict[str, Bits]], None]) -> Netlist:
    """The rv32ia reference with gates added: ``change`` sees the inputs and replaces outputs."""
    netlist = rv32ia()
    builder = Builder(netlist.interface)
    became = instantiate(builder, netlist, input_literals(netlist.interface))
    literals = translate(became, netlist.outputs.tolist())
    outputs: dict[str, Bits] = {}
    for word in netlist.interface.outputs:
        outputs[word.name] = Bits(builder, tuple(literals[: word.width]))
        literals = literals[word.width :]
    change({w.name: Bits(builder, tuple(builder.input(w.name))) for w in netlist.interface.inputs}, outputs)
    return builder.finish({name: list(word.literals) for name, word in outputs.items()})


def test_errors_that_no_sample_meets_are_found() -> None:
    def add_is_wrong_once(inputs: Mapping[str, Bits], outputs: dict[str, Bits]) -> None:
        add = inputs["instruction"].equals(0x003100B3)  # add x1, x2, x3
        outputs["rd"] ^= (add & inputs["rs1"].equals(0xDEADBEEF) & inputs["rs2"].equals(1)).repeat(32)

    def store_conditional_ignores_a_bit(inputs: Mapping[str, Bits], outputs: dict[str, Bits]) -> None:
        near = (inputs["rs1"] ^ inputs["reservation"]).equals(1 << 17)
        conditional = inputs["instruction"][0:7].equals(0x2F) & inputs["instruction"][27:32].equals(3)
        succeeds = conditional & outputs["rd"][0] & inputs["reserved"] & near
        outputs["store_mask"] |= succeeds.repeat(4)

    def a_reserved_shift_is_legal(inputs: Mapping[str, Bits], outputs: dict[str, Bits]) -> None:
        outputs["trap"] &= ~(inputs["instruction"] & 0xFE00707F).equals(0x12005013)

    for change, where in (
        (add_is_wrong_once, {("ADD", "rd")}),
        (store_conditional_ignores_a_bit, {("SC.W", "store_mask")}),
        (a_reserved_shift_is_legal, {("illegal 0010011", "trap")}),
    ):
        wrong = altered(change)
        proof = prove(wrong, "rv32ia", only={name for name, _ in where} | {"SUB", "LR.W", "illegal opcode"})
        assert set(proof.counterexamples) == where
        for (_, word), row in proof.counterexamples.items():
            assert word_values(wrong, row)[word] != word_values(rv32ia(), row)[word]
        assert "different: " in str(proof)


def test_mutated_gates_are_found_or_do_not_matter() -> None:
    """A mutant is different in some class exactly if the whole netlists differ, which one comparison of all says."""
    rng = random.Random(5)
    found = 0
    for _ in range(2):
        fanins = rv32ia().fanins.copy()
        fanins[rng.randrange(len(fanins)), rng.randrange(2)] ^= np.uint32(1)
        mutant = Netlist(rv32ia().interface, fanins, rv32ia().outputs)
        proof = prove(mutant, "rv32ia")
        whole = compare(mutant, rv32ia())
        different = {word for word, finding in whole.items() if finding.row is not None}
        assert {word for _, word in proof.counterexamples} == different
        assert proof.proved == (not different)
        found += bool(different)
    assert found


def test_a_stopped_proof_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    begun: list[str] = []
    first = prove(rv32ia(), "rv32ia", file, only=["ADD", "SUB"], progress=lambda name, _, __: begun.append(name))
    assert begun == list(first.findings) == ["ADD", "SUB"]
    prove(rv32ia(), "rv32ia", file, only=["ADD", "SUB", "XOR"], progress=lambda name, _, __: begun.append(name))
    assert begun == ["ADD", "SUB", "XOR"]
    assert set(json.loads(file.read_text())["classes"]) == {"ADD", "SUB", "XOR"}
    assert not list(tmp_path.glob("*.tmp"))


def test_undecided_classes_are_tried_again_and_rows_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    wrong = altered(lambda _, outputs: outputs.update(load=~outputs["load"]))
    given_up = prove(wrong, "rv32ia", file, only=["ADD"], engine=lambda a, _: dict.fromkeys(names(a), Finding()))
    assert not given_up.counterexamples
    decided = prove(wrong, "rv32ia", file, only=["ADD"])
    assert list(decided.counterexamples) == [("ADD", "load")]

    def unused(_: Netlist, __: Netlist) -> dict[str, Finding]:
        raise AssertionError("a settled class is proved again")

    assert prove(wrong, "rv32ia", file, only=["ADD"], engine=unused).counterexamples == decided.counterexamples


def names(netlist: Netlist) -> list[str]:
    return [word.name for word in netlist.interface.outputs]


def test_no_time_no_classes() -> None:
    proof = prove(rv32ia(), "rv32ia", budget=-1)
    assert proof.findings == {}
    assert not proof.proved


def test_the_file_of_another_proof_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    prove(rv32ia(), "rv32ia", file, only=["ADD"])
    with pytest.raises(UserError, match="another netlist"):
        prove(altered(lambda _, outputs: outputs.update(load=~outputs["load"])), "rv32ia", file, only=["ADD"])
    file.write_text('{"proof": 1, "classes": [3]}')
    with pytest.raises(UserError, match="not the file of a proof"):
        prove(rv32ia(), "rv32ia", file, only=["ADD"])


def test_a_false_counterexample_is_our_bug() -> None:
    with pytest.raises(VerifyError, match="agree"):
        prove(rv32ia(), "rv32ia", only=["ADD"], engine=lambda a, _: dict.fromkeys(names(a), Finding(row=0)))


def test_other_words_are_refused() -> None:
    with pytest.raises(UserError, match="port form"):
        prove(rv32ia(), "rv32ia-machine")


# Classes


@pytest.mark.parametrize("variant", VARIANTS)
def test_classes_are_a_partition(variant: str) -> None:
    prove_partition(instruction_classes(variant), interface(variant))


@pytest.mark.parametrize(("change", "what"), [("missing", "none"), ("doubled", "two")])
def test_a_gap_and_an_overlap_are_seen(change: str, what: str) -> None:
    classes = instruction_classes("rv32ia")
    broken = classes[1:] if change == "missing" else (*classes, classes[0])
    with pytest.raises(VerifyError, match=f"in {what} of the classes"):
        prove_partition(broken, interface("rv32ia"))


def test_a_class_names_its_rows() -> None:
    words = interface("rv32ia-machine")
    by_name = {part.name: part for part in instruction_classes("rv32ia-machine")}
    assert len(by_name) == 77
    assert by_name["ADD"].cube == Cube(0xFE00707F, 0x33)
    assert len(by_name["ADD"].excluded) == 4  # the interrupts, in U and in M
    bit = {word.name: sum(w.width for w in words.inputs[:place]) for place, word in enumerate(words.inputs)}
    timer = by_name["timer interrupt in U"]
    assert timer.cube.mask == 1 << bit["timer_interrupt"] | 1 << bit["mtie"] | 1 << bit["machine_mode"]
    assert len(timer.excluded) == 1  # the software interrupt in U


def test_a_restriction_is_small_and_zero_outside() -> None:
    part = next(part for part in instruction_classes("rv32ia") if part.name == "SRAI")
    small = restrict(rv32ia(), part)
    assert small.nodes < rv32ia().nodes
    row = 0x4020D093 | 0xF0000000 << (5 * 32 + 1 - 32)  # srai x1, x1, 2 with rs1 = 0xF0000000
    assert word_values(small, row)["rd"] == word_values(rv32ia(), row)["rd"] == 0xFC000000


def test_rows_read_as_words() -> None:
    assert describe_row(rv32ia(), 0x13 | 4 << 32) == "instruction=0x00000013 pc=0x00000004"
