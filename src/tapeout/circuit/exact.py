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
from tapeout.circuit.words import Interface, Rows, row_words, unpack

Fixed = tuple[tuple[int, int], ...]
"""A region: input bits and the values they are fixed to."""

SIGNATURE_ROWS, CONFIRM_ROWS = 2048, 8192
CHECKS = (1 << 14, 1 << 17, 1 << 20)
"""Rows each region is checked on, one stage after the other; the last stage must find nothing wrong."""
MOST_WRONG = 48
MOST_HINTS = 4096


@dataclass(slots=True, eq=False)
class Leaf:
    """A function learned once: gates over all input bits, as ``learn_region`` returns them."""

    fanins: Any
    outputs: list[int]
    facts: dict[str, Any]


@dataclass(slots=True, eq=False)
class Node:
    """A node of a control tree: split on an input bit, computed by a leaf, or equal to another node."""

    fixed: Fixed
    candidates: list[int]
    hints: Rows
    signature: tuple[int, int] | None = None
    tries: int = 0
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
    known: dict[tuple[int, int], Node] = field(default_factory=dict[tuple[int, int], Node])
    queries: int = 0
    jobs: int = 0

    def leaves(self) -> list[Node]:
        """The distinct leaves that the tree reaches."""
        found: dict[int, Node] = {}
        stack, seen = [self.root], set[int]()
        while stack:
            node = stack.pop().resolve()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.children is None:
                found[id(node)] = node
            else:
                stack += reversed(node.children)
        return list(found.values())


def _seed(*parts: object) -> int:
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class ExactLearner:
    """Learns every output word of an oracle, and repairs what directed checks find wrong."""

    def __init__(self, oracle: Any, interface: Interface, seed: int = 0, threads: int = 2, tests: int = 4096) -> None:
        self.oracle = oracle
        self.interface = interface
        self.seed = seed
        self.tests = tests
        self.checked = 0
        self.trees: list[WordTree] = []
        self._width = row_words(interface.input_bits)
        self._spans: list[tuple[int, int]] = []
        start = 0
        for word in interface.inputs:
            self._spans.append((start, word.width))
            start += word.width
        self._pool = ThreadPoolExecutor(threads)

    def run(self, progress: Callable[[str], None] = lambda _: None) -> Netlist:
        """Learns all words side by side (their jobs share the workers), then checks and repairs until nothing is wrong."""
        start = 0
        for word in self.interface.outputs:
            root = Node((), list(range(self.interface.input_bits)), np.zeros((0, self._width), np.uint64))
            self.trees.append(WordTree(word.name, list(range(start, start + word.width)), root))
            start += word.width
        self._grow_all({id(tree): [tree.root] for tree in self.trees}, progress)
        netlist = assemble(self.interface, self.trees)
        for stage, rows in enumerate(CHECKS):
            while wrong := self._check(netlist, rows, stage, progress):
                self._grow_all(wrong, progress)
                netlist = assemble(self.interface, self.trees)
        self._pool.shutdown()
        return netlist

    def _grow_all(self, frontiers: dict[int, list[Node]], progress: Callable[[str], None]) -> None:
        todo = [tree for tree in self.trees if id(tree) in frontiers]
        with ThreadPoolExecutor(max(1, len(todo))) as words:
            list(words.map(lambda tree: self._grow(tree, frontiers[id(tree)], progress), todo))

    # ---- growing a tree

    def _grow(self, tree: WordTree, frontier: list[Node], progress: Callable[[str], None]) -> None:
        while frontier:
            fresh = self._merge(tree, frontier)
            results = list(self._pool.map(lambda node: self._learn(tree.outputs, node), fresh))
            frontier = []
            for node, result in zip(fresh, results, strict=True):
                tree.jobs += 1
                tree.queries += result["queries"]
                place = f"{tree.name} {self.describe(node.fixed)}"
                if result["split"] < 0:
                    node.leaf = Leaf(result["fanins"], result["outputs"], result)
                    node.hints = result["hints"]
                    progress(f"{place}: {len(result['fanins'])} ANDs of {len(result['support'])} inputs")
                    continue
                bit = result["split"]
                progress(f"{place}: split on {self.describe(((bit, 1),))} ({result['share']:.2f}), {len(result['support'])} inputs")
                if node.signature is not None and tree.known.get(node.signature) is node:
                    del tree.known[node.signature]
                candidates = [v for v in result["support"] if v != bit]
                node.split = bit
                low, high = (Node((*node.fixed, (bit, value)), candidates, result["hints"]) for value in (0, 1))
                node.children = low, high
                frontier += node.children

    def _merge(self, tree: WordTree, frontier: list[Node]) -> list[Node]:
        """Sets nodes equal to known ones where the samples show no difference; returns the others."""
        fresh: list[Node] = []
        signatures = list(self._pool.map(lambda node: self._signature(tree.outputs, node, 0), frontier))
        for node, signature in zip(frontier, signatures, strict=True):
            node.signature = signature
            other = tree.known.get(signature)
            if node.tries == 0 and other is not None and self._same(tree.outputs, node, other):
                node.alias = other
            else:
                if node.tries == 0:
                    tree.known[signature] = node
                fresh.append(node)
        return fresh

    def _signature(self, outputs: list[int], node: Node, salt: int, rows: int = SIGNATURE_ROWS) -> tuple[int, int]:
        seed = _seed(self.seed, "signature", outputs, salt)
        return _native.region_signature(self.oracle, self._spans, outputs, list(node.fixed), seed, rows)

    def _same(self, outputs: list[int], a: Node, b: Node) -> bool:
        return self._signature(outputs, a, 1, CONFIRM_ROWS) == self._signature(outputs, b, 1, CONFIRM_ROWS)

    def _learn(self, outputs: list[int], node: Node) -> dict[str, Any]:
        seed = _seed(self.seed, outputs, node.fixed, node.tries)
        return _native.learn_region(
            self.oracle, self._spans, outputs, list(node.fixed), node.candidates, node.hints, seed, self.tests
        )

    # ---- checking and repairing

    def _check(self, netlist: Netlist, rows: int, stage: int, progress: Callable[[str], None]) -> dict[int, list[Node]]:
        """Checks all words in the regions of all words' leaves; returns the nodes to learn again, by tree."""
        leaves = [node for tree in self.trees for node in tree.leaves()]
        regions = list(dict.fromkeys(node.fixed for node in leaves))
        hints = np.concatenate([rows for node in leaves if node.leaf for rows in (node.hints, node.leaf.facts["lively"])])
        hints = np.ascontiguousarray(hints[:: max(1, len(hints) // MOST_HINTS)])
        self.checked += 1

        def check(fixed: Fixed) -> tuple[Rows, Rows, int]:
            seed = _seed(self.seed, "check", self.checked, stage, fixed)
            return _native.check_region(
                self.oracle, netlist.fanins, netlist.outputs, self._spans, list(fixed), hints, seed, rows, MOST_WRONG
            )

        found = list(self._pool.map(check, regions))
        wrong_rows = np.concatenate([rows for rows, _, _ in found])
        wrong_bits = unpack(np.concatenate([bits for _, bits, _ in found]), self.interface.output_bits)
        progress(f"check {self.checked}: {len(regions)} regions, {rows} rows each, {len(wrong_rows)} rows wrong")
        frontiers: dict[int, list[Node]] = {}
        for tree in self.trees:
            rows_of_word = wrong_rows[wrong_bits[:, tree.outputs].any(axis=1)]
            if len(rows_of_word):
                frontiers[id(tree)] = self._reopen(tree, rows_of_word)
        return frontiers

    def _reopen(self, tree: WordTree, rows: Rows) -> list[Node]:
        """The nodes that answered the rows wrongly, ready to be learned again with the rows as hints."""
        groups: dict[int, tuple[Node, list[Rows]]] = {}
        for row in rows:
            node = tree.root
            while node.alias is None and node.children is not None:
                node = node.children[int(row[node.split // 64]) >> (node.split % 64) & 1]
            groups.setdefault(id(node), (node, []))[1].append(row)
        for node, found in groups.values():
            hints = np.stack(found)
            node.hints = hints if node.alias is not None else np.concatenate([node.hints, hints])
            node.alias, node.leaf = None, None
            node.tries += 1
            taken = {bit for bit, _ in node.fixed}
            node.candidates = [bit for bit in range(self.interface.input_bits) if bit not in taken]
        return [node for node, _ in groups.values()]

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
    for node in tree.leaves():
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
