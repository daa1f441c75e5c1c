"""Netlists on rows in plain NumPy, and rows from and to word values: slow, and apart from the native evaluator."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.netlist import Netlist
from tapeout.circuit.words import Rows, Word, pack, unpack


def evaluate(netlist: Netlist, rows: Rows) -> Rows:
    """Output rows of input rows, 64 rows to an operation."""
    inputs = netlist.interface.input_bits
    values = np.zeros((1 + inputs + netlist.nodes, -(-len(rows) // 64)), np.uint64)
    values[1 : 1 + inputs] = pack(unpack(rows, inputs).T)
    inverted = [np.uint64(0), ~np.uint64(0)]
    for node, (a, b) in enumerate(netlist.fanins.tolist(), 1 + inputs):
        values[node] = (values[a >> 1] ^ inverted[a & 1]) & (values[b >> 1] ^ inverted[b & 1])
    masks = np.array(inverted)[netlist.outputs & 1]
    return pack(unpack(values[netlist.outputs >> 1] ^ masks[:, None], len(rows)).T)


def word_values(words: Sequence[Word], rows: Rows) -> dict[str, NDArray[np.uint64]]:
    """The value of each word (at most 64 bits) in each row."""
    bits = unpack(rows, sum(word.width for word in words)).astype(np.uint64)
    values: dict[str, NDArray[np.uint64]] = {}
    start = 0
    for word in words:
        weights = np.uint64(1) << np.arange(word.width, dtype=np.uint64)
        values[word.name] = (bits[:, start : start + word.width] * weights).sum(axis=1, dtype=np.uint64)
        start += word.width
    return values


def rows_of(words: Sequence[Word], values: Iterable[Mapping[str, int]]) -> Rows:
    """Rows that hold the given values; words that are not named are 0."""
    packed = [[value.get(word.name, 0) >> bit & 1 for word in words for bit in range(word.width)] for value in values]
    return pack(np.array(packed, np.uint8).reshape(len(packed), -1))
