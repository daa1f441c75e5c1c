// A word that is either some input bits as they are, or another word: the larger one of a register and a sum. The other
// word shows where those bits are held at 0, or at 1, if nothing else depends on them.
#pragma once

#include "circuit/derived.h"
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
class WiredQuestion final : public Predicate {
public:
    WiredQuestion(Question& word, std::vector<int> wired);
    void ask(const Rows& rows, Rows& answers) override;

private:
    std::vector<int> wired_;
};

} // namespace tapeout::circuit
