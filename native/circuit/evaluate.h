// Bit-parallel evaluation of and-inverter graphs: 512 rows at a time, all cores.
#pragma once

#include "circuit/aig.h"
#include "circuit/oracle.h"

#include <cstdint>
#include <vector>

namespace tapeout::circuit {

// A graph compiled to a straight line of gates over few slots, so that the values of a block stay in the cache.
class Evaluator final : public Oracle {
public:
    explicit Evaluator(const Aig& aig);

    std::size_t input_bits() const override { return inputs_; }
    std::size_t output_bits() const override { return outputs_.size(); }
    bool concurrent() const override { return true; }
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override { run(in, out, rows, 1); }

    // As evaluate, over `threads` threads (0: all cores).
    void run(const std::uint64_t* in, std::uint64_t* out, std::size_t rows, unsigned threads) const;

    struct Step {
        std::uint32_t to; // slot
        Lit a;            // 2 * slot + complement
        Lit b;
    };

private:
    std::size_t inputs_;
    std::size_t slots_ = 0;
    std::vector<Step> steps_;
    std::vector<Lit> outputs_; // 2 * slot + complement
};

} // namespace tapeout::circuit
