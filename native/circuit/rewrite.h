// Cut rewriting: a gate's function over four or fewer gates below it, made again in the cheapest way.
//
// Mishchenko, Chatterjee and Brayton, "DAG-aware AIG rewriting", DAC 2006. Instead of a library of graphs for each
// class of functions, all ways of splitting a function (synthesis4.h) are tried against the gates that are there.
#pragma once

#include "circuit/network.h"
#include "circuit/synthesis4.h"

#include <array>
#include <cstdint>
#include <vector>

namespace tapeout::circuit {

class Rewriter {
public:
    // With `neutral` also replacements that save nothing are made, for the variety; `seed` says which of equal ways
    // come first.
    Rewriter(Network& network, bool neutral, std::size_t seed) : network_(network), neutral_(neutral), seed_(seed) {}

    // Replaces the gate, just visited, where that saves gates. Its cuts are known afterwards.
    bool rewrite(std::uint32_t variable);

private:
    struct Cut {
        std::array<std::uint32_t, 4> leaves;
        std::uint8_t size;
        Table4 table;
        std::uint64_t signature;
    };
    struct Choice {   // how a function is made over the leaves at hand
        Table4 table; // normal
        int cost;
        Lit lit; // of the function if its gates are there, else Strash::kNone
        Split4 way;
        bool inner; // made of a way
    };
    static constexpr std::size_t kCuts = 10;

    int gain(std::uint32_t variable, const Cut& cut);
    void apply(std::uint32_t variable, const Cut& cut);
    void enumerate(std::uint32_t variable);
    const std::vector<Cut>& cuts(std::uint32_t variable);
    static bool merge(const Cut& a, const Cut& b, bool not_a, bool not_b, Cut& out);
    static void add(std::vector<Cut>& list, const Cut& cut);
    std::size_t choose(Table4 table);
    Lit literal(Table4 table);
    int and_cost(Lit a, Lit b, int below, Lit& out) const;
    Lit build(Table4 table);

    Network& network_;
    bool neutral_;
    std::size_t seed_;
    std::vector<std::vector<Cut>> cuts_;
    const Cut* cut_ = nullptr; // that choices_ are about
    std::vector<Choice> choices_;
};

} // namespace tapeout::circuit
