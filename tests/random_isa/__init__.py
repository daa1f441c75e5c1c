"""Instruction sets made at random: the learner knows nothing of RISC-V if it learns these as well.

``random_isa(seed)`` is the step of a processor in port form: instruction word, pc, the two register operands, memory
data and state in; the result, the next pc, the memory access and the next state out. Drawn are: the width of the
instruction, field positions (fields may be split), codes, operations, immediates (scattered, with or without sign),
word and pc width, flags, state words, what illegal instructions do, and the order of the words.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from judge import Code
from random_isa.draw import Drawn, Instruction, draw
from random_isa.gates import Gates
from random_isa.terms import C_HELPERS, Column, CWriter, Term, Values
from tapeout.circuit.columns import columns_to_rows, rows_to_columns
from tapeout.circuit.functions import c_source, compile_library
from tapeout.circuit.netlist import FALSE, Builder, Netlist
from tapeout.circuit.words import Interface, Rows, Word

__all__ = ["Instruction", "RandomIsa", "random_isa"]


class RandomIsa:
    """A random instruction set as an `Oracle`; ``str`` describes it to a person."""

    def __init__(self, name: str, drawn: Drawn) -> None:
        self.name = name
        self.drawn = drawn
        self.instructions = drawn.instructions
        self.interface = Interface(*(
            tuple(Word(word, width) for word, width in words.items()) for words in (drawn.inputs, drawn.outputs)
        ))  # fmt: skip

    def __str__(self) -> str:
        return f"{self.interface}\n{self.drawn.text}"

    @property
    def codes(self) -> dict[str, list[Code]]:
        """The encodings of each operation; with reserved bits, also such as have none of them set."""
        codes: dict[str, list[Code]] = {}
        for number, instruction in enumerate(self.instructions):
            immediate = instruction.immediate
            bits, is_signed = (immediate.bits, immediate.is_signed) if immediate else ((), False)
            codes[f"{number} {instruction.name}"] = [
                Code(fixed, match, bits, is_signed)
                for mask, match in instruction.codes
                for fixed in sorted({mask, mask | instruction.reserved})
            ]
        return codes

    def evaluate(self, rows: Rows) -> Rows:
        """Answers ``rows[n, row_words(inputs)]`` with ``[n, row_words(outputs)]``, in NumPy, by instruction."""
        columns = rows_to_columns(rows, self.interface.inputs)
        inputs = {word.name: column for word, column in zip(self.interface.inputs, columns, strict=True)}
        word = inputs["instruction"]
        illegal = np.ones(len(rows), np.bool_)
        answers = [np.zeros(len(rows), np.uint64) for _ in self.interface.outputs]

        def answer(where: np.ndarray, effects: dict[str, Term]) -> None:
            picked = np.flatnonzero(where)
            if len(picked):
                value = Values({name: column[picked] for name, column in inputs.items()}, len(picked))
                for column, output in zip(answers, self.interface.outputs, strict=True):
                    column[picked] = value(effects[output.name])

        for instruction in self.instructions:
            here = self.decodes(instruction, word)
            illegal &= ~here
            answer(here, self.drawn.rest | instruction.effects)
        answer(illegal, self.drawn.illegal)
        return columns_to_rows(answers, self.interface.outputs, len(rows), self.name)

    def decodes(self, instruction: Instruction, word: Column) -> np.ndarray:
        """Which of the instruction words are this instruction."""
        match = np.zeros(len(word), np.bool_)
        for mask, value in instruction.codes:
            match |= word & np.uint64(mask) == np.uint64(value)
        return match & (word & np.uint64(instruction.reserved) == 0)

    def c_text(self) -> str:
        """The step in C."""
        return c_source(self.interface, *self.c_parts())

    def c_parts(self) -> tuple[str, str]:
        """Statements of the step and what they need: a table of the bits that tell instructions apart, then one case
        for each."""
        masks = [mask for instruction in self.instructions for mask, _ in instruction.codes]
        bits = [bit for bit in range(64) if any(mask >> bit & 1 for mask in masks)]
        codes = ", ".join(
            f"{{{mask:#x}ull, {match:#x}ull, {number}}}"
            for number, instruction in enumerate(self.instructions, 1)
            for mask, match in instruction.codes
        )
        places = ", ".join(map(str, bits))
        helpers = f"""{C_HELPERS}
static const struct {{ uint64_t mask, match; unsigned char number; }} codes[] = {{{codes}}};
static const unsigned char places[] = {{{places}}};
static unsigned char table[{1 << len(bits)}];
__attribute__((constructor)) static void fill_table(void) {{
    for (unsigned key = 0; key < sizeof table; key++) {{
        uint64_t word = 0;
        for (unsigned i = 0; i < {len(bits)}; i++) word |= (uint64_t)(key >> i & 1) << places[i];
        for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++)
            if ((word & codes[i].mask) == codes[i].match) table[key] = codes[i].number;
    }}
}}"""
        key = " | ".join(f"(instruction >> {bit} & 1) << {index}" for index, bit in enumerate(bits))
        lines = [f"unsigned number = table[{key}];", "switch (number) {"]
        for number, instruction in enumerate(self.instructions, 1):
            lines.append(f"case {number}: {{")
            if instruction.reserved:
                lines.append(f"if (instruction & {instruction.reserved:#x}ull) goto illegal;")
            lines += [*self._assignments(self.drawn.rest | instruction.effects), "break; }"]
        lines += ["default: illegal: {", *self._assignments(self.drawn.illegal), "} }"]
        return "\n".join(lines), helpers

    def _assignments(self, effects: dict[str, Term]) -> list[str]:
        write = CWriter()
        ends = [f"{name.replace('.', '_')} = {write(term)};" for name, term in effects.items()]
        return write.lines + ends

    def library(self, folder: Path) -> Path:
        """Compiles the C form into ``folder``; the path of the shared library, for `LibraryOracle`."""
        return compile_library(self.c_text(), folder / f"{self.name}.so")

    def netlist(self) -> Netlist:
        """The step as gates, as they come: a reference to prove against, not a small one."""
        builder = Builder(self.interface)
        gates = Gates(builder)
        word = builder.input("instruction")
        sums = {output.name: [FALSE] * output.width for output in self.interface.outputs}

        def add(select: int, effects: dict[str, Term]) -> None:
            for name, bits in sums.items():
                value = gates(effects[name])
                sums[name] = [builder.or_(bit, builder.and_(select, new)) for bit, new in zip(bits, value, strict=True)]

        def matches(mask: int, match: int) -> int:
            return gates.all([word[bit] ^ 1 ^ (match >> bit & 1) for bit in range(len(word)) if mask >> bit & 1])

        legal = FALSE
        for instruction in self.instructions:
            select = FALSE
            for code in instruction.codes:
                select = builder.or_(select, matches(*code))
            select = builder.and_(select, matches(instruction.reserved, 0))
            legal = builder.or_(legal, select)
            add(select, self.drawn.rest | instruction.effects)
        add(legal ^ 1, self.drawn.illegal)
        return builder.finish(sums)


def random_isa(seed: int) -> RandomIsa:
    """The instruction set of a seed; always the same one."""
    return RandomIsa(f"isa{seed}", draw(seed))
