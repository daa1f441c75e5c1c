// A black box that is a Python callable from rows to rows, so that native algorithms can ask it.
#pragma once

#include "circuit/oracle.h"

#include <cstddef>
#include <cstdint>
#include <nanobind/nanobind.h>

namespace tapeout::circuit {

class CallbackOracle final : public Oracle {
public:
    CallbackOracle(std::size_t input_bits, std::size_t output_bits, nanobind::object function);
    std::size_t input_bits() const override { return input_bits_; }
    std::size_t output_bits() const override { return output_bits_; }
    // Takes the GIL; may therefore be called with or without it, from one thread at a time.
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override;

    nanobind::object& function() { return function_; }

private:
    std::size_t input_bits_;
    std::size_t output_bits_;
    nanobind::object function_;
};

} // namespace tapeout::circuit
