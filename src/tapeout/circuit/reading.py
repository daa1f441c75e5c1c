"""Reads netlists from files: AIGER and BLIF of any tool, and Verilog and C as Tapeout writes them (see output.py)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tapeout.circuit.aiger import finish_bits, interface_of_bits, read_aiger
from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.words import Interface, Word, parse_interface
from tapeout.errors import UserError


def read_netlist(path: str | Path) -> Netlist:
    """The netlist in a ``.aig``, ``.aag``, ``.blif``, ``.v`` or ``.c`` file.

    Raises:
        UserError: a file that cannot be read, is damaged, sequential, or beyond what is read of its format.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", str(path), "give a file that exists") from error
    return parse_netlist(data, path.suffix, str(path))


def parse_netlist(data: bytes, suffix: str, where: str) -> Netlist:
    """As `read_netlist`, of bytes; ``where`` is for messages."""
    if suffix in (".aig", ".aag"):
        return read_aiger(data, where)
    readers: dict[str, Callable[[str, str], Netlist]] = {".blif": _read_blif, ".v": _read_verilog, ".c": _read_c}
    if suffix not in readers:
        known = ", ".join([".aig", ".aag", *readers])
        raise UserError(f"{suffix or 'no suffix'} is not a kind of netlist that can be read", where, f"use {known}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UserError("not a text file", where, "give the file as it was written") from error
    return readers[suffix](text, where)


# ---- BLIF (Berkeley Logic Interchange Format, UC Berkeley 1992): one model, single-output covers


def _read_blif(text: str, where: str) -> Netlist:
    inputs: list[str] = []
    outputs: list[str] = []
    covers: dict[str, tuple[list[str], list[str], int]] = {}
    current: list[str] | None = None
    models = 0
    for line, parts in _blif_lines(text):
        place = f"{where}:{line}"
        if parts[0] == ".model":
            models += 1
            if models > 1:
                raise UserError("a second model", place, "flatten the hierarchy first")
        elif parts[0] in (".inputs", ".outputs"):
            (inputs if parts[0] == ".inputs" else outputs).extend(parts[1:])
            current = None
        elif parts[0] == ".names":
            if len(parts) < 2:
                raise UserError(".names without a signal", place, "name its output last")
            if parts[-1] in covers:
                raise UserError(f"signal {parts[-1]!r} is defined twice", place, "define it once")
            current = []
            covers[parts[-1]] = (parts[1:-1], current, line)
        elif parts[0] == ".end":
            break
        elif parts[0].startswith("."):
            raise UserError(f"{parts[0]} is not read", place, "give one flat combinational model of .names")
        elif current is None:
            raise UserError(f"{' '.join(parts)[:40]!r} belongs to no .names", place, "give the file as it was written")
        else:
            current.append(" ".join(parts))
    comment = text.partition("\n")[0].lstrip("# ") if text.startswith("#") else ""
    builder = Builder(interface_of_bits(inputs, outputs, comment))
    made = {name: 2 * (1 + bit) for bit, name in enumerate(inputs)}
    _resolve(outputs, made, covers, builder, where)
    return finish_bits(builder, [made[name] for name in outputs])


def _blif_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines without comments, joined where they end in a backslash, with the number of their last part."""
    held = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = held + line.partition("#")[0].rstrip()
        if line.endswith("\\"):
            held = line[:-1] + " "
            continue
        held = ""
        if parts := line.split():
            yield number, parts


def _resolve(
    roots: Iterable[str],
    made: dict[str, int],
    covers: dict[str, tuple[list[str], list[str], int]],
    builder: Builder,
    where: str,
) -> None:
    opened: set[str] = set()
    for root in roots:
        stack = [root]
        while stack:
            name = stack[-1]
            if name in made:
                stack.pop()
                continue
            if name not in covers:
                raise UserError(f"signal {name!r} is never defined", where, "give a complete model")
            sources, rows, line = covers[name]
            missing = [source for source in sources if source not in made]
            if not missing:
                made[name] = _cover(builder, [made[source] for source in sources], rows, f"{where}:{line}")
                stack.pop()
            elif name in opened:
                raise UserError(f"signal {name!r} depends on itself", f"{where}:{line}", "give a combinational model")
            else:
                opened.add(name)
                stack += missing


def _cover(builder: Builder, sources: list[int], rows: list[str], place: str) -> int:
    """The function of a cover: products over 0, 1 and -, all of them of the on-set or all of the off-set."""
    total, kinds = FALSE, set[str]()
    for row in rows:
        product, _, kind = row.rpartition(" ") if sources else ("", "", row)
        if len(product) != len(sources) or kind not in ("0", "1") or not set(product) <= set("01-"):
            raise UserError(f"{row[:40]!r} is not a row of a cover of {len(sources)} inputs", place, "write 01- 1")
        kinds.add(kind)
        term = TRUE
        for source, bit in zip(sources, product, strict=True):
            if bit != "-":
                term = builder.and_(term, source if bit == "1" else source ^ 1)
        total = builder.or_(total, term)
    if len(kinds) > 1:
        raise UserError("a cover of both 0 and 1", place, "give rows of one kind")
    return total ^ 1 if kinds == {"0"} else total


# ---- Verilog and C: one statement a line, as output.py writes them

_NAME = r"(?:\\(?P<{0}escaped>\S+) |(?P<{0}plain>[A-Za-z_]\w*))(?:\[(?P<{0}bit>\d+)\])?"
_VERILOG_SIDE = rf"~?(?:1'b[01]|{re.sub(r'[?]P<[^>]*>', '', _NAME)})"
_VERILOG = re.compile(rf"  (?:wire|assign) (?P<to>.+?) = (?P<a>{_VERILOG_SIDE})(?: & (?P<b>{_VERILOG_SIDE}))?;")
_DECLARED = re.compile(rf"  (input|output) (?:\[(\d+):0\] )?{_NAME.format('')};")


def _read_verilog(text: str, where: str) -> Netlist:
    words: dict[str, list[Word]] = {"input": [], "output": []}
    statements: list[tuple[int, re.Match[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith(("//", "module ", "endmodule")):
            continue
        if match := _DECLARED.fullmatch(line):
            words[match[1]].append(Word(match["escaped"] or match["plain"], int(match[2] or 0) + 1))
        elif match := _VERILOG.fullmatch(line):
            statements.append((number, match))
        else:
            raise _foreign(line, where, number, "Verilog")
    if not text.rstrip().endswith("endmodule"):
        raise UserError("the file ends before endmodule", where, "write it again")
    builder = Builder(Interface(tuple(words["input"]), tuple(words["output"])))
    made: dict[tuple[str, int], int] = {
        (word.name, bit): literal for word in words["input"] for bit, literal in enumerate(builder.input(word.name))
    }
    name = re.compile(_NAME.format(""))

    def key(text: str, number: int) -> tuple[str, int]:
        match = name.fullmatch(text)
        if match is None:
            raise _foreign(text, where, number, "Verilog")
        return match["escaped"] or match["plain"], int(match["bit"] or 0)

    def side(text: str, number: int) -> int:
        flip = text.startswith("~")
        text = text[flip:]
        if text.startswith("1'b"):
            return int(text[-1]) ^ flip
        found = made.get(key(text, number))
        if found is None:
            raise UserError(f"{text.strip()!r} is read before it is defined", f"{where}:{number}", "write it again")
        return found ^ flip

    for number, match in statements:
        a = side(match["a"], number)
        made[key(match["to"], number)] = builder.and_(a, side(match["b"], number)) if match["b"] else a
    return _finish(builder, words["output"], made, where)


def _finish(builder: Builder, outputs: list[Word], made: dict[tuple[str, int], int], where: str) -> Netlist:
    bits = [(word.name, bit) for word in outputs for bit in range(word.width)]
    for name, bit in bits:
        if (name, bit) not in made:
            raise UserError(f"bit {bit} of output {name} is not assigned", where, "write the file again")
    return finish_bits(builder, [made[bit] for bit in bits])


_C_SIDE = r"~?(?:\(uint64_t\)0|v\d+)"
_C_TARGET = r"(?:const uint64_t v(?P<to>\d+)|out\[(?P<out>\d+)\])"
_C = re.compile(rf"    {_C_TARGET} = (?:in\[(?P<in>\d+)\]|(?P<a>{_C_SIDE})(?: & (?P<b>{_C_SIDE}))?);")


def _read_c(text: str, where: str) -> Netlist:
    """The body of tapeout_slices; what stands around it is the same in every file."""
    found = re.search(r'^const char \*tapeout_interface\(void\) \{ return "(.*)"; \}$', text, re.MULTILINE)
    head = "\nvoid tapeout_slices(const uint64_t *in, uint64_t *out) {\n"
    start, end = text.find(head), text.find("\n}\n", text.find(head))
    if found is None or start < 0 or end < 0:
        raise UserError("not a C file of a netlist", where, "only what Tapeout wrote is read")
    builder = Builder(parse_interface(found[1]))
    made: dict[str, int] = {}
    outputs: dict[tuple[str, int], int] = {}

    def side(text: str, number: int) -> int:
        flip = text.startswith("~")
        text = text[flip:]
        literal = FALSE if text == "(uint64_t)0" else made.get(text)
        if literal is None:
            raise UserError(f"{text!r} is read before it is defined", f"{where}:{number}", "write it again")
        return literal ^ flip

    first = text.count("\n", 0, start + len(head)) + 1
    names = [(word.name, bit) for word in builder.interface.outputs for bit in range(word.width)]
    for number, line in enumerate(text[start + len(head) : end].split("\n"), first):
        if line.startswith("    (void)"):
            continue
        match = _C.fullmatch(line)
        if match is None or int(match["in"] or 0) >= max(1, builder.interface.input_bits):
            raise _foreign(line, where, number, "C")
        if match["in"]:
            value = 2 * (1 + int(match["in"]))
        else:
            value = side(match["a"], number)
            value = builder.and_(value, side(match["b"], number)) if match["b"] else value
        if match["to"]:
            made[f"v{match['to']}"] = value
        elif int(match["out"]) < len(names):
            outputs[names[int(match["out"])]] = value
        else:
            raise _foreign(line, where, number, "C")
    return _finish(builder, list(builder.interface.outputs), outputs, where)


def _foreign(line: str, where: str, number: int, kind: str) -> UserError:
    action = f"only {kind} that Tapeout wrote is read; convert the file to AIGER or BLIF with yosys or ABC"
    return UserError(f"{line.strip()[:60]!r} is not understood", f"{where}:{number}", action)
