"""Decision trees over example rows: one tree with learned features, and boosted trees with small integer leaves.

Features are inputs and, made from them, ANDs and XORs of two features: those at the fringe of a tree (Pagallo and
Haussler, Boolean feature discovery in empirical learning, Machine Learning 5, 1990) and parities that correlate with
the target. Boosting is the second-order one of Chen and Guestrin (XGBoost, KDD 2016), its leaves rounded to integers
as it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit import gates as g

Bits = NDArray[np.bool_]
Floats = NDArray[np.float32]
Recipe = tuple[Literal["and", "xor"], int, bool, int, bool]
"""Two features, each perhaps inverted, and the gate between them."""


class Features:
    """Inputs and features made from them, on a set of rows: ``matrix[rows, features]``."""

    def __init__(self, inputs: Bits, recipes: Sequence[Recipe] = ()) -> None:
        self.inputs = inputs.shape[1]
        self.recipes: list[Recipe] = []
        self._columns = [np.ascontiguousarray(column) for column in inputs.T]
        self._known: set[bytes] = set()
        for column in self._columns:
            self._known |= {column.tobytes(), (~column).tobytes()}
        for recipe in recipes:
            self._append(recipe, self._compute(recipe))

    def _compute(self, recipe: Recipe) -> Bits:
        kind, a, not_a, b, not_b = recipe
        left, right = self._columns[a] ^ not_a, self._columns[b] ^ not_b
        return left & right if kind == "and" else left ^ right

    def _append(self, recipe: Recipe, column: Bits) -> None:
        self.recipes.append(recipe)
        self._columns.append(column)

    def offer(self, recipe: Recipe) -> bool:
        """Takes a new feature unless its column, or the complement, or a constant is there already."""
        column = self._compute(recipe)
        key = column.tobytes()
        if key in self._known or column.all() or not column.any():
            return False
        self._known |= {key, (~column).tobytes()}
        self._append(recipe, column)
        return True

    @property
    def matrix(self) -> Bits:
        return np.stack(self._columns, axis=1)

    @property
    def count(self) -> int:
        return len(self._columns)


def signals(gates: Any, inputs: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
    """Features as signals."""
    result = list(inputs)
    for kind, a, not_a, b, not_b in recipes:
        left = gates.not_(result[a]) if not_a else result[a]
        right = gates.not_(result[b]) if not_b else result[b]
        result.append(gates.and_(left, right) if kind == "and" else gates.xor(left, right))
    return result


@dataclass(slots=True)
class Tree:
    """A leaf with a ``value``, or a split: ``low`` where the ``feature`` is 0, ``high`` where it is 1."""

    value: float
    feature: int = -1
    low: Tree | None = None
    high: Tree | None = None

    def predict(self, matrix: Bits) -> Floats:
        """The leaf's value of each row."""
        result = np.empty(len(matrix), np.float32)
        self._fill(matrix, np.arange(len(matrix)), result)
        return result

    def _fill(self, matrix: Bits, rows: NDArray[np.int64], result: Floats) -> None:
        if self.low is None or self.high is None:
            result[rows] = self.value
            return
        chosen = matrix[rows, self.feature]
        self.low._fill(matrix, rows[~chosen], result)
        self.high._fill(matrix, rows[chosen], result)

    def emit_bit(self, gates: Any, features: Sequence[Any], bit: int, offset: int) -> Any:
        """Bit ``bit`` of ``value + offset``, as multiplexers."""
        if self.low is None or self.high is None:
            one = round(self.value) + offset >> bit & 1
            return gates.not_(gates.zero) if one else gates.zero
        low = self.low.emit_bit(gates, features, bit, offset)
        high = self.high.emit_bit(gates, features, bit, offset)
        return low if low is high else gates.mux(features[self.feature], high, low)

    def leaves(self) -> Iterator[float]:
        """The values of all leaves."""
        if self.low is None or self.high is None:
            yield self.value
        else:
            yield from self.low.leaves()
            yield from self.high.leaves()


# ---- one tree


def grow(matrix: Floats, target: Floats, rows: NDArray[np.int64], min_leaf: int, depth: int = 60) -> Tree:
    """A tree for ``target`` (0 or 1) by entropy; it ends where rows agree or a side would have less than
    ``min_leaf``."""
    ones = float(target[rows].sum())
    share = ones / len(rows)
    if share in (0.0, 1.0) or len(rows) < 2 * min_leaf or depth == 0:
        return Tree(float(share > 0.5))
    part = matrix[rows]
    high = part.sum(axis=0)
    high_ones = target[rows] @ part
    low, low_ones = len(rows) - high, ones - high_ones
    loss = _entropy(high, high_ones) + _entropy(low, low_ones)
    loss[(high < min_leaf) | (low < min_leaf)] = np.inf
    feature = int(np.argmin(loss))
    if not np.isfinite(loss[feature]):
        return Tree(float(share > 0.5))
    chosen = part[:, feature] > 0
    return Tree(
        float(share > 0.5), feature, grow(matrix, target, rows[~chosen], min_leaf, depth - 1), grow(matrix, target,
        rows[chosen], min_leaf, depth - 1),
    )  # fmt: skip


def _entropy(rows: Floats, ones: Floats) -> Floats:
    zeros = rows - ones
    total = np.maximum(rows, 1)
    loss = -(ones * np.log2(np.maximum(ones, 1e-9) / total) + zeros * np.log2(np.maximum(zeros, 1e-9) / total))
    return loss.astype(np.float32)


def fringe(tree: Tree, above: tuple[int, bool] | None = None) -> Iterator[Recipe]:
    """Pairs of decisions that end in a leaf: their AND on the way to it, and their XOR."""
    if tree.low is None or tree.high is None:
        return
    for side, below in ((False, tree.low), (True, tree.high)):
        if above is not None and below.low is None and above[0] != tree.feature:
            yield "and", above[0], not above[1], tree.feature, not side
            yield "xor", above[0], False, tree.feature, False
        yield from fringe(below, (tree.feature, side))


def grow_with_fringe(features: Features, target: Bits, min_leaf: int, rounds: int = 6, most: int = 300) -> Tree:
    """Grows a tree, takes the features at its fringe, and grows again, until none is new or there are ``most``."""
    rows = np.arange(len(target))
    wanted = target.astype(np.float32)
    tree = grow(features.matrix.astype(np.float32), wanted, rows, min_leaf)
    for _ in range(rounds):
        new = sum(features.offer(recipe) for recipe in fringe(tree) if features.count < features.inputs + most)
        if not new:
            break
        tree = grow(features.matrix.astype(np.float32), wanted, rows, min_leaf)
    return tree


# ---- parities


def parities(inputs: Bits, target: Bits, most: int = 24) -> list[tuple[tuple[int, ...], float]]:
    """Sets of two or three inputs whose parity correlates with the target more than chance explains, strongest
    first."""
    rows, bits = inputs.shape
    signs = (2 * inputs.astype(np.float32)) - 1
    wanted = 2 * target.astype(np.float32) - 1
    found: list[tuple[tuple[int, ...], float]] = []
    pairs = [(i, j) for i in range(bits) for j in range(i + 1, bits)]
    if not pairs:
        return found
    limit = float(np.sqrt((2 * np.log(len(pairs)) + 8) / rows))
    table = (signs * wanted[:, None]).T @ signs / rows
    found += [((i, j), float(table[i, j])) for i, j in pairs if abs(table[i, j]) > limit]
    if bits <= 72:
        limit = float(np.sqrt((2 * np.log(len(pairs) * bits) + 8) / rows))
        for i in range(bits - 2):
            weighted = (signs[:, i + 1 :] * (wanted * signs[:, i])[:, None]).T @ signs[:, i + 1 :] / rows
            for a, b in zip(*np.nonzero(np.triu(np.abs(weighted) > limit, 1)), strict=True):
                found.append(((i, i + 1 + int(a), i + 1 + int(b)), float(weighted[a, b])))
    found.sort(key=lambda item: -abs(item[1]))
    return found[:most]


def parity_recipes(features: Features, sets: Sequence[tuple[int, ...]]) -> None:
    """Offers the parity of each set as a feature."""
    for inputs in sets:
        feature = inputs[0]
        for other in inputs[1:]:
            recipe: Recipe = ("xor", feature, False, other, False)
            if recipe in features.recipes:
                feature = features.inputs + features.recipes.index(recipe)
            elif features.offer(recipe):
                feature = features.count - 1
            else:
                break


# ---- boosting

_LEAF = 7
_UNIT = 0.12


@dataclass(slots=True)
class Boosted:
    """Trees whose leaves are whole numbers of -7 to 7; 1 where their sum is at least 0."""

    trees: list[Tree]

    def predict(self, matrix: Bits, count: int | None = None) -> Bits:
        """The vote of the first ``count`` trees."""
        total = np.zeros(len(matrix), np.float32)
        for tree in self.trees[:count]:
            total += tree.predict(matrix)
        return total >= 0

    def emit(self, gates: Any, features: Sequence[Any], count: int | None = None) -> Any:
        """The circuit of the first ``count`` trees: leaves' bits, added up, compared."""
        terms: list[tuple[Any, int]] = []
        threshold = most = 0
        for tree in self.trees[:count]:
            values = [round(value) for value in tree.leaves()]
            low, high = min(values), max(values)
            threshold -= low
            most += high - low
            terms += [(tree.emit_bit(gates, features, bit, -low), 1 << bit) for bit in range((high - low).bit_length())]
        if threshold <= 0:
            return gates.not_(gates.zero)
        return g.at_least(gates, g.weigh(gates, terms, max(1, most.bit_length())), threshold)


def boost(
    matrix: Floats, target: Bits, count: int, depth: int, rate: float, random: np.random.Generator
) -> Boosted:  # fmt: skip
    """Up to ``count`` trees of ``depth``, each for what those before it leave wrong."""
    rows = len(target)
    wanted = target.astype(np.float32)
    margin = np.zeros(rows, np.float32)
    model = Boosted([])
    for _ in range(count):
        chance = (1 / (1 + np.exp(-_UNIT * margin))).astype(np.float32)
        slope, bend = wanted - chance, chance * (1 - chance)
        kept = random.random(rows) < 0.8
        tree = _level_tree(matrix, slope * kept, bend * kept, depth, rate / _UNIT)
        values = tree.predict(matrix > 0)
        if not values.any():
            break
        margin += values
        model.trees.append(tree)
    return model


def _level_tree(matrix: Floats, slope: Floats, bend: Floats, depth: int, scale: float) -> Tree:
    """A tree of full depth: the split of each node that lowers the second-order loss most."""
    rows = len(slope)
    place = np.zeros(rows, np.int64)
    splits: list[NDArray[np.int64]] = []
    for level in range(depth):
        nodes = 1 << level
        spread = np.zeros((rows, 2 * nodes), np.float32)
        spread[np.arange(rows), place] = slope
        spread[np.arange(rows), nodes + place] = bend
        totals = spread.sum(axis=0)
        high = spread.T @ matrix
        slope_high, bend_high = high[:nodes], high[nodes:]
        slope_low, bend_low = totals[:nodes, None] - slope_high, totals[nodes:, None] - bend_high
        gain = slope_high**2 / (bend_high + 1) + slope_low**2 / (bend_low + 1)
        gain[(bend_high < 0.5) | (bend_low < 0.5)] = -1
        chosen = np.argmax(gain, axis=1)
        splits.append(chosen)
        place = 2 * place + (matrix[np.arange(rows), chosen[place]] > 0)
    leaves = 1 << depth
    totals = np.bincount(place, slope, leaves), np.bincount(place, bend, leaves)
    values = np.clip(np.rint(scale * totals[0] / (totals[1] + 1)), -_LEAF, _LEAF)

    def node(level: int, index: int) -> Tree:
        if level == depth:
            return Tree(float(values[index]))
        low, high = node(level + 1, 2 * index), node(level + 1, 2 * index + 1)
        if low.low is None and high.low is None and low.value == high.value:
            return low
        return Tree(0.0, int(splits[level][index]), low, high)

    return node(0, 0)
