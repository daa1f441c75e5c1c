#include "sim/reduce.h"

#include "sim/clones.h"

#include <limits>
#include <type_traits>

namespace tapeout::sim {

namespace {

enum class Fold { sum, prod, max, min, and_, or_ };

Fold step_of(VectorOp op) {
    switch (op) {
    case VectorOp::reduce_sum:
    case VectorOp::scan_sum:
        return Fold::sum;
    case VectorOp::reduce_prod:
    case VectorOp::scan_prod:
        return Fold::prod;
    case VectorOp::reduce_max:
    case VectorOp::scan_max:
        return Fold::max;
    case VectorOp::reduce_min:
    case VectorOp::scan_min:
        return Fold::min;
    case VectorOp::reduce_and:
        return Fold::and_;
    default:
        return Fold::or_;
    }
}

// Integers wrap; and, or are logical on floats.
template <Fold step, class T>
TAPEOUT_INLINE T apply(T a, T b) {
    if constexpr (step == Fold::max) {
        return a > b || a != a ? a : b;
    } else if constexpr (step == Fold::min) {
        return a < b || a != a ? a : b;
    } else if constexpr (std::is_same_v<T, float>) {
        if constexpr (step == Fold::sum)
            return a + b;
        else if constexpr (step == Fold::prod)
            return a * b;
        else
            return step == Fold::and_ ? a != 0 && b != 0 : a != 0 || b != 0;
    } else {
        using U = std::make_unsigned_t<T>;
        const U x = static_cast<U>(a), y = static_cast<U>(b);
        if constexpr (step == Fold::sum)
            return static_cast<T>(x + y);
        else if constexpr (step == Fold::prod)
            return static_cast<T>(x * y);
        else
            return static_cast<T>(step == Fold::and_ ? x & y : x | y);
    }
}

template <class Body>
TAPEOUT_INLINE void with_step(Fold step, Body body) {
    switch (step) {
    case Fold::sum:
        return body.template operator()<Fold::sum>();
    case Fold::prod:
        return body.template operator()<Fold::prod>();
    case Fold::max:
        return body.template operator()<Fold::max>();
    case Fold::min:
        return body.template operator()<Fold::min>();
    case Fold::and_:
        return body.template operator()<Fold::and_>();
    case Fold::or_:
        return body.template operator()<Fold::or_>();
    }
}

template <class T>
TAPEOUT_INLINE void combine_all(VectorOp op, const T* a, const T* b, T* out, int64_t count) {
    with_step(step_of(op), [=]<Fold step>() TAPEOUT_LAMBDA {
        for (int64_t i = 0; i < count; ++i)
            out[i] = apply<step>(a[i], b[i]);
    });
}

template <class T>
TAPEOUT_INLINE void interleave(VectorOp op, const T* x, int64_t count, T* partials) {
    with_step(step_of(op), [=]<Fold step>() TAPEOUT_LAMBDA {
        T kept[kPartials];
        for (int64_t p = 0; p < kPartials; ++p)
            kept[p] = partials[p];
        int64_t i = 0;
        for (; i + kPartials <= count; i += kPartials) {
            for (int64_t p = 0; p < kPartials; ++p)
                kept[p] = apply<step>(kept[p], x[i + p]);
        }
        for (int64_t p = 0; i + p < count; ++p)
            kept[p] = apply<step>(kept[p], x[i + p]);
        for (int64_t p = 0; p < kPartials; ++p)
            partials[p] = kept[p];
    });
}

} // namespace

TAPEOUT_CLONES void combine(VectorOp op, const float* a, const float* b, float* out, int64_t count) {
    combine_all(op, a, b, out, count);
}
TAPEOUT_CLONES void combine(VectorOp op, const int32_t* a, const int32_t* b, int32_t* out, int64_t count) {
    combine_all(op, a, b, out, count);
}
TAPEOUT_CLONES void combine(VectorOp op, const int64_t* a, const int64_t* b, int64_t* out, int64_t count) {
    combine_all(op, a, b, out, count);
}
TAPEOUT_CLONES void reduce_interleaved(VectorOp op, const float* x, int64_t count, float* partials) {
    interleave(op, x, count, partials);
}
TAPEOUT_CLONES void reduce_interleaved(VectorOp op, const int32_t* x, int64_t count, int32_t* partials) {
    interleave(op, x, count, partials);
}
TAPEOUT_CLONES void reduce_interleaved(VectorOp op, const int64_t* x, int64_t count, int64_t* partials) {
    interleave(op, x, count, partials);
}

template <class T>
T identity(VectorOp op) {
    using Limits = std::numeric_limits<T>;
    switch (step_of(op)) {
    case Fold::prod:
        return T{1};
    case Fold::max:
        return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    case Fold::min:
        return Limits::has_infinity ? Limits::infinity() : Limits::max();
    case Fold::and_:
        return std::is_same_v<T, float> ? T{1} : static_cast<T>(-1);
    default:
        return T{0};
    }
}
template float identity<float>(VectorOp);
template int32_t identity<int32_t>(VectorOp);
template int64_t identity<int64_t>(VectorOp);

TAPEOUT_CLONES void drain(const float* acc, const float* scale, const float* bias, float lo, float hi, float* out,
                          int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        float y = acc[i] * scale[i];
        y = y + bias[i];
        y = y < lo ? lo : y;
        out[i] = y > hi ? hi : y;
    }
}

} // namespace tapeout::sim
