// A word that is the upper part of another one: the high half of a product is a sum only together with its low half,
// which may be another output, or the same output in another region (where another operation was selected).
#pragma once

#include "circuit/additive.h"
#include "circuit/region.h"

#include <vector>

namespace tapeout::circuit {

// Output bits, asked with some input bits fixed.
struct JoinedPart {
    std::vector<int> outputs;
    std::vector<Word> mask, value;
};

// The parts side by side, the lowest first, as one word of the inputs that none of them fixes.
class JoinedQuestion final : public Question {
public:
    JoinedQuestion(Oracle& oracle, const std::vector<JoinedPart>& parts);
    void ask(const Rows& rows, Rows& answers) override;
    std::size_t width() const override { return row_words(outputs_); }
    std::size_t outputs() const override { return outputs_; }

private:
    std::vector<JoinedPart> parts_;
    std::vector<Question> questions_;
    std::size_t outputs_ = 0;
    Rows asked_, got_;
};

// Learns the task's outputs as the upper bits of a sum whose lower bits are `low`, as what the steps of a fold show
// that `low` is, or as the last word of `low`, whose circuit is given, up to signs. Not solved (split is -1, no
// outputs) where they are none of these.
RegionResult learn_joined(Oracle& oracle, const RegionTask& task, std::vector<JoinedPart> low, const Circuit& circuit);

} // namespace tapeout::circuit
