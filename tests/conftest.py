"""What all tests share: the Hypothesis profile, golden files, the choice of the native core."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Deterministic: a failure seen once is seen again. No deadline: machines differ.
# `--hypothesis-profile=search` draws new random cases instead, many of them.
settings.register_profile("tapeout", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("tapeout")

# `make sanitize` runs tests against another build of the native core than the installed one.
if path := os.environ.get("TAPEOUT_NATIVE"):
    spec = importlib.util.spec_from_file_location("tapeout._native", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["tapeout._native"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["tapeout._native"])

# Schedules are searched anew: the cache of whoever runs the tests stays as it is.
os.environ["TAPEOUT_CACHE"] = "off"

# Where this was started in the background, SIGINT is ignored, and by every child as well: tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with tests/golden/NAME: ``golden("gemm.txt", text)``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing; run pytest --update-golden and read what it writes"
        assert text == path.read_text(), f"{name} differs; if that is meant, run pytest --update-golden"

    return check
