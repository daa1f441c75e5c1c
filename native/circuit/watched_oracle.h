// A black box that is watched while algorithms ask it. One that hangs cannot be interrupted, but it can be noticed and
// left behind; one that begins to waver would keep an algorithm busy for ever.
#pragma once

#include "circuit/oracle.h"

#include <chrono>
#include <mutex>
#include <set>

namespace tapeout::circuit {

class WatchedOracle final : public Oracle {
public:
    // `oracle` must outlive this.
    explicit WatchedOracle(Oracle& oracle) : oracle_(oracle) {}
    std::size_t input_bits() const override { return oracle_.input_bits(); }
    std::size_t output_bits() const override { return oracle_.output_bits(); }
    bool concurrent() const override { return oracle_.concurrent(); }
    // Of one batch in kEvery, some rows are asked again; OracleError where the answers differ.
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override;
    // Seconds since the oldest batch that is not answered yet was asked; 0 without one.
    double waiting_s() const;

private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::uint64_t kEvery = 64;
    static constexpr std::size_t kAgain = 64; // rows

    // A batch that is being answered.
    class Asking {
    public:
        explicit Asking(WatchedOracle& watched);
        ~Asking();
        Asking(const Asking&) = delete;
        Asking& operator=(const Asking&) = delete;
        std::uint64_t number() const { return number_; } // of the batch

    private:
        WatchedOracle& watched_;
        std::multiset<Clock::time_point>::iterator place_;
        std::uint64_t number_;
    };

    Oracle& oracle_;
    mutable std::mutex mutex_;
    std::multiset<Clock::time_point> begins_;
    std::uint64_t batches_ = 0;
};

} // namespace tapeout::circuit
