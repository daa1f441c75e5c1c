#include "circuit/synthesis4.h"

namespace tapeout::circuit {

namespace {

constexpr std::size_t kNormal = 1 << 15;

} // namespace

const Synthesis4& Synthesis4::get() {
    static const Synthesis4 table;
    return table;
}

void Synthesis4::offer(Table4 f, int cost, Split4 way) {
    const std::size_t at = normal(f) >> 1;
    if (costs_[at] < 0) {
        costs_[at] = static_cast<std::int8_t>(cost);
        levels_[static_cast<std::size_t>(cost)].push_back(normal(f));
    }
    if (costs_[at] == cost && counts_[at] < kWays)
        ways_[at * kWays + counts_[at]++] = way;
}

// Functions by rising cost: those of cost c are made of pairs whose costs are c - 1 (AND) or c - 3 (XOR) together.
Synthesis4::Synthesis4() : costs_(kNormal, -1), counts_(kNormal, 0), ways_(kNormal * kWays), levels_(1) {
    levels_[0] = {0, kTableInputs[0], kTableInputs[1], kTableInputs[2], kTableInputs[3]};
    for (const Table4 f : levels_[0])
        costs_[f >> 1] = 0;
    std::size_t known = levels_[0].size();
    for (std::size_t cost = 1; known < kNormal; ++cost) {
        levels_.emplace_back();
        const auto pairs = [&](std::size_t gates, auto combine) {
            for (std::size_t i = 0; gates <= cost && 2 * i <= cost - gates; ++i) {
                const std::size_t j = cost - gates - i;
                for (std::size_t x = 0; x < levels_[i].size(); ++x)
                    for (std::size_t y = i == j ? x + 1 : 0; y < levels_[j].size(); ++y)
                        combine(levels_[i][x], levels_[j][y]);
            }
        };
        const auto no = [](Table4 f) { return static_cast<Table4>(~f); };
        pairs(1, [&](Table4 f, Table4 g) {
            const int c = static_cast<int>(cost);
            offer(f & g, c, {f, g, false});
            offer(f & no(g), c, {f, no(g), false});
            offer(no(f) & g, c, {no(f), g, false});
            offer(f | g, c, {no(f), no(g), false});
        });
        pairs(3, [&](Table4 f, Table4 g) { offer(f ^ g, static_cast<int>(cost), {f, g, true}); });
        known += levels_[cost].size();
    }
}

} // namespace tapeout::circuit
