// Makes graphs smaller. What the passes keep is the function; what they lower is the number of gates.
#pragma once

#include "circuit/aig.h"
#include "circuit/resub.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tapeout::circuit {

// Rewriting of every gate; see rewrite.h.
Aig rewrite_pass(const Aig& aig, bool neutral, std::size_t seed);
// Refactoring of every gate; see refactor.h.
Aig refactor_pass(const Aig& aig, std::size_t leaves, bool neutral);
// Resubstitution of every gate; see resub.h. After a stop the rest is taken over as it is.
Aig resub_pass(const Aig& aig, PatternPool& pool, const ResubOptions& options, const std::atomic<bool>& stop);

// Runs rounds of all passes; each round differs from the one before in its seeds and sizes.
class Minimiser {
public:
    Minimiser(const Aig& aig, std::vector<std::uint32_t> widths, std::uint64_t seed);
    // One more round; a stop ends it early. The result is never larger than before.
    void round(const std::atomic<bool>& stop);
    const Aig& best() const { return best_; }

private:
    void keep(Aig made);

    std::vector<std::uint32_t> widths_;
    std::uint64_t seed_;
    PatternPool pool_;
    Aig best_, current_;
    std::size_t rounds_ = 0;
};

} // namespace tapeout::circuit
