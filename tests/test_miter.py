"""Netlists compared by SAT: equal ones are proved, others give a row, and a small budget gives neither."""

from collections.abc import Callable

import pytest

from adders import prefix_add
from tapeout.circuit.bitvector import Bits, add_with_carry
from tapeout.circuit.miter import Finding, compare, instantiate, translate, word_values
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.words import parse_interface
from tapeout.errors import UserError

pytest.importorskip("pysat")


def circuit(text: str, make: Callable[..., dict[str, Bits]]) -> Netlist:
    builder = Builder(parse_interface(text))
    words = [Bits(builder, tuple(builder.input(word.name))) for word in builder.interface.inputs]
    return builder.finish({name: list(word.literals) for name, word in make(*words).items()})


ADDER = "a:32 b:32 -> sum:32 carry"


def adder(add: Callable[[Bits, Bits, Bits], tuple[Bits, Bits]]) -> Netlist:
    return circuit(ADDER, lambda a, b: dict(zip(("sum", "carry"), add(a, b, a.zero(1)), strict=True)))


def test_adders_of_two_kinds_are_equal() -> None:
    ripple, prefix = adder(add_with_carry), adder(prefix_add)
    assert ripple.nodes != prefix.nodes
    assert compare(ripple, prefix) == {"sum": Finding(proved=True), "carry": Finding(proved=True)}


def test_an_error_that_no_sample_meets_is_found() -> None:
    right = adder(add_with_carry)
    wrong = circuit(ADDER, lambda a, b: {"sum": a + b, "carry": (a + b).ult(a) ^ (a.equals(0x1234567) & b.equals(3))})
    findings = compare(right, wrong)
    assert findings["sum"].proved
    row = findings["carry"].row
    assert row == 3 << 32 | 0x1234567
    assert word_values(right, row)["carry"] != word_values(wrong, row)["carry"]


def test_a_common_error_is_found_in_each_word() -> None:
    wrong = circuit(ADDER, lambda a, b: {"sum": a | b, "carry": a[31] & b[31]})
    for word, finding in compare(adder(add_with_carry), wrong).items():
        assert finding.row is not None
        values = [word_values(netlist, finding.row)[word] for netlist in (adder(add_with_carry), wrong)]
        assert values[0] != values[1]


def test_a_budget_that_is_too_small_decides_nothing() -> None:
    products = [
        circuit("a:16 b:16 -> y:16", lambda a, b: {"y": a * b}),
        circuit("a:16 b:16 -> y:16", lambda a, b: {"y": b * a}),
    ]
    finding = compare(*products, conflicts=50)["y"]
    assert finding.undecided
    assert str(finding) == "undecided"


def test_constant_inputs_fold_away() -> None:
    netlist = adder(add_with_carry)
    builder = Builder(netlist.interface)
    a = builder.input("a")
    became = instantiate(builder, netlist, [*a, *[0] * 32])
    assert translate(became, netlist.outputs.tolist()) == [*a, 0]


def test_other_words_are_an_error() -> None:
    with pytest.raises(UserError, match="different words"):
        compare(adder(add_with_carry), circuit("a:32 -> sum:32 carry", lambda a: {"sum": a, "carry": a[0]}))
