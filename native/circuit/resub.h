// Resubstitution: a gate made again from gates that are there, found by simulation and proved by the solver.
//
// Lee, Riener, Mishchenko, Brayton and De Micheli, "A simulation-guided paradigm for logic synthesis and verification",
// TCAD 2022. What is wanted is a function that is 1 on some patterns and 0 on others; literals that cover one side and
// keep clear of the other are combined until the sides are apart. A refuted proposal leaves patterns that make the next
// one better.
#pragma once

#include "circuit/network.h"
#include "circuit/patterns.h"
#include "circuit/sat.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace tapeout::circuit {

constexpr std::size_t kPatternWords = 32;
using Bits = std::array<std::uint64_t, kPatternWords>;

// Input patterns that outlive a pass: what told gates apart once does so again.
struct PatternPool {
    PatternPool(std::size_t inputs, const std::vector<std::uint32_t>& widths, std::uint64_t seed);
    // Puts 64 patterns near a partly known one in the place of old ones; returns which word they are.
    std::size_t add(const std::vector<std::int8_t>& known);

    Patterns patterns;
    std::vector<Bits> inputs;
    std::size_t next = 0;
};

struct ResubOptions {
    std::size_t divisors = 200;
    int budget = 3; // most gates that a replacement may have
    std::uint64_t conflicts = 100;
    int refutations = 8; // for each gate
};

class Resubstituter {
public:
    Resubstituter(Network& network, PatternPool& pool, const ResubOptions& options, const std::atomic<bool>& stop);

    // Replaces the gate, just visited, where that saves gates.
    bool resubstitute(std::uint32_t variable);

    std::size_t accepted = 0, refuted = 0, undecided = 0;

private:
    struct Cover { // a literal and how many patterns of the other side it settles
        Lit lit;
        std::uint32_t count;
    };

    void simulate(std::uint32_t variable);
    void simulate_new();
    void collect_divisors(std::uint32_t variable);
    Lit synthesise(const Bits& on, const Bits& off, int budget);
    Lit pair(const Bits& apart, std::uint32_t total, const std::vector<Cover>& covers) const;
    Lit exclusive(const Bits& on, const Bits& off);
    Lit single(const Bits& on, const Bits& off, std::size_t from, std::size_t count) const;
    Bits bits(Lit lit) const;
    Answer check(Lit own, Lit made);

    Network& network_;
    PatternPool& pool_;
    ResubOptions options_;
    const std::atomic<bool>& stop_;
    ConeSolver solver_;
    std::vector<Bits> sims_;
    std::vector<std::uint32_t> order_; // gates with simulation, topological
    std::size_t known_ = 0;            // variables seen
    std::vector<std::uint32_t> stamps_;
    std::uint32_t stamp_ = 0;
    std::vector<std::uint32_t> divisors_;
};

} // namespace tapeout::circuit
