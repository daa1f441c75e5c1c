// Strided boxes of bytes: which bytes of a memory an access touches, exactly.
#pragma once

#include "sim/program.h"

#include <array>
#include <cstdint>
#include <vector>

namespace tapeout::sim {

// Runs of `run` bytes at base + sum(i[d] * stride[d]), i[d] < count[d]. Dimensions go from the largest stride to the
// smallest; those that touch or overlap are merged, so a dense area is one run whatever view it was made from.
struct Box {
    struct Dim {
        int64_t stride, count;
        bool operator==(const Dim&) const = default;
    };
    int64_t base = 0, run = 0, end = 0; // [base, end) is the hull
    int dims = 0;
    std::array<Dim, kMaxDims> dim{};

    bool empty() const { return run == 0; }
    bool operator==(const Box& other) const;
    // Whether every byte of `other` certainly belongs to this box (may say no where it does).
    bool covers(const Box& other) const;
};

Box make_box(int64_t base, const Dims& extents, const Dims& strides, int64_t element_bytes);

// An address in both boxes, -1 if there is none.
int64_t common_byte(const Box& a, const Box& b);

template <class Body>
bool for_runs_from(const Box& box, int d, int64_t base, Body body) {
    if (d >= box.dims || d >= kMaxDims)
        return body(base, box.run);
    const Box::Dim& dim = box.dim[static_cast<size_t>(d)];
    for (int64_t i = 0; i < dim.count; ++i) {
        if (!for_runs_from(box, d + 1, base + i * dim.stride, body))
            return false;
    }
    return true;
}

// Calls body(address, bytes) for each run until it returns false.
template <class Body>
bool for_runs(const Box& box, Body body) {
    return box.empty() || for_runs_from<Body&>(box, 0, box.base, body);
}

// Which bytes of a memory have been written: one bit each, allocated at the first write.
class ByteMap {
public:
    explicit ByteMap(int64_t bytes) : bytes_(bytes) {}
    void mark(const Box& box);
    // Address of the first byte of the box that is not marked, -1 if all are.
    int64_t first_unmarked(const Box& box) const;

private:
    int64_t bytes_;
    std::vector<uint64_t> words_;
};

} // namespace tapeout::sim
