// A graph under improvement: gates are visited in topological order, and each may be replaced by a literal made of
// gates that were visited before it. Nothing can depend on itself that way, and no reader has to be told: it looks its
// fan-ins up when it is visited in turn.
#pragma once

#include "circuit/aig.h"

#include <cstdint>
#include <vector>

namespace tapeout::circuit {

class Network {
public:
    // The graph must be hashed (see strash).
    explicit Network(const Aig& aig);

    const Aig& graph() const { return aig_; }
    std::size_t variables() const { return aig_.variables(); }
    // The gates to visit, in order.
    std::size_t begin() const { return aig_.first_gate(); }
    std::size_t end() const { return end_; }

    // Brings a gate's fan-ins up to date. False: it is no longer needed, or became trivial or equal to a visited gate.
    bool visit(std::uint32_t variable);
    // The current literal for a literal of the original graph.
    Lit resolved(Lit lit) const;
    // Makes `variable`, just visited, refer to a literal of visited gates.
    void replace(std::uint32_t variable, Lit by);

    // The literal of a & b if trivial or there (maybe dead); Strash::kNone otherwise.
    Lit find(Lit a, Lit b) const;
    // As find, and makes the gate if it is not there. A new gate is dead until it is referred to.
    Lit and_(Lit a, Lit b);
    // Hides a visited gate from find and and_, so that what replaces it is not made of it. 0: none is hidden.
    void hide(std::uint32_t variable) { hidden_ = variable; }
    bool alive(std::uint32_t variable) const { return refs_[variable] != 0; }
    // References from visited and unvisited gates and outputs.
    std::uint32_t refs(std::uint32_t variable) const { return refs_[variable]; }

    // Adds and drops a reference; returns how many gates came to life or died.
    std::size_t ref(Lit lit);
    std::size_t deref(Lit lit);
    // The gates that die with the gate (it is one of them), as drop and take_back count them. Pairs nest.
    std::size_t drop_fanins(std::uint32_t variable);
    void take_back_fanins(std::uint32_t variable);

    // Readers of a visited variable, also dead ones.
    const std::vector<std::uint32_t>& readers(std::uint32_t variable) const { return readers_[variable]; }

    Aig result() const;

private:
    std::size_t bucket(Lit a, Lit b) const;
    void insert(std::uint32_t variable);

    Aig aig_;
    std::size_t end_;
    std::uint32_t hidden_ = 0;
    std::vector<std::uint32_t> refs_;
    std::vector<Lit> alias_;
    std::vector<std::vector<std::uint32_t>> readers_;
    std::vector<std::uint32_t> heads_, next_; // hash table of visited gates
};

} // namespace tapeout::circuit
