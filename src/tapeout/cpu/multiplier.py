"""What certifies multiplications: which product each instruction is, and why the reference computes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapeout.circuit.certificate import Certificate, Claim, Part, PartialProduct, Product, Sum, compare_product
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.sums import find_sum, product_claims
from tapeout.cpu.classes import instruction_classes

# Unprivileged manual, 7.1: rd of each instruction as a part of a product of rs1 and rs2.
PRODUCTS = {
    "MUL": Product("rd", "rs1", "rs2"),
    "MULH": Product("rd", "rs1", "rs2", signed_a=True, signed_b=True, low=32),
    "MULHSU": Product("rd", "rs1", "rs2", signed_a=True, low=32),
    "MULHU": Product("rd", "rs1", "rs2", low=32),
}


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Words inside a processor's netlist, as its literals, and claims about them for one instruction.

    The last claim is that ``rd`` is a part of a word; ``rd`` itself need not be among the words.
    """

    words: Mapping[str, Sequence[int]]
    claims: Sequence[Claim]


def reference_claims(instruction: str) -> list[Claim]:
    """Claims about the words that ``traced_reference`` names: an array of rows, less the excess of negative factors."""
    product = PRODUCTS[instruction]
    claims: list[Claim] = [PartialProduct("row[0]", "rs1", "rs2", 0, 1), Part("sum[0]", "row[0]")]
    for bit in range(1, 32):
        claims.append(PartialProduct(f"row[{bit}]", "rs1", "rs2", bit, 1 << bit))
        claims.append(Sum(f"sum[{bit}]", f"sum[{bit - 1}]", f"row[{bit}]"))
    total = "sum[31]"
    for factor, other, signed in (("rs1", "rs2", product.signed_a), ("rs2", "rs1", product.signed_b)):
        if signed:
            claims.append(PartialProduct(f"excess_{factor}", other, factor, 31, 1 << 32))
            claims.append(Sum(f"product_{factor}", total, f"excess_{factor}", subtract=True))
            total = f"product_{factor}"
    return [*claims, Part("rd", total, product.low)]


def learned_traces(netlist: Netlist, variant: str, facts: Iterable[Mapping[str, Any]]) -> dict[str, Trace]:
    """What certifies the multiplications of a learned processor, by class, for ``proof.prove``.

    ``facts`` are those of the leaves of ``rd`` that were learned as sums; ``netlist`` is as it was learned, not yet
    made smaller. Classes without a sum that is their product are missing.
    """
    sums = [found for leaf in facts if (found := find_sum(netlist, leaf)) is not None]
    rd = _output(netlist, "rd")
    traces: dict[str, Trace] = {}
    for part in instruction_classes(variant):
        product = PRODUCTS.get(part.name)
        if product is None:
            continue
        fixed = {
            bit: part.cube.match >> bit & 1 for bit in range(part.cube.mask.bit_length()) if part.cube.mask >> bit & 1
        }
        for found in sums:
            claims = product_claims(netlist, found, product, fixed)
            certificate = Certificate(netlist, {**found.words, "rd": rd}, claims)
            if claims and not compare_product(certificate, product):
                traces[part.name] = Trace(found.words, claims)
                break
    return traces


def _output(netlist: Netlist, name: str) -> list[int]:
    literals: list[int] = netlist.outputs.tolist()
    for word in netlist.interface.outputs:
        if word.name == name:
            return literals[: word.width]
        literals = literals[word.width :]
    raise KeyError(name)
