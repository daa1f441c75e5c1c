// Orders of the inputs worth trying, from what influence and partners show.
#pragma once

#include "circuit/influence.h"

#include <vector>

namespace tapeout::circuit {

// Which word an input bit belongs to.
std::size_t word_of(int bit, const std::vector<Span>& words);

// `decides[a][b]` tells how much support bit a decides about b (interplay). Each order holds indices into
// influence.support, the first asked first.
std::vector<std::vector<int>> propose_orders(const Influence& influence, const std::vector<std::vector<int>>& clusters,
                                             const std::vector<std::vector<double>>& decides,
                                             const std::vector<Span>& words);

} // namespace tapeout::circuit
