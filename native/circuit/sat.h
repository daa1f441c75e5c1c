// A satisfiability solver for questions about small parts of a large and-inverter graph.
//
// Conflict-driven clause learning with two watched literals (Moskewicz et al., DAC 2001), first unique implication
// points with recursive minimisation (Een and Sorensson, SAT 2003), clauses kept by literal block distance (Audemard
// and Simon, IJCAI 2009). Two things fit it to circuits: only variables in the cone of the question take part (all
// others count as satisfying every clause, so that no time goes into the rest of the graph), and decisions only justify
// gates that are 0 without a fan-in that is 0 (the J-frontier of test generation), so that an answer leaves inputs open
// that do not matter.
#pragma once

#include "circuit/aig.h"

#include <atomic>
#include <cstdint>
#include <vector>

namespace tapeout::circuit {

enum class Answer { kUnsat, kSat, kUnknown };

class ConeSolver {
public:
    // The graph may grow between questions; its gates must not change. `stop` ends a question early.
    explicit ConeSolver(const Aig& graph, const std::atomic<bool>& stop);

    // Can all of `assumed` be true? kUnknown after `conflict_limit` conflicts or a stop.
    Answer solve(const std::vector<Lit>& assumed, std::uint64_t conflict_limit);

    // After kSat: 1 true, -1 false, 0 does not matter. Variables outside of the cone do not matter.
    int model(std::size_t variable) const { return model_[variable]; }
    // The input variables that the last question reached.
    const std::vector<std::uint32_t>& cone_inputs() const { return cone_inputs_; }
    std::uint64_t conflicts() const { return total_conflicts_; }

private:
    using Ref = std::uint32_t; // offset of a clause in arena_: size, block distance (0: a gate's), literals
    struct Watch {
        Ref clause;
        Lit blocker; // for a clause of two literals the other one; clause is then kBinary
    };
    static constexpr Ref kBinary = ~Ref{0};
    // Why a variable has its value: nothing, the false literal of a clause of two (odd), or a clause (even).
    using Reason = std::uint64_t;
    static constexpr Reason kDecided = ~Reason{0};

    void resize();
    void load(std::uint32_t variable);
    void enter(const std::vector<Lit>& assumed);
    void leave();
    Ref add_clause(const std::vector<Lit>& literals, std::uint32_t distance);
    void assign(Lit lit, Reason why);
    Reason propagate(); // kDecided: no conflict
    bool propagate_literal(Lit lit, Reason& conflict);
    void backtrack(std::size_t level);
    std::size_t analyse(Reason conflict); // fills learned_, returns the level to go back to
    void mark(Lit lit, std::size_t& open);
    bool implied(Lit lit);
    template <typename Visit>
    void each_literal(Reason why, Lit of, Visit visit) const;
    void learn();
    bool decide(); // false: all gates are justified
    void bump(std::uint32_t variable);
    bool restart_due() const;
    void reduce();
    Answer search(const std::vector<Lit>& assumed, std::uint64_t limit);
    void save_model();

    std::size_t level() const { return level_starts_.size(); }

    // A binary heap of gates to justify, the most active first.
    void heap_up(std::size_t at);
    void heap_down(std::size_t at);
    void heap_insert(std::uint32_t variable);
    std::uint32_t heap_pop();

    const Aig& graph_;
    const std::atomic<bool>& stop_;
    std::vector<std::uint32_t> arena_;
    std::vector<Ref> learned_clauses_;
    std::vector<std::vector<Watch>> watches_; // by the literal that became false
    std::vector<std::int8_t> value_;          // by literal; outside of the cone both literals are 1
    std::vector<std::int8_t> fixed_;          // by variable: known for ever
    std::vector<std::int8_t> phase_;
    std::vector<std::int8_t> model_;
    std::vector<char> loaded_;
    std::vector<char> in_cone_;
    std::vector<char> seen_;
    std::vector<Reason> reason_;
    std::vector<std::uint32_t> level_of_;
    std::vector<float> activity_;
    std::vector<std::uint32_t> heap_, heap_at_;                   // heap_at_: position + 1, 0 when absent
    std::vector<std::pair<std::uint32_t, std::uint32_t>> parked_; // gates taken off the heap, with their level
    std::vector<Lit> trail_;
    std::vector<std::size_t> level_starts_;
    std::size_t propagated_ = 0;
    std::vector<std::uint32_t> cone_, cone_inputs_;
    std::vector<Lit> learned_, to_clear_, stack_;
    std::vector<std::uint64_t> level_stamp_;
    std::uint64_t stamp_ = 0;
    float bump_ = 1;
    std::uint64_t total_conflicts_ = 0, since_restart_ = 0;
    double fast_ = 0, slow_ = 0, last_distance_ = 0; // block distance: moving averages, and of the last conflict
    std::size_t learned_limit_ = 4000;
};

} // namespace tapeout::circuit
