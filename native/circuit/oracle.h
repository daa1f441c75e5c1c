// A black box: what the learner may ask, and all that it may know.
//
// A row is one input or output vector: its words stand one behind the other in the order of the interface, bit 0 of the
// first word is bit 0 of the row; a row is padded with zero bits to whole 64-bit words, bit i is bit i % 64 of word i
// / 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tapeout::circuit {

inline std::size_t row_words(std::size_t bits) {
    return (bits + 63) / 64;
}

class Oracle {
public:
    virtual ~Oracle() = default;
    virtual std::size_t input_bits() const = 0;
    virtual std::size_t output_bits() const = 0;
    // Answers `rows` questions. `in` holds rows * row_words(input_bits()) words, `out` is written whole, padding as
    // zeros. Errors are thrown as exceptions. Called from several threads at once only where concurrent() says so.
    virtual void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) = 0;
    // The same where only some output bits are looked at: the others may be wrong.
    virtual void evaluate_for(const std::vector<int>& outputs, const std::uint64_t* in, std::uint64_t* out,
                              std::size_t rows) {
        static_cast<void>(outputs);
        evaluate(in, out, rows);
    }
    virtual bool concurrent() const { return false; }
};

} // namespace tapeout::circuit
