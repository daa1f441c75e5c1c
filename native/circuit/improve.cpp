#include "circuit/improve.h"

#include "circuit/extract.h"
#include "circuit/refactor.h"
#include "circuit/rewrite.h"
#include "circuit/sweep.h"

namespace tapeout::circuit {

namespace {

constexpr std::size_t kRewrites = 5;   // in a round
constexpr std::size_t kSweepEvery = 4; // rounds
constexpr std::uint64_t kSweepConflicts = 1000;
constexpr std::size_t kDivisors[] = {150, 300, 600}, kWindows[] = {10, 30, 20}; // by round
constexpr std::uint64_t kResubConflicts = 200;

template <typename Pass>
Aig each_gate(const Aig& aig, Pass pass) {
    Network network(aig);
    auto visit = pass(network);
    for (auto v = static_cast<std::uint32_t>(network.begin()); v < network.end(); ++v)
        if (network.visit(v))
            visit(v);
    return network.result();
}

} // namespace

Aig rewrite_pass(const Aig& aig, bool neutral, std::size_t seed) {
    return each_gate(aig, [&](Network& network) {
        return [rewriter = Rewriter(network, neutral, seed)](std::uint32_t v) mutable { rewriter.rewrite(v); };
    });
}

Aig refactor_pass(const Aig& aig, std::size_t leaves, bool neutral) {
    return each_gate(aig, [&](Network& network) {
        return [refactorer = Refactorer(network, leaves, neutral)](std::uint32_t v) mutable { refactorer.refactor(v); };
    });
}

Aig resub_pass(const Aig& aig, PatternPool& pool, const ResubOptions& options, const std::atomic<bool>& stop) {
    Network network(aig);
    Resubstituter resubstituter(network, pool, options, stop);
    for (auto v = static_cast<std::uint32_t>(network.begin()); v < network.end(); ++v)
        if (network.visit(v))
            resubstituter.resubstitute(v);
    return network.result();
}

Minimiser::Minimiser(const Aig& aig, std::vector<std::uint32_t> widths, std::uint64_t seed)
    : widths_(std::move(widths)), seed_(seed), pool_(aig.inputs, widths_, seed), best_(strash(aig)), current_(best_) {}

void Minimiser::keep(Aig made) {
    current_ = std::move(made);
    if (current_.gates.size() < best_.gates.size())
        best_ = current_;
}

void Minimiser::round(const std::atomic<bool>& stop) {
    const std::size_t r = rounds_++;
    current_ = best_;
    if (r % kSweepEvery == 0 && !stop) {
        Sweeper sweeper(current_, {kSweepConflicts, widths_, seed_ + r}, false, stop);
        sweeper.sweep();
        keep(sweeper.result());
    }
    if (!stop)
        keep(refactor_pass(current_, 10, false));
    if (!stop)
        keep(refactor_pass(current_, 8 + r % 3, true));
    if (!stop)
        keep(resub_pass(current_, pool_, {kDivisors[r % 3], 3, kResubConflicts, 8, kWindows[r % 3]}, stop));
    for (std::size_t i = 0; i < kRewrites && !stop; ++i)
        keep(rewrite_pass(current_, true, seed_ + kRewrites * r + i));
    if (!stop)
        keep(extract_pass(current_, seed_ + r));
}

} // namespace tapeout::circuit
