"""erf, Philox and narrowing against independent judges."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from tapeout.ir.special import erf, narrow, philox4x32, random_words


def test_erf_is_as_good_as_the_c_library() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), np.random.default_rng(0).normal(size=5000), [0.0, 1e-300]])
    assert np.abs(erf(x) - np.array([math.erf(v) for v in x])).max() <= 1e-15


def test_erf_of_special_values() -> None:
    out = erf(np.array([[np.inf, -np.inf], [np.nan, -0.0]]))
    assert out[0].tolist() == [1.0, -1.0]
    assert np.isnan(out[1, 0])
    assert math.copysign(1, out[1, 1]) == -1


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [  # known answers published with the paper (Random123, kat_vectors)
        ("00000000 00000000", "00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff", "ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("a4093822 299f31d0", "243f6a88 85a308d3 13198a2e 03707344", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(key: str, counter: str, words: str) -> None:
    start = np.array([[int(w, 16) for w in counter.split()]], np.uint32)
    out = philox4x32(start, [int(w, 16) for w in key.split()])
    assert [f"{w:08x}" for w in out[0]] == words.split()


def test_random_words_are_numbered_through() -> None:
    whole = random_words((1, 2), 5, 40)
    assert np.array_equal(random_words((1, 2), 7, 9), whole[8:17])
    wrapped = random_words((1, 2), 2**64 - 1, 8)
    assert np.array_equal(wrapped[4:], random_words((1, 2), 0, 4))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, np.float16])
def test_narrow_rounds_once(dtype: type) -> None:
    """Points just beside a tie between two neighbours, where rounding by way of f32 goes wrong."""
    grid = np.array([0.5, 1, 1.5, 1.75, 3, 5, 112, 2.0**-6], dtype).astype(np.float64)
    step = float(ml_dtypes.finfo(dtype).eps)
    for low in grid:
        ulp = step * 2.0 ** math.floor(math.log2(low))
        tie = low + ulp / 2
        beside = np.array([tie - tie * 2**-40, tie + tie * 2**-40])
        assert narrow(beside, np.dtype(dtype)).astype(np.float64).tolist() == [low, low + ulp]
        even = min(low, low + ulp, key=lambda v: Fraction(v) / Fraction(ulp) % 2)
        assert float(narrow(np.array([tie]), np.dtype(dtype))[0]) == even


def test_narrow_keeps_infinities_and_nan() -> None:
    out = narrow(np.array([np.inf, -np.inf, np.nan, 1e300, 1e-300]), np.dtype(ml_dtypes.bfloat16))
    assert out[:2].astype(np.float64).tolist() == [np.inf, -np.inf]
    assert np.isnan(out[2])
    assert out[3:].astype(np.float64).tolist() == [np.inf, 0.0]
