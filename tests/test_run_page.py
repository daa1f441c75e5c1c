"""The HTML report, looked at in a browser: it renders, its tables sort, its links lead somewhere, nothing is loaded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pages import check_page
from tapeout.isa.commands import Queue
from tapeout.report import html, run_page
from tapeout.report.request import Request
from tapeout.report.session import Session
from tapeout.sim.timing import Events

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking",
    "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(Request("resnet50", {"height": 32, "width": 32}), "mlu370-x4")


@pytest.fixture(scope="module")
def file(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with values checked."""
    found, states, scalars = session.values()
    trace = session.time(scalars, events=True)
    path = tmp_path_factory.mktemp("pages") / "run.html"
    session.write_page(path, trace, session.summary(trace, session.judge(found, states)))
    return path


def test_all_is_on_the_page(file: Path, session: Session) -> None:
    heads = ["Engines over time", "Roofline", "Memory over time", "Kernels", "Source ops", "Values", "Commands"]
    text = file.read_text()
    check_page(text, [f"<h2>{head}</h2>" for head in heads])
    check_page(text, ["resnet50", "attainable", "matmul", "nram", "wram", '<td class="right">right</td>'])
    for source in {source for kernel in session.compiled.program.kernels for source in kernel.sources}:
        assert f"<td>{source}</td>" in text  # each op of the model is there
    anchors = set(re.findall(r'id="([^"]+)"', text))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= anchors


def test_a_run_without_matrix_work_has_a_page(tmp_path: Path) -> None:
    from compiled import ODD
    from tapeout.compiler.pipeline import compile_graph
    from tapeout.ir.build import Builder
    from tapeout.ir.types import DType, TensorType
    from tapeout.report.summary import summarise
    from tapeout.runtime.executable import Executable

    b = Builder()
    x = b.input("a<b", TensorType(DType.f32, (40, 9)))
    b.output("y&z", b.add(x, x))
    compiled = compile_graph(b.finish(), ODD)
    trace = Executable(compiled, ODD).time(trace=True)
    check_page(run_page.page(summarise(compiled, ODD, trace), trace, compiled, ODD), ["Not checked.", "No kernel both"])


def test_shares_of_engines_held() -> None:
    """Two commands on one of two cores: [0, 30) and [100, 150) of 300 cycles."""
    zeros = np.zeros(3, np.int64)
    queue = np.array([Queue.MM, Queue.MM, Queue.VE], np.int64)
    start, released = np.array([0, 100, 0], np.int64), np.array([30, 150, 300], np.int64)
    events = Events(zeros, queue, zeros, zeros, zeros, zeros, start, released, released)
    found = run_page.held(events, Queue.MM, 300, 2)
    assert run_page.BINS == 300
    wanted = [0.5 if cycle < 30 or 100 <= cycle < 150 else 0.0 for cycle in range(300)]
    assert np.allclose(found, wanted)
    assert np.allclose(run_page.held(events, Queue.VE, 300, 2), 0.5)
    assert np.allclose(run_page.held(events, Queue.LD, 300, 2), 0.0)


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 978135, [0, 2e5, 4e5, 6e5, 8e5]), (5, 5, [5])]
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert html.ticks(low, high) == pytest.approx(wanted)
    assert html.decades(0.5, 2000) == [1, 10, 100, 1000]


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield found
        found.close()


@pytest.fixture
def shown(browser: Browser, file: Path) -> Iterator[Page]:
    """The page in a browser; nothing but it is asked for, and nothing is complained about."""
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert asked == [file.as_uri()]
    assert said == []
    page.close()


def test_it_renders(shown: Page) -> None:
    assert shown.title() == "resnet50 fp32 on mlu370-x4"
    for drawing in ("engines over time", "roofline", "DRAM over time", "nram over time", "wram over time"):
        box = shown.get_by_role("img", name=drawing).bounding_box()
        assert box is not None
        assert box["width"] > 500
        assert box["height"] > 20
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # wide tables scroll alone
    lanes = shown.locator("svg[aria-label='engines over time'] polygon").evaluate_all(
        "all => all.map(lane => lane.getBBox().height)"
    )
    assert len(lanes) == len(Queue)
    assert lanes[Queue.MM] > 5


def test_tables_sort(shown: Page) -> None:
    table = shown.locator("table", has=shown.locator("th", has_text="DRAM bytes"))
    head = table.locator("th", has_text="cycles")

    def cycles() -> list[float]:
        cells = table.locator("tbody tr td:nth-child(4)")
        return [float(value) for value in cells.evaluate_all("all => all.map(cell => cell.dataset.value)")]

    before = cycles()
    head.click()
    assert cycles() == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.click()
    assert cycles() == sorted(before)
    table.locator("th", has_text="kernel").click()
    names = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert names == sorted(names, key=str.casefold, reverse=True)


def test_from_a_source_op_to_its_commands(shown: Page) -> None:
    shown.get_by_text("ops of the model and their kernels").click()
    table = shown.locator("table", has=shown.locator("th", has_text="source op"))
    row = table.locator("tbody tr", has_text="conv").first
    kernel = row.locator("a")
    name = kernel.inner_text()
    kernel.click()
    anchor = shown.evaluate("location.hash")
    marked = shown.locator(f"tr{anchor}")
    assert name in marked.inner_text()
    marked.locator("a").click()
    listing = shown.locator(f"[id='{shown.evaluate('location.hash.slice(1)')}']")
    listing.locator("summary").click()
    assert "load " in listing.locator("pre").inner_text()
