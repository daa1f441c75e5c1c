"""Arrays in the state of a circuit, and the form of the circuit without them.

An array is a set of state words of one width (a register file) that the circuit reaches through ports: a port names one
entry by a few input bits. In **port form** its words are left out; inputs are the values that the read ports deliver,
outputs what the write ports store. Rows in port form where two read ports name one entry with different values, or no
entry with a value other than 0, belong to no state of the whole circuit: they are don't-cares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeout import _native
from tapeout.circuit.columns import Column, columns_to_rows, rows_to_columns
from tapeout.circuit.oracle import NativeOracle, to_native
from tapeout.circuit.words import NEXT, Interface, Rows, Word

NOTHING = -1
"""In a port's table: the code names no entry."""


@dataclass(frozen=True, slots=True)
class Port:
    """How an entry is named: the code that input bits ``bits`` of the whole circuit form, the first lowest.

    ``table[code]`` is the entry, or `NOTHING`: reading it gives 0, what is written to it is lost. Without bits the port
    is always at the same entry.
    """

    bits: tuple[int, ...]
    table: tuple[int, ...]

    def codes(self, rows: Rows) -> NDArray[np.intp]:
        """The code in each row of the whole circuit."""
        codes = np.zeros(len(rows), np.intp)
        for place, bit in enumerate(self.bits):
            codes |= (rows[:, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)).astype(np.intp) << place
        return codes

    def entries(self, rows: Rows) -> NDArray[np.intp]:
        """The entry that each row names."""
        return np.array(self.table, np.intp)[self.codes(rows)]


@dataclass(frozen=True, slots=True)
class Array:
    """State words of one width, by name, and the ports to them.

    Where two write ports name one entry, the later one has the last word.
    """

    name: str
    width: int
    words: tuple[str, ...]
    reads: tuple[Port, ...]
    writes: tuple[Port, ...]

    def read_word(self, index: int) -> Word:
        """The value that read port ``index`` delivers: an input in port form."""
        return Word(f"{self.name}.read{index}", self.width)

    def write_word(self, index: int) -> Word:
        """The value that write port ``index`` stores: an output in port form."""
        return Word(f"{self.name}.write{index}", self.width)

    def enable_word(self, index: int) -> Word | None:
        """Whether it stores at all; None for a port that does in every step.

        Such is the index of a read port: what holds is stored as it was read, for the two cannot be told apart.
        """
        return None if self.writes[index] in self.reads else Word(f"{self.name}.write{index}.enable")


@dataclass(frozen=True)
class PortForm:
    """A circuit with ``whole`` words, and the arrays in its state.

    ``copies`` are output bits of the whole circuit that are always an index bit of some port, or its complement.
    """

    whole: Interface
    arrays: tuple[Array, ...]
    copies: tuple[int, ...] = ()

    @cached_property
    def interface(self) -> Interface:
        """The words in port form: those that belong to no array, then those of the ports."""
        taken = {name for array in self.arrays for name in array.words}
        inputs = [word for word in self.whole.inputs if word.name not in taken]
        outputs = [word for word in self.whole.outputs if word.name.removesuffix(NEXT) not in taken or not _next(word)]
        for array in self.arrays:
            inputs += [array.read_word(index) for index in range(len(array.reads))]
            for index in range(len(array.writes)):
                enable = array.enable_word(index)
                outputs += [array.write_word(index), *([enable] if enable else [])]
        return Interface(tuple(inputs), tuple(outputs))

    def sources(self, name: str) -> list[str]:
        """The outputs in port form that an output of the whole circuit is made of."""
        for array in self.arrays:
            if name.removesuffix(NEXT) in array.words and name.endswith(NEXT):
                words = [w for k in range(len(array.writes)) for w in (array.write_word(k), array.enable_word(k)) if w]
                return [word.name for word in words]
        return [name]

    def bits(self, port: Port) -> tuple[int, ...]:
        """A port's index bits as bits of an input row in port form."""
        moved = {start + bit: at + bit for start, at, width in self.input_moves() for bit in range(width)}
        return tuple(moved[bit] for bit in port.bits)

    def describe(self, port: Port) -> str:
        """A port's index in words: ``instruction[19:15]``."""
        if not port.bits:
            return "always the same entry"
        parts: list[str] = []
        start = 0
        for word in self.whole.inputs:
            inside = [bit - start for bit in reversed(port.bits) if start <= bit < start + word.width]
            start += word.width
            while inside:
                run = 1
                while run < len(inside) and inside[run] == inside[0] - run:
                    run += 1
                parts.append(f"{word.name}[{inside[0]}{f':{inside[run - 1]}' if run > 1 else ''}]")
                inside = inside[run:]
        return " ".join(parts)

    def facts(self) -> list[str]:
        """What was found, a line for each array and port."""
        lines: list[str] = []
        for array in self.arrays:
            lines.append(f"array {array.name}: {len(array.words)} entries of {array.width} bits ({_span(array.words)})")
            ports = [("read", index, port) for index, port in enumerate(array.reads)]
            ports += [("write", index, port) for index, port in enumerate(array.writes)]
            for kind, index, port in ports:
                missing = sum(entry == NOTHING for entry in port.table)
                where = f"{self.describe(port)}" if port.bits else f"always {array.words[port.table[0]]}"
                always = ", in every step" if kind == "write" and array.enable_word(index) is None else ""
                without = f", {missing} of {len(port.table)} codes name no entry" if missing else ""
                lines.append(f"array {array.name}, {kind} port {index}: {where}{always}{without}")
        return lines

    def record(self) -> list[dict[str, Any]]:
        """The arrays as plain values, for JSON."""
        return [
            {
                "name": array.name, "width": array.width, "words": list(array.words),
                **{
                    kind: [{"index": self.describe(port), "table": list(port.table)} for port in ports]
                    for kind, ports in (("reads", array.reads), ("writes", array.writes))
                },
            }
            for array in self.arrays
        ]  # fmt: skip

    def input_moves(self) -> list[tuple[int, int, int]]:
        """Where the words outside of arrays stand: bit of a whole row, bit of a row in port form, width."""
        return _moves(self.whole.inputs, self.interface.inputs)

    def output_moves(self) -> list[tuple[int, int, int]]:
        """The same of answers."""
        return _moves(self.whole.outputs, self.interface.outputs)

    def port_rows(self, rows: Rows) -> Rows:
        """Input rows of the whole circuit in port form."""
        columns = dict(zip(_names(self.whole.inputs), rows_to_columns(rows, self.whole.inputs), strict=True))
        for array in self.arrays:
            contents = _contents(columns, array, "")
            for index, port in enumerate(array.reads):
                entries = port.entries(rows)
                values = contents[np.arange(len(rows)), entries]
                columns[array.read_word(index).name] = np.where(entries == NOTHING, np.uint64(0), values)
        words = self.interface.inputs
        return columns_to_rows([columns[word.name] for word in words], words, len(rows), "port form")

    def whole_answers(self, rows: Rows, answers: Rows) -> Rows:
        """Answers of the whole circuit to its ``rows`` from those in port form."""
        before = dict(zip(_names(self.whole.inputs), rows_to_columns(rows, self.whole.inputs), strict=True))
        words = self.interface.outputs
        columns = dict(zip(_names(words), rows_to_columns(answers, words), strict=True))
        for array in self.arrays:
            contents = _contents(before, array, "")
            for index, port in enumerate(array.writes):
                enable = array.enable_word(index)
                entries = port.entries(rows)
                stores = (entries != NOTHING) & (columns[enable.name] == 1 if enable else True)
                (where,) = np.nonzero(stores)
                contents[where, entries[where]] = columns[array.write_word(index).name][where]
            columns |= {name + NEXT: contents[:, entry] for entry, name in enumerate(array.words)}
        words = self.whole.outputs
        return columns_to_rows([columns[word.name] for word in words], words, len(rows), "port form")

    def oracle(self, whole: _native.Oracle) -> NativeOracle:
        """The black box ``whole`` in port form; how don't-cares are filled stands in native/circuit/port_oracle.h."""
        starts_in, starts_out = _starts(self.whole.inputs), _starts(self.whole.outputs)
        at_in, at_out = _starts(self.interface.inputs), _starts(self.interface.outputs)
        arrays: list[tuple[int, list[int], list[int]]] = []
        reads: list[tuple[int, list[int], list[int], int, int]] = []
        writes: list[tuple[int, list[int], list[int], int, int]] = []
        for number, array in enumerate(self.arrays):
            inputs, outputs = (
                [s[name + end] for name in array.words] for s, end in ((starts_in, ""), (starts_out, NEXT))
            )
            arrays.append((array.width, inputs, outputs))
            for index, port in enumerate(array.reads):
                at = at_in[array.read_word(index).name]
                reads.append((number, list(self.bits(port)), list(port.table), at, -1))
            for index, port in enumerate(array.writes):
                enable = array.enable_word(index)
                where = at_out[enable.name] if enable else -1
                at = at_out[array.write_word(index).name]
                writes.append((number, list(self.bits(port)), list(port.table), at, where))
        moved = {start + bit: at + bit for start, at, width in self.output_moves() for bit in range(width)}
        native = _native.PortOracle(
            whole, self.interface.input_bits, self.interface.output_bits,
            [(at, start, width) for start, at, width in self.input_moves()], self.output_moves(), arrays, reads, writes,
            [moved[bit] for bit in self.copies],
        )  # fmt: skip
        return NativeOracle(native, self.interface, "port form")


def in_port_form(source: Callable[[], Any], form: PortForm) -> NativeOracle:
    """The black box that ``source`` makes anew, in port form; with `functools.partial` a source itself."""
    return form.oracle(to_native(source()))


def _next(word: Word) -> bool:
    return word.name.endswith(NEXT)


def _names(words: tuple[Word, ...]) -> list[str]:
    return [word.name for word in words]


def _span(names: tuple[str, ...]) -> str:
    return f"{names[0]} ... {names[-1]}"


def _starts(words: tuple[Word, ...]) -> dict[str, int]:
    starts: dict[str, int] = {}
    at = 0
    for word in words:
        starts[word.name] = at
        at += word.width
    return starts


def _moves(whole: tuple[Word, ...], ports: tuple[Word, ...]) -> list[tuple[int, int, int]]:
    starts, at = _starts(whole), _starts(ports)
    return [(starts[word.name], at[word.name], word.width) for word in ports if word.name in starts]


def _contents(columns: dict[str, Column], array: Array, end: str) -> Column:
    """What the entries hold, ``[rows, entries]``."""
    return np.stack([columns[name + end] for name in array.words], axis=1)
