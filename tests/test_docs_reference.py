"""The reference pages name everything that there is: each leaf of a chip file, each command and vector operation."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeout.chip import spec
from tapeout.chip.load import PRESETS, presets
from tapeout.chip.sources import NOT_NUMBERS
from tapeout.isa import commands as c

DOCS = Path(__file__).parents[1] / "docs"


def leaves(kind: type, path: str = "") -> Iterator[str]:
    """The leaves of a record, with NAME and TYPE for keys that authors choose."""
    hints = typing.get_type_hints(kind, vars(spec))
    for field in dataclasses.fields(kind):
        hint, inner = hints[field.name], typing.get_args(hints[field.name])
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{path}{field.name}.")
        elif inner and dataclasses.is_dataclass(inner[0]):
            yield from (
                leaf for leaf in leaves(inner[0], f"{path}{field.name}.NAME.") if not leaf.endswith("NAME.name")
            )
        elif len(inner) == 2 and dataclasses.is_dataclass(inner[1]):
            yield from leaves(inner[1], f"{path}{field.name}.TYPE.")
        else:
            yield f"{path}{field.name}"


def test_every_leaf_of_a_chip() -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", (DOCS / "chips.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(leaves(spec.Chip))


def given(table: dict[str, object], path: str = "") -> Iterator[str]:
    """The leaves that a chip file gives."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from given(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


@pytest.mark.parametrize("name", presets())
def test_every_number_of_a_preset_has_its_source(name: str) -> None:
    table = tomllib.loads((PRESETS / f"{name}.toml").read_text())
    sources = table.pop("sources")
    unsourced = [
        leaf for leaf in given(table) if leaf not in NOT_NUMBERS and not any(fnmatch.fnmatch(leaf, p) for p in sources)
    ]
    assert unsourced == []
    assert all(re.match("datasheet|driver|paper|press|derived|assumed", text) for text in sources.values())


def test_every_command_and_operation() -> None:
    page = (DOCS / "isa.md").read_text()
    rows = set(re.findall(r"`(\w+)`", page))
    assert {kind.__name__ for kind in c.OPCODES} <= rows
    assert set(c.VECTOR_OPS) <= rows
    assert {queue.name for queue in c.Queue} <= rows
    special = re.search(r"Special functions \(`([^`]+)`\)", page)
    assert special is not None
    assert set(special[1].split()) == c.VECTOR_SPECIAL
