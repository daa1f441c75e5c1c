// What a DMA command moves (rule 9 of docs/timing.md), without walking its runs one by one.
#pragma once

#include "sim/program.h"

#include <map>
#include <span>
#include <vector>

namespace tapeout::sim {

// A box clipped to its tensor. `charged` is by granule, `bytes` as they are; 0 bytes: wholly outside.
struct Footprint {
    int64_t first = 0; // address of the first element
    int64_t low = 0;   // address of the lowest byte: another one where strides are negative
    int64_t high = 0;  // address of the highest byte
    int64_t bytes = 0;
    int64_t charged = 0;
};

class DmaWalk {
public:
    DmaWalk(const Program& program, int64_t granule_bytes);

    // The footprint of command `number`, a Load or Store, with the slots' present values.
    Footprint footprint(int number, std::span<const int64_t> slots);

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

    int64_t charge(const Command& command, const Shape& shape) const;
    int64_t charge_of_runs(const Command& command, const Dims& counts, const Dims& strides, int64_t run,
                           int64_t phase) const;

    const Program& program_;
    int64_t granule_;
    std::vector<Known> known_; // by command
};

} // namespace tapeout::sim
