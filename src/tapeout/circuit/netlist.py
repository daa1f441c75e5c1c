"""And-inverter graphs: the form in which circuits are learned, made smaller, proved equal and written out.

A literal is ``2 * variable + complement``. Variable 0 is the constant false, so literal 0 is false and literal 1 is
true; variable ``1 + i`` is input bit ``i``; variable ``1 + inputs + k`` is AND node ``k``. Nodes stand in topological
order: the fan-ins of a node have smaller variables. This is AIGER's numbering.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.words import Interface

FALSE = 0
TRUE = 1


@dataclass(frozen=True, slots=True, eq=False)
class Netlist:
    """A combinational circuit of two-input ANDs and inverters.

    ``fanins[nodes, 2] uint32`` are the literals of each AND; ``outputs[interface.output_bits] uint32`` the literals of
    the output bits, in the order of the interface.
    """

    interface: Interface
    fanins: NDArray[np.uint32]
    outputs: NDArray[np.uint32]

    @property
    def nodes(self) -> int:
        """AND nodes, the size that is quoted."""
        return len(self.fanins)

    @property
    def levels(self) -> int:
        """ANDs on the longest path to an output."""
        level: list[int] = [0] * (1 + self.interface.input_bits)
        fanins: list[tuple[int, int]] = self.fanins.tolist()
        for a, b in fanins:
            level.append(1 + max(level[a >> 1], level[b >> 1]))
        outputs: list[int] = self.outputs.tolist()
        return max((level[literal >> 1] for literal in outputs), default=0)

    def cone_sizes(self) -> dict[str, int]:
        """ANDs that each output word depends on; words share, so that the sum may exceed the size."""
        first = 1 + self.interface.input_bits
        needed = [0] * (first + self.nodes)  # a bit for each word
        outputs = iter(self.outputs.tolist())
        for index, word in enumerate(self.interface.outputs):
            for _ in range(word.width):
                needed[next(outputs) >> 1] |= 1 << index
        fanins: list[tuple[int, int]] = self.fanins.tolist()
        for node in range(self.nodes - 1, -1, -1):
            a, b = fanins[node]
            needed[a >> 1] |= needed[first + node]
            needed[b >> 1] |= needed[first + node]
        counts = Counter(needed[first:])
        return {
            word.name: sum(count for mask, count in counts.items() if mask >> index & 1)
            for index, word in enumerate(self.interface.outputs)
        }


class Builder:
    """Makes a netlist gate by gate; equal gates are made once (structural hashing)."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self._first = 1 + interface.input_bits
        self._fanins: list[tuple[int, int]] = []
        self._nodes: dict[tuple[int, int], int] = {}

    @property
    def fanins(self) -> list[tuple[int, int]]:
        """The gates so far, as pairs of literals."""
        return self._fanins

    def input(self, name: str) -> list[int]:
        """The literals of an input word, the least significant bit first."""
        start = 0
        for word in self.interface.inputs:
            if word.name == name:
                return [2 * (1 + start + bit) for bit in range(word.width)]
            start += word.width
        raise KeyError(name)

    def and_(self, a: int, b: int) -> int:
        """``a & b``."""
        if a > b:
            a, b = b, a
        if a == FALSE or a == b ^ 1:
            return FALSE
        if a in (TRUE, b):
            return b
        node = self._nodes.get((a, b))
        if node is None:
            node = 2 * (self._first + len(self._fanins))
            self._nodes[a, b] = node
            self._fanins.append((a, b))
        return node

    def or_(self, a: int, b: int) -> int:
        """``a | b``."""
        return self.and_(a ^ 1, b ^ 1) ^ 1

    def xor(self, a: int, b: int) -> int:
        """``a ^ b``."""
        return self.or_(self.and_(a, b ^ 1), self.and_(a ^ 1, b))

    def mux(self, select: int, then: int, other: int) -> int:
        """``then`` where ``select`` is 1, else ``other``."""
        if then == other:
            return then
        if then == other ^ 1:
            return self.xor(select, other)
        return self.or_(self.and_(select, then), self.and_(select ^ 1, other))

    def place(self, netlist: Netlist, inputs: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """A copy of ``netlist`` on the given input words; its output words."""
        map_ = [FALSE]
        for word in netlist.interface.inputs:
            if len(inputs[word.name]) != word.width:
                raise ValueError(f"input {word.name} has {len(inputs[word.name])} bits, not {word.width}")
            map_ += inputs[word.name]
        fanins: list[tuple[int, int]] = netlist.fanins.tolist()
        for a, b in fanins:
            map_.append(self.and_(map_[a >> 1] ^ a & 1, map_[b >> 1] ^ b & 1))
        ends: list[int] = netlist.outputs.tolist()
        literals = [map_[lit >> 1] ^ lit & 1 for lit in ends]
        outputs: dict[str, list[int]] = {}
        for word in netlist.interface.outputs:
            outputs[word.name], literals = literals[: word.width], literals[word.width :]
        return outputs

    def finish(self, outputs: dict[str, list[int]]) -> Netlist:
        """The netlist whose output words are ``outputs``; every word of the interface must be there, at its width."""
        literals: list[int] = []
        for word in self.interface.outputs:
            if len(outputs[word.name]) != word.width:
                raise ValueError(f"output {word.name} has {len(outputs[word.name])} bits, not {word.width}")
            literals += outputs[word.name]
        fanins = np.array(self._fanins, np.uint32).reshape(-1, 2)
        return Netlist(self.interface, fanins, np.array(literals, np.uint32))
