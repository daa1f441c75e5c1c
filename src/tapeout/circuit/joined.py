"""Words that are learned together with another one: the high half of a product with its low half, a quotient with the
remainder, a signed word with the unsigned one.

Such a word's job ends *waiting* (``native/circuit/region.h``). When nothing else is left to do, it is tried with each
known word of the same inputs, folds and sums first: another output, or the same one in another region. What is found
can be the companion of what still waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeout.circuit.exact import Fixed, Node, WordTree

MOST_COMPANIONS = 8
"""Low parts that are tried for one word."""

LEAST_BITS = 4
"""Of a low part: carries of narrower words are learned as they are."""

Facts = dict[str, Any]
Parts = list[tuple[list[int], list[tuple[int, int]]]]
"""Output bits and the input bits fixed where they are asked; the lowest first."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A node whose job waits, and what it found."""

    tree: WordTree
    node: Node
    facts: dict[str, Any]


def own_part(outputs: Sequence[int], fixed: Fixed) -> Parts:
    """The node itself as a part."""
    return [(list(outputs), list(fixed))]


def join_all(
    waiting: Sequence[Waiting],
    trees: Sequence[WordTree],
    join: Callable[[Waiting, Parts, Facts], dict[str, Any]],
    tried: set[str],
) -> None:
    """Learns what waits together with low parts, as long as some are found.

    ``join`` runs the job of one node, one low part and what is known of that; it makes the node a leaf where it is
    solved. ``tried`` keeps which were run.
    """
    left: list[Waiting] = [one for one in waiting if one.node.leaf is None]
    fresh = _low_parts(trees)
    while fresh and left:
        found = [facts for one in left if (facts := _try(one, fresh, join, tried)) is not None]
        left = [one for one in left if one.node.leaf is None]
        fresh = [(facts["parts"], facts) for facts in found]


def release(tree: WordTree, *, all_: bool) -> list[Node]:
    """The waiting nodes that go on without a low part: the first of those that fix the fewest inputs, or all.

    What the others wait for may be inside it. A node that was released is still tried: a low part makes it simpler.
    """
    waiting = [one for one in tree.waiting if one.node.leaf is None]
    waiting.sort(key=lambda one: len(one.node.fixed))
    free = waiting if all_ else waiting[:1]
    tree.waiting = waiting[len(free) :]
    tree.released = [one for one in tree.released if one.node.leaf is None] + free
    for one in free:
        one.node.wait = False
    return [one.node for one in free]


def _try(
    one: Waiting,
    low: Sequence[tuple[Parts, Facts]],
    join: Callable[[Waiting, Parts, Facts], dict[str, Any]],
    tried: set[str],
) -> dict[str, Any] | None:
    support = set(one.facts["support"])
    related = [
        known for known in low if 2 * len(support & {*known[1]["support"]}) > len(support | {*known[1]["support"]})
    ]
    for parts, facts in related[:MOST_COMPANIONS]:
        key = repr((one.tree.name, one.node.fixed, one.node.tries, parts))
        if key in tried:
            continue
        tried.add(key)
        result = join(one, parts, facts)
        if result["outputs"]:
            result["parts"] = parts + own_part(one.tree.outputs, one.node.fixed)
            return result
    return None


def sums(trees: Sequence[WordTree]) -> list[dict[str, Any]]:
    """The facts of all leaves that were learned as sums."""
    return [
        node.leaf.facts for tree in trees for node in tree.leaves() if node.leaf and node.leaf.facts.get("additive")
    ]


def _low_parts(trees: Sequence[WordTree]) -> list[tuple[Parts, Facts]]:
    """The parts of all words that are known; folds and sums come first (narrow ones were learned as diagrams)."""
    known = [
        (node.leaf.facts, own_part(tree.outputs, node.fixed))
        for tree in trees
        for node in tree.leaves()
        if node.leaf is not None and len(tree.outputs) >= LEAST_BITS
    ]
    known.sort(key=lambda one: (not one[0].get("fold"), not one[0].get("additive")))
    return [(facts.get("parts", part), facts) for facts, part in known]
