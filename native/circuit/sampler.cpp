#include "circuit/sampler.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace tapeout::circuit {

namespace {

constexpr int kLeastWord = 4; // narrower ones are controls

void fill_word(Word* row, const Span& span, bool bit) {
    for (int at = 0; at < span.width; at += 64)
        set_bits(row, span.first + at, std::min(64, span.width - at), bit ? ~Word{0} : 0);
}

} // namespace

std::vector<Span> whole_words(const std::vector<Span>& words, const std::vector<int>& support) {
    std::vector<Span> whole;
    for (const Span& span : words) {
        const auto first = std::lower_bound(support.begin(), support.end(), span.first);
        if (span.width >= kLeastWord &&
            std::lower_bound(first, support.end(), span.first + span.width) - first == span.width)
            whole.push_back(span);
    }
    return whole;
}

std::vector<int> control_bits(const std::vector<Span>& words, const std::vector<int>& support) {
    const auto whole = whole_words(words, support);
    std::vector<int> controls;
    std::copy_if(support.begin(), support.end(), std::back_inserter(controls), [&](int bit) {
        return std::none_of(whole.begin(), whole.end(),
                            [&](const Span& span) { return bit >= span.first && bit < span.first + span.width; });
    });
    return controls;
}

Sampler::Sampler(std::vector<Span> words, std::size_t row_words, const Region& region, Word seed)
    : words_(std::move(words)), row_words_(row_words), region_(region), random_(seed), all_(words_.size()),
      scratch_(row_words) {
    std::iota(all_.begin(), all_.end(), 0);
}

void Sampler::set_focus(Focus focus) {
    active_.clear();
    for (std::size_t w = 0; w < words_.size(); ++w)
        if (std::any_of(focus.support.begin(), focus.support.end(),
                        [&](int bit) { return bit >= words_[w].first && bit < words_[w].first + words_[w].width; }))
            active_.push_back(static_cast<int>(w));
    focus_ = std::move(focus);
}

void Sampler::sample_word(Word* row, const Span& span, const std::vector<int>& sources) {
    const auto width = static_cast<std::uint32_t>(span.width);
    const auto bit = [&] { return static_cast<std::size_t>(span.first) + random_.below(width); };
    const std::uint32_t kind = random_.below(16);
    switch (kind) {
    case 0:
    case 1:
        fill_word(row, span, kind);
        break;
    case 2:
    case 3: { // a run of equal bits among others
        fill_word(row, span, kind & 1);
        std::uint32_t low = random_.below(width + 1), high = random_.below(width + 1);
        if (low > high)
            std::swap(low, high);
        for (std::uint32_t i = low; i < high; ++i)
            set_bit(row, static_cast<std::size_t>(span.first) + i, !(kind & 1));
        break;
    }
    case 4:
    case 5:
    case 6:
    case 7: { // one, two or three bits that differ from all others
        fill_word(row, span, kind & 1);
        for (std::uint32_t i = 1 + random_.below(3); i > 0; --i)
            set_bit(row, bit(), !(kind & 1));
        break;
    }
    case 8:
    case 9: { // a small number, or a little below zero
        const std::uint32_t keep = 1 + random_.below(std::min(width, random_.chance(0.5) ? 8u : 24u));
        const Word low = random_.word();
        fill_word(row, span, kind & 1);
        set_bits(row, span.first, static_cast<int>(keep), low);
        break;
    }
    case 10:
    case 11:
    case 12:
    case 13: { // another word, up to two bits off, or its complement
        const Span& source =
            words_[static_cast<std::size_t>(sources[random_.below(static_cast<std::uint32_t>(sources.size()))])];
        if (source.first == span.first)
            break;
        const Word invert = kind == 13 ? ~Word{0} : 0;
        for (int at = 0; at < std::min(span.width, source.width); at += 64) {
            const int n = std::min(64, std::min(span.width, source.width) - at);
            set_bits(row, span.first + at, n, get_bits(row, source.first + at, n) ^ invert);
        }
        for (std::uint32_t i = random_.below(3); i > 0; --i)
            flip_bit(row, bit());
        break;
    }
    case 14:
    case 15: // sparse or dense
        for (int at = 0; at < span.width; at += 64) {
            const Word a = random_.word(), b = random_.word();
            set_bits(row, span.first + at, std::min(64, span.width - at), kind == 14 ? a & b : a | b);
        }
        break;
    default:
        break;
    }
}

// Makes the first bits of all clusters equal to their partners (or opposite), but for at most two clusters.
void Sampler::align_partners(Word* row) {
    const bool opposite = random_.chance(0.4);
    const auto count = static_cast<std::uint32_t>(focus_.partners.size());
    std::uint32_t low = 0, high = count;
    if (random_.chance(0.3)) { // only a run of them
        low = random_.below(count);
        high = low + 1 + random_.below(count - low);
    }
    for (std::uint32_t c = low; c < high; ++c) {
        const auto& cluster = focus_.partners[c];
        const bool first = get_bit(row, static_cast<std::size_t>(cluster[0]));
        for (std::size_t i = 1; i < cluster.size(); ++i)
            set_bit(row, static_cast<std::size_t>(cluster[i]), first ^ opposite);
    }
    for (std::uint32_t i = random_.below(3); i > 0; --i) {
        const auto& cluster = focus_.partners[random_.below(count)];
        flip_bit(row, static_cast<std::size_t>(cluster[random_.below(static_cast<std::uint32_t>(cluster.size()))]));
    }
}

// Takes some words from a row that mattered, or changes a few of its bits.
void Sampler::cross(Word* row) {
    const bool lively = lively_ && lively_->size() && (!hints_ || !hints_->size() || random_.chance(0.5));
    const Rows& from = lively ? *lively_ : *hints_;
    const Word* hint = from[random_.below(static_cast<std::uint32_t>(from.size()))];
    if (random_.chance(0.6)) {
        std::copy_n(hint, row_words_, row);
        for (std::uint32_t i = 1 + random_.below(4); i > 0; --i) {
            if (!focus_.support.empty()) {
                const auto& bits = focus_.support;
                flip_bit(row, static_cast<std::size_t>(bits[random_.below(static_cast<std::uint32_t>(bits.size()))]));
                continue;
            }
            const Span& span = words_[random_.below(static_cast<std::uint32_t>(words_.size()))];
            flip_bit(row, static_cast<std::size_t>(span.first) + random_.below(static_cast<std::uint32_t>(span.width)));
        }
        return;
    }
    for (const Span& span : words_) {
        if (random_.chance(0.5))
            continue;
        for (int at = 0; at < span.width; at += 64) {
            const int n = std::min(64, span.width - at);
            set_bits(row, span.first + at, n, get_bits(hint, span.first + at, n));
        }
    }
}

void Sampler::sample(Word* row) {
    for (std::size_t w = 0; w < row_words_; ++w)
        row[w] = random_.word();
    const bool narrow = !active_.empty() && random_.chance(0.6);
    const std::vector<int>& sources = narrow ? active_ : all_;
    const double plain = random_.chance(0.15) ? 1.0 : random_.chance(0.5) ? 0.5 : 0.2;
    const auto count = static_cast<std::uint32_t>(sources.size());
    const std::uint32_t start =
        count ? random_.below(count) : 0; // which word is a copy of which depends on who comes first
    for (std::uint32_t i = 0; i < count; ++i)
        if (!random_.chance(plain))
            sample_word(row, words_[static_cast<std::size_t>(sources[(start + i) % count])], sources);
    if (!focus_.partners.empty() && random_.chance(0.3))
        align_partners(row);
    if (((hints_ && hints_->size()) || (lively_ && lively_->size())) && random_.chance(0.35))
        cross(row);
    region_.force(row);
}

void Sampler::fill(Rows& rows, std::size_t first) {
    const std::size_t last = row_words_ - 1;
    const Span& end = words_.back();
    const int used = end.first + end.width - 64 * static_cast<int>(last);
    const Word padding = used >= 64 ? ~Word{0} : (Word{1} << used) - 1;
    for (std::size_t i = first; i < rows.size(); ++i) {
        sample(rows[i]);
        rows[i][last] &= padding;
    }
}

} // namespace tapeout::circuit
