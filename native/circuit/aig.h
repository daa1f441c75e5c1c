// And-inverter graph under construction, with structural hashing. Literals as in src/tapeout/circuit/netlist.py.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tapeout::circuit {

using Literal = std::uint32_t;
constexpr Literal kFalse = 0, kTrue = 1;

class Aig {
public:
    explicit Aig(std::size_t inputs) : first_(static_cast<Literal>(1 + inputs)) {}
    Literal input(std::size_t bit) const { return static_cast<Literal>(2 * (1 + bit)); }
    std::size_t nodes() const { return fanins_.size(); }
    const std::vector<std::pair<Literal, Literal>>& fanins() const { return fanins_; }

    Literal land(Literal a, Literal b) {
        if (a > b)
            std::swap(a, b);
        if (a == kFalse || a == (b ^ 1))
            return kFalse;
        if (a == kTrue || a == b)
            return b;
        const auto [at, fresh] = table_.try_emplace(std::uint64_t{a} << 32 | b, static_cast<Literal>(2 * (first_ + fanins_.size())));
        if (fresh)
            fanins_.emplace_back(a, b);
        return at->second;
    }
    Literal lor(Literal a, Literal b) { return land(a ^ 1, b ^ 1) ^ 1; }
    Literal lxor(Literal a, Literal b) { // one form for all four phases
        const Literal phase = (a ^ b) & 1;
        a &= ~Literal{1};
        b &= ~Literal{1};
        return lor(land(a, b ^ 1), land(a ^ 1, b)) ^ phase;
    }
    Literal mux(Literal select, Literal then, Literal other) {
        if (then == other)
            return then;
        if (then == (other ^ 1))
            return lxor(select, other);
        return lor(land(select, then), land(select ^ 1, other));
    }

private:
    Literal first_;
    std::vector<std::pair<Literal, Literal>> fanins_;
    std::unordered_map<std::uint64_t, Literal> table_;
};

} // namespace tapeout::circuit
