#include "sim/gemm.h"

#include "sim/gemm_kernel.h"
#include "sim/numeric.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace tapeout::sim {

namespace {

// Depth of a block: 256 products of two bytes, signed or not, sum exactly in f32 (255 * 255 * 256 < 2^24).
constexpr int64_t kDepth = 256;
constexpr int64_t kRun = 64;     // floats are summed one by one at most so far: the error grows with the length
constexpr int64_t kRows = 96;    // a block of rows stays in the second cache
constexpr int64_t kCols = 768;   // so does a block of columns
constexpr int64_t kThin = 3;     // most rows for which b is not packed
constexpr int64_t kStride = 272; // of a packed row: past kDepth, so that rows do not share cache sets

// Byte offset of every index of a row-major walk over `sizes`.
void list_offsets(const Dims& sizes, const Dims& strides, int first, std::vector<int64_t>& out) {
    out.assign(1, 0);
    for (int d = 0; d < sizes.count; ++d) {
        const auto outer = static_cast<int64_t>(out.size());
        const int64_t size = sizes[d], stride = strides[first + d];
        out.resize(static_cast<size_t>(outer * size));
        // From the back, so that the outer offsets are read before they are overwritten.
        for (int64_t i = outer - 1; i >= 0; --i) {
            const int64_t base = out[static_cast<size_t>(i)];
            for (int64_t j = size - 1; j >= 0; --j)
                out[static_cast<size_t>(i * size + j)] = base + j * stride;
        }
    }
}

// Length of the run from `from` on whose offsets grow by `step`, at most to `end`.
int64_t run_length(const std::vector<int64_t>& offsets, int64_t from, int64_t end, int64_t step) {
    int64_t i = from + 1;
    while (i < end && offsets[static_cast<size_t>(i)] - offsets[static_cast<size_t>(i - 1)] == step)
        ++i;
    return i - from;
}

// dst[c][r] = src[r][c]; four by four, which every level of the instruction set shuffles in registers.
TAPEOUT_CLONES void transpose(const float* __restrict src, int64_t src_stride, float* __restrict dst,
                              int64_t dst_stride, int64_t rows, int64_t cols) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float* s0 = src + r * src_stride;
        const float *s1 = s0 + src_stride, *s2 = s1 + src_stride, *s3 = s2 + src_stride;
        for (int64_t c = 0; c < cols; ++c) {
            float* d = dst + c * dst_stride + r;
            d[0] = s0[c];
            d[1] = s1[c];
            d[2] = s2[c];
            d[3] = s3[c];
        }
    }
    for (; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c)
            dst[c * dst_stride + r] = src[r * src_stride + c];
    }
}

// c (+)= sums, rows at byte offsets `c_rows`. By memcpy, because a view may start anywhere.
template <class Number, class Convert>
TAPEOUT_INLINE void merge_tile(const float* sums, int64_t width, uint8_t* c, const int64_t* c_rows, int64_t c_stride,
                               int64_t rows, int64_t cols, bool add, Convert convert) {
    const auto element = [=](uint8_t* at, float sum) TAPEOUT_LAMBDA {
        Number old{};
        if (add)
            std::memcpy(&old, at, sizeof(old));
        old += convert(sum);
        std::memcpy(at, &old, sizeof(old));
    };
    for (int64_t r = 0; r < rows; ++r) {
        uint8_t* at = c + c_rows[r];
        const float* from = sums + r * width;
        if (c_stride == static_cast<int64_t>(sizeof(Number))) {
            for (int64_t j = 0; j < cols; ++j)
                element(at + j * static_cast<int64_t>(sizeof(Number)), from[j]);
        } else {
            for (int64_t j = 0; j < cols; ++j)
                element(at + j * c_stride, from[j]);
        }
    }
}

TAPEOUT_CLONES void merge_floats(const float* sums, int64_t width, uint8_t* c, const int64_t* c_rows, int64_t c_stride,
                                 int64_t rows, int64_t cols, bool add) {
    merge_tile<float>(sums, width, c, c_rows, c_stride, rows, cols, add, [](float x) TAPEOUT_LAMBDA { return x; });
}

// Unsigned, because accumulators wrap; every f32 here is a whole number of at most 2^24.
TAPEOUT_CLONES void merge_ints(const float* sums, int64_t width, uint8_t* c, const int64_t* c_rows, int64_t c_stride,
                               int64_t rows, int64_t cols, bool add) {
    merge_tile<uint32_t>(sums, width, c, c_rows, c_stride, rows, cols, add,
                         [](float x) TAPEOUT_LAMBDA { return static_cast<uint32_t>(static_cast<int32_t>(x)); });
}

// sums[r][j] += a[r] * b[j], fused: what a tile does in one step of k.
TAPEOUT_CLONES void add_outer(const float* a, int64_t rows, const float* b, int64_t cols, float* sums) {
    for (int64_t r = 0; r < rows; ++r) {
        const float left = a[r];
        float* row = sums + r * cols;
        for (int64_t j = 0; j < cols; ++j)
            row[j] = __builtin_fmaf(left, b[j], row[j]);
    }
}

// c[j] += a * b[j] with wrap-around.
TAPEOUT_CLONES void add_scaled(const int32_t* a, int64_t depth, const int32_t* b, int64_t cols, uint32_t* sums) {
    for (int64_t k = 0; k < depth; ++k) {
        const auto left = static_cast<uint32_t>(a[k]);
        if (!left)
            continue;
        const int32_t* row = b + k * cols;
        for (int64_t j = 0; j < cols; ++j)
            sums[j] += left * static_cast<uint32_t>(row[j]);
    }
}

// sums[j] += balanced tree over one group of products a[i] * b[i][j]; neighbours add first, an odd one goes up alone.
TAPEOUT_CLONES void add_group(const float* a, const float* b, int64_t b_stride, int64_t group, int64_t cols,
                              float* __restrict products, float* __restrict sums) {
    for (int64_t i = 0; i < group; ++i) {
        float* row = products + i * cols;
        for (int64_t j = 0; j < cols; ++j)
            row[j] = a[i] * b[i * b_stride + j];
    }
    for (int64_t count = group; count > 1; count = (count + 1) / 2) {
        for (int64_t i = 0; i < count / 2; ++i) {
            const float *left = products + 2 * i * cols, *right = left + cols;
            float* to = products + i * cols;
            for (int64_t j = 0; j < cols; ++j)
                to[j] = left[j] + right[j];
        }
        if (count % 2)
            std::memmove(products + count / 2 * cols, products + (count - 1) * cols, static_cast<size_t>(cols) * 4);
    }
    for (int64_t j = 0; j < cols; ++j)
        sums[j] += products[j];
}

bool bytes_only(const GemmCall& call) {
    return dtype_bytes(call.a_type) == 1 && dtype_bytes(call.b_type) == 1;
}

} // namespace

const char* Gemm::level() {
    return tile_kernels().level;
}

void Gemm::prepare(const GemmCall& call) {
    list_offsets(call.m, call.a_strides, 0, a_rows_);
    list_offsets(call.m, call.c_strides, 0, c_rows_);
    list_offsets(call.k, call.a_strides, call.m.count, a_depth_);
    list_offsets(call.k, call.b_strides, 0, b_depth_);
}

// Rows of a as f32, `kStride` apart; missing rows of the last tile are not touched.
void Gemm::pack_a(const GemmCall& call, int64_t row, int64_t rows, int64_t k, int64_t depth) {
    const int64_t size = dtype_bytes(call.a_type);
    const int64_t end = k + depth;
    const bool down = run_length(a_depth_, k, end, size) == 1 && depth > 1 &&
                      run_length(a_rows_, row, row + rows, size) > 1; // contiguous over m, not over k
    for (int64_t i = k; i < end && !down;) {
        const int64_t step =
            i + 1 < end ? a_depth_[static_cast<size_t>(i + 1)] - a_depth_[static_cast<size_t>(i)] : size;
        const int64_t run = run_length(a_depth_, i, end, step);
        for (int64_t r = 0; r < rows; ++r) {
            const uint8_t* from = call.a + a_rows_[static_cast<size_t>(row + r)] + a_depth_[static_cast<size_t>(i)];
            load(call.a_type, from, step, a_block_.data() + r * kStride + (i - k), run);
        }
        i += run;
    }
    float strip[4][kRows];
    for (int64_t i = k; i < end && down; i += 4) {
        const int64_t count = std::min<int64_t>(4, end - i);
        for (int64_t r = 0; r < rows;) {
            const int64_t run = run_length(a_rows_, row + r, row + rows, size);
            for (int64_t j = 0; j < count; ++j) {
                const uint8_t* from =
                    call.a + a_rows_[static_cast<size_t>(row + r)] + a_depth_[static_cast<size_t>(i + j)];
                load(call.a_type, from, size, strip[j] + r, run);
            }
            r += run;
        }
        transpose(strip[0], kRows, a_block_.data() + (i - k), kStride, count, rows);
    }
}

// Panels of `width` columns, each depth x width, the last one filled up with zeros.
void Gemm::pack_b(const GemmCall& call, int64_t col, int64_t cols, int64_t k, int64_t depth, int64_t width) {
    const int64_t size = dtype_bytes(call.b_type);
    const int64_t n_stride = call.b_strides[call.k.count];
    const bool down = n_stride != size && run_length(b_depth_, k, k + depth, size) > 1; // contiguous over k
    float strip[4][kDepth];
    for (int64_t j = 0; j < cols; j += width) {
        const int64_t used = std::min(width, cols - j);
        float* panel = b_block_.data() + j * depth;
        if (used < width)
            std::fill_n(panel, depth * width, 0.0f);
        const uint8_t* base = call.b + (col + j) * n_stride;
        if (!down) {
            for (int64_t i = 0; i < depth; ++i)
                load(call.b_type, base + b_depth_[static_cast<size_t>(k + i)], n_stride, panel + i * width, used);
            continue;
        }
        for (int64_t c = 0; c < used; c += 4) {
            const int64_t count = std::min<int64_t>(4, used - c);
            for (int64_t i = 0; i < depth;) {
                const int64_t run = run_length(b_depth_, k + i, k + depth, size);
                for (int64_t q = 0; q < count; ++q) {
                    const uint8_t* from = base + (c + q) * n_stride + b_depth_[static_cast<size_t>(k + i)];
                    load(call.b_type, from, size, strip[q] + i, run);
                }
                i += run;
            }
            transpose(strip[0], kDepth, panel + c, width, count, depth);
        }
    }
}

void Gemm::fast_blocks(const GemmCall& call) {
    const TileKernels& kernels = tile_kernels();
    const int64_t m = call.m.product(), n = call.n, depth_all = call.k.product();
    const bool narrow = n <= kernels.width / 2;
    const int64_t width = narrow ? kernels.width / 2 : kernels.width;
    const TileKernel* tiles = narrow ? kernels.narrow : kernels.full;
    const auto merge = is_float(call.a_type) ? merge_floats : merge_ints;
    const int64_t run = is_float(call.a_type) ? kRun : kDepth;
    const int64_t c_stride = call.c_strides[call.m.count];
    a_block_.resize(kRows * kStride);
    b_block_.resize(static_cast<size_t>(kDepth * (std::min(n, kCols) + width)));
    alignas(64) float sums[12 * 32];
    for (int64_t col = 0; col < n; col += kCols) {
        const int64_t cols = std::min(kCols, n - col);
        for (int64_t k = 0; k < depth_all; k += kDepth) {
            const int64_t depth = std::min(kDepth, depth_all - k);
            const bool add = call.accumulate || k > 0;
            pack_b(call, col, cols, k, depth, width);
            for (int64_t row = 0; row < m; row += kRows) {
                const int64_t rows = std::min(kRows, m - row);
                pack_a(call, row, rows, k, depth);
                for (int64_t j = 0; j < cols; j += width) {
                    const float* panel = b_block_.data() + j * depth;
                    for (int64_t r = 0; r < rows;) {
                        int64_t tall = std::min<int64_t>(kernels.max_rows, rows - r);
                        while (!tiles[tall])
                            --tall;
                        for (int64_t i = 0; i < depth; i += run) {
                            tiles[tall](a_block_.data() + r * kStride + i, kStride, panel + i * width,
                                        std::min(run, depth - i), sums);
                            merge(sums, width, call.c + (col + j) * c_stride, c_rows_.data() + row + r, c_stride, tall,
                                  std::min(width, cols - j), add || i > 0);
                        }
                        r += tall;
                    }
                }
            }
        }
    }
}

// Few rows: every number of b is used so seldom that packing would cost more than the product. Same steps, same values.
void Gemm::fast_thin(const GemmCall& call) {
    constexpr int64_t kStrip = 1024;
    const auto merge = is_float(call.a_type) ? merge_floats : merge_ints;
    const int64_t run = is_float(call.a_type) ? kRun : kDepth;
    const int64_t m = call.m.product(), depth_all = call.k.product();
    const int64_t size = dtype_bytes(call.b_type), c_stride = call.c_strides[call.m.count];
    alignas(64) float sums[kThin * kStrip], right[kStrip];
    std::array<float, kThin> left{};
    for (int64_t col = 0; col < call.n; col += kStrip) {
        const int64_t cols = std::min(kStrip, call.n - col);
        for (int64_t k = 0; k < depth_all; k += run) {
            std::fill_n(sums, m * cols, 0.0f);
            for (int64_t i = k; i < std::min(k + run, depth_all); ++i) {
                const int64_t a_depth = a_depth_[static_cast<size_t>(i)];
                for (int64_t r = 0; r < m; ++r) {
                    const uint8_t* from = call.a + a_rows_[static_cast<size_t>(r)] + a_depth;
                    load(call.a_type, from, 0, &left[static_cast<size_t>(r)], 1);
                }
                load(call.b_type, call.b + b_depth_[static_cast<size_t>(i)] + col * size, size, right, cols);
                add_outer(left.data(), m, right, cols, sums);
            }
            merge(sums, cols, call.c + col * c_stride, c_rows_.data(), c_stride, m, cols, call.accumulate || k > 0);
        }
    }
}

void Gemm::fast(const GemmCall& call) {
    if (!call.m.product() || !call.n)
        return;
    if (!is_float(call.a_type) && !bytes_only(call))
        return integers(call);
    if (!call.k.product())
        return exact(call);
    prepare(call);
    if (call.m.product() <= kThin && call.b_strides[call.k.count] == dtype_bytes(call.b_type))
        fast_thin(call);
    else
        fast_blocks(call);
}

// Wider integers: products wrap in 32 bits, a row of accumulators at a time.
void Gemm::integers(const GemmCall& call) {
    prepare(call);
    const int64_t m = call.m.product(), n = call.n, depth = call.k.product();
    const int64_t c_stride = call.c_strides[call.m.count];
    a_ints_.resize(static_cast<size_t>(std::max(depth, n)));
    b_ints_.resize(static_cast<size_t>(depth * n));
    for (int64_t k = 0; k < depth; ++k) {
        load(call.b_type, call.b + b_depth_[static_cast<size_t>(k)], call.b_strides[call.k.count],
             b_ints_.data() + k * n, n);
    }
    std::vector<int32_t> sums(static_cast<size_t>(n));
    for (int64_t r = 0; r < m; ++r) {
        for (int64_t k = 0; k < depth; ++k) {
            const uint8_t* from = call.a + a_rows_[static_cast<size_t>(r)] + a_depth_[static_cast<size_t>(k)];
            load(call.a_type, from, 0, a_ints_.data() + k, 1);
        }
        uint8_t* c = call.c + c_rows_[static_cast<size_t>(r)];
        std::fill(sums.begin(), sums.end(), 0);
        if (call.accumulate)
            load(DType::i32, c, c_stride, sums.data(), n);
        add_scaled(a_ints_.data(), depth, b_ints_.data(), n, reinterpret_cast<uint32_t*>(sums.data()));
        store(DType::i32, sums.data(), c, c_stride, n);
    }
}

void Gemm::exact_row(const GemmCall& call, const float* a, uint8_t* c, int64_t n_block) {
    const int64_t depth = call.k.product(), c_stride = call.c_strides[call.m.count];
    constexpr int64_t kBlock = 64;
    float sums[kBlock];
    for (int64_t j = 0; j < n_block; j += kBlock) {
        const int64_t cols = std::min(kBlock, n_block - j);
        std::fill_n(sums, cols, 0.0f);
        if (call.accumulate)
            load(DType::f32, c + j * c_stride, c_stride, sums, cols);
        for (int64_t k = 0; k < depth; k += call.group) {
            const int64_t group = std::min(call.group, depth - k);
            add_group(a + k, b_block_.data() + k * n_block + j, n_block, group, cols, products_.data(), sums);
        }
        store(DType::f32, sums, c + j * c_stride, c_stride, cols);
    }
}

void Gemm::exact(const GemmCall& call) {
    if (!call.m.product() || !call.n)
        return;
    if (!is_float(call.a_type))
        return bytes_only(call) && call.k.product() ? fast(call) : integers(call);
    prepare(call);
    const int64_t m = call.m.product(), n = call.n, depth = call.k.product();
    b_block_.resize(static_cast<size_t>(depth * n));
    a_block_.resize(static_cast<size_t>(std::max<int64_t>(depth, 1)));
    products_.resize(static_cast<size_t>(call.group) * 64);
    for (int64_t k = 0; k < depth; ++k) {
        load(call.b_type, call.b + b_depth_[static_cast<size_t>(k)], call.b_strides[call.k.count],
             b_block_.data() + k * n, n);
    }
    for (int64_t r = 0; r < m; ++r) {
        for (int64_t k = 0; k < depth; ++k) {
            const uint8_t* from = call.a + a_rows_[static_cast<size_t>(r)] + a_depth_[static_cast<size_t>(k)];
            load(call.a_type, from, 0, a_block_.data() + k, 1);
        }
        exact_row(call, a_block_.data(), call.c + c_rows_[static_cast<size_t>(r)], n);
    }
}

} // namespace tapeout::sim
