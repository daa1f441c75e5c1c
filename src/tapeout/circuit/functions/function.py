"""A function to learn: its words, its values in NumPy, and its text in C, which is ten to fifty times as fast."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from tapeout.circuit.columns import columns_to_rows, rows_to_columns
from tapeout.circuit.words import Interface, Rows, Word, row_words
from tapeout.errors import UserError

_PRELUDE = """\
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t mask(unsigned width) { return width < 64 ? ((uint64_t)1 << width) - 1 : ~(uint64_t)0; }
static inline uint64_t get(const uint64_t* row, unsigned start, unsigned width) {
    unsigned element = start / 64, shift = start % 64;
    uint64_t value = row[element] >> shift;
    if (shift + width > 64) value |= row[element + 1] << (64 - shift);
    return value & mask(width);
}
static inline void put(uint64_t* row, unsigned start, unsigned width, uint64_t value) {
    unsigned element = start / 64, shift = start % 64;
    row[element] |= value << shift;
    if (shift + width > 64) row[element + 1] |= value >> (64 - shift);
}
"""


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A named function from words to words; an `Oracle`.

    ``columns`` takes one array per input word and returns one per output word (forms as in `tapeout.circuit.columns`),
    or one array alone. ``statements`` is C that does the same, written apart from it over the variables of `c_source`.
    """

    name: str
    interface: Interface
    columns: Callable[..., Any]
    statements: str
    helpers: str = ""
    limbs: bool = False

    def evaluate(self, rows: Rows) -> Rows:
        """Answers ``rows[n, row_words(inputs)]`` with ``[n, row_words(outputs)]``."""
        answer = self.columns(*rows_to_columns(rows, self.interface.inputs))
        answers = cast(tuple[Any, ...], answer) if isinstance(answer, tuple) else (answer,)
        return columns_to_rows(answers, self.interface.outputs, len(rows), self.name)

    def library(self, folder: Path) -> Path:
        """Compiles the C form into ``folder``; the path of the shared library, ready for `LibraryOracle`."""
        source = c_source(self.interface, self.statements, self.helpers, self.limbs)
        return compile_library(source, folder / f"{self.name}.so")


def c_source(interface: Interface, statements: str, helpers: str = "", limbs: bool = False) -> str:
    """A library with the C functions that `LibraryOracle` loads.

    ``statements`` see each input word as a ``uint64_t`` and set those of the output words, which start as 0 and must
    stay within their widths. Words of more than 64 bits (with ``limbs``, all words) are arrays of elements of 64 bits,
    the least significant first; words ``r[0]``, ``r[1]``, ... of up to 64 bits are one array ``r``. A dot in a name is
    an underscore.
    """
    inputs = _places(interface.inputs, limbs)
    outputs = _places(interface.outputs, limbs)
    lines = [
        f"    uint64_t {name} = {{{', '.join(f'get(row_in, {at}, {w})' for at, w in places)}}};"
        for name, places in inputs
    ]
    zeros = [f"    uint64_t {name} = {{0}};" for name, _ in outputs]
    puts = [
        f"    put(row_out, {at}, {width}, {name.partition('[')[0] + (f'[{index}]' if '[' in name else '')});"
        for name, places in outputs
        for index, (at, width) in enumerate(places)
    ]
    width_in, width_out = row_words(interface.input_bits), row_words(interface.output_bits)
    return "\n".join([
        _PRELUDE, helpers,
        "static inline void step(const uint64_t* row_in, uint64_t* row_out) {", *lines, *zeros,
        "    {", statements.strip("\n"), "    }", f"    memset(row_out, 0, {8 * width_out});", *puts, "}",
        f'const char* tapeout_interface(void) {{ return "{interface}"; }}',
        "int tapeout_concurrent(void) { return 1; }",
        "int tapeout_evaluate(const uint64_t* in, uint64_t* out, size_t rows) {",
        f"    for (; rows; rows--, in += {width_in}, out += {width_out}) step(in, out);",
        "    return 0;", "}", "",
    ])  # fmt: skip


def _places(words: tuple[Word, ...], limbs: bool) -> list[tuple[str, list[tuple[int, int]]]]:
    """The C variable of each word or array of words, and (start, width) of the elements it is made of."""
    starts = [sum(word.width for word in words[:index]) for index in range(len(words))]

    def stem(pair: tuple[Word, int]) -> str:
        name, bracket, rest = pair[0].name.partition("[")
        return name + "_next" * rest.endswith(".next") if bracket else name

    variables: list[tuple[str, list[tuple[int, int]]]] = []
    for name, members in groupby(zip(words, starts, strict=True), stem):
        group = list(members)
        places = [
            (start + at, min(64, word.width - at)) for word, start in group for at in range(0, max(word.width, 1), 64)
        ]
        array = "[" in group[0][0].name or limbs or group[0][0].width > 64
        identifier = name.replace(".", "_")
        variables.append((f"{identifier}[{len(places)}]" if array else identifier, places))
    return variables


def compile_library(source: str, path: Path) -> Path:
    """Compiles C text to the shared library ``path``.

    Raises:
        UserError: no C compiler.
        RuntimeError: what the compiler said.
    """
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise UserError("there is no C compiler", str(path), "install gcc or clang, or name one in CC")
    file = path.with_suffix(".c")
    file.write_text(source, encoding="utf-8")
    command = [*compiler.split(), "-O2", "-std=c11", "-shared", "-fPIC", "-o", str(path), str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{file}: {run.stderr}")
    return path
