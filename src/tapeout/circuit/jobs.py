"""Results of finished jobs, kept in a file: a killed run goes on where it was, and gives the same netlist.

A job's result depends on its arguments only, so the key is a hash of them. The file is an SQLite database; values are
JSON,
with arrays as base64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tapeout.errors import UserError


class JobStore:
    """Runs jobs, or takes their results from ``path``. Without a path it only runs them.

    Raises:
        UserError: the file is there and is not a job store; later, from `run`, it cannot be read or written.
    """

    def __init__(self, path: Path | None, context: str = "") -> None:
        self.reused = 0
        self._path = str(path)
        self._context = context
        self._lock = threading.Lock()
        self._base = None
        if path is None:
            return
        try:
            self._base = sqlite3.connect(path, check_same_thread=False)
            self._base.execute("create table if not exists jobs (key text primary key, value text)")
            self._base.execute("select key, value from jobs limit 1").fetchone()
        except sqlite3.Error as error:
            raise UserError(f"cannot be used as a checkpoint: {error}", str(path), "name a new file") from error

    def run(self, kind: str, arguments: tuple[Any, ...], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The job's result, from the file if it is there; else it is computed and stored."""
        if self._base is None:
            return work()
        key = self._key(kind, arguments)
        rows = self._execute("select value from jobs where key = ?", (key,))
        if rows:
            self.reused += 1
            return _decode(json.loads(rows[0][0]))
        result = work()
        self._execute("insert or replace into jobs values (?, ?)", (key, json.dumps(_encode(result))))
        return result

    def _execute(self, statement: str, values: tuple[str, ...]) -> list[tuple[str]]:
        assert self._base is not None
        try:
            with self._lock, self._base:
                return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            action = "see whether the disk is full or another run uses it; what it holds stays usable"
            raise UserError(f"the checkpoint cannot be kept: {error}", self._path, action) from error

    def close(self) -> None:
        """Ends the use of the file."""
        if self._base is not None:
            self._base.close()

    def _key(self, kind: str, arguments: tuple[Any, ...]) -> str:
        digest = hashlib.blake2b(f"{self._context} {kind}".encode(), digest_size=16)
        for argument in arguments:
            data = argument.tobytes() if isinstance(argument, np.ndarray) else repr(argument).encode()
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        data = base64.b64encode(array.tobytes()).decode()
        return {"dtype": array.dtype.str, "shape": array.shape, "data": data}
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {"items": {key: _encode(item) for key, item in items.items()}}
    return value


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if "items" in fields:
        return {key: _decode(item) for key, item in fields["items"].items()}
    data = base64.b64decode(fields["data"])
    return np.frombuffer(data, fields["dtype"]).reshape(fields["shape"]).copy()
