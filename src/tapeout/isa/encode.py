"""Words: a program tree as one flat list of 64-bit integers, for the native executors and for files.

The encoding is structural and has no tables of its own. An int, bool or enumeration is one word; a float is the word of
its binary64 bits; a tuple is its length and then its items; an optional is 0, or 1 and the value; a dataclass is its
fields in declaration order (inherited ones first); a member of a union is its number in the union's list first.
"""

from __future__ import annotations

import dataclasses
import struct
from functools import cache
from typing import Any, cast

import numpy as np

from tapeout.errors import UserError
from tapeout.ir.types import DType
from tapeout.isa import commands as c
from tapeout.isa.operands import Affine, Immediate, Post, Tensor, Term, View, Wait

DTYPES = tuple(DType)
"""An element type's word is its position here."""
COMPUTE = ("f32", "i32", "i64")
VERSION = 1


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


def float_word(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


def _put(out: list[int], value: Any) -> None:
    match value:
        case bool() | int():
            out.append(int(value))
        case float():
            out.append(float_word(value))
        case DType():
            out.append(DTYPES.index(value))
        case str():
            out.append(c.VECTOR_OPS.index(value) if value in c.VECTOR_OPS else COMPUTE.index(value))
        case None:
            out.append(0)
        case tuple():
            out.append(len(value))  # pyright: ignore[reportUnknownArgumentType]
            for item in cast("tuple[Any, ...]", value):
                _put_item(out, item)
        case _:
            _put_fields(out, value)


def _put_item(out: list[int], item: Any) -> None:
    if type(item) in c.OPCODES:
        out.append(c.OPCODES.index(type(item)))
    elif isinstance(item, View | Immediate):
        out.append(int(isinstance(item, Immediate)))
    _put(out, item)


def _put_fields(out: list[int], value: Any) -> None:
    for name in _fields(value.__class__):
        held = getattr(value, name)
        if name in ("scale", "bias"):
            out.append(int(isinstance(held, Immediate)))
        elif name == "index":
            out.append(int(held is not None))
            if held is None:
                continue
        elif name in ("value", "lo", "hi", "fill") and not isinstance(held, Affine):
            held = float(held)
        elif name == "name":
            continue
        _put(out, held)


def encode_nodes(nodes: tuple[c.Node, ...]) -> np.ndarray:
    """The tree as int64 words: VERSION, then the tuple of nodes, each preceded by its opcode."""
    out = [VERSION]
    _put(out, nodes)
    return np.asarray(out, dtype=np.int64)


def encode_tensors(tensors: tuple[Tensor, ...]) -> np.ndarray:
    """Descriptors as int64 words, names left out."""
    out: list[int] = []
    _put(out, tensors)
    return np.asarray(out, dtype=np.int64)


class Reader:
    """Reads words back; `UserError` where they end early or make no sense."""

    def __init__(self, words: np.ndarray) -> None:
        self._words: list[int] = words.tolist()
        self._at = 0

    def word(self) -> int:
        if self._at >= len(self._words):
            raise UserError("program file ends early", f"word {self._at}", "write it again with `tapeout compile`")
        self._at += 1
        return self._words[self._at - 1]

    def _pick(self, table: tuple[Any, ...]) -> Any:
        number = self.word()
        if not 0 <= number < len(table):
            raise UserError(f"program file has a bad code {number}", f"word {self._at - 1}", "write it again")
        return table[number]

    def real(self) -> float:
        return struct.unpack("<d", struct.pack("<q", self.word()))[0]

    def dtype(self) -> DType:
        return self._pick(DTYPES)

    def ints(self) -> tuple[int, ...]:
        return tuple(self.word() for _ in range(self.word()))

    def affine(self) -> Affine:
        const = self.word()
        return Affine(const, tuple(Term(*(self.word() for _ in range(4))) for _ in range(self.word())))

    def affines(self) -> tuple[Affine, ...]:
        return tuple(self.affine() for _ in range(self.word()))

    def view(self) -> View:
        return View(self.word(), self.affine(), self.ints(), self.dtype())

    def source(self) -> View | Immediate:
        return Immediate(self.real(), self.dtype()) if self.word() else self.view()

    def waits(self) -> tuple[Wait, ...]:
        return tuple(Wait(self.word(), self.word()) for _ in range(self.word()))

    def posts(self) -> tuple[Post, ...]:
        return tuple(Post(self.word(), self.word(), bool(self.word())) for _ in range(self.word()))

    def index(self) -> c.Index | None:
        return c.Index(self.word(), self.view()) if self.word() else None

    def nodes(self) -> tuple[c.Node, ...]:
        return tuple(self._node() for _ in range(self.word()))

    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(
            Tensor("", self.word(), self.word(), self.dtype(), self.ints(), self.ints(), self.real())
            for _ in range(self.word())
        )

    def _node(self) -> c.Node:
        kind = self._pick(c.OPCODES)
        if kind is c.Loop:
            return c.Loop(self.word(), self.affine(), self.nodes())
        if kind is c.If:
            return c.If(self.affine(), self.nodes(), self.nodes())
        if kind is c.While:
            return c.While(self.affine(), self.nodes())
        if kind is c.Barrier:
            return c.Barrier(bool(self.word()), self.ints())
        if kind is c.Set:
            return c.Set(self.word(), self.affine())
        if kind is c.LoadScalar:
            return c.LoadScalar(self.word(), self.view(), self.waits())
        common: dict[str, Any] = {"waits": self.waits(), "posts": self.posts(), "kernel": self.word()}
        if kind in (c.Load, c.Store):
            head = (self.word(), self.affines(), self.ints(), self.affine(), self.view())
            return kind(*head, bool(self.word()), self.index(), **common)
        if kind is c.Copy:
            return c.Copy(self.ints(), self.view(), self.view(), **common)
        if kind is c.Drain:
            head = (self.ints(), self.view(), self.view(), self.source(), self.source())
            return c.Drain(*head, self.real(), self.real(), self.word(), **common)
        if kind is c.MatMul:
            head = (self.ints(), self.word(), self.ints(), self.view(), self.view(), self.view())
            return c.MatMul(*head, self.affine(), **common)
        if kind is c.Vector:
            head = (self._pick(c.VECTOR_OPS), self._pick(COMPUTE), self.ints(), self.view())
            srcs = tuple(self.source() for _ in range(self.word()))
            return c.Vector(*head, srcs, self.word(), self.affine(), **common)
        return c.Nop(self.word(), **common)


def decode_nodes(words: np.ndarray) -> tuple[c.Node, ...]:
    """Inverse of `encode_nodes`."""
    reader = Reader(words)
    version = reader.word()
    if version != VERSION:
        raise UserError(f"program has encoding {version}", "its first word", f"this version reads encoding {VERSION}")
    return reader.nodes()
