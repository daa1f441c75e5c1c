"""Writes netlists so that what stands in the file is known: every file is read back and proved equal."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tapeout.circuit.equivalence import check_equal
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.output import c_header, netlist_file
from tapeout.circuit.reading import parse_netlist
from tapeout.errors import UserError, VerifyError

PROOF_S = 300.0


def proved_file(netlist: Netlist, suffix: str, name: str = "learned") -> bytes:
    """As `netlist_file`, and what a reader makes of the bytes is proved equal to the netlist.

    Raises:
        UserError: a suffix of no known kind.
        VerifyError: bytes that read back as another circuit, or without a proof in time, which is a bug of ours.
    """
    data = netlist_file(netlist, suffix, name)
    again = parse_netlist(data, suffix, f"{name}{suffix}")
    if again.interface != netlist.interface:
        raise VerifyError("export", f"{name}{suffix}", f"it reads back as {again.interface}")
    result = check_equal(netlist, again, seconds=PROOF_S)
    if not result.proved:
        raise VerifyError("export", f"{name}{suffix}", f"what is read back is {result}")
    return data


def write_netlist(netlist: Netlist, path: str | Path, name: str | None = None) -> None:
    """Writes ``.v``, ``.blif``, ``.aig``, ``.aag`` or ``.c`` (with a ``.h`` beside it), proved (see `proved_file`).

    A file appears whole or not at all. ``name`` is that of the module or model, else the file's.

    Raises:
        UserError: a suffix of no known kind, or a place that cannot be written.
        VerifyError: see `proved_file`.
    """
    path = Path(path)
    files = {path: proved_file(netlist, path.suffix, name or path.stem)}
    if path.suffix == ".c":
        files[path.with_suffix(".h")] = c_header(netlist.interface)
    for target, data in files.items():
        try:
            _replace(target, data)
        except OSError as error:
            raise UserError(f"cannot be written ({error.strerror})", str(target), "give another place") from error


def _replace(target: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
