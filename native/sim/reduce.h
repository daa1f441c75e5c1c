// Combining steps of reductions and scans, and the drain's arithmetic, on packed numbers.
#pragma once

#include "sim/program.h"

#include <cstdint>

namespace tapeout::sim {

// A reduction keeps this many interleaved partial results and folds them by a balanced tree, neighbours first.
inline constexpr int64_t kPartials = 16;

// out[i] = a[i] (op) b[i], the step of reduction or scan `op`; `out` may be `a` or `b`.
void combine(VectorOp op, const float* a, const float* b, float* out, int64_t count);
void combine(VectorOp op, const int32_t* a, const int32_t* b, int32_t* out, int64_t count);
void combine(VectorOp op, const int64_t* a, const int64_t* b, int64_t* out, int64_t count);

// Element i into partial i % 16.
void reduce_interleaved(VectorOp op, const float* x, int64_t count, float* partials);
void reduce_interleaved(VectorOp op, const int32_t* x, int64_t count, int32_t* partials);
void reduce_interleaved(VectorOp op, const int64_t* x, int64_t count, int64_t* partials);

// What a reduction over nothing gives.
template <class T>
T identity(VectorOp op);

// The balanced tree over 16 partials.
template <class T>
T fold(VectorOp op, T* partials) {
    for (int64_t width = kPartials; width > 1; width /= 2) {
        for (int64_t i = 0; i < width / 2; ++i)
            combine(op, partials + 2 * i, partials + 2 * i + 1, partials + i, 1);
    }
    return partials[0];
}

// out = min(max(acc * scale + bias, lo), hi), one rounding per step; NaN stays.
void drain(const float* acc, const float* scale, const float* bias, float lo, float hi, float* out, int64_t count);

} // namespace tapeout::sim
