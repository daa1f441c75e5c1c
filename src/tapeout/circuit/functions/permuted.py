"""A function with its bits in another order: whoever learns it cannot lean on words or on significance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapeout.circuit.functions.function import Function, c_source, compile_library
from tapeout.circuit.words import Interface, Rows, Word, row_words

_C = """
static const uint16_t order_in[] = {{{order_in}}}, order_out[] = {{{order_out}}};
static uint64_t table_in[{bytes_in}][256][{elements_in}], table_out[{bytes_out}][256][{elements_out}];
#define FILL(table, order, bits, elements)                                                          \\
    for (unsigned i = 0; i < bits; i++)                                                             \\
        for (unsigned byte = 0; byte < 256; byte++)                                                 \\
            if (byte >> i % 8 & 1) table[i / 8][byte][order[i] / 64] |= (uint64_t)1 << order[i] % 64;
__attribute__((constructor)) static void fill_tables(void) {{
    FILL(table_in, order_in, {bits_in}, {elements_in})
    FILL(table_out, order_out, {bits_out}, {elements_out})
}}
const char* tapeout_interface(void) {{ return "{interface}"; }}
int tapeout_evaluate(const uint64_t* in, uint64_t* out, size_t rows) {{
    for (; rows; rows--, in += {elements_in}, out += {elements_out}) {{
        uint64_t question[{elements_in}] = {{0}}, answer[{elements_out}];
        for (unsigned i = 0; i < {bytes_in}; i++)
            for (unsigned k = 0; k < {elements_in}; k++) question[k] |= table_in[i][in[i / 8] >> i % 8 * 8 & 255][k];
        step(question, answer);
        memset(out, 0, sizeof answer);
        for (unsigned i = 0; i < {bytes_out}; i++)
            for (unsigned k = 0; k < {elements_out}; k++) out[k] |= table_out[i][answer[i / 8] >> i % 8 * 8 & 255][k];
    }}
    return 0;
}}
"""


class Permuted:
    """``function`` with the bits of its inputs and outputs in an order drawn from ``seed``, as one word each.

    An `Oracle`. Bit ``i`` of a question is bit ``order_in[i]`` of the function's input row; bit ``i`` of the function's
    answer is bit ``order_out[i]`` of the answer.
    """

    def __init__(self, function: Function, seed: int) -> None:
        random = np.random.default_rng(seed)
        inputs, outputs = function.interface.input_bits, function.interface.output_bits
        self.function = function
        self.name = f"{function.name}_permuted{seed}"
        self.interface = Interface((Word("in", inputs),), (Word("out", outputs),))
        self.order_in = random.permutation(inputs)
        self.order_out = random.permutation(outputs)

    def evaluate(self, rows: Rows) -> Rows:
        """Answers ``rows[n, row_words(inputs)]`` with ``[n, row_words(outputs)]``."""
        return _permute(self.function.evaluate(_permute(rows, self.order_in)), self.order_out)

    def library(self, folder: Path) -> Path:
        """Compiles the C form into ``folder``; the path of the shared library."""
        function = self.function
        source = c_source(function.interface, function.statements, function.helpers, function.limbs)
        inner = source.replace("tapeout_interface", "inner_interface").replace("tapeout_evaluate", "inner_evaluate")
        values: dict[str, object] = {"interface": self.interface}
        for side, order in (("in", self.order_in), ("out", self.order_out)):
            values |= {
                f"order_{side}": ", ".join(map(str, order)), f"bits_{side}": len(order),
                f"bytes_{side}": (len(order) + 7) // 8, f"elements_{side}": row_words(len(order)),
            }  # fmt: skip
        return compile_library(inner + _C.format(**values), folder / f"{self.name}.so")


def _permute(rows: Rows, order: NDArray[np.intp]) -> Rows:
    """Bit ``i`` of each row goes to place ``order[i]``."""
    result = np.zeros_like(rows)
    for start, target in enumerate(order):
        bit = rows[:, start // 64] >> np.uint64(start % 64) & np.uint64(1)
        result[:, target // 64] |= bit << np.uint64(target % 64)
    return result
