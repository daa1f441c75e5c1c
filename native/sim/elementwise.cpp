#include "sim/elementwise.h"

#include "sim/math_functions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace tapeout::sim {

namespace {

template <class T, class F>
TAPEOUT_INLINE void map1(const Operands& x, F f) {
    const T* a = static_cast<const T*>(x.a);
    T* out = static_cast<T*>(x.out);
    for (int64_t i = 0; i < x.count; ++i)
        out[i] = f(a[i]);
}

template <class T, class F>
TAPEOUT_INLINE void map2(const Operands& x, F f) {
    const T *a = static_cast<const T*>(x.a), *b = static_cast<const T*>(x.b);
    T* out = static_cast<T*>(x.out);
    for (int64_t i = 0; i < x.count; ++i)
        out[i] = f(a[i], b[i]);
}

template <class T, class F>
TAPEOUT_INLINE void map3(const Operands& x, F f) {
    const T *a = static_cast<const T*>(x.a), *b = static_cast<const T*>(x.b), *c = static_cast<const T*>(x.c);
    T* out = static_cast<T*>(x.out);
    for (int64_t i = 0; i < x.count; ++i)
        out[i] = f(a[i], b[i], c[i]);
}

template <class T>
TAPEOUT_INLINE T larger(T a, T b) {
    return a > b || a != a ? a : b;
}
template <class T>
TAPEOUT_INLINE T smaller(T a, T b) {
    return a < b || a != a ? a : b;
}

#define TAPEOUT_MAP1(expression) return map1<T>(x, [](T a) TAPEOUT_LAMBDA -> T { return expression; })
#define TAPEOUT_MAP2(expression) return map2<T>(x, [](T a, T b) TAPEOUT_LAMBDA -> T { return expression; })
#define TAPEOUT_MAP3(expression) return map3<T>(x, [](T a, T b, T c) TAPEOUT_LAMBDA -> T { return expression; })

// What floats and integers do alike. False where `op` is none of these.
template <class T>
TAPEOUT_INLINE bool common(VectorOp op, const Operands& x) {
    const auto run = [&]() TAPEOUT_LAMBDA {
        switch (op) {
        case VectorOp::copy:
            TAPEOUT_MAP1(a);
        case VectorOp::max:
            TAPEOUT_MAP2(larger(a, b));
        case VectorOp::min:
            TAPEOUT_MAP2(smaller(a, b));
        case VectorOp::eq:
            TAPEOUT_MAP2(a == b);
        case VectorOp::ne:
            TAPEOUT_MAP2(a != b);
        case VectorOp::lt:
            TAPEOUT_MAP2(a < b);
        case VectorOp::le:
            TAPEOUT_MAP2(a <= b);
        case VectorOp::gt:
            TAPEOUT_MAP2(a > b);
        case VectorOp::ge:
            TAPEOUT_MAP2(a >= b);
        case VectorOp::select:
            TAPEOUT_MAP3(a != T{0} ? b : c);
        case VectorOp::clamp:
            TAPEOUT_MAP3(smaller(larger(a, b), c));
        default:
            return;
        }
    };
    run();
    switch (op) {
    case VectorOp::copy:
    case VectorOp::max:
    case VectorOp::min:
    case VectorOp::eq:
    case VectorOp::ne:
    case VectorOp::lt:
    case VectorOp::le:
    case VectorOp::gt:
    case VectorOp::ge:
    case VectorOp::select:
    case VectorOp::clamp:
        return true;
    default:
        return false;
    }
}

// A few arguments are too large for the vectorised reduction; they get the long one afterwards.
TAPEOUT_INLINE void sine(const Operands& x, int64_t phase) {
    const float* a = static_cast<const float*>(x.a);
    float* out = static_cast<float*>(x.out);
    constexpr int64_t kBlock = 256;
    float kept[kBlock];
    for (int64_t start = 0; start < x.count; start += kBlock) {
        const int64_t count = std::min(kBlock, x.count - start);
        bool large = false;
        for (int64_t i = 0; i < count; ++i) {
            kept[i] = a[start + i];
            large |= !(std::fabs(kept[i]) < static_cast<float>(math::kReducible));
        }
        for (int64_t i = 0; i < count; ++i) {
            const double y = std::fabs(kept[i]) < static_cast<float>(math::kReducible) ? kept[i] : 0.0;
            out[start + i] = static_cast<float>(math::sin_reduced(y, phase));
        }
        if (!phase) { // sin(-0) is -0
            for (int64_t i = 0; i < count; ++i)
                out[start + i] = kept[i] == 0.0f ? kept[i] : out[start + i];
        }
        for (int64_t i = 0; large && i < count; ++i) {
            if (!std::isfinite(kept[i]))
                out[start + i] = std::numeric_limits<float>::quiet_NaN();
            else if (std::fabs(kept[i]) >= static_cast<float>(math::kReducible))
                out[start + i] = static_cast<float>(math::sin_large(kept[i], phase));
        }
    }
}

// Whole numbers.

template <class T>
TAPEOUT_INLINE T wrap_add(T a, T b) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
}
template <class T>
TAPEOUT_INLINE T wrap_sub(T a, T b) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
}
template <class T>
TAPEOUT_INLINE T wrap_mul(T a, T b) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
}

template <class T>
TAPEOUT_INLINE T divide(T a, T b) {
    if (b == 0)
        return 0;
    return b == -1 ? wrap_sub<T>(0, a) : static_cast<T>(a / b);
}
template <class T>
TAPEOUT_INLINE T remainder(T a, T b) {
    return b == 0 || b == -1 ? T{0} : static_cast<T>(a % b);
}

template <class T>
TAPEOUT_INLINE T integer_power(T base, T exponent) {
    if (exponent < 0) {
        if (base == 1 || base == -1)
            return exponent % 2 ? base : T{1};
        return 0;
    }
    T result = 1;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1)
            result = wrap_mul(result, base);
        base = wrap_mul(base, base);
    }
    return result;
}

template <class T>
TAPEOUT_INLINE T shift_left(T a, T b) {
    using U = std::make_unsigned_t<T>;
    constexpr T bits = sizeof(T) * 8;
    return b >= 0 && b < bits ? static_cast<T>(static_cast<U>(a) << (b & (bits - 1))) : T{0};
}
template <class T>
TAPEOUT_INLINE T shift_right(T a, T b) {
    constexpr T bits = sizeof(T) * 8;
    return static_cast<T>(a >> (b >= 0 && b < bits ? b : bits - 1));
}
template <class T>
TAPEOUT_INLINE T shift_right_unsigned(T a, T b) {
    using U = std::make_unsigned_t<T>;
    constexpr T bits = sizeof(T) * 8;
    return b >= 0 && b < bits ? static_cast<T>(static_cast<U>(a) >> (b & (bits - 1))) : T{0};
}

template <class T>
TAPEOUT_INLINE void integers(VectorOp op, const Operands& x) {
    if (common<T>(op, x))
        return;
    switch (op) {
    case VectorOp::neg:
        TAPEOUT_MAP1(wrap_sub<T>(0, a));
    case VectorOp::abs:
        TAPEOUT_MAP1(a < 0 ? wrap_sub<T>(0, a) : a);
    case VectorOp::sign:
        TAPEOUT_MAP1(static_cast<T>((a > 0) - (a < 0)));
    case VectorOp::not_:
        if (x.logical)
            TAPEOUT_MAP1(a == 0);
        TAPEOUT_MAP1(~a);
    case VectorOp::add:
        TAPEOUT_MAP2(wrap_add(a, b));
    case VectorOp::sub:
        TAPEOUT_MAP2(wrap_sub(a, b));
    case VectorOp::mul:
        TAPEOUT_MAP2(wrap_mul(a, b));
    case VectorOp::div:
        TAPEOUT_MAP2(divide(a, b));
    case VectorOp::rem:
        TAPEOUT_MAP2(remainder(a, b));
    case VectorOp::pow:
        TAPEOUT_MAP2(integer_power(a, b));
    case VectorOp::and_:
        TAPEOUT_MAP2(a & b);
    case VectorOp::or_:
        TAPEOUT_MAP2(a | b);
    case VectorOp::xor_:
        TAPEOUT_MAP2(a ^ b);
    case VectorOp::shl:
        TAPEOUT_MAP2(shift_left(a, b));
    case VectorOp::shr:
        if (x.unsigned_shift)
            TAPEOUT_MAP2(shift_right_unsigned(a, b));
        TAPEOUT_MAP2(shift_right(a, b));
    case VectorOp::fma:
        TAPEOUT_MAP3(wrap_add(wrap_mul(a, b), c));
    case VectorOp::floor:
    case VectorOp::ceil:
    case VectorOp::round:
        TAPEOUT_MAP1(a);
    default:
        throw BadProgram(std::string(kVectorOpNames[static_cast<size_t>(op)]) + " has no integer form");
    }
}

} // namespace

TAPEOUT_CLONES void elementwise_f32(VectorOp op, const Operands& x) {
    using T = float;
    if (common<T>(op, x))
        return;
    switch (op) {
    case VectorOp::neg:
        TAPEOUT_MAP1(-a);
    case VectorOp::abs:
        TAPEOUT_MAP1(__builtin_fabsf(a));
    case VectorOp::sign:
        TAPEOUT_MAP1(a != a ? a : static_cast<float>(a > 0) - static_cast<float>(a < 0));
    case VectorOp::floor:
        TAPEOUT_MAP1(__builtin_floorf(a));
    case VectorOp::ceil:
        TAPEOUT_MAP1(__builtin_ceilf(a));
    case VectorOp::round:
        TAPEOUT_MAP1(__builtin_rintf(a));
    case VectorOp::exp:
        TAPEOUT_MAP1(static_cast<float>(math::exp_wide(a)));
    case VectorOp::log:
        TAPEOUT_MAP1(static_cast<float>(math::log_wide(a)));
    case VectorOp::sqrt:
        TAPEOUT_MAP1(__builtin_sqrtf(a));
    case VectorOp::rsqrt:
        TAPEOUT_MAP1(static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a))));
    case VectorOp::sin:
        return sine(x, 0);
    case VectorOp::cos:
        return sine(x, 1);
    case VectorOp::tanh:
        TAPEOUT_MAP1(static_cast<float>(math::tanh_wide(a)));
    case VectorOp::erf:
        TAPEOUT_MAP1(static_cast<float>(math::erf_wide(a)));
    case VectorOp::not_:
        TAPEOUT_MAP1(a == 0);
    case VectorOp::add:
        TAPEOUT_MAP2(a + b);
    case VectorOp::sub:
        TAPEOUT_MAP2(a - b);
    case VectorOp::mul:
        TAPEOUT_MAP2(a * b);
    case VectorOp::div:
        TAPEOUT_MAP2(a / b);
    case VectorOp::rem:
        TAPEOUT_MAP2(std::fmod(a, b));
    case VectorOp::pow:
        TAPEOUT_MAP2(static_cast<float>(math::pow_wide(a, b)));
    case VectorOp::and_:
        TAPEOUT_MAP2(a != 0 && b != 0);
    case VectorOp::or_:
        TAPEOUT_MAP2(a != 0 || b != 0);
    case VectorOp::xor_:
        TAPEOUT_MAP2((a != 0) != (b != 0));
    case VectorOp::atan2:
        TAPEOUT_MAP2(static_cast<float>(math::atan2_wide(a, b)));
    case VectorOp::fma:
        TAPEOUT_MAP3(__builtin_fmaf(a, b, c));
    default:
        throw BadProgram(std::string(kVectorOpNames[static_cast<size_t>(op)]) + " has no f32 form");
    }
}

TAPEOUT_CLONES void elementwise_i32(VectorOp op, const Operands& x) {
    integers<int32_t>(op, x);
}
TAPEOUT_CLONES void elementwise_i64(VectorOp op, const Operands& x) {
    integers<int64_t>(op, x);
}

int source_count(VectorOp op) {
    if (op == VectorOp::iota || op == VectorOp::philox)
        return 2;
    if (op < VectorOp::add)
        return 1;
    if (op < VectorOp::select)
        return 2;
    return op < VectorOp::reduce_sum ? 3 : 1;
}

} // namespace tapeout::sim
