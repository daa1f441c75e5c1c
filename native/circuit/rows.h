// Rows of bits, the random numbers that fill them, and asking an oracle about a few of its output bits.
#pragma once

#include "circuit/oracle.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace tapeout::circuit {

using Word = std::uint64_t;

inline bool get_bit(const Word* row, std::size_t bit) {
    return row[bit / 64] >> (bit % 64) & 1;
}
inline void set_bit(Word* row, std::size_t bit, bool value) {
    const Word mask = Word{1} << (bit % 64);
    row[bit / 64] = value ? row[bit / 64] | mask : row[bit / 64] & ~mask;
}
inline void flip_bit(Word* row, std::size_t bit) {
    row[bit / 64] ^= Word{1} << (bit % 64);
}

inline Word low_bits(std::size_t count) {
    return count >= 64 ? ~Word{0} : (Word{1} << count) - 1;
}

// Up to 64 bits of a row at any place.
inline Word get_bits(const Word* row, int first, int width) {
    const int shift = first % 64;
    Word value = row[first / 64] >> shift;
    if (shift + width > 64)
        value |= row[first / 64 + 1] << (64 - shift);
    return value & low_bits(static_cast<std::size_t>(width));
}
inline void set_bits(Word* row, int first, int width, Word value) {
    const Word mask = low_bits(static_cast<std::size_t>(width));
    const int shift = first % 64;
    value &= mask;
    row[first / 64] = (row[first / 64] & ~(mask << shift)) | value << shift;
    if (shift + width > 64)
        row[first / 64 + 1] = (row[first / 64 + 1] & ~(mask >> (64 - shift))) | value >> (64 - shift);
}

inline Word mix(Word x) { // splitmix64's finaliser
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

// A hash of any number of words, for signatures: two halves that are mixed differently.
struct Hash {
    Word a = 0x9e3779b97f4a7c15u, b = 0xd1b54a32d192ed03u;
    void add(Word x) {
        a = mix(a ^ x);
        b = mix(b + (x ^ 0x5851f42d4c957f2du) * 0x2545f4914f6cdd1du);
    }
    bool operator==(const Hash&) const = default;
};
struct HashOf {
    std::size_t operator()(const Hash& hash) const { return hash.a; }
};

// splitmix64: one state word, so that a stream can be named by what it is for.
class Random {
public:
    explicit Random(Word seed) : state_(mix(seed + 0x9e3779b97f4a7c15u)) {}
    Word word() { return mix(state_ += 0x9e3779b97f4a7c15u); }
    std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>((word() >> 32) * bound >> 32); }
    bool chance(double p) { return static_cast<double>(word() >> 11) * 0x1p-53 < p; }

private:
    Word state_;
};

// Many rows of one width.
class Rows {
public:
    Rows() = default;
    Rows(std::size_t width, std::size_t rows) : width_(width), data_(width * rows) {}
    std::size_t width() const { return width_; }
    std::size_t size() const { return width_ ? data_.size() / width_ : 0; }
    Word* operator[](std::size_t row) { return data_.data() + row * width_; }
    const Word* operator[](std::size_t row) const { return data_.data() + row * width_; }
    Word* data() { return data_.data(); }
    const Word* data() const { return data_.data(); }
    void resize(std::size_t rows) { data_.resize(width_ * rows); }
    void push(const Word* row) { data_.insert(data_.end(), row, row + width_); }
    void append(const Rows& other) { data_.insert(data_.end(), other.data_.begin(), other.data_.end()); }

private:
    std::size_t width_ = 0;
    std::vector<Word> data_;
};

// Transposes a 64 x 64 bit matrix in place: bit j of word i becomes bit i of word j.
inline void transpose64(Word* m) {
    Word mask = 0xffffffff;
    for (int j = 32; j; j >>= 1, mask ^= mask << j) {
        for (int k = 0; k < 64; k = (k + j + 1) & ~j) {
            const Word t = ((m[k] >> j) ^ m[k + j]) & mask;
            m[k] ^= t << j;
            m[k + j] ^= t;
        }
    }
}

// The output bits that one job looks at; answers hold them packed, `width()` words a row.
class Question {
public:
    Question(Oracle& oracle, std::vector<int> outputs);
    virtual ~Question() = default;
    std::size_t input_bits() const { return oracle_.input_bits(); }
    std::size_t input_width() const { return input_width_; }
    virtual std::size_t outputs() const { return outputs_.size(); }
    virtual std::size_t width() const { return row_words(outputs_.size()); }
    virtual Word queries() const { return queries_; }
    // Answers[row] = the asked output bits of the oracle at rows[row].
    virtual void ask(const Rows& rows, Rows& answers);

protected:
    Word queries_ = 0;

private:
    Oracle& oracle_;
    std::vector<int> outputs_;
    std::size_t input_width_, output_width_;
    bool contiguous_;
    std::vector<Word> raw_;
};

} // namespace tapeout::circuit
