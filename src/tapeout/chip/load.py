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

from tapeout.chip import spec
from tapeout.errors import InvalidChip

PRESETS = Path(__file__).parent / "presets"

_SCALE = {
    "bytes": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "hz": {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "bytes_per_s": {"B/s": 1, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12},
    "s": {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
}
_MAY_BE_ZERO = re.compile(r"cycles$|^tdp_w$|_mm2$|_nm$|transistors|price|latency|_pj|^zero$|^bytes_per_cycle$")


def _unit_of(key: str) -> str | None:
    for unit in ("bytes_per_s", "bytes_per_cycle", "bytes", "hz", "s"):
        if key == unit or key.endswith("_" + unit):
            return unit
    return None


class _Reader:
    """Turns tables into the records of `spec`, collecting where in the file it is for messages."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def fail(self, what: str, path: str, action: str) -> InvalidChip:
        return InvalidChip(what, f"{path} in {self.origin}" if path else self.origin, action)

    def number(self, value: Any, key: str, path: str, kind: type) -> Any:
        if isinstance(value, str):
            unit = _unit_of(key)
            match = re.fullmatch(r"([0-9.eE+_]+)\s*([A-Za-z/]+)", value.strip())
            scale = _SCALE.get(unit or "", {})
            if match is None or match[2] not in scale:
                units = ", ".join(scale) or "none: write a plain number"
                raise self.fail(f"bad unit in {value!r}", path, f"use one of {units}")
            value = float(match[1]) * scale[match[2]]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(f"{value!r} is not a number", path, "write a finite number")
        if value < 0 or (value == 0 and not _MAY_BE_ZERO.search(key)):
            raise self.fail(f"{value} must be positive", path, "write a number greater than 0")
        if kind is int:
            if value != int(value):
                raise self.fail(f"{value} must be a whole number", path, "write an integer")
            return int(value)
        return float(value)

    def leaf(self, value: Any, key: str, path: str, annotation: Any) -> Any:
        if annotation in (int, float):
            return self.number(value, key, path, annotation)
        if annotation is bool or annotation is str:
            if not isinstance(value, annotation):
                raise self.fail(f"{value!r} is not a {annotation.__name__}", path, f"write a {annotation.__name__}")
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
            return tuple(
                self.record(arguments[0], {"name": n, **self._table(t, f"{path}.{n}")}, f"{path}.{n}")
                for n, t in table.items()
            )
        if origin is dict:
            return {
                n: self.leaf(v, n if arguments[1] is not float else key, f"{path}.{n}", arguments[1])
                for n, v in table.items()
            }
        return self.record(annotation, table, path)

    def _table(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(f"{value!r} is not a table", path, "write a [table]")
        return typing.cast("dict[str, Any]", value)

    def record(self, kind: Any, table: dict[str, Any], path: str) -> Any:
        hints = _hints(kind)
        for key in table:
            if key not in hints:
                near = difflib.get_close_matches(key, hints, 1, 0.5)
                action = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(hints)}"
                raise self.fail(f"unknown key `{key}`", path, action)
        leaves = {k: self.leaf(v, k, f"{path}.{k}".lstrip("."), hints[k]) for k, v in table.items()}
        for f in dataclasses.fields(kind):
            required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if required and f.name not in table:
                raise self.fail(f"missing key `{f.name}`", path, "add it")
        return kind(**leaves)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, {**vars(spec), **vars(types)})


def _check(chip: spec.Chip, origin: str) -> None:
    """Relations between leaves."""
    fail = _Reader(origin).fail
    if not chip.memories:
        raise fail("no local memory", "memories", "add [memories.NAME]")
    for m in chip.memories:
        wrong = [r for r in m.reach if r not in spec.ROLES]
        if wrong:
            raise fail(f"unknown role `{wrong[0]}`", f"memories.{m.name}.reach", f"roles are {', '.join(spec.ROLES)}")
        if m.alignment_bytes & (m.alignment_bytes - 1):
            raise fail(
                f"{m.alignment_bytes} is not a power of two", f"memories.{m.name}.alignment_bytes", "use 1, 2, 4, ..."
            )
    needed = spec.ROLES if chip.matrix.geometry else ("ld", "st", "mv", "ve")
    for role in needed:
        if not any(role in m.reach for m in chip.memories):
            raise fail(f"no memory serves role `{role}`", "memories", f'add "{role}" to the reach of one')
    if not any({"ld", "st", "ve"} <= set(m.reach) for m in chip.memories):
        raise fail("no memory serves ld, st and ve together", "memories", "the vector unit's memory needs all three")
    for name in chip.matrix.geometry:
        if name not in spec.ELEMENT_TYPES:
            raise fail(f"unknown element type `{name}`", "matrix.geometry", "use i8, i16, f16, bf16, f32, ...")
    if chip.matrix.stationary not in ("weight", "output", "input", "none"):
        raise fail(
            f"unknown stationary operand `{chip.matrix.stationary}`",
            "matrix.stationary",
            "use weight, output, input or none",
        )
    if missing := [c for c in ("f32", "i32") if c not in chip.vector.lanes]:
        raise fail(f"no lanes for {missing[0]}", "vector.lanes", "the vector unit computes at least f32 and i32")
    for s in chip.shared:
        if s.scope not in ("cluster", "chip") or s.managed not in ("software", "hardware"):
            raise fail("scope is cluster or chip, managed is software or hardware", f"shared.{s.name}", "correct it")
    for dtype, tops in chip.advertised_tops.items():
        derived = chip.peak_ops_per_s(dtype) / 1e12
        if abs(derived - tops) > 0.03 * tops and not chip.why_not_advertised:
            raise fail(
                f"{dtype} peak is {derived:.4g} TOPS by its parts but {tops} advertised",
                "advertised_tops",
                "correct one or say `why_not_advertised`",
            )


def presets() -> tuple[str, ...]:
    """Names of the built-in chips."""
    return tuple(sorted(p.stem for p in PRESETS.glob("*.toml")))


def parse_chip(text: str, origin: str) -> spec.Chip:
    """A chip from TOML text; `origin` names it in messages. `InvalidChip` when anything is wrong."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidChip(f"not a TOML file: {error}", origin, "correct the syntax") from None
    chip = _Reader(origin).record(spec.Chip, {"name": Path(origin).stem, **table}, "")
    _check(chip, origin)
    return chip


def load_chip(name_or_path: str | Path) -> spec.Chip:
    """A preset by name, or a chip file by path. `InvalidChip` when there is none or it is wrong."""
    path = PRESETS / f"{name_or_path}.toml"
    if not path.is_file() or Path(name_or_path).suffix:
        path = Path(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = difflib.get_close_matches(str(name_or_path), presets(), 1)
        action = f"did you mean `{near[0]}`?" if near else f"presets: {', '.join(presets())}"
        reason = "is not text" if isinstance(error, UnicodeDecodeError) else "is neither a preset nor a readable file"
        raise InvalidChip(f"`{name_or_path}` {reason}", "--chip", action) from None
    return parse_chip(text, str(name_or_path))
