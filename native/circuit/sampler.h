// Rows of inputs that look like what programs, counters and buses hold, made with no knowledge of the function.
//
// Uniform bits never show an equality of two words or a carry through thirty bits. So every word is drawn from kinds
// that occur in practice: constants, masks, one-hot, small numbers, and copies of other words, exact or off by a bit.
#pragma once

#include "circuit/rows.h"

#include <vector>

namespace tapeout::circuit {

struct Span {
    int first, width; // bits [first, first + width) of a row
};

// The words of some width all of whose bits are in `support`, which is ascending.
std::vector<Span> whole_words(const std::vector<Span>& words, const std::vector<int>& support);

// The rest of the support: bits that decide about words, more often than not.
std::vector<int> control_bits(const std::vector<Span>& words, const std::vector<int>& support);

// Part of the input space: `mask` tells which bits are fixed, `value` to what.
struct Region {
    std::vector<Word> mask, value;
    explicit Region(std::size_t words) : mask(words), value(words) {}
    void fix(std::size_t bit, bool to) {
        set_bit(mask.data(), bit, true);
        set_bit(value.data(), bit, to);
    }
    bool fixed(std::size_t bit) const { return get_bit(mask.data(), bit); }
    void force(Word* row) const {
        for (std::size_t w = 0; w < mask.size(); ++w)
            row[w] = (row[w] & ~mask[w]) | value[w];
    }
};

// What is known of a function: the inputs that matter, and which of them belong together.
struct Focus {
    std::vector<int> support;
    std::vector<std::vector<int>> partners;
};

class Sampler {
public:
    Sampler(std::vector<Span> words, std::size_t row_words, const Region& region, Word seed);
    // Half of the time only the words that matter take part in copies and special values, the rest is uniform then;
    // bits that matter are the ones to change in a row that matters; sometimes all partners are made equal, or all but
    // one.
    void set_focus(Focus focus);
    // Rows found to matter, and rows in which many inputs matter; sometimes crossed over into new ones.
    void set_hints(const Rows* hints, const Rows* lively = nullptr) {
        hints_ = hints;
        lively_ = lively;
    }
    void fill(Rows& rows, std::size_t first = 0);

private:
    void sample(Word* row);
    void sample_word(Word* row, const Span& span, const std::vector<int>& sources);
    void align_partners(Word* row);
    void cross(Word* row);
    std::vector<Span> words_;
    std::size_t row_words_;
    const Region& region_;
    Random random_;
    std::vector<int> active_, all_; // words
    Focus focus_;
    const Rows* hints_ = nullptr;
    const Rows* lively_ = nullptr;
    std::vector<Word> scratch_;
};

} // namespace tapeout::circuit
