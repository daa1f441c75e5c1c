#pragma once

#include <cstdint>

namespace tapeout::sim {

// A good mixing step for hashes (finaliser of splitmix64).
constexpr uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

} // namespace tapeout::sim
