"""Netlists as text and bytes: Verilog, BLIF, AIGER (ASCII and binary) and C, named after a file's suffix.

Bits of words are named ``word[bit]`` where the format has names for bits only. The C file is a black box of its own:
built as a shared library, `LibraryOracle` opens it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tapeout.circuit.names import bit_names
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.words import Interface, Word, row_words
from tapeout.errors import UserError


def netlist_file(netlist: Netlist, suffix: str, name: str = "learned") -> bytes:
    """The netlist as a file of kind ``suffix``; ``name`` is that of the module or model. UserError for other
    suffixes."""
    check_suffix(suffix)
    return _WRITERS[suffix](netlist, re.sub(r"\W|^(?=\d)", "_", name))


def check_suffix(suffix: str) -> None:
    """UserError where `netlist_file` knows no such kind."""
    if suffix not in _WRITERS:
        raise UserError(f"{suffix or 'no suffix'} is not a kind of netlist", "output", f"use {', '.join(_WRITERS)}")


def _verilog(netlist: Netlist, name: str) -> bytes:
    interface = netlist.interface
    inputs, outputs = ([identifier(word) for word in words] for words in (interface.inputs, interface.outputs))
    lines = [f"// {interface}", f"module {name} ({', '.join([*inputs, *outputs])});"]
    for kind, words in (("input", interface.inputs), ("output", interface.outputs)):
        for word in words:
            lines.append(f"  {kind} {f'[{word.width - 1}:0] ' if word.width > 1 else ''}{identifier(word)};")
    first = 1 + interface.input_bits
    places = ["1'b0", *_verilog_bits(interface.inputs)]
    prefix = _prefix(netlist, "n")

    def literal(value: int) -> str:
        variable = value // 2
        text = places[variable] if variable < first else f"{prefix}{variable}"
        if variable == 0:
            return f"1'b{value & 1}"
        return f"~{text}" if value & 1 else text

    for index, (a, b) in enumerate(netlist.fanins.tolist()):
        lines.append(f"  wire {prefix}{first + index} = {literal(a)} & {literal(b)};")
    for target, value in zip(_verilog_bits(interface.outputs), netlist.outputs.tolist(), strict=True):
        lines.append(f"  assign {target} = {literal(value)};")
    return "\n".join([*lines, "endmodule", ""]).encode()


def identifier(word: Word) -> str:
    """A word's name in Verilog; escaped names end with a space."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", word.name) and word.name not in _KEYWORDS
    return word.name if plain else f"\\{word.name} "


def _prefix(netlist: Netlist, start: str) -> str:
    """What names of nodes begin with, so that none is the name of a word."""
    words = [*netlist.interface.inputs, *netlist.interface.outputs]
    while any(word.name.startswith(start) for word in words):
        start += "_"
    return start


def _verilog_bits(words: Sequence[Word]) -> list[str]:
    return [
        identifier(word) if word.width == 1 else f"{identifier(word)}[{bit}]"
        for word in words for bit in range(word.width)
    ]  # fmt: skip


def _blif(netlist: Netlist, name: str) -> bytes:
    interface = netlist.interface
    inputs, outputs = bit_names(interface.inputs), bit_names(interface.outputs)
    prefix = _prefix(netlist, "n")
    signals = ["", *inputs, *(f"{prefix}{k}" for k in range(1 + len(inputs), 1 + len(inputs) + netlist.nodes))]
    lines = [f"# {interface}", f".model {name}", " ".join([".inputs", *inputs]), " ".join([".outputs", *outputs])]
    for index, (a, b) in enumerate(netlist.fanins.tolist()):
        target = signals[1 + len(inputs) + index]
        lines += [f".names {signals[a // 2]} {signals[b // 2]} {target}", f"{1 - a % 2}{1 - b % 2} 1"]
    for target, value in zip(outputs, netlist.outputs.tolist(), strict=True):
        if value < 2:
            lines += [f".names {target}", *(["1"] if value else [])]
        else:
            lines += [f".names {signals[value // 2]} {target}", f"{1 - value % 2} 1"]
    return "\n".join([*lines, ".end", ""]).encode()


def _aiger_symbols(netlist: Netlist) -> bytes:
    interface = netlist.interface
    lines = [f"i{k} {name}" for k, name in enumerate(bit_names(interface.inputs))]
    lines += [f"o{k} {name}" for k, name in enumerate(bit_names(interface.outputs))]
    return "".join(f"{line}\n" for line in [*lines, "c", str(interface)]).encode()


def _aiger_ascii(netlist: Netlist, name: str) -> bytes:
    inputs, nodes = netlist.interface.input_bits, netlist.nodes
    lines = [f"aag {inputs + nodes} {inputs} 0 {len(netlist.outputs)} {nodes}"]
    lines += [str(2 * (1 + k)) for k in range(inputs)] + [str(value) for value in netlist.outputs]
    for index, (a, b) in enumerate(netlist.fanins.tolist()):
        lines.append(f"{2 * (1 + inputs + index)} {max(a, b)} {min(a, b)}")
    return "".join(f"{line}\n" for line in lines).encode() + _aiger_symbols(netlist)


def _aiger_binary(netlist: Netlist, name: str) -> bytes:
    inputs, nodes = netlist.interface.input_bits, netlist.nodes
    head = f"aig {inputs + nodes} {inputs} 0 {len(netlist.outputs)} {nodes}\n"
    head += "".join(f"{value}\n" for value in netlist.outputs)
    gates = bytearray()
    for index, (a, b) in enumerate(netlist.fanins.tolist()):
        left, right = max(a, b), min(a, b)
        for delta in (2 * (1 + inputs + index) - left, left - right):
            while delta >= 0x80:
                gates.append(delta & 0x7F | 0x80)
                delta >>= 7
            gates.append(delta)
    return head.encode() + bytes(gates) + _aiger_symbols(netlist)


def _c(netlist: Netlist, name: str) -> bytes:
    interface = netlist.interface
    inputs, outputs = interface.input_bits, interface.output_bits
    lines = [
        "/* A Tapeout black box (tapeout_evaluate), and the function itself on 64 rows at once (tapeout_slices). */",
        "#include <stddef.h>", "#include <stdint.h>", "",
        f'const char *tapeout_interface(void) {{ return "{interface}"; }}',
        "int tapeout_concurrent(void) { return 1; }", "",
        f"/* Bit k of in[i] is input bit i of row k, for {inputs} inputs; so are the {outputs} outputs. */",
        "void tapeout_slices(const uint64_t *in, uint64_t *out) {", "    (void)in;", "    (void)out;",
    ]  # fmt: skip
    first = 1 + inputs
    used = {value // 2 for value in [*netlist.fanins.ravel().tolist(), *netlist.outputs.tolist()]}
    lines += [
        f"    const uint64_t v{variable} = in[{variable - 1}];" for variable in range(1, first) if variable in used
    ]

    def literal(value: int) -> str:
        if value < 2:
            return "~(uint64_t)0" if value else "(uint64_t)0"
        return f"~v{value // 2}" if value & 1 else f"v{value // 2}"

    for index, (a, b) in enumerate(netlist.fanins.tolist()):
        lines.append(f"    const uint64_t v{first + index} = {literal(a)} & {literal(b)};")
        if first + index not in used:
            lines.append(f"    (void)v{first + index};")
    lines += [f"    out[{bit}] = {literal(value)};" for bit, value in enumerate(netlist.outputs.tolist())]
    lines += ["}", "", _C_ROWS.format(inputs=row_words(inputs), outputs=row_words(outputs))]
    return "\n".join(lines).encode()


_C_ROWS = """\
/* Element r bit c goes to element c bit r. */
static void transpose(uint64_t *t) {{
    uint64_t mask = 0x00000000FFFFFFFFu;
    for (int j = 32; j; j >>= 1, mask ^= mask << j)
        for (int k = 0; k < 64; k = ((k | j) + 1) & ~j) {{
            const uint64_t swap = ((t[k] >> j) ^ t[k | j]) & mask;
            t[k] ^= swap << j;
            t[k | j] ^= swap;
        }}
}}

/* Rows: words one behind the other, the first bit lowest, padded to whole elements. */
int tapeout_evaluate(const uint64_t *in, uint64_t *out, size_t rows) {{
    enum {{ INPUTS = {inputs}, OUTPUTS = {outputs} }};
    for (size_t row = 0; row < rows; row += 64) {{
        const size_t count = rows - row < 64 ? rows - row : 64;
        uint64_t a[64 * INPUTS + 1] = {{0}}, b[64 * OUTPUTS + 1] = {{0}};
        for (size_t c = 0; c < INPUTS; ++c) {{
            for (size_t r = 0; r < count; ++r)
                a[64 * c + r] = in[(row + r) * INPUTS + c];
            transpose(a + 64 * c);
        }}
        tapeout_slices(a, b);
        for (size_t c = 0; c < OUTPUTS; ++c) {{
            transpose(b + 64 * c);
            for (size_t r = 0; r < count; ++r)
                out[(row + r) * OUTPUTS + c] = b[64 * c + r];
        }}
    }}
    return 0;
}}
"""


def c_header(interface: Interface) -> bytes:
    """Declarations of what a ``.c`` file defines."""
    return f"""\
/* {interface} */
#pragma once
#include <stddef.h>
#include <stdint.h>

const char *tapeout_interface(void);
int tapeout_concurrent(void);
/* 64 rows at once: bit k of in[i] is input bit i of row k ({interface.input_bits} in, {interface.output_bits} out). */
void tapeout_slices(const uint64_t *in, uint64_t *out);
/* Rows of {row_words(interface.input_bits)} and {row_words(interface.output_bits)} elements. */
int tapeout_evaluate(const uint64_t *in, uint64_t *out, size_t rows);
""".encode()


_KEYWORDS = frozenset(
    """always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign default defparam
    design disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive endspecify endtable
    endtask event for force forever fork function generate genvar highz0 highz1 if ifnone incdir include initial inout
    input instance integer join large liblist library localparam macromodule medium module nand negedge nmos nor not
    notif0 notif1 or output parameter pmos posedge primitive pull0 pull1 pulldown pullup rcmos real realtime reg
    release repeat rnmos rpmos rtran rtranif0 rtranif1 scalared showcancelled signed small specify specparam strong0
    strong1 supply0 supply1 table task time tran tranif0 tranif1 tri tri0 tri1 triand trior trireg unsigned use
    vectored wait wand weak0 weak1 while wire wor xnor xor""".split()
)
"""IEEE 1364-2005, annex B."""

_WRITERS: dict[str, Callable[[Netlist, str], bytes]] = {
    ".v": _verilog,
    ".blif": _blif,
    ".aig": _aiger_binary,
    ".aag": _aiger_ascii,
    ".c": _c,
}
