// What is wrong with a black box that was given to us: becomes a UserError in Python.
#pragma once

#include "circuit/oracle.h"

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace tapeout::circuit {

class OracleError : public std::runtime_error {
public:
    // What happened, where, and what to do about it.
    OracleError(const std::string& what, std::string where_, std::string action_)
        : std::runtime_error(what), where(std::move(where_)), action(std::move(action_)) {}
    std::string where;
    std::string action;
};

// Bits behind the last output bit must be zero: what sets them has another width in mind.
inline void check_padding(const std::uint64_t* out, std::size_t rows, std::size_t bits, const std::string& where) {
    const std::size_t words = row_words(bits);
    if (bits % 64 == 0 || words == 0)
        return;
    const std::uint64_t padding = ~std::uint64_t{0} << (bits % 64);
    std::uint64_t seen = 0;
    for (std::size_t row = 0; row < rows; ++row)
        seen |= out[row * words + words - 1];
    if (seen & padding)
        throw OracleError("answers have bits set behind the last of " + std::to_string(bits) + " output bits", where,
                          "fill the padding of a row with zeros, or correct the widths of the interface");
}

} // namespace tapeout::circuit
