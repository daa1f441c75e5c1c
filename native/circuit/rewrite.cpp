#include "circuit/rewrite.h"

#include <algorithm>
#include <bit>

namespace tapeout::circuit {

namespace {

// The table of a function over leaves of `from` as one over leaves of `to`, which holds them all.
Table4 spread(Table4 table, const std::array<std::uint32_t, 4>& from, std::size_t from_size,
              const std::array<std::uint32_t, 4>& to) {
    // From the last leaf down, each input moves up to its place; the places between are free.
    std::size_t place = 4;
    for (std::size_t i = from_size; i-- > 0;) {
        do
            --place;
        while (to[place] != from[i]);
        for (std::size_t at = i; at < place; ++at) {
            // Exchange inputs at and at + 1.
            static constexpr Table4 kKeep[3] = {0x9999, 0xC3C3, 0xF00F}, kUp[3] = {0x2222, 0x0C0C, 0x00F0};
            const int by = 1 << at;
            table = static_cast<Table4>((table & kKeep[at]) | (table & kUp[at]) << by | (table >> by & kUp[at]));
        }
    }
    return table;
}

} // namespace

bool Rewriter::merge(const Cut& a, const Cut& b, bool not_a, bool not_b, Cut& out) {
    if (std::popcount(a.signature | b.signature) > 4)
        return false;
    std::array<std::uint32_t, 4> leaves;
    std::size_t i = 0, j = 0, n = 0;
    while (i < a.size || j < b.size) {
        if (n == 4)
            return false;
        if (j == b.size || (i < a.size && a.leaves[i] < b.leaves[j]))
            leaves[n++] = a.leaves[i++];
        else if (i == a.size || b.leaves[j] < a.leaves[i])
            leaves[n++] = b.leaves[j++];
        else {
            leaves[n++] = a.leaves[i++];
            ++j;
        }
    }
    for (std::size_t k = n; k < 4; ++k)
        leaves[k] = ~std::uint32_t{0} - static_cast<std::uint32_t>(k);
    out.leaves = leaves;
    out.size = static_cast<std::uint8_t>(n);
    out.signature = a.signature | b.signature;
    const Table4 ta = spread(a.table, a.leaves, a.size, leaves), tb = spread(b.table, b.leaves, b.size, leaves);
    out.table = static_cast<Table4>((not_a ? ~ta : ta) & (not_b ? ~tb : tb));
    return true;
}

void Rewriter::add(std::vector<Cut>& list, const Cut& cut) {
    const auto within = [](const Cut& small, const Cut& big) {
        return (small.signature & ~big.signature) == 0 &&
               std::includes(big.leaves.begin(), big.leaves.begin() + big.size, small.leaves.begin(),
                             small.leaves.begin() + small.size);
    };
    for (const Cut& other : list)
        if (within(other, cut))
            return;
    std::erase_if(list, [&](const Cut& other) { return within(cut, other); });
    if (list.size() < kCuts)
        list.push_back(cut);
}

const std::vector<Rewriter::Cut>& Rewriter::cuts(std::uint32_t variable) {
    if (cuts_.size() < network_.variables())
        cuts_.resize(network_.variables() + 1024);
    if (cuts_[variable].empty())
        enumerate(variable);
    return cuts_[variable];
}

void Rewriter::enumerate(std::uint32_t variable) {
    std::vector<Cut> list;
    if (network_.graph().is_gate(variable)) {
        const Gate gate = network_.graph().gate(variable);
        cuts(gate.a >> 1), cuts(gate.b >> 1);
        Cut cut;
        for (const Cut& a : cuts_[gate.a >> 1])
            for (const Cut& b : cuts_[gate.b >> 1])
                if (merge(a, b, gate.a & 1, gate.b & 1, cut))
                    add(list, cut);
    }
    // The variable itself, for its readers.
    Cut own{{variable, ~0u - 1, ~0u - 2, ~0u - 3}, 1, kTableInputs[0], std::uint64_t{1} << variable % 64};
    list.push_back(own);
    cuts_[variable] = std::move(list);
}

// What an AND costs: nothing if it is there and alive, else itself and what is below it.
int Rewriter::and_cost(Lit a, Lit b, int below, Lit& out) const {
    out = a == Strash::kNone || b == Strash::kNone ? Strash::kNone : network_.find(a, b);
    if (out != Strash::kNone && network_.alive(out >> 1))
        return 0;
    return below + 1;
}

Lit Rewriter::literal(Table4 table) {
    const Choice& choice = choices_[choose(table)];
    return choice.lit == Strash::kNone ? choice.lit : choice.lit ^ (Synthesis4::complemented(table) ? 1 : 0);
}

// The cheapest known way to make the normal form of a table over the leaves of cut_; an index into choices_.
std::size_t Rewriter::choose(Table4 table) {
    const Table4 normal = Synthesis4::normal(table);
    for (std::size_t i = 0; i < choices_.size(); ++i)
        if (choices_[i].table == normal)
            return i;
    Choice best{normal, 1 << 20, Strash::kNone, {}, false};
    if (!normal)
        best = {normal, 0, 0, {}, false};
    for (std::size_t i = 0; i < cut_->size; ++i)
        if (normal == kTableInputs[i])
            best = {normal, 0, lit_of(cut_->leaves[i]), {}, false};
    if (best.cost) {
        const std::span<const Split4> ways = Synthesis4::get().ways(normal);
        for (std::size_t w = 0; w < ways.size(); ++w) {
            const Split4& way = ways[(w + seed_) % ways.size()];
            const Lit a = literal(way.first), b = literal(way.second);
            const int below = choices_[choose(way.first)].cost + choices_[choose(way.second)].cost;
            Lit lit = Strash::kNone;
            int cost;
            if (way.exclusive) {
                // Two ways to make it of ANDs; gates of either may be there.
                cost = 1 << 20;
                for (const Lit flip : {0u, 1u}) {
                    const bool known = a != Strash::kNone && b != Strash::kNone;
                    Lit x, y, whole;
                    int parts = and_cost(known ? a ^ flip : a, b, 0, x);
                    parts += and_cost(known ? a ^ flip ^ 1 : a, known ? b ^ 1 : b, 0, y);
                    const bool there = x != Strash::kNone && y != Strash::kNone;
                    const int all = and_cost(there ? x ^ 1 : x, there ? y ^ 1 : y, parts + below, whole);
                    if (all < cost) {
                        cost = all;
                        // flip 0: NOR of the equal cases is a ^ b; flip 1: NOR of the unequal cases is its complement.
                        lit = whole == Strash::kNone ? whole : whole ^ flip;
                    }
                }
            } else {
                cost = and_cost(a, b, below, lit);
                const bool flipped = Synthesis4::complemented(static_cast<Table4>(way.first & way.second));
                if (lit != Strash::kNone && flipped)
                    lit ^= 1;
            }
            if (cost < best.cost)
                best = {normal, cost, lit, way, true};
        }
    }
    choices_.push_back(best);
    return choices_.size() - 1;
}

Lit Rewriter::build(Table4 table) {
    const Choice choice = choices_[choose(table)];
    const Lit flip = Synthesis4::complemented(table) ? 1 : 0;
    if (!choice.inner)
        return choice.lit ^ flip;
    const Lit a = build(choice.way.first), b = build(choice.way.second);
    if (!choice.way.exclusive) {
        const bool flipped = Synthesis4::complemented(static_cast<Table4>(choice.way.first & choice.way.second));
        return network_.and_(a, b) ^ (flipped ? 1 : 0) ^ flip;
    }
    Lit best = 0;
    int least = 1 << 20;
    for (const Lit other : {0u, 1u}) {
        Lit x, y, whole;
        int parts = and_cost(a ^ other, b, 0, x);
        parts += and_cost(a ^ other ^ 1, b ^ 1, 0, y);
        const bool there = x != Strash::kNone && y != Strash::kNone;
        const int all = and_cost(there ? x ^ 1 : x, there ? y ^ 1 : y, parts, whole);
        if (all < least) {
            least = all;
            best = other;
        }
    }
    const Lit x = network_.and_(a ^ best, b), y = network_.and_(a ^ best ^ 1, b ^ 1);
    return network_.and_(x ^ 1, y ^ 1) ^ best ^ flip;
}

int Rewriter::gain(std::uint32_t variable, const Cut& cut) {
    for (std::size_t i = 0; i < cut.size; ++i)
        network_.ref(lit_of(cut.leaves[i]));
    const int saved = static_cast<int>(network_.drop_fanins(variable));
    choices_.clear();
    cut_ = &cut;
    const int gain = saved - choices_[choose(cut.table)].cost;
    network_.take_back_fanins(variable);
    for (std::size_t i = 0; i < cut.size; ++i)
        network_.deref(lit_of(cut.leaves[i]));
    return gain;
}

// With the gate's own cone out of the way while the new gates are made.
void Rewriter::apply(std::uint32_t variable, const Cut& cut) {
    for (std::size_t i = 0; i < cut.size; ++i)
        network_.ref(lit_of(cut.leaves[i]));
    network_.drop_fanins(variable);
    choices_.clear();
    cut_ = &cut;
    choose(cut.table);
    const Lit made = build(cut.table);
    network_.take_back_fanins(variable);
    network_.replace(variable, made);
    for (std::size_t i = 0; i < cut.size; ++i)
        network_.deref(lit_of(cut.leaves[i]));
}

bool Rewriter::rewrite(std::uint32_t variable) {
    const std::vector<Cut> list = cuts(variable); // a copy: building makes new gates
    const Gate gate = network_.graph().gate(variable);
    int best_gain = neutral_ ? -1 : 0;
    const Cut* best = nullptr;
    network_.hide(variable);
    for (const Cut& cut : list) {
        const auto dead = [this](std::uint32_t leaf) { return !network_.alive(leaf); };
        const bool own = cut.size == 1 && cut.leaves[0] == variable;
        const bool fanins = cut.size == 2 && cut.leaves[0] == gate.a >> 1 && cut.leaves[1] == gate.b >> 1;
        if (own || fanins || std::any_of(cut.leaves.begin(), cut.leaves.begin() + cut.size, dead))
            continue;
        if (const int found = gain(variable, cut); found > best_gain) {
            best_gain = found;
            best = &cut;
        }
    }
    if (best)
        apply(variable, *best);
    network_.hide(0);
    return best != nullptr;
}

} // namespace tapeout::circuit
