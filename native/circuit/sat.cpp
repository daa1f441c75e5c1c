#include "circuit/sat.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr float kDecay = 1 / 0.95f;
constexpr float kRescale = 1e30f;

} // namespace

ConeSolver::ConeSolver(const Aig& graph, const std::atomic<bool>& stop) : graph_(graph), stop_(stop) {}

void ConeSolver::resize() {
    const std::size_t n = graph_.variables();
    if (fixed_.size() >= n)
        return;
    watches_.resize(2 * n);
    value_.resize(2 * n, 1);
    fixed_.resize(n, 0);
    phase_.resize(n, -1);
    model_.resize(n, 0);
    loaded_.resize(n, 0);
    in_cone_.resize(n, 0);
    seen_.resize(n, 0);
    reason_.resize(n, kDecided);
    level_of_.resize(n, 0);
    activity_.resize(n, 0);
    heap_at_.resize(n, 0);
    level_stamp_.resize(n + 1, 0);
    fixed_[0] = -1;
}

ConeSolver::Ref ConeSolver::add_clause(const std::vector<Lit>& literals, std::uint32_t distance) {
    if (literals.size() == 2) {
        watches_[literals[0]].push_back({kBinary, literals[1]});
        watches_[literals[1]].push_back({kBinary, literals[0]});
        return kBinary;
    }
    const Ref ref = static_cast<Ref>(arena_.size());
    arena_.push_back(static_cast<std::uint32_t>(literals.size()));
    arena_.push_back(distance);
    arena_.insert(arena_.end(), literals.begin(), literals.end());
    watches_[literals[0]].push_back({ref, literals[1]});
    watches_[literals[1]].push_back({ref, literals[0]});
    return ref;
}

void ConeSolver::load(std::uint32_t variable) {
    loaded_[variable] = 1;
    const Gate gate = graph_.gate(variable);
    const Lit out = lit_of(variable);
    add_clause({out ^ 1, gate.a}, 0);
    add_clause({out ^ 1, gate.b}, 0);
    add_clause({out, gate.a ^ 1, gate.b ^ 1}, 0);
}

void ConeSolver::enter(const std::vector<Lit>& assumed) {
    resize();
    cone_.clear();
    cone_inputs_.clear();
    const auto reach = [this](std::uint32_t v) {
        if (!in_cone_[v]) {
            in_cone_[v] = 1;
            cone_.push_back(v);
        }
    };
    for (const Lit lit : assumed)
        reach(lit >> 1);
    for (std::size_t i = 0; i < cone_.size(); ++i) {
        const std::uint32_t v = cone_[i];
        if (!graph_.is_gate(v)) {
            if (v)
                cone_inputs_.push_back(v);
            continue;
        }
        if (!loaded_[v])
            load(v);
        reach(graph_.gate(v).a >> 1);
        reach(graph_.gate(v).b >> 1);
    }
    for (const std::uint32_t v : cone_)
        value_[2 * v] = value_[2 * v + 1] = 0;
    for (const std::uint32_t v : cone_)
        if (fixed_[v])
            assign(lit_of(v, fixed_[v] < 0), kDecided);
}

void ConeSolver::leave() {
    backtrack(0);
    for (const Lit lit : trail_)
        fixed_[lit >> 1] = (lit & 1) ? -1 : 1;
    trail_.clear();
    propagated_ = 0;
    parked_.clear();
    for (const std::uint32_t v : heap_)
        heap_at_[v] = 0;
    heap_.clear();
    for (const std::uint32_t v : cone_) {
        in_cone_[v] = 0;
        value_[2 * v] = value_[2 * v + 1] = 1;
    }
}

void ConeSolver::assign(Lit lit, Reason why) {
    value_[lit] = 1;
    value_[lit ^ 1] = -1;
    const std::uint32_t v = lit >> 1;
    reason_[v] = why;
    level_of_[v] = static_cast<std::uint32_t>(level());
    trail_.push_back(lit);
    // A gate that is 0 must be justified, unless a fan-in is 0 already or it is 0 whatever the inputs are.
    if ((lit & 1) && level() && graph_.is_gate(v)) {
        const Gate gate = graph_.gate(v);
        if (value_[gate.a] >= 0 && value_[gate.b] >= 0)
            heap_insert(v);
    }
}

bool ConeSolver::propagate_literal(Lit lit, Reason& conflict) {
    const Lit no = lit ^ 1;
    std::vector<Watch>& list = watches_[no];
    std::size_t keep = 0, i = 0;
    bool ok = true;
    for (; i < list.size(); ++i) {
        const Watch watch = list[i];
        const std::int8_t known = value_[watch.blocker];
        if (known > 0) {
            list[keep++] = watch;
            continue;
        }
        if (watch.clause == kBinary) {
            list[keep++] = watch;
            if (known < 0) {
                // The conflict is the clause (blocker, no); blocker stands for the implied side.
                conflict = Reason{watch.blocker} << 32 | Reason{no} << 1 | 1;
                ok = false;
                ++i;
                break;
            }
            assign(watch.blocker, Reason{no} << 1 | 1);
            continue;
        }
        const std::uint32_t size = arena_[watch.clause];
        Lit* c = &arena_[watch.clause + 2];
        if (c[0] == no)
            std::swap(c[0], c[1]);
        const Watch moved{watch.clause, c[0]};
        if (c[0] != watch.blocker && value_[c[0]] > 0) {
            list[keep++] = moved;
            continue;
        }
        bool found = false;
        for (std::uint32_t k = 2; k < size; ++k)
            if (value_[c[k]] >= 0) {
                std::swap(c[1], c[k]);
                watches_[c[1]].push_back(moved);
                found = true;
                break;
            }
        if (found)
            continue;
        list[keep++] = moved;
        if (value_[c[0]] < 0) {
            conflict = Reason{watch.clause} << 1;
            ok = false;
            ++i;
            break;
        }
        assign(c[0], Reason{watch.clause} << 1);
    }
    for (; i < list.size(); ++i)
        list[keep++] = list[i];
    list.resize(keep);
    return ok;
}

ConeSolver::Reason ConeSolver::propagate() {
    Reason conflict = kDecided;
    while (propagated_ < trail_.size())
        if (!propagate_literal(trail_[propagated_++], conflict))
            return conflict;
    return kDecided;
}

void ConeSolver::backtrack(std::size_t to) {
    if (level() <= to)
        return;
    const std::size_t start = level_starts_[to];
    for (std::size_t i = trail_.size(); i-- > start;) {
        const Lit lit = trail_[i];
        value_[lit] = value_[lit ^ 1] = 0;
        phase_[lit >> 1] = (lit & 1) ? -1 : 1;
    }
    trail_.resize(start);
    level_starts_.resize(to);
    propagated_ = start;
    // Gates that were justified at a level that is gone wait again.
    while (!parked_.empty() && parked_.back().second > to) {
        const std::uint32_t v = parked_.back().first;
        parked_.pop_back();
        if (value_[2 * v] < 0)
            heap_insert(v);
    }
}

template <typename Visit>
void ConeSolver::each_literal(Reason why, Lit of, Visit visit) const {
    if (why & 1) {
        visit(static_cast<Lit>((why & 0xFFFFFFFFu) >> 1));
        return;
    }
    const std::uint32_t* c = &arena_[why >> 1];
    for (std::uint32_t k = 0; k < c[0]; ++k)
        if (c[2 + k] != of)
            visit(c[2 + k]);
}

void ConeSolver::mark(Lit lit, std::size_t& open) {
    const std::uint32_t v = lit >> 1;
    if (seen_[v] || level_of_[v] == 0)
        return;
    seen_[v] = 1;
    to_clear_.push_back(lit);
    bump(v);
    if (level_of_[v] == level())
        ++open;
    else
        learned_.push_back(lit);
}

// Whether the literal follows from other literals of the learned clause.
bool ConeSolver::implied(Lit lit) {
    if (reason_[lit >> 1] == kDecided)
        return false;
    stack_.assign(1, lit);
    const std::size_t clear_from = to_clear_.size();
    while (!stack_.empty()) {
        const Lit top = stack_.back();
        stack_.pop_back();
        bool fails = false;
        each_literal(reason_[top >> 1], top ^ 1, [&](Lit other) {
            const std::uint32_t v = other >> 1;
            if (fails || seen_[v] || level_of_[v] == 0)
                return;
            if (reason_[v] == kDecided || level_stamp_[level_of_[v]] != stamp_) {
                fails = true;
                return;
            }
            seen_[v] = 1;
            to_clear_.push_back(other);
            stack_.push_back(other);
        });
        if (fails) {
            for (std::size_t i = clear_from; i < to_clear_.size(); ++i)
                seen_[to_clear_[i] >> 1] = 0;
            to_clear_.resize(clear_from);
            return false;
        }
    }
    return true;
}

std::size_t ConeSolver::analyse(Reason conflict) {
    learned_.assign(1, 0);
    to_clear_.clear();
    std::size_t open = 0;
    if (conflict & 1)
        mark(static_cast<Lit>(conflict >> 32), open);
    each_literal(conflict & ((conflict & 1) ? 0xFFFFFFFFull : ~0ull), ~Lit{0}, [&](Lit lit) { mark(lit, open); });
    std::size_t at = trail_.size();
    for (;;) {
        while (!seen_[trail_[--at] >> 1]) {
        }
        const Lit lit = trail_[at];
        if (--open == 0) {
            learned_[0] = lit ^ 1;
            break;
        }
        each_literal(reason_[lit >> 1], lit, [&](Lit other) { mark(other, open); });
    }
    ++stamp_;
    for (const Lit lit : learned_)
        level_stamp_[level_of_[lit >> 1]] = stamp_;
    std::size_t keep = 1;
    for (std::size_t i = 1; i < learned_.size(); ++i)
        if (!implied(learned_[i]))
            learned_[keep++] = learned_[i];
    learned_.resize(keep);
    for (const Lit lit : to_clear_)
        seen_[lit >> 1] = 0;
    if (learned_.size() == 1)
        return 0;
    const auto highest = std::max_element(learned_.begin() + 1, learned_.end(),
                                          [this](Lit x, Lit y) { return level_of_[x >> 1] < level_of_[y >> 1]; });
    std::iter_swap(learned_.begin() + 1, highest);
    return level_of_[learned_[1] >> 1];
}

// After the jump back: the clause is kept and its first literal follows from it.
void ConeSolver::learn() {
    if (learned_.size() == 1) {
        assign(learned_[0], kDecided);
        return;
    }
    const std::uint32_t distance = static_cast<std::uint32_t>(std::max(1.0, last_distance_));
    const Ref ref = add_clause(learned_, distance);
    if (ref == kBinary) {
        assign(learned_[0], Reason{learned_[1]} << 1 | 1);
        return;
    }
    learned_clauses_.push_back(ref);
    assign(learned_[0], Reason{ref} << 1);
}

void ConeSolver::bump(std::uint32_t variable) {
    if ((activity_[variable] += bump_) > kRescale) {
        for (float& a : activity_)
            a *= 1 / kRescale;
        bump_ *= 1 / kRescale;
    }
    if (heap_at_[variable])
        heap_up(heap_at_[variable] - 1);
}

bool ConeSolver::decide() {
    while (!heap_.empty()) {
        const std::uint32_t v = heap_pop();
        if (value_[2 * v] >= 0)
            continue; // lost its value: it comes back when it gets one
        const Gate gate = graph_.gate(v);
        const bool justified = value_[gate.a] < 0 || value_[gate.b] < 0;
        parked_.emplace_back(v, static_cast<std::uint32_t>(level() + (justified ? 0 : 1)));
        if (justified)
            continue;
        const auto wish = [this](Lit lit) { return phase_[lit >> 1] == ((lit & 1) ? 1 : -1); };
        Lit choice = gate.a;
        if (wish(gate.a) != wish(gate.b))
            choice = wish(gate.a) ? gate.a : gate.b;
        else if (activity_[gate.b >> 1] > activity_[gate.a >> 1])
            choice = gate.b;
        level_starts_.push_back(trail_.size());
        assign(choice ^ 1, kDecided);
        return true;
    }
    return false;
}

bool ConeSolver::restart_due() const {
    return since_restart_ >= 50 && fast_ > 1.2 * slow_;
}

// Drops the worse half of the learned clauses. Only at level 0, where no clause is a reason.
void ConeSolver::reduce() {
    std::vector<Ref> order = learned_clauses_;
    // Younger clauses first among equals.
    std::stable_sort(order.begin(), order.end(), [this](Ref x, Ref y) {
        return arena_[x + 1] != arena_[y + 1] ? arena_[x + 1] < arena_[y + 1] : x > y;
    });
    std::vector<Ref> keep(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(order.size() / 2));
    std::sort(keep.begin(), keep.end());
    std::vector<std::uint32_t> arena;
    arena.reserve(arena_.size());
    std::vector<Ref> kept;
    for (auto& list : watches_)
        std::erase_if(list, [](const Watch& watch) { return watch.clause != kBinary; });
    auto next = keep.begin();
    for (Ref at = 0; at < arena_.size(); at += 2 + arena_[at]) {
        const bool is_learned = arena_[at + 1] != 0;
        if (is_learned && (next == keep.end() || *next != at))
            continue;
        const Ref to = static_cast<Ref>(arena.size());
        if (is_learned) {
            ++next;
            kept.push_back(to);
        }
        arena.insert(arena.end(), arena_.begin() + at, arena_.begin() + at + 2 + arena_[at]);
        watches_[arena[to + 2]].push_back({to, arena[to + 3]});
        watches_[arena[to + 3]].push_back({to, arena[to + 2]});
    }
    arena_ = std::move(arena);
    learned_clauses_ = std::move(kept);
    learned_limit_ += learned_limit_ / 10;
}

void ConeSolver::save_model() {
    for (const std::uint32_t v : cone_inputs_)
        model_[v] = value_[2 * v];
}

Answer ConeSolver::search(const std::vector<Lit>& assumed, std::uint64_t limit) {
    std::uint64_t conflicts = 0;
    since_restart_ = 0;
    for (;;) {
        const Reason conflict = propagate();
        if (conflict != kDecided) {
            ++total_conflicts_;
            ++since_restart_;
            if (level() == 0)
                return Answer::kUnsat;
            const std::size_t back = analyse(conflict);
            ++stamp_;
            std::size_t distance = 0;
            for (const Lit lit : learned_)
                if (std::uint64_t& mark = level_stamp_[level_of_[lit >> 1]]; mark != stamp_) {
                    mark = stamp_;
                    ++distance;
                }
            last_distance_ = static_cast<double>(distance);
            if (total_conflicts_ == 1)
                fast_ = slow_ = last_distance_;
            fast_ += (last_distance_ - fast_) / 32;
            slow_ += (last_distance_ - slow_) / 2048;
            bump_ *= kDecay;
            backtrack(back);
            learn();
            if (++conflicts >= limit || (conflicts % 256 == 0 && stop_.load(std::memory_order_relaxed)))
                return Answer::kUnknown;
            continue;
        }
        if (restart_due()) {
            since_restart_ = 0;
            fast_ = slow_;
            backtrack(0);
            if (learned_clauses_.size() > learned_limit_)
                reduce();
            continue;
        }
        if (level() < assumed.size()) {
            const Lit lit = assumed[level()];
            if (value_[lit] < 0)
                return Answer::kUnsat;
            level_starts_.push_back(trail_.size());
            if (value_[lit] == 0)
                assign(lit, kDecided);
            continue;
        }
        if (!decide()) {
            save_model();
            return Answer::kSat;
        }
    }
}

Answer ConeSolver::solve(const std::vector<Lit>& assumed, std::uint64_t conflict_limit) {
    enter(assumed);
    if (learned_clauses_.size() > learned_limit_)
        reduce();
    const Answer answer = search(assumed, conflict_limit);
    leave();
    return answer;
}

void ConeSolver::heap_up(std::size_t at) {
    const std::uint32_t v = heap_[at];
    while (at) {
        const std::size_t up = (at - 1) / 2;
        if (activity_[heap_[up]] >= activity_[v])
            break;
        heap_[at] = heap_[up];
        heap_at_[heap_[at]] = static_cast<std::uint32_t>(at + 1);
        at = up;
    }
    heap_[at] = v;
    heap_at_[v] = static_cast<std::uint32_t>(at + 1);
}

void ConeSolver::heap_down(std::size_t at) {
    const std::uint32_t v = heap_[at];
    for (std::size_t child; (child = 2 * at + 1) < heap_.size(); at = child) {
        if (child + 1 < heap_.size() && activity_[heap_[child + 1]] > activity_[heap_[child]])
            ++child;
        if (activity_[heap_[child]] <= activity_[v])
            break;
        heap_[at] = heap_[child];
        heap_at_[heap_[at]] = static_cast<std::uint32_t>(at + 1);
    }
    heap_[at] = v;
    heap_at_[v] = static_cast<std::uint32_t>(at + 1);
}

void ConeSolver::heap_insert(std::uint32_t variable) {
    if (heap_at_[variable])
        return;
    heap_.push_back(variable);
    heap_up(heap_.size() - 1);
}

std::uint32_t ConeSolver::heap_pop() {
    const std::uint32_t top = heap_[0], last = heap_.back();
    heap_at_[top] = 0;
    heap_.pop_back();
    if (!heap_.empty()) {
        heap_[0] = last;
        heap_down(0);
    }
    return top;
}

} // namespace tapeout::circuit
