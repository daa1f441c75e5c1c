"""What was learned as one HTML page, drawings as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from tapeout import __version__
from tapeout.circuit import facts
from tapeout.circuit.example_structure import BY_HAND
from tapeout.circuit.learn import Learned
from tapeout.report import html
from tapeout.report.html import Cell, number

_BOX_HAND = (
    "the names and widths of the words, and the black box or the rows themselves",
    "rows for testing what was learned: uniform, structured (runs, one- and two-hot, near-equal words), sparse",
)
_INTRO = (
    "A netlist of a function that was learned from questions and answers. Nothing but what stands under "
    "<a href='#hand'>written by hand</a> was known of the function."
)
_COVERAGE = (
    "<b>proved</b>: all inputs were asked, or equality was shown formally. <b>sampled</b>: the algorithm left nothing "
    "out and all rows asked are right; the bound is the upper end of the 95 % interval of the share of wrong rows, for "
    "rows of that distribution only. Uniform rows flatter, for rare cases do not occur in them; the rows directed at "
    "each region that was found are the ones to look at. <b>speculated</b>: part of it is a guess, and why."
)
_COLUMNS = (
    ("name", "output"), ("diagram_nodes", "nodes of its diagrams"), ("nodes", "gates as learned"),
    ("leaves", "regions"),
    ("equal_regions", "regions equal to others"), ("model", "form"), ("accuracy", "held-out accuracy"),
    ("orders", "orders tried"), ("speculated", "constants speculated"), ("cut", "nodes cut"), ("jobs", "jobs"),
    ("queries", "questions"),
)  # fmt: skip
_MANY = 40
"""Lines beyond which a list or table is folded."""


def page(learned: Learned, what: str) -> str:
    """The page: size and cost, coverage, structure, diagram sizes, learning curve, what was written by hand."""
    statistics = learned.statistics
    by_hand = [*_BOX_HAND, *_BY_ALGORITHM.get(statistics["algorithm"], ()), *statistics.get("by_hand", [])]
    outputs: list[dict[str, Any]] = statistics["outputs"]
    return html.document(
        what,
        [
            f"<h1>{escape(what)}</h1>", f"<p>{_INTRO}</p>",
            html.table((), [[name, value] for name, value in _numbers(learned)]),
            "<h2>Coverage</h2>", f"<p>{_COVERAGE}</p>", _coverage(learned),
            "<h2>Structure that was found</h2>", _list(learned.structure or ["none is reported"]),
            "<h2>Size of each output</h2>", _bars([(str(o["name"]), int(o["nodes"])) for o in outputs]),
            _sizes(learned),
            "<h2>Learning curve</h2>", _curve([(float(q), float(n)) for q, n in statistics["curve"]]),
            '<h2 id="hand">Written by hand</h2>', _list(by_hand),
        ],
    )  # fmt: skip


_BY_ALGORITHM = {"examples": BY_HAND, "exact": facts.BY_HAND, "bsd": ("layers, orders, merges and speculation of BSD",)}


def _numbers(learned: Learned) -> list[tuple[str, str]]:
    statistics = learned.statistics
    interface, netlist = learned.netlist.interface, learned.netlist
    numbers = [
        ("words", str(interface)), ("input bits", f"{interface.input_bits:,}"),
        ("output bits", f"{interface.output_bits:,}"), ("AND nodes", f"{netlist.nodes:,}"),
        ("levels", f"{netlist.levels:,} ANDs on the longest path"),
    ]  # fmt: skip
    if statistics["learned_and_nodes"] != netlist.nodes:
        how = f"minimised in {statistics['minimising_s']:.1f} s (effort {statistics['effort']}), and proved equal to it"
        numbers.append(("as learned", f"{statistics['learned_and_nodes']:,} AND nodes; {how}"))
    else:
        numbers.append(("minimised", f"no (effort {statistics['effort']})"))
    if "reference_and_nodes" in statistics:
        numbers.append(("reference", f"{statistics['reference_and_nodes']:,} AND nodes, written by hand"))
    numbers += [
        ("algorithm", f"{statistics['algorithm']}, seed {statistics['seed']}, Tapeout {__version__}"),
        ("time", f"{statistics['seconds']:.2f} s"), ("questions", f"{statistics['queries']:,}"),
    ]  # fmt: skip
    return [*numbers, *((name, str(statistics[name])) for name in ("rows", "checks", "proof") if name in statistics)]


def _list(items: Sequence[str]) -> str:
    return _folded(html.bullets(items), len(items))


def _folded(text: str, lines: int) -> str:
    return text if lines <= _MANY else html.folded(text, f"{lines:,} lines")


def _sizes(learned: Learned) -> str:
    """A row for each output with whatever the algorithm tells of it, and the gates that it depends on in the end."""
    outputs: list[dict[str, Any]] = learned.statistics["outputs"]
    cones = learned.netlist.cone_sizes()
    columns = [(key, title) for key, title in _COLUMNS if any(key in output for output in outputs)]
    rows: list[list[Cell | str]] = []
    for output in outputs:
        row = [_cell(output.get(key, "")) for key, _ in columns]
        rows.append([*row, _cell(cones.get(output["name"], ""))])
    head = [*(title for _, title in columns), "ANDs that it depends on now"]
    return _folded(html.table(head, rows, sortable=True), len(rows))


def _cell(value: object) -> Cell | str:
    if isinstance(value, int):
        return number(value)
    return number(value, f"{value:.2%}") if isinstance(value, float) else str(value)


def _coverage(learned: Learned) -> str:
    rows: list[list[Cell | str]] = []
    for line in learned.coverage:
        state = Cell(line.status.value, kind=line.status.value)
        for index, test in enumerate(line.tested or (None,)):
            head = [line.word, state] if index == 0 else ["", ""]
            figures: list[Cell | str] = ["", "", "", ""]
            if test:
                bound = "" if line.status == "proved" else f"{test.bound:.1e}"
                figures = [test.distribution, number(test.rows), number(test.failures), number(test.bound, bound)]
            rows.append([*head, *figures, line.reason if index == 0 else ""])
    return html.table(["output", "status", "distribution", "rows", "wrong", "95 % bound", "why"], rows)


def _bars(sizes: Sequence[tuple[str, int]]) -> str:
    """A bar for each output bit."""
    if not sizes:
        return "<p>There are no outputs.</p>"
    width, height, left = 880, 200, 60
    most = max(size for _, size in sizes) or 1
    step = (width - left) / len(sizes)
    parts = [html.text(left - 6, 12, f"{most:,}", "end")]
    for place, (name, size) in enumerate(sizes):
        tall = height * size / most
        wide = max(0.5, step * 0.85)
        parts.append(html.rect(left + place * step, height - tall, wide, tall, "#4a7ab0", f"{name}: {size:,}"))
    parts += [html.text(left, height + 16, sizes[0][0]), html.text(width, height + 16, sizes[-1][0], "end")]
    return html.svg(width, height + 24, parts, "size of each output")


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Gates against questions."""
    points = sorted(points)
    if not points:
        return "<p>There is nothing to plot.</p>"
    if len(points) < 3:
        return f"<p>Learned in one go: {points[-1][0]:,.0f} questions, {points[-1][1]:,.0f} gates.</p>"
    width, height, left = 880, 200, 60
    far, high = max(x for x, _ in points) or 1.0, max(y for _, y in points) or 1.0
    points = [(0.0, 0.0), *points]
    path = " ".join(f"{left + (width - left) * x / far:.1f},{height - height * y / high:.1f}" for x, y in points)
    parts = [
        f'<polyline class="line" points="{path}"/>', html.line(left, height, width, height),
        html.text(left - 6, 12, f"{high:,.0f}", "end"), html.text(left + 6, 12, "gates"),
        html.text(left, height + 16, "0"), html.text(width, height + 16, f"{far:,.0f} questions", "end"),
    ]  # fmt: skip
    return html.svg(width, height + 24, parts, "learning curve")
