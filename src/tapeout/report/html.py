"""What all HTML pages share: one self-contained document, tables that sort, SVG axes. Nothing loads from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

_STYLE = """
:root { color-scheme: light dark; --text: #222; --soft: #666; --line: #ccc; --page: #fff; --mark: #fff3c4; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em;
color: var(--text); background: var(--page); }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; } p { max-width: 50em; }
table { border-collapse: collapse; } td, th { padding: .2em .8em .2em 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #999; } .n { text-align: right; font-variant-numeric: tabular-nums; }
th[data-sort] { cursor: pointer; white-space: nowrap; } th[data-sort]:after { content: " \\2195"; color: var(--soft); }
th[aria-sort=ascending]:after { content: " \\2191"; } th[aria-sort=descending]:after { content: " \\2193"; }
tr:target { background: var(--mark); } .wide { overflow-x: auto; } .soft { color: var(--soft); }
pre { font-size: 12px; line-height: 1.35; overflow-x: auto; }
.proved { color: #176f2c; } .sampled { color: #24588c; } .speculated { color: #a4480d; }
.right { color: #176f2c; } .wrong { color: #b3261e; font-weight: bold; }
svg { display: block; width: 100%; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.line { fill: none; stroke: #4a7ab0; stroke-width: 1.5; } .axis { stroke: var(--line); }
a { color: #24588c; }
@media (prefers-color-scheme: dark) {
:root { --text: #ddd; --soft: #aaa; --line: #555; --page: #181818; --mark: #4a4020; } a { color: #7fb2e5; }
.proved, .right { color: #6cc182; } .sampled { color: #7fb2e5; } .speculated { color: #e59a66; }
.wrong { color: #ff8a80; }
}
"""

_SORT = """
document.querySelectorAll("th[data-sort]").forEach(head => head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const down = head.getAttribute("aria-sort") !== "descending";
  table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => isNaN(a) || isNaN(b) ? String(a).localeCompare(String(b)) : a - b;
  [...body.rows].sort((a, b) => (down ? -1 : 1) * order(value(a), value(b))).forEach(row => body.append(row));
}));
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: what is shown, as HTML; the number that it is sorted by, if it is one; its class."""

    html: str
    value: float | None = None
    kind: str = ""


def number(value: float, shown: str | None = None) -> Cell:
    """A right-aligned number."""
    return Cell(escape(shown if shown is not None else f"{value:,}"), float(value), "n")


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page."""
    body = "\n".join(parts)
    script = f"<script>{_SORT}</script>" if "data-sort" in body else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n{script}</body></html>\n"
    )


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell | str]], *, sortable: bool = False, ids: Sequence[str] = ()
) -> str:
    """Cells are text, or `Cell`s. `ids`: anchors of the rows."""
    lines = ["<table>"]
    if head:
        numeric = [bool(rows) and isinstance(cell, Cell) and cell.kind == "n" for cell in (rows[0] if rows else head)]
        sort = " data-sort" if sortable else ""
        cells = (
            f"<th{sort}{' class=n' if n else ''}>{escape(text)}</th>" for text, n in zip(head, numeric, strict=True)
        )
        lines.append(f"<thead><tr>{''.join(cells)}</tr></thead>")
    lines.append("<tbody>")
    for place, row in enumerate(rows):
        anchor = f' id="{escape(ids[place])}"' if ids else ""
        lines.append(f"<tr{anchor}>{''.join(_cell(cell) for cell in row)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    value = "" if cell.value is None else f' data-value="{cell.value:.10g}"'
    kind = f' class="{cell.kind}"' if cell.kind else ""
    return f"<td{kind}{value}>{cell.html}</td>"


def bullets(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def folded(text: str, summary: str) -> str:
    """What is shown on demand."""
    return f"<details><summary>{escape(summary)}</summary>{text}</details>"


# ---- drawings


def svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    """A drawing that scales with the page."""
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def text(x: float, y: float, what: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(what)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def rect(x: float, y: float, width: float, height: float, fill: str, hint: str = "") -> str:
    """A box with a hint that shows when pointed at."""
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}">{title}</rect>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`."""
    if high <= low:
        return [low]
    step = 10 ** floor(log10((high - low) / most))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= most)
    return [step * n for n in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`."""
    return [10.0**n for n in range(ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9) + 1)]
