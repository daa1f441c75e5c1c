// Elementwise operations on packed numbers of one compute type.
#pragma once

#include "sim/program.h"

#include <cstdint>

namespace tapeout::sim {

// Sources by number; those that the operation does not have are not read. `out` may be a source.
// `logical`: `not` is logical (the result is b1). `unsigned_shift`: `shr` brings in zeros.
struct Operands {
    const void* a;
    const void* b;
    const void* c;
    void* out;
    int64_t count;
    bool logical = false;
    bool unsigned_shift = false;
};

void elementwise_f32(VectorOp op, const Operands& x);
void elementwise_i32(VectorOp op, const Operands& x);
void elementwise_i64(VectorOp op, const Operands& x);

// How many sources an operation has.
int source_count(VectorOp op);

} // namespace tapeout::sim
