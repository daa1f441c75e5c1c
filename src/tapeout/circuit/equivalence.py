"""Proves two netlists equal, or shows an input on which they differ.

The proof is by structural hashing, SAT sweeping and case distinction on inputs (native/circuit/prove.h);
berkeley-abc, where it is
installed, is a second judge that shares no code with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tapeout import _native
from tapeout.circuit.evaluate import evaluate
from tapeout.circuit.netlist import Netlist
from tapeout.circuit.output import netlist_file
from tapeout.circuit.words import Rows, pack, unpack
from tapeout.errors import UserError, VerifyError


class Verdict(Enum):
    """What is known of an output: not decided within the budget, proved equal, or shown to differ."""

    UNDECIDED = 0
    PROVED = 1
    DIFFERENT = 2


@dataclass(frozen=True, slots=True, eq=False)
class Equivalence:
    """The result of a comparison.

    ``verdicts`` is one per output bit, in the order of the interface. ``counterexample[1, row_words(inputs)]`` is an
    input row on which ``different_bits[0]`` differs, or None. ``cases`` counts the cofactors that were swept,
    ``conflicts`` the solver's.
    """

    netlist: Netlist
    verdicts: tuple[Verdict, ...]
    counterexample: Rows | None
    cases: int
    conflicts: int

    @property
    def proved(self) -> bool:
        """All outputs are proved equal."""
        return all(verdict is Verdict.PROVED for verdict in self.verdicts)

    @property
    def different(self) -> bool:
        """Some output differs."""
        return Verdict.DIFFERENT in self.verdicts

    @property
    def different_bits(self) -> list[int]:
        return [bit for bit, verdict in enumerate(self.verdicts) if verdict is Verdict.DIFFERENT]

    @property
    def words(self) -> dict[str, Verdict]:
        """The verdict of each output word: different if one bit is, proved if all are."""
        found: dict[str, Verdict] = {}
        start = 0
        for word in self.netlist.interface.outputs:
            bits = self.verdicts[start : start + word.width]
            start += word.width
            if Verdict.DIFFERENT in bits:
                found[word.name] = Verdict.DIFFERENT
            else:
                found[word.name] = Verdict.UNDECIDED if Verdict.UNDECIDED in bits else Verdict.PROVED
        return found

    def __str__(self) -> str:
        if self.proved:
            return f"proved equal ({len(self.verdicts)} outputs)"
        words = self.words
        different = [name for name, verdict in words.items() if verdict is Verdict.DIFFERENT]
        if different:
            return f"different in {', '.join(different)}"
        left = [name for name, verdict in words.items() if verdict is Verdict.UNDECIDED]
        return f"undecided in {', '.join(left)}"


Progress = Callable[[int, int], None]


def check_equal(
    a: Netlist,
    b: Netlist,
    *,
    seconds: float = 300.0,
    threads: int = 0,
    seed: int = 1,
    gate_conflicts: int = 100,
    output_conflicts: int = 1000,
    progress: Progress | None = None,
    state: Path | str | None = None,
) -> Equivalence:
    """Compares two netlists over the same interface, output by output.

    Args:
        seconds: after so long the outputs that are open stay undecided.
        threads: 0 for all cores.
        gate_conflicts: the solver's effort for two gates, before cases are distinguished.
        output_conflicts: and for two outputs. Neither changes what can be proved, only how.
        progress: called a few times a second with (outputs decided, outputs).
        state: a file that keeps which outputs are proved; a later call on the same netlists skips them.

    Raises:
        UserError: different interfaces, or a state file that cannot be read.
        VerifyError: a counterexample that is none, which is a bug of ours.
    """
    if a.interface != b.interface:
        raise UserError(
            f"the netlists have different interfaces, {a.interface} and {b.interface}",
            "equivalence",
            "compare netlists with the same words in the same order",
        )
    keeper = _State(Path(state), a, b) if state is not None else None
    skip = keeper.proved if keeper else [False] * len(a.outputs)

    def report(verdicts: Sequence[int]) -> None:
        if keeper:
            keeper.update([verdict == Verdict.PROVED.value for verdict in verdicts])
        if progress:
            progress(sum(verdict != Verdict.UNDECIDED.value for verdict in verdicts), len(verdicts))

    numbers, witnesses, cases, conflicts = _native.prove_equal(
        native_fields(a),
        native_fields(b),
        skip,
        [word.width for word in a.interface.inputs],
        seed,
        seconds,
        threads,
        gate_conflicts,
        output_conflicts,
        report,
    )
    report(numbers)
    verdicts = tuple(Verdict(number) for number in numbers)
    counterexample = None
    for bit, verdict in enumerate(verdicts):
        if verdict is Verdict.DIFFERENT:
            counterexample = _checked(a, b, bit, witnesses[bit])
            break
    return Equivalence(a, verdicts, counterexample, cases, conflicts)


def abc_cec(a: Netlist, b: Netlist, *, seconds: float = 300.0) -> Verdict:
    """What berkeley-abc's ``cec`` says of two netlists over the same interface: a judge that shares no code with ours.

    ``a`` is the reference (ABC looks at the outputs of the first network only). UNDECIDED after the time limit.

    Raises:
        UserError: no berkeley-abc on the PATH, or an answer of it that is none.
    """
    program = shutil.which("berkeley-abc")
    if program is None:
        raise UserError("berkeley-abc is not installed", "abc_cec", "install Debian's package berkeley-abc")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("reference.aig", "other.aig")]
        for file, netlist in zip(files, (a, b), strict=True):
            file.write_bytes(netlist_file(netlist, ".aig"))
        command = [program, "-q", f"cec -n {files[0]} {files[1]}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            return Verdict.UNDECIDED
    for text, verdict in (
        ("Networks are equivalent", Verdict.PROVED),
        ("NOT EQUIVALENT", Verdict.DIFFERENT),
        ("UNDECIDED", Verdict.UNDECIDED),
    ):
        if text in done.stdout:
            return verdict
    raise UserError(f"{(done.stdout + done.stderr).strip()[-80:]!r} is no verdict", "abc_cec", "try another version")


def native_fields(netlist: Netlist) -> tuple[int, NDArray[np.uint32], NDArray[np.uint32]]:
    """A netlist as the native core takes it: input bits, fan-ins, outputs."""
    fanins = np.ascontiguousarray(netlist.fanins, np.uint32).reshape(-1, 2)
    return netlist.interface.input_bits, fanins, np.ascontiguousarray(netlist.outputs, np.uint32)


def _checked(a: Netlist, b: Netlist, bit: int, witness: list[int]) -> Rows:
    row = pack(np.array([witness], np.uint8).reshape(1, a.interface.input_bits))
    bits = a.interface.output_bits
    if unpack(evaluate(a, row), bits)[0, bit] == unpack(evaluate(b, row), bits)[0, bit]:
        raise VerifyError("check_equal", f"output bit {bit}", "the netlists agree on the counterexample")
    return row


class _State:
    """Which outputs are proved, in a small JSON file that names the two netlists by hash."""

    def __init__(self, path: Path, a: Netlist, b: Netlist) -> None:
        self.path = path
        self.key = f"{_digest(a)} {_digest(b)}"
        self.proved = [False] * len(a.outputs)
        if path.exists():
            self._load()

    def _load(self) -> None:
        try:
            data = json.loads(self.path.read_text())
            if data["netlists"] == self.key:
                for bit in data["proved"]:
                    self.proved[bit] = True
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError("not a state file of an equivalence proof", str(self.path), "delete it") from error

    def update(self, proved: list[bool]) -> None:
        if proved == self.proved:
            return
        self.proved = proved
        data = {"netlists": self.key, "proved": [bit for bit, done in enumerate(proved) if done]}
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(data))
        temporary.replace(self.path)


def _digest(netlist: Netlist) -> str:
    hashed = hashlib.sha256(str(netlist.interface).encode())
    hashed.update(np.ascontiguousarray(netlist.fanins, "<u4").tobytes())
    hashed.update(np.ascontiguousarray(netlist.outputs, "<u4").tobytes())
    return hashed.hexdigest()
