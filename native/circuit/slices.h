// Rows of bits (see oracle.h) turned into bit slices and back, 512 rows at a time.
#pragma once

#include "sim/clones.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tapeout::circuit {

constexpr std::size_t kLaneWords = 8;
constexpr std::size_t kLanes = 64 * kLaneWords;

// One bit of 512 rows. The compiler lowers it to one, two or four registers, as the machine has them. The alignment is
// stated since its default differs between the levels of the instruction set.
using Lanes = std::uint64_t __attribute__((vector_size(8 * kLaneWords), aligned(8 * kLaneWords)));

// Eight 64 x 64 bit matrices side by side, transposed in place: element [r][g] bit c goes to element [c][g] bit r.
TAPEOUT_INLINE void transpose_lanes(Lanes* t) {
    std::uint64_t mask = 0x00000000FFFFFFFFull;
    for (int j = 32; j; j >>= 1, mask ^= mask << j)
        for (int k = 0; k < 64; k = ((k | j) + 1) & ~j) {
            const Lanes swap = ((t[k] >> j) ^ t[k | j]) & mask;
            t[k] ^= swap << j;
            t[k | j] ^= swap;
        }
}

// Column `column` (64 bits) of `count` <= 512 rows as 64 slices; missing rows are zero.
TAPEOUT_INLINE void load_slices(const std::uint64_t* rows, std::size_t row_words, std::size_t column, std::size_t count,
                                Lanes* slices) {
    auto* words = reinterpret_cast<std::uint64_t*>(slices);
    if (count < kLanes)
        std::memset(words, 0, 64 * sizeof(Lanes));
    for (std::size_t r = 0; r < count; ++r)
        words[(r % 64) * kLaneWords + r / 64] = rows[r * row_words + column];
    transpose_lanes(slices);
}

// The inverse; changes `slices`.
TAPEOUT_INLINE void store_slices(Lanes* slices, std::uint64_t* rows, std::size_t row_words, std::size_t column,
                                 std::size_t count) {
    transpose_lanes(slices);
    const auto* words = reinterpret_cast<const std::uint64_t*>(slices);
    for (std::size_t r = 0; r < count; ++r)
        rows[r * row_words + column] = words[(r % 64) * kLaneWords + r / 64];
}

} // namespace tapeout::circuit
