// Input patterns for simulation, 512 at a time, as bit slices.
#pragma once

#include "circuit/slices.h"

#include <cstdint>
#include <vector>

namespace tapeout::circuit {

// One input vector, a bit for each input.
using Vector = std::vector<char>;

class Patterns {
public:
    // `widths` of the words that the inputs make up, in order; what they leave over are single bits.
    Patterns(std::size_t inputs, std::vector<std::uint32_t> widths, std::uint64_t seed);

    // Every word uniform, or constant, one-hot, a run of ones, sparse, or close to another word of its width.
    void structured(Slot* inputs);
    // `known[input]`: 1, -1 or 0 (any value). The first 64 patterns keep what is known, the others change few of its
    // bits.
    void near(const std::vector<std::int8_t>& known, Slot* inputs);

    std::uint64_t random();

private:
    void make_word(std::size_t word, Vector& bits);

    std::size_t inputs_;
    std::vector<std::uint32_t> starts_; // of the words, and the end
    std::uint64_t state_;
};

} // namespace tapeout::circuit
