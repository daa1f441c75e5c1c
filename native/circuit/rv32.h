// The control processor's step as a black box (docs/processor.md); its semantics are in rv32_step.h.
#pragma once

#include "circuit/oracle.h"

#include <memory>
#include <string_view>

namespace tapeout::circuit {

enum class Rv32Variant { ia, ia_machine, ima_machine };

// "rv32ia", "rv32ia-machine" or "rv32ima-machine"; std::invalid_argument for any other name.
Rv32Variant rv32_variant(std::string_view name);

// Thread-safe. One of six: a variant, with the register file in the state or (`ports`) outside of it.
class Rv32Oracle : public Oracle {
public:
    Rv32Oracle(Rv32Variant variant, bool ports);
    std::size_t input_bits() const override { return input_bits_; }
    std::size_t output_bits() const override { return output_bits_; }
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override { run_(in, out, rows); }
    bool concurrent() const override { return true; }

private:
    std::size_t input_bits_;
    std::size_t output_bits_;
    void (*run_)(const std::uint64_t*, std::uint64_t*, std::size_t);
};

} // namespace tapeout::circuit
