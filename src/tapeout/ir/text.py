"""The graph IR as text, and back. One op per line:

    %out = conv x=%in w=%weight strides=[2, 2] ... : f32[1,64,112,112]  // "features.0"

The fields of an op are printed in the order of its dataclass, those that have their default left out;
nothing here knows a single op. Arrays of more than 16 elements are printed as `@hash` and host functions as
`@name`; `constants` and `functions` give what stands behind these names. `parse_graph(print_graph(g), ..)`
is `g` with the same names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np

from tapeout.errors import UserError
from tapeout.ir import graph as g
from tapeout.ir.mapped import pieces
from tapeout.ir.special import Array
from tapeout.ir.types import DimExpr, DType, Symbol, TensorType, parse_dim

INLINE_ELEMENTS = 16
HostFunction = Callable[..., tuple[Array, ...]]

OP_KINDS: dict[str, type[g.OpBase]] = {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower(): kind for kind in get_args(g.Op)
}
_KIND_NAMES = {kind: name for name, kind in OP_KINDS.items()}
_PLAIN = re.compile(r"[A-Za-z_][\w.]*")
_PLAIN_VALUE = re.compile(r"[\w./$-]+")


# ---- printing


def print_graph(graph: g.Graph) -> str:
    """`graph` as text, ending in a newline."""
    names = {fn: name for name, fn in functions(graph).items()}
    lines = [f"graph {_word(graph.name)} {{"]
    lines += [f"  symbol {s}" for s in graph.symbols]
    lines += [f"  input {_value(v)} : {v.type}" for v in graph.inputs]
    for s in graph.states:
        alias = f"{_word(s.name)} {_value(s.entry)} -> {_value(s.exit)}"
        lines.append(f"  state {alias} = {_array(s.initial)} : {s.entry.type}")
    lines += _ops(graph.ops, names, "  ")
    lines += [f"  output {_word(name)} = {_value(v)}" for name, v in graph.outputs]
    return "\n".join([*lines, "}", ""])


def constants(graph: g.Graph) -> dict[str, Array]:
    """The arrays that `print_graph` names by their hash."""
    arrays = [s.initial for s in graph.states]
    arrays += [op.data for op in g.walk(graph.ops) if isinstance(op, g.Constant)]
    return {array_hash(a): a for a in arrays if a.size > INLINE_ELEMENTS}


def functions(graph: g.Graph) -> dict[str, HostFunction]:
    """The functions of the host calls, named by kind (and a number where calls of a kind have several)."""
    table: dict[str, HostFunction] = {}
    for op in g.walk(graph.ops):
        if isinstance(op, g.HostCall) and op.fn not in table.values():
            count = sum(name.partition(".")[0] == op.kind for name in table)
            table[f"{op.kind}.{count}" if count else op.kind] = op.fn
    return table


def array_hash(array: Array) -> str:
    """16 hexadecimal digits that stand for element type, shape and contents."""
    digest = hashlib.blake2b(f"{array.dtype}{array.shape}".encode(), digest_size=8)
    for _, piece in pieces(array if array.ndim else array.reshape(1)):
        digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _word(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and not text.startswith("inf") else json.dumps(text)


def _value(value: g.Value) -> str:
    return f"%{value.name if _PLAIN_VALUE.fullmatch(value.name) else json.dumps(value.name)}"


def _ops(ops: tuple[g.Op, ...], names: Mapping[HostFunction, str], indent: str) -> list[str]:
    return [line for op in ops for line in _op(op, names, indent)]


def _op(op: g.Op, names: Mapping[HostFunction, str], indent: str) -> list[str]:
    """The line of an op, or the lines when it has regions."""
    text = f"{indent}{', '.join(_value(v) for v in op.outs)} = {_KIND_NAMES[type(op)]}"
    for field in dataclasses.fields(op):
        if field.name in ("outs", "source"):
            continue
        held = getattr(op, field.name)
        if isinstance(held, g.Region):
            params = ", ".join(f"{_value(p)} : {p.type}" for p in held.params)
            results = ", ".join(_value(r) for r in held.results)
            inner = [*_ops(held.ops, names, f"{indent}  "), f"{indent}  yield {results}".rstrip()]
            text += "\n".join([f" {field.name}=({params}) {{", *inner, f"{indent}}}"])
        elif field.default is dataclasses.MISSING or held != field.default:
            text += f" {field.name}={_field(held, names)}"
    types = ", ".join(str(v.type) for v in op.outs)
    text += f" : {types}" if len(op.outs) == 1 else f" : ({types})"
    text += f"  // {json.dumps(op.source)}" if op.source else ""
    return text.split("\n")


def _field(held: Any, names: Mapping[HostFunction, str]) -> str:
    match held:
        case g.Value():
            return _value(held)
        case np.ndarray():
            return _array(cast("Array", held))
        case bool():
            return "true" if held else "false"
        case str():
            return _word(held)
        case DType():
            return held.value
        case tuple():
            return f"[{', '.join(_field(item, names) for item in cast('tuple[Any, ...]', held))}]"
        case int() | DimExpr() | TensorType():
            return str(held)
        case _:
            return f"@{_word(names[held])}"


def _array(array: Array) -> str:
    if array.size > INLINE_ELEMENTS:
        return f"@{array_hash(array)}"
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return f"[{', '.join(_element(x) for x in array.reshape(-1))}]"


def _element(x: Any) -> str:
    """An element in decimal; NaN by its bits, as it may carry a payload."""
    dtype = DType.of(x.dtype)
    if dtype is DType.b1:
        return "true" if x else "false"
    if not dtype.is_float:
        return str(int(x))
    return f"0x{int(x.view(f'u{dtype.bytes}')):x}" if np.isnan(x) else repr(float(x))


# ---- parsing

_TOKEN = re.compile(
    r"""\s*(?: (?P<value>%(?:"(?:[^"\\]|\\.)*"|[\w./$-]+))
        | (?P<string>"(?:[^"\\]|\\.)*")
        | (?P<hash>@[0-9a-f]{16}\b) | (?P<arrow>->) | (?P<source>//)
        | (?P<number>0x[0-9a-f]+|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|-?inf\b)
        | (?P<word>[A-Za-z_][\w.]*)
        | (?P<mark>[][(){}=:,@*+-])
        )""",
    re.VERBOSE,
)


def parse_graph(
    text: str,
    arrays: Mapping[str, Array] | None = None,
    host: Mapping[str, HostFunction] | None = None,
) -> g.Graph:
    """The graph that `text` describes; `UserError` with the line where it is not the text of a graph.

    `arrays` and `host` resolve `@` names as `constants` and `functions` give them.
    """
    parser = _Parser(text, arrays or {}, host or {})
    try:
        graph = parser.graph()
    except (ValueError, OverflowError) as error:  # a number or name that is none of what belongs there
        raise parser.error(str(error)) from error
    if parser.peek():
        raise parser.error(f"{parser.peek()!r} after the end of the graph")
    return graph


class _Parser:
    def __init__(self, text: str, arrays: Mapping[str, Array], host: Mapping[str, HostFunction]) -> None:
        self.text = text
        self.arrays = arrays
        self.host = host
        self.place = 0
        self.values: dict[str, g.Value] = {}
        self.next = self._scan()

    # ---- tokens

    def _scan(self) -> re.Match[str] | None:
        match = _TOKEN.match(self.text, self.place)
        if match is None and self.text[self.place :].strip():
            raise self.error("unreadable text")
        return match

    def error(self, what: str) -> UserError:
        line = self.text.count("\n", 0, self.place) + 1
        return UserError(what, f"line {line}", "give the text of print_graph")

    def peek(self) -> str:
        """The next token, or nothing at the end."""
        return self.next.group().strip() if self.next else ""

    def take(self, wanted: str = "") -> str:
        """The next token; an error when it is not the `wanted` one."""
        token = self.peek()
        if self.next is None or (wanted and token != wanted):
            raise self.error(f"{token or 'the end'!r} where {wanted or 'more'!r} should be")
        self.place = self.next.end()
        self.next = self._scan()
        return token

    def accept(self, wanted: str) -> bool:
        found = self.peek() == wanted
        if found:
            self.take()
        return found

    def items(self, item: Callable[[], Any], begin: str = "[", end: str = "]") -> tuple[Any, ...]:
        """`item, item, ..` between `begin` and `end`."""
        self.take(begin)
        found: list[Any] = []
        while not self.accept(end):
            if found:
                self.take(",")
            found.append(item())
        return tuple(found)

    def word(self) -> str:
        token = self.take()
        return json.loads(token) if token[0] == '"' else token

    # ---- structure

    def graph(self) -> g.Graph:
        self.take("graph")
        name = self.word()
        self.take("{")
        symbols: list[Symbol] = []
        inputs: list[g.Value] = []
        states: list[tuple[str, g.Value, str, Array]] = []
        while self.accept("symbol"):
            symbols.append(self.symbol())
        while self.accept("input"):
            inputs.append(self.typed())
        while self.accept("state"):
            states.append(self.state())
        ops = self.ops()
        outputs: list[tuple[str, g.Value]] = []
        while self.accept("output"):
            label = self.word()
            self.take("=")
            outputs.append((label, self.known(self.take())))
        self.take("}")
        held = tuple(g.State(s, entry, self.known(leaving), data) for s, entry, leaving, data in states)
        return g.Graph(name, tuple(symbols), tuple(inputs), held, ops, tuple(outputs))

    def symbol(self) -> Symbol:
        name = self.word()
        self.take("in")
        lo, hi = self.items(lambda: int(self.take()))
        return Symbol(name, lo, hi)

    def state(self) -> tuple[str, g.Value, str, Array]:
        """Name, entry, the token of the exit (defined further down) and initial contents."""
        name, entry = self.word(), self.take()
        self.take("->")
        leaving = self.take()
        self.take("=")
        literal = self.literal()
        self.take(":")
        type_ = self.type()
        return name, self.define(entry, type_), leaving, self.array(literal, type_)

    def typed(self) -> g.Value:
        token = self.take()
        self.take(":")
        return self.define(token, self.type())

    def define(self, token: str, type_: TensorType) -> g.Value:
        name = json.loads(token[1:]) if token.startswith('%"') else token.removeprefix("%")
        self.values[token] = g.Value(name, type_)
        return self.values[token]

    def known(self, token: str) -> g.Value:
        if token not in self.values:
            raise self.error(f"{token} is not defined")
        return self.values[token]

    def ops(self) -> tuple[g.Op, ...]:
        ops: list[g.Op] = []
        while self.next and self.next.group("value"):
            ops.append(self.op())
        return tuple(ops)

    def op(self) -> g.Op:
        names = [self.take()]
        while self.accept(","):
            names.append(self.take())
        self.take("=")
        kind = OP_KINDS.get(self.take())
        if kind is None:
            raise self.error("no op has this name")
        held: dict[str, Any] = {}
        while self.peek() != ":":
            name = self.take()
            if name not in (hints := _hints(kind)):
                raise self.error(f"{kind.__name__} has no field {name}")
            self.take("=")
            held[name] = self.field(hints[name])
        self.take(":")
        types = self.items(self.type, "(", ")") if self.peek() == "(" else (self.type(),)
        if len(types) != len(names):
            raise self.error(f"{len(names)} results but {len(types)} types")
        source = self.word() if self.accept("//") else ""
        if kind is g.Constant:
            held["data"] = self.array(held.get("data", ()), types[0])
        outs = tuple(self.define(name, type_) for name, type_ in zip(names, types, strict=True))
        try:
            return cast("g.Op", kind(**held, outs=outs, source=source))
        except TypeError as error:
            raise self.error(f"{kind.__name__}: {error}") from error

    def region(self) -> g.Region:
        outer, self.values = self.values, {}
        params = self.items(self.typed, "(", ")")
        self.take("{")
        ops = self.ops()
        self.take("yield")
        results: list[g.Value] = []
        while not self.accept("}"):
            if results:
                self.take(",")
            results.append(self.known(self.take()))
        self.values = outer
        return g.Region(params, ops, tuple(results))

    # ---- fields

    def field(self, hint: Any) -> Any:
        """What the field of an op holds, by the type that its dataclass declares."""
        origin, inside = get_origin(hint), get_args(hint)
        if origin is tuple:
            return self.items(lambda: self.field(inside[0]))
        if origin is UnionType or hint is Any:
            return self.dim()
        readers: dict[Any, Callable[[], Any]] = {
            g.Value: lambda: self.known(self.take()),
            g.Region: self.region,
            TensorType: self.type,
            DType: lambda: DType(self.take()),
            str: self.word,
            bool: lambda: self.take() == "true",
            int: lambda: int(self.take()),
        }
        if hint in readers:
            return readers[hint]()
        return self.literal() if origin is np.ndarray or hint is np.ndarray else self.function()

    def dim(self) -> Any:
        text = ""
        while self.peek() not in (",", "]", ""):
            text += self.take()
        return parse_dim(text)

    def type(self) -> TensorType:
        name = self.take()
        if name not in DType.__members__:
            raise self.error(f"no element type {name}")
        return TensorType(DType(name), self.items(self.dim))

    def literal(self) -> Any:
        """An `@hash` string, or the tokens of the elements."""
        return self.take() if self.next and self.next.group("hash") else self.items(self.take)

    def array(self, literal: Any, type_: TensorType) -> Array:
        if isinstance(literal, str):
            name = literal.removeprefix("@")
            if name not in self.arrays:
                raise self.error(f"no array @{name} was given")
            return self.arrays[name]
        data = np.array([_parse_element(t, type_.dtype) for t in literal], type_.dtype.numpy)
        return data.reshape(type_.static_shape)

    def function(self) -> HostFunction:
        self.take("@")
        name = self.word()
        if name not in self.host:
            raise self.error(f"no host function @{name} was given")
        return self.host[name]


@cache
def _hints(kind: type[g.OpBase]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: hints[name] for name in g.op_fields(kind)}


def _parse_element(token: str, dtype: DType) -> Any:
    if token.startswith("0x"):
        return np.array(int(token, 16), f"u{dtype.bytes}").view(dtype.numpy)[()]
    if dtype is DType.b1:
        return token == "true"
    return float(token) if dtype.is_float else int(token)


# ---- comparison


def structurally_equal(a: g.Graph, b: g.Graph) -> bool:
    """Whether two graphs are the same up to the names of their values."""
    return _same((a.name, a.symbols, a.inputs, a.states, a.ops, a.outputs),
                 (b.name, b.symbols, b.inputs, b.states, b.ops, b.outputs), {})  # fmt: skip


def _same(a: Any, b: Any, paired: dict[g.Value, g.Value]) -> bool:
    """Whether `a` is `b` when its values are exchanged as in `paired`, which grows by those that are met."""
    if type(a) is not type(b):
        return False
    match a:
        case g.Value():
            return a.type == b.type and paired.setdefault(a, b) is b
        case np.ndarray():
            x, y = cast("Array", a), cast("Array", b)
            return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        case tuple():
            pair = cast("tuple[Any, ...]", a), cast("tuple[Any, ...]", b)
            return len(pair[0]) == len(pair[1]) and all(_same(x, y, paired) for x, y in zip(*pair, strict=True))
        case g.OpBase() | g.Region() | g.State():
            fields = (f.name for f in dataclasses.fields(a))
            return all(_same(getattr(a, name), getattr(b, name), paired) for name in fields)
        case _:
            return a == b
