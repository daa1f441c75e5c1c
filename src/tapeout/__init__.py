"""Tapeout: from one chip description file to compiler, simulator and benchmarks for that chip."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tapeout.api import Model, Run, compile
    from tapeout.chip.load import load_chip, presets
    from tapeout.chip.spec import Chip
    from tapeout.errors import DoesNotFit, InvalidChip, InvalidModel, SimError, TapeoutError, UnsupportedOp, UserError

_HOMES = {
    "tapeout.chip.load": ("load_chip", "presets"),
    "tapeout.chip.spec": ("Chip",),
    "tapeout.errors": (
        "DoesNotFit", "InvalidChip", "InvalidModel", "SimError", "TapeoutError", "UnsupportedOp", "UserError",
    ),
    "tapeout.api": ("Model", "Run", "compile"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Chip",
    "DoesNotFit",
    "InvalidChip",
    "InvalidModel",
    "Model",
    "Run",
    "SimError",
    "TapeoutError",
    "UnsupportedOp",
    "UserError",
    "__version__",
    "compile",
    "load_chip",
    "presets",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import tapeout` and `tapeout --help` are instant."""
    if name not in _HOME:
        raise AttributeError(f"module 'tapeout' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
