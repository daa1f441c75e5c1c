"""Learning from fixed rows: structure first, then whichever model does best on rows held out from it, under a node
budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit import gates as g
from tapeout.circuit.example_structure import Emit, find_structure
from tapeout.circuit.example_trees import (
    Boosted,
    Features,
    Tree,
    boost,
    grow,
    grow_with_fringe,
    parities,
    parity_recipes,
    signals,
)
from tapeout.circuit.examples import Examples
from tapeout.circuit.gates import AigGates, ColumnGates, to_bits, to_columns
from tapeout.circuit.netlist import Builder, Netlist
from tapeout.circuit.words import Interface, Word, unpack

Bits = NDArray[np.bool_]
MAX_NODES = 5000
_HELD_OUT = 5
"""One row in so many judges the models."""
_ENOUGH = 40
"""Rows below which a constant or a plain tree is all that can be judged."""


@dataclass(frozen=True, slots=True)
class Model:
    """A circuit for one output: how it was found, the share of held-out rows that it gets right, its AND nodes."""

    kind: str
    emit: Emit
    accuracy: float
    nodes: int
    held_out: int


def learn_outputs(
    examples: Examples,
    seed: int = 0,
    max_nodes: int = MAX_NODES,
    budget_s: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Netlist, list[Model]]:
    """A netlist of at most ``max_nodes`` ANDs, the budget shared evenly, and the model of each output bit.

    Where time runs out, the outputs that are left get a plain tree.
    """
    interface = examples.interface
    inputs = unpack(examples.inputs, interface.input_bits).astype(np.bool_)
    outputs = unpack(examples.outputs, interface.output_bits).astype(np.bool_)
    care = unpack(examples.care, interface.output_bits).astype(np.bool_)
    count = interface.output_bits
    begin = time.monotonic()
    models: list[Model] = []
    for bit in range(count):
        if progress:
            progress(bit, count)
        known = care[:, bit]
        deadline = None if budget_s is None else begin + budget_s * (bit + 1) / count
        budget = max(0, max_nodes) // count
        models.append(learn_bit(inputs[known], outputs[known, bit], interface, [seed, bit], budget, deadline))
    return build(interface, [model.emit for model in models]), models


def learn_bit(
    inputs: Bits, target: Bits, interface: Interface, seed: Sequence[int], max_nodes: int, deadline: float | None = None
) -> Model:
    """One output from ``inputs[rows, bits]`` and ``target[rows]``; the best model on held-out rows, fitted again to
    all."""
    rows = len(target)
    if rows == 0:
        return Model("nothing known", lambda gates, x: gates.zero, 1.0, 0, 0)
    found = find_structure(inputs, target, interface)
    if found:
        nodes = _size(found.emit, inputs.shape[1])
        if nodes <= max_nodes:
            return Model(found.fact, found.emit, 1.0, nodes, 0)
    held = np.random.default_rng(seed).permutation(rows) % _HELD_OUT == 0
    if rows < _ENOUGH or not held.any():
        held = np.zeros(rows, np.bool_)
    trial = _Trial(inputs, target, held, seed, max_nodes, deadline)
    return trial.best()


def build(interface: Interface, emits: Sequence[Emit]) -> Netlist:
    """The netlist of a circuit for each output bit, without nodes that no output needs."""
    builder = Builder(interface)
    inputs = [literal for word in interface.inputs for literal in builder.input(word.name)]
    literals = [emit(AigGates(builder), inputs) for emit in emits]
    outputs: dict[str, list[int]] = {}
    for word in interface.outputs:
        outputs[word.name], literals = literals[: word.width], literals[word.width :]
    return _trim(builder.finish(outputs))


def _trim(netlist: Netlist) -> Netlist:
    first = 1 + netlist.interface.input_bits
    fanins = netlist.fanins.tolist()
    used = [False] * len(fanins)
    stack = [int(literal) // 2 for literal in netlist.outputs]
    while stack:
        node = stack.pop() - first
        if node >= 0 and not used[node]:
            used[node] = True
            stack += [literal // 2 for literal in fanins[node]]
    number = np.arange(first + len(fanins), dtype=np.uint32)
    kept = np.flatnonzero(used)
    number[first + kept] = first + np.arange(len(kept), dtype=np.uint32)

    def renumber(literals: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return 2 * number[literals // 2] + literals % 2

    return Netlist(netlist.interface, renumber(netlist.fanins[kept]), renumber(netlist.outputs))


def _size(emit: Emit, bits: int) -> int:
    return build(Interface((Word("x", bits),) if bits else (), (Word("y"),)), [emit]).nodes


@dataclass(frozen=True, slots=True)
class _Fit:
    """A way to learn: a name, and what makes a circuit of rows and their answers."""

    kind: str
    fit: Callable[[Bits, Bits], Emit | None]


class _Trial:
    """All models on one output."""

    def __init__(
        self, inputs: Bits, target: Bits, held: Bits, seed: Sequence[int], max_nodes: int, deadline: float | None
    ) -> None:
        self.inputs, self.target, self.held = inputs, target, held
        self.seed, self.max_nodes, self.deadline = seed, max_nodes, deadline
        self.parities = parities(inputs, target)

    def best(self) -> Model:
        train = ~self.held
        tree = _Fit("decision tree", self._plain_tree)
        scored = [self._score(tree, train)]
        if self.held.any():
            for fit in self._ways():
                if self.deadline is not None and time.monotonic() > self.deadline:
                    break
                scored.append(self._score(fit, train))
        accuracy, _, nodes, fit, emit = max(
            (s for s in scored if s[2] <= self.max_nodes), key=lambda s: s[1], default=scored[0]
        )
        if nodes > self.max_nodes:
            value = bool(self.target.mean() > 0.5)
            kind = "constant, for want of nodes"
            return Model(kind, _constant(value), max(float(self.target.mean()), 1 - float(self.target.mean())), 0, 0)
        again = self._again(fit) if self.held.any() else None
        emit, nodes = again or (emit, nodes)
        return Model(fit.kind, emit, accuracy, nodes, int(self.held.sum()))

    def _again(self, fit: _Fit) -> tuple[Emit, int] | None:
        """The same way with all rows."""
        emit = fit.fit(self.inputs, self.target)
        nodes = _size(emit, self.inputs.shape[1]) if emit else 0
        return (emit, nodes) if emit and nodes <= self.max_nodes else None

    def _score(self, fit: _Fit, train: Bits) -> tuple[float, float, int, _Fit, Emit]:
        """Accuracy, accuracy less a little for size, nodes, way, circuit."""
        emit = fit.fit(self.inputs[train], self.target[train])
        if emit is None:
            return 0.0, -1.0, 0, fit, _constant(False)
        nodes = _size(emit, self.inputs.shape[1])
        judged = self.held if self.held.any() else train
        accuracy = float((run(emit, self.inputs[judged]) == self.target[judged]).mean())
        return accuracy, accuracy - 2e-7 * nodes, nodes, fit, emit

    def _ways(self) -> list[_Fit]:
        ways = [
            _Fit("threshold", self._threshold),
            _Fit("fringe tree", self._fringe_tree(1)),
            _Fit("fringe tree, pruned", self._fringe_tree(4)),
        ]
        for depth in (3, 4, 5):
            ways.append(_Fit(f"boosted trees of depth {depth}", self._boosted(depth, False)))
        if self.parities:
            ways.append(_Fit("boosted trees of depth 4 with parities", self._boosted(4, True)))
        for taken in self._peels():
            name = f"parity of {len(taken)} inputs and "
            ways.append(_Fit(f"{name}threshold", self._peeled(taken, self._threshold)))
            ways.append(_Fit(f"{name}fringe tree", self._peeled(taken, self._fringe_tree(2))))
            ways.append(_Fit(f"{name}boosted trees", self._peeled(taken, self._boosted(4, False))))
        return ways

    def _peels(self) -> list[tuple[int, ...]]:
        """Parities after whose removal single inputs explain most of what is left."""
        trials = {part for found, _ in self.parities[:12] for part in _parts(found) if len(part) > 1}
        signs = 2.0 * self.inputs - 1

        def weight(target: Bits) -> float:
            return float((((2.0 * target - 1) @ signs / len(target)) ** 2).sum())

        base = weight(self.target)
        scored = [(weight(self.target ^ _parity(self.inputs, part)), part) for part in trials]
        return [part for score, part in sorted(scored, reverse=True)[:2] if score > 2 * base]

    # ---- ways to learn

    def _plain_tree(self, inputs: Bits, target: Bits) -> Emit:
        tree = grow(inputs.astype(np.float32), target.astype(np.float32), np.arange(len(target)), 1)
        return _tree_emit(tree, [])

    def _fringe_tree(self, min_leaf: int) -> Callable[[Bits, Bits], Emit]:
        def fit(inputs: Bits, target: Bits) -> Emit:
            features = Features(inputs)
            parity_recipes(features, [found for found, _ in self.parities])
            tree = grow_with_fringe(features, target, min_leaf)
            return _tree_emit(tree, features.recipes)

        return fit

    def _threshold(self, inputs: Bits, target: Bits) -> Emit | None:
        weights = _logistic(inputs, target)
        if weights is None:
            return None
        best: tuple[float, NDArray[np.int64], int] | None = None
        for most in (1, 2, 3, 5, 7, 11, 15, 31, 63):
            whole = np.rint(weights * most / np.abs(weights).max()).astype(np.int64)
            total = inputs @ whole
            threshold, right = _cut(total, target)
            if best is None or right > best[0] + 0.001:
                best = (right, whole, threshold)
        assert best is not None
        return _threshold_emit(best[1], best[2])

    def _boosted(self, depth: int, with_parities: bool) -> Callable[[Bits, Bits], Emit]:
        def fit(inputs: Bits, target: Bits) -> Emit:
            features = Features(inputs)
            if with_parities:
                parity_recipes(features, [found for found, _ in self.parities])
            count = max(1, 4 * self.max_nodes // (14 << depth))  # more than fit; `_within` counts
            model = boost(
                features.matrix.astype(np.float32), target, min(200, count), depth, 0.35,
                np.random.default_rng([*self.seed, depth]),
            )  # fmt: skip
            return self._within(model, features)

        return fit

    def _within(self, model: Boosted, features: Features) -> Emit:
        """As many of the first trees as the node budget holds."""
        recipes = features.recipes

        def emit_first(count: int) -> Emit:
            return lambda gates, x: model.emit(gates, signals(gates, x, recipes), count)

        low, high = 0, len(model.trees)
        while low < high:
            middle = (low + high + 1) // 2
            if _size(emit_first(middle), features.inputs) <= self.max_nodes:
                low = middle
            else:
                high = middle - 1
        return emit_first(low)

    def _peeled(
        self, taken: tuple[int, ...], inner: Callable[[Bits, Bits], Emit | None]
    ) -> Callable[[Bits, Bits], Emit | None]:
        def fit(inputs: Bits, target: Bits) -> Emit | None:
            rest = inner(inputs, target ^ _parity(inputs, taken))
            if rest is None:
                return None

            def emit(gates: Any, x: Sequence[Any]) -> Any:
                result = rest(gates, x)
                for bit in taken:
                    result = gates.xor(result, x[bit])
                return result

            return emit

        return fit


def run(emit: Emit, inputs: Bits) -> Bits:
    """A circuit's answers to ``inputs[rows, bits]``."""
    column = emit(ColumnGates(len(inputs)), to_columns(inputs))
    return to_bits(column, len(inputs))


def _constant(value: bool) -> Emit:
    return lambda gates, x: gates.not_(gates.zero) if value else gates.zero


def _parity(inputs: Bits, bits: Sequence[int]) -> Bits:
    return np.bitwise_xor.reduce(inputs[:, list(bits)], axis=1)


def _parts(inputs: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [inputs, *(tuple(i for i in inputs if i != out) for out in inputs)]


def _tree_emit(tree: Tree, recipes: Sequence[Any]) -> Emit:
    return lambda gates, x: tree.emit_bit(gates, signals(gates, x, recipes), 0, 0)


def _logistic(inputs: Bits, target: Bits) -> NDArray[np.float64] | None:
    """Weights of a logistic regression (Newton's method, a little ridge); None where the target is constant."""
    if target.all() or not target.any():
        return None
    x = np.column_stack([2.0 * inputs - 1, np.ones(len(inputs))])
    weights = np.zeros(x.shape[1])
    for _ in range(12):
        chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        bend = np.maximum(chance * (1 - chance), 1e-4)
        slope = x.T @ (target - chance) - 0.05 * weights
        weights += np.linalg.solve((x * bend[:, None]).T @ x + 0.05 * np.eye(x.shape[1]), slope)
    return weights[:-1] if np.abs(weights[:-1]).max() > 0 else None


def _cut(total: NDArray[np.int64], target: Bits) -> tuple[int, float]:
    """The threshold on ``total`` that gets the most rows right, and their share."""
    order = np.argsort(total, kind="stable")
    values, wanted = total[order], target[order]
    right = wanted.sum() + np.concatenate([[0], np.cumsum(np.where(wanted, -1, 1))])
    allowed = np.concatenate([[True], values[1:] != values[:-1], [True]])
    at = int(np.argmax(np.where(allowed, right, -1)))
    threshold = int(values[at]) if at < len(values) else int(values[-1]) + 1
    return threshold, float(right[at]) / len(total)


def _threshold_emit(weights: NDArray[np.int64], threshold: int) -> Emit:
    shift = int(-weights[weights < 0].sum())
    most = int(np.abs(weights).sum())

    def emit(gates: Any, x: Sequence[Any]) -> Any:
        if threshold + shift <= 0:
            return gates.not_(gates.zero)
        terms = [(x[i] if w > 0 else gates.not_(x[i]), int(abs(w))) for i, w in enumerate(weights) if w]
        return g.at_least(gates, g.weigh(gates, terms, max(1, most.bit_length())), threshold + shift)

    return emit
