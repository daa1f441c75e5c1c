"""The tutorial is true: what it shows is what happens."""

from pathlib import Path

import pytest

from doc_blocks import differences, matches

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.slow
def test_your_chip_in_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert differences(DOCS / "tutorial.md", tmp_path) == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a", "b"], ["a", "b"], True), (["a"], ["a", "b"], False), (["a", "..."], ["a", "b", "c"], True),
        (["...", "c"], ["a", "b", "c"], True), (["...", "c"], ["a", "b"], False), ([], [], True), (["..."], [], True),
    ],
)  # fmt: skip
def test_what_counts_as_the_same(shown: list[str], printed: list[str], same: bool) -> None:
    assert matches(shown, printed) is same
