"""Executables as black boxes: a pipe that carries batches of rows (`docs/learn.md` has the protocol).

The executable writes one line, ``tapeout-oracle 1 a:8 b:8 -> sum:9``, then answers frames on its standard input with
frames on its standard output until the input ends. A frame is a 64-bit count of rows, then the rows; all little-endian.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from tapeout.circuit.oracle import TIMEOUT_S, checked_answer
from tapeout.circuit.words import Interface, Rows, parse_interface, row_words
from tapeout.errors import UserError

GREETING = "tapeout-oracle 1 "
_BATCH = 1 << 16
_LINE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20


class ProcessOracle:
    """An executable as a black box. Ends it when closed; every answer has ``timeout_s`` seconds."""

    def __init__(self, command: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        """UserError where it does not start, does not greet, or names a malformed interface."""
        self.command = tuple(command)
        self.where = " ".join(command)
        self.timeout_s = timeout_s
        self._failed: tuple[str, str, str] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 closed by close(); what it writes to standard error, for the message
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
            )
        except OSError as error:
            self._said.close()
            raise UserError(f"cannot be run: {error.strerror}", self.where, "give an executable that exists") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        try:
            self.interface = self._greeting()
        except BaseException:
            self.close()
            raise

    def evaluate(self, rows: Rows) -> Rows:
        """The executable's answers; UserError where it ends, hangs, or answers with another number of rows."""
        width = row_words(self.interface.output_bits)
        answers = np.empty((len(rows), width), np.uint64)
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            answers[start : start + len(batch)] = self._ask(batch, width)
        return answers

    def close(self) -> None:
        """Ends the executable."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()

    def _greeting(self) -> Interface:
        line = b""
        while not line.endswith(b"\n") and len(line) < _LINE_BYTES:
            line += self._exchange(b"", 1, "its first line", len(line))
        text = line.decode("utf-8", "replace").strip()
        if not text.startswith(GREETING):
            raise UserError(f"its first line is {text[:60]!r}", self.where, f"begin with '{GREETING}a:8 -> b:8'")
        try:
            return parse_interface(text.removeprefix(GREETING))
        except UserError as error:
            raise UserError(f"its first line says: {error.what}", self.where, error.action) from None

    def _ask(self, batch: Rows, width: int) -> Rows:
        """As `_answer`. After a failure, all others fail with it: what follows from it says less."""
        if self._failed is not None:
            raise UserError(*self._failed)
        try:
            return self._answer(batch, width)
        except UserError as error:
            self._failed = error.what, error.where, error.action
            raise

    def _answer(self, batch: Rows, width: int) -> Rows:
        if self._ready():
            raise UserError(
                "sends bytes that nobody asked for", self.where,
                f"answer each row with {width} words of 8 bytes, and write nothing else to standard output",
            )  # fmt: skip
        frame = len(batch).to_bytes(8, "little") + np.ascontiguousarray(batch, "<u8").tobytes()
        size = 8 + 8 * width * len(batch)
        answer = self._exchange(frame, size, f"an answer of {size} bytes to {len(batch)} questions")
        count = int.from_bytes(answer[:8], "little")
        if count != len(batch):
            raise UserError(
                f"answers {len(batch)} questions with a frame of {count} rows", self.where,
                "begin each answer with the number of rows that were asked",
            )  # fmt: skip
        rows = np.frombuffer(answer, "<u8", offset=8).astype(np.uint64).reshape(len(batch), width)
        return checked_answer(rows, len(batch), self.interface, self.where)

    def _ready(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            return bool(selector.select(0)) and self._process.poll() is None

    def _exchange(self, frame: bytes, wanted: int, what: str, had: int = 0) -> bytes:
        """Writes ``frame`` while it reads ``wanted`` bytes: an executable may answer before it has read all."""
        left, answer = memoryview(frame), bytearray()
        deadline = time.monotonic() + self.timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            if left:
                selector.register(self._in, selectors.EVENT_WRITE)
            while len(answer) < wanted:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    self._process.kill()
                    raise UserError(
                        f"no answer within {self.timeout_s:g} s ({len(answer) + had} bytes of {what})", self.where,
                        "give a faster black box, a longer time-out, or answers of the width that it announced",
                    )  # fmt: skip
                for key, _ in events:
                    if key.fd == self._out:
                        try:
                            part = os.read(self._out, min(_CHUNK_BYTES, wanted - len(answer)))
                        except BlockingIOError:
                            continue
                        if not part:
                            raise self._ended(len(answer) + had, what)
                        answer += part
                    else:
                        try:
                            left = left[os.write(self._in, left[:_CHUNK_BYTES]) :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            raise self._ended(len(answer) + had, what) from None
                        if not left:
                            selector.unregister(self._in)
        return bytes(answer)

    def _ended(self, had: int, what: str) -> UserError:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return UserError(f"closed its pipe after {had} bytes of {what}", self.where, "keep answering until the end")
        how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {signal.Signals(-code).name}"
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        said = f", saying: {lines[-1][:200]}" if lines else ""
        return UserError(
            f"{how} after {had} bytes of {what}{said}", self.where, "it must answer until its standard input ends"
        )
