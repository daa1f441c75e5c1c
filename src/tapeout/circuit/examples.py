"""Fixed example sets: rows of inputs with the outputs that belong to them, from CSV, PLA and npz files.

- CSV: the first line is the interface with commas (``a:8,b:8->sum:9``); each further line has one value per word, in
  decimal, ``0x`` or ``0b``; an output that does not matter is empty, ``-`` or ``x``.
- PLA (Berkeley's, ``.type fr`` only): column ``k`` of the inputs is bit ``k`` of the row; names ``a[0] a[1] ...`` or
  ``a[7] a[6] ...`` of ``.ilb`` and ``.ob`` make one word. ``-`` in an input stands for both values, in an output for
  neither.
- npz: ``interface`` (text) with either ``inputs`` and ``outputs`` (rows of uint64, see `words`; ``care``, shaped as
  ``outputs``, has a 1 for each output bit that is known) or one array for each word.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.columns import columns_to_rows
from tapeout.circuit.words import Interface, Rows, Word, pack, parse_interface, parse_words, row_words, unpack
from tapeout.errors import UserError

SUFFIXES = (".csv", ".pla", ".npz")
_MAX_FREE = 12
_MAX_ROWS = 1 << 22
_SHOWN = 5
_UNKNOWN = ("", "-", "x", "X")


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows ``inputs[n, row_words(inputs)]`` and ``outputs[n, row_words(outputs)]``.

    ``care``, the same shape as ``outputs``, is 1 where an output is known. ``numbers[n]`` are the lines of the
    file (CSV, PLA) or the indices (npz, arrays) that messages name.
    """

    interface: Interface
    inputs: Rows
    outputs: Rows
    care: Rows
    numbers: NDArray[np.int64]
    where: str = "examples"

    def __len__(self) -> int:
        return len(self.inputs)


def make_examples(
    interface: Interface | str, inputs: Rows, outputs: Rows, care: Rows | None = None, where: str = "examples"
) -> Examples:
    """Examples from rows; ``care`` None means that every output bit is known.

    Raises:
        UserError: rows of the wrong shape or none at all, padding bits that are set, rows that contradict each other.
    """
    if isinstance(interface, str):
        interface = parse_interface(interface)
    care = np.broadcast_to(_all_ones(interface.output_bits), outputs.shape) if care is None else care
    for name, rows, bits in (
        ("inputs", inputs, interface.input_bits), ("outputs", outputs, interface.output_bits),
        ("care", care, interface.output_bits),
    ):  # fmt: skip
        if rows.dtype != np.uint64 or rows.ndim != 2 or rows.shape != (len(inputs), row_words(bits)):
            raise UserError(
                f"{name} is {rows.dtype}{list(rows.shape)}", where,
                f"give uint64[{len(inputs)}, {row_words(bits)}] for {bits} bits",
            )  # fmt: skip
        if bits % 64 and bool(np.any(rows[:, -1] >> np.uint64(bits % 64))):
            raise UserError(f"{name} has bits set behind the last of {bits}", where, "fill the padding with zeros")
    examples = Examples(interface, inputs, outputs & care, care.copy(), np.arange(len(inputs), dtype=np.int64), where)
    return _usable(examples)


def load_examples(path: str | Path, interface: Interface | str | None = None) -> Examples:
    """Reads a ``.csv``, ``.pla`` or ``.npz`` file; ``interface`` replaces the one that the file states.

    Raises:
        UserError: a file that cannot be read, a malformed line, no rows, rows that contradict each other.
    """
    path = Path(path)
    if isinstance(interface, str):
        interface = parse_interface(interface)
    readers = {".csv": _read_csv, ".pla": _read_pla, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"{path.suffix or 'no suffix'} is not a kind of example file", str(path), "use .csv, .pla, .npz"
        )
    try:
        examples = reader(path, interface)
    except (OSError, UnicodeDecodeError, zipfile.BadZipFile, csv.Error) as error:
        raise UserError(f"cannot be read: {error}", str(path), "give an example file that exists") from None
    return _usable(examples)


def contradictions(examples: Examples) -> list[tuple[int, int, str]]:
    """Pairs of rows (their numbers) that have equal inputs and differ in a known output, with the word that differs."""
    _, group = np.unique(examples.inputs, axis=0, return_inverse=True)
    group = group.reshape(-1)
    if examples.inputs.shape[1] == 0:
        group = np.zeros(len(examples), np.int64)
    first = np.full(int(group.max()) + 1 if len(group) else 0, -1, np.int64)
    known = np.zeros((len(first), examples.outputs.shape[1]), np.uint64)
    value = np.zeros_like(known)
    found: list[tuple[int, int, str]] = []
    order = np.argsort(group, kind="stable")
    repeated = np.bincount(group, minlength=len(first))[group] > 1
    for row in order[repeated[order]]:
        index = group[row]
        clash = (value[index] ^ examples.outputs[row]) & known[index] & examples.care[row]
        if clash.any():
            other = examples.numbers[first[index]]
            found.append((int(other), int(examples.numbers[row]), _word_at(examples.interface.outputs, clash)))
            continue
        if first[index] < 0:
            first[index] = row
        known[index] |= examples.care[row]
        value[index] |= examples.outputs[row]
    return found


def _usable(examples: Examples) -> Examples:
    if not examples.interface.outputs:
        raise UserError("there is no output word", examples.where, "name at least one word behind '->'")
    if not len(examples):
        raise UserError("there are no rows", examples.where, "give at least one example")
    found = contradictions(examples)
    if found:
        pairs = ", ".join(f"{a} and {b} ({word})" for a, b, word in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more pairs" if len(found) > _SHOWN else ""
        raise UserError(
            f"rows contradict each other: equal inputs with different outputs in {pairs}{more}", examples.where,
            "correct them, or leave out one row of each pair",
        )  # fmt: skip
    return examples


def _word_at(words: Sequence[Word], bits: Rows) -> str:
    position = int(np.flatnonzero(unpack(bits.reshape(1, -1), 64 * len(bits))[0])[0])
    for word in words:
        if position < word.width:
            return word.name
        position -= word.width
    raise AssertionError("a padding bit")


def _all_ones(bits: int) -> Rows:
    return pack(np.ones((1, bits), np.uint8))


# ---- CSV


def _read_csv(path: Path, interface: Interface | None) -> Examples:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = [(line, row) for line, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    if not table:
        raise UserError("the file is empty", str(path), "begin with a line such as a:8,b:8->sum:9")
    header = " ".join(cell.strip() for cell in table[0][1])
    if "->" in header:
        stated = parse_interface(header)
        interface = interface or stated
    elif interface is None:
        raise UserError(
            f"the first line {header[:60]!r} has no '->'", f"{path}:{table[0][0]}",
            "begin with the words, such as a:8,b:8->sum:9, or give the interface",
        )  # fmt: skip
    words = [*interface.inputs, *interface.outputs]
    values = [[0] * (len(table) - 1) for _ in words]
    known = [[True] * (len(table) - 1) for _ in interface.outputs]
    for index, (line, row) in enumerate(table[1:]):
        if len(row) != len(words):
            raise UserError(f"{len(row)} values for {len(words)} words", f"{path}:{line}", "give one value a word")
        for column, (cell, word) in enumerate(zip(row, words, strict=True)):
            is_output = column >= len(interface.inputs)
            if is_output and cell.strip() in _UNKNOWN:
                known[column - len(interface.inputs)][index] = False
            else:
                values[column][index] = _number(cell.strip(), word, f"{path}:{line}")
    numbers = np.array([line for line, _ in table[1:]], np.int64)
    split = len(interface.inputs)
    inputs = _rows_of_ints(values[:split], interface.inputs, len(numbers))
    outputs = _rows_of_ints(values[split:], interface.outputs, len(numbers))
    full = [[(1 << word.width) - 1 if yes else 0 for yes in flags]
            for flags, word in zip(known, interface.outputs, strict=True)]  # fmt: skip
    care = _rows_of_ints(full, interface.outputs, len(numbers))
    return Examples(interface, inputs, outputs, care, numbers, str(path))


def _number(text: str, word: Word, where: str) -> int:
    try:
        value = int(text) if text.isdecimal() else int(text, 0)
    except ValueError:
        raise UserError(f"{text!r} is not a value of {word.name}", where, "write it in decimal, 0x or 0b") from None
    if not 0 <= value < 1 << word.width:
        raise UserError(f"{text} does not fit {word}", where, f"{word.name} holds 0 to {(1 << word.width) - 1}")
    return value


def _rows_of_ints(columns: list[list[int]], words: Sequence[Word], count: int) -> Rows:
    arrays: list[NDArray[np.uint64]] = []
    mask = (1 << 64) - 1
    for values, word in zip(columns, words, strict=True):
        if word.width <= 64:
            arrays.append(np.array(values, np.uint64))
        else:
            limbs = [[value >> at & mask for at in range(0, word.width, 64)] for value in values]
            arrays.append(np.array(limbs, np.uint64).reshape(count, row_words(word.width)))
    return columns_to_rows(arrays, words, count, "examples")


# ---- PLA


def _read_pla(path: Path, interface: Interface | None) -> Examples:
    keys: dict[str, list[str]] = {}
    cubes: list[tuple[int, str]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.partition("#")[0].strip()
            if text in (".e", ".end"):
                break
            if text.startswith("."):
                key, *rest = text.split()
                keys[key] = rest
            elif text:
                cubes.append((number, text.replace(" ", "").replace("\t", "").replace("|", "")))
    inputs, outputs = (_pla_count(keys, key, path) for key in (".i", ".o"))
    if keys.get(".type") != ["fr"]:
        raise UserError(
            f"the type is {' '.join(keys.get('.type', ['not given']))}", str(path),
            "give .type fr: both the rows that are 1 and those that are 0 must be listed",
        )  # fmt: skip
    input_words, input_order = _pla_words(keys.get(".ilb"), inputs, "x")
    output_words, output_order = _pla_words(keys.get(".ob"), outputs, "y")
    stated = Interface(input_words, output_words)
    if interface is None:
        interface = stated
    elif (interface.input_bits, interface.output_bits) != (inputs, outputs):
        raise UserError(f"the file has {inputs} and {outputs} columns", str(path), f"'{interface}' has others")
    else:
        input_order, output_order = np.arange(inputs), np.arange(outputs)
    return _cubes_to_examples(path, interface, cubes, input_order, output_order)


def _pla_count(keys: dict[str, list[str]], key: str, path: Path) -> int:
    rest = keys.get(key, [])
    if len(rest) != 1 or not rest[0].isdecimal():
        raise UserError(f"there is no line '{key} NUMBER'", str(path), "state how many columns there are")
    return int(rest[0])


def _pla_words(names: list[str] | None, bits: int, default: str) -> tuple[tuple[Word, ...], NDArray[np.int64]]:
    """The words that columns make, and the column of each bit of the row."""
    if names is None:
        return ((Word(default, bits),) if bits else ()), np.arange(bits)
    if len(names) != bits:
        raise UserError(f"{len(names)} names for {bits} columns", "PLA", "give one name for each column")
    words: list[Word] = []
    order: list[int] = []
    at = 0
    while at < bits:
        match = re.fullmatch(r"(.+)\[(\d+)\]", names[at])
        step, length = 1, 1
        if match:
            base, first = match[1], int(match[2])
            for step in (1, -1):
                length = 1
                while at + length < bits and names[at + length] == f"{base}[{first + step * length}]":
                    length += 1
                if length > 1:
                    break
            low = first if step > 0 else first - length + 1
            whole = length > 1 and low == 0
            words += [Word(base, length)] if whole else [Word(name) for name in names[at : at + length]]
            step = step if whole else 1
        else:
            words.append(Word(names[at]))
        order += range(at, at + length) if step > 0 else range(at + length - 1, at - 1, -1)
        at += length
    return parse_words(" ".join(map(str, words)), "names of the columns"), np.array(order, np.int64)


def _cubes_to_examples(
    path: Path, interface: Interface, cubes: list[tuple[int, str]], input_order: NDArray[np.int64],
    output_order: NDArray[np.int64],
) -> Examples:  # fmt: skip
    inputs, outputs = len(input_order), len(output_order)
    for number, text in cubes:
        if len(text) != inputs + outputs or set(text) - set("01-~2"):
            raise UserError(
                f"{text[:40]!r} is not a row of {inputs} and {outputs} columns", f"{path}:{number}", "use 0, 1 and -"
            )
    letters = np.array([list(text.encode()) for _, text in cubes], np.uint8).reshape(len(cubes), inputs + outputs)
    numbers = np.array([number for number, _ in cubes], np.int64)
    free = ~np.isin(letters[:, :inputs], (ord("0"), ord("1")))
    count = free.sum(axis=1)
    if count.max(initial=0) > _MAX_FREE or int((1 << count).sum()) > _MAX_ROWS:
        line = int(numbers[np.argmax(count)])
        raise UserError(f"a row stands for 2^{int(count.max())} inputs", f"{path}:{line}", "list the inputs one by one")
    blocks = [_expand(row, where) for row, where in zip(letters, free, strict=True)] if free.any() else [letters]
    numbers = np.repeat(numbers, 1 << count)
    letters = np.concatenate(blocks) if blocks else letters
    ones = letters == ord("1")
    known = ones | (letters == ord("0"))
    return Examples(
        interface, pack(ones[:, :inputs][:, input_order]), pack(ones[:, inputs:][:, output_order]),
        pack(known[:, inputs:][:, output_order]), numbers, str(path),
    )  # fmt: skip


def _expand(row: NDArray[np.uint8], free: NDArray[np.bool_]) -> NDArray[np.uint8]:
    places = np.flatnonzero(free)
    rows = np.repeat(row[None], 1 << len(places), axis=0)
    rows[:, places] = ord("0") + (np.arange(len(rows))[:, None] >> np.arange(len(places)) & 1)
    return rows


# ---- npz


def _read_npz(path: Path, interface: Interface | None) -> Examples:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as error:
        raise UserError(f"cannot be read: {error}", str(path), "store plain arrays with numpy.savez") from None
    if interface is None:
        if "interface" not in arrays:
            raise UserError("there is no array 'interface'", str(path), "store the text, such as 'a:8 b:8 -> sum:9'")
        interface = parse_interface(str(arrays["interface"]))
    if "inputs" in arrays and "outputs" in arrays:
        return make_examples(interface, arrays["inputs"], arrays["outputs"], arrays.get("care"), str(path))
    words = [*interface.inputs, *interface.outputs]
    missing = [word.name for word in words if word.name not in arrays]
    if missing:
        raise UserError(f"there is no array {missing[0]!r}", str(path), "store inputs and outputs, or every word")
    count = len(arrays[words[0].name])
    inputs, outputs = (
        columns_to_rows([arrays[word.name] for word in group], group, count, str(path))
        for group in (interface.inputs, interface.outputs)
    )
    return make_examples(interface, inputs, outputs, None, str(path))
