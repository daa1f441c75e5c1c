"""The exact learner: a control tree for every output word, and a diagram for every distinct function at its leaves.

A word is learned on the whole input space first. Where its diagram outgrows what a simple function needs, the space is split
on the input bit that leaves the fewest dependencies, and regions that compute the same function are learned once. Each job
(one word on one region, native: ``native/circuit/region.h``) depends on its arguments only, so jobs run in any order, on any
machine, and give the same netlist for the same seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeout import _native
from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import Interface, Rows

Fixed = tuple[tuple[int, int], ...]
"""A region: input bits and the values they are fixed to."""

SIGNATURE_ROWS = 2048
CONFIRM_ROWS = 8192


@dataclass(slots=True, eq=False)
class Leaf:
    """A function learned once: gates over all input bits, as ``learn_region`` returns them."""

    fanins: Any
    outputs: list[int]
    facts: dict[str, Any]


@dataclass(slots=True, eq=False)
class Node:
    """A node of a control tree: split on an input bit, or computed by a leaf."""

    fixed: Fixed
    candidates: list[int]
    hints: Rows
    signature: tuple[int, int] | None = None
    split: int = -1
    children: tuple[Node, Node] | None = None
    leaf: Leaf | None = None
    alias: Node | None = None

    def resolve(self) -> Node:
        """The node that stands for this one."""
        node = self
        while node.alias is not None:
            node = node.alias
        return node


@dataclass(slots=True, eq=False)
class WordTree:
    """What was learned of one output word."""

    name: str
    outputs: list[int]
    root: Node
    leaves: list[Node] = field(default_factory=list[Node])
    queries: int = 0
    jobs: int = 0


def _seed(*parts: object) -> int:
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class ExactLearner:
    """Learns every output word of an oracle."""

    def __init__(self, oracle: Any, interface: Interface, seed: int = 0, threads: int = 2, tests: int = 4096) -> None:
        self.oracle = oracle
        self.interface = interface
        self.seed = seed
        self.tests = tests
        self._spans: list[tuple[int, int]] = []
        start = 0
        for word in interface.inputs:
            self._spans.append((start, word.width))
            start += word.width
        self._pool = ThreadPoolExecutor(threads)

    def run(self, progress: Callable[[str], None] = lambda _: None) -> list[WordTree]:
        """All words, side by side; the jobs of all of them share the workers."""
        groups: list[tuple[str, list[int]]] = []
        start = 0
        for word in self.interface.outputs:
            groups.append((word.name, list(range(start, start + word.width))))
            start += word.width
        with ThreadPoolExecutor(max(1, len(groups))) as words:
            trees = list(words.map(lambda group: self._word(group[0], group[1], progress), groups))
        self._pool.shutdown()
        return trees

    def _word(self, name: str, outputs: list[int], progress: Callable[[str], None]) -> WordTree:
        width = (self.interface.input_bits + 63) // 64
        root = Node((), list(range(self.interface.input_bits)), np.zeros((0, width), np.uint64))
        tree = WordTree(name, outputs, root)
        known: dict[tuple[int, int], Node] = {}
        frontier = [root]
        while frontier:
            signatures = list(self._pool.map(lambda node: self._signature(outputs, node, 0), frontier))
            fresh: list[Node] = []
            for node, signature in zip(frontier, signatures, strict=True):
                node.signature = signature
                other = known.get(signature)
                if other is not None and self._same(outputs, node, other):
                    node.alias = other
                else:
                    known[signature] = node
                    fresh.append(node)
            results = list(self._pool.map(lambda node: self._learn(outputs, node), fresh))
            frontier = []
            for node, result in zip(fresh, results, strict=True):
                tree.jobs += 1
                tree.queries += result["queries"]
                if result["split"] < 0:
                    node.leaf = Leaf(result["fanins"], result["outputs"], result)
                    tree.leaves.append(node)
                    progress(f"{name} {self.describe(node.fixed)} leaf {len(result['fanins'])} ANDs, {len(result['support'])} inputs")
                    continue
                bit = result["split"]
                progress(f"{name} {self.describe(node.fixed)} split on {self.describe(((bit, 1),))}, {len(result['support'])} inputs")
                if node.signature is not None and known.get(node.signature) is node:
                    del known[node.signature]
                candidates = [v for v in result["support"] if v != bit]
                node.split = bit
                node.children = tuple(Node((*node.fixed, (bit, value)), candidates, result["hints"]) for value in (0, 1))  # pyright: ignore
                frontier += node.children
        return tree

    def _signature(self, outputs: list[int], node: Node, salt: int, rows: int = SIGNATURE_ROWS) -> tuple[int, int]:
        seed = _seed(self.seed, "signature", outputs, salt)
        return _native.region_signature(self.oracle, self._spans, outputs, list(node.fixed), seed, rows)

    def _same(self, outputs: list[int], a: Node, b: Node) -> bool:
        return self._signature(outputs, a, 1, CONFIRM_ROWS) == self._signature(outputs, b, 1, CONFIRM_ROWS)

    def _learn(self, outputs: list[int], node: Node) -> dict[str, Any]:
        seed = _seed(self.seed, outputs, node.fixed)
        return _native.learn_region(
            self.oracle, self._spans, outputs, list(node.fixed), node.candidates, node.hints, seed, self.tests
        )

    def describe(self, fixed: Iterable[tuple[int, int]]) -> str:
        """A region in words: ``instruction[6]=1``."""
        parts: list[str] = []
        for bit, value in fixed:
            for word, (first, width) in zip(self.interface.inputs, self._spans, strict=True):
                if first <= bit < first + width:
                    parts.append(f"{word.name}[{bit - first}]={value}")
        return " ".join(parts) or "everywhere"


def assemble(interface: Interface, trees: Sequence[WordTree]) -> Netlist:
    """One netlist of all words: every leaf's gates once, chosen by where the control tree leads."""
    builder = Builder(interface)
    literals: list[int] = []
    for tree in trees:
        literals += _assemble_word(builder, tree)
    fanins = np.array(builder.fanins, np.uint32).reshape(-1, 2)
    return Netlist(interface, fanins, np.array(literals, np.uint32))


def _assemble_word(builder: Builder, tree: WordTree) -> list[int]:
    first = 1 + builder.interface.input_bits
    outputs: dict[int, list[int]] = {}
    for node in tree.leaves:
        assert node.leaf is not None
        table: list[int] = []

        def literal(at: int, table: list[int] = table) -> int:
            return at if at < 2 * first else table[at // 2 - first] ^ (at & 1)

        for a, b in node.leaf.fanins.tolist():
            table.append(builder.and_(literal(a), literal(b)))
        outputs[id(node)] = [literal(at) for at in node.leaf.outputs]
    reached: dict[tuple[int, frozenset[int]], int] = {}
    everything = frozenset(outputs)

    def reach(node: Node, leaves: frozenset[int]) -> int:
        """Whether the walk from ``node`` ends in one of ``leaves``."""
        node = node.resolve()
        if node.children is None:
            return TRUE if id(node) in leaves else FALSE
        key = (id(node), leaves)
        if key not in reached:
            zero, one = (reach(child, leaves) for child in node.children)
            reached[key] = builder.mux(2 * (1 + node.split), one, zero)
        return reached[key]

    result: list[int] = []
    for bit in range(len(tree.outputs)):
        groups: dict[int, list[set[int]]] = {}
        for leaf, literals in outputs.items():
            groups.setdefault(literals[bit] & ~1, [set(), set()])[literals[bit] & 1].add(leaf)
        value = FALSE
        for base, (plain, inverted) in groups.items():
            flip = FALSE if not inverted else reach(tree.root, frozenset(inverted))
            if base == FALSE:
                value = builder.or_(value, flip)
                continue
            users = frozenset(plain | inverted)
            selected = TRUE if users == everything else reach(tree.root, users)
            value = builder.or_(value, builder.and_(selected, builder.xor(base, flip)))
        result.append(value)
    return result
