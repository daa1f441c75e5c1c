"""Certificates of multiplication: a proof that a netlist multiplies, in steps that a SAT solver can do.

No solver proves two different 32x32 multipliers equal. But whoever made one, a learner too, knows words inside it: rows
that are a shifted factor where one bit of the other is 1, and sums of rows. A certificate names these words and claims
how each follows from others. Then

1. every claim is checked by SAT over the gates between its own words, which are free variables there. A claim that
   holds for all their values holds for those they take; so nothing has to be assumed of the words.
2. every word's value follows from the claims as a polynomial ``sum c[i, j] * a[i] * b[j]`` in the bits of the factors,
   modulo ``2**width``. Two of them are equal as functions just where their coefficients are equal, so the comparison
   with the product of two numbers is exact and needs no solver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from tapeout.circuit.bitvector import Bits, concat
from tapeout.circuit.miter import Cones, input_literals, instantiate, translate
from tapeout.circuit.netlist import TRUE, Builder, Netlist
from tapeout.circuit.words import Interface

Polynomial = dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class PartialProduct:
    """``target`` is ``scale * factor`` where bit ``bit`` of the other factor is 1, else 0; modulo ``2**width`` of it.

    ``factor`` and ``other`` are input words; with ``signed`` the factor is in two's complement.
    """

    target: str
    factor: str
    other: str
    bit: int
    scale: int
    signed: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class BitProducts:
    """Bit ``column`` of ``target`` is ``a[i] & b[j]`` for each ``(column, i, j)``; the others are 0."""

    target: str
    a: str
    b: str
    products: tuple[tuple[int, int, int], ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Sum:
    """``target`` is ``left + right``, or ``left - right``, modulo ``2**width`` of it; the terms are zero-extended."""

    target: str
    left: str
    right: str
    subtract: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return self.left, self.right


@dataclass(frozen=True, slots=True)
class Part:
    """``target`` is the bits of ``source`` from ``low`` on, as many as it has."""

    target: str
    source: str
    low: int = 0

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)


Claim = PartialProduct | BitProducts | Sum | Part


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """Words inside a netlist, as literals from the least significant bit up, and claims in an order of derivation.

    The claims are made for the input rows where the literal ``given`` is 1. Input words keep their names.
    """

    netlist: Netlist
    words: Mapping[str, Sequence[int]]
    claims: Sequence[Claim]
    given: int = TRUE


@dataclass(frozen=True, slots=True)
class Product:
    """What is to be certified: ``word`` is the bits from ``low`` on of the product of two input words."""

    word: str
    a: str
    b: str
    signed_a: bool = False
    signed_b: bool = False
    low: int = 0


def check_product(certificate: Certificate, product: Product, conflicts: int = 100_000) -> list[str]:
    """The reasons why the certificate does not show that a word is a product; none: it is proved.

    ``conflicts`` is the solver's budget for one bit of a claim. Some claim must be a ``Part`` whose target is the word.
    """
    return compare_product(certificate, product) or check_claims(certificate, conflicts)


def compare_product(certificate: Certificate, product: Product) -> list[str]:
    """The reasons why the claims, if they hold, do not make the word the product."""
    derived = _Derivation(certificate, product)
    return derived.problems or derived.compare(product)


class _Derivation:
    """The polynomial of every word, in the bits of ``product.a`` and ``product.b``."""

    def __init__(self, certificate: Certificate, product: Product) -> None:
        self.words = certificate.words
        self.inputs = {word.name: word.width for word in certificate.netlist.interface.inputs}
        self.product = product
        self.values: dict[str, Polynomial] = {}
        self.part_of: dict[str, Part] = {}
        self.problems = [f"{name} is the name of an input" for name in self.words if name in self.inputs]
        self.problems += [f"{name} is not an input" for name in (product.a, product.b) if name not in self.inputs]
        if self.problems:
            return
        for claim in certificate.claims:
            missing = [name for name in (claim.target, *claim.sources) if name not in self.words]
            missing += [name for name in claim.sources if name in self.words and not self._known(name)]
            if missing:
                self.problems.append(f"{claim}: no word or claim before it gives {', '.join(missing)}")
            elif self._known(claim.target):
                self.problems.append(f"{claim}: {claim.target} has a claim already")
            else:
                self._derive(claim)

    def compare(self, product: Product) -> list[str]:
        """Whether the word is the wanted part of the product."""
        part = self.part_of.get(product.word)
        if part is None or part.low != product.low or part.source not in self.values:
            return [f"no claim says that {product.word} is a part from bit {product.low} on of a word with a value"]
        end = product.low + len(self.words[product.word])
        if end > len(self.words[part.source]):
            return [f"{part.source} has fewer than {end} bits"]
        value = self.values[part.source]
        for i, weight_a in enumerate(self._weights(product.a, product.signed_a)):
            for j, weight_b in enumerate(self._weights(product.b, product.signed_b)):
                if (value.get((i, j), 0) - weight_a * weight_b) % (1 << end):
                    return [f"{part.source} is not the product: bits {i} of {product.a} and {j} of {product.b}"]
        return []

    def _known(self, name: str) -> bool:
        return name in self.values or name in self.part_of

    def _weights(self, name: str, signed: bool) -> list[int]:
        weights = [1 << bit for bit in range(self.inputs[name])]
        return [*weights[:-1], -weights[-1]] if signed else weights

    def _derive(self, claim: Claim) -> None:
        match claim:
            case PartialProduct(target, factor, other, bit, scale, signed):
                if {factor, other} != {self.product.a, self.product.b} or not 0 <= bit < self.inputs[other]:
                    self.problems.append(f"{claim}: it must be of a bit of one factor and the whole of the other")
                    return
                weights = self._weights(factor, signed)
                first = factor == self.product.a
                self.values[target] = {
                    (place, bit) if first else (bit, place): scale * weight for place, weight in enumerate(weights)
                }
            case BitProducts(target, a, b, products):
                self._derive_products(claim, target, (a, b), products)
            case Sum(target, left, right, subtract):
                if not (self._usable(claim, left) and self._usable(claim, right)):
                    return
                total = dict(self.values[left])
                for key, coefficient in self.values[right].items():
                    total[key] = total.get(key, 0) + (-coefficient if subtract else coefficient)
                self.values[target] = total
            case Part(target, source, low):
                if low == 0 and source in self.values and len(self.words[target]) <= len(self.words[source]):
                    self.values[target] = self.values[source]
                self.part_of[target] = claim

    def _derive_products(
        self, claim: Claim, target: str, factors: tuple[str, str], products: Sequence[tuple[int, int, int]]
    ) -> None:
        columns = [column for column, _, _ in products]
        inside = all(
            0 <= column < len(self.words[target]) and 0 <= i < self.inputs[self.product.a]
            and 0 <= j < self.inputs[self.product.b]
            for column, i, j in products
        )  # fmt: skip
        if factors != (self.product.a, self.product.b) or len(set(columns)) < len(columns) or not inside:
            self.problems.append(f"{claim}: it must be of bits of both factors, one product a column")
            return
        value: Polynomial = {}
        for column, i, j in products:
            value[i, j] = value.get((i, j), 0) + (1 << column)
        self.values[target] = value

    def _usable(self, claim: Sum, term: str) -> bool:
        """Whether the term as a number is its polynomial modulo the width of the sum: as wide, or never overflowing."""
        if term in self.values:
            width = len(self.words[term])
            coefficients = self.values[term].values()
            lowest = sum(value for value in coefficients if value < 0)
            highest = sum(value for value in coefficients if value > 0)
            if width >= len(self.words[claim.target]) or (lowest == 0 and highest < 1 << width):
                return True
        self.problems.append(f"{claim}: {term} is too narrow for its value, or has none")
        return False


def check_claims(certificate: Certificate, conflicts: int) -> list[str]:
    """Which claims do not hold, or are not decided, each checked over the gates between its own words."""
    interface = Interface(certificate.netlist.interface.inputs, ())
    builder = Builder(interface)
    roots = [certificate.given, *(literal for word in certificate.words.values() for literal in word)]
    became = instantiate(builder, certificate.netlist, input_literals(interface), roots)
    words = {word.name: Bits(builder, tuple(builder.input(word.name))) for word in interface.inputs}
    for name, literals in certificate.words.items():
        words[name] = Bits(builder, tuple(translate(became, literals)))
    (given,) = translate(became, [certificate.given])
    meanings = [_meaning(claim, words) for claim in certificate.claims]
    netlist = builder.finish({})
    problems: list[str] = []
    for claim, meaning in zip(certificate.claims, meanings, strict=True):
        cut = {literal >> 1 for name in claim.sources for literal in words[name].literals}
        answer = _always_equal(netlist, cut, given, words[claim.target], meaning, conflicts)
        if not answer:
            problems.append(f"{claim}: {'false' if answer is False else 'undecided'}")
    return problems


def _meaning(claim: Claim, words: Mapping[str, Bits]) -> Bits:
    """What the target must equal, as a term over the sources."""
    width = words[claim.target].width
    match claim:
        case PartialProduct(_, factor, other, bit, scale, signed):
            word = words[factor]
            whole = word.sign_extend(max(width, word.width)) if signed else word.zero_extend(max(width, word.width))
            places = [place for place in range(abs(scale).bit_length()) if abs(scale) >> place & 1]
            scaled = reduce(Bits.__add__, (whole[:width] << place for place in places), word.zero(width))
            return (-scaled if scale < 0 else scaled) & words[other][bit].repeat(width)
        case BitProducts(_, a, b, products):
            bits = {column: words[a][i] & words[b][j] for column, i, j in products}
            zero = words[a].zero(1)
            return concat(*(bits.get(column, zero) for column in reversed(range(width))))
        case Sum(_, left, right, subtract):
            terms = [_resized(words[name], width) for name in (left, right)]
            return terms[0] - terms[1] if subtract else terms[0] + terms[1]
        case Part(_, source, low):
            return _resized(words[source][low:], width)


def _resized(word: Bits, width: int) -> Bits:
    return concat(word.zero(max(width - word.width, 0)), word)[:width]


def _always_equal(
    netlist: Netlist, cut: set[int], given: int, target: Bits, meaning: Bits, conflicts: int
) -> bool | None:
    """Whether two words agree wherever ``given`` holds, the lowest bits first: proved bits help with the next ones."""
    cones = Cones(netlist, cut)
    try:
        cones.assume(given)
        for a, b in zip(target.literals, meaning.literals, strict=True):
            for x, y in ((a, b ^ 1), (a ^ 1, b)):
                answer = cones.satisfiable([x, y], conflicts)
                if answer is not False:
                    return None if answer is None else False
            cones.assume_equal(a, b)
    finally:
        cones.close()
    return True
