"""Netlists in port form: with their arrays put back as gates, and compared only where it matters."""

from __future__ import annotations

from collections.abc import Sequence

from tapeout.circuit.netlist import FALSE, TRUE, Builder, Netlist
from tapeout.circuit.ports import NOTHING, Array, Port, PortForm
from tapeout.circuit.words import NEXT, Interface


def put_back(netlist: Netlist, form: PortForm) -> Netlist:
    """The whole circuit: multiplexers read the entries, decoders write them. Gates of the netlist stay as they are.

    Raises:
        ValueError: a netlist over other words than the form's.
    """
    _check(netlist, form)
    builder = Builder(form.whole)
    inputs = {word.name: builder.input(word.name) for word in form.whole.inputs}
    bits = [literal for word in form.whole.inputs for literal in inputs[word.name]]
    for array in form.arrays:
        contents = [inputs[name] for name in array.words]
        for index, port in enumerate(array.reads):
            inputs[array.read_word(index).name] = _read(builder, _index(bits, port), port.table, contents)
    outputs = builder.place(netlist, inputs)
    for array in form.arrays:
        contents = [inputs[name] for name in array.words]
        for index, port in enumerate(array.writes):
            value, enable = _stored(array, index, outputs)
            named = _decode(builder, _index(bits, port))
            for entry, content in enumerate(contents):
                selected = builder.and_(enable, _any(builder, named, port.table, entry))
                contents[entry] = [builder.mux(selected, new, old) for new, old in zip(value, content, strict=True)]
        outputs |= {name + NEXT: content for name, content in zip(array.words, contents, strict=True)}
    return builder.finish(outputs)


def on_care_set(netlist: Netlist, form: PortForm) -> Netlist:
    """The netlist behind `care_inputs`, with what it writes to no entry made 0.

    Two netlists are equal as whole circuits exactly where these are, but for writes that store what is there already.
    """
    _check(netlist, form)
    builder = Builder(form.interface)
    inputs = _care(builder, form)
    outputs = builder.place(netlist, inputs)
    bits = [literal for word in form.interface.inputs for literal in inputs[word.name]]
    for array in form.arrays:
        for index, port in enumerate(array.writes):
            named = _named(builder, [bits[bit] for bit in form.bits(port)], port)
            words = (array.write_word(index), array.enable_word(index))
            for word in filter(None, words):
                outputs[word.name] = [builder.and_(named, literal) for literal in outputs[word.name]]
    return builder.finish(outputs)


def care_inputs(form: PortForm) -> Netlist:
    """From rows in port form to those that belong to a state of the whole circuit; these stay as they are.

    A port that names no entry delivers 0, ports that name the same entry what the first of them does.
    """
    interface = form.interface
    builder = Builder(Interface(interface.inputs, interface.inputs))
    return builder.finish(_care(builder, form))


def _care(builder: Builder, form: PortForm) -> dict[str, list[int]]:
    inputs = {word.name: builder.input(word.name) for word in form.interface.inputs}
    bits = [literal for word in form.interface.inputs for literal in inputs[word.name]]
    for array in form.arrays:
        earlier: list[tuple[Port, list[int]]] = []
        for number, port in enumerate(array.reads):
            index = [bits[bit] for bit in form.bits(port)]
            named = _named(builder, index, port)
            value = [builder.and_(named, literal) for literal in inputs[array.read_word(number).name]]
            for other, delivered in reversed(earlier):
                same = _same(builder, (index, port), ([bits[bit] for bit in form.bits(other)], other))
                value = [builder.mux(same, new, old) for new, old in zip(delivered, value, strict=True)]
            inputs[array.read_word(number).name] = value
            earlier.append((port, value))
    return inputs


def _check(netlist: Netlist, form: PortForm) -> None:
    if netlist.interface != form.interface:
        raise ValueError(f"the netlist has the words {netlist.interface}, not {form.interface}")


def _index(bits: Sequence[int], port: Port) -> list[int]:
    return [bits[bit] for bit in port.bits]


def _stored(array: Array, index: int, outputs: dict[str, list[int]]) -> tuple[list[int], int]:
    enable = array.enable_word(index)
    return outputs[array.write_word(index).name], outputs[enable.name][0] if enable else TRUE


def _read(builder: Builder, index: list[int], table: Sequence[int], contents: list[list[int]]) -> list[int]:
    """The entry that the index names, 0 for none."""
    if not index:
        return contents[table[0]] if table[0] != NOTHING else [FALSE] * len(contents[0])
    half = len(table) // 2
    low, high = (_read(builder, index[:-1], part, contents) for part in (table[:half], table[half:]))
    return [builder.mux(index[-1], one, zero) for one, zero in zip(high, low, strict=True)]


def _decode(builder: Builder, index: list[int]) -> list[int]:
    """Whether the index is each code; the codes of both halves of the bits are shared."""
    if not index:
        return [TRUE]
    if len(index) == 1:
        return [index[0] ^ 1, index[0]]
    half = len(index) // 2
    low, high = _decode(builder, index[:half]), _decode(builder, index[half:])
    return [builder.and_(a, b) for b in high for a in low]


def _any(builder: Builder, codes: list[int], table: Sequence[int], entry: int) -> int:
    result = FALSE
    for code, named in zip(codes, table, strict=True):
        if named == entry:
            result = builder.or_(result, code)
    return result


def _named(builder: Builder, index: list[int], port: Port) -> int:
    """Whether the port names an entry."""
    return _any(builder, _decode(builder, index), [min(entry, 0) for entry in port.table], NOTHING) ^ 1


def _same(builder: Builder, a: tuple[list[int], Port], b: tuple[list[int], Port]) -> int:
    """Whether two ports name the same entry; where both name none they deliver 0 either way."""
    if a[1].table == b[1].table and len(set(a[1].table)) == len(a[1].table):
        differ = FALSE
        for x, y in zip(a[0], b[0], strict=True):
            differ = builder.or_(differ, builder.xor(x, y))
        return differ ^ 1
    codes = [_decode(builder, index) for index, _ in (a, b)]
    result = FALSE
    for entry in sorted(({*a[1].table} & {*b[1].table}) - {NOTHING}):
        both = builder.and_(_any(builder, codes[0], a[1].table, entry), _any(builder, codes[1], b[1].table, entry))
        result = builder.or_(result, both)
    return result
