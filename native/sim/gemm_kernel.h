// The register tile of the matrix product, for each level of the instruction set.
#pragma once

#include <cstdint>

namespace tapeout::sim {

// out[r][j] = sum over k of a[r][k] * b[k][j], in ascending k, each step one fused multiply-add.
// a: `rows` rows, `a_stride` apart; b: `width` columns, packed; out: `width` columns, packed.
using TileKernel = void (*)(const float* a, int64_t a_stride, const float* b, int64_t depth, float* out);

struct TileKernels {
    const char* level;
    int max_rows;        // the tallest tile
    int width;           // columns of a full tile; a narrow one has half of them
    TileKernel full[13]; // by rows; null where there is no such tile
    TileKernel narrow[13];
};

// The best that this machine can run.
const TileKernels& tile_kernels();

} // namespace tapeout::sim
