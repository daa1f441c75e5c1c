"""What certifies multiplications: which product each instruction is, and why the reference computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapeout.circuit.certificate import Claim, Part, PartialProduct, Product, Sum

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
