"""Words that take in carries of another word, learned together with it: the high half of a product with its low half.

Such a word's job ends *waiting* (``native/circuit/region.h``). When nothing else is left to do, it is tried as the upper
part of each word that was learned as a sum of the same inputs: another output, or the same one in another region.
What is found can be the low part of what still waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeout.circuit.exact import Fixed, Node, WordTree

MOST_COMPANIONS = 8
"""Low parts that are tried for one word."""

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
    waiting: list[Waiting], trees: Sequence[WordTree], join: Callable[[Waiting, Parts], dict[str, Any]]
) -> tuple[list[tuple[Waiting, dict[str, Any]]], list[Waiting]]:
    """Those that were solved together with a low part, with their results, and those that were not.

    ``join`` runs the job of one node and one low part. A result that is solved carries its parts as ``parts``.
    """
    low = [(set(facts["support"]), facts["parts"]) for facts in _sums(trees)]
    done: list[tuple[Waiting, dict[str, Any]]] = []
    left = list(waiting)
    fresh = low
    while fresh and left:
        still: list[Waiting] = []
        found: list[tuple[set[int], Parts]] = []
        for one in left:
            result = _try(one, fresh, join)
            if result is None:
                still.append(one)
                continue
            done.append((one, result))
            found.append((set(result["support"]), result["parts"]))
        left, fresh = still, found
    return done, left


def _try(
    one: Waiting, low: Sequence[tuple[set[int], Parts]], join: Callable[[Waiting, Parts], dict[str, Any]]
) -> dict[str, Any] | None:
    support = set(one.facts["support"])
    related = [parts for inputs, parts in low if 2 * len(inputs & support) > len(inputs | support)]
    for parts in related[:MOST_COMPANIONS]:
        result = join(one, parts)
        if result["outputs"]:
            return {**result, "parts": parts + own_part(one.tree.outputs, one.node.fixed)}
    return None


def _sums(trees: Sequence[WordTree]) -> list[dict[str, Any]]:
    leaves = [(tree, node) for tree in trees for node in tree.leaves() if node.leaf is not None]
    return [
        {"parts": own_part(tree.outputs, node.fixed), **node.leaf.facts}
        for tree, node in leaves
        if node.leaf is not None and node.leaf.facts.get("additive")
    ]
