// Conversions between stored element types and the types that engines compute in.
//
// To a narrower float: to nearest even. Float to integer: truncates and saturates, NaN gives 0. Integers wrap.
// Integers become 16 and 8 bit floats by way of f32. b1 is one byte, 0 or 1; any nonzero value becomes 1.
#pragma once

#include "sim/clones.h"
#include "sim/program.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tapeout::sim {

// `count` elements from `src` on, `stride` bytes apart (0 repeats one), to packed numbers of the compute type.
void load(DType type, const uint8_t* src, int64_t stride, float* dst, int64_t count);
void load(DType type, const uint8_t* src, int64_t stride, int32_t* dst, int64_t count);
void load(DType type, const uint8_t* src, int64_t stride, int64_t* dst, int64_t count);

// The way back.
void store(DType type, const float* src, uint8_t* dst, int64_t stride, int64_t count);
void store(DType type, const int32_t* src, uint8_t* dst, int64_t stride, int64_t count);
void store(DType type, const int64_t* src, uint8_t* dst, int64_t stride, int64_t count);

// Drain's conversion: to integers rounds to nearest even, adds `zero` and saturates (NaN gives `zero`).
void store_rounded(DType type, const float* src, int64_t zero, uint8_t* dst, int64_t stride, int64_t count);

// The bytes of `value` as one element.
void encode_element(DType type, double value, uint8_t* out);

// ---- single elements, inlined into vectorised loops

template <class Int, class Float>
TAPEOUT_INLINE Int saturate(Float x) {
    using Limits = std::numeric_limits<Int>;
    constexpr bool exact = Limits::digits <= std::numeric_limits<Float>::digits;
    constexpr Float past = static_cast<Float>(uint64_t{1} << (Limits::digits - 1)) * 2; // 2^digits
    constexpr Float top = exact ? static_cast<Float>(Limits::max())
                                : past * (1 - std::numeric_limits<Float>::epsilon() / 2); // largest below
    constexpr Float bottom = Limits::is_signed ? -past : Float{0};
    Float y = x == x ? x : Float{0};
    y = y < bottom ? bottom : y;
    y = y > top ? top : y;
    const Int result = sizeof(Int) < 4 ? static_cast<Int>(static_cast<int32_t>(y)) : static_cast<Int>(y);
    return x >= past ? Limits::max() : result;
}

// Floats of 8 and 16 bits: 1 sign bit, `Exponent` bits, `Mantissa` bits.
template <int Exponent, int Mantissa, bool Finite>
struct SmallFloat {
    static constexpr int kShift = 23 - Mantissa;
    static constexpr int kBias = (1 << (Exponent - 1)) - 1;
    static constexpr uint32_t kSign = 1u << (Exponent + Mantissa);
    static constexpr uint32_t kExponentMask = ((1u << Exponent) - 1) << Mantissa;
    static constexpr uint32_t kNan = Finite ? kSign - 1 : kExponentMask | (1u << (Mantissa - 1));

    // Shifting exponent and mantissa into place and scaling treats normal and denormal numbers alike.
    static TAPEOUT_INLINE float decode(uint32_t h) {
        const uint32_t magnitude = (h & (kSign - 1)) << kShift;
        constexpr float scale = std::bit_cast<float>(static_cast<uint32_t>(127 + 127 - kBias) << 23);
        uint32_t bits = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * scale);
        const bool special = Finite ? (h & (kSign - 1)) == kNan : (h & kExponentMask) == kExponentMask;
        bits |= special ? (Finite ? 0x7fc00000u : 0x7f800000u) : 0u;
        return std::bit_cast<float>(bits | (h & kSign) << (31 - Exponent - Mantissa));
    }

    static TAPEOUT_INLINE uint32_t encode(float x) {
        const uint32_t bits = std::bit_cast<uint32_t>(x);
        const uint32_t magnitude = bits & 0x7fffffffu;
        // Normal: add half of what is cut off (to even), then move the exponent's bias.
        const uint32_t rounded = magnitude + ((1u << (kShift - 1)) - 1) + ((magnitude >> kShift) & 1);
        const uint32_t normal = (rounded - (static_cast<uint32_t>(127 - kBias) << 23)) >> kShift;
        // Denormal: adding a number whose last place is the smallest denormal makes the adder round.
        constexpr float magic = std::bit_cast<float>(static_cast<uint32_t>(127 - kBias + 1 + kShift) << 23);
        const uint32_t denormal =
            std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + magic) - std::bit_cast<uint32_t>(magic);
        constexpr uint32_t smallest_normal = static_cast<uint32_t>(127 - kBias + 1) << 23;
        constexpr uint32_t overflow = Finite ? kNan : kExponentMask; // the first code that is no number
        uint32_t result = magnitude < smallest_normal ? denormal : normal;
        result = magnitude >= 0x7f800000u || result > overflow ? overflow : result;
        result = magnitude > 0x7f800000u ? kNan : result;
        return result | (bits >> (31 - Exponent - Mantissa) & kSign);
    }
};
using Half = SmallFloat<5, 10, false>;
using Float8E4M3 = SmallFloat<4, 3, true>;
using Float8E5M2 = SmallFloat<5, 2, false>;

TAPEOUT_INLINE float decode_bfloat(uint32_t h) {
    return std::bit_cast<float>(h << 16);
}

TAPEOUT_INLINE uint32_t encode_bfloat(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16 & 0x8000u) | 0x7fc0u : rounded;
}

} // namespace tapeout::sim
