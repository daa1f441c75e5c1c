// One job of the exact learner: some outputs on one region of the input space. It ends with a circuit, or with the
// input that the region should be split on. A job depends on nothing but its arguments: jobs run anywhere and in any
// order.
#pragma once

#include "circuit/circuit.h"
#include "circuit/diagram.h"
#include "circuit/form.h"
#include "circuit/influence.h"

#include <string>
#include <vector>

namespace tapeout::circuit {

struct RegionTask {
    std::vector<Span> words;  // of the inputs
    std::vector<int> outputs; // output bits
    std::vector<Word> mask, value;
    Rows hints; // rows that mattered elsewhere
    Word seed = 0;
    std::size_t tests = 4096; // suffixes every edge is tested with at last
    bool wait = false;        // end where the word takes in carries of a word that is not seen: see learn_joined
    Word most_queries = ~Word{0};
    std::vector<std::vector<Gate>> known; // circuits that a sum is to share gates with
};

struct RegionResult {
    int split = -1; // the input bit to split on, or -1: solved
    Circuit circuit;
    std::vector<int> support, order;
    Rows hints;                             // counterexamples met
    Rows lively;                            // rows in which many inputs matter
    std::vector<std::vector<int>> partners; // input bits that belong together
    std::size_t queries = 0, nodes = 0, cut = 0, rounds = 0, orders = 0;
    double left = 1;       // of twice what is to be known: what the split leaves
    bool additive = false; // a sum
    bool waiting = false;  // neither solved nor split (RegionTask::wait)
    bool solved() const { return !circuit.outputs.empty(); }
};

RegionResult learn_region(Oracle& oracle, const RegionTask& task);
// The same of a word that is derived from the oracle's; it is not split.
RegionResult learn_part(Question& question, const RegionTask& task);
// Again where it fails: orders are found in samples, and others may show a better one. The seed moves on.
RegionResult learn_simple(Question& question, RegionTask& task);

// A hash of what the outputs do on `rows` with the region's bits forced: equal functions have equal hashes.
Hash region_signature(Oracle& oracle, const RegionTask& task, std::size_t rows);

} // namespace tapeout::circuit
