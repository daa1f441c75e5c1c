#include "circuit/patterns.h"

#include <algorithm>

namespace tapeout::circuit {

Patterns::Patterns(std::size_t inputs, std::vector<std::uint32_t> widths, std::uint64_t seed)
    : inputs_(inputs), state_(seed) {
    std::uint32_t at = 0;
    for (const std::uint32_t width : widths) {
        starts_.push_back(at);
        at += width;
    }
    for (; at < inputs_; ++at)
        starts_.push_back(at);
    starts_.push_back(at);
}

// Steele, Lea and Flood: SplitMix64, OOPSLA 2014.
std::uint64_t Patterns::random() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

void Patterns::make_word(std::size_t word, Vector& bits) {
    const std::uint32_t start = starts_[word], end = starts_[word + 1], width = end - start;
    const std::uint64_t dice = random();
    const std::uint32_t place = static_cast<std::uint32_t>((dice >> 32) % width);
    std::uint64_t pool = 0;
    for (std::uint32_t i = start; i < end; ++i) {
        if ((i - start) % 64 == 0)
            pool = dice % 16 == 0 ? random() & random() & random() : random();
        bits[i] = (pool >> (i - start) % 64) & 1;
    }
    const char base = (dice >> 8) & 1;
    switch (dice % 16) {
    case 1:
    case 2:
        std::fill(bits.begin() + start, bits.begin() + end, base);
        break;
    case 3:
        std::fill(bits.begin() + start, bits.begin() + end, base);
        bits[start + place] ^= 1;
        break;
    case 4:
        std::fill(bits.begin() + start, bits.begin() + start + place, base);
        std::fill(bits.begin() + start + place, bits.begin() + end, base ^ 1);
        break;
    case 5:
    case 6:
    case 7: { // an earlier word of the same width, up to complement and at most one flip
        if (!word)
            break;
        const std::size_t other = (dice >> 16) % word;
        if (starts_[other + 1] - starts_[other] != width)
            break;
        const char flip = dice % 16 == 7;
        for (std::uint32_t i = 0; i < width; ++i)
            bits[start + i] = bits[starts_[other] + i] ^ flip;
        if (dice % 16 == 6)
            bits[start + place] ^= 1;
        break;
    }
    default:
        break;
    }
}

void Patterns::structured(Slot* inputs) {
    std::fill_n(inputs, inputs_, Slot{});
    Vector bits(inputs_);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        for (std::size_t word = 0; word + 1 < starts_.size(); ++word)
            make_word(word, bits);
        for (std::size_t i = 0; i < inputs_; ++i)
            inputs[i].words[lane / 64] |= std::uint64_t(bits[i]) << lane % 64;
    }
}

void Patterns::near(const std::vector<std::int8_t>& known, Slot* inputs) {
    std::vector<std::size_t> fixed;
    for (std::size_t i = 0; i < inputs_; ++i) {
        for (std::size_t w = 0; w < kLaneWords; ++w)
            inputs[i].words[w] = random();
        if (!known[i])
            continue;
        fixed.push_back(i);
        const std::uint64_t value = known[i] > 0 ? ~std::uint64_t{0} : 0;
        inputs[i].words[0] = inputs[i].words[1] = inputs[i].words[2] = value;
        for (std::size_t w = 3; w < kLaneWords; ++w)
            inputs[i].words[w] = value ^ (random() & random() & (w < 6 ? random() & random() : ~std::uint64_t{0}));
    }
    for (std::size_t lane = 0; lane < 128 && !fixed.empty(); ++lane)
        inputs[fixed[random() % fixed.size()]].words[1 + lane / 64] ^= std::uint64_t{1} << lane % 64;
}

} // namespace tapeout::circuit
