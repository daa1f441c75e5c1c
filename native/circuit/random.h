// Numbers that depend on a seed and a place only, never on who asks first: threads cannot change what is learned.
#pragma once

#include <cstdint>

namespace tapeout::circuit {

// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
inline std::uint64_t mix_bits(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

class Random {
public:
    Random(std::uint64_t seed, std::uint64_t stream, std::uint64_t part = 0)
        : state_(mix_bits(mix_bits(mix_bits(seed + kStep) + stream * kStep) + part * kStep)) {}
    std::uint64_t next() { return mix_bits(state_ += kStep); }
    // Below `limit`, which is small: the bias is below limit / 2^64.
    std::uint64_t below(std::uint64_t limit) { return next() % limit; }
    // In [0, 1).
    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

private:
    static constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15U;
    std::uint64_t state_;
};

} // namespace tapeout::circuit
