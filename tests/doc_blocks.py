"""Pages whose examples are run: files that a page shows are written, its commands are run in order, and what they print
is what the page shows.

A fence with a file's name behind its language (```` ```toml edge.toml ````) is that file. In a `console` fence a line
that begins with `$ tapeout` is run; what follows up to the next one is its output, where a line `...` stands for any
lines. `# exit code 2` behind a command is what it ends with.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from tapeout.cli import app

FENCE = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ (tapeout .*?)(?: +# exit code (\d+))?$", re.MULTILINE)
ANY = "..."
MACHINE = ("Host time", "Values", "compile and timing:", "memory:")
"""How lines begin that depend on the machine."""


def lasting(text: str) -> list[str]:
    """What does not depend on the machine: not seconds, not the last digits of an error."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith(MACHINE) and " error " not in line]


def run_command(line: str) -> tuple[int, str]:
    """Exit code, and what it printed (progress left out)."""
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    return result.exit_code, result.output if result.exit_code else result.stdout


def differences(page: Path, folder: Path) -> list[str]:
    """What is not as `page` says, its files and commands being those of `folder`, the present one."""
    found: list[str] = []
    for language, name, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if name:
            (folder / name).write_text(body, encoding="utf-8")
        if language != "console":
            continue
        parts = COMMAND.split(body)
        for command, code, shown in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            exit_code, printed = run_command(command)
            if exit_code != int(code or 0):
                found.append(f"{command}: exit code {exit_code}: {printed}")
            elif not matches(lasting(shown), lasting(printed)):
                found.append(f"{command} prints\n{printed}")
    return found


def matches(shown: list[str], printed: list[str]) -> bool:
    """Equal line by line, where `...` stands for any number of lines."""
    if not shown:
        return not printed
    if shown[0] == ANY:
        return any(matches(shown[1:], printed[n:]) for n in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and matches(shown[1:], printed[1:])
