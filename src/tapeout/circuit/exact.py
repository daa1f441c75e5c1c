"""The exact learner: a control tree for every output word, and a diagram for every distinct function at its leaves.

A word is learned on the whole input space first. Where its diagram outgrows what a simple function needs, the space
is split
on the input bit that leaves the fewest dependencies, and regions that compute the same function are learned once.
Each job
(one word on one region, native: ``native/circuit/region.h``) depends on its arguments only, so jobs run in any order,
on any
machine, and give the same netlist for the same seed.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from tapeout import _native
from tapeout.circuit.assemble import assemble
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.folds import Folded
from tapeout.circuit.jobs import JobStore
from tapeout.circuit.joined import Parts, Waiting, join_all, release, sums
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.oracle import check_again
from tapeout.circuit.runner import LocalRunner, Runner
from tapeout.circuit.words import Interface, Rows, row_words, unpack

T = TypeVar("T")
R = TypeVar("R")
Fixed = tuple[tuple[int, int], ...]
"""A region: input bits and the values they are fixed to."""
Focus = tuple[list[int], list[list[int]]]
"""What is known of a word in a region: the inputs that matter, and which of them belong together."""

SIGNATURE_ROWS, CONFIRM_ROWS = 2048, 8192
CHECKS = (1 << 14, 1 << 17, 1 << 20)
"""Rows each region is checked on, one stage after the other; the last stage must find nothing wrong."""
EDGE_TESTS = 4096
"""Suffixes that every edge of a diagram is tested with."""
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
    hints: Rows
    signature: tuple[int, int] | None = None
    tries: int = 0
    wait: bool = True  # for a word that it is the upper part of
    split: int = -1
    children: tuple[Node, Node] | None = None
    leaf: Leaf | None = None
    before: Leaf | None = None  # what was wrong in places, until it is learned again
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
    waiting: list[Waiting] = field(default_factory=list[Waiting])
    released: list[Waiting] = field(default_factory=list[Waiting])

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

    def regions(self) -> list[tuple[Fixed, Leaf]]:
        """Where the leaves are used: where each was learned, and where the word was found to be the same."""
        found: list[tuple[Fixed, Leaf]] = []
        stack = [self.root]
        while stack:
            node = stack.pop()
            same = node.resolve()
            if same.leaf is not None:
                found.append((node.fixed, same.leaf))
            elif node.children is not None:  # else what it equals is met on its own way
                stack += reversed(node.children)
        return found


@dataclass(frozen=True, slots=True)
class _Cube:
    """A region as bits: which are fixed, and to what."""

    mask: int
    value: int

    @staticmethod
    def of(fixed: Fixed) -> _Cube:
        return _Cube(sum(1 << bit for bit, _ in fixed), sum(value << bit for bit, value in fixed))

    def overlaps(self, other: _Cube) -> bool:
        """They have rows in common."""
        return not (self.value ^ other.value) & self.mask & other.mask


def _disjoint(clusters: Counter[tuple[int, ...]], support: Collection[int]) -> list[list[int]]:
    """Clusters of inputs in the support, the commonest of those that share an input."""
    free = set(support)
    found: list[list[int]] = []
    for cluster, _ in sorted(clusters.items(), key=lambda item: (-item[1], item[0])):
        if free.issuperset(cluster):
            free.difference_update(cluster)
            found.append(list(cluster))
    return sorted(found)


def _seed(*parts: object) -> int:
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends the learning early: what is not known by then is speculated. ``None``: no limit."""

    seconds: float | None = None
    queries: int | None = None


class ExactLearner:
    """Learns every output word of an oracle, and repairs what directed checks find wrong.

    ``speculated`` names, for each word that the limits cut short, how many regions were guessed. ``checked_rows`` and
    ``check_rounds`` tell what the last clean check of all regions asked; ``settled``: the last check found nothing.
    ``folded`` is what `run` and `refine` return, with each step that is repeated once.
    """

    def __init__(
        self,
        oracle: _native.Oracle,
        interface: Interface,
        seed: int = 0,
        *,
        threads: int = 2,
        limits: Limits = Limits(),  # immutable
        store: JobStore | None = None,
        runner: Runner | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.oracle = oracle
        self.interface = interface
        self.seed = seed
        self.trees: list[WordTree] = []
        self.folded: Folded
        self.speculated: dict[str, int] = {}
        self.settled = False
        self._cut = False
        self.check_rounds = 0
        self.checked_rows = 0
        self.curve: list[tuple[int, int]] = []
        self._tried: set[str] = set()
        self._limits = limits
        self._store = store or JobStore(None)
        self._progress = progress
        self._started = time.monotonic()
        self._width = row_words(interface.input_bits)
        self._spans: list[tuple[int, int]] = []
        start = 0
        for word in interface.inputs:
            self._spans.append((start, word.width))
            start += word.width
        self._asking = Lock()  # also for the curve
        self._runner = runner or LocalRunner(oracle, threads, limits.seconds, limits.queries)
        self._pool = ThreadPoolExecutor(self._runner.workers)

    @property
    def queries(self) -> int:
        """Rows asked of the oracle by all jobs so far."""
        return sum(tree.queries for tree in self.trees)

    def run(self) -> Netlist:
        """Learns all words side by side (their jobs share the workers), then checks and repairs until nothing is
        wrong."""
        start = 0
        for word in self.interface.outputs:
            root = Node((), np.zeros((0, self._width), np.uint64))
            self.trees.append(WordTree(word.name, list(range(start, start + word.width)), root))
            start += word.width
        self._grow_all({id(tree): [tree.root] for tree in self.trees})
        return self._settle()

    def refine(self, rows: Rows, wrong: Rows) -> Netlist:
        """Learns again what answered ``rows`` wrongly; ``wrong`` has a bit for each wrong output bit.

        What changed by that is checked again, the rest stays as it was found right.
        """
        known = self._regions()
        frontiers = self._wrong_nodes(rows, wrong)
        self._grow_all(frontiers)
        return self._settle(self._changed(known, frontiers))

    def close(self) -> None:
        """Ends the workers."""
        self._pool.shutdown()

    def _settle(self, only: dict[Fixed, list[Focus]] | None = None) -> Netlist:
        netlist = self._assemble()
        for stage, rows in enumerate(CHECKS):
            regions = self._regions() if only is None else only
            self.settled = False
            while not self._over() and not self.settled:
                wrong, again = self._check(netlist, rows, stage, regions)
                if not wrong:
                    self.settled = not self._cut
                    break
                known = self._regions()
                self._grow_all(wrong)
                netlist = self._assemble()
                # What was learned again is checked again, and where it was wrong; the rest stays as it was found right.
                regions = self._changed(known, wrong, again)
                if only is not None:
                    only |= regions
                self.settled = not regions
        return netlist

    def _assemble(self) -> Netlist:
        self.folded = assemble(self.interface, self.trees)
        return self.folded.unrolled()

    def _regions(self) -> dict[Fixed, list[Focus]]:
        """Where the leaves of all words are, each region once, and what is known of them: of the word there, and what
        other words showed of the same inputs in regions that overlap."""
        regions: dict[Fixed, list[Focus]] = {}
        leaves = [(fixed, leaf) for tree in self.trees for fixed, leaf in tree.regions()]
        cubes = [_Cube.of(fixed) for fixed, _ in leaves]
        clusters = [[tuple(sorted(bits)) for bits in leaf.facts.get("partners", [])] for _, leaf in leaves]
        for cube, (fixed, leaf) in zip(cubes, leaves, strict=True):
            support, own = leaf.facts["support"], leaf.facts.get("partners", [])
            others = Counter[tuple[int, ...]]()
            for other, known in zip(cubes, clusters, strict=True):
                if known and other.overlaps(cube):
                    others.update(known)
            shared = _disjoint(others, support)
            for focus in ((support, own), (support, shared)) if shared else ((support, own),):
                if focus not in regions.setdefault(fixed, []):
                    regions[fixed].append(focus)
        return regions

    def _changed(
        self, known: Collection[Fixed], learned: Mapping[int, list[Node]], wrong: Collection[Fixed] = ()
    ) -> dict[Fixed, list[Focus]]:
        """The regions of nodes that were ``learned`` again, those found ``wrong``, and those not ``known`` before."""
        again = {node.fixed for nodes in learned.values() for node in nodes} | set(wrong)
        return {fixed: focuses for fixed, focuses in self._regions().items() if fixed in again or fixed not in known}

    def _grow_all(self, frontiers: dict[int, list[Node]]) -> None:
        while todo := [tree for tree in self.trees if id(tree) in frontiers]:
            with ThreadPoolExecutor(max(1, len(todo))) as words:
                for done in [words.submit(self._grow, tree, frontiers[id(tree)]) for tree in todo]:
                    done.result()
            frontiers = self._join_waiting()
        self._plot(sum(len(node.leaf.fanins) for node in self._leaves() if node.leaf), whole=True)

    def _plot(self, gates: int, whole: bool = False) -> None:
        """A point of the curve: questions so far, and gates of all regions (``whole``) or of one more."""
        with self._asking:
            before = 0 if whole or not self.curve else self.curve[-1][1]
            self.curve.append((self.queries, before + gates))

    def _each(self, items: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """``work`` of every item, in order, by the workers."""
        return list(self._pool.map(work, items))

    def _leaves(self) -> list[Node]:
        return [node for tree in self.trees for node in tree.leaves()]

    def _over(self) -> bool:
        seconds, queries = self._limits.seconds, self._limits.queries
        return (
            self._cut
            or (seconds is not None and time.monotonic() - self._started > seconds)
            or (queries is not None and self.queries > queries)
        )

    def _speculate(self, tree: WordTree, nodes: list[Node]) -> None:
        """Keeps what was learned before, else takes each output bit for the constant that most samples show."""
        self.speculated[tree.name] = self.speculated.get(tree.name, 0) + len(nodes)
        for node in nodes:
            if node.before is not None:
                node.leaf = node.before
                continue
            rows = _native.sample_region(self._spans, list(node.fixed), self._width, _seed(self.seed, node.fixed), 256)
            answers = unpack(self.oracle.evaluate(rows), self.interface.output_bits)[:, tree.outputs]
            constants = (2 * answers.sum(axis=0) > len(answers)).astype(int).tolist()
            facts: dict[str, Any] = {"lively": np.zeros((0, self._width), np.uint64), "support": [], "speculated": True}
            node.leaf = Leaf(np.zeros((0, 2), np.uint32), constants, facts)

    # ---- growing a tree

    def _grow(self, tree: WordTree, frontier: list[Node]) -> None:
        while frontier:
            if self._over():
                self._speculate(tree, frontier)
                return
            fresh = self._merge(tree, frontier)
            results = self._each(fresh, partial(self._learn, tree.outputs))
            frontier = []
            for node, result in zip(fresh, results, strict=True):
                if not result:
                    self._speculate(tree, [node])
                    continue
                tree.jobs += 1
                tree.queries += result["queries"]
                place = f"{tree.name} {self.describe(node.fixed)}"
                if result["waiting"]:
                    tree.waiting.append(Waiting(tree, node, result))
                    continue
                if result["split"] < 0:
                    self._solved(tree, node, result)
                    continue
                bit = result["split"]
                self._progress(f"{place}: split on {self.describe(((bit, 1),))}, {len(result['support'])} inputs")
                if node.signature is not None and tree.known.get(node.signature) is node:
                    del tree.known[node.signature]
                node.split = bit
                low, high = (Node((*node.fixed, (bit, value)), result["hints"]) for value in (0, 1))
                node.children = low, high
                frontier += node.children

    def _solved(self, tree: WordTree, node: Node, result: dict[str, Any]) -> None:
        node.leaf = Leaf(result["fanins"], result["outputs"], result)
        node.hints = result["hints"]
        self._plot(len(result["fanins"]))
        place = f"{tree.name} {self.describe(node.fixed)}"
        self._progress(f"{place}: {len(result['fanins'])} ANDs of {len(result['support'])} inputs")

    def _join_waiting(self) -> dict[int, list[Node]]:
        """Learns waiting nodes together with their low parts; else the one of each tree to go on with."""
        waiting = [one for tree in self.trees for one in (*tree.waiting, *tree.released)]
        if not self._over():
            join_all(waiting, self.trees, self._join, self._tried)
        return {id(tree): released for tree in self.trees if (released := release(tree, all_=self._over()))}

    def _join(self, one: Waiting, low: Parts, facts: dict[str, Any]) -> dict[str, Any]:
        outputs, node = one.tree.outputs, one.node
        seed = _seed(self.seed, "join", outputs, node.fixed, node.tries)
        known = [facts["fanins"] for facts in sums([one.tree])]
        gates, sizes = np.concatenate([np.zeros((0, 2), np.uint32), *known]), [len(fanins) for fanins in known]
        task = (self._spans, outputs, list(node.fixed), node.hints, seed, EDGE_TESTS)
        arguments = (*task, low, facts["fanins"], facts["outputs"], facts["fold"], gates, sizes)
        try:
            result = self._store.run("join", arguments, lambda: self._runner.run("learn_joined", *arguments))
        except _native.BudgetEnded:
            self._cut = True
            return {"outputs": []}
        one.tree.jobs += 1
        one.tree.queries += result["queries"]
        if result["outputs"]:
            node.children = None
            self._solved(one.tree, node, result)
        return result

    def _merge(self, tree: WordTree, frontier: list[Node]) -> list[Node]:
        """Sets nodes equal to known ones where the samples show no difference; returns the others."""
        fresh: list[Node] = []
        signatures = self._each(frontier, partial(self._signature, tree.outputs))
        for node, signature in zip(frontier, signatures, strict=True):
            node.signature = signature
            other = tree.known.get(signature)
            if node.tries == 0 and other not in (None, node) and self._same(tree.outputs, node, other):
                node.alias = other
            else:
                if node.tries == 0:
                    tree.known[signature] = node
                fresh.append(node)
        return fresh

    def _signature(self, outputs: list[int], node: Node, salt: int = 0, rows: int = SIGNATURE_ROWS) -> tuple[int, int]:
        seed = _seed(self.seed, "signature", outputs, salt)
        try:
            return self._runner.run("region_signature", self._spans, outputs, list(node.fixed), seed, rows)
        except _native.BudgetEnded:
            return _seed("none", node.fixed), salt  # equal to no other: what is left is speculated

    def _same(self, outputs: list[int], a: Node, b: Node) -> bool:
        return self._signature(outputs, a, 1, CONFIRM_ROWS) == self._signature(outputs, b, 1, CONFIRM_ROWS)

    def _learn(self, outputs: list[int], node: Node) -> dict[str, Any]:
        seed = _seed(self.seed, outputs, node.fixed, node.tries)
        arguments = (self._spans, outputs, list(node.fixed), node.hints, seed, EDGE_TESTS, node.wait)
        try:
            return self._store.run("learn", arguments, lambda: self._runner.run("learn_region", *arguments))
        except _native.BudgetEnded:
            self._cut = True
            return {}

    # ---- checking and repairing

    def _check(
        self, netlist: Netlist, rows: int, stage: int, regions: Mapping[Fixed, list[Focus]]
    ) -> tuple[dict[int, list[Node]], set[Fixed]]:
        """Checks all words in some regions; returns the nodes to learn again, by tree, and the regions found wrong."""
        leaves = self._leaves()
        hints = np.concatenate(
            [rows for node in leaves if node.leaf for rows in (node.hints, node.leaf.facts["lively"])]
        )
        hints = np.ascontiguousarray(hints[:: max(1, len(hints) // MOST_HINTS)])
        self.check_rounds += 1
        self.checked_rows = rows * len(self._regions())

        def check(fixed: Fixed) -> dict[str, Any]:
            seed = _seed(self.seed, "check", self.check_rounds, stage, fixed)
            circuit = (netlist.fanins, netlist.outputs, self._spans)
            arguments = (*circuit, list(fixed), hints, regions[fixed], seed, rows, MOST_WRONG)
            try:
                found = self._store.run("check", arguments, lambda: self._runner.run("check_region", *arguments))
            except _native.BudgetEnded:
                self._cut = True
                return {"rows": hints[:0], "outputs": np.zeros((0, row_words(self.interface.output_bits)), np.uint64)}
            if len(found["rows"]):
                with self._asking:  # not every black box bears questions of several threads
                    check_again(self.oracle, found["rows"], evaluate(netlist, found["rows"], 1) ^ found["outputs"])
            return found

        found = self._each(list(regions), check)
        wrong_rows = np.concatenate([part["rows"] for part in found])
        wrong_bits = np.concatenate([part["outputs"] for part in found])
        self._progress(f"check {self.check_rounds}: {len(regions)} regions, {rows} rows each, {len(wrong_rows)} wrong")
        again = {fixed for fixed, part in zip(regions, found, strict=True) if len(part["rows"])}
        return self._wrong_nodes(wrong_rows, wrong_bits), again

    def _wrong_nodes(self, rows: Rows, wrong: Rows) -> dict[int, list[Node]]:
        bits = unpack(wrong, self.interface.output_bits)
        frontiers: dict[int, list[Node]] = {}
        for tree in self.trees:
            rows_of_word = rows[bits[:, tree.outputs].any(axis=1)]
            if len(rows_of_word) and tree.name not in self.speculated:
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
            node.alias, node.leaf, node.before = None, None, node.leaf
            node.tries += 1
        return [node for node, _ in groups.values()]

    def describe(self, fixed: Iterable[tuple[int, int]]) -> str:
        """A region in words: ``instruction[6]=1``."""
        parts: list[str] = []
        for bit, value in fixed:
            for word, (first, width) in zip(self.interface.inputs, self._spans, strict=True):
                if first <= bit < first + width:
                    parts.append(f"{word.name}[{bit - first}]={value}")
        return " ".join(parts) or "everywhere"
