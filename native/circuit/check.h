// A learned circuit against its oracle, on rows drawn for one region of the input space.
#pragma once

#include "circuit/aig.h"
#include "circuit/rows.h"
#include "circuit/sampler.h"

#include <vector>

namespace tapeout::circuit {

struct Mismatches {
    Rows rows;    // inputs with a wrong answer, `most` at most
    Rows outputs; // per row: which output bits are wrong
    std::size_t wrong = 0;
};

// `hints` are crossed into some of the rows; a part of the rows is drawn for each focus. Stops early where `most` rows
// are wrong.
Mismatches check_region(Oracle& oracle, Oracle& circuit, const std::vector<Span>& words, const Region& region,
                        const Rows& hints, const std::vector<Focus>& focuses, Word seed, std::size_t rows,
                        std::size_t most);

} // namespace tapeout::circuit
