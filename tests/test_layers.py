"""The import rule of docs/architecture.md, held by reading every import under src/tapeout."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "tapeout"

CHAIN = ["errors", "chip", "ir", "isa", "compiler", "runtime"]
SIDES = {
    "_native": set[str](),
    "models": {"errors", "ir"},
    "frontend": {"errors", "ir"},
    "sim": {"errors", "chip", "isa", "_native"},
    "circuit": {"errors", "_native"},
    "cpu": {"errors", "circuit", "sim", "_native"},
}
TOP = ["bench", "explore", "report"]
BELOW_TOP = {*CHAIN, *SIDES}

# What each part of tapeout may import of the other parts. "tapeout" is the package itself.
ALLOWED: dict[str, set[str]] = {
    **{part: set(CHAIN[:rank]) for rank, part in enumerate(CHAIN)},
    **SIDES,
    "runtime": {*CHAIN[:5], "frontend", "sim", "cpu"},
    **{part: BELOW_TOP | {"tapeout"} for part in TOP},
    "cli": BELOW_TOP | set(TOP) | {"tapeout"},
    "__main__": {"cli"},
    "api": BELOW_TOP | set(TOP),
    "tapeout": BELOW_TOP | {"api"},
}

# Imported only inside functions, where they are used: `tapeout --help` is instant.
HEAVY = {
    *("torch", "torchvision", "transformers", "onnx", "onnxruntime", "onnxscript", "jax", "jaxlib"),
    *("tensorflow", "paddle", "ray", "ortools", "pandas", "pyarrow", "duckdb", "matplotlib"),
}


def part_of(module: str) -> str:
    """``tapeout.ir.graph`` is part ``ir``; ``tapeout`` itself is part ``tapeout``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "tapeout"


def is_part(name: str) -> bool:
    return name == "_native" or (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").exists()


def imported(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> Iterator[str]:
    """Absolute names of the modules that a statement in ``module`` imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        parents = module.split(".")
        up = parents[: len(parents) - node.level + is_package]
        base = ".".join([*up, base] if base else up)
    if base == "tapeout":
        yield from (f"tapeout.{a.name}" if is_part(a.name) else "tapeout" for a in node.names)
    else:
        yield base


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(tree: ast.AST, run_at_import: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement, and whether it runs as soon as the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, run_at_import
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(child):
            yield from imports_of(child, False)
        else:
            yield from imports_of(child, run_at_import)


def broken_rules(text: str, module: str, is_package: bool = False) -> list[str]:
    part = part_of(module)
    if part not in ALLOWED:
        return [f"{module}: part {part!r} is in no layer; give it one in tests/test_layers.py and the docs"]
    found: list[str] = []
    for node, run_at_import in imports_of(ast.parse(text)):
        for target in imported(node, module, is_package):
            root = target.split(".")[0]
            if root == "tapeout" and part_of(target) != part and part_of(target) not in ALLOWED[part]:
                found.append(f"{module}:{node.lineno}: {part} must not import {target}")
            if root in HEAVY and run_at_import:
                found.append(f"{module}:{node.lineno}: import {root} inside the function that uses it")
    return found


def test_sources_keep_the_import_rule() -> None:
    found: list[str] = []
    for path in sorted(SOURCE.rglob("*.py")):
        names = path.relative_to(SOURCE.parent).with_suffix("").parts
        is_package = names[-1] == "__init__"
        module = ".".join(names[:-1] if is_package else names)
        found += broken_rules(path.read_text(), module, is_package)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "text", "count"),
    [
        ("tapeout.ir.graph", "from tapeout.errors import VerifyError", 0),
        ("tapeout.ir.graph", "from tapeout.compiler import fuse", 1),
        ("tapeout.ir.graph", "from ..compiler import fuse", 1),
        ("tapeout.ir.graph", "from . import types", 0),
        ("tapeout.ir.graph", "from tapeout import cli", 1),
        ("tapeout.ir.graph", "from tapeout import Device", 1),
        ("tapeout.sim.machine", "def f():\n    import tapeout.compiler", 1),
        ("tapeout.sim.machine", "from tapeout.isa import program\nfrom tapeout.chip import spec", 0),
        ("tapeout.circuit.learn", "import tapeout.chip", 1),
        ("tapeout.cpu.core", "import tapeout.sim.machine, tapeout.circuit.learn", 0),
        ("tapeout.frontend.onnx_import", "import onnx", 1),
        ("tapeout.frontend.onnx_import", "try:\n    from onnx import helper\nfinally:\n    pass", 1),
        ("tapeout.frontend.onnx_import", "def f():\n    import onnx", 0),
        ("tapeout.frontend.onnx_import", "if TYPE_CHECKING:\n    import onnx", 0),
        ("tapeout.frontend.onnx_import", "if typing.TYPE_CHECKING:\n    import tapeout.sim", 1),
        ("tapeout.novelty", "", 1),
    ],
)
def test_the_rule_itself(module: str, text: str, count: int) -> None:
    assert len(broken_rules(text, module)) == count


def test_relative_imports_of_a_package() -> None:
    assert not broken_rules("from .graph import Graph", "tapeout.ir", is_package=True)
    assert broken_rules("from ..sim import machine", "tapeout.ir", is_package=True)


def test_import_tapeout_is_light() -> None:
    script = f"import sys, tapeout; print(*({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not result.stdout.split()
