"""From what a command line names to a black box or an example set."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path

from tapeout.circuit.evaluate import NetlistOracle
from tapeout.circuit.examples import SUFFIXES, Examples, load_examples
from tapeout.circuit.oracle import TIMEOUT_S, FunctionOracle, LibraryOracle, Oracle, check_oracle, to_oracle
from tapeout.circuit.process_oracle import ProcessOracle
from tapeout.circuit.reading import read_netlist
from tapeout.circuit.words import Interface
from tapeout.errors import UserError

_CIRCUITS = (".aig", ".aag", ".blif")
_LIBRARIES = (".so", ".dylib", ".dll")


def open_oracle(
    text: str,
    *,
    interface: Interface | str | None = None,
    timeout_s: float = TIMEOUT_S,
    isolate: bool = False,
    probe: bool = False,
) -> Oracle | Examples:
    """``file.py:function``, a shared library, an example file (CSV, PLA, npz), a circuit (AIGER, BLIF), or the command
    line of an executable.

    ``isolate`` runs a function or library in a process of its own: a crash or a hang is then an error, not the end.
    ``probe`` does so for the first questions only, then goes on inside this process, at full speed.

    Raises:
        UserError: whatever cannot be opened, and what `check_oracle` finds while probing.
    """
    path = Path(text)
    is_function = path.suffix.partition(":")[0] == ".py" and ":" in text
    if " " in text and not Path(text.rpartition(":")[0] if is_function else text).is_file():
        return _command(text, timeout_s)  # one whose last word looks like a file
    if path.suffix.lower() in SUFFIXES:
        return load_examples(path, interface)
    if path.suffix in _CIRCUITS:
        return NetlistOracle(read_netlist(path), text)
    is_script = path.suffix == ".py" and path.is_file() and not os.access(path, os.X_OK)
    if not is_function and not is_script and not _is_library(path):
        return _command(text, timeout_s)
    if isolate or probe:
        words = [] if interface is None else [str(interface)]
        child = ProcessOracle([sys.executable, "-m", "tapeout.circuit.serve", text, *words], timeout_s)
        child.where = text
        if isolate:
            return child
        with child:
            check_oracle(child, timeout_s=timeout_s)
    return LibraryOracle(path) if _is_library(path) else _function(text, interface)


def _is_library(path: Path) -> bool:
    return path.suffix in _LIBRARIES or ".so." in path.name


def _command(text: str, timeout_s: float) -> ProcessOracle:
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise UserError(f"not a command line: {error}", text, "close its quotes") from None
    if not command or shutil.which(command[0]) is None:
        raise UserError(
            "is neither a file nor a command", text or "oracle",
            "give file.py:function, a library, an executable, or a file: .csv, .pla, .npz, .aig, .aag, .blif",
        )  # fmt: skip
    return ProcessOracle(command, timeout_s)


def _function(text: str, interface: Interface | str | None) -> Oracle:
    oracle = to_oracle(named(text), interface, text)
    if isinstance(oracle, FunctionOracle):
        oracle.where = text
    return oracle


def named(text: str) -> object:
    """What ``file.py:name`` or ``package.module:name`` names, the latter from the Python path or the present folder;
    `UserError` where there is no such thing."""
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise UserError("no function is named", text, "write file.py:function or package.module:factory")
    try:
        module = _module_in(Path(place)) if place.endswith(".py") else _module_called(place)
    except UserError:
        raise
    except Exception as error:
        what = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(what, place, "make it import without errors") from error
    if not hasattr(module, name):
        raise UserError(f"there is no {name!r}", place, "name a function of it")
    return getattr(module, name)


def _module_in(path: Path) -> object:
    if not path.is_file():
        raise UserError("there is no such file", str(path), "write file.py:function")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError("cannot be imported", str(path), "give a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _module_called(name: str) -> object:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        action = "install it, or run in its folder, or write file.py:function"
        raise UserError(f"there is no module '{error.name}'", name, action) from error
