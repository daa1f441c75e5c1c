"""Kernels as text, and back: `parse_kernels(print_kernels(ks), constants(ks))` is `ks` again. One op per line:

    buffer x: f32 (1, 6, 6, 4) input order (0, 2, 3, 1)
    buffer w: f32 (3, 3, 4, 8) constant @0123456789abcdef

    kernel "conv1" {
      axes a0=6 a1=6 a2=3 whole a3=4 chunked a4=8
      x.1: f32[a0+a2-1, a1, a3] = load x[a0+a2-1 < 6, a1 < 6, a3 < 4] at 0 step (24, 4, 1)
      w.2: f32[a2, a3, a4] = load w[a2 < 3, a3 < 4, a4 < 8] at 0 step (96, 8, 1)
      y.3: f32[a0, a1, a4] = contract over (a2, a3) x.1 * w.2 // "conv1"
      y.4: f32[a0, a1, a4] = map max(y.3, 0.0) // "relu1"
      y.5: f32[a0, a1] = fold sum over (a4) y.4
      store y[a0 < 6, a1 < 6] at 0 step (6, 1) = y.5
    }

Outside its extents an access reads 0, or what `fill` says. An axis is `whole` (resident), `chunked` (sequential), or in
`turn` (ordered). `i < 6 by l.2` takes the coordinate from an index list; `+=` adds to what
is stored. A buffer whose name is not unique is written by number: `$3`. Contents of constants are `@hash`; `constants`
gives what stands behind the hashes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from tapeout.errors import UserError
from tapeout.ir import kernel as k
from tapeout.ir.special import Array
from tapeout.ir.text import array_hash
from tapeout.ir.types import DType

T = TypeVar("T")
_PLAIN = re.compile(r"(?!(?:inf|nan|store)$)[A-Za-z_][\w.]*")
_CLASSES = {"whole": "resident", "chunked": "sequential", "turn": "ordered"}


# ---- printing


def print_kernels(kernels: Sequence[k.KernelSpec]) -> str:
    """The buffers that the kernels touch, then the kernels."""
    buffers = buffers_of(kernels)
    labels = buffer_labels(buffers)
    blocks = [_kernel(kernel, labels) for kernel in kernels]
    return "\n".join(["".join(buffer_line(b) + "\n" for b in buffers), *blocks])


def buffers_of(kernels: Iterable[k.KernelSpec]) -> tuple[k.Buffer, ...]:
    """Every buffer that some kernel touches, in order of first use."""
    ops = (op for kernel in kernels for op in kernel.ops if isinstance(op, k.LoadTile | k.StoreTile))
    return tuple(dict.fromkeys(op.access.buffer for op in ops))


def constants(buffers: Iterable[k.Buffer]) -> dict[str, Array]:
    """The arrays that `buffer_line` names by their hash."""
    return {array_hash(b.data): b.data for b in buffers if b.data is not None}


def buffer_labels(buffers: Sequence[k.Buffer]) -> dict[k.Buffer, str]:
    """How each buffer is written: its name, or its number where names are not unique."""
    names = [b.name for b in buffers]
    return {b: word(b.name) if names.count(b.name) == 1 else f"${n}" for n, b in enumerate(buffers)}


def word(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def buffer_line(buffer: k.Buffer) -> str:
    """The declaration of a buffer."""
    text = f"buffer {word(buffer.name)}: {buffer.dtype.value} {_list(buffer.shape)} {buffer.role}"
    text += f" @{array_hash(buffer.data)}" if buffer.data is not None else ""
    text += f" order {_list(buffer.order)}" if buffer.order is not None else ""
    text += f" part {buffer.part}" if buffer.part >= 0 else ""
    text += f" space {buffer.space}" if buffer.space else ""
    if (p := buffer.packing) is None:
        return text
    view = f"of {_list(p.extents)} step {_list(p.strides)} at {p.offset} fill {float(p.fill)!r}"
    return f"{text} tiles {_list(p.tile)} {view}"


def _list(items: Iterable[object]) -> str:
    return f"({', '.join(map(str, items))})"


def _kernel(kernel: k.KernelSpec, labels: Mapping[k.Buffer, str]) -> str:
    axes: list[str] = []
    for axis in kernel.layout:
        marks = (mark for mark, held in _CLASSES.items() if axis in getattr(kernel, held))
        axes.append("".join([f" {axis.name}={axis.extent}", *(f" {mark}" for mark in marks)]))
    lines = [f"kernel {json.dumps(kernel.name)} {{", f"  axes{''.join(axes)}"]
    return "\n".join([*lines, *(f"  {_op(op, labels)}" for op in kernel.ops), "}", ""])


def _op(op: k.KernelOp, labels: Mapping[k.Buffer, str]) -> str:
    match op:
        case k.LoadTile():
            return f"{_tile(op.out)} = load {_access(op.access, labels)}"
        case k.Contract():
            pairs = " + ".join(f"{word(a.name)} * {word(b.name)}" for a, b in op.pairs)
            unit = " on vector" if op.vector else ""
            return f"{_tile(op.out)} = contract over {_axes(op.reduce)} {pairs}{unit}{_source(op.source)}"
        case k.Map():
            srcs = ", ".join(word(s.name) if isinstance(s, k.Tile) else repr(float(s)) for s in op.srcs)
            along = f" along {op.along.name}" if op.along else ""
            return f"{_tile(op.out)} = map {op.fn}({srcs}){along}{_source(op.source)}"
        case k.Fold():
            return f"{_tile(op.out)} = fold {op.fn} over {_axes(op.reduce)} {word(op.src.name)}{_source(op.source)}"
        case k.StoreTile():
            return f"store {_access(op.access, labels)} {'+=' if op.add else '='} {word(op.src.name)}"


def _tile(tile: k.Tile) -> str:
    return f"{word(tile.name)}: {tile.dtype.value}[{', '.join(map(_index, tile.index))}]"


def _access(access: k.Access, labels: Mapping[k.Buffer, str]) -> str:
    dims = [f"{_index(i)} < {n}" for i, n in zip(access.index, access.extents, strict=True)]
    if access.gather:
        dims[access.gather[0]] += f" by {word(access.gather[1].name)}"
    taken = f" as {access.read_as.value}" if access.read_as else ""
    box = f"{labels[access.buffer]}[{', '.join(dims)}] at {access.offset} step {_list(access.strides)}"
    outside = f" fill {float(access.fill)!r}" if access.fill != 0 else ""
    return f"{box}{outside}{taken}"


def _index(index: k.DimIndex) -> str:
    terms = [axis.name if coef == 1 else f"{coef}*{axis.name}" for axis, coef in index.terms]
    if index.offset or not terms:
        terms.append(str(index.offset))
    return "+".join(terms).replace("+-", "-")


def _axes(axes: tuple[k.Axis, ...]) -> str:
    return _list(a.name for a in axes)


def _source(source: str) -> str:
    return f" // {json.dumps(source)}" if source else ""


# ---- parsing

_TOKEN = re.compile(
    r"""\s*( "(?:[^"\\]|\\.)*" | // | \+= | @[0-9a-f]{16}\b | \$\d+ | -?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf\b)
        | [A-Za-z_][\w.]* | \S )""",
    re.VERBOSE,
)


def parse_kernels(text: str, arrays: Mapping[str, Array] | None = None) -> tuple[k.KernelSpec, ...]:
    """The kernels that `print_kernels` wrote as `text`. `arrays`: what stands behind the hashes of constants.
    `UserError` with the line where it is not of that form."""
    return _Parser(text, arrays or {}).kernels()


def parse_buffers(text: str, arrays: Mapping[str, Array] | None = None) -> tuple[k.Buffer, ...]:
    """The buffers that lines of `buffer_line` declare."""
    parser = _Parser(text, arrays or {})
    parser.declare()
    parser.end()
    return tuple(parser.buffers)


class _Parser:
    def __init__(self, text: str, arrays: Mapping[str, Array]) -> None:
        self.text, self.arrays = text, arrays
        self.tokens = [(m[1], m.start(1)) for m in _TOKEN.finditer(text)]
        self.at = 0
        self.buffers: list[k.Buffer] = []
        self.axes: dict[str, k.Axis] = {}
        self.tiles: dict[str, k.Tile] = {}

    # ---- tokens

    def fail(self, what: str) -> UserError:
        place = self.tokens[self.at - 1][1] if self.at and self.tokens else 0
        line = self.text.count("\n", 0, place) + 1
        return UserError(what, f"line {line}", "see tapeout.ir.kernel_text for the form")

    @property
    def ahead(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        if not self.ahead:
            raise self.fail("the text ends early")
        self.at += 1
        return self.tokens[self.at - 1][0]

    def took(self, wanted: str) -> bool:
        found = self.ahead == wanted
        self.at += found
        return found

    def expect(self, *wanted: str) -> None:
        for token in wanted:
            if (found := self.next()) != token:
                raise self.fail(f"`{found}` where `{token}` should be")

    def end(self) -> None:
        if self.ahead:
            raise self.fail(f"`{self.next()}` after the end")

    def number(self) -> int:
        return self._read(int, "a whole number")

    def real(self) -> float:
        return self._read(float, "a number")

    def dtype(self) -> DType:
        return self._read(DType, "an element type")

    def _read(self, kind: Callable[[str], T], what: str) -> T:
        token = self.next()
        try:
            return kind(token)
        except ValueError:
            raise self.fail(f"`{token}` where {what} should be") from None

    def word(self) -> str:
        token = self.next()
        return str(json.loads(token)) if token.startswith('"') else token

    def items(self, item: Callable[[], T], begin: str = "(", end: str = ")") -> tuple[T, ...]:
        """`item, item, ..` between `begin` and `end`."""
        self.expect(begin)
        found: list[T] = []
        while not self.took(end):
            if found:
                self.expect(",")
            found.append(item())
        return tuple(found)

    def known(self, table: Mapping[str, T], what: str) -> T:
        name = self.word()
        if name not in table:
            raise self.fail(f"{what} `{name}` is not defined")
        return table[name]

    # ---- structure

    def kernels(self) -> tuple[k.KernelSpec, ...]:
        self.declare()
        found: list[k.KernelSpec] = []
        while self.took("kernel"):
            found.append(self.kernel())
        self.end()
        return tuple(found)

    def declare(self) -> None:
        while self.took("buffer"):
            name = self.word()
            self.expect(":")
            dtype, shape, role, data = self.dtype(), self.items(self.number), self.word(), None
            if self.ahead.startswith("@"):
                digest = self.next()[1:]
                if digest not in self.arrays:
                    raise self.fail(f"no array @{digest} was given")
                data = self.arrays[digest]
            order = self.items(self.number) if self.took("order") else None
            part = self.number() if self.took("part") else -1
            space = self.number() if self.took("space") else 0
            packing = self.packing(shape) if self.took("tiles") else None
            self.buffers.append(k.Buffer(name, dtype, shape, role, data, order, part, space, packing))

    def packing(self, shape: tuple[int, ...]) -> k.Packing:
        tile = self.items(self.number)
        self.expect("of")
        extents = self.items(self.number)
        self.expect("step")
        strides = self.items(self.number)
        self.expect("at")
        offset = self.number()
        self.expect("fill")
        return k.Packing(extents, strides, offset, tile, shape[-1], self.real())

    def kernel(self) -> k.KernelSpec:
        name = self.word()
        self.expect("{", "axes")
        self.axes, self.tiles = {}, {}
        held: dict[str, set[k.Axis]] = {kind: set() for kind in _CLASSES.values()}
        while self.at + 1 < len(self.tokens) and self.tokens[self.at + 1][0] == "=":
            axis = k.Axis(self.word(), self._extent())
            self.axes[axis.name] = axis
            while self.ahead in _CLASSES:
                held[_CLASSES[self.next()]].add(axis)
        ops: list[k.KernelOp] = []
        while not self.took("}"):
            ops.append(self.op())
        sets = {kind: frozenset(axes) for kind, axes in held.items()}
        return k.KernelSpec(name, tuple(ops), tuple(self.axes.values()), **sets)

    def _extent(self) -> int:
        self.expect("=")
        return self.number()

    def op(self) -> k.KernelOp:
        if self.took("store"):
            access = self.access()
            add = self.took("+=")
            if not add:
                self.expect("=")
            return k.StoreTile(self.tile(), access, add)
        name = self.word()
        self.expect(":")
        out = k.Tile(name, self.dtype(), self.items(self.index, "[", "]"))
        self.expect("=")
        op = self.computed(out, self.next())
        self.tiles[name] = out
        return op

    def computed(self, out: k.Tile, kind: str) -> k.KernelOp:
        match kind:
            case "load":
                return k.LoadTile(out, self.access())
            case "contract":
                self.expect("over")
                reduce = self.items(self.axis)
                pairs = [self.pair()]
                while self.took("+"):
                    pairs.append(self.pair())
                vector = self.took("on")
                if vector:
                    self.expect("vector")
                return k.Contract(out, tuple(pairs), reduce, vector, self.source())
            case "map":
                fn = self.word()
                srcs = self.items(self.operand)
                along = self.axis() if self.took("along") else None
                return k.Map(out, fn, srcs, self.source(), along)
            case "fold":
                fn = self.word()
                self.expect("over")
                reduce = self.items(self.axis)
                return k.Fold(out, fn, self.tile(), reduce, self.source())
            case _:
                raise self.fail(f"`{kind}` is no kernel op")

    # ---- operands

    def tile(self) -> k.Tile:
        return self.known(self.tiles, "tile")

    def axis(self) -> k.Axis:
        return self.known(self.axes, "axis")

    def pair(self) -> tuple[k.Tile, k.Tile]:
        a = self.tile()
        self.expect("*")
        return a, self.tile()

    def operand(self) -> k.Tile | float:
        if re.match(r"-?\d|-?inf$|nan$", self.ahead):
            return self.real()
        return self.tile()

    def source(self) -> str:
        return self.word() if self.took("//") else ""

    def index(self) -> k.DimIndex:
        terms: list[tuple[k.Axis, int]] = []
        offset = 0
        while True:
            if re.fullmatch(r"-?\d+", self.ahead):
                number = self.number()
                if self.took("*"):
                    terms.append((self.axis(), number))
                else:
                    offset = number
            else:
                terms.append((self.axis(), 1))
            if not self.took("+") and not re.fullmatch(r"-\d+", self.ahead):
                return k.DimIndex(tuple(terms), offset)

    def buffer(self) -> k.Buffer:
        token = self.word()
        if re.fullmatch(r"\$\d+", token) and int(token[1:]) < len(self.buffers):
            return self.buffers[int(token[1:])]
        found = [b for b in self.buffers if b.name == token]
        if len(found) != 1:
            raise self.fail(f"{len(found)} buffers are called `{token}`")
        return found[0]

    def access(self) -> k.Access:
        buffer = self.buffer()
        gathers: list[tuple[int, k.Tile]] = []
        dims: list[tuple[k.DimIndex, int]] = []

        def dim() -> None:
            index = self.index()
            self.expect("<")
            dims.append((index, self.number()))
            if self.took("by"):
                gathers.append((len(dims) - 1, self.tile()))

        self.items(dim, "[", "]")
        self.expect("at")
        offset = self.number()
        self.expect("step")
        strides = self.items(self.number)
        fill = self.real() if self.took("fill") else 0.0
        taken = self.dtype() if self.took("as") else None
        gather = gathers[0] if gathers else None
        index, extents = tuple(i for i, _ in dims), tuple(n for _, n in dims)
        return k.Access(buffer, extents, strides, offset, index, fill, gather, taken)
