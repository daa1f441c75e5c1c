import os
from pathlib import Path

import pytest

import tapeout
from tapeout import _native

pytestmark = pytest.mark.native


def test_native_core_is_built_from_this_version() -> None:
    assert _native.version() == tapeout.__version__


def test_the_sanitizer_run_tests_the_sanitized_core() -> None:
    sanitized = b"__asan_init" in Path(_native.__file__).read_bytes()
    assert sanitized == ("TAPEOUT_NATIVE" in os.environ)
