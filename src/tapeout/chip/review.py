"""What `tapeout chips check` and `tapeout chips new` do: everything that is wrong with a chip file, what is doubtful
in a good one, and a complete file to start from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tapeout.chip.load import read_chip, read_table, read_text
from tapeout.chip.sources import KINDS, NO_SOURCE, kind_of, leaves, match, source_of
from tapeout.chip.spec import Chip
from tapeout.errors import InvalidChip, UserError

TEMPLATE = Path(__file__).parent / "template.toml"


@dataclass(frozen=True, slots=True)
class Review:
    """A chip, all that is wrong with it, what else its author should know, and the source of every number that has
    one. Where anything is wrong, the chip has placeholders and the rest is empty."""

    chip: Chip
    problems: tuple[InvalidChip, ...]
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict[str, str])


def review(name_or_path: str | Path) -> Review:
    """Looks at a preset or a chip file. `InvalidChip` when there is none."""
    origin, text = str(name_or_path), read_text(name_or_path, "chips check")
    chip, table, problems = read_chip(text, origin)
    if problems:
        return Review(chip, tuple(problems))
    own = cast("dict[str, str]", read_table(text, origin).get("sources", {}))
    warnings = (*_unsourced(chip, table), *_odd_sources(own, table), *_peaks(chip), *_ports(chip), *_under_way(chip))
    found = {leaf: source for leaf in leaves(table) if (source := source_of(leaf, chip.sources)) is not None}
    return Review(chip, (), warnings, found)


def write_template(path: Path) -> None:
    """A complete chip with a comment beside each leaf. `UserError` when there is such a file already."""
    name = path.name.removesuffix(".toml").encode("utf-8", "replace").decode()
    text = TEMPLATE.read_text(encoding="utf-8").replace('"NAME"', json.dumps(name, ensure_ascii=False))
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UserError("there is such a file", str(path), "give a new name") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot write ({reason})", str(path), "give a path in a folder that exists") from None


def _unsourced(chip: Chip, table: dict[str, Any]) -> Iterator[str]:
    lacking: dict[str, list[str]] = {}
    for leaf in leaves(table):
        said = chip.sources.get(leaf, "")
        if said.startswith(NO_SOURCE):
            yield f"{leaf}: no source; {said.partition(': ')[2]}"
        elif source_of(leaf, chip.sources) is None:
            top, _, rest = leaf.partition(".")
            lacking.setdefault(top, []).append(rest)
    for top, rest in lacking.items():
        yield f"{top}: no source" + (f" for {', '.join(rest)}" if any(rest) else "")


def _odd_sources(own: dict[str, str], table: dict[str, Any]) -> Iterator[str]:
    given = list(leaves(table))
    for pattern, text in own.items():
        if not any(match(leaf, [pattern]) for leaf in given):
            yield f"sources: `{pattern}` names no number of this chip"
        if kind_of(text) not in KINDS:
            yield f"sources: `{pattern}` does not begin with one of {', '.join(KINDS)}"


def _peaks(chip: Chip) -> Iterator[str]:
    for dtype, tops in chip.advertised_tops.items():
        derived = chip.peak_ops_per_s(dtype) / 1e12
        if abs(derived - tops) > 0.03 * tops:
            why = chip.why_not_advertised
            yield f"advertised_tops.{dtype}: {tops:g}, but {derived:.4g} by the parts; the file says: {why}"


def _under_way(chip: Chip) -> Iterator[str]:
    """A DMA engine that waits for its own bursts before it has used the rate that it has, where that is assumed."""
    if kind_of(source_of("dma.outstanding_bursts", chip.sources) or "assumed") != "assumed":
        return
    latency = chip.dram_way_cycles
    rate, wanted = chip.dma_bytes_per_cycle(latency), min(chip.dma.bytes_per_cycle, chip.dram_bytes_per_cycle)
    if wanted and rate < 0.8 * wanted:
        yield (
            f"dma.outstanding_bursts: {chip.dma.outstanding_bursts} of {chip.dma.burst_bytes} bytes, over {latency} "
            f"cycles to DRAM, are {rate:.3g} bytes a cycle and core, of {wanted:.4g}"
        )


def _ports(chip: Chip) -> Iterator[str]:
    """Operands that stream all the time, from memories whose ports are narrower than the array takes them."""
    streaming = {"weight": "a", "output": "ab"}.get(chip.matrix.stationary, "b")
    for dtype, kind in chip.matrix.geometry.items():
        element_bits = int(re.findall(r"\d+", dtype)[0])
        for role in streaming:
            memory = chip.memories[chip.memory_for(role)]
            wanted = (kind.m0 if role == "a" else kind.n0) * kind.k0 * element_bits / 8
            if wanted > memory.bytes_per_cycle:
                yield (
                    f"matrix.geometry.{dtype}: takes {wanted:g} bytes of operand {role} a cycle, "
                    f"memories.{memory.name} brings {memory.bytes_per_cycle}; the array will wait"
                )
