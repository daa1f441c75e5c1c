"""Learning from a black box inside this process, which may hang or crash: then a message, not silence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from tapeout import _native
from tapeout.circuit.oracle import FunctionOracle, LibraryOracle, Oracle, to_native
from tapeout.circuit.runner import oracle_name
from tapeout.circuit.words import Rows
from tapeout.errors import UserError

T = TypeVar("T")
_POLL_S = 0.1


class Stopped(Exception):
    """Raised inside of an algorithm that nobody waits for any more."""


class Watched:
    """A black box that tells how long it has not answered; ``oracle`` is the black box itself."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.interface = oracle.interface
        self.where = oracle_name(oracle)
        self.native = _native.WatchedOracle(to_native(oracle))
        self.stopped = False

    def evaluate(self, rows: Rows) -> Rows:
        """The answers of the black box."""
        return self.native.evaluate(rows)

    def check_stopped(self) -> None:
        """Raises `Stopped` once the caller of `supervised` has gone."""
        if self.stopped:
            raise Stopped


def supervised(watched: Watched, timeout_s: float, work: Callable[[], T]) -> T:
    """``work()`` in a thread of its own.

    Raises:
        UserError: a batch without an answer for ``timeout_s``. The thread stays behind: nothing can end it.
    """
    results: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 raised again by the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
            if watched.native.waiting_s > timeout_s:
                action = "give a faster black box or a longer time-out (a --checkpoint keeps what was learned)"
                raise UserError(f"no answer within {timeout_s:g} s", watched.where, action)
    finally:
        watched.stopped = True
    if raised:
        error = raised[0]
        if isinstance(error, UserError) and error.where == "oracle":  # the native core knows no names
            raise UserError(error.what, watched.where, error.action) from error
        raise error
    return results[0]


@contextmanager
def crashes_told(oracle: object) -> Generator[None]:
    """Meanwhile, a black box of this process that crashes it ends it with one line and exit code 2."""
    if not isinstance(oracle, FunctionOracle | LibraryOracle):
        yield
        return
    line = f"tapeout: {oracle.where}: the process was ended, most likely by the black box; --isolate runs it apart"
    _native.guard_crashes(line, 2)
    try:
        yield
    finally:
        _native.unguard_crashes()
