// Words that are another word up to signs: a signed division is the unsigned one of magnitudes, negated where the signs
// differ.
#pragma once

#include "circuit/additive.h"
#include "circuit/derived.h"
#include "circuit/rows.h"
#include "circuit/sampler.h"

#include <optional>
#include <vector>

namespace tapeout::circuit {

// How a word follows from another: input words are replaced by their magnitudes, the result is negated where an odd
// number of some words are negative. In rows that are no such the word may be a constant.
struct Signs {
    std::vector<Span> magnitudes, negate;
    std::optional<Word> constant;
};

// Row by row: whether negating the input word negates the answer. Where it does in nearly all rows it is worth looking
// for Signs. Empty where it cannot be told.
std::vector<char> odd_in(Question& word, const Span& span, const Rows& rows, const Rows& answers);
bool nearly_all(const std::vector<char>& rows);

std::optional<Signs> find_signs(Question& word, Question& other, const Rows& rows, const std::vector<Span>& words);

// Whether the word is what the signs make of the other one, as a question of one output bit.
class SignedQuestion final : public Predicate {
public:
    SignedQuestion(Question& word, Question& other, Signs signs);
    void ask(const Rows& rows, Rows& answers) override;
    Word queries() const override { return Predicate::queries() + other_.queries() - before_; }

private:
    Question& other_;
    Signs signs_;
    Word before_; // asked of the other word
};

// The word made of a circuit of the other one. `holds`: of a SignedQuestion, where the word may be a constant.
Circuit with_signs(const Signs& signs, std::size_t inputs, const Circuit& other, const Circuit* holds);

} // namespace tapeout::circuit
