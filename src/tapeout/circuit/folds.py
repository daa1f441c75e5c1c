"""Circuits with a step that is repeated for each bit of a word, as divisions are: the step's gates are there once.

The rest of the circuit says what goes into the steps and uses what comes out. So one step can serve several words that
need it at different times, a core can repeat it clock after clock, and `Folded.unrolled` puts all steps behind each
other: the plain circuit, which is what is compared and proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tapeout.circuit.miter import instantiate, translate
from tapeout.circuit.netlist import FALSE, Builder, Netlist
from tapeout.circuit.words import Interface, Word

BIT, STATE, OPERAND, NEXT_STATE, SHOWN = "bit", "state", "operand", "state.next", "shown"
"""The words of a step. It may do without `OPERAND`, which is the same for all steps, and without `SHOWN`."""


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """A step and how often it is repeated.

    ``step`` is given the next bit of a word of ``steps`` bits, the highest first, and the state that the step before
    left, at first 0. What it shows for each bit is kept in the place of that bit.
    """

    name: str
    steps: int
    step: Netlist

    @property
    def valid(self) -> bool:
        """The step has the words of one; what is read from files may not."""
        names = [word.name for word in (*self.step.interface.inputs, *self.step.interface.outputs)]
        return {BIT, STATE, NEXT_STATE} <= {*names} <= {BIT, STATE, OPERAND, NEXT_STATE, SHOWN}

    @property
    def state(self) -> int:
        """Bits of the state."""
        return next(word.width for word in self.step.interface.inputs if word.name == STATE)

    @property
    def shows(self) -> bool:
        """Each step shows a bit."""
        return any(word.name == SHOWN for word in self.step.interface.outputs)

    @property
    def asks(self) -> tuple[Word, ...]:
        """Words by which the rest of a circuit asks for the fold: what is folded, the operand, whether it is used."""
        operand = [word.width for word in self.step.interface.inputs if word.name == OPERAND]
        return (
            Word(f"{self.name}.over", self.steps),
            *(Word(f"{self.name}.{OPERAND}", width) for width in operand),
            Word(f"{self.name}.used"),
        )

    @property
    def answers(self) -> tuple[Word, ...]:
        """Words that the rest of a circuit gets: the state behind the last step, and what was shown."""
        shown = (Word(f"{self.name}.record", self.steps),) if self.shows else ()
        return Word(f"{self.name}.{STATE}", self.state), *shown

    def place(self, builder: Builder, over: list[int], operand: list[int]) -> dict[str, list[int]]:
        """All steps, one behind the other; the words of `answers`."""
        state, record = [FALSE] * self.state, [FALSE] * self.steps
        for bit in reversed(range(self.steps)):
            inputs = {BIT: [over[bit]], STATE: state, OPERAND: operand}
            made = builder.place(self.step, inputs)
            state = made[NEXT_STATE]
            if self.shows:
                record[bit] = made[SHOWN][0]
        return {word.name: literals for word, literals in zip(self.answers, (state, record), strict=False)}


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A circuit of the words ``interface``, with its folds beside it.

    ``netlist`` has the words of the folds behind those of ``interface``: their ``answers`` as inputs, their ``asks`` as
    outputs. What it asks does not depend on the answers.
    """

    interface: Interface
    netlist: Netlist
    folds: tuple[Fold, ...] = ()

    @property
    def nodes(self) -> int:
        """AND nodes, those of each step once."""
        return self.netlist.nodes + sum(fold.step.nodes for fold in self.folds)

    def map(self, change: Callable[[Netlist], Netlist]) -> Folded:
        """The same with ``change`` made to the netlist and to each step; it must leave their functions alone."""
        folds = tuple(replace(fold, step=change(fold.step)) for fold in self.folds)
        return replace(self, netlist=change(self.netlist), folds=folds)

    def unrolled(self) -> Netlist:
        """The circuit with every step of its folds as gates."""
        if not self.folds:
            return self.netlist
        builder = Builder(self.interface)
        inputs = {word.name: builder.input(word.name) for word in self.interface.inputs}
        inputs |= {word.name: [FALSE] * word.width for fold in self.folds for word in fold.answers}
        asked = self._asked(builder, [literal for word in inputs.values() for literal in word])
        for fold in self.folds:
            inputs |= fold.place(builder, asked[f"{fold.name}.over"], asked.get(f"{fold.name}.{OPERAND}", []))
        outputs = builder.place(self.netlist, inputs)
        return builder.finish({word.name: outputs[word.name] for word in self.interface.outputs})

    def _asked(self, builder: Builder, inputs: list[int]) -> dict[str, list[int]]:
        """The words that folds are asked with, and no gates but theirs."""
        literals: dict[str, list[int]] = {}
        ends: list[int] = self.netlist.outputs.tolist()
        for word in self.netlist.interface.outputs:
            literals[word.name], ends = ends[: word.width], ends[word.width :]
        asked = {word.name: literals[word.name] for fold in self.folds for word in fold.asks}
        roots = [literal for word in asked.values() for literal in word]
        cone = Netlist(self.netlist.interface, self.netlist.fanins, np.array(roots, np.uint32))
        became = instantiate(builder, cone, inputs)
        return {name: translate(became, word) for name, word in asked.items()}


def plain(netlist: Netlist) -> Folded:
    """A circuit without folds."""
    return Folded(netlist.interface, netlist)


def with_folds(interface: Interface, folds: tuple[Fold, ...]) -> Interface:
    """The words of `Folded.netlist`."""
    answers = [word for fold in folds for word in fold.answers]
    asks = [word for fold in folds for word in fold.asks]
    return Interface((*interface.inputs, *answers), (*interface.outputs, *asks))
