// Which inputs matter to which outputs, how often, and which inputs belong together.
#pragma once

#include "circuit/rows.h"
#include "circuit/sampler.h"

#include <set>
#include <vector>

namespace tapeout::circuit {

class Influence {
public:
    std::vector<int> support;                  // input bits that changed an output, ascending
    std::vector<double> rate;                  // per support bit: share of rows in which a flip changes the word
    std::vector<std::vector<Word>> outputs;    // per support bit: the output bits it changed, packed
    std::vector<int> count;                    // per support bit: how many those are
    std::vector<std::vector<double>> strength; // per support bit and output bit: share of rows in which it changes
    std::vector<std::vector<Word>> changes; // per support bit: rows * question.width() words, what changed in each row

    // Flips every candidate bit in every row behind the ones already seen; candidates not asked before, in all rows.
    void extend(Question& question, const Rows& rows, const Rows& answers, const std::vector<int>& candidates);

    bool changed(std::size_t input, std::size_t row, std::size_t wide) const {
        for (std::size_t w = 0; w < wide; ++w)
            if (changes[input][row * wide + w])
                return true;
        return false;
    }

private:
    std::set<int> asked_;
    std::size_t rows_ = 0;
};

// The rows, those first in which most inputs matter.
std::vector<std::size_t> liveliest_first(const Influence& influence, std::size_t rows, std::size_t wide);

// For each support bit: in which share of the rows in which `input` matters it starts or ceases to matter when `input`
// is flipped. A control decides about many; the high bits of a comparison decide about the low ones, and not the other
// way round.
std::vector<double> interplay(Question& question, const Rows& rows, const Influence& influence, std::size_t input,
                              std::size_t probes);

// Clusters of up to four support bits (indices into `support`) where flipping one undoes flipping another: the bits
// that an adder adds, a comparator compares, a multiplexer swaps.
std::vector<std::vector<int>> find_partners(Question& question, const Rows& rows, const Rows& answers,
                                            const Influence& influence);

// An input to split on. `left` is what the two halves leave to be known, as a share of twice what there is now: 1 for
// an input that decides about no other, about half for one that chooses between two words or enables one.
struct Split {
    int bit = -1;
    double left = 1;
};

// All inputs of the support, the best to split on first. Each is judged on the same rows with both of its values, half
// of them rows in which many inputs matter.
std::vector<Split> rank_splits(Question& question, const Rows& rows, const Influence& influence);

} // namespace tapeout::circuit
