"""What was learned, for a terminal and as JSON."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tapeout.circuit.coverage import Coverage
from tapeout.circuit.learn import Learned

_FACTS = 12
_WORDS = 40


def render(learned: Learned, what: str) -> RenderableType:
    """A few lines on size and cost, the structure that was found, and the coverage of each output word."""
    facts = learned.statistics
    interface = learned.netlist.interface
    words = str(interface)
    if len(words) > 80:
        words = f"{interface.input_bits} input bits, {interface.output_bits} output bits"
    size = f"{learned.netlist.nodes:,} AND nodes{_before(learned)} by {facts['algorithm']} in {facts['seconds']:.2f} s"
    lines = [f"{what}: {words}", f"{size}, {facts['queries']:,} questions, seed {facts['seed']}"]
    if "and_nodes_ports" in facts:
        lines.append(f"  {facts['and_nodes_ports']:,} AND nodes in port form, without the arrays")
    shown = learned.structure[:_FACTS]
    lines += [f"  {fact}" for fact in shown]
    if len(learned.structure) > len(shown):
        lines.append(f"  and {len(learned.structure) - len(shown)} more")
    return Group(Text("\n".join(lines)), _table(learned.coverage))


def _before(learned: Learned) -> str:
    """The size before the netlist was minimised, where that is another."""
    before = learned.statistics["learned_and_nodes"]
    return "" if before == learned.netlist.nodes else f" (minimised from {before:,})"


def _table(coverage: tuple[Coverage, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("output", "coverage", "tested", "wrong", "95 % bound", "why"):
        table.add_column(column, justify="right" if column in ("tested", "wrong", "95 % bound") else "left")
    for line in coverage[:_WORDS]:
        bounds = "\n".join(f"{test.bound:.1e}" for test in line.tested) if line.status != "proved" else ""
        tested = "\n".join(f"{test.rows:,} {test.distribution}" for test in line.tested)
        wrong = "\n".join(f"{test.failures:,}" for test in line.tested)
        table.add_row(line.word, line.status.value, tested, wrong, bounds, line.reason)
    if len(coverage) > _WORDS:
        table.add_row(f"and {len(coverage) - _WORDS} more", "", "", "", "", "")
    return table


def record(learned: Learned, what: str) -> dict[str, Any]:
    """All of it as plain values."""
    interface = learned.netlist.interface
    return {
        "oracle": what, "interface": str(interface), "and_nodes": learned.netlist.nodes, **learned.statistics,
        "structure": learned.structure,
        "coverage": [
            {
                "word": line.word, "status": line.status.value, "reason": line.reason,
                "tested": [
                    {"distribution": t.distribution, "rows": t.rows, "failures": t.failures, "bound_95": t.bound}
                    for t in line.tested
                ],
            }
            for line in learned.coverage
        ],
    }  # fmt: skip


def json_text(learned: Learned, what: str) -> str:
    """`record` as JSON."""
    return json.dumps(record(learned, what), indent=1) + "\n"
