// A word that is either some input bits as they are, or another word: the larger one of a register and a sum. The other
// word shows where those bits are held at 0, or at 1, if nothing else depends on them.
#pragma once

#include "circuit/influence.h"
#include "circuit/rows.h"

#include <optional>
#include <vector>

namespace tapeout::circuit {

struct Alternative {
    std::vector<int> wired; // per output bit: the input bit
    bool held = false;      // what they are held at
};

// Bits of one input word, in any order, one for each output: where every row's answer is those bits, or what it is with
// them held.
std::optional<Alternative> find_alternative(Question& question, const Rows& rows, const Rows& answers,
                                            const Influence& influence, const std::vector<Span>& words);

// Whether the word is the wired one, as a question of one output bit.
class WiredQuestion final : public Question {
public:
    WiredQuestion(Question& word, std::vector<int> wired);
    void ask(const Rows& rows, Rows& answers) override;
    std::size_t width() const override { return 1; }
    std::size_t outputs() const override { return 1; }
    Word queries() const override { return word_.queries() - before_; }

private:
    Question& word_;
    std::vector<int> wired_;
    Word before_; // asked of the word by others
    Rows got_;
};

} // namespace tapeout::circuit
