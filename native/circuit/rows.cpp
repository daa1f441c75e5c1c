#include "circuit/rows.h"

#include <algorithm>

namespace tapeout::circuit {

constexpr std::size_t kBatch = 2048; // rows an oracle is asked about at once: answers stay in the cache

Question::Question(Oracle& oracle, std::vector<int> outputs)
    : oracle_(oracle), outputs_(std::move(outputs)), input_width_(row_words(oracle.input_bits())),
      output_width_(row_words(oracle.output_bits())), contiguous_(true) {
    for (std::size_t i = 1; i < outputs_.size(); ++i)
        contiguous_ = contiguous_ && outputs_[i] == outputs_[i - 1] + 1;
}

void Question::ask(const Rows& rows, Rows& answers) {
    const std::size_t count = rows.size(), wide = width();
    if (answers.width() != wide || answers.size() != count)
        answers = Rows(wide, count);
    raw_.resize(kBatch * output_width_);
    queries_ += count;
    for (std::size_t start = 0; start < count; start += kBatch) {
        const std::size_t n = std::min(kBatch, count - start);
        oracle_.evaluate_for(outputs_, rows[start], raw_.data(), n);
        for (std::size_t row = 0; row < n; ++row) {
            const Word* from = raw_.data() + row * output_width_;
            Word* to = answers[start + row];
            if (contiguous_) {
                std::size_t bit = static_cast<std::size_t>(outputs_.front()), left = outputs_.size();
                for (std::size_t w = 0; w < wide; ++w, bit += 64, left -= std::min<std::size_t>(left, 64)) {
                    const std::size_t shift = bit % 64;
                    Word value = from[bit / 64] >> shift;
                    if (shift && shift + left > 64)
                        value |= from[bit / 64 + 1] << (64 - shift);
                    to[w] = left >= 64 ? value : value & ((Word{1} << left) - 1);
                }
            } else {
                std::fill_n(to, wide, 0);
                for (std::size_t i = 0; i < outputs_.size(); ++i)
                    to[i / 64] |= Word{get_bit(from, static_cast<std::size_t>(outputs_[i]))} << (i % 64);
            }
        }
    }
}

} // namespace tapeout::circuit
