// Words that some control bits only let through: g(controls) ? word(data) : a constant. A pending interrupt, a trap, a
// disabled unit. It is a simple disjoint decomposition (Ashenhurst 1957) with the controls as the bound set.
#pragma once

#include "circuit/additive.h"
#include "circuit/region.h"

#include <optional>
#include <vector>

namespace tapeout::circuit {

struct Gating {
    std::vector<int> controls;   // input bits
    std::vector<Word> on;        // a row: controls that let the word through
    std::vector<Word> otherwise; // the answer with others, packed
    Circuit open;                // whether they do
};

// Controls are the support outside of whole words. `rows`: the first ones are where most inputs matter. A gate without
// controls where the word has none; nothing where they do more than let it through.
std::optional<Gating> find_gating(Question& word, const RegionTask& task, const Rows& rows,
                                  const std::vector<int>& support);

// The task where the gate is open, and rows and draws from there.
RegionTask behind(const Gating& gating, RegionTask task);
Rows behind(const Gating& gating, Rows rows);
Draw behind(const Gating& gating, Draw draw);
// The circuit of the word behind the gate, with the gating.
Circuit with_gating(const Gating& gating, std::size_t inputs, const Circuit& word);

} // namespace tapeout::circuit
