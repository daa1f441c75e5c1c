// A black box that answers until a time, or so many questions: what is under way then ends with BudgetEnded, deep in an
// algorithm or not.
#pragma once

#include "circuit/oracle.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>

namespace tapeout::circuit {

struct BudgetEnded : std::runtime_error {
    BudgetEnded() : std::runtime_error("the budget is used up") {}
};

class BudgetOracle final : public Oracle {
public:
    // Answers for `seconds` from now on, and `questions` (rows). `oracle` must outlive this.
    BudgetOracle(Oracle& oracle, double seconds, std::uint64_t questions)
        : oracle_(oracle), end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                   std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e8)))),
          left_(static_cast<std::int64_t>(std::min(questions, std::uint64_t{1} << 62))) {}
    std::size_t input_bits() const override { return oracle_.input_bits(); }
    std::size_t output_bits() const override { return oracle_.output_bits(); }
    bool concurrent() const override { return oracle_.concurrent(); }
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override {
        if (left_.fetch_sub(static_cast<std::int64_t>(rows)) < static_cast<std::int64_t>(rows) || Clock::now() > end_)
            throw BudgetEnded();
        oracle_.evaluate(in, out, rows);
    }

private:
    using Clock = std::chrono::steady_clock;
    Oracle& oracle_;
    Clock::time_point end_;
    std::atomic<std::int64_t> left_; // below 0 once one was refused
};

} // namespace tapeout::circuit
