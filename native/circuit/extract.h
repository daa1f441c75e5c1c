// AND trees made again so that they share: pairs of literals that several trees have are made once, the most frequent
// first.
//
// Single-cube extraction of Rajski and Vasudevamurthy, TCAD 1992, on the trees of a graph.
#pragma once

#include "circuit/aig.h"

#include <cstdint>

namespace tapeout::circuit {

// `seed` decides between pairs that are equally frequent, and how trees are put together of what they do not share.
Aig extract_pass(const Aig& aig, std::uint64_t seed);

} // namespace tapeout::circuit
