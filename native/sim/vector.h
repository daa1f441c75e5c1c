// The vector unit's and the mover's values on strided views with known addresses.
#pragma once

#include "sim/program.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace tapeout::sim {

// A view at a known place, or a number repeated by strides of 0.
struct Operand {
    uint8_t* at = nullptr;
    DType type = DType::f32;
    Dims strides;
};

struct VectorCall {
    VectorOp op = VectorOp::copy;
    Compute compute = Compute::f32;
    Dims dims;
    Operand dst;
    std::vector<Operand> srcs;
    int reduced = 0;
    bool accumulate = false;
};

struct DrainCall {
    Dims dims;
    Operand dst, acc, scale, bias;
    float lo = 0, hi = 0;
    int64_t zero = 0;
};

struct CopyCall {
    Dims dims;
    Operand dst, src;
};

// Runs such calls; buffers are kept from call to call.
class VectorUnit {
public:
    VectorUnit();
    ~VectorUnit();
    void run(const VectorCall& call);
    void run(const DrainCall& call);

private:
    struct Buffers;
    std::unique_ptr<Buffers> buffers_;
};

void run(const CopyCall& call);

// Copies `size`-byte elements between two strided layouts, long and packed dimensions innermost.
void copy_elements(const Dims& dims, uint8_t* dst, const Dims& dst_strides, const uint8_t* src, const Dims& src_strides,
                   int64_t size);

// Merges neighbouring dimensions in [first, last) that are one dimension for all of `strides`; drops extents of 1.
// Returns by how many dimensions [first, last) became shorter.
int collapse(Dims& dims, int first, int last, std::initializer_list<Dims*> strides);
int collapse(Dims& dims, int first, int last, Dims** strides, int count);

// Word `index` of the stream of Philox4x32-10 (Salmon et al., SC 2011) with this key: word index % 4 of block index
// / 4.
uint32_t philox_word(uint32_t key0, uint32_t key1, uint64_t index);

} // namespace tapeout::sim
