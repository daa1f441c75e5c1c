"""Where a chip file's numbers are from: its leaves, the source that counts for each, and what `extends` does to both.

A file that extends another gives what differs. What `without` lists is left out of the base, then tables merge key by
key, everything else replaces. A number that the file gives may not keep the source of the one that it replaces, so
sources are resolved leaf by leaf, file by file.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

Table = dict[str, Any]

NOT_NUMBERS = ("name", "description", "extends", "without", "why_not_advertised", "sources")
"""Top-level keys that need no source: they are words about the chip."""

KINDS = ("datasheet", "driver", "paper", "press", "derived", "assumed")
"""How sure a source is, from the maker's own number to one that had to be made up."""

NO_SOURCE = "none"
"""First word of the entry that stands for a replaced number without a source of its own."""


@dataclass(frozen=True, slots=True)
class File:
    """A parsed chip file and where it is from."""

    origin: str
    table: Table


def leaves(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths of the numbers (and words that stand for one) that a chip file gives."""
    for key, value in table.items():
        if not path and key in NOT_NUMBERS:
            continue
        if isinstance(value, dict):
            yield from leaves(cast("Table", value), f"{path}{key}.")
        else:
            yield f"{path}{key}"


def match(leaf: str, patterns: Iterable[str]) -> str | None:
    """The pattern that counts for a leaf: the leaf itself, else the one with the most letters that are not wild."""
    found = [p for p in patterns if p == leaf or fnmatch.fnmatchcase(leaf, p)]
    return max(found, key=lambda p: (p == leaf, len(re.sub(r"[*?\[\]]", "", p))), default=None)


def source_of(leaf: str, sources: Mapping[str, str]) -> str | None:
    """What `sources` says about a leaf, `None` where it says nothing."""
    pattern = match(leaf, sources)
    text = None if pattern is None else sources[pattern]
    return None if text is None or text.startswith(NO_SOURCE) else text


def kind_of(source: str) -> str:
    """The first word of a source: how sure it is."""
    return next(iter(re.findall(r"\w+", source)), "")


def merged(files: list[File]) -> Table:
    """One table out of a file and those that it extends, the file itself first."""
    own, bases = files[0], files[1:]
    if not bases:
        return own.table
    table: Table = {}
    for file in reversed(files):
        for path in cast("list[str]", file.table.get("without", [])):
            table = _less(table, path.split("."))
        table = _over(table, file.table)
    for key in ("extends", "without", "name", "description", "sources"):  # words about the base
        table.pop(key, None)
    table |= {key: own.table[key] for key in ("name", "description") if key in own.table}
    table.setdefault("description", f"{bases[0].origin} with changes")
    table["sources"] = _resolved(table, files)
    return table


def holds(table: Table, path: str) -> bool:
    """Whether there is a leaf or a table at a dotted path."""
    found: Any = table
    for key in path.split("."):
        if not isinstance(found, dict) or key not in found:
            return False
        found = cast("Table", found)[key]
    return True


def _less(table: Table, path: list[str]) -> Table:
    """`table` without what is at `path`."""
    rest = dict(table)
    inner = rest.pop(path[0], None)
    if len(path) > 1 and isinstance(inner, dict):
        rest[path[0]] = _less(cast("Table", inner), path[1:])
    return rest


def _over(base: Table, own: Table) -> Table:
    """`own` over `base`: tables merge, everything else replaces."""
    result = dict(base)
    for key, value in own.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = _over(cast("Table", old), cast("Table", value)) if both else value
    return result


def _resolved(table: Table, files: list[File]) -> dict[str, str]:
    """The source of every leaf. Going from the file to its bases, the first that says something about a leaf counts;
    a file that gives the leaf and says nothing ends the walk."""
    given = [set(leaves(f.table)) for f in files]
    said = [cast("dict[str, str]", f.table.get("sources", {})) for f in files]
    found: dict[str, str] = {}
    for leaf in leaves(table):
        for number, file in enumerate(files):
            text = source_of(leaf, said[number])
            if text is not None:
                found[leaf] = text
                break
            if leaf in given[number]:
                if number < len(files) - 1 and any(leaf in g for g in given[number + 1 :]):
                    found[leaf] = f"{NO_SOURCE}: {file.origin} replaces the number and gives no source of its own"
                break
    return found
