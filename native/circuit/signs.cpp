#include "circuit/signs.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kMostWords = 3;
constexpr std::size_t kExceptions = 4; // of so many rows one may be a constant instead

bool negative(const Word* row, const Span& span) {
    return get_bit(row, static_cast<std::size_t>(span.first + span.width - 1));
}

void negate(Word* row, const Span& span) {
    set_bits(row, span.first, span.width, Word{0} - get_bits(row, span.first, span.width));
}

bool fits(const Question& word, const std::vector<Span>& words) {
    return word.outputs() <= 64 && !words.empty() && words.size() <= kMostWords &&
           std::all_of(words.begin(), words.end(), [](const Span& span) { return span.width <= 64; });
}

// What the signs make of the other word, row by row.
Rows apply(const Signs& signs, Question& other, const Rows& rows) {
    Rows asked = rows, answers;
    for (std::size_t row = 0; row < rows.size(); ++row)
        for (const Span& span : signs.magnitudes)
            if (negative(rows[row], span))
                negate(asked[row], span);
    other.ask(asked, answers);
    for (std::size_t row = 0; row < rows.size(); ++row) {
        const auto odd = std::count_if(signs.negate.begin(), signs.negate.end(),
                                       [&](const Span& span) { return negative(rows[row], span); });
        if (odd % 2)
            answers[row][0] = (Word{0} - answers[row][0]) & low_bits(other.outputs());
    }
    return answers;
}

// A word, negated where `sign` is 1.
std::vector<Lit> negated(Strash& gates, const std::vector<Lit>& word, Lit sign) {
    std::vector<Lit> result;
    Lit carry = sign;
    for (const Lit bit : word) {
        const Lit flipped = gates.xor_(bit, sign);
        result.push_back(gates.xor_(flipped, carry));
        carry = gates.and_(flipped, carry);
    }
    return result;
}

std::vector<Span> chosen(const std::vector<Span>& words, std::size_t mask) {
    std::vector<Span> result;
    for (std::size_t w = 0; w < words.size(); ++w)
        if (mask >> w & 1)
            result.push_back(words[w]);
    return result;
}

} // namespace

std::vector<char> odd_in(Question& word, const Span& span, const Rows& rows, const Rows& answers) {
    if (!fits(word, {span}))
        return {};
    Rows asked = rows, got;
    for (std::size_t row = 0; row < rows.size(); ++row)
        negate(asked[row], span);
    word.ask(asked, got);
    std::vector<char> odd(rows.size());
    for (std::size_t row = 0; row < rows.size(); ++row)
        odd[row] = got[row][0] == ((Word{0} - answers[row][0]) & low_bits(word.outputs()));
    return odd;
}

bool nearly_all(const std::vector<char>& rows) {
    const auto exceptions = static_cast<std::size_t>(std::count(rows.begin(), rows.end(), 0));
    return !rows.empty() && kExceptions * exceptions <= rows.size();
}

std::optional<Signs> find_signs(Question& word, Question& other, const Rows& rows, const std::vector<Span>& words) {
    if (!fits(word, words) || word.outputs() != other.outputs())
        return std::nullopt;
    Rows answers;
    word.ask(rows, answers);
    for (std::size_t magnitudes = 0; magnitudes < std::size_t{1} << words.size(); ++magnitudes)
        for (std::size_t negate = 0; negate < std::size_t{1} << words.size(); ++negate) {
            Signs signs{chosen(words, magnitudes), chosen(words, negate), std::nullopt};
            const Rows made = apply(signs, other, rows);
            std::size_t exceptions = 0;
            bool constant = true;
            for (std::size_t row = 0; row < rows.size(); ++row)
                if (made[row][0] != answers[row][0]) {
                    ++exceptions;
                    constant = constant && answers[row][0] == signs.constant.value_or(answers[row][0]);
                    signs.constant = answers[row][0];
                }
            if (constant && kExceptions * exceptions <= rows.size())
                return signs;
        }
    return std::nullopt;
}

SignedQuestion::SignedQuestion(Question& word, Question& other, Signs signs)
    : Predicate(word), other_(other), signs_(std::move(signs)), before_(other.queries()) {}

void SignedQuestion::ask(const Rows& rows, Rows& answers) {
    word_.ask(rows, got_);
    const Rows made = apply(signs_, other_, rows);
    tell(rows, answers, [&](std::size_t row) { return got_[row][0] == made[row][0]; });
}

Circuit with_signs(const Signs& signs, std::size_t inputs, const Circuit& other, const Circuit* holds) {
    Strash gates(inputs);
    std::vector<Lit> operands(inputs);
    for (std::size_t input = 0; input < inputs; ++input)
        operands[input] = lit_of(1 + input);
    for (const Span& span : signs.magnitudes) {
        const auto first = operands.begin() + span.first;
        const auto word = negated(gates, {first, first + span.width}, *(first + span.width - 1));
        std::copy(word.begin(), word.end(), first);
    }
    Lit sign{0};
    for (const Span& span : signs.negate)
        sign = gates.xor_(sign, lit_of(static_cast<std::size_t>(span.first + span.width)));
    Circuit result;
    result.outputs = negated(gates, place(gates, other, result.fold, operands), sign);
    if (holds) {
        const Lit good = gates.place(holds->gates, holds->outputs)[0];
        for (std::size_t o = 0; o < result.outputs.size(); ++o)
            result.outputs[o] = gates.mux(good, result.outputs[o], static_cast<Lit>(*signs.constant >> o & 1));
    }
    result.gates = std::move(gates.aig.gates);
    return result;
}

} // namespace tapeout::circuit
