// The matrix unit's values: C (+)= A.B on strided views of local memory.
#pragma once

#include "sim/program.h"

#include <cstdint>
#include <vector>

namespace tapeout::sim {

// One MatMul with its addresses known. Strides are in bytes: a has m then k, b has k then n, c has m then n.
// c holds f32 where a and b are floats, i32 where they are integers.
struct GemmCall {
    Dims m;
    int64_t n = 0;
    Dims k;
    const uint8_t* a = nullptr;
    const uint8_t* b = nullptr;
    uint8_t* c = nullptr;
    Dims a_strides, b_strides, c_strides;
    DType a_type = DType::f32, b_type = DType::f32;
    bool accumulate = false;
    int64_t group = 1; // k0 of the matrix unit, for the exact order
};

// Both orders of summation. Buffers are kept from call to call.
class Gemm {
public:
    // Any order that is fast; integers are exact, floats agree with `exact` up to rounding of partial sums.
    void fast(const GemmCall& call);
    // Ascending k in groups of `group`, a balanced tree within a group, everything rounded to f32.
    void exact(const GemmCall& call);
    // Name of the instruction set level in use, for reports.
    static const char* level();

private:
    void prepare(const GemmCall& call);
    void fast_blocks(const GemmCall& call);
    void fast_thin(const GemmCall& call);
    void pack_a(const GemmCall& call, int64_t row, int64_t rows, int64_t k, int64_t depth);
    void pack_b(const GemmCall& call, int64_t col, int64_t cols, int64_t k, int64_t depth, int64_t width);
    void integers(const GemmCall& call);
    void exact_row(const GemmCall& call, const float* a, uint8_t* c, int64_t row);

    std::vector<int64_t> a_rows_, c_rows_, a_depth_, b_depth_; // byte offsets by flat m and flat k
    std::vector<float> a_block_, b_block_, products_;
    std::vector<int32_t> a_ints_, b_ints_;
};

} // namespace tapeout::sim
