// A decision diagram of several output bits over one order of the inputs, learned by asking.
//
// Level i asks input order[i]; a prefix is an assignment of the inputs above a level, a suffix one of those from it on.
// Two prefixes are held to be the same node where no suffix of the pool tells them apart: the pool's rows serve as
// suffixes of every level, so that after a counterexample has joined the pool the diagram answers it rightly (Maler and
// Pnueli 1995; for ordered diagrams Gavalda and Guijarro 1995). Levels are strict, so there are no cycles, and no merge
// is for ever.
//
// Above the cut a node is a *state*, told apart by all outputs that are still open: a carry, a comparison so far. Below
// the cut nodes belong to single outputs, with complement edges, and outputs share them: a barrel shifter.
#pragma once

#include "circuit/aig.h"
#include "circuit/rows.h"
#include "circuit/sampler.h"

#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

namespace tapeout::circuit {

struct Shape {
    std::size_t max_states = 16; // joint states of a level
    std::size_t max_nodes = 800; // single-output nodes in all
    int cut = -1;                // joint levels at most; -1: as many as max_states allows
};

class Diagram {
public:
    // Nothing where the diagram outgrows `shape`. `outputs[k]` are the question's outputs that order[k] may influence;
    // where the pool shows that others matter, pairs of rows with different answers that should be equal join
    // `outside`.
    static std::optional<Diagram> learn(Question& question, const Region& region, const std::vector<int>& order,
                                        const std::vector<std::vector<Word>>& outputs, const Rows& pool,
                                        const Shape& shape, Rows& outside);
    // Checks every edge on the given suffixes (a multiple of 64), each side with other values of the inputs outside the
    // order. Appends rows that tell a node from what it was merged with to `found`, and pairs of rows that differ in
    // inputs outside the order only, to other answers, to `outside`. False where there are any.
    bool verify(Question& question, const Rows& suffixes, Rows& found, Rows& outside, std::size_t most) const;
    std::vector<Lit> emit(Strash& gates) const;
    // The output bits for a row of inputs, packed.
    void evaluate(const Word* row, Word* answer) const;
    const std::vector<int>& order() const { return order_; }
    std::size_t size() const;
    std::size_t cut() const { return cut_; }

private:
    struct Edge {
        int node = -1; // -1: constant false
        bool complement = false;
        bool operator==(const Edge&) const = default;
    };
    struct State {
        int access[2] = {}; // rows of accesses_: this prefix, and it with a 1 behind it
        int next[2] = {};   // states of the level below
    };
    struct Node { // f_output(access . z) ^ complement
        int access[2] = {};
        int output = 0;
        bool complement = false;
        Edge next[2];
    };
    struct Claim { // f_output(access . z) is f_other_output(other . z) ^ complement, or constant where other < 0
        int access, output, other, other_output;
        bool complement;
    };
    using Slices = std::vector<Word>; // [access][output][suffixes / 64]
    using Classes = std::unordered_map<Hash, int, HashOf>;

    Diagram(const Question& question, const Region& region, std::vector<int> order);
    void learn_states(Question& question, const Rows& pool, const Shape& shape, Rows& outside);
    bool learn_nodes(Question& question, const Rows& pool, const Shape& shape, Rows& outside);
    void choose_cut();
    bool settled(const Word* slice, int access, std::size_t level, const Rows& pool, Rows& outside) const;
    int with_one(int access, std::size_t level);
    void compose(int access, std::size_t level, const Word* suffix, const Word* outside, Word* row) const;
    Slices ask(Question& question, const std::vector<int>& accesses, std::size_t level, const Rows& suffixes,
               bool scramble) const;
    Edge classify(const Word* slice, std::size_t words, int access, int output, Classes& classes,
                  std::vector<Node>& level) const;
    std::vector<Claim> claims(std::size_t level) const;
    void explain(Question& question, const Claim& claim, std::size_t level, const Word* suffix, const Word* others[2],
                 Rows& found, Rows& outside) const;
    Lit state_set(Strash& gates, std::size_t level, std::uint64_t set,
                  std::vector<std::map<std::uint64_t, Lit>>& memo) const;

    std::vector<int> order_;
    std::size_t outputs_;
    std::size_t cut_ = 0;
    std::vector<std::size_t> last_; // per output: the level at which it is known
    Rows accesses_;
    std::vector<std::vector<State>> levels_; // [0, cut]
    std::vector<std::vector<bool>> known_;   // per output known by the cut: its value per state of its level
    std::vector<std::vector<Edge>> roots_;   // [state at the cut][output]
    std::vector<std::vector<Node>> nodes_;   // [level - cut]
    Rows masks_;                             // one row a level: the inputs above it
    std::vector<Word> free_;                 // inputs outside the order and the region
};

} // namespace tapeout::circuit
