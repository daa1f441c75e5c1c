// A circuit that was learned, and what its learner knows of how it is made.
#pragma once

#include "circuit/aig.h"
#include "circuit/sampler.h"

#include <optional>
#include <vector>

namespace tapeout::circuit {

// How a word was added up, for a proof of what it is: each row is added to the total before it, or subtracted. The
// first is the total itself.
struct SumTrace {
    struct Row {
        bool subtract = false;
        std::vector<Lit> row, total; // total: behind this row
    };
    std::vector<Row> rows;
};

// A step that a circuit repeats for each bit of an input word, from the top: its gates can be there once, and be used
// in one clock after the other.
struct FoldTrace {
    Span over{0, 0};
    // The step is a circuit of all input bits; in the place of the word `over` stand the next bit of that word, and
    // above it the state that the step before left.
    std::vector<Gate> step;
    std::vector<Lit> next, shown; // of the step: the state it leaves, and the bit that it shows, if any
    // Of the circuit that repeats the step: what it has in the place of input bits, the state that the last step
    // leaves, and what was shown for each bit of the word.
    std::vector<Lit> inputs, state, record;
};

struct Circuit {
    std::vector<Gate> gates;
    std::vector<Lit> outputs;
    SumTrace sum;
    std::optional<FoldTrace> fold;
};

// Makes a circuit again as part of a larger one, with literals in the place of its inputs if there are any. Of `fold`
// it becomes what the circuit's own fold has become there, if it has one.
std::vector<Lit> place(Strash& gates, const Circuit& circuit, std::optional<FoldTrace>& fold,
                       const std::vector<Lit>& inputs = {});

} // namespace tapeout::circuit
