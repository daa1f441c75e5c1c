#include "circuit/alternative.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kLeastShare = 50; // one of so many rows has to show each of the two words

bool is_wired(const Word* row, const Word* answer, const std::vector<int>& wired) {
    for (std::size_t o = 0; o < wired.size(); ++o)
        if (get_bit(row, static_cast<std::size_t>(wired[o])) != get_bit(answer, o))
            return false;
    return true;
}

// Per output bit: the input of `span` that most often changes it alone. Nothing where there is none for some output.
std::optional<std::vector<int>> wiring(const Influence& influence, const Span& span, std::size_t rows, std::size_t wide,
                                       std::size_t outputs) {
    std::vector<int> wired(outputs, -1);
    std::vector<std::size_t> best(outputs), counts(outputs);
    for (std::size_t v = 0; v < influence.support.size(); ++v) {
        const int bit = influence.support[v];
        if (bit < span.first || bit >= span.first + span.width)
            continue;
        std::fill(counts.begin(), counts.end(), 0);
        for (std::size_t row = 0; row < rows; ++row) {
            const Word* change = influence.changes[v].data() + row * wide;
            std::size_t changed = 0, output = 0;
            for (std::size_t w = 0; w < wide; ++w)
                if (change[w]) {
                    changed += static_cast<std::size_t>(std::popcount(change[w]));
                    output = w * 64 + static_cast<std::size_t>(std::countr_zero(change[w]));
                }
            if (changed == 1)
                ++counts[output];
        }
        for (std::size_t o = 0; o < outputs; ++o)
            if (counts[o] > best[o]) {
                best[o] = counts[o];
                wired[o] = bit;
            }
    }
    if (std::count(wired.begin(), wired.end(), -1))
        return std::nullopt;
    return wired;
}

} // namespace

std::optional<Alternative> find_alternative(Question& question, const Rows& rows, const Rows& answers,
                                            const Influence& influence, const std::vector<Span>& words) {
    const std::size_t wide = question.width();
    for (const Span& span : words) {
        const auto wired = wiring(influence, span, rows.size(), wide, question.outputs());
        if (!wired)
            continue;
        for (const bool held : {false, true}) {
            Rows asked = rows, other;
            for (std::size_t row = 0; row < rows.size(); ++row)
                for (const int bit : *wired)
                    set_bit(asked[row], static_cast<std::size_t>(bit), held);
            question.ask(asked, other);
            std::size_t first = 0, second = 0, row = 0;
            for (; row < rows.size(); ++row) {
                const bool is_first = is_wired(rows[row], answers[row], *wired);
                const bool is_second = std::equal(answers[row], answers[row] + wide, other[row]);
                if (!is_first && !is_second)
                    break;
                first += is_first && !is_second;
                second += is_second && !is_first;
            }
            if (row == rows.size() && kLeastShare * std::min(first, second) >= rows.size())
                return Alternative{*wired, held};
        }
    }
    return std::nullopt;
}

WiredQuestion::WiredQuestion(Question& word, std::vector<int> wired) : Predicate(word), wired_(std::move(wired)) {}

void WiredQuestion::ask(const Rows& rows, Rows& answers) {
    word_.ask(rows, got_);
    tell(rows, answers, [&](std::size_t row) { return is_wired(rows[row], got_[row], wired_); });
}

} // namespace tapeout::circuit
