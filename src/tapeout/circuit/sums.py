"""What certifies a learned sum as a product: its rows and totals found in the netlist, and claims about them.

The learner knows how it added a word up (``native/circuit/form.h``), not that it is a product. Here the coefficients of
each row are read off by evaluating it where one bit of each factor is 1; ``certificate.check_product`` then proves what
was read, so nothing has to be right but the proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeout.circuit.certificate import BitProducts, Certificate, Claim, Part, PartialProduct, Product, Sum
from tapeout.circuit.certificate import check_product as check_certificate
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.words import Interface, Rows, Word, pack, unpack

Coefficients = dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True, eq=False)
class LearnedSum:
    """Rows of a sum and the totals behind them, as literals of a netlist; ``subtract`` tells which are subtracted.

    The outputs that were learned are the upper bits of the last total.
    """

    rows: tuple[tuple[int, ...], ...]
    totals: tuple[tuple[int, ...], ...]
    subtract: tuple[bool, ...]

    @property
    def words(self) -> dict[str, Sequence[int]]:
        """The words that claims name."""
        names = {f"row[{k}]": row for k, row in enumerate(self.rows)}
        return {**names, **{f"sum[{k}]": total for k, total in enumerate(self.totals)}}


def find_sum(netlist: Netlist, facts: Mapping[str, Any]) -> LearnedSum | None:
    """The sum that a job of the learner reports, in a netlist that its gates were placed in; None where there is none.

    A netlist that was made smaller no longer has the gates.
    """
    trace: list[tuple[bool, list[int], list[int]]] = facts.get("trace") or []
    if not trace or any(subtract for subtract, _, _ in trace[:1]):
        return None
    builder = Builder(netlist.interface)
    there: list[tuple[int, int]] = netlist.fanins.tolist()
    own: list[tuple[int, int]] = facts["fanins"].tolist()
    for a, b in there:
        builder.and_(a, b)
    gates = len(builder.fanins)
    made = [2 * variable for variable in range(1 + netlist.interface.input_bits)]
    for a, b in own:
        made.append(builder.and_(made[a >> 1] ^ a & 1, made[b >> 1] ^ b & 1))
    if len(builder.fanins) != gates or gates != netlist.nodes:
        return None

    def literals(word: list[int]) -> tuple[int, ...]:
        return tuple(made[literal >> 1] ^ literal & 1 for literal in word)

    return LearnedSum(
        tuple(literals(row) for _, row, _ in trace),
        tuple(literals(total) for _, _, total in trace),
        tuple(subtract for subtract, _, _ in trace),
    )


def product_claims(
    netlist: Netlist, found: LearnedSum, product: Product, fixed: Mapping[int, int] | None = None
) -> list[Claim]:
    """Claims that the last total is the product, where the input bits ``fixed`` have their values; none where some row
    is not of products of the factors' bits."""
    claims: list[Claim] = []
    coefficients = _coefficients(netlist, found.rows, product, fixed or {})
    for index, (row, values) in enumerate(zip(found.rows, coefficients, strict=True)):
        claim = _row_claim(f"row[{index}]", values, len(row), netlist.interface, product)
        if claim is None:
            return []
        before = f"sum[{index - 1}]"
        total: Claim = Part("sum[0]", "row[0]")
        if index:
            total = Sum(f"sum[{index}]", before, f"row[{index}]", subtract=found.subtract[index])
        claims += [claim, total]
    return [*claims, Part(product.word, f"sum[{len(found.rows) - 1}]", product.low)]


def certify_product(netlist: Netlist, facts: Mapping[str, Any], product: Product) -> list[str]:
    """The reasons why an output word, learned as a sum, is not shown to be a product; none: it is proved."""
    found = find_sum(netlist, facts)
    if found is None:
        return ["the word was not learned as a sum, or the netlist does not have its gates"]
    claims = product_claims(netlist, found, product)
    if not claims:
        return ["a row of the sum is not of products of the factors' bits"]
    start = 0
    for word in netlist.interface.outputs:
        if word.name == product.word:
            break
        start += word.width
    else:
        return [f"there is no output {product.word}"]
    outputs: list[int] = netlist.outputs.tolist()
    words = {**found.words, product.word: outputs[start : start + word.width]}
    return check_certificate(Certificate(netlist, words, claims), product)


def _coefficients(
    netlist: Netlist, rows: Sequence[Sequence[int]], product: Product, fixed: Mapping[int, int]
) -> list[Coefficients]:
    """Each row's value where one bit of each factor is 1: the coefficient of their product, if it is of products."""
    places = _places(netlist.interface)
    (a, width_a), (b, width_b) = places[product.a], places[product.b]
    pairs = [(i, j) for i in range(width_a) for j in range(width_b)]
    bits = np.zeros((len(pairs), netlist.interface.input_bits), np.uint8)
    for bit, value in fixed.items():
        bits[:, bit] = value
    for index, (i, j) in enumerate(pairs):
        bits[index, a + i] = bits[index, b + j] = 1
    literals = np.array([literal for row in rows for literal in row], np.uint32)
    words = tuple(Word(f"row{index}", len(row)) for index, row in enumerate(rows))
    answers = evaluate(Netlist(Interface(netlist.interface.inputs, words), netlist.fanins, literals), pack(bits))
    return [dict(zip(pairs, values, strict=True)) for values in _values(answers, [len(row) for row in rows])]


def _values(answers: Rows, widths: Sequence[int]) -> list[list[int]]:
    """The words of each row of bits as numbers, word by word."""
    bits = unpack(answers, sum(widths))
    words: list[list[int]] = []
    start = 0
    for width in widths:
        packed = np.packbits(bits[:, start : start + width], axis=1, bitorder="little")
        words.append([int.from_bytes(row.tobytes(), "little") for row in packed])
        start += width
    return words


def _places(interface: Interface) -> dict[str, tuple[int, int]]:
    places: dict[str, tuple[int, int]] = {}
    start = 0
    for word in interface.inputs:
        places[word.name] = (start, word.width)
        start += word.width
    return places


def _row_claim(name: str, values: Coefficients, width: int, interface: Interface, product: Product) -> Claim | None:
    """One product a column, or a multiple of one factor where a bit of the other is 1."""
    used = {key: value for key, value in values.items() if value}
    columns = [value.bit_length() - 1 for value in used.values()]
    if all(value & (value - 1) == 0 for value in used.values()) and len(set(columns)) == len(columns):
        products = tuple((column, i, j) for column, (i, j) in zip(columns, used, strict=True))
        return BitProducts(name, product.a, product.b, products)
    widths = {word.name: word.width for word in interface.inputs}
    for side, (other, factor, signed) in enumerate(
        ((product.a, product.b, product.signed_b), (product.b, product.a, product.signed_a))
    ):
        bits = {key[side] for key in used}
        if len(bits) != 1:
            continue
        (bit,) = bits
        by_place = {key[1 - side]: value for key, value in used.items()}
        scale = by_place.get(0, 0)
        if scale >> (width - 1):
            scale -= 1 << width
        weights = [1 << place for place in range(widths[factor])]
        if signed:
            weights[-1] = -weights[-1]
        if all(by_place.get(place, 0) == scale * weight % (1 << width) for place, weight in enumerate(weights)):
            return PartialProduct(name, factor, other, bit, scale, signed)
    return None
