// Binary Speculation Diagrams, as published: Cheng et al., Pushing the Limits of Machine Design: Automated CPU Design
// with AI, arXiv 2306.12456 (2023); Automated CPU Design by Learning from Input-Output Examples, IJCAI 2024. The
// baseline beside which the exact learner stands. src/tapeout/circuit/bsd.py says what is guaranteed and what is not.
#pragma once

#include "circuit/aig.h"
#include "circuit/oracle.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace tapeout::circuit {

struct BsdOptions {
    std::uint64_t seed = 0;
    std::size_t samples = 512;    // completions of a layer: bits of a signature
    std::size_t orders = 10;      // diagrams tried for each output
    std::size_t max_width = 2048; // nodes of a layer
    std::size_t max_depth = 0;    // layers; 0: all inputs
    double accuracy = 1.0;        // share of inputs that merging by distance may leave right
    double budget_s = 0;          // 0: none
    std::uint64_t budget_queries = 0;
    unsigned threads = 0; // 0: all cores, if the oracle allows more than one
};

// How one output was learned.
struct BsdOutput {
    std::size_t nodes = 0;             // multiplexers
    std::vector<std::uint32_t> order;  // inputs, layer by layer
    std::vector<std::uint32_t> widths; // nodes of each layer
    std::uint64_t queries = 0;
    std::size_t orders = 0;            // diagrams that were built
    std::size_t speculated = 0;        // edges to a constant that only samples support
    std::size_t merged = 0;            // by distance, within the accuracy target
    std::size_t forced = 0;            // by distance, because of max_width
    std::size_t cut = 0;               // nodes made constant by max_depth or the budget
    double merge_error = 0;            // estimated share of inputs that merging by distance and cuts leave wrong
    std::size_t validation_errors = 0; // of kBsdValidation uniform rows
    bool exhaustive = false;           // every signature was a whole truth table: no error is possible
};

struct BsdResult {
    Aig aig;
    std::vector<BsdOutput> outputs;
    std::uint64_t queries = 0;
};

inline constexpr std::size_t kBsdValidation = 8192;

// Called about ten times a second by the thread that waits; returns whether to go on.
using BsdProgress = std::function<bool(std::size_t done, std::size_t total)>;

BsdResult learn_bsd(Oracle& oracle, const BsdOptions& options, const BsdProgress& progress);

} // namespace tapeout::circuit
