"""Runs of a table: each a process of its own, kept as a line of a file as soon as it is done."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from tapeout import __version__
from tapeout.bench.cases import Case
from tapeout.errors import UserError

SCHEMA, VERSION = "tapeout.bench", 1
LOW = 0.3
"""Ratio to the attainable bound below which a run is timed again, to tell where its cycles went."""
KEPT = ("cycles", "macs", "fallbacks", "tool_s", "attainable", "floor", "right")
"""What is kept of a run's report."""
REASON = 300

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run: seconds, and bytes of memory (0: none)."""

    seconds: float = 600
    memory_bytes: int = 0


@cache
def fingerprint() -> str:
    """A hash of the installed package: figures of another one are not mixed with those of this one."""
    package = Path(__file__).parent.parent
    files = sorted(file for file in package.rglob("*") if file.suffix in (".py", ".so", ".toml", ".pyd"))
    digest = hashlib.blake2b(digest_size=12)
    for file in files:
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def provenance(command: str) -> Record:
    """The first line of a file: when, by what command, with what."""
    versions = {name: metadata.version(name) for name in ("numpy", "onnx")}
    return {
        "schema": SCHEMA, "version": VERSION, "date": datetime.now(UTC).date().isoformat(), "command": command,
        "tapeout": __version__, "fingerprint": fingerprint(), "versions": versions, "processors": os.cpu_count(),
    }  # fmt: skip


def read(path: Path) -> tuple[Record, dict[str, Record]]:
    """The head and the records of a file, by key; a line that a killed run left half is not there.

    `UserError` where it is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", str(path), "give a file that this command wrote") from None
    found: list[Record] = []
    for line in lines:
        try:
            value: Any = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(cast("Record", value))
    if not found or found[0].get("schema") != SCHEMA:
        raise UserError("is no table of runs", str(path), "give a file that this command wrote")
    return found[0], {record["key"]: record for record in found[1:] if "key" in record}


def run_all(
    cases: Sequence[Case],
    path: Path,
    command: str,
    *,
    jobs: int = 1,
    values: bool = True,
    retry: bool = False,
    limits: Limits = Limits(),  # immutable
    progress: Callable[[Case, Record, int], None] = lambda case, record, done: None,
) -> dict[str, Record]:
    """Runs what the file does not have yet (`retry`: or not right); returns the records of all cases. The file of
    another version of the package becomes `path` with `.last` behind it. Ctrl-C ends the runs under way; what is done
    stays."""
    known: dict[str, Record] = {}
    if path.exists():
        head, known = read(path)
        if head["fingerprint"] != fingerprint():
            _put_aside(path, head, known)
            known = {}
    wanted = {case.key: case for case in cases}
    done = {"right", *(() if values else ("timed",)), *(() if retry else ("wrong", "refused", "failed", "late"))}
    todo = [case for key, case in wanted.items() if key not in known or known[key]["status"] not in done]
    lock = threading.Lock()
    children: set[subprocess.Popen[str]] = set()
    stopped = threading.Event()
    fresh = not path.exists()
    try:
        out = path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write ({error.strerror})", str(path), "give a path in a folder that exists") from None
    with out, ThreadPoolExecutor(max(1, jobs)) as pool:
        out.write(json.dumps(provenance(command)) + "\n" if fresh else "\n")  # a killed run may have left half a line
        out.flush()

        def work(case: Case) -> None:
            record = run_case(case, values, limits, children)
            with lock:
                if stopped.is_set():  # it did not come to its own end
                    return
                known[case.key] = record
                out.write(json.dumps(record) + "\n")
                out.flush()
                progress(case, record, sum(key in known for key in wanted))

        try:
            for run in [pool.submit(work, case) for case in todo]:
                run.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for child in tuple(children):
                _kill(child)
            raise
    return {key: known[key] for key in wanted}


def last_of(path: Path) -> Path:
    """Where the records of versions before are kept."""
    return path.with_name(path.name + ".last")


def _put_aside(path: Path, head: Record, records: dict[str, Record]) -> None:
    """Moves the records to those of versions before, where they replace older ones of the same runs."""
    last = last_of(path)
    older = read(last)[1] if last.exists() else {}
    part = last.with_name(last.name + ".part")
    part.write_text(
        "".join(json.dumps(line) + "\n" for line in (head, *{**older, **records}.values())), encoding="utf-8"
    )
    part.replace(last)
    path.unlink()


def run_case(case: Case, values: bool, limits: Limits, children: set[subprocess.Popen[str]]) -> Record:
    """The record of one run: what it reported, what it cost, or the line that it ended with."""
    record: Record = {"key": case.key, "model": case.model, "chip": case.chip, "options": dict(case.options)}
    extra = () if values else ("--timing-only",)
    code, text, cost = _child((*case.arguments, "--strict", "--json", *extra), limits, children)
    record.update(cost)
    try:
        report: Record = json.loads(text) if code in (0, 3) else {}
    except ValueError:
        report = {}
    if not report:
        record.update(status=_status(code), reason=text.strip()[-REASON:], right=None)
        return record
    record.update({name: report[name] for name in KEPT})
    record["status"] = "wrong" if code == 3 else "right" if record["right"] else "timed"
    if report["attainable"]["ratio"] < LOW:
        code, text, _ = _child((*case.arguments, "--timing-only", "--json", "--why"), limits, children)
        record["lost"] = json.loads(text)["lost"] if code == 0 else {}
    return record


def _status(code: int | None) -> str:
    """How a run ended without a report."""
    return "late" if code is None else "refused" if code == 2 else "failed"


def _child(
    arguments: Iterable[str], limits: Limits, children: set[subprocess.Popen[str]]
) -> tuple[int | None, str, Record]:
    """One `tapeout run` (no exit code where it took too long), its output, CPU seconds and peak memory."""
    command = [sys.executable, "-m", "tapeout", "run", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )  # fmt: skip
    children.add(child)
    if limits.memory_bytes and hasattr(resource, "prlimit"):  # on Linux
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(child)

    timer = threading.Timer(limits.seconds, stop)
    timer.start()
    assert child.stdout is not None
    try:
        with child.stdout as output:
            text = output.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        children.discard(child)
    unit = 1 if sys.platform == "darwin" else 1024
    cost = {"cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "peak_bytes": usage.ru_maxrss * unit}
    return (None if late.is_set() else child.returncode), text, cost


def _kill(child: subprocess.Popen[str]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
