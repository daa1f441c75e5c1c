// A black box that answers until a time only: what is under way then ends with BudgetEnded, deep in an algorithm or
// not.
#pragma once

#include "circuit/oracle.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

namespace tapeout::circuit {

struct BudgetEnded : std::runtime_error {
    BudgetEnded() : std::runtime_error("the time is over") {}
};

class TimedOracle final : public Oracle {
public:
    // Answers for `seconds` from now on. `oracle` must outlive this.
    TimedOracle(Oracle& oracle, double seconds)
        : oracle_(oracle), end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                   std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e8)))) {}
    std::size_t input_bits() const override { return oracle_.input_bits(); }
    std::size_t output_bits() const override { return oracle_.output_bits(); }
    bool concurrent() const override { return oracle_.concurrent(); }
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override {
        if (Clock::now() > end_)
            throw BudgetEnded();
        oracle_.evaluate(in, out, rows);
    }

private:
    using Clock = std::chrono::steady_clock;
    Oracle& oracle_;
    Clock::time_point end_;
};

} // namespace tapeout::circuit
