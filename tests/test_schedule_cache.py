"""The schedule cache: the same schedules with and without, whatever happened to its files."""

import dataclasses
from pathlib import Path

import pytest

from tapeout.chip.load import load_chip
from tapeout.compiler.canonicalize import canonicalize
from tapeout.compiler.pipeline import plan_kernels
from tapeout.compiler.schedule import Schedule
from tapeout.compiler.schedule_cache import ScheduleCache, cache_folder
from tapeout.ir import graph as g
from tapeout.ir.bind import bind_graph
from tapeout.models import build
from tapeout.runtime.model import load

CHIP = load_chip("systolic-128")


@pytest.fixture(scope="module")
def graph() -> g.Graph:
    return canonicalize(
        bind_graph(load(build("gpt2", layers=1, width=64, heads=2, vocabulary=100))[0], {"sequence": 9})
    )


@pytest.fixture
def folder(tmp_path: Path, graph: g.Graph) -> Path:
    """A cache that has all schedules of the graph."""
    planned(graph, ScheduleCache(tmp_path, CHIP))
    return tmp_path


def planned(graph: g.Graph, cache: ScheduleCache | None) -> list[tuple[object, ...]]:
    def plain(s: Schedule) -> tuple[object, ...]:
        tile = tuple((a.name, n) for a, n in s.tile.items())
        return (tile, tuple((a.name, n) for a, n in s.spread), tuple(a.name for a in s.order), s.depth, s.cycles)

    return [plain(s) for s in plan_kernels(graph, CHIP, cache=cache).schedules]


def test_what_was_searched_is_found_again_and_is_the_same(graph: g.Graph, folder: Path) -> None:
    again = ScheduleCache(folder, CHIP)
    assert planned(graph, again) == planned(graph, None)
    assert again.misses == 0
    assert again.hits == len(list(folder.rglob("*.json")))


@pytest.mark.parametrize("damage", ["", "{}", "[1]", "\0\0", "null", '{"check": 1, "tile": [0]}', "half", "changed"])
def test_a_damaged_entry_is_made_again(graph: g.Graph, folder: Path, damage: str) -> None:
    file = max(folder.rglob("*.json"), key=lambda f: f.name)
    whole = file.read_text()
    bad = {"half": whole[: len(whole) // 2], "changed": whole.replace('"depth": 2', '"depth": 1')}.get(damage, damage)
    assert bad != whole
    file.write_text(bad)
    cache = ScheduleCache(folder, CHIP)
    assert planned(graph, cache) == planned(graph, None)
    assert cache.misses == 1
    assert file.read_text() == whole


def test_an_entry_is_of_one_chip(graph: g.Graph, folder: Path) -> None:
    faster = dataclasses.replace(CHIP, dma=dataclasses.replace(CHIP.dma, setup_cycles=CHIP.dma.setup_cycles + 1))
    cache = ScheduleCache(folder, faster)
    plan_kernels(graph, faster, cache=cache)
    assert cache.hits == 0
    renamed = ScheduleCache(folder, dataclasses.replace(CHIP, name="other", sources={}))
    planned(graph, renamed)
    assert renamed.misses == 0  # what people read does not matter


def test_a_folder_that_cannot_be_written_is_no_error(graph: g.Graph, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = ScheduleCache(blocked, CHIP)
    assert planned(graph, cache) == planned(graph, None)
    assert cache.hits == 0


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEOUT_CACHE", "off")
    assert cache_folder() is None
    monkeypatch.setenv("TAPEOUT_CACHE", "/some/place")
    assert cache_folder() == Path("/some/place")
    monkeypatch.delenv("TAPEOUT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/tapeout")
