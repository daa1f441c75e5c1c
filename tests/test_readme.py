"""The README is true: its Python runs, its commands run, its report is what the command prints, its links lead
somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from doc_blocks import differences
from tapeout.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.startswith("tapeout")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*shlex.split(command)[1:]])
    assert result.exit_code == 0, result.output


def test_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert "(1, 1000)" in capsys.readouterr().out


def test_the_report_is_what_the_command_prints(tmp_path: Path) -> None:
    assert differences(ROOT / "README.md", tmp_path) == []


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
