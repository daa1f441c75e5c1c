"""Structure that explains example rows to the last: wiring, parities, symmetric functions, thresholds, word arithmetic.

A guess is kept only if it agrees with every row, those that were held out while its parameters were fitted included.
The operators that are tried (`_operators`) and the ways to read words from the inputs (`_readings`) were written by
hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit import gates as g
from tapeout.circuit.gates import Column, ColumnGates, to_columns
from tapeout.circuit.words import Interface

Emit = Callable[[Any, Sequence[Any]], Any]
"""Makes a circuit: gates, the input signals, the output signal."""
Bits = NDArray[np.bool_]

BY_HAND = (
    "example sets, operators tried on words: a + b, a - b, b - a (each bit), a < b, a = b, signed a < b, a * b",
    "example sets, readings of words: the interface's words, both halves, even and odd inputs, each in both bit orders",
    "example sets, forms: wiring, parity, function of the number of ones, threshold of small weights, decision trees",
)


@dataclass(frozen=True, slots=True)
class Found:
    """A structure: what it is, in words, and the circuit."""

    fact: str
    emit: Emit


def find_structure(inputs: Bits, target: Bits, interface: Interface) -> Found | None:
    """The simplest structure that agrees with all rows ``inputs[rows, bits]``, ``target[rows]``."""
    for find in (_constant, _affine, _symmetric):
        found = find(inputs, target)
        if found:
            return found
    return _arithmetic(inputs, target, interface)


def _constant(inputs: Bits, target: Bits) -> Found | None:
    if target.any() and not target.all():
        return None
    value = bool(target.all())
    return Found(f"constant {int(value)}", lambda gates, x: gates.not_(gates.zero) if value else gates.zero)


def _affine(inputs: Bits, target: Bits) -> Found | None:
    """Elimination over GF(2): does a parity of some inputs (and 1) agree with every row?"""
    rows, bits = inputs.shape
    if rows < bits + 24:  # fewer rows agree with a parity by chance
        return None
    system = np.column_stack([inputs, np.ones(rows, np.bool_), target])
    columns = [int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little") for row in system]
    pivots: dict[int, int] = {}
    last = 1 << (bits + 1)
    for row in columns:
        while row & (last - 1):
            low = (row & -row).bit_length() - 1
            if low not in pivots:
                pivots[low] = row
                break
            row ^= pivots[low]
        else:
            if row:
                return None
    chosen: dict[int, int] = {}
    for pivot in sorted(pivots, reverse=True):  # free inputs stay out of the parity
        row = pivots[pivot]
        value = row >> (bits + 1) & 1
        for bit, known in chosen.items():
            value ^= known & row >> bit & 1
        chosen[pivot] = value
    used = [bit for bit in range(bits) if chosen.get(bit)]
    inverted = bool(chosen.get(bits, 0))

    def emit(gates: Any, x: Sequence[Any]) -> Any:
        result = gates.not_(gates.zero) if inverted else gates.zero
        for bit in used:
            result = gates.xor(result, x[bit])
        return result

    name = "wiring" if len(used) == 1 else f"parity of {len(used)} inputs"
    return Found(f"{'inverted ' if inverted else ''}{name}", emit)


def _symmetric(inputs: Bits, target: Bits) -> Found | None:
    """A function of the number of ones: of all inputs, or of those that seem to matter, each perhaps inverted."""
    rows, bits = inputs.shape
    signs = 2.0 * inputs - 1
    correlation = (2.0 * target - 1) @ signs / rows
    strong = np.abs(correlation) > 4 / np.sqrt(rows)
    trials = [(np.ones(bits, np.bool_), np.zeros(bits, np.bool_))]
    if strong.any():
        trials += [(np.ones(bits, np.bool_), correlation < 0), (strong, correlation < 0)]
    for used, inverted in trials:
        places = np.flatnonzero(used)
        flips = inverted[places]
        counts = (inputs[:, places] ^ flips).sum(axis=1)
        table = _pure_table(counts, target, len(places))
        if table is not None:
            width = len(places).bit_length()
            table += [table[-1]] * ((1 << width) - len(table))

            def emit(gates: Any, x: Sequence[Any], places: Any = places, flips: Any = flips, width: int = width,
                     table: list[bool] = table) -> Any:  # fmt: skip
                terms = [(gates.not_(x[i]) if flip else x[i], 1) for i, flip in zip(places, flips, strict=True)]
                return g.look_up(gates, g.weigh(gates, terms, width), table)

            return Found(f"function of the number of ones of {len(places)} inputs", emit)
    return None


def _pure_table(counts: NDArray[np.int64], target: Bits, most: int) -> list[bool] | None:
    """The value for each count, if the rows agree on it; a count without rows takes its nearest neighbour's."""
    seen = np.bincount(counts, minlength=most + 1)
    ones = np.bincount(counts[target], minlength=most + 1)
    if ((ones > 0) & (ones < seen)).any() or (seen > 0).sum() < 2 or (seen > 4).sum() * 8 > seen.sum():
        return None
    known = np.flatnonzero(seen)
    return [bool(ones[known[np.argmin(np.abs(known - count))]]) for count in range(most + 1)]


# ---- words


def _readings(interface: Interface) -> Iterator[tuple[str, list[int], list[int]]]:
    """Pairs of words that the inputs may hold, the least significant bit first, with a name."""
    bits = interface.input_bits
    starts: list[list[int]] = []
    at = 0
    for word in interface.inputs:
        starts.append(list(range(at, at + word.width)))
        at += word.width
    names = [word.name for word in interface.inputs]
    pairs = [
        (f"{names[i]}, {names[j]}", starts[i], starts[j])
        for i in range(len(names)) for j in range(i + 1, len(names))
        if len(names) <= 8 and len(starts[i]) > 1 and len(starts[j]) > 1
    ]  # fmt: skip
    if bits % 2 == 0 and bits >= 4:
        pairs.append(("first half, second half", list(range(bits // 2)), list(range(bits // 2, bits))))
        pairs.append(("even, odd inputs", list(range(0, bits, 2)), list(range(1, bits, 2))))
    for name, a, b in pairs:
        yield name, a, b
        yield f"{name}, most significant first", a[::-1], b[::-1]


def _operators(gates: Any, a: list[Any], b: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """What two words may be combined to: a name and the bits of the result."""
    yield "a + b", g.add(gates, a, b)
    width = max(len(a), len(b))
    a = a + [gates.zero] * (width - len(a))
    b = b + [gates.zero] * (width - len(b))
    difference = g.subtract(gates, a, b)
    yield "a - b", difference
    reverse = g.subtract(gates, b, a)
    yield "b - a", reverse
    equal = gates.zero
    for x, y in zip(a, b, strict=True):
        equal = gates.or_(equal, gates.xor(x, y))
    yield "a < b, b < a, a = b", [difference[-1], reverse[-1], gates.not_(equal)]
    signs = gates.xor(a[-1], b[-1])
    yield "signed a < b, b < a", [gates.xor(difference[-1], signs), gates.xor(reverse[-1], signs)]


_PRODUCT_BITS = 1024
"""Products of longer words do not fit the usual node budget."""


def _arithmetic(inputs: Bits, target: Bits, interface: Interface) -> Found | None:
    rows = len(inputs)
    columns = to_columns(inputs)
    (wanted,) = to_columns(target.reshape(-1, 1))
    spare = to_columns(np.ones((rows, 1), np.bool_))[0]
    computing: Any = ColumnGates(rows)
    inverted: Found | None = None
    for name, a, b in _readings(interface):
        left, right = [columns[i] for i in a], [columns[i] for i in b]
        results = list(_operators(computing, left, right))
        if len(a) * len(b) <= _PRODUCT_BITS:
            results.append(("a * b", g.multiply(computing, left, right)))
        for label, bits in results:
            hit = _match(bits, wanted, spare)
            if hit is None:
                continue
            found = Found(_fact(label, name, *hit), _operator_emit(label, a, b, *hit))
            if not hit[1]:
                return found
            inverted = inverted or found  # a < b and not b < a differ where a = b, which rows may not show
    return inverted


def _fact(label: str, words: str, bit: int, inverted: bool) -> str:
    return f"bit {bit} of {'the complement of ' if inverted else ''}{label} ({words})"


def _match(bits: Sequence[Column], wanted: Column, spare: Column) -> tuple[int, bool] | None:
    for index, bit in enumerate(bits):
        difference = (bit ^ wanted) & spare
        if not difference.any():
            return index, False
        if np.array_equal(difference, spare):
            return index, True
    return None


def _operator_emit(label: str, a: list[int], b: list[int], bit: int, inverted: bool) -> Emit:
    def emit(gates: Any, x: Sequence[Any]) -> Any:
        left, right = [x[i] for i in a], [x[i] for i in b]
        if label == "a * b":
            result = g.multiply(gates, left[: bit + 1], right[: bit + 1])[bit]
        else:
            result = dict(_operators(gates, left, right))[label][bit]
        return gates.not_(result) if inverted else result

    return emit
