"""What the exact learner found, for people: regions, diagrams and checks; and what was written by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tapeout.circuit.exact import CHECKS, ExactLearner, Fixed, Node, WordTree

BY_HAND = (
    "that the bits of a word belong together, and that inputs are read in one order for all of them",
    "orders tried: what decides about other inputs first; bits of words side by side or word by word, from either end",
    "forms tried beside diagrams: one of two simple words, chosen by a bit; input bits as they are, or another word",
    "sums of what single inputs add, over the integers or under exclusive or; the upper bits of a known sum",
    "a step that is repeated for each bit of an input word, and what it shows each time",
    "a known word up to signs, with one constant as an exception; a word that some bits only let through",
    "rows asked: words that are constants, masks, small numbers, or like another word; what was wrong before; mixtures",
    "the minimiser: identities of ANDs and inverters, and proofs by SAT",
)
"""For the exact algorithm. It knows no instruction, no operation on words and no encoding."""


def outputs(learner: ExactLearner) -> list[dict[str, Any]]:
    """For each output word what it took: its regions and the nodes of their diagrams, gates, jobs, questions."""
    found: list[dict[str, Any]] = []
    for tree in learner.trees:
        leaves = [node.leaf for node in tree.leaves() if node.leaf]
        found.append(
            {
                "name": tree.name, "nodes": sum(len(leaf.fanins) for leaf in leaves),
                "diagram_nodes": sum(int(leaf.facts.get("nodes", 0)) for leaf in leaves), "leaves": len(leaves),
                "equal_regions": _aliases(tree), "jobs": tree.jobs, "queries": tree.queries,
            }
        )  # fmt: skip
    return found


def structure(learner: ExactLearner) -> list[str]:
    """Which inputs choose between regions, and what each region of each word depends on."""
    choosers: dict[int, list[str]] = {}
    lines: list[str] = []
    for tree in learner.trees:
        for bit in _splits(tree):
            choosers.setdefault(bit, []).append(tree.name)
        for node in tree.leaves():
            if node.leaf is None:
                continue
            facts = node.leaf.facts
            where = f"where {region(learner, node.fixed)}" if node.fixed else "everywhere"
            what = f"{len(node.leaf.fanins):,} gates of {len(facts['support'])} inputs"
            guessed = ", guessed: the budget ended" if facts.get("speculated") else ""
            lines.append(f"{tree.name} {where}: {what}{guessed}")
    names = [
        f"{learner.describe(((bit, 1),)).removesuffix('=1')} ({', '.join(words)})"
        for bit, words in sorted(choosers.items(), key=lambda item: -len(item[1]))
    ]
    lines += [
        f"{fold.name}: a step of {fold.step.nodes:,} gates, repeated for each of {fold.steps} bits"
        for fold in learner.folded.folds
    ]
    return [f"inputs that choose between regions: {', '.join(names)}", *lines] if names else lines


def region(learner: ExactLearner, fixed: Fixed) -> str:
    """A region word by word, the highest bit first: ``op=..01 go=1``; words of which no bit is fixed are left out."""
    values = dict(fixed)
    parts: list[str] = []
    start = 0
    for word in learner.interface.inputs:
        bits = [str(values.get(start + bit, ".")) for bit in range(word.width)]
        start += word.width
        known = [bit for bit, value in enumerate(bits) if value != "."]
        if len(known) == 1 and word.width > 1:
            parts.append(f"{word.name}[{known[0]}]={bits[known[0]]}")
        elif known:
            parts.append(f"{word.name}={''.join(reversed(bits))}")
    return " ".join(parts)


def checks(learner: ExactLearner) -> str:
    """How the regions were checked, in words."""
    regions = len({node.fixed for tree in learner.trees for node in tree.leaves()})
    end = "the last found nothing wrong" if learner.settled else "the budget ended before they were clean"
    return (
        f"{learner.check_rounds:,} checks of {regions:,} regions, up to {CHECKS[-1]:,} rows directed at each "
        f"({learner.checked_rows:,} rows for the regions there are in the end); {end}"
    )


def summary(learner: ExactLearner) -> dict[str, Any]:
    """All of it: ``outputs``, ``structure``, ``checks``, and the ``curve`` of questions and gates."""
    return {
        "outputs": outputs(learner), "structure": structure(learner), "checks": checks(learner),
        "checked_rows": learner.checked_rows if learner.settled else 0, "curve": learner.curve,
    }  # fmt: skip


def _nodes(tree: WordTree) -> list[Node]:
    """Every node once, those that stand for others included."""
    seen: dict[int, Node] = {}
    stack = [tree.root]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        if node.alias is not None:
            stack.append(node.alias)
        elif node.children is not None:
            stack += node.children
    return list(seen.values())


def _aliases(tree: WordTree) -> int:
    return sum(node.alias is not None for node in _nodes(tree))


def _splits(tree: WordTree) -> list[int]:
    """Input bits that the tree splits on, the most frequent first."""
    counts = Counter(node.split for node in _nodes(tree) if node.alias is None and node.children is not None)
    return [bit for bit, _ in counts.most_common()]
