"""Black boxes that can be asked: Python functions, shared libraries and, in `process_oracle`, executables.

A black box is whatever has an `interface` and answers rows with rows. Native algorithms ask it through `to_native`: a
shared library directly, everything else through a Python call for each batch.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from tapeout import _native
from tapeout.circuit.columns import columns_to_rows, rows_to_columns
from tapeout.circuit.words import Interface, Rows, parse_interface, row_words
from tapeout.errors import TapeoutError, UserError

TIMEOUT_S = 60.0
"""Seconds that a batch may take before a black box counts as hanging."""
_CHECK_ROWS = 200
_INTERFACE = "tapeout_interface"
_DETERMINISTIC = "give a black box whose answer depends on its inputs only; make state an input and an output"


@runtime_checkable
class Oracle(Protocol):
    """A black box: what may be asked, and all that may be known."""

    @property
    def interface(self) -> Interface:
        """Its words."""
        ...

    def evaluate(self, rows: Rows) -> Rows:
        """Answers ``rows[n, row_words(inputs)]`` with ``[n, row_words(outputs)]``, padding as zeros."""
        ...


class FunctionOracle:
    """A Python function as a black box.

    By words (the default): called with one array per input word, it returns one array per output word, as a tuple or a
    dictionary, or alone if there is one output word; arrays as in `tapeout.circuit.columns`. By rows
    (``by_rows=True``): called with ``uint64[n, row_words(inputs)]``, it returns ``uint64[n, row_words(outputs)]``.
    """

    def __init__(self, function: Callable[..., Any], interface: Interface | str, *, by_rows: bool = False) -> None:
        self.interface = parse_interface(interface) if isinstance(interface, str) else interface
        self.function = function
        self.by_rows = by_rows
        self.where = f"function {getattr(function, '__name__', 'oracle')}"

    def evaluate(self, rows: Rows) -> Rows:
        """The function's answers; UserError where it raises or answers with another shape or width."""
        try:
            if self.by_rows:
                answer = self.function(rows)
            else:
                answer = self.function(*rows_to_columns(rows, self.interface.inputs))
        except TapeoutError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(
                f"raised {type(error).__name__}: {error}", self.where, "let it answer every row without an error"
            ) from error
        if self.by_rows:
            return checked_answer(answer, len(rows), self.interface, self.where)
        return columns_to_rows(self._columns(answer), self.interface.outputs, len(rows), self.where)

    def _columns(self, answer: Any) -> list[Any]:
        names = [word.name for word in self.interface.outputs]
        if isinstance(answer, dict):
            missing = [name for name in names if name not in answer]
            if missing:
                raise UserError(f"the answer has no {missing[0]!r}", self.where, f"return all of {', '.join(names)}")
            return [answer[name] for name in names]
        if isinstance(answer, tuple):
            return list(cast(tuple[Any, ...], answer))
        return [answer]


class LibraryOracle:
    """A shared library as a black box (`docs/learn.md` has its C functions); asked without the interpreter's lock."""

    def __init__(self, path: str | Path) -> None:
        """UserError where the library cannot be loaded, lacks a function, or names a malformed interface."""
        self.where = str(path)
        self.native = _native.LibraryOracle(str(Path(path).resolve()))
        try:
            self.interface = parse_interface(self.native.interface)
        except UserError as error:
            raise UserError(f"{_INTERFACE}() says: {error.what}", self.where, error.action) from None
        self.native.set_widths(self.interface.input_bits, self.interface.output_bits)

    def evaluate(self, rows: Rows) -> Rows:
        """The library's answers; UserError where it reports a failure or sets padding bits."""
        return self.native.evaluate(np.ascontiguousarray(rows, np.uint64))


class NativeOracle:
    """A black box of the native core with the names of its words."""

    def __init__(self, native: _native.Oracle, interface: Interface, where: str = "oracle") -> None:
        """ValueError where the widths are not those of ``interface``."""
        if (native.input_bits, native.output_bits) != (interface.input_bits, interface.output_bits):
            raise ValueError(f"{native.input_bits} and {native.output_bits} bits are not those of '{interface}'")
        self.native, self.interface, self.where = native, interface, where

    def evaluate(self, rows: Rows) -> Rows:
        """The answers of the native core."""
        return self.native.evaluate(np.ascontiguousarray(rows, np.uint64))


class _Named:
    """A function with the interface that `function_oracle` gave it."""

    def __init__(self, function: Callable[..., Any], oracle: FunctionOracle) -> None:
        self.__wrapped__ = function
        self.tapeout_oracle = oracle

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


def function_oracle(interface: str, *, by_rows: bool = False) -> Callable[[Callable[..., Any]], _Named]:
    """Decorates a function with its words: ``@function_oracle("a:32 b:32 -> sum:32")``."""
    return lambda function: _Named(function, FunctionOracle(function, interface, by_rows=by_rows))


def to_oracle(thing: Any, interface: Interface | str | None = None, where: str = "oracle") -> Oracle:
    """A black box from an oracle, a decorated function, or a plain function and its words."""
    if isinstance(thing, _Named):
        return thing.tapeout_oracle
    if isinstance(thing, Oracle) and not inspect.isclass(thing):
        return thing
    if not callable(thing):
        raise UserError(f"{type(thing).__name__} is not a black box", where, "give a function or an oracle")
    if interface is None:
        raise UserError(
            "the words of the function are not known",
            where,
            "decorate it with @function_oracle('a:32 b:32 -> sum:32'), or give the interface",
        )
    return FunctionOracle(thing, interface)


def to_native(oracle: Oracle) -> _native.Oracle:
    """What native algorithms ask: the oracle's own native form, or a call of `evaluate` for each batch."""
    native = getattr(oracle, "native", None)
    if isinstance(native, _native.Oracle):
        return native
    if isinstance(oracle, _native.Oracle):
        return oracle
    interface = oracle.interface
    return _native.CallbackOracle(interface.input_bits, interface.output_bits, oracle.evaluate)


def checked_answer(answer: Any, count: int, interface: Interface, where: str) -> Rows:
    """``answer`` as rows; UserError where its shape, type or padding is not what the interface says."""
    array = np.asarray(answer)
    shape = (count, row_words(interface.output_bits))
    if array.dtype != np.uint64:
        raise UserError(f"the answer has type {array.dtype}", where, "return an array of uint64")
    if array.shape != shape:
        raise UserError(f"the answer has shape {array.shape}", where, f"return {shape}: one row for each question")
    spare = interface.output_bits % 64
    if spare and bool(np.any(array[:, -1] >> np.uint64(spare))):
        raise UserError(
            f"answers have bits set behind the last of {interface.output_bits} output bits",
            where,
            "fill the padding of a row with zeros, or correct the widths of the interface",
        )
    return np.ascontiguousarray(array)


def random_rows(random: np.random.Generator, count: int, bits: int) -> Rows:
    """Uniform rows ``[count, row_words(bits)]``."""
    rows = random.integers(0, 1 << 64, (count, row_words(bits)), np.uint64)
    if bits % 64:
        rows[:, -1] &= np.uint64((1 << bits % 64) - 1)
    return rows


def check_oracle(oracle: Oracle, seed: int = 0, timeout_s: float = TIMEOUT_S) -> None:
    """Asks the same questions again, in another order and in other batches, before anything is learned.

    Raises:
        UserError: no outputs; another width than the interface says; no answer within ``timeout_s``; answers that
            differ.
    """
    interface = oracle.interface
    where = str(getattr(oracle, "where", "oracle"))
    if not interface.outputs:
        raise UserError("there is no output word", where, "name at least one word behind '->'")
    within(timeout_s, where, lambda: _check(oracle, where, seed))


def _check(oracle: Oracle, where: str, seed: int) -> None:
    interface = oracle.interface
    random = np.random.default_rng(seed)
    rows = random_rows(random, _CHECK_ROWS, interface.input_bits)
    rows[0] = 0
    if isinstance(oracle, LibraryOracle):
        oracle.native.check_width(rows)

    def ask(questions: Rows) -> Rows:
        return checked_answer(oracle.evaluate(questions.copy()), len(questions), interface, where)

    answers = ask(rows)
    order = random.permutation(len(rows))
    batches = np.concatenate([ask(batch) for batch in np.split(rows, [1, 8, 73])])
    for how, again in (("again", ask(rows)), ("in another order", ask(rows[order])[np.argsort(order)]),
                       ("in smaller batches", batches)):  # fmt: skip
        wrong = np.flatnonzero(np.any(again != answers, axis=1))
        if len(wrong):
            raise UserError(
                f"not deterministic: {len(wrong)} of {len(rows)} questions are answered differently when asked {how}",
                where,
                _DETERMINISTIC,
            )


def check_again(oracle: _native.Oracle, rows: Rows, answers: Rows, where: str = "oracle") -> None:
    """Asks ``rows`` again, of which ``answers`` are known: a black box may begin to waver later.

    Raises:
        UserError: answers that differ.
    """
    wrong = np.flatnonzero(np.any(oracle.evaluate(rows) != answers, axis=1))
    if len(wrong):
        what = f"not deterministic: {len(wrong)} of {len(rows)} questions are answered differently when asked again"
        raise UserError(what, where, _DETERMINISTIC)


def within(timeout_s: float, where: str, work: Callable[[], None]) -> None:
    """Runs ``work`` in a thread; UserError when it has not ended after ``timeout_s`` (the thread is then abandoned)."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 raised again by the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise UserError(f"no answer within {timeout_s:g} s", where, "give a faster black box or a longer time-out")
    if raised:
        raise raised[0]
