// SAT sweeping: gates that compute the same function, or its complement, or a constant become one.
//
// Kuehlmann and Krohm, DAC 1997; Mishchenko et al., "FRAIGs: a unifying representation for logic synthesis and
// verification", 2005. Simulation sorts the gates into classes of candidates; in topological order each gate is
// compared with the first gates of its class by a solver whose effort is bounded; a counterexample is simulated with
// variations and splits classes.
#pragma once

#include "circuit/aig.h"
#include "circuit/patterns.h"
#include "circuit/sat.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace tapeout::circuit {

struct SweepOptions {
    std::uint64_t conflicts = 200;     // of the solver, for each pair of gates
    std::vector<std::uint32_t> widths; // of the input words: what structured patterns are made of
    std::uint64_t seed = 1;
    int rounds = 16; // of 512 patterns before the first question
};

struct SweepCounts {
    std::size_t proved = 0, refuted = 0, undecided = 0;
    std::uint64_t conflicts = 0;
};

class Sweeper {
public:
    // With `pairs` outputs 2 * i and 2 * i + 1 belong together, and every pattern is also compared on them.
    Sweeper(const Aig& aig, const SweepOptions& options, bool pairs, const std::atomic<bool>& stop);

    // Sweeps all gates. After a stop the rest is taken over as it is.
    void sweep();

    std::size_t pairs() const { return witnesses_.size(); }
    // An input vector on which the pair differs; empty where none was found yet.
    const Vector& witness(std::size_t pair) const { return witnesses_[pair]; }
    // Are the outputs of a pair equal? After kSat there is a witness.
    Answer ask(std::size_t pair, std::uint64_t conflicts);

    // The swept graph, clean, with all outputs in place.
    Aig result() const;
    const SweepCounts& counts() const { return counts_; }

private:
    static constexpr std::uint32_t kAlone = ~std::uint32_t{0};

    Lit mapped(Lit lit) const { return resolved(map_[lit >> 1] ^ (lit & 1)); }
    Lit resolved(Lit lit) const;
    Answer equal(Lit a, Lit b, std::uint64_t conflicts);
    void sweep_gate(std::uint32_t variable);
    void merge(std::uint32_t variable, Lit target);
    std::uint32_t candidate(std::uint32_t variable, const std::vector<std::uint32_t>& tried) const;
    void leave_class(std::uint32_t variable);
    void simulate();
    void refine();
    void split(std::uint32_t id);
    void find_witnesses();
    std::uint64_t hash(std::uint32_t variable) const;

    const Aig& aig_;
    SweepOptions options_;
    const std::atomic<bool>& stop_;
    Strash out_;
    ConeSolver solver_;
    Patterns patterns_;
    std::vector<Lit> map_;   // variable of aig_ to literal of out_
    std::vector<Lit> alias_; // variable of out_ to an equal, older literal of out_, or itself
    std::vector<Slot> sim_;
    std::vector<char> phase_; // value in the first pattern: classes are up to complement
    std::vector<std::uint32_t> class_of_;
    std::vector<std::vector<std::uint32_t>> classes_; // variables in topological order
    std::vector<Vector> witnesses_;
    SweepCounts counts_;
};

} // namespace tapeout::circuit
