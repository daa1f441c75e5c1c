// Refactoring: a gate's function over up to ten gates below it, made again from its irredundant sum of products.
//
// Minato, "Fast generation of prime-irredundant covers from binary decision diagrams", 1993; Brayton, "Factoring logic
// functions", IBM J. R&D, 1987. Inputs that split off as an AND, an OR or an XOR are taken off before every step.
#pragma once

#include "circuit/network.h"

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace tapeout::circuit {

class Refactorer {
public:
    // With `neutral` also replacements that save nothing are made. `leaves` is at most 10.
    Refactorer(Network& network, std::size_t leaves, bool neutral)
        : network_(network), limit_(leaves), neutral_(neutral) {}

    // Replaces the gate, just visited, where that saves gates.
    bool refactor(std::uint32_t variable);

private:
    static constexpr std::size_t kInputs = 10;
    using Table = std::array<std::uint64_t, (1 << kInputs) / 64>;
    struct Cube { // literals: bit i of has: input i takes part; of value: as itself
        std::uint16_t has = 0, value = 0;
    };
    using Cover = std::vector<Cube>;

    void find_cut(std::uint32_t variable);
    Table function(std::uint32_t variable);
    Table input(std::size_t i) const;
    Table cofactor(const Table& f, std::size_t i, bool value) const;
    bool depends(const Table& f, std::size_t i) const;
    bool is(const Table& f, bool value) const;
    Table inverted(const Table& f) const;
    Table cover_table(const Cover& cover) const;
    Table irredundant(const Table& lower, const Table& upper, std::size_t inputs, Cover& cover) const;
    std::optional<Lit> make(const Table& f);
    std::optional<Lit> peel(const Table& f, bool& peeled);
    std::optional<Lit> factor(const Table& f);
    std::optional<Lit> both(Lit a, Lit b);

    Network& network_;
    std::size_t limit_;
    bool neutral_;
    std::vector<std::uint32_t> leaves_;
    std::size_t words_ = 1; // of a table in use
    std::vector<std::pair<Table, Lit>> made_;
    int room_ = 0; // gates that may still be made
};

} // namespace tapeout::circuit
