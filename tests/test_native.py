import pytest

import tapeout
from tapeout import _native

pytestmark = pytest.mark.native


def test_native_core_is_built_from_this_version() -> None:
    assert _native.version() == tapeout.__version__
