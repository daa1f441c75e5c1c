// What a DMA command moves (rule 9 of docs/timing.md), without walking its runs one by one.
#pragma once

#include "sim/program.h"

#include <array>
#include <map>
#include <span>
#include <vector>

namespace tapeout::sim {

// A box clipped to its tensor. `charged` is by granule, `bytes` as they are; 0 bytes: wholly outside.
struct Footprint {
    int64_t first = 0; // address of the first element
    int64_t bytes = 0;
    int64_t charged = 0;
    Dims counts; // clipped extents

    bool operator==(const Footprint&) const = default;
};

// A box as contiguous runs of `bytes`, `counts` of them by dimension.
struct Runs {
    int64_t first = 0, bytes = 0;
    Dims counts, strides;

    // visit(address) of each run, the last dimension fastest.
    template <typename F>
    void each(F visit) const {
        std::array<int64_t, kMaxDims> at{};
        int64_t address = first;
        for (;;) {
            visit(address);
            int d = counts.count - 1;
            for (; d >= 0 && ++at[static_cast<size_t>(d)] == counts[d]; --d) {
                address -= (counts[d] - 1) * strides[d];
                at[static_cast<size_t>(d)] = 0;
            }
            if (d < 0)
                return;
            address += strides[d];
        }
    }
};

class DmaWalk {
public:
    DmaWalk(const Program& program, int64_t granule_bytes);

    // The footprint of command `number`, a Load or Store, with the slots' present values.
    Footprint footprint(int number, std::span<const int64_t> slots);
    // Its runs; of an indexed command those of its first row.
    Runs runs(int number, const Footprint& box) const;

private:
    struct Shape { // what decides the charge: clipped extents and the first byte's place in its granule
        Dims counts;
        int64_t phase = -1;
        auto operator<=>(const Shape& other) const {
            return phase != other.phase ? phase <=> other.phase : counts.values <=> other.counts.values;
        }
        bool operator==(const Shape&) const = default;
    };
    struct Known {
        Shape latest;
        int64_t charged = 0;
        std::map<Shape, int64_t> older;
    };

    Runs runs_of(const Command& command, const Dims& counts, int64_t first) const;
    int64_t charge(const Command& command, const Shape& shape) const;
    int64_t charge_of_runs(const Command& command, const Dims& counts, const Dims& strides, int64_t run,
                           int64_t phase) const;

    const Program& program_;
    int64_t granule_;
    std::vector<Known> known_; // by command
};

} // namespace tapeout::sim
