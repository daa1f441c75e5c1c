"""Evaluates netlists on rows, bit-parallel and on all cores, also as black boxes."""

from __future__ import annotations

import numpy as np

from tapeout import _native
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.words import Rows, row_words


class Evaluator:
    """A netlist made ready to evaluate many batches of rows."""

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        fanins = np.ascontiguousarray(netlist.fanins, np.uint32).reshape(-1, 2)
        outputs = np.ascontiguousarray(netlist.outputs, np.uint32)
        self.native = _native.Evaluator(netlist.interface.input_bits, fanins, outputs)

    def __call__(self, rows: Rows, threads: int = 0) -> Rows:
        """Output rows of input rows ``rows[n, row_words(inputs)]``; ``threads`` 0 means all cores.

        Raises:
            ValueError: rows of the wrong width.
        """
        width = row_words(self.netlist.interface.input_bits)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"rows have shape {rows.shape}, not (n, {width})")
        return self.native.run(np.ascontiguousarray(rows, np.uint64), threads)


class NetlistOracle:
    """A netlist as a black box that learners may ask."""

    def __init__(self, netlist: Netlist, where: str = "netlist") -> None:
        self.netlist, self.where = netlist, where
        self.interface = netlist.interface
        self._evaluator = Evaluator(netlist)
        self.native: _native.Oracle = self._evaluator.native

    def evaluate(self, rows: Rows) -> Rows:
        """As `Evaluator`, on one core."""
        return self._evaluator(rows, 1)


def evaluate(netlist: Netlist, rows: Rows, threads: int = 0) -> Rows:
    """Output rows ``[n, row_words(outputs)]`` of input rows ``rows[n, row_words(inputs)]``."""
    return Evaluator(netlist)(rows, threads)
