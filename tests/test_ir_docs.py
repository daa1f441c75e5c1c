"""The table of ops in docs/graph-ir.md is made of the docstrings."""

import inspect
from pathlib import Path
from typing import get_args

import pytest

from tapeout.ir import graph as g

PAGE = Path(__file__).parents[1] / "docs" / "graph-ir.md"


def table() -> str:
    rows = ["| op | fields | meaning |", "|---|---|---|"]
    for kind in get_args(g.Op):
        first = inspect.getdoc(kind).split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{kind.__name__}` | {', '.join(g.op_fields(kind))} | {first} |")
    return "\n".join([*rows, ""])


def test_table_of_ops(request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text()
    head = text.partition("| op |")[0]
    if request.config.getoption("--update-golden"):
        PAGE.write_text(head + table())
    assert PAGE.read_text() == head + table(), "run pytest --update-golden tests/test_ir_docs.py"
