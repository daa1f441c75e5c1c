"""The errors of every layer.

A ``UserError`` is about what was given to us and says what to do; a ``VerifyError`` is a bug of ours
found between two passes; a ``SimError`` is a program doing on the simulated chip what no chip allows.
Every message is one line.
"""

from collections.abc import Mapping


class TapeoutError(Exception):
    """Base of all errors that Tapeout raises on purpose."""


class UserError(TapeoutError):
    """What was given, where it was found, and what to do about it.

    ``UserError("dtype 'f12' is unknown", "chip.toml:14", "use one of f16, bf16, f32")`` reads
    ``chip.toml:14: dtype 'f12' is unknown; use one of f16, bf16, f32``.
    """

    def __init__(self, what: str, where: str = "", action: str = "") -> None:
        super().__init__(what, where, action)
        self.what = what
        self.where = where
        self.action = action

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.action}" if self.action else ""
        return _one_line(f"{place}{self.what}{advice}")


class UnsupportedOp(UserError):
    """An operation of the model that no part of Tapeout can run yet."""


class InvalidChip(UserError):
    """A chip description that breaks the schema or contradicts itself."""


class InvalidModel(UserError):
    """A model file or module that cannot be read or does not type-check."""


class DoesNotFit(UserError):
    """A model or tensor too large for the memory of the chip."""


class VerifyError(TapeoutError):
    """An invariant broken by a pass: names the pass, the value and what does not hold."""

    def __init__(self, stage: str, value: str, what: str) -> None:
        super().__init__(stage, value, what)
        self.stage = stage
        self.value = value
        self.what = what

    def __str__(self) -> str:
        return _one_line(f"after {self.stage}: {self.value}: {self.what}")


class SimError(TapeoutError):
    """A fault of the simulated program: race, bad address, deadlock, read of bytes never written.

    ``command`` is the disassembled command, ``loops`` the loop counters by name, ``address`` a byte
    address, ``cycle`` the time in cycles; each is given where it is known.
    """

    def __init__(
        self,
        what: str,
        *,
        command: str | None = None,
        loops: Mapping[str, int] | None = None,
        address: int | None = None,
        cycle: int | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.command = command
        self.loops = dict(loops or {})
        self.address = address
        self.cycle = cycle

    def __str__(self) -> str:
        facts: list[str] = []
        if self.command is not None:
            facts.append(f"in `{self.command}`")
        if self.loops:
            facts.append("at " + ", ".join(f"{name}={count}" for name, count in self.loops.items()))
        if self.address is not None:
            facts.append(f"address {self.address:#x}")
        if self.cycle is not None:
            facts.append(f"cycle {self.cycle}")
        return _one_line(f"{self.what} ({'; '.join(facts)})" if facts else self.what)


def _one_line(text: str) -> str:
    return " ".join(text.split())
