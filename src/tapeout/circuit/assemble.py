"""From what was learned of each word to one circuit: every leaf's gates once, chosen by where the control tree leads.

Leaves that repeat the same step (``native/circuit/fold.h``) share it: at most one of them is chosen at a time, so it is
given what the chosen one asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeout.circuit.folds import BIT, NEXT_STATE, OPERAND, SHOWN, STATE, Fold, Folded, with_folds
from tapeout.circuit.miter import instantiate, translate
from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import Interface, Word

if TYPE_CHECKING:
    from tapeout.circuit.exact import Leaf, Node, WordTree


def assemble(interface: Interface, trees: Sequence[WordTree]) -> Folded:
    """One circuit of all words."""
    shared = _shared_folds(interface, trees)
    folds = tuple(one.fold for one in shared)
    builder = Builder(with_folds(interface, folds))
    uses = {(tree.name, id(leaf)): one for one in shared for tree, users in one.users for _, leaf in users}
    outputs: list[int] = []
    for tree in trees:
        made = {
            id(node): _outputs(builder, interface, node.leaf, uses.get((tree.name, id(node.leaf))))
            for node in tree.leaves()
            if node.leaf is not None
        }
        outputs += _Chooser(builder, tree).choose(made)
    for one in shared:
        outputs += one.asks(builder)
    return Folded(interface, Netlist(builder.interface, _array(builder.fanins), np.array(outputs, np.uint32)), folds)


class _Chooser:
    """The control tree of a word, as gates."""

    def __init__(self, builder: Builder, tree: WordTree) -> None:
        self.builder = builder
        self.tree = tree
        self._reached: dict[tuple[int, frozenset[int]], int] = {}

    def reach(self, leaves: frozenset[int], start: Node | None = None) -> int:
        """Whether the walk from ``start``, the root without, ends in a node of ``leaves``, given by identity."""
        node = (start or self.tree.root).resolve()
        if node.children is None:
            return TRUE if id(node) in leaves else FALSE
        key = (id(node), leaves)
        if key not in self._reached:
            zero, one = (self.reach(leaves, child) for child in node.children)
            self._reached[key] = self.builder.mux(2 * (1 + node.split), one, zero)
        return self._reached[key]

    def choose(self, words: Mapping[int, Sequence[int]]) -> list[int]:
        """The word that is, of each leaf's node, where the walk ends there; leaves that have the same bit share it."""
        builder, result = self.builder, list[int]()
        everything = frozenset(words)
        for bit in range(len(self.tree.outputs)):
            groups: dict[int, list[set[int]]] = {}
            for leaf, literals in words.items():
                groups.setdefault(literals[bit] & ~1, [set(), set()])[literals[bit] & 1].add(leaf)
            value = FALSE
            for base, (plain, inverted) in groups.items():
                flip = FALSE if not inverted else self.reach(frozenset(inverted))
                if base == FALSE:
                    value = builder.or_(value, flip)
                    continue
                users = frozenset(plain | inverted)
                selected = TRUE if users == everything else self.reach(users)
                value = builder.or_(value, builder.and_(selected, builder.xor(base, flip)))
            result.append(value)
        return result


# ---- leaves


def _outputs(builder: Builder, interface: Interface, leaf: Leaf, use: _SharedFold | None) -> list[int]:
    """The outputs of a leaf; where it uses a shared fold, what that answers stands for what its own steps compute."""
    first = 1 + interface.input_bits
    if use is None:
        return _Gates(builder, first, leaf.fanins.tolist()).literals(leaf.outputs)
    fold: dict[str, Any] = leaf.facts["fold"]
    answers = [literal for word in use.fold.answers for literal in builder.input(word.name)]
    own = (*fold["state"], *fold["record"])  # in the order of the answers
    stand_in = {lit >> 1: answer ^ lit & 1 for lit, answer in zip(own, answers, strict=False) if lit >> 1 >= first}
    return _Gates(builder, first, leaf.fanins.tolist(), leaf.outputs, stand_in).literals(leaf.outputs)


class _Gates:
    """Gates over the first inputs of a builder, placed there: all of them, or those that ``roots`` need.

    Variables in ``stand_in`` are those literals of the builder.
    """

    def __init__(
        self,
        builder: Builder,
        first: int,
        fanins: Sequence[tuple[int, int]],
        roots: Sequence[int] | None = None,
        stand_in: Mapping[int, int] | None = None,
    ) -> None:
        stand_in = stand_in or {}
        needed = bytearray([roots is None]) * (first + len(fanins))
        for literal in roots or ():
            needed[literal >> 1] = 1
        for variable in range(first + len(fanins) - 1, first - 1, -1):
            if needed[variable] and variable not in stand_in:
                a, b = fanins[variable - first]
                needed[a >> 1] = needed[b >> 1] = 1
        self.needed = needed
        self._became = [2 * variable for variable in range(first)]
        for variable, (a, b) in enumerate(fanins, first):
            if variable in stand_in:
                self._became.append(stand_in[variable])
            elif needed[variable]:
                self._became.append(builder.and_(self._literal(a), self._literal(b)))
            else:
                self._became.append(FALSE)

    def _literal(self, literal: int) -> int:
        return self._became[literal >> 1] ^ literal & 1

    def literals(self, literals: Sequence[int]) -> list[int]:
        """What literals of the gates have become."""
        return [self._literal(literal) for literal in literals]


# ---- folds


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of a leaf. ``operand``: the input bits that it reads beside the word that is folded."""

    over: tuple[int, int]
    operand: tuple[int, ...]
    netlist: Netlist

    @property
    def shows(self) -> bool:
        """It shows a bit."""
        return any(word.name == SHOWN for word in self.netlist.interface.outputs)

    @property
    def text(self) -> str:
        """Equal for equal steps."""
        netlist = self.netlist
        return f"{self.over} {self.operand} {netlist.fanins.tolist()} {netlist.outputs.tolist()}"

    @property
    def asked(self) -> list[int]:
        """The input bits that a fold of it is asked with."""
        return [*range(self.over[0], sum(self.over)), *self.operand]


Users = list[tuple[frozenset[int], "Leaf"]]
"""Leaves, and by identity the nodes that lead to each."""


@dataclass(frozen=True, slots=True, eq=False)
class _SharedFold:
    """A fold and its users, word by word; all words ask it for the same."""

    fold: Fold
    step: _Step
    users: list[tuple[WordTree, Users]]

    def asks(self, builder: Builder) -> list[int]:
        """The outputs that ask it, in the order of ``fold.asks``."""
        tree, users = self.users[0]
        words = _wanted(builder, self.step, _Chooser(builder, tree), users)
        result = words[0][1]
        for chosen, wanted in words[1:]:
            result = [builder.mux(chosen, new, old) for new, old in zip(wanted, result, strict=True)]
        used = FALSE
        for tree, users in self.users:
            nodes = frozenset[int]().union(*(nodes for nodes, _ in users))
            used = builder.or_(used, _Chooser(builder, tree).reach(nodes))
        return [*result, used]


def _wanted(builder: Builder, step: _Step, chooser: _Chooser, users: Users) -> list[tuple[int, list[int]]]:
    """For each user of a fold whether it is chosen, and what it asks with then."""
    words: list[tuple[int, list[int]]] = []
    for nodes, leaf in users:
        inputs: list[int] = leaf.facts["fold"]["inputs"]
        roots = [inputs[bit] for bit in step.asked]
        gates = _Gates(builder, len(inputs) + 1, leaf.fanins.tolist(), roots)
        words.append((chooser.reach(nodes), gates.literals(roots)))
    return words


def _shared_folds(interface: Interface, trees: Sequence[WordTree]) -> list[_SharedFold]:
    """Folds with the same step of leaves of one word are one, and those of several words that always ask the same."""
    taken = {word.name.split(".")[0] for word in (*interface.inputs, *interface.outputs)}
    names = (name for number in count() if (name := f"fold{number}") not in taken)
    scratch = Builder(interface)
    groups = [(tree, *group) for tree in trees for group in _same_steps(interface, tree)]
    asked = [str(_wanted(scratch, plain, _Chooser(scratch, tree), users)) for tree, plain, _, users in groups]
    keys = _merged([(plain, step, wanted) for (_, plain, step, _), wanted in zip(groups, asked, strict=True)])
    shared: dict[str, _SharedFold] = {}
    for key, (tree, _, step, users) in sorted(zip(keys, groups, strict=True), key=lambda one: not one[1][2].shows):
        if key not in shared:
            shared[key] = _SharedFold(Fold(next(names), step.over[1], step.netlist), step, [])
        shared[key].users.append((tree, users))
    return list(shared.values())


def _same_steps(interface: Interface, tree: WordTree) -> list[tuple[_Step, _Step, Users]]:
    """The steps that leaves of a word repeat, without and with what they show, and which leaves do."""
    nodes: dict[int, tuple[Leaf, set[int]]] = {}
    for node in tree.leaves():
        if node.leaf is not None and node.leaf.facts.get("fold"):
            nodes.setdefault(id(node.leaf), (node.leaf, set()))[1].add(id(node))
    found = [
        tuple(_step(interface, leaf.facts["fold"], show) for show in (False, bool(leaf.facts["fold"]["shown"])))
        for leaf, _ in nodes.values()
    ]
    keys = _merged([(plain, step, "") for plain, step in found])
    groups: dict[str, tuple[_Step, _Step, Users]] = {}
    ordered = sorted(zip(keys, found, nodes.values(), strict=True), key=lambda one: not one[1][1].shows)
    for key, (plain, step), (leaf, places) in ordered:
        groups.setdefault(key, (plain, step, []))[2].append((frozenset(places), leaf))
    return list(groups.values())


def _merged(steps: Sequence[tuple[_Step, _Step, str]]) -> list[str]:
    """Which of them are one, as equal keys: a step that shows nothing serves where one is the same but shows something.

    Each is given without and with what it shows; ``str`` is what else has to be the same.
    """
    shown = {f"{plain.text} {other}": f"{step.text} {other}" for plain, step, other in reversed(steps) if step.shows}
    return [
        f"{step.text} {other}" if step.shows else shown.get(f"{plain.text} {other}", f"{plain.text} {other}")
        for plain, step, other in steps
    ]


def _step(interface: Interface, fold: Mapping[str, Any], show: bool) -> _Step:
    """The step of a leaf as a circuit of the words of `Fold.step`."""
    first, width = fold["over"]
    inputs = interface.input_bits
    flat: list[int] = fold["step"]
    fanins = list(zip(flat[::2], flat[1::2], strict=True))
    roots = [*fold["next"], *(fold["shown"] if show else ())]
    needed = _Gates(Builder(interface), 1 + inputs, fanins, roots).needed
    operand = tuple(bit for bit in range(inputs) if needed[1 + bit] and not first <= bit < first + width)
    state = len(fold["next"])
    builder = Builder(
        Interface(
            (Word(BIT), Word(STATE, state), *([Word(OPERAND, len(operand))] if operand else [])),
            (Word(NEXT_STATE, state), *([Word(SHOWN)] if show else [])),
        )
    )
    places = [FALSE] * inputs
    word = [*builder.input(BIT), *builder.input(STATE)]
    places[first : first + width] = [*word, *[FALSE] * width][:width]
    for bit, literal in zip(operand, builder.input(OPERAND) if operand else (), strict=True):
        places[bit] = literal
    whole = Netlist(interface, _array(fanins), np.array(roots, np.uint32))
    literals = translate(instantiate(builder, whole, places), roots)
    step = Netlist(builder.interface, _array(builder.fanins), np.array(literals, np.uint32))
    return _Step((first, width), operand, step)


def _array(fanins: Sequence[tuple[int, int]]) -> Any:
    return np.array(fanins, np.uint32).reshape(-1, 2)
