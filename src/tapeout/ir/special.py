"""Functions that NumPy lacks: erf, the Philox random generator, narrowing of float64 rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
"""Any array; element type and shape are checked when values are made."""

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), tables II
# to IV: numerator and denominator coefficients, highest power first.
_ERF_NEAR = (  # erf(x) / x as a function of x^2, |x| <= 0.46875
    (
        1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)  # fmt: skip
_ERFC_MIDDLE = (  # erfc(x) * exp(x^2) as a function of x, 0.46875 <= x <= 4
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
        2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
        3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
_ERFC_FAR = (  # (1/sqrt(pi) - x * erfc(x) * exp(x^2)) * x^2 as a function of 1/x^2, x >= 4
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
        1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (
        1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)  # fmt: skip
_ERF_IS_ONE = 6.0  # erfc(6) = 2e-17 is below half an ulp of 1


def _ratio(x: Array, coefficients: tuple[Sequence[float], Sequence[float]]) -> Array:
    above, below = (np.full_like(x, c[0]) for c in coefficients)
    for a, b in zip(coefficients[0][1:], coefficients[1][1:], strict=True):
        above *= x
        above += a
        below *= x
        below += b
    return above / below


def erf(x: Array) -> Array:
    """The error function of float64, absolute error below 1e-15 (Cody 1969, see above)."""
    flat = np.abs(np.asarray(x, np.float64)).ravel()
    out = np.ones_like(flat)
    out[np.isnan(flat)] = np.nan
    near = flat <= 0.46875
    middle = (flat > 0.46875) & (flat <= 4)
    far = (flat > 4) & (flat < _ERF_IS_ONE)
    a = flat[near]
    out[near] = a * _ratio(a * a, _ERF_NEAR)
    a = flat[middle]
    out[middle] = 1 - np.exp(-a * a) * _ratio(a, _ERFC_MIDDLE)
    a = flat[far]
    inverse = 1 / (a * a)
    out[far] = 1 - np.exp(-a * a) / a * (1 / np.sqrt(np.pi) - inverse * _ratio(inverse, _ERFC_FAR))
    return np.copysign(out.reshape(np.shape(x)), x)


# J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, table 2 and section 3.3.
_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: Array, key: Sequence[int]) -> Array:
    """Philox4x32-10: `counter[n,4] u32` (word 0 lowest) and a key of two words give `out[n,4] u32`."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    m0, m1 = (np.uint64(m) for m in _PHILOX_MULTIPLIERS)
    for _ in range(10):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1 = (p1 >> _HALF) ^ c1 ^ np.uint64(k0), p1 & _LOW
        c2, c3 = (p0 >> _HALF) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _PHILOX_WEYL[0]) & 0xFFFFFFFF, (k1 + _PHILOX_WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def random_words(key: Sequence[int], offset: int, count: int) -> Array:
    """`count` words: word `e % 4` of the Philox block with the counter `offset + e // 4` (modulo 2^64)."""
    block = np.arange((count + 3) // 4, dtype=np.uint64) + np.uint64(offset)
    zero = np.zeros_like(block)
    counter = np.stack([block & _LOW, block >> _HALF, zero, zero], axis=1).astype(np.uint32)
    return philox4x32(counter, key).ravel()[:count]


def narrow(x: Array, dtype: np.dtype[Any]) -> Array:
    """`x` rounded once, to nearest even, to `dtype`.

    ml_dtypes rounds float64 to float32 on its way to a narrower type. Rounding to odd on that way (Boldo
    and Melquiond 2008) keeps the last bit that the second rounding needs, so that the two act as one.
    """
    if x.dtype != np.float64 or dtype.itemsize > 2 or dtype == np.float16:
        return x.astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    toward_zero = np.where(np.abs(single) > np.abs(x), np.nextafter(single, np.float32(0)), single)
    inexact = np.isfinite(toward_zero) & (toward_zero != x)
    odd = (toward_zero.view(np.uint32) | inexact.astype(np.uint32)).view(np.float32)
    return odd.astype(dtype)
