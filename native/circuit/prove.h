// Equivalence of two graphs over the same inputs, output by output.
//
// Both are hashed into one graph and swept. Outputs that stay open are proved by cases: an input that takes most of the
// graph away is set to 0 and to 1, and each half is swept again with its own, now unconditional, equalities. In a
// processor such inputs are the bits of the instruction, and what differs between two implementations (one adder with
// chosen operands, or one adder for each instruction) becomes equal gate by gate.
#pragma once

#include "circuit/aig.h"
#include "circuit/patterns.h"
#include "circuit/sweep.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

namespace tapeout::circuit {

struct ProveOptions {
    std::vector<std::uint32_t> widths; // of the input words
    std::uint64_t seed = 1;
    double seconds = 60;
    unsigned threads = 0;                  // 0: all cores
    std::uint64_t gate_conflicts = 100;    // of the solver, for a pair of gates
    std::uint64_t output_conflicts = 1000; // and for a pair of outputs; both grow with the depth of the cases
};

enum class Verdict : std::uint8_t { kOpen, kEqual, kDifferent };

struct Proof {
    std::vector<Verdict> verdicts; // by output
    std::vector<Vector> witnesses; // by output; empty unless kDifferent
    std::size_t cases = 0;         // graphs that were swept
    std::uint64_t conflicts = 0;
};

class Prover {
public:
    // Outputs where `skip` is set count as equal.
    Prover(const Aig& a, const Aig& b, std::vector<char> skip, ProveOptions options);
    // `progress(verdicts)` is called now and then from the calling thread; what it throws ends the proof.
    Proof run(const std::function<void(const std::vector<Verdict>&)>& progress);

private:
    struct Case {
        Aig graph; // outputs: a pair for each of `outputs`
        std::vector<std::uint32_t> outputs;
        std::vector<std::int8_t> given; // by input: 1, -1, or 0 where open
        int depth = 0;
    };

    void work();
    void settle(Case& item);
    void divide(const Case& rest);
    void close(std::uint32_t output);
    void refute(const Case& item, std::uint32_t output, const Vector& witness);

    ProveOptions options_;
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Case> waiting_;
    std::size_t busy_ = 0;
    std::vector<std::uint32_t> open_cases_; // by output
    Proof proof_;
};

// The input whose two cofactors are smallest together; 0 where the graph reads none.
std::uint32_t best_split(const Aig& graph);
// The graph with an input set.
Aig cofactor(const Aig& graph, std::uint32_t input, bool value);

} // namespace tapeout::circuit
