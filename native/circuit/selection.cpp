#include "circuit/selection.h"

#include <algorithm>
#include <array>

namespace tapeout::circuit {

namespace {

using Column = std::vector<Word>; // a bit of every row

Column column(const Rows& rows, std::size_t bit) {
    Column result((rows.size() + 63) / 64);
    for (std::size_t row = 0; row < rows.size(); ++row)
        result[row / 64] |= Word{get_bit(rows[row], bit)} << (row % 64);
    return result;
}

} // namespace

std::optional<Selection> find_selection(const Rows& rows, const Rows& answers, const Influence& influence,
                                        std::size_t outputs) {
    if (outputs < 2 || influence.support.empty())
        return std::nullopt;
    const std::size_t blocks = (rows.size() + 63) / 64, tail = rows.size() % 64;
    const Word last = tail ? (Word{1} << tail) - 1 : ~Word{0};
    std::vector<Column> inputs;
    for (const int bit : influence.support)
        inputs.push_back(column(rows, static_cast<std::size_t>(bit)));
    // What is known of the choice so far: rows in which it shows, and what it is.
    Column shown(blocks), choice(blocks);
    Selection result;
    result.first.resize(outputs);
    result.second.resize(outputs);
    std::vector<std::size_t> order(outputs);
    for (std::size_t o = 0; o < outputs; ++o)
        order[o] = outputs - 1 - o; // high bits of words are left alone by shifts and extensions more often
    for (const std::size_t o : order) {
        const Column answer = column(answers, o);
        std::vector<std::pair<Source, Column>> sources{{Source{Source::kZero}, Column(blocks)},
                                                       {Source{Source::kOne}, Column(blocks, ~Word{0})}};
        for (std::size_t v = 0; v < inputs.size(); ++v)
            if (get_bit(influence.outputs[v].data(), o))
                sources.emplace_back(Source{influence.support[v]}, inputs[v]);
        // The pair that explains all rows, agrees with what is known, and differs as rarely as possible from the
        // answer.
        const std::pair<Source, Column>*best_a = nullptr, *best_b = nullptr;
        std::size_t most = 0;
        for (const auto& a : sources) {
            std::size_t agree = 0;
            for (std::size_t b = 0; b < blocks; ++b)
                agree += static_cast<std::size_t>(
                    std::popcount(~(a.second[b] ^ answer[b]) & (b + 1 == blocks ? last : ~Word{0})));
            for (const auto& b : sources) {
                bool good = true;
                for (std::size_t k = 0; k < blocks && good; ++k) {
                    const Word valid = k + 1 == blocks ? last : ~Word{0};
                    const Word is_a = ~(a.second[k] ^ answer[k]), is_b = ~(b.second[k] ^ answer[k]);
                    const Word conflict =
                        (shown[k] & choice[k] & ~is_a) | (shown[k] & ~choice[k] & ~is_b) | (~is_a & ~is_b);
                    good = !(conflict & valid);
                }
                if (!good)
                    continue;
                std::size_t both = agree;
                for (std::size_t k = 0; k < blocks; ++k)
                    both += static_cast<std::size_t>(
                        std::popcount(~(b.second[k] ^ answer[k]) & (k + 1 == blocks ? last : ~Word{0})));
                if (!best_a || both > most) {
                    best_a = &a;
                    best_b = &b;
                    most = both;
                }
            }
        }
        if (!best_a)
            return std::nullopt;
        result.first[o] = best_a->first;
        result.second[o] = best_b->first;
        for (std::size_t k = 0; k < blocks; ++k) {
            const Word differ = best_a->second[k] ^ best_b->second[k], fresh = differ & ~shown[k];
            choice[k] |= fresh & ~(best_a->second[k] ^ answer[k]);
            shown[k] |= differ;
        }
    }
    if (result.first == result.second)
        return std::nullopt;
    return result;
}

SelectorQuestion::SelectorQuestion(Question& word, Selection selection, const std::vector<std::vector<int>>& partners)
    : Predicate(word), selection_(std::move(selection)) {
    for (std::size_t o = 0; o < selection_.first.size() && revealing_.empty(); ++o)
        for (const Source source : {selection_.first[o], selection_.second[o]})
            if (source.bit >= 0 && selection_.first[o] != selection_.second[o] && revealing_.empty()) {
                revealing_ = {source.bit};
                const Source other = source == selection_.first[o] ? selection_.second[o] : selection_.first[o];
                for (const auto& cluster : partners)
                    if (std::count(cluster.begin(), cluster.end(), source.bit) &&
                        !std::count(cluster.begin(), cluster.end(), other.bit))
                        revealing_ = cluster;
            }
}

void SelectorQuestion::ask(const Rows& rows, Rows& answers) {
    const std::size_t outputs = selection_.first.size();
    changed_ = rows;
    for (std::size_t row = 0; row < rows.size(); ++row) {
        bool equal = true;
        for (std::size_t o = 0; o < outputs && equal; ++o)
            equal = selection_.first[o].value(rows[row]) == selection_.second[o].value(rows[row]);
        if (equal)
            for (const int bit : revealing_)
                flip_bit(changed_[row], static_cast<std::size_t>(bit));
    }
    word_.ask(changed_, got_);
    tell(rows, answers, [&](std::size_t row) {
        int choice = -1;
        for (std::size_t o = 0; o < outputs; ++o) {
            const bool a = selection_.first[o].value(changed_[row]), b = selection_.second[o].value(changed_[row]);
            const bool value = get_bit(got_[row], o);
            if (a == b)
                broken_ = broken_ || value != a;
            else if (choice < 0)
                choice = value == a;
            else
                broken_ = broken_ || (value == a) != (choice == 1);
        }
        return choice == 1;
    });
}

} // namespace tapeout::circuit
