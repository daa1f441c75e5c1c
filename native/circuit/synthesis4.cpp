#include "circuit/synthesis4.h"

#include <algorithm>

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

// Functions of a cost, made of pairs whose costs are one less (AND) or three less (XOR) together.
void Synthesis4::grow(int cost) {
    const auto total = static_cast<std::size_t>(cost);
    const auto pairs = [&](std::size_t gates, auto combine) {
        for (std::size_t i = 0; gates <= total && 2 * i <= total - gates; ++i) {
            const std::size_t j = total - gates - i;
            for (std::size_t x = 0; x < levels_[i].size(); ++x)
                for (std::size_t y = i == j ? x + 1 : 0; y < levels_[j].size(); ++y)
                    combine(levels_[i][x], levels_[j][y]);
        }
    };
    const auto no = [](Table4 f) { return static_cast<Table4>(~f); };
    using enum Split4::Kind;
    pairs(1, [&](Table4 f, Table4 g) {
        offer(f & g, cost, {f, g, kAnd});
        offer(f & no(g), cost, {f, no(g), kAnd});
        offer(no(f) & g, cost, {no(f), g, kAnd});
        offer(f | g, cost, {no(f), no(g), kAnd});
    });
    pairs(3, [&](Table4 f, Table4 g) { offer(f ^ g, cost, {f, g, kXor}); });
}

// Multiplexers whose select is made of gates (with an input as the select they are trees of ANDs already).
void Synthesis4::grow_muxes(int cost) {
    const auto each = [](const std::vector<Table4>& level, auto visit) {
        for (const Table4 f : level) {
            visit(f);
            visit(static_cast<Table4>(~f));
        }
    };
    for (int of_select = 1; of_select <= std::min(cost - 3, 3); ++of_select)
        for (int of_then = 0; of_then <= std::min(cost - 3 - of_select, 1); ++of_then) {
            const int of_else = cost - 3 - of_select - of_then;
            if (of_else > 1)
                continue;
            for (std::size_t i = 0; i < levels_[static_cast<std::size_t>(of_select)].size(); ++i) {
                const Table4 s = levels_[static_cast<std::size_t>(of_select)][i];
                each(levels_[static_cast<std::size_t>(of_then)], [&](Table4 t) {
                    each(levels_[static_cast<std::size_t>(of_else)], [&](Table4 e) {
                        offer(static_cast<Table4>((s & t) | (~s & e)), cost, {t, e, Split4::Kind::kMux, s});
                    });
                });
            }
        }
}

Synthesis4::Synthesis4() : costs_(kNormal, -1), counts_(kNormal, 0), ways_(kNormal * kWays), levels_(1) {
    levels_[0] = {0, kTableInputs[0], kTableInputs[1], kTableInputs[2], kTableInputs[3]};
    for (const Table4 f : levels_[0])
        costs_[f >> 1] = 0;
    std::size_t known = levels_[0].size();
    for (int cost = 1; known < kNormal; ++cost) {
        levels_.emplace_back();
        grow_muxes(cost);
        grow(cost);
        known += levels_.back().size();
    }
}

} // namespace tapeout::circuit
