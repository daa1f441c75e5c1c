// Makes graphs smaller, one pass at a time. What the passes keep is the function; what they lower is the number of
// gates.
#pragma once

#include "circuit/aig.h"
#include "circuit/resub.h"

#include <atomic>
#include <cstddef>

namespace tapeout::circuit {

// Rewriting of every gate; see rewrite.h.
Aig rewrite_pass(const Aig& aig, bool neutral, std::size_t seed);

// Resubstitution of every gate; see resub.h. After a stop the rest is taken over as it is.
Aig resub_pass(const Aig& aig, PatternPool& pool, const ResubOptions& options, const std::atomic<bool>& stop);

} // namespace tapeout::circuit
