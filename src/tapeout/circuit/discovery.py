"""Finds arrays in the state of a black box, and the ports to them, by asking.

Nothing is known but which words are state. A write port shows where flipping an input bit moves a change from one state
word to another; a read port where it moves an influence. The bits that do so in one row are the port's index; what each
code names is asked code by code. Ports are added until they explain every change and every influence on fresh rows;
an array that they do not explain is not taken.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tapeout import _native
from tapeout.circuit.oracle import random_rows
from tapeout.circuit.ports import NOTHING, Array, Port, PortForm
from tapeout.circuit.sampling import sparse_rows, structured_rows
from tapeout.circuit.words import NEXT, Interface, Rows, Word

Table = NDArray[np.bool_]
Event = tuple[int, int, frozenset[int]]
"""A row, the entry that is changed (or that matters) there, and the bits that move this to another entry."""

LEAST_ENTRIES = 3
MOST_BITS = 8
"""Index bits of a port: all codes are asked."""
MOST_PORTS = 12
_MANY = 4
"""Rows in which more entries are written (or read) show no single port."""
_EVENT_ROWS, _READ_ROWS, _CHECK_ROWS = 192, 96, 4096
_ROUNDS = 6
_CLEARLY = 1.25  # an index with a bit too few explains half as much; one with a bit too many, some rows by chance


@dataclass(frozen=True, slots=True)
class Discovery:
    """The arrays found, what was looked at and not taken (a line each), and the questions that it took."""

    form: PortForm
    rejected: tuple[str, ...]
    questions: int


class _OverError(Exception):
    """The seconds or questions are used up."""


def find_arrays(
    oracle: _native.Oracle,
    interface: Interface,
    seed: int = 0,
    *,
    seconds: float | None = None,
    questions: int | None = None,
) -> Discovery:
    """The arrays in the state of a black box, each explained by its ports on fresh rows, as are all together.

    After ``seconds`` or ``questions`` none are taken, and ``rejected`` says so.
    """
    box = _Box(oracle, interface, np.random.default_rng([seed, 0xA77A]), seconds, questions)
    try:
        return _find(box, interface)
    except _OverError:
        return Discovery(PortForm(interface, ()), ("the budget ended while arrays were looked for",), box.questions)


def _find(box: _Box, interface: Interface) -> Discovery:
    arrays: list[Array] = []
    rejected: list[str] = []
    for group in _groups(interface):
        for words in box.related(box.holding(group)):
            found = _Search(box, words).run()
            if isinstance(found, Array):
                arrays.append(found)
            else:
                rejected.append(f"{words[0]} ... {words[-1]}: {found}")
    form = PortForm(interface, tuple(arrays), box.copies(arrays))
    if len(arrays) > 1 and (sum(len(a.reads) + len(a.writes) for a in arrays) > 16 or len(box.unexplained(form))):
        rejected += [f"{array.name}: not independent of the other arrays" for array in arrays[1:]]
        form = PortForm(interface, tuple(arrays[:1]), box.copies(arrays[:1]))
    return Discovery(form, tuple(rejected), box.questions)


def _groups(interface: Interface) -> list[list[str]]:
    """State words of one width that are many enough for an array."""
    outputs = {word.name: word.width for word in interface.outputs}
    widths: dict[int, list[str]] = {}
    for word in interface.inputs:
        if outputs.get(word.name + NEXT) == word.width and 2 <= word.width <= 64:
            widths.setdefault(word.width, []).append(word.name)
    return [names for names in widths.values() if len(names) >= LEAST_ENTRIES]


class _Box:
    """A black box, its words' places, and a count of the questions."""

    def __init__(
        self,
        oracle: _native.Oracle,
        interface: Interface,
        random: np.random.Generator,
        seconds: float | None = None,
        questions: int | None = None,
    ) -> None:
        self.oracle = oracle
        self.interface = interface
        self.random = random
        self.questions = 0
        self._most = questions
        self._until = None if seconds is None else time.monotonic() + seconds
        self.inputs = _places(interface.inputs)
        self.outputs = _places(interface.outputs)

    def ask(self, rows: Rows) -> Rows:
        self.questions += len(rows)
        if (self._most is not None and self.questions > self._most) or (
            self._until is not None and time.monotonic() > self._until
        ):
            raise _OverError
        return self.oracle.evaluate(np.ascontiguousarray(rows))

    def uniform(self, count: int) -> Rows:
        return random_rows(self.random, count, self.interface.input_bits)

    def changed(self, rows: Rows, answers: Rows, words: Sequence[str]) -> Table:
        """Which words do not hold, ``[rows, words]``."""
        columns = [_field(rows, self.inputs[name]) != _field(answers, self.outputs[name + NEXT]) for name in words]
        return np.stack(columns, axis=1)

    def free_bits(self, words: Sequence[str]) -> list[int]:
        """All input bits that are none of these words."""
        taken = {bit for name in words for bit in range(*_span(self.inputs[name]))}
        return [bit for bit in range(self.interface.input_bits) if bit not in taken]

    def flipped(self, rows: Rows, bits: Sequence[int]) -> Rows:
        """Every row with each bit flipped: ``[rows * bits]``, the bits of a row one behind the other."""
        masks = np.zeros((len(bits), rows.shape[1]), np.uint64)
        for index, bit in enumerate(bits):
            masks[index, bit // 64] = np.uint64(1) << np.uint64(bit % 64)
        return (rows[:, None, :] ^ masks[None]).reshape(-1, rows.shape[1])

    def holding(self, group: list[str]) -> list[str]:
        """The words that hold in most rows."""
        rows = self.uniform(_CHECK_ROWS)
        changed = self.changed(rows, self.ask(rows), group).mean(axis=0)
        return [name for name, share in zip(group, changed.tolist(), strict=True) if share < 0.5]

    def related(self, group: list[str]) -> list[list[str]]:
        """Words between which a bit moves a write; those of one array are together."""
        if len(group) < LEAST_ENTRIES:
            return []
        rows, changed = self.write_rows(group)
        if not len(rows):
            return []
        bits = self.free_bits(group)
        after = self.flipped(rows, bits)
        moved = self.changed(after, self.ask(after), group).reshape(len(rows), len(bits), -1)
        leader = list(range(len(group)))

        def find(entry: int) -> int:
            while leader[entry] != entry:
                entry = leader[entry]
            return entry

        source, target, single = _moves(changed[:, None, :], moved)
        for a, b in {*zip(source[single].tolist(), target[single].tolist(), strict=True)}:
            leader[find(a)] = find(b)
        parts: dict[int, list[str]] = {}
        for entry, name in enumerate(group):
            parts.setdefault(find(entry), []).append(name)
        return [names for names in parts.values() if len(names) >= LEAST_ENTRIES]

    def write_rows(self, words: Sequence[str]) -> tuple[Rows, Table]:
        """Rows in which a few of the words are written, and which."""
        found: list[tuple[Rows, Table]] = []
        for _ in range(16):
            rows = self.uniform(_CHECK_ROWS)
            changed = self.changed(rows, self.ask(rows), words)
            few = (changed.sum(axis=1) >= 1) & (changed.sum(axis=1) <= _MANY)
            found.append((rows[few], changed[few]))
            if sum(len(part) for part, _ in found) >= _EVENT_ROWS:
                break
        rows = np.concatenate([part for part, _ in found])
        changed = np.concatenate([part for _, part in found])
        return rows[:_EVENT_ROWS], changed[:_EVENT_ROWS]

    def influences(self, rows: Rows, words: Sequence[str]) -> Table:
        """Which words' contents matter for anything but that they hold, ``[rows, words]``: complemented, they show."""
        answers = self.ask(rows)
        shows: list[NDArray[np.bool_]] = []
        for name in words:
            at, next_at = self.inputs[name], self.outputs[name + NEXT]
            other = rows.copy()
            for bit in range(*_span(at)):
                other[:, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
            after = self.ask(other)
            rest = (answers ^ after) & ~_mask(next_at, answers.shape[1])
            held = (_field(rows, at) == _field(answers, next_at)) & (_field(other, at) == _field(after, next_at))
            stored = ~held & (_field(answers, next_at) != _field(after, next_at))
            shows.append(np.asarray(rest.any(axis=1) | stored, np.bool_))
        return np.stack(shows, axis=1)

    def copies(self, arrays: Sequence[Array]) -> tuple[int, ...]:
        """Output bits outside of the arrays that are an index bit, or its complement, in all rows."""
        bits = sorted({bit for array in arrays for port in (*array.reads, *array.writes) for bit in port.bits})
        if not bits:
            return ()
        rows = np.concatenate([
            self.uniform(_CHECK_ROWS), structured_rows(self.random, _CHECK_ROWS, self.interface),
            sparse_rows(self.random, _CHECK_ROWS, self.interface),
        ])  # fmt: skip
        answers = self.ask(rows)
        entries = {name + NEXT for array in arrays for name in array.words}
        found: list[int] = []
        for name, place in self.outputs.items():
            for out in range(*_span(place)) if name not in entries else ():
                differ = [_field(rows, (bit, 1)) != _field(answers, (out, 1)) for bit in bits]
                if any(column.all() or not column.any() for column in differ):
                    found.append(out)
        return tuple(found)

    def unexplained(self, form: PortForm, near: Rows | None = None) -> Rows:
        """Fresh rows that the ports do not explain: put together again, the answers are not those of the black box."""
        count = _CHECK_ROWS
        parts = [self.uniform(count), sparse_rows(self.random, count, self.interface)]
        parts += [structured_rows(self.random, count, self.interface) for _ in range(2)]
        parts.append(_crossed(self.random, parts[0], parts[3]))
        if near is not None and len(near):
            some = near[self.random.integers(0, len(near), 2 * count)]
            parts += [_crossed(self.random, some, np.concatenate(parts[1:3])), self._mutated(some)]
        rows = np.concatenate(parts)
        box = form.oracle(self.oracle)
        found = form.whole_answers(rows, box.evaluate(form.port_rows(rows)))
        self.questions += len(rows)
        return rows[(found != self.ask(rows)).any(axis=1)]

    def _mutated(self, rows: Rows) -> Rows:
        """Each row with one to four bits flipped."""
        rows = rows.copy()
        for _ in range(4):
            some = np.flatnonzero(self.random.random(len(rows)) < 0.5)
            bits = self.random.integers(0, self.interface.input_bits, len(some))
            rows[some, bits // 64] ^= np.uint64(1) << (bits % 64).astype(np.uint64)
        return rows


class _Search:
    """The ports of one set of related words."""

    def __init__(self, box: _Box, words: list[str]) -> None:
        self.box = box
        self.words = words
        self.bits = box.free_bits(words)
        self.ports: dict[str, list[Port]] = {"read": [], "write": []}

    def run(self) -> Array | str:
        """The array, or why it is none."""
        rows, _ = self.box.write_rows(self.words)
        named = self._named(rows)
        if len(named) < LEAST_ENTRIES:
            return "no bits that say which of them is written"
        if len(named) < len(self.words):
            return _Search(self.box, [self.words[entry] for entry in named]).run()
        self._add_ports("write", rows)
        self._add_ports("read", self._read_rows())
        near = rows
        for _ in range(_ROUNDS):
            ports = sum(map(len, self.ports.values()))
            if ports > MOST_PORTS:
                return f"{ports} ports, and more to come"
            array = self._array()
            wrong = self.box.unexplained(PortForm(self.box.interface, (array,)), near)
            if not len(wrong):
                array = self._without_needless(near)
                constant = sum(not port.bits for port in (*array.reads, *array.writes))
                if constant <= len(self.words) // 4:
                    return array
                return f"{constant} ports of it are always to the same word"
            some = wrong[:_READ_ROWS]
            before = (list(self.ports["read"]), list(self.ports["write"]))
            self._add_ports("write", some)
            self._add_ports("read", some)
            if (self.ports["read"], self.ports["write"]) == before:
                return f"{len(wrong):,} rows that no port explains"
            near = np.concatenate([near, some])
        return "new ports in every round"

    def _named(self, rows: Rows) -> list[int]:
        """The words that the commonest index names: others are written in their place by other instructions."""
        rows, touched, events = self._events("write", rows)
        counts = Counter(bits for _, _, bits in events if 1 <= len(bits) <= MOST_BITS)
        if not counts:
            return []
        index = max(counts, key=lambda bits: (counts[bits] * len(bits), sorted(bits)))
        return sorted(set(self._port("write", rows, touched, events, index).table) - {NOTHING})

    def _without_needless(self, near: Rows) -> Array:
        """The array without the ports that the others make up for."""
        for kind in ("read", "write"):
            for port in sorted(self.ports[kind], key=lambda port: len(port.bits)):
                if len(self.ports[kind]) == 1:
                    break
                self.ports[kind].remove(port)
                if len(self.box.unexplained(PortForm(self.box.interface, (self._array(),)), near)):
                    self.ports[kind].append(port)
        return self._array()

    def _array(self) -> Array:
        reads, writes = (tuple(sorted(self.ports[kind], key=_order)) for kind in ("read", "write"))
        width = next(word.width for word in self.box.interface.inputs if word.name == self.words[0])
        return Array(_array_name(self.words, self.box.interface), width, tuple(self.words), reads, writes)

    def _read_rows(self) -> Rows:
        """Rows in which some of the words matter."""
        found: list[Rows] = []
        for _ in range(8):
            rows = self.box.uniform(_CHECK_ROWS)
            other = rows.copy()
            for name in self.words:
                for bit in range(*_span(self.box.inputs[name])):
                    other[:, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
            answers, after = self.box.ask(rows), self.box.ask(other)
            kept = ~self.box.changed(rows, answers, self.words) & ~self.box.changed(other, after, self.words)
            differ = answers ^ after
            for index, name in enumerate(self.words):
                holds = np.where(kept[:, index, None], _mask(self.box.outputs[name + NEXT], differ.shape[1]), 0)
                differ = differ & ~holds.astype(np.uint64)
            found.append(rows[differ.any(axis=1)])
            if sum(map(len, found)) >= _READ_ROWS:
                break
        return np.concatenate(found)[:_READ_ROWS]

    def _touched(self, kind: str, rows: Rows) -> Table:
        """Which words are written, or read, in each row."""
        if not len(rows):
            return np.zeros((0, len(self.words)), np.bool_)
        if kind == "write":
            return self.box.changed(rows, self.box.ask(rows), self.words)
        return self.box.influences(rows, self.words)

    def _events(self, kind: str, rows: Rows) -> tuple[Rows, Table, list[Event]]:
        """Rows with few touched words, which, and for each of those the bits that move it to another word."""
        touched = self._touched(kind, rows)
        few = (touched.sum(axis=1) >= 1) & (touched.sum(axis=1) <= _MANY)
        rows, touched = rows[few], touched[few]
        moved = np.zeros((len(rows), len(self.bits), len(self.words)), np.bool_)
        after = self.box.flipped(rows, self.bits)
        if kind == "write":
            moved[:] = self._touched(kind, after).reshape(moved.shape)
        elif len(rows):
            moved[:] = touched[:, None, :]
            lost = self._lost(rows, after, touched)
            moved[lost] = self._touched(kind, after.reshape(len(rows), len(self.bits), -1)[lost])
        source, _, single = _moves(touched[:, None, :], moved)
        events: list[Event] = []
        for row in range(len(rows)):
            for entry in np.flatnonzero(touched[row]).tolist():
                bits = np.flatnonzero(single[row] & (source[row] == entry))
                events.append((row, entry, frozenset(self.bits[bit] for bit in bits.tolist())))
        return rows, touched, events

    def _lost(self, rows: Rows, after: Rows, touched: Table) -> Table:
        """Where a flip makes one of the words that a row reads matter no longer, ``[rows, bits]``: fewer questions
        than asking for all words behind every flip."""
        lost = np.zeros((len(rows), len(self.bits)), np.bool_)
        shaped = after.reshape(len(rows), len(self.bits), -1)
        for index, name in enumerate(self.words):
            here = np.flatnonzero(touched[:, index])
            if len(here):
                asked = shaped[here].reshape(-1, after.shape[1])
                lost[here] |= ~self.box.influences(asked, [name]).reshape(len(here), -1)
        return lost

    def _add_ports(self, kind: str, rows: Rows) -> None:
        """Adds ports until they explain all that is touched in these rows, or no port explains more."""
        rows, touched, events = self._events(kind, rows)
        while len(self.ports[kind]) < MOST_PORTS:
            named = [port.entries(rows) for port in self.ports[kind]]
            events = [event for event in events if all(entries[event[0]] != event[1] for entries in named)]
            if self._complete(kind, rows, events):
                continue
            found = self._best(kind, rows, touched, events)
            if found is None:
                return
            self.ports[kind].append(found)

    def _complete(self, kind: str, rows: Rows, events: list[Event]) -> bool:
        """Names an entry by a code of a port that named none where that explains all events of the entry."""
        everything = Counter(entry for _, entry, _ in events)
        gaps: Counter[tuple[int, int, int]] = Counter()
        for index, port in enumerate(self.ports[kind]):
            codes = port.codes(rows).tolist()
            gaps.update((index, codes[row], entry) for row, entry, _ in events if port.table[codes[row]] == NOTHING)
        for (index, code, entry), count in sorted(gaps.items(), key=lambda gap: (-gap[1], gap[0])):
            if count >= 2 and count == everything[entry]:
                port = self.ports[kind][index]
                table = (*port.table[:code], entry, *port.table[code + 1 :])
                self.ports[kind][index] = Port(port.bits, table)
                return True
        return False

    def _best(self, kind: str, rows: Rows, touched: Table, events: list[Event]) -> Port | None:
        """The port that explains most of the events; more bits have to explain clearly more."""
        counts = Counter(bits for _, _, bits in events if 1 <= len(bits) <= MOST_BITS)
        tried = sorted(counts, key=lambda bits: (-counts[bits] * len(bits), sorted(bits)))[:6]
        unions = {a | b for a, b in combinations(tried, 2)}  # not every bit of an index shows in every row
        tried += sorted((bits for bits in unions if len(bits) <= MOST_BITS and bits not in tried), key=sorted)
        ports = [self._port(kind, rows, touched, events, bits) for bits in tried]
        ports += self.ports["write"] if kind == "read" else self.ports["read"]  # operands that are results as well
        ports += [Port((), (entry,)) for entry in sorted({entry for _, entry, _ in events})]
        best: Port | None = None
        most = 1
        for port in sorted(ports, key=lambda port: (len(port.bits), port.bits, port.table)):
            named = port.entries(rows)
            score = sum(named[row] == entry for row, entry, _ in events)
            if score > (most if best is None or len(port.bits) == len(best.bits) else _CLEARLY * most):
                best, most = port, score
        return best

    def _port(self, kind: str, rows: Rows, touched: Table, events: list[Event], index: frozenset[int]) -> Port:
        """Asks what each code of these index bits names, in some of the rows where they, or some, are the index."""
        bits = sorted(index)
        there = [(len(moving), row, entry) for row, entry, moving in events if moving and moving <= index]
        some = [(row, entry) for _, row, entry in sorted(there, key=lambda event: -event[0])[:8]]
        codes = np.arange(1 << len(bits))
        base = np.repeat(rows[[row for row, _ in some]], len(codes), axis=0)
        for place, bit in enumerate(bits):
            one = np.uint64(1) << np.uint64(bit % 64)
            value = np.tile(codes >> place & 1 == 1, len(some))
            base[:, bit // 64] = np.where(value, base[:, bit // 64] | one, base[:, bit // 64] & ~one)
        after = self._touched(kind, base).reshape(len(some), len(codes), -1)
        votes: list[Counter[int]] = [Counter() for _ in codes]
        for index_, (row, entry) in enumerate(some):
            others = touched[row].copy()
            others[entry] = False
            for code in codes.tolist():
                named = np.flatnonzero(after[index_, code] & ~others)
                votes[code][int(named[0]) if len(named) == 1 else NOTHING] += 1
        return Port(tuple(bits), tuple(_elected(vote) for vote in votes))


def _order(port: Port) -> tuple[bool, tuple[int, ...], tuple[int, ...]]:
    """Ports that are always at the same entry come last."""
    return not port.bits, port.bits, port.table


def _elected(votes: Counter[int]) -> int:
    """The entry that most rows show, though many show none: not every content shows when it is complemented."""
    total = votes.total()
    entry, most = max(
        ((entry, count) for entry, count in votes.items() if entry != NOTHING), key=lambda v: v[1], default=(NOTHING, 0)
    )
    return entry if 4 * most > total else NOTHING


def _moves(before: Table, after: Table) -> tuple[NDArray[np.intp], NDArray[np.intp], Table]:
    """Where exactly one word was touched before only, and exactly one after only: from which, to which, whether."""
    lost, gained = before & ~after, after & ~before
    single = (lost.sum(axis=-1) == 1) & (gained.sum(axis=-1) == 1)
    return lost.argmax(axis=-1), gained.argmax(axis=-1), single


def _crossed(random: np.random.Generator, rows: Rows, others: Rows) -> Rows:
    """Rows with some of their elements taken from others."""
    return np.where(random.random(rows.shape) < 0.3, others[: len(rows)], rows)


def _array_name(words: Sequence[str], interface: Interface) -> str:
    """``x`` for ``x[1]``, ``x[2]``, ...; else ``array``, with a number where that is a word."""
    stems = {re.sub(r"\[\d+\]$", "", name) for name in words}
    if len(stems) == 1:
        return stems.pop()
    taken = {word.name.split(".")[0] for word in (*interface.inputs, *interface.outputs)}
    name = "array"
    while name in taken:
        name += "_"
    return name + re.sub(r"\W", "_", words[0])


def _places(words: Sequence[Word]) -> dict[str, tuple[int, int]]:
    """First bit and width of each word."""
    places: dict[str, tuple[int, int]] = {}
    at = 0
    for word in words:
        places[word.name] = (at, word.width)
        at += word.width
    return places


def _span(place: tuple[int, int]) -> tuple[int, int]:
    return place[0], place[0] + place[1]


def _field(rows: Rows, place: tuple[int, int]) -> NDArray[np.uint64]:
    start, width = place
    element, shift = divmod(start, 64)
    value = rows[:, element] >> np.uint64(shift)
    if shift + width > 64:
        value = value | rows[:, element + 1] << np.uint64(64 - shift)
    return value & np.uint64((1 << width) - 1)


def _mask(place: tuple[int, int], elements: int) -> NDArray[np.uint64]:
    mask = ((1 << place[1]) - 1) << place[0]
    return np.array([mask >> 64 * element & (1 << 64) - 1 for element in range(elements)], np.uint64)
