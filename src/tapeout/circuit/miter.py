"""Questions about cones of gates, answered by a SAT solver, and two netlists compared output by output with it.

A row is a Python integer here: bit ``i`` is input bit ``i``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import Interface
from tapeout.errors import UserError

SOLVER = "cadical195"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of an output word: proved equal, or different on ``row``, or neither within the budget."""

    proved: bool = False
    row: int | None = None

    @property
    def undecided(self) -> bool:
        return not self.proved and self.row is None

    def __str__(self) -> str:
        return "proved" if self.proved else "undecided" if self.row is None else f"different on {self.row:#x}"


# Compares two netlists of one interface: a finding for each output word.
Engine = Callable[[Netlist, Netlist], Mapping[str, Finding]]


def instantiate(builder: Builder, netlist: Netlist, inputs: Sequence[int], roots: Iterable[int] = ()) -> list[int]:
    """The gates of ``netlist`` over other input literals, which may be constants.

    Gates that neither an output nor one of the literals ``roots`` needs are left out. Returns what each *variable* of
    ``netlist`` has become, as a literal of ``builder``; of variables left out 0.
    """
    first = 1 + len(inputs)
    needed = bytearray(first + netlist.nodes)
    for literal in (*netlist.outputs.tolist(), *roots):
        needed[literal >> 1] = 1
    fanins: list[tuple[int, int]] = netlist.fanins.tolist()
    for variable in range(first + netlist.nodes - 1, first - 1, -1):
        if needed[variable]:
            a, b = fanins[variable - first]
            needed[a >> 1] = needed[b >> 1] = 1
    became = [FALSE, *inputs, *[FALSE] * netlist.nodes]
    for variable, (a, b) in enumerate(fanins, first):
        if needed[variable]:
            became[variable] = builder.and_(became[a >> 1] ^ a & 1, became[b >> 1] ^ b & 1)
    return became


def translate(became: Sequence[int], literals: Iterable[int]) -> list[int]:
    """Literals of the netlist that was instantiated, as literals of the builder."""
    return [became[literal >> 1] ^ literal & 1 for literal in literals]


def input_literals(interface: Interface) -> list[int]:
    return [2 * (1 + bit) for bit in range(interface.input_bits)]


def evaluate_columns(netlist: Netlist, columns: Sequence[int], rows: int) -> list[int]:
    """Output bits over many rows: bit ``r`` of ``columns[i]`` is input bit ``i`` in row ``r``; so is the result."""
    ones = (1 << rows) - 1
    values = [0, ones]  # of each literal
    for column in columns:
        values += [column, column ^ ones]
    fanins: list[tuple[int, int]] = netlist.fanins.tolist()
    for a, b in fanins:
        value = values[a] & values[b]
        values += [value, value ^ ones]
    return [values[literal] for literal in netlist.outputs.tolist()]


def word_values(netlist: Netlist, row: int) -> dict[str, int]:
    """The output words of one input row."""
    bits = evaluate_columns(netlist, [row >> bit & 1 for bit in range(netlist.interface.input_bits)], 1)
    values: dict[str, int] = {}
    for word in netlist.interface.outputs:
        values[word.name] = sum(bit << place for place, bit in enumerate(bits[: word.width]))
        bits = bits[word.width :]
    return values


class Cones:
    """A SAT solver over the gates of a netlist made by a ``Builder`` (no gate has a constant fan-in).

    Gates become clauses when a question first needs them. Variables in ``cut`` are free, whatever drives them.
    """

    def __init__(self, netlist: Netlist, cut: Iterable[int] = ()) -> None:
        self.first = 1 + netlist.interface.input_bits
        self.fanins = netlist.fanins
        self.known = set(cut)
        self.solver: Any = _solver()

    @property
    def conflicts(self) -> int:
        """The solver's effort so far."""
        return self.solver.accum_stats()["conflicts"]

    def close(self) -> None:
        self.solver.delete()

    def satisfiable(self, literals: Sequence[int], conflicts: int) -> bool | None:
        """Whether all ``literals`` can be 1 together; None where ``conflicts`` did not suffice to tell."""
        literals = [literal for literal in literals if literal != TRUE]
        if FALSE in literals:
            return False
        self._clauses(literals)
        self.solver.conf_budget(max(conflicts, 1))
        return self.solver.solve_limited(assumptions=[_signed(literal) for literal in literals])

    def assume(self, *literals: int) -> None:
        """From now on at least one of ``literals`` is 1."""
        if TRUE in literals:
            return
        self._clauses(literals)
        self.solver.add_clause([_signed(literal) for literal in literals if literal != FALSE])

    def assume_equal(self, a: int, b: int) -> None:
        self.assume(a, b ^ 1)
        self.assume(a ^ 1, b)

    def row(self) -> int:
        """The input row of the last question that was satisfiable; inputs that did not matter are 0."""
        model: list[int] = self.solver.get_model()
        return sum(1 << value - 1 for value in model if 0 < value < self.first)

    def _clauses(self, literals: Iterable[int]) -> None:
        pending = [literal >> 1 for literal in literals]
        while pending:
            variable = pending.pop()
            if variable < self.first or variable in self.known:
                continue
            self.known.add(variable)
            a, b = map(int, self.fanins[variable - self.first])
            self.solver.add_clause([-variable, _signed(a)])
            self.solver.add_clause([-variable, _signed(b)])
            self.solver.add_clause([variable, -_signed(a), -_signed(b)])
            pending += [a >> 1, b >> 1]


def compare(a: Netlist, b: Netlist, conflicts: int = 100_000) -> dict[str, Finding]:
    """The plain engine: random rows, then the outputs of both over one copy of the inputs, bit by bit from the lowest.

    Bits proved equal are lemmas for the next ones, which is what adders need. ``conflicts`` is the budget for a word.

    Raises:
        UserError: different interfaces.
    """
    if a.interface != b.interface:
        raise UserError("the netlists have different words", "comparison", "compare netlists of one interface")
    sampled = _sample(a, b)
    builder = Builder(Interface(a.interface.inputs, ()))
    inputs = input_literals(a.interface)
    left, right = (translate(instantiate(builder, netlist, inputs), netlist.outputs.tolist()) for netlist in (a, b))
    pairs = [(x, y, builder.xor(x, y)) for x, y in zip(left, right, strict=True)]
    cones = Cones(builder.finish({}))
    findings: dict[str, Finding] = {}
    for word in a.interface.outputs:
        bits, pairs = pairs[: word.width], pairs[word.width :]
        findings[word.name] = sampled.get(word.name) or _prove_word(cones, bits, conflicts)
    cones.close()
    return findings


def _sample(a: Netlist, b: Netlist, rows: int = 2048) -> dict[str, Finding]:
    """Output words that differ on one of some random rows."""
    rng = random.Random(0)
    columns = [rng.getrandbits(rows) for _ in range(a.interface.input_bits)]
    left, right = (evaluate_columns(netlist, columns, rows) for netlist in (a, b))
    findings: dict[str, Finding] = {}
    start = 0
    for word in a.interface.outputs:
        span = slice(start, start + word.width)
        wrong = 0
        for x, y in zip(left[span], right[span], strict=True):
            wrong |= x ^ y
        if wrong:
            place = (wrong & -wrong).bit_length() - 1
            row = sum((column >> place & 1) << bit for bit, column in enumerate(columns))
            findings[word.name] = Finding(row=row)
        start += word.width
    return findings


def _prove_word(cones: Cones, bits: Sequence[tuple[int, int, int]], conflicts: int) -> Finding:
    """``bits`` are the literals of both sides, and of their difference."""
    end = cones.conflicts + conflicts
    for left, right, differ in bits:
        answer = cones.satisfiable([differ], end - cones.conflicts)
        if answer is not False:
            return Finding(row=cones.row() if answer else None)
        cones.assume_equal(left, right)
    return Finding(proved=True)


def _signed(literal: int) -> int:
    """A literal as SAT solvers write it."""
    return -(literal >> 1) if literal & 1 else literal >> 1


def _solver() -> Any:
    try:
        from pysat.solvers import Solver
    except ImportError as error:
        raise UserError(
            "python-sat is not installed", "SAT solver", "install it: pip install tapeout[circuit]"
        ) from error
    return Solver(name=SOLVER)
