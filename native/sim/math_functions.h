// Elementary functions of f32, evaluated in f64 without branches, so that loops over them vectorise and every machine
// gives the same bits. Largest error 0.51 units in the last place, by the f64 error bounds beside each series.
#pragma once

#include "sim/clones.h"

#include <bit>
#include <cmath>
#include <cstdint>

namespace tapeout::sim::math {

inline constexpr double kLn2 = 0x1.62e42fefa39efp-1;
inline constexpr double kLog2E = 0x1.71547652b82fep+0;
inline constexpr double kHalfPi = 0x1.921fb54442d18p+0;
inline constexpr double kInfinity = __builtin_inf();
inline constexpr double kNan = __builtin_nan("");
inline constexpr double kMagic = 0x1.8p52; // adding it rounds to an integer, found in the low bits

TAPEOUT_INLINE int64_t bits_of(double x) {
    return std::bit_cast<int64_t>(x);
}
TAPEOUT_INLINE double of_bits(int64_t x) {
    return std::bit_cast<double>(x);
}

// exp in f64: |relative error| < 3e-10. Saturates where f32 has long overflowed; NaN stays.
TAPEOUT_INLINE double exp_wide(double x) {
    const double y = x > 200.0 ? 200.0 : (x < -200.0 ? -200.0 : x);
    const double shifted = y * kLog2E + kMagic;
    const double n = shifted - kMagic;
    const double r = y - n * kLn2;
    double p = 1.0 / 40320; // Taylor; |r| <= 0.347
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    const int64_t power = (bits_of(shifted) - bits_of(kMagic) + 1023) << 52;
    return x == x ? p * of_bits(power) : x;
}

// log of a positive, finite, normal f64: |relative error| < 1e-12.
TAPEOUT_INLINE double log_finite(double x) {
    const int64_t bits = bits_of(x);
    const int64_t above = bits - 0x3fe6a09e667f3bcd; // of sqrt(1/2)
    const int64_t k = (above >> 52);
    const double m = of_bits(bits - (k << 52)); // sqrt(1/2) .. sqrt(2)
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 17; // atanh series; s <= 0.172
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    p = p * z + 1.0;
    const double exponent = of_bits(k + bits_of(kMagic)) - kMagic;
    return 2.0 * s * p + exponent * kLn2;
}

TAPEOUT_INLINE double log_wide(double x) {
    double y = log_finite(x > 0.0 ? (x < kInfinity ? x : 1.0) : 1.0);
    y = x == kInfinity ? kInfinity : y;
    y = x == 0.0 ? -kInfinity : y;
    y = x < 0.0 ? kNan : y;
    return x == x ? y : x;
}

// sin(r) and cos(r) for |r| <= pi/4: |relative error| < 1e-11.
TAPEOUT_INLINE double sin_small(double r) {
    const double z = r * r;
    double p = -1.0 / 39916800;
    p = p * z + 1.0 / 362880;
    p = p * z - 1.0 / 5040;
    p = p * z + 1.0 / 120;
    p = p * z - 1.0 / 6;
    return r + r * z * p;
}
TAPEOUT_INLINE double cos_small(double r) {
    const double z = r * r;
    double p = 1.0 / 479001600;
    p = p * z - 1.0 / 3628800;
    p = p * z + 1.0 / 40320;
    p = p * z - 1.0 / 720;
    p = p * z + 1.0 / 24;
    p = p * z - 0.5;
    return 1.0 + z * p;
}

// sin(quarter turns * pi/2 + r).
TAPEOUT_INLINE double sin_turned(double r, int64_t quarters) {
    const double y = quarters & 1 ? cos_small(r) : sin_small(r);
    return quarters & 2 ? -y : y;
}

inline constexpr double kReducible = 0x1p21; // below it multiples of the first part of pi/2 are exact

// sin (phase 0) or cos (phase 1) of |x| < kReducible.
TAPEOUT_INLINE double sin_reduced(double x, int64_t phase) {
    const double shifted = x * (1.0 / kHalfPi) + kMagic;
    const double n = shifted - kMagic;
    const double r = (x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a626331p-34; // the first product is exact
    return sin_turned(r, (bits_of(shifted) - bits_of(kMagic)) + phase);
}

// The same for any finite x: multiplies by as many bits of 2/pi as matter modulo four quarters (Payne and Hanek 1983).
inline double sin_large(float x, int64_t phase) {
    static constexpr uint64_t two_over_pi[6] = {0, // before the binary point
                                                0xa2f9836e4e441529,
                                                0xfc2757d1f534ddc0,
                                                0xdb6295993c439041,
                                                0xfe5163abdebbc561,
                                                0xb7246e3a424dd2e0};
    const uint32_t bits = std::bit_cast<uint32_t>(x) & 0x7fffffffu;
    const uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;
    const int skip = static_cast<int>(bits >> 23) - 150 - 2 + 64; // leading bits that give whole turns
    const auto word = [&](int i) {
        const int at = skip / 64 + i, shift = skip % 64;
        return shift ? two_over_pi[at] << shift | two_over_pi[at + 1] >> (64 - shift) : two_over_pi[at];
    };
    __extension__ using Wide = unsigned __int128;
    const Wide product = (Wide{word(0)} << 64 | word(1)) * mantissa; // quarters, 126 bits after the point
    const auto quarters = static_cast<int64_t>((product + (Wide{1} << 125)) >> 126);
    __extension__ using Signed = __int128;
    const auto rest = static_cast<double>(static_cast<Signed>(product - (static_cast<Wide>(quarters) << 126)));
    const double y = sin_turned(rest * 0x1p-126 * kHalfPi, quarters + phase);
    return std::signbit(x) && !phase ? -y : y;
}

// tanh: |relative error| < 1e-11.
TAPEOUT_INLINE double tanh_wide(double x) {
    const double z = x * x;
    const double small = x * (1.0 + z * (-1.0 / 3 + z * (2.0 / 15 + z * (-17.0 / 315))));
    const double e = exp_wide(2.0 * (x > 20.0 ? 20.0 : (x < -20.0 ? -20.0 : x)));
    const double large = (e - 1.0) / (e + 1.0);
    return z < 0.0025 ? small : large;
}

// erf: |error| < 1e-9 of the value; series below 1, Chebyshev fit of degree 16 on 1..4.
TAPEOUT_INLINE double erf_wide(double x) {
    const double z = x * x > 1.0 ? 1.0 : x * x;
    double p = 1.0 / (25 * 479001600.0);
    p = p * z - 1.0 / (23 * 39916800.0);
    p = p * z + 1.0 / (21 * 3628800.0);
    p = p * z - 1.0 / (19 * 362880.0);
    p = p * z + 1.0 / (17 * 40320.0);
    p = p * z - 1.0 / (15 * 5040.0);
    p = p * z + 1.0 / (13 * 720.0);
    p = p * z - 1.0 / (11 * 120.0);
    p = p * z + 1.0 / (9 * 24.0);
    p = p * z - 1.0 / (7 * 6.0);
    p = p * z + 1.0 / (5 * 2.0);
    p = p * z - 1.0 / 3;
    p = p * z + 1.0;
    const double small = x * p * 1.1283791670955126;
    const double magnitude = x < 0.0 ? -x : x;
    const double u = ((magnitude > 4.0 ? 4.0 : magnitude) - 2.5) / 1.5;
    double q = 0x1.799dc226a218ap-17;
    q = q * u - 0x1.427bd4eb266a9p-13;
    q = q * u + 0x1.c270c8e6eec36p-13;
    q = q * u + 0x1.6133eca39d8edp-11;
    q = q * u - 0x1.01b5e5d0d9dc1p-9;
    q = q * u + 0x1.5feb9820628fep-11;
    q = q * u + 0x1.2e6a79848b16ap-8;
    q = q * u - 0x1.3f3fd1a7e102bp-7;
    q = q * u + 0x1.b47b06526477cp-8;
    q = q * u + 0x1.30df51127474ap-7;
    q = q * u - 0x1.051b3ff09563ep-5;
    q = q * u + 0x1.7c8022597e3ccp-5;
    q = q * u - 0x1.6596c86ddc386p-5;
    q = q * u + 0x1.cdbbbbfd0b1e6p-6;
    q = q * u - 0x1.91804e55e3d76p-7;
    q = q * u + 0x1.ac4458767afe0p-9;
    q = q * u + 0x1.ffcaa8f4c9beap-1;
    q = magnitude >= 4.0 ? 1.0 : q;
    return magnitude < 1.0 || x != x ? small : (x < 0.0 ? -q : q);
}

// C's pow for f32 arguments.
TAPEOUT_INLINE double pow_wide(double x, double y) {
    const double base = x < 0.0 ? -x : x;
    double power = exp_wide(y * log_wide(base));
    power = power > 0x1p200 ? kInfinity : power; // exp_wide saturates; f32 has ended long before
    power = power < 0x1p-200 ? 0.0 : power;
    const double magnitude = y < 0.0 ? -y : y;
    const double half = magnitude * 0.5;
    // Integers beyond 2^52 are even and their own rounding.
    const double whole = magnitude < 0x1p51 ? (magnitude + kMagic) - kMagic : magnitude;
    const double whole_half = half < 0x1p51 ? (half + kMagic) - kMagic : half;
    const bool integer = whole == magnitude, odd = integer && whole_half != half;
    const bool negative = bits_of(x) < 0;
    double result = negative && odd ? -power : power;
    result = x < 0.0 && base < kInfinity && !integer ? kNan : result;
    result = (base == 1.0 && magnitude == kInfinity) || x == 1.0 || y == 0.0 ? 1.0 : result;
    return (x != x && y != 0.0) || (y != y && x != 1.0) ? kNan : result;
}

// atan2: |relative error| < 1e-10.
TAPEOUT_INLINE double atan2_wide(double y, double x) {
    const double ay = y < 0.0 ? -y : y, ax = x < 0.0 ? -x : x;
    const double low = ay < ax ? ay : ax, high = ay < ax ? ax : ay;
    double q = low / high;
    q = high == 0.0 ? 0.0 : (low == kInfinity ? 1.0 : q);
    const bool upper = q > 0.41421356237309503; // tan(pi/8)
    const double t = upper ? (q - 1.0) / (q + 1.0) : q, z = t * t;
    double p = 1.0 / 25;
    p = p * z - 1.0 / 23;
    p = p * z + 1.0 / 21;
    p = p * z - 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z - 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z - 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z - 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z - 1.0 / 3;
    p = p * z + 1.0;
    double angle = t * p + (upper ? kHalfPi / 2 : 0.0);
    angle = ay > ax ? kHalfPi - angle : angle;
    angle = bits_of(x) < 0 ? 2 * kHalfPi - angle : angle;
    angle = bits_of(y) < 0 ? -angle : angle;
    return x == x && y == y ? angle : kNan;
}

} // namespace tapeout::sim::math
