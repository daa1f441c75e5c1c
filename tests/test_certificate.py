"""Certificates of multipliers: right ones are accepted, and every kind of wrong netlist, claim or word is refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from adders import prefix_add
from netlist_rows import evaluate, rows_of, word_values
from tapeout.circuit.bitvector import Bits, concat, product_steps
from tapeout.circuit.certificate import (
    Certificate,
    Claim,
    Part,
    PartialProduct,
    Product,
    Sum,
    check_claims,
    check_product,
)
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.words import Interface, Word

pytest.importorskip("pysat")

Add = Callable[[Bits, Bits], Bits]


def prefix(a: Bits, b: Bits) -> Bits:
    return prefix_add(a, b, a.zero(1))[0]


def multiplier(width: int, *, add: Add = prefix, signed: bool = False, low: int = 0, tree: bool = True) -> Certificate:
    """Rows added in a tree, or one after the other; ``y`` is the product from bit ``low`` on."""
    builder = Builder(Interface((Word("a", width), Word("b", width)), (Word("y", 2 * width - low),)))
    a, b = (Bits(builder, tuple(builder.input(name))) for name in "ab")
    whole = a.sign_extend(2 * width) if signed else a.zero_extend(2 * width)
    words: dict[str, Bits] = {}
    claims: list[Claim] = []
    for bit in range(width):
        negative = signed and bit == width - 1
        row = (-(whole << bit) if negative else whole << bit) & b[bit].repeat(2 * width)
        words[f"row{bit}"] = row
        claims.append(PartialProduct(f"row{bit}", "a", "b", bit, -(1 << bit) if negative else 1 << bit, signed))
    terms = list(words)
    while len(terms) > 1:
        left, right = terms[:2]
        name = f"{left}+{right}"
        words[name] = add(words[left], words[right])
        claims.append(Sum(name, left, right))
        terms = [*terms[2:], name] if tree else [name, *terms[2:]]
    words["y"] = words[terms[0]][low:]
    claims.append(Part("y", terms[0], low))
    netlist = builder.finish({"y": list(words["y"].literals)})
    return Certificate(netlist, {name: word.literals for name, word in words.items()}, claims)


PRODUCT = Product("y", "a", "b")
SIGNED = Product("y", "a", "b", signed_a=True, signed_b=True)


@pytest.mark.parametrize("tree", [False, True])
def test_a_multiplier_is_certified(tree: bool) -> None:
    assert check_product(multiplier(16, tree=tree), PRODUCT) == []


def test_signed_factors_and_the_high_half() -> None:
    certificate = multiplier(12, signed=True, low=12)
    assert check_product(certificate, replace(SIGNED, low=12)) == []
    for other in (replace(PRODUCT, low=12), replace(SIGNED, low=12, signed_b=False), replace(SIGNED, low=11)):
        assert check_product(certificate, other)


def test_thirty_two_bits() -> None:
    assert check_product(multiplier(32, tree=False), PRODUCT) == []


def test_growing_words_carry_their_exact_value() -> None:
    """Sums only as wide as their greatest value; one bit less is refused though every claim holds as it stands."""

    def narrow(cut: int) -> Certificate:
        builder = Builder(Interface((Word("a", 8), Word("b", 8)), (Word("y", 16),)))
        a, b = (Bits(builder, tuple(builder.input(name))) for name in "ab")
        words: dict[str, Bits] = {}
        claims: list[Claim] = []
        for bit, (row, total) in enumerate(product_steps(a.zero_extend(16), b)):
            words[f"row{bit}"] = row[: 8 + bit]
            claims.append(PartialProduct(f"row{bit}", "a", "b", bit, 1 << bit))
            words[f"sum{bit}"] = total[: 9 + bit - cut]
            claims.append(Sum(f"sum{bit}", f"sum{bit - 1}", f"row{bit}") if bit else Part("sum0", "row0"))
        words["sum0"] = words["sum0"][:8]
        words["y"] = concat(words["sum7"].zero(cut), words["sum7"])[:16]
        netlist = builder.finish({"y": list(words["y"].literals)})
        return Certificate(netlist, {name: word.literals for name, word in words.items()}, [*claims, Part("y", "sum7")])

    assert check_product(narrow(0), PRODUCT) == []
    assert "too narrow" in check_product(narrow(1), PRODUCT)[0]


def mutated(netlist: Netlist, node: int) -> Netlist:
    fanins = netlist.fanins.copy()
    fanins[node, 0] ^= np.uint32(1)
    return Netlist(netlist.interface, fanins, netlist.outputs)


def test_every_mutated_multiplier_is_refused() -> None:
    certificate = multiplier(6)
    live = {int(literal) >> 1 for literal in certificate.netlist.outputs}
    first = 1 + 12
    for node in reversed(range(certificate.netlist.nodes)):
        if first + node in live:
            live |= {int(literal) >> 1 for literal in certificate.netlist.fanins[node]}
    nodes = [node for node in range(0, certificate.netlist.nodes, 7) if first + node in live]
    exhaustive = [(a, b) for a in range(64) for b in range(64)]
    accepted = 0
    for node in nodes:
        netlist = mutated(certificate.netlist, node)
        if check_product(replace(certificate, netlist=netlist), PRODUCT) == []:
            accepted += 1
            assert multiplies(netlist, exhaustive), f"node {node}: accepted, and wrong"
    assert accepted < len(nodes) / 4  # what is accepted had gates that do not matter


def multiplies(netlist: Netlist, pairs: list[tuple[int, int]]) -> bool:
    rows = rows_of(netlist.interface.inputs, [{"a": a, "b": b} for a, b in pairs])
    values = word_values(netlist.interface.outputs, evaluate(netlist, rows))["y"]
    return values.tolist() == [a * b for a, b in pairs]


def with_claim(certificate: Certificate, old: int, new: Claim) -> Certificate:
    claims = list(certificate.claims)
    claims[old] = new
    return replace(certificate, claims=claims)


def test_false_claims_are_refused() -> None:
    certificate = multiplier(8)
    rows = [claim for claim in certificate.claims if isinstance(claim, PartialProduct)]
    sums = [claim for claim in certificate.claims if isinstance(claim, Sum)]
    wrong: dict[str, Certificate] = {
        "is not the product": with_claim(certificate, 3, replace(rows[3], bit=4)),
        "has a claim already": replace(certificate, claims=[*certificate.claims, sums[0]]),
        "no word or claim before it": with_claim(certificate, 8, replace(sums[0], left="row99")),
        "and the whole of the other": with_claim(certificate, 3, replace(rows[3], other="a")),
        "no claim says": replace(certificate, claims=certificate.claims[:-1]),
        "is the name of an input": replace(certificate, words={**certificate.words, "a": [0] * 8}),
        "no word or claim before": replace(certificate, claims=list(reversed(certificate.claims))),
    }
    for text, case in wrong.items():
        problems = check_product(case, PRODUCT)
        assert any(text in problem for problem in problems), (text, problems)


def test_right_arithmetic_over_wrong_words_is_refused() -> None:
    certificate = multiplier(8)
    swapped = dict(certificate.words)
    swapped["row2"], swapped["row3"] = swapped["row3"], swapped["row2"]
    problems = check_product(replace(certificate, words=swapped), PRODUCT)
    assert problems
    assert all(problem.endswith("false") for problem in problems)


def test_claims_need_hold_only_where_given() -> None:
    """A product that is switched off by ``a = 0`` and inverted elsewhere is certified for ``a = 0`` only."""
    builder = Builder(Interface((Word("a", 2), Word("b", 2)), (Word("y", 4),)))
    a, b = (Bits(builder, tuple(builder.input(name))) for name in "ab")
    zero = ~a.any()
    product = a.zero_extend(4) * b.zero_extend(4)
    y = product ^ (~zero).repeat(4)
    rows = [(a.zero_extend(4) << bit) & b[bit].repeat(4) for bit in range(2)]
    netlist = builder.finish({"y": list(y.literals)})
    claims: list[Claim] = [PartialProduct(f"row{bit}", "a", "b", bit, 1 << bit) for bit in range(2)]
    claims += [Sum("sum", "row0", "row1"), Part("y", "sum")]
    words = {"row0": rows[0].literals, "row1": rows[1].literals, "sum": product.literals, "y": y.literals}
    assert check_product(Certificate(netlist, words, claims, zero.literals[0]), PRODUCT) == []
    assert check_product(Certificate(netlist, words, claims), PRODUCT)


def test_a_small_budget_is_told() -> None:
    """A row that is right only because multiplication commutes, which no solver sees in fifty conflicts."""
    builder = Builder(Interface((Word("a", 12), Word("b", 12)), (Word("y", 12),)))
    a, b = (Bits(builder, tuple(builder.input(name))) for name in "ab")
    y = (a & b[0].repeat(12)) ^ (a * b) ^ (b * a)
    netlist = builder.finish({"y": list(y.literals)})
    words = {"row": y.literals, "y": y.literals}
    claims: list[Claim] = [PartialProduct("row", "a", "b", 0, 1), Part("y", "row")]
    certificate = Certificate(netlist, words, claims)
    assert "not the product" in check_product(certificate, PRODUCT)[0]
    assert [problem[-9:] for problem in check_claims(certificate, conflicts=50)] == ["undecided"]
