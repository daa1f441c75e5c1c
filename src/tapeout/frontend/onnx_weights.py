"""ONNX files without the bytes of their large weights: these stay in the file, as external data do.

Protocol buffers are read whole or not at all. So the file is walked by its wire format (a message is a list of fields,
each a tag, and a number or a length with that many bytes), and of large initialisers what is left is where they lie.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LARGE_BYTES = 1 << 20
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Field numbers of ModelProto, GraphProto and TensorProto (onnx.proto)."""
EXTERNAL_DATA, DATA_LOCATION, KEY, VALUE = 13, 14, 1, 2
"""Of TensorProto and StringStringEntryProto."""
NUMBER, FIXED64, BYTES = 0, 1, 2
"""Wire types."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message in the file: all of it is [begin, end), its contents begin at `start`."""

    number: int
    kind: int
    begin: int
    start: int
    end: int


def light_model(path: Path) -> bytes:
    """The file's message, with large initialisers as external data that lie in the file itself.

    `OSError` where it cannot be read. What is no such message comes back as it is.
    """
    with path.open("rb") as file:
        if path.stat().st_size < LARGE_BYTES:
            return file.read()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return b"".join(_model(data, path.name))
            except ValueError:
                return data[:]


def _model(data: mmap.mmap, name: str) -> Iterator[bytes]:
    for field in _fields(data, 0, len(data)):
        if (field.number, field.kind) == (GRAPH, BYTES):
            yield _message(GRAPH, b"".join(_graph(data, field, name)))
        else:
            yield data[field.begin : field.end]


def _graph(data: mmap.mmap, graph: Field, name: str) -> Iterator[bytes]:
    for field in _fields(data, graph.start, graph.end):
        large = field.end - field.start >= LARGE_BYTES
        if large and (field.number, field.kind) == (INITIALIZER, BYTES):
            yield _message(INITIALIZER, b"".join(_tensor(data, field, name)))
        else:
            yield data[field.begin : field.end]


def _tensor(data: mmap.mmap, tensor: Field, name: str) -> Iterator[bytes]:
    for field in _fields(data, tensor.start, tensor.end):
        if (field.number, field.kind) != (RAW_DATA, BYTES) or field.end - field.start < LARGE_BYTES:
            yield data[field.begin : field.end]
            continue
        place = {"location": name, "offset": str(field.start), "length": str(field.end - field.start)}
        for key, value in place.items():
            yield _message(EXTERNAL_DATA, _message(KEY, key.encode()) + _message(VALUE, value.encode()))
        yield _varint(DATA_LOCATION << 3 | NUMBER) + _varint(1)


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[Field]:
    """The fields of a message; `ValueError` where it is none."""
    while begin < end:
        tag, start = _number(data, begin, end)
        kind = tag & 7
        stop = start
        match kind:
            case 0:
                _, stop = _number(data, start, end)
            case 1 | 5:
                stop += 8 if kind == FIXED64 else 4
            case 2:
                length, start = _number(data, start, end)
                stop = start + length
            case _:
                raise ValueError("no wire type")
        if stop > end:
            raise ValueError("the message is cut")
        yield Field(tag >> 3, kind, begin, start, stop)
        begin = stop


def _number(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _message(number: int, contents: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(contents)) + contents
