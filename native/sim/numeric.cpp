#include "sim/numeric.h"

#include <cstring>
#include <type_traits>

namespace tapeout::sim {

namespace {

// How an element of each type is stored and read: `Stored`, to the natural C++ number, and back from one.
template <DType>
struct Element;
template <class T>
struct Plain {
    using Stored = T;
    static TAPEOUT_INLINE T decode(T x) { return x; }
};
template <>
struct Element<DType::f64> : Plain<double> {};
template <>
struct Element<DType::f32> : Plain<float> {};
template <>
struct Element<DType::i64> : Plain<int64_t> {};
template <>
struct Element<DType::i32> : Plain<int32_t> {};
template <>
struct Element<DType::i16> : Plain<int16_t> {};
template <>
struct Element<DType::i8> : Plain<int8_t> {};
template <>
struct Element<DType::u64> : Plain<uint64_t> {};
template <>
struct Element<DType::u32> : Plain<uint32_t> {};
template <>
struct Element<DType::u16> : Plain<uint16_t> {};
template <>
struct Element<DType::u8> : Plain<uint8_t> {};
template <>
struct Element<DType::f16> {
    using Stored = uint16_t;
    static TAPEOUT_INLINE float decode(Stored x) { return Half::decode(x); }
    static TAPEOUT_INLINE Stored encode(float x) { return static_cast<Stored>(Half::encode(x)); }
};
template <>
struct Element<DType::bf16> {
    using Stored = uint16_t;
    static TAPEOUT_INLINE float decode(Stored x) { return decode_bfloat(x); }
    static TAPEOUT_INLINE Stored encode(float x) { return static_cast<Stored>(encode_bfloat(x)); }
};
template <>
struct Element<DType::f8e4m3> {
    using Stored = uint8_t;
    static TAPEOUT_INLINE float decode(Stored x) { return Float8E4M3::decode(x); }
    static TAPEOUT_INLINE Stored encode(float x) { return static_cast<Stored>(Float8E4M3::encode(x)); }
};
template <>
struct Element<DType::f8e5m2> {
    using Stored = uint8_t;
    static TAPEOUT_INLINE float decode(Stored x) { return Float8E5M2::decode(x); }
    static TAPEOUT_INLINE Stored encode(float x) { return static_cast<Stored>(Float8E5M2::encode(x)); }
};
template <>
struct Element<DType::b1> {
    using Stored = uint8_t;
    static TAPEOUT_INLINE int32_t decode(Stored x) { return x != 0; }
};

template <DType type, class Number>
TAPEOUT_INLINE Number read_as(typename Element<type>::Stored stored) {
    const auto natural = Element<type>::decode(stored);
    using Natural = std::remove_const_t<decltype(natural)>;
    if constexpr (std::is_floating_point_v<Natural> && !std::is_floating_point_v<Number>) {
        return saturate<Number>(natural);
    } else {
        return static_cast<Number>(natural);
    }
}

template <DType type, class Number>
TAPEOUT_INLINE typename Element<type>::Stored written_as(Number x) {
    using Stored = typename Element<type>::Stored;
    if constexpr (type == DType::b1) {
        return x != 0;
    } else if constexpr (requires { Element<type>::encode(0.0f); }) {
        return Element<type>::encode(static_cast<float>(x));
    } else if constexpr (std::is_floating_point_v<Number> && std::is_integral_v<Stored>) {
        return saturate<Stored>(x);
    } else {
        return static_cast<Stored>(x);
    }
}

template <class Stored>
TAPEOUT_INLINE Stored peek(const uint8_t* at) {
    Stored value;
    std::memcpy(&value, at, sizeof(Stored));
    return value;
}

template <DType type, class Number>
TAPEOUT_INLINE void load_all(const uint8_t* src, int64_t stride, Number* __restrict dst, int64_t count) {
    using Stored = typename Element<type>::Stored;
    if (stride == sizeof(Stored)) {
        for (int64_t i = 0; i < count; ++i) {
            dst[i] = read_as<type, Number>(peek<Stored>(src + i * static_cast<int64_t>(sizeof(Stored))));
        }
    } else if (stride == 0) {
        const Number value = read_as<type, Number>(peek<Stored>(src));
        for (int64_t i = 0; i < count; ++i)
            dst[i] = value;
    } else {
        for (int64_t i = 0; i < count; ++i) {
            dst[i] = read_as<type, Number>(peek<Stored>(src + i * stride));
        }
    }
}

// `write(x)` gives the stored form of a number.
template <class Stored, class Number, class Write>
TAPEOUT_INLINE void store_all(const Number* __restrict src, uint8_t* dst, int64_t stride, int64_t count, Write write) {
    if (stride == sizeof(Stored)) {
        for (int64_t i = 0; i < count; ++i) {
            const Stored value = write(src[i]);
            std::memcpy(dst + i * static_cast<int64_t>(sizeof(Stored)), &value, sizeof(Stored));
        }
    } else {
        for (int64_t i = 0; i < count; ++i) {
            const Stored value = write(src[i]);
            std::memcpy(dst + i * stride, &value, sizeof(Stored));
        }
    }
}

// Calls `body` with the element type as a compile-time constant.
template <class Body>
TAPEOUT_INLINE void with_type(DType type, Body body) {
    switch (type) {
#define TAPEOUT_CASE(name)                                                                                             \
    case DType::name:                                                                                                  \
        return body.template operator()<DType::name>();
        TAPEOUT_CASE(f64)
        TAPEOUT_CASE(f32)
        TAPEOUT_CASE(f16)
        TAPEOUT_CASE(bf16)
        TAPEOUT_CASE(f8e4m3)
        TAPEOUT_CASE(f8e5m2)
        TAPEOUT_CASE(i64)
        TAPEOUT_CASE(i32)
        TAPEOUT_CASE(i16)
        TAPEOUT_CASE(i8)
        TAPEOUT_CASE(u64)
        TAPEOUT_CASE(u32)
        TAPEOUT_CASE(u16)
        TAPEOUT_CASE(u8)
        TAPEOUT_CASE(b1)
#undef TAPEOUT_CASE
    }
}

template <class Number>
TAPEOUT_INLINE void load_any(DType type, const uint8_t* src, int64_t stride, Number* dst, int64_t count) {
    with_type(type, [=]<DType stored>() TAPEOUT_LAMBDA { load_all<stored, Number>(src, stride, dst, count); });
}

template <class Number>
TAPEOUT_INLINE void store_any(DType type, const Number* src, uint8_t* dst, int64_t stride, int64_t count) {
    with_type(type, [=]<DType stored>() TAPEOUT_LAMBDA {
        store_all<typename Element<stored>::Stored>(
            src, dst, stride, count, [](Number x) TAPEOUT_LAMBDA { return written_as<stored, Number>(x); });
    });
}

// Up to 16 bits the sum is taken in i32, which cannot overflow once the rounded value is cut to 30 bits.
template <class Int>
TAPEOUT_INLINE Int round_and_shift(float x, int64_t zero) {
    const float rounded = __builtin_rintf(x);
    using Limits = std::numeric_limits<Int>;
    if constexpr (sizeof(Int) <= 2) {
        float y = rounded == rounded ? rounded : 0.0f;
        y = y < -0x1p29f ? -0x1p29f : y;
        y = y > 0x1p29f ? 0x1p29f : y;
        const int32_t sum = static_cast<int32_t>(y) + static_cast<int32_t>(zero);
        const int32_t high = sum > Limits::max() ? Limits::max() : sum;
        return static_cast<Int>(high < Limits::min() ? Limits::min() : high);
    } else {
        __extension__ using Wide = __int128;
        float y = rounded == rounded ? rounded : 0.0f;
        y = y < -0x1p100f ? -0x1p100f : y;
        y = y > 0x1p100f ? 0x1p100f : y;
        const Wide sum = static_cast<Wide>(y) + zero;
        const Wide high = sum > Limits::max() ? Wide{Limits::max()} : sum;
        return static_cast<Int>(high < Limits::min() ? Wide{Limits::min()} : high);
    }
}

} // namespace

TAPEOUT_CLONES void load(DType type, const uint8_t* src, int64_t stride, float* dst, int64_t count) {
    load_any(type, src, stride, dst, count);
}
TAPEOUT_CLONES void load(DType type, const uint8_t* src, int64_t stride, int32_t* dst, int64_t count) {
    load_any(type, src, stride, dst, count);
}
TAPEOUT_CLONES void load(DType type, const uint8_t* src, int64_t stride, int64_t* dst, int64_t count) {
    load_any(type, src, stride, dst, count);
}
TAPEOUT_CLONES void store(DType type, const float* src, uint8_t* dst, int64_t stride, int64_t count) {
    store_any(type, src, dst, stride, count);
}
TAPEOUT_CLONES void store(DType type, const int32_t* src, uint8_t* dst, int64_t stride, int64_t count) {
    store_any(type, src, dst, stride, count);
}
TAPEOUT_CLONES void store(DType type, const int64_t* src, uint8_t* dst, int64_t stride, int64_t count) {
    store_any(type, src, dst, stride, count);
}

TAPEOUT_CLONES void store_rounded(DType type, const float* src, int64_t zero, uint8_t* dst, int64_t stride,
                                  int64_t count) {
    with_type(type, [=]<DType stored>() TAPEOUT_LAMBDA {
        using Stored = typename Element<stored>::Stored;
        store_all<Stored>(src, dst, stride, count, [zero](float x) TAPEOUT_LAMBDA {
            if constexpr (is_float(stored) || stored == DType::b1) {
                return written_as<stored, float>(x);
            } else {
                return round_and_shift<Stored>(x, zero);
            }
        });
    });
}

void encode_element(DType type, double value, uint8_t* out) {
    with_type(type, [=]<DType stored>() {
        const typename Element<stored>::Stored bytes = written_as<stored, double>(value);
        std::memcpy(out, &bytes, sizeof(bytes));
    });
}

} // namespace tapeout::sim
