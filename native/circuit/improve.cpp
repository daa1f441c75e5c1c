#include "circuit/improve.h"

#include "circuit/rewrite.h"

namespace tapeout::circuit {

Aig rewrite_pass(const Aig& aig, bool neutral, std::size_t seed) {
    Network network(aig);
    Rewriter rewriter(network, neutral, seed);
    for (auto v = static_cast<std::uint32_t>(network.begin()); v < network.end(); ++v)
        if (network.visit(v))
            rewriter.rewrite(v);
    return network.result();
}

Aig resub_pass(const Aig& aig, PatternPool& pool, const ResubOptions& options, const std::atomic<bool>& stop) {
    Network network(aig);
    Resubstituter resubstituter(network, pool, options, stop);
    for (auto v = static_cast<std::uint32_t>(network.begin()); v < network.end(); ++v)
        if (network.visit(v))
            resubstituter.resubstitute(v);
    return network.result();
}

} // namespace tapeout::circuit
