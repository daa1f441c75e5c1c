#include "circuit/sweep.h"

#include <algorithm>
#include <unordered_map>

namespace tapeout::circuit {

namespace {

// Gates whose class has a first gate they could not be told from nor proved equal to get this many more chances.
constexpr std::size_t kCandidates = 2;

TAPEOUT_CLONES
void simulate_gates(const Gate* gates, std::size_t count, std::size_t first, Slot* values) {
    auto* v = reinterpret_cast<Lanes*>(values);
    const Lanes flips[2] = {Lanes{}, ~Lanes{}};
    for (std::size_t i = 0; i < count; ++i) {
        const Gate gate = gates[i];
        v[first + i] = (v[gate.a >> 1] ^ flips[gate.a & 1]) & (v[gate.b >> 1] ^ flips[gate.b & 1]);
    }
}

} // namespace

Sweeper::Sweeper(const Aig& aig, const SweepOptions& options, bool pairs, const std::atomic<bool>& stop)
    : aig_(aig), options_(options), stop_(stop), out_(aig.inputs, aig.gates.size()), solver_(out_.aig, stop),
      patterns_(aig.inputs, options.widths, options.seed), map_(aig.variables()), alias_(aig.first_gate()),
      sim_(aig.variables()), phase_(aig.variables()), class_of_(aig.variables(), 0) {
    for (std::size_t v = 0; v < aig.first_gate(); ++v)
        map_[v] = alias_[v] = lit_of(v);
    if (pairs)
        witnesses_.resize(aig.outputs.size() / 2);
    classes_.emplace_back();
    for (std::uint32_t v = 0; v < aig.variables(); ++v)
        classes_[0].push_back(v);
    for (int round = 0; round < options.rounds; ++round) {
        patterns_.structured(&sim_[1]);
        simulate();
        if (!round)
            for (std::size_t v = 0; v < aig.variables(); ++v)
                phase_[v] = sim_[v].words[0] & 1;
        refine();
    }
}

void Sweeper::simulate() {
    sim_[0] = Slot{};
    simulate_gates(aig_.gates.data(), aig_.gates.size(), aig_.first_gate(), sim_.data());
    find_witnesses();
}

void Sweeper::find_witnesses() {
    for (std::size_t pair = 0; pair < witnesses_.size(); ++pair) {
        if (!witnesses_[pair].empty())
            continue;
        const Lit a = aig_.outputs[2 * pair], b = aig_.outputs[2 * pair + 1];
        const std::uint64_t flip = ((a ^ b) & 1) ? ~std::uint64_t{0} : 0;
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const auto differs = [&](std::size_t w) { return sim_[a >> 1].words[w] ^ sim_[b >> 1].words[w] ^ flip; };
            if (!differs(lane / 64)) {
                lane += 63;
                continue;
            }
            if (!(differs(lane / 64) >> lane % 64 & 1))
                continue;
            for (std::size_t i = 1; i <= aig_.inputs; ++i)
                witnesses_[pair].push_back(sim_[i].words[lane / 64] >> lane % 64 & 1);
            break;
        }
    }
}

std::uint64_t Sweeper::hash(std::uint32_t variable) const {
    const std::uint64_t flip = phase_[variable] ? ~std::uint64_t{0} : 0;
    std::uint64_t h = 0;
    for (const std::uint64_t word : sim_[variable].words)
        h = (h ^ (word ^ flip)) * 0x9E3779B97F4A7C15ull, h ^= h >> 29;
    return h;
}

void Sweeper::refine() {
    const std::size_t count = classes_.size();
    for (std::uint32_t id = 0; id < count; ++id)
        split(id);
}

// Members that differ from the first get classes of their own.
void Sweeper::split(std::uint32_t id) {
    if (classes_[id].size() < 2)
        return;
    const std::uint64_t first = hash(classes_[id][0]);
    std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> others;
    std::erase_if(classes_[id], [&](std::uint32_t v) {
        const std::uint64_t h = hash(v);
        if (h != first)
            others[h].push_back(v);
        return h != first;
    });
    if (classes_[id].size() == 1)
        class_of_[classes_[id][0]] = kAlone;
    for (auto& [h, members] : others) {
        for (const std::uint32_t v : members)
            class_of_[v] = members.size() == 1 ? kAlone : static_cast<std::uint32_t>(classes_.size());
        if (members.size() > 1)
            classes_.push_back(std::move(members));
    }
}

Lit Sweeper::resolved(Lit lit) const {
    while (alias_[lit >> 1] != (lit & ~Lit{1}))
        lit = alias_[lit >> 1] ^ (lit & 1);
    return lit;
}

Answer Sweeper::equal(Lit a, Lit b, std::uint64_t conflicts) {
    if (a == b)
        return Answer::kUnsat;
    Answer answer = Answer::kUnsat;
    for (const Lit flip : {0u, 1u}) {
        const Lit x = a ^ flip, y = b ^ flip ^ 1;
        if (x == 0 || y == 0)
            continue;
        std::vector<Lit> assumed;
        for (const Lit lit : {x, y})
            if (lit != 1)
                assumed.push_back(lit);
        answer = solver_.solve(assumed, conflicts);
        if (answer != Answer::kUnsat)
            break;
    }
    counts_.conflicts = solver_.conflicts();
    if (answer == Answer::kSat) {
        std::vector<std::int8_t> known(aig_.inputs, 0);
        for (const std::uint32_t v : solver_.cone_inputs())
            known[v - 1] = static_cast<std::int8_t>(solver_.model(v));
        patterns_.near(known, &sim_[1]);
        simulate();
    }
    return answer;
}

std::uint32_t Sweeper::candidate(std::uint32_t variable, const std::vector<std::uint32_t>& tried) const {
    if (class_of_[variable] == kAlone || tried.size() >= kCandidates)
        return kAlone;
    for (const std::uint32_t other : classes_[class_of_[variable]]) {
        if (other >= variable)
            break;
        if (std::find(tried.begin(), tried.end(), other) == tried.end())
            return other;
    }
    return kAlone;
}

void Sweeper::leave_class(std::uint32_t variable) {
    auto& members = classes_[class_of_[variable]];
    members.erase(std::lower_bound(members.begin(), members.end(), variable));
    class_of_[variable] = kAlone;
}

// Makes the gate's literal and an equal one the same: the younger refers to the older.
void Sweeper::merge(std::uint32_t variable, Lit target) {
    const Lit own = mapped(lit_of(variable));
    if ((own >> 1) > (target >> 1)) {
        alias_[own >> 1] = target ^ (own & 1);
        map_[variable] = target;
    } else if ((own >> 1) < (target >> 1)) {
        alias_[target >> 1] = own ^ (target & 1);
    }
}

void Sweeper::sweep_gate(std::uint32_t variable) {
    const Gate gate = aig_.gate(variable);
    map_[variable] = out_.and_(mapped(gate.a), mapped(gate.b));
    while (alias_.size() < out_.aig.variables())
        alias_.push_back(lit_of(alias_.size()));
    std::vector<std::uint32_t> tried;
    for (std::uint32_t other; (other = candidate(variable, tried)) != kAlone;) {
        const Lit own = mapped(lit_of(variable));
        const Lit target = mapped(lit_of(other, phase_[other] != phase_[variable]));
        if (own == target) {
            leave_class(variable);
            return;
        }
        const Answer answer = stop_ ? Answer::kUnknown : equal(own, target, options_.conflicts);
        if (answer == Answer::kUnsat) {
            ++counts_.proved;
            merge(variable, target);
            leave_class(variable);
            return;
        }
        if (answer == Answer::kSat) {
            ++counts_.refuted;
            refine();
            if (class_of_[variable] != class_of_[other])
                continue;
        } else {
            ++counts_.undecided;
        }
        tried.push_back(other);
    }
}

void Sweeper::sweep() {
    for (std::size_t v = aig_.first_gate(); v < aig_.variables(); ++v)
        sweep_gate(static_cast<std::uint32_t>(v));
}

Answer Sweeper::ask(std::size_t pair, std::uint64_t conflicts) {
    if (!witnesses_[pair].empty())
        return Answer::kSat;
    const Answer answer = equal(mapped(aig_.outputs[2 * pair]), mapped(aig_.outputs[2 * pair + 1]), conflicts);
    if (answer == Answer::kSat && witnesses_[pair].empty())
        return Answer::kUnknown;
    return answer;
}

Aig Sweeper::result() const {
    Aig aig;
    aig.inputs = aig_.inputs;
    aig.gates = out_.aig.gates;
    for (Gate& gate : aig.gates)
        gate = {resolved(gate.a), resolved(gate.b)};
    for (const Lit output : aig_.outputs)
        aig.outputs.push_back(mapped(output));
    return strash(aig);
}

} // namespace tapeout::circuit
