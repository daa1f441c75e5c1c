// Fields of rows at places that are known only at run time: copied by the word, read and written one at a time.
#pragma once

#include "circuit/rows.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace tapeout::circuit {

inline Word low_bits(unsigned width) {
    return width >= 64 ? ~Word{0} : (Word{1} << width) - 1;
}

// `width` is 1 to 64.
inline Word get_field(const Word* row, std::size_t at, unsigned width) {
    const unsigned shift = at % 64;
    Word value = row[at / 64] >> shift;
    if (shift + width > 64)
        value |= row[at / 64 + 1] << (64 - shift);
    return value & low_bits(width);
}

inline void set_field(Word* row, std::size_t at, unsigned width, Word value) {
    const unsigned shift = at % 64;
    const Word mask = low_bits(width);
    row[at / 64] = (row[at / 64] & ~(mask << shift)) | value << shift;
    if (shift + width > 64)
        row[at / 64 + 1] = (row[at / 64 + 1] & ~(mask >> (64 - shift))) | value >> (64 - shift);
}

struct Move {
    std::uint32_t from, to, width;
};

// Copies fields from rows of one layout to rows of another.
class Copier {
public:
    explicit Copier(const std::vector<Move>& moves) {
        for (const Move& move : moves)
            for (std::uint32_t done = 0; done < move.width;) {
                const std::uint32_t from = move.from + done, to = move.to + done;
                const std::uint32_t count = std::min({move.width - done, 64 - from % 64, 64 - to % 64});
                add({from / 64, to / 64, static_cast<int>((to - from) & 63), low_bits(count) << to % 64});
                done += count;
            }
    }
    // The bits that are copied must be 0 in `to`.
    void operator()(const Word* from, Word* to) const {
        for (const Step& step : steps_)
            to[step.to] |= std::rotl(from[step.from], step.rotate) & step.mask;
    }

private:
    struct Step {
        std::uint32_t from, to;
        int rotate;
        Word mask;
    };
    void add(const Step& step) {
        for (Step& old : steps_)
            if (old.from == step.from && old.to == step.to && old.rotate == step.rotate) {
                old.mask |= step.mask;
                return;
            }
        steps_.push_back(step);
    }
    std::vector<Step> steps_;
};

// Scattered bits of a row as one number, the first bit lowest.
class Gather {
public:
    explicit Gather(const std::vector<std::uint32_t>& bits) : bits_(bits) {
        for (std::size_t k = 0; k < bits.size();) {
            std::size_t end = k + 1;
            while (end < bits.size() && bits[end] == bits[end - 1] + 1 && bits[end] % 64)
                ++end;
            runs_.push_back(
                {bits[k] / 64, bits[k] % 64, static_cast<unsigned>(k), low_bits(static_cast<unsigned>(end - k))});
            k = end;
        }
    }
    std::size_t operator()(const Word* row) const {
        if (runs_.size() == 1)
            return row[runs_[0].word] >> runs_[0].right & runs_[0].mask;
        Word value = 0;
        for (const Run& run : runs_)
            value |= (row[run.word] >> run.right & run.mask) << run.left;
        return value;
    }
    void put(Word* row, std::size_t value) const {
        for (std::size_t k = 0; k < bits_.size(); ++k)
            set_bit(row, bits_[k], value >> k & 1);
    }
    const std::vector<std::uint32_t>& bits() const { return bits_; }

private:
    struct Run {
        std::uint32_t word;
        unsigned right, left;
        Word mask;
    };
    std::vector<std::uint32_t> bits_;
    std::vector<Run> runs_;
};

} // namespace tapeout::circuit
