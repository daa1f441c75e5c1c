// Small circuits for all functions of four inputs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tapeout::circuit {

// A truth table over four inputs: bit m is the value where input i is bit i of m.
using Table4 = std::uint16_t;
constexpr Table4 kTableInputs[4] = {0xAAAA, 0xCCCC, 0xF0F0, 0xFF00};

// The function (up to complement) is first AND second, or first XOR second. For XOR neither is complemented.
struct Split4 {
    Table4 first, second;
    bool exclusive;
};

// The best ways to make each function as a tree of ANDs and XORs, where an XOR costs three ANDs.
class Synthesis4 {
public:
    static const Synthesis4& get(); // computed at the first call, in a fraction of a second

    // Functions are known by the one of f and its complement that is false at 0.
    static bool complemented(Table4 f) { return f & 1; }
    static Table4 normal(Table4 f) { return complemented(f) ? static_cast<Table4>(~f) : f; }

    int cost(Table4 f) const { return costs_[normal(f) >> 1]; }
    // Ways to make normal(f) at that cost; of the AND of a way the complement may be meant. Empty for inputs and
    // constants.
    std::span<const Split4> ways(Table4 f) const {
        const std::size_t at = normal(f) >> 1;
        return {&ways_[at * kWays], counts_[at]};
    }

private:
    static constexpr std::size_t kWays = 8;

    Synthesis4();
    void offer(Table4 f, int cost, Split4 way);

    std::vector<std::int8_t> costs_;
    std::vector<std::uint8_t> counts_;
    std::vector<Split4> ways_;
    std::vector<std::vector<Table4>> levels_;
};

} // namespace tapeout::circuit
