// A word that is one of two simple words, chosen by one bit: a minimum, a gated address, a conditional move.
//
// Diagrams of such words are quadratic, since every output waits for the choice. So the choice itself becomes the
// function to learn: where the two words differ, the answer shows it; where they do not, it does not matter.
#pragma once

#include "circuit/derived.h"
#include "circuit/influence.h"
#include "circuit/rows.h"

#include <optional>
#include <vector>

namespace tapeout::circuit {

// A source of an output bit: an input bit, or a constant.
struct Source {
    static constexpr int kZero = -1, kOne = -2;
    int bit = kZero;
    bool value(const Word* row) const {
        return bit == kZero ? false : bit == kOne || get_bit(row, static_cast<std::size_t>(bit));
    }
    bool operator==(const Source&) const = default;
};

struct Selection {
    std::vector<Source> first, second; // per output bit
};

// The two words, where every output bit in every row agrees with one choice for all bits.
std::optional<Selection> find_selection(const Rows& rows, const Rows& answers, const Influence& influence,
                                        std::size_t outputs);

// The choice (1: first) as a question of one output bit. Rows in which the two words are equal are changed to show it:
// the lowest source that can make a difference is flipped together with its partners.
class SelectorQuestion final : public Predicate {
public:
    SelectorQuestion(Question& word, Selection selection, const std::vector<std::vector<int>>& partners);
    void ask(const Rows& rows, Rows& answers) override;
    // Rows were met that the selection does not explain.
    bool broken() const { return broken_; }

private:
    Selection selection_;
    std::vector<int> revealing_; // bits to flip where the words are equal
    bool broken_ = false;
    Rows changed_;
};

} // namespace tapeout::circuit
