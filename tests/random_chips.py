"""Random chips: whole ones of any kind of parts, and presets of which a few numbers differ, as chip files.

`pick` chooses one of a list: Hypothesis in tests (`strategies.chips`), a seeded generator in
`benchmarks/random_runs.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tapeout.chip import spec
from tapeout.chip.load import load_chip, presets

Pick = Callable[[Sequence[Any]], Any]

LAYOUTS: dict[str, dict[str, tuple[str, ...]]] = {
    "one": {"pad": spec.ROLES},
    "weights": {"nram": ("ld", "st", "mv", "a", "c", "ve"), "wram": ("ld", "mv", "b")},
    "accumulators": {"pad": ("ld", "st", "mv", "a", "b", "ve"), "acc": ("mv", "c")},
    "seen accumulators": {"pad": ("ld", "st", "mv", "a", "b", "ve"), "acc": ("mv", "c", "ve")},
    "apart": {
        "vmem": ("ld", "st", "mv", "ve"), "amem": ("ld", "mv", "a"), "bmem": ("ld", "mv", "b"), "acc": ("mv", "c")
    },
    "moved": {"vmem": ("ld", "st", "mv", "ve", "c"), "feed": ("mv", "a", "b")},
}  # fmt: skip
"""Local memories with who reaches them: all in one, or operands and accumulators in memories of their own."""

SMALL_ARRAYS = ((1, 4, 3), (1, 5, 8), (3, 16, 16), (4, 5, 3), (4, 4, 16))
ARRAYS = (*SMALL_ARRAYS, (1, 8, 8), (1, 24, 40), (1, 40, 24), (16, 16, 16), (1, 128, 128), (1, 256, 256), (8, 16, 4))
"""Rows, columns and depth of the matrix unit."""
CORES = (1, 1, 2, 3, 4, 6, 7, 12, 108)


def _memories(pick: Pick, layout: str, small: bool) -> tuple[spec.Memory, ...]:
    sizes = (2048, 6000, 40000, 1 << 20) if small else (4096, 8192, 16384, 40000, 100_000, 1 << 20, 24 << 20)
    rates = (16, 96, 512)
    return tuple(
        spec.Memory(name, pick(sizes), pick(rates), roles, pick((1, 64, 64, 256, 4096)))
        for name, roles in LAYOUTS[layout].items()
    )


def _geometry(pick: Pick, small: bool) -> dict[str, spec.Geometry]:
    """Of some element types, or none; wider types have the same array or half of it."""
    names = [n for n in ("i4", "i8", "i16", "f16", "bf16", "tf32", "f32") if pick((False, True))]
    m0, n0, k0 = pick(SMALL_ARRAYS if small else ARRAYS)
    found: dict[str, spec.Geometry] = {}
    for name in names:
        found[name] = spec.Geometry(m0, n0, k0)
        k0 = max(1, k0 // pick((1, 1, 2)))
    return found


def whole_chip(pick: Pick, small: bool = False) -> spec.Chip:
    """A valid chip of any topology and parts. `small`: few cores with little memory, for graphs of a few elements."""
    geometry = _geometry(pick, small)
    layout = pick(tuple(LAYOUTS)) if geometry else "one"
    shared: list[spec.Shared] = []
    if pick((False, True)):
        sizes = (1 << 16, 1 << 16, 5000, 4 << 20)
        shared.append(
            spec.Shared("pool", pick(sizes), pick((0.0, 37.5, 256.0)), pick(spec.SCOPES), "software", pick((0, 3, 40)))
        )
    if pick((False, True)):
        sizes = (600, 40000, 4 << 20)
        shared.append(
            spec.Shared("cache", pick(sizes), pick((24.0, 96.0, 0.0)), pick(("cluster", "chip")), "hardware", 7)
        )
    cores, clusters, dies = pick(CORES[:5] if small else CORES), pick((1, 1, 2, 3, 8)), pick((1, 1, 1, 2))
    if small:
        clusters = min(clusters, 3)
    elif cores == 108:
        clusters, dies = 1, 1
    lanes = {"f32": pick((1, 8, 24, 64)), "i32": pick((1, 8, 24)), "i64": pick((1, 4))}
    if pick((False, True)):
        lanes |= {"f16": 2 * lanes["f32"], "bf16": 2 * lanes["f32"]}
    return spec.Chip(
        name="random",
        topology=spec.Topology(cores, pick((1e9, 0.7e9)), clusters, dies),
        memories=_memories(pick, layout, small),
        matrix=spec.Matrix(geometry, pick(spec.STATIONARY), pick((0, 8, 128)), pick((False, True)), pick((0, 9, 255))),
        vector=spec.Vector(lanes, pick((1, 4, 16)), pick((0, 16, 1000))),
        move=spec.Move(pick((4, 17, 64)), pick((0, 5))),
        dma=spec.Dma(
            pick((20.001, 32.0, 7.0, 256.0)), pick((0, 6, 60)), pick((64, 100, 512, 32, 48)), pick((1, 5, 32))
        ),
        dram=spec.Dram(
            1 << 24 if small else 1 << 30, pick((8e9, 30.7e9, 2e12)), "", pick((1, 32, 48, 64, 512)), pick((0, 9, 250)),
            pick((64, 256, 4096)), pick((False, False, True)),
        ),
        control=spec.Control(pick((1, 4)), pick((1, 2, 16)), pick((0, 5, 500))),
        cluster_port=spec.Port(pick((0.0, 20.0, 512.0)), pick((0, 2, 50))),
        die_link=spec.Port(pick((0.0, 10.0)), pick((0, 6))),
        multicast=pick((False, True)),
        shared=tuple(shared),
    )  # fmt: skip


def extreme_chip(pick: Pick) -> dict[str, Any]:
    """A whole chip with some numbers at the ends of what the schema allows."""
    table = chip_table(whole_chip(pick, pick((False, True))))
    names = list(table["memories"])
    for _ in range(pick((1, 2, 4, 8))):
        _merge(table, pick((
            {"dma": {"burst_bytes": pick((7, 16, 1 << 20))}},
            {"dma": {"bytes_per_cycle": pick((0.5, 1, 1e5))}},
            {"dma": {"outstanding_bursts": 1, "setup_cycles": 3000}},
            {"dram": {"granule_bytes": pick((1, 3, 96, 4096))}},
            {"dram": {"interleave_bytes": pick((1, 100, 1 << 24))}},
            {"dram": {"latency_cycles": pick((0, 5000))}},
            {"dram": {"bandwidth_bytes_per_s": pick((1e8, 1e14))}},
            {"control": {"queue_depth": 1, "issue_cycles": 0}},
            {"control": {"queue_depth": 1000, "issue_cycles": 200}},
            {"vector": {"lanes": {"f32": pick((1, 3, 4096)), "i32": pick((1, 5)), "i64": 1}}},
            {"vector": {"special_factor": 100}},
            {"move": {"drain_elements_per_cycle": pick((1, 10000))}},
            {"memories": {pick(names): {"bytes": pick((1000, 3001, 5000, 1 << 28))}}},
            {"memories": {pick(names): {"bytes_per_cycle": pick((1, 3, 10000))}}},
            {"memories": {pick(names): {"alignment_bytes": pick((1, 65536))}}},
            {"matrix": {"geometry": {
                pick(("i8", "f8e4m3", "f8e5m2", "f16", "bf16", "f32", "f64", "i32")): _array(
                    pick(((1, 1, 1), (1, 1, 64), (64, 1, 1), (1, 512, 1), (1, 37, 53)))
                )
            }}},
            {"topology": {"cores": pick((1, 5, 17, 64)), "clusters": pick((1, 2, 16)), "dies": pick((1, 3))}},
            {"cluster_port": {"bytes_per_cycle": pick((0.5, 0.0)), "latency_cycles": 2000}},
            {"shared": {f"s{n}": {
                "bytes": pick((64, 1000, 1 << 22)), "bytes_per_cycle": pick((0.5, 64)), "scope": pick(spec.SCOPES[:2]),
                "managed": pick(("software", "hardware"))
            } for n in range(pick((1, 3)))}},
        )))  # fmt: skip
    if table["matrix"]["geometry"] and not any("a" in m["reach"] for m in table["memories"].values()):
        table["matrix"]["geometry"] = {}
    return table


def changed_preset(pick: Pick) -> dict[str, Any]:
    """A chip file that extends a preset, with a few numbers of its own."""
    base = pick(presets())
    chip = load_chip(base)
    table: dict[str, Any] = {"extends": base, "why_not_advertised": "changed"}
    for _ in range(pick((1, 2, 3, 4))):
        part = pick((
            {"topology": {"cores": max(1, chip.topology.cores // 2)}},
            {"topology": {"cores": pick((1, 3, 6, 7, 12))}},
            {"topology": {"clusters": pick((1, 2, 3, 5))}},
            {"memories": {m.name: {"bytes": m.bytes * 2} for m in chip.memories}},
            {"memories": {m.name: {"bytes": max(8192, m.bytes // 8)} for m in chip.memories}},
            {"memories": {m.name: {"bytes_per_cycle": pick((32, 100, 2048))} for m in chip.memories}},
            {"matrix": {"geometry": {
                name: _array(pick(ARRAYS)) for name in chip.matrix.geometry
            }}},
            {"matrix": {"geometry": {
                pick(("i8", "f16", "bf16", "f32", "tf32", "i4")): _array(pick(ARRAYS))
            }}},
            {"matrix": {"stationary": pick(spec.STATIONARY), "load_overlapped": pick((False, True))}},
            {"dma": {"burst_bytes": pick((32, 48, 64, 512, 2048)), "bytes_per_cycle": pick((16, 100, 1024))}},
            {"dram": {"granule_bytes": pick((32, 48, 64, 512)), "bandwidth_bytes_per_s": pick((1e9, 4e12))}},
            {"dram": {"on_chip": True}},
            {"multicast": pick((False, True))},
            {"without": [f"shared.{pick([s.name for s in chip.shared])}"] if chip.shared else []},
            {"shared": {"more": {"bytes": 1 << 20, "bytes_per_cycle": 128, "scope": pick(spec.SCOPES)}}},
            {"vector": {"lanes": {"f32": pick((1, 16, 1024))}}},
            {"control": {"queue_depth": pick((1, 3, 64)), "issue_cycles": pick((1, 40))}},
        ))  # fmt: skip
        _merge(table, part)
    return table


def _array(sizes: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("m0", "n0", "k0"), sizes, strict=True))


def _merge(table: dict[str, Any], part: Mapping[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            _merge(table.setdefault(key, {}), value)
        else:
            table[key] = value


def chip_table(chip: spec.Chip) -> dict[str, Any]:
    """What a file of this chip says: every leaf."""
    table = dataclasses.asdict(chip)
    for name in ("memories", "shared", "links"):
        table[name] = {record.pop("name"): record for record in table[name]}
    return {**table, "sources": {"*": "assumed: drawn"}}


def toml(table: Mapping[str, Any], path: str = "") -> str:
    """A table as TOML."""
    leaves = [f"{k} = {json.dumps(v)}" for k, v in table.items() if not isinstance(v, Mapping)]
    inner = [(f"{path}.{_key(k)}".lstrip("."), v) for k, v in table.items() if isinstance(v, Mapping)]
    own = [f"{_key(line.split(' = ')[0])} = {line.split(' = ', 1)[1]}" for line in leaves]
    return "\n".join([*([f"[{path}]"] if path else []), *own, "", *(toml(v, p) for p, v in inner)])


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)
