"""Reads AIGER, ASCII and binary, as any tool writes it (Biere, "The AIGER And-Inverter Graph format", 2007).

Combinational files, or the next-state function of sequential ones. Words are taken from a comment that Tapeout wrote,
else from symbols like ``sum[3]``, else all inputs are the word ``i`` and all outputs the word ``o``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tapeout.circuit.names import bit_names, words_of_bits
from tapeout.circuit.netlist import FALSE, Builder, Netlist
from tapeout.circuit.words import NEXT, Interface, Word, parse_interface
from tapeout.errors import UserError

_DAMAGED = "give the file as the tool wrote it"


@dataclass(slots=True)
class _Header:
    most: int
    inputs: int
    latches: int
    outputs: int
    gates: int
    binary: bool


class _Reader:
    """The bytes of a file and a place in them; errors name the place."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.at = 0
        self.line = 0

    def error(self, what: str, action: str = _DAMAGED) -> UserError:
        return UserError(what, f"{self.where}:{self.line}" if self.line else self.where, action)

    def text_line(self) -> str:
        end = self.data.find(b"\n", self.at)
        self.line += 1
        if end < 0:
            if self.at >= len(self.data):
                raise self.error("the file ends too early")
            end = len(self.data)
        line = self.data[self.at : end]
        self.at = end + 1
        try:
            return line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise self.error("not text where text must be") from error

    def numbers(self, count: int, what: str, limit: int) -> list[int]:
        """A line of ``count`` literals below ``limit``."""
        line = self.text_line()
        parts = line.split()
        if len(parts) != count or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
            raise self.error(f"{line[:40]!r} is not {what}")
        found = [int(part) for part in parts]
        if max(found) >= limit:
            raise self.error(f"literal {max(found)} is beyond the largest variable of the header")
        return found

    def latch(self, limit: int, count: int) -> list[int]:
        """The literals of a latch's line; behind them may be what it is reset to, which is not read."""
        line = self.text_line()
        parts = line.split()
        if not count <= len(parts) <= count + 1 or not all(re.fullmatch(r"[0-9]{1,11}", part) for part in parts):
            raise self.error(f"{line[:40]!r} is not a latch")
        found = [int(part) for part in parts[:count]]
        if max(found) >= limit:
            raise self.error(f"literal {max(found)} is beyond the largest variable of the header")
        return found

    def delta(self) -> int:
        """A number of the binary part: seven bits a byte, the lowest first."""
        value = shift = 0
        while True:
            if self.at >= len(self.data):
                raise self.error("the file ends inside its gates")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 35:
                raise self.error("a number in the gates is too large")


def read_aiger(data: bytes, where: str = "AIGER file", *, latches: bool = False) -> Netlist:
    """The netlist in the bytes of a ``.aig`` or ``.aag`` file. UserError for damaged files, and for sequential ones.

    With ``latches``, a sequential file gives its next-state function: a latch is an input behind the others and, with
    ``.next`` behind its name, an output; what it is reset to is left out.
    """
    reader = _Reader(data, where)
    header = _read_header(reader, latches)
    limit = 2 * header.most + 2
    if header.binary:
        variables = list(range(1, header.inputs + header.latches + 1))
        nexts = [reader.latch(limit, 1)[0] for _ in range(header.latches)]
        outputs = [reader.numbers(1, "an output literal", limit)[0] for _ in range(header.outputs)]
        gates = _binary_gates(reader, header)
    else:
        variables = [_defined(reader, reader.numbers(1, "an input literal", limit)[0]) for _ in range(header.inputs)]
        states = [reader.latch(limit, 2) for _ in range(header.latches)]
        variables += [_defined(reader, state) for state, _ in states]
        nexts = [after for _, after in states]
        outputs = [reader.numbers(1, "an output literal", limit)[0] for _ in range(header.outputs)]
        gates: dict[int, tuple[int, int]] = {}
        for _ in range(header.gates):
            left, a, b = reader.numbers(3, "a gate (three literals)", limit)
            if _defined(reader, left) in gates:
                raise reader.error(f"variable {left // 2} is defined twice")
            gates[left // 2] = (a, b)
    if len(set(variables)) != len(variables) or not gates.keys().isdisjoint(variables):
        raise reader.error("a variable is defined twice")
    outputs += nexts
    builder = Builder(_read_words(reader, header))
    made = {0: FALSE, **{variable: 2 * (1 + i) for i, variable in enumerate(variables)}}
    build_gates(builder, gates, made, [output // 2 for output in outputs], reader.error)
    return finish_bits(builder, [made[output // 2] ^ output % 2 for output in outputs])


def finish_bits(builder: Builder, literals: list[int]) -> Netlist:
    """The netlist of a builder whose output bits, in order, are ``literals``."""
    outputs: dict[str, list[int]] = {}
    for word in builder.interface.outputs:
        outputs[word.name], literals = literals[: word.width], literals[word.width :]
    return builder.finish(outputs)


def _defined(reader: _Reader, literal: int) -> int:
    if literal < 2 or literal % 2:
        raise reader.error(f"literal {literal} cannot be defined")
    return literal // 2


def _read_header(reader: _Reader, sequential: bool) -> _Header:
    line = reader.text_line()
    parts = line.split()
    if not parts or parts[0] not in ("aag", "aig"):
        raise reader.error(f"{line[:20]!r} is not the header of an AIGER file", "it begins with 'aag' or 'aig'")
    if not 6 <= len(parts) <= 10 or not all(re.fullmatch(r"\d{1,10}", part) for part in parts[1:]):
        raise reader.error(f"{line[:60]!r} is not a header", "write 'aig M I L O A'")
    most, inputs, latches, outputs, gates, *more = map(int, parts[1:])
    if latches and not sequential:
        raise reader.error(f"the circuit has {latches} latches", "give its combinational next-state function")
    if any(more):
        raise reader.error("the file has properties or constraints", "give a plain combinational file")
    binary = parts[0] == "aig"
    if most < inputs + latches + gates or (binary and most != inputs + latches + gates):
        held = f"{inputs} inputs, {latches} latches" if latches else f"{inputs} inputs"
        raise reader.error(f"{most} variables do not go with {held} and {gates} gates")
    # Every gate takes at least two bytes, every output, latch and ASCII input too: no memory for what is not there.
    if 2 * (gates + latches + outputs + (0 if binary else inputs)) > len(reader.data) or inputs > 1 << 24:
        raise reader.error("the header announces more than the file holds")
    return _Header(most, inputs, latches, outputs, gates, binary)


def _binary_gates(reader: _Reader, header: _Header) -> dict[int, tuple[int, int]]:
    gates: dict[int, tuple[int, int]] = {}
    first = header.inputs + header.latches + 1
    for variable in range(first, first + header.gates):
        a = 2 * variable - reader.delta()
        b = a - reader.delta()
        if not 0 <= b <= a < 2 * variable:
            raise reader.error(f"gate {variable} does not stand behind its fan-ins")
        gates[variable] = (a, b)
    return gates


def build_gates(
    builder: Builder,
    gates: dict[int, tuple[int, int]],
    made: dict[int, int],
    roots: list[int],
    error: Callable[[str], UserError],
) -> None:
    """Adds to ``made`` the literals of all variables that ``roots`` need, in whatever order the gates stand."""
    opened: set[int] = set()
    for root in roots:
        stack = [root]
        while stack:
            variable = stack[-1]
            if variable in made:
                stack.pop()
                continue
            if variable not in gates:
                raise error(f"variable {variable} is read but never defined")
            a, b = gates[variable]
            missing = [side // 2 for side in (a, b) if side // 2 not in made]
            if not missing:
                made[variable] = builder.and_(made[a // 2] ^ a % 2, made[b // 2] ^ b % 2)
                stack.pop()
            elif variable in opened:
                # Its fan-ins were on the stack above it, so one of them waits for it.
                raise error(f"variable {variable} depends on itself")
            else:
                opened.add(variable)
                stack += missing


def _read_words(reader: _Reader, header: _Header) -> Interface:
    """Symbols and the comment, which end the file."""
    names: dict[str, list[str]] = {"i": [""] * header.inputs, "l": [""] * header.latches, "o": [""] * header.outputs}
    comment = ""
    while reader.at < len(reader.data):
        line = reader.text_line()
        if line == "c":
            comment = reader.data[reader.at :].decode("utf-8", "replace")
            break
        match = re.fullmatch(r"([ilo])(\d{1,9}) (.+)", line)
        if match is None or int(match[2]) >= len(names[match[1]]):
            raise reader.error(f"{line[:40]!r} is not a symbol of an input or output")  # a latch is both
        names[match[1]][int(match[2])] = match[3].strip()
    if not header.latches:
        return interface_of_bits(names["i"], names["o"], comment.partition("\n")[0])
    taken: set[str] = set()
    inputs = words_of_bits(names["i"], "i", taken)
    states = words_of_bits(names["l"], "state", taken)
    after = tuple(Word(f"{word.name}{NEXT}", word.width) for word in states)
    taken |= {word.name for word in after}
    return Interface(inputs + states, words_of_bits(names["o"], "o", taken) + after)


def interface_of_bits(inputs: list[str], outputs: list[str], comment: str) -> Interface:
    """The interface whose bits have these names; ``comment`` is its text form where Tapeout wrote the file."""
    if "->" in comment:
        try:
            interface = parse_interface(comment)
        except UserError:
            pass  # somebody else's comment
        else:
            if bit_names(interface.inputs) == inputs and bit_names(interface.outputs) == outputs:
                return interface
    taken: set[str] = set()
    return Interface(words_of_bits(inputs, "i", taken), words_of_bits(outputs, "o", taken))
