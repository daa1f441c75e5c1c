"""Reads chip files (TOML) and presets, checks every key, unit and number, and says exactly what is wrong."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any

from tapeout.chip import relations, spec
from tapeout.chip.sources import File, holds, merged
from tapeout.errors import InvalidChip

PRESETS = Path(__file__).parent / "presets"

_SCALE = {
    "bytes": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "hz": {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "bytes_per_s": {"B/s": 1, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12},
    "s": {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
}
_MAY_BE_ZERO = re.compile(r"cycles$|^tdp_w$|_mm2$|_nm$|transistors|price|latency|_pj|^zero$|^bytes_per_cycle$")
_QUANTITY = re.compile(r"([-+]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z/]+)")
_WORDS = {str: "a text", bool: "true or false"}
_LARGEST = 2.0**53
"""Above it numbers are no longer exact."""


def _unit_of(key: str) -> str | None:
    for unit in ("bytes_per_s", "bytes_per_cycle", "bytes", "hz", "s"):
        if key == unit or key.endswith("_" + unit):
            return unit
    return None


class _Reader:
    """Turns tables into the records of `spec`. What is wrong is collected, and a placeholder goes on in its place."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.problems: list[InvalidChip] = []
        self.wrong: set[str] = set()

    def fail(self, what: str, path: str, action: str) -> InvalidChip:
        return InvalidChip(what, f"{path} in {self.origin}" if path else self.origin, action)

    def note(self, problem: InvalidChip, path: str) -> None:
        """Keeps a problem, and where there is a placeholder now."""
        self.problems.append(problem)
        self.wrong.add(path)

    def number(self, value: Any, key: str, path: str, kind: type) -> Any:
        if isinstance(value, str):
            scale = _SCALE.get(_unit_of(key) or "", {})
            match = _QUANTITY.fullmatch(value.strip())
            if match is None or match[2] not in scale:
                units = ", ".join(scale) or "none: write a plain number"
                raise self.fail(f"bad unit in {value!r}", path, f"use one of {units}")
            value = float(match[1]) * scale[match[2]]
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(min(value, _LARGEST)):
            raise self.fail(f"{value!r} is not a number", path, "write a finite number")
        if value < 0 or (value == 0 and not _MAY_BE_ZERO.search(key)):
            raise self.fail(f"{value} must be positive", path, "write a number greater than 0")
        if kind is int:
            if value >= _LARGEST:
                raise self.fail("too large a number", path, "write one below 2^53")
            if value != int(value):
                raise self.fail(f"{value} must be a whole number", path, "write an integer")
            return int(value)
        if value > 1e30 or not math.isfinite(value):
            raise self.fail("too large a number", path, "write a finite number")
        return float(value)

    def leaf(self, value: Any, key: str, path: str, annotation: Any) -> Any:
        if annotation in (int, float):
            return self.number(value, key, path, annotation)
        if annotation is bool or annotation is str:
            if not isinstance(value, annotation):
                raise self.fail(f"{value!r} is not {_WORDS[annotation]}", path, f"write {_WORDS[annotation]}")
            return value
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is tuple and arguments[0] is str:
            if not isinstance(value, list) or not all(isinstance(v, str) for v in typing.cast("list[object]", value)):
                raise self.fail(f"{value!r} is not a list of words", path, 'write ["a", "b"]')
            return tuple(typing.cast("list[str]", value))
        if not isinstance(value, dict):
            raise self.fail(f"{value!r} is not a table", path, "write a [table]")
        table = typing.cast("dict[str, Any]", value)
        if origin is tuple:  # a table of named records
            return tuple(self.kept(t, n, f"{path}.{n}", arguments[0], named=True) for n, t in table.items())
        if origin is dict:
            return {
                n: self.kept(v, n if arguments[1] is not float else key, f"{path}.{n}", arguments[1])
                for n, v in table.items()
            }
        return self.record(annotation, table, path)

    def kept(self, value: Any, key: str, path: str, annotation: Any, named: bool = False) -> Any:
        """A leaf or a record, or a placeholder and a note where it is wrong."""
        try:
            if named:
                if not isinstance(value, dict):
                    raise self.fail(f"{value!r} is not a table", path, "write a [table]")
                return self.record(annotation, {**value, "name": key}, path)
            return self.leaf(value, key, path, annotation)
        except InvalidChip as problem:
            self.note(problem, path)
            return _placeholder(annotation)

    def record(self, kind: Any, table: dict[str, Any], path: str) -> Any:
        hints = _hints(kind)
        leaves: dict[str, Any] = {}
        meant: set[str] = set()
        for key, value in table.items():
            inner = f"{path}.{key}".lstrip(".")
            if key in hints:
                leaves[key] = self.kept(value, key, inner, hints[key])
                continue
            known = (*hints, "extends", "without") if kind is spec.Chip else hints
            near = difflib.get_close_matches(key, known, 1, 0.5)
            action = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
            self.note(self.fail(f"unknown key `{key}`", path, action), inner)
            meant.update(f"{path}.{n}".lstrip(".") for n in near)
        self.wrong |= meant
        for f in dataclasses.fields(kind):
            if f.name in leaves or not _required(f):
                continue
            inner = f"{path}.{f.name}".lstrip(".")
            if inner not in meant:
                self.note(self.fail(f"missing key `{f.name}`", path, "add it"), inner)
            leaves[f.name] = _placeholder(hints[f.name])
        return kind(**leaves)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, {**vars(spec), **vars(types)})


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _placeholder(annotation: Any) -> Any:
    """Something of the right type where a leaf is wrong, so that the rest can still be looked at."""
    if dataclasses.is_dataclass(annotation):
        hints = _hints(annotation)
        return typing.cast("Any", annotation)(
            **{f.name: _placeholder(hints[f.name]) for f in dataclasses.fields(annotation) if _required(f)}
        )
    kind = typing.get_origin(annotation) or annotation
    return kind(1) if kind in (int, float) else kind()


def presets() -> tuple[str, ...]:
    """Names of the built-in chips."""
    return tuple(sorted(p.stem for p in PRESETS.glob("*.toml")))


def read_chip(text: str, origin: str) -> tuple[spec.Chip, dict[str, Any], list[InvalidChip]]:
    """A chip, its table after `extends`, and everything that is wrong with it; where anything is, the chip has
    placeholders. What a file extends has to be right by itself."""
    try:
        files = _files(text, origin)
    except InvalidChip as problem:
        return _placeholder(spec.Chip), {}, [problem]
    for first in reversed(range(1, len(files))):
        found = _read(files[first:])
        if found[2]:
            return found
    return _read(files)


def _read(files: list[File]) -> tuple[spec.Chip, dict[str, Any], list[InvalidChip]]:
    own = files[0]
    reader = _Reader(own.origin)
    table = merged(files)
    for path in own.table["without"] if "without" in own.table and len(files) > 1 else ():
        if not holds(merged(files[1:]), path):
            what = f"`{files[1].origin}` has no `{path}`"
            reader.problems.append(reader.fail(what, "without", "correct it or leave it out"))
    chip = reader.record(spec.Chip, {"name": Path(own.origin).name.removesuffix(".toml"), **table}, "")
    for what, path, action in relations.problems(chip, reader.wrong):
        reader.problems.append(reader.fail(what, path, action))
    return chip, table, reader.problems


def parse_chip(text: str, origin: str) -> spec.Chip:
    """A chip from TOML text; `origin` names it in messages. `InvalidChip` when anything is wrong: the first thing, and
    how many more there are."""
    chip, _, problems = read_chip(text, origin)
    if len(problems) > 1:
        first = problems[0]
        more = f"{first.action} ({len(problems) - 1} more: tapeout chips check {origin})"
        raise InvalidChip(first.what, first.where, more)
    if problems:
        raise problems[0]
    return chip


def load_chip(name_or_path: str | Path) -> spec.Chip:
    """A preset by name, or a chip file by path. `InvalidChip` when there is none or it is wrong."""
    return parse_chip(read_text(name_or_path), str(name_or_path))


def read_text(name_or_path: str | Path, where: str = "--chip") -> str:
    """The text of a preset or chip file. `InvalidChip` when there is none."""
    path = PRESETS / f"{name_or_path}.toml"
    if Path(name_or_path).name != str(name_or_path) or not path.is_file():
        path = Path(name_or_path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        near = difflib.get_close_matches(Path(name_or_path).name, presets(), 1)
        action = f"did you mean `{near[0]}`?" if near else f"presets: {', '.join(presets())}"
        reason = "is not text" if isinstance(error, UnicodeDecodeError) else "is neither a preset nor a readable file"
        raise InvalidChip(f"`{name_or_path}` {reason}", where, action) from None


def read_table(text: str, origin: str) -> dict[str, Any]:
    """What a chip file itself says. `InvalidChip` when it is no TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidChip(f"not a TOML file: {error}", origin, "correct the syntax") from None


def _files(text: str, origin: str) -> list[File]:
    """A file and those that it extends, itself first."""
    files = [File(origin, read_table(text, origin))]
    seen = {_place(origin)}
    while "extends" in files[-1].table:
        own, table = files[-1].origin, files[-1].table
        where, base, without = f"extends in {own}", table["extends"], table.get("without", [])
        if not isinstance(base, str):
            raise InvalidChip(f"{base!r} is not a word", where, "write a preset's name or a file's path")
        if not isinstance(without, list) or not all(isinstance(w, str) for w in typing.cast("Any", without)):
            raise InvalidChip("it is not a list of words", f"without in {own}", 'write ["dram.kind", "links"]')
        sources = table.get("sources", {})
        if not isinstance(sources, dict) or not all(isinstance(s, str) for s in typing.cast("Any", sources).values()):
            raise InvalidChip("it is not a table of texts", f"sources in {own}", 'write "LEAF" = "KIND: PLACE"')
        if base not in presets():
            base = str(Path(own).parent / base)
        if _place(base) in seen:
            raise InvalidChip(f"`{base}` extends itself", where, "leave one `extends` out")
        seen.add(_place(base))
        files.append(File(base, read_table(read_text(base, where), base)))
    return files


def _place(origin: str) -> Path:
    """One path for each file, however it is spelt."""
    return Path(origin).resolve() if origin not in presets() else PRESETS / f"{origin}.toml"
