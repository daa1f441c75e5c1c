#include "circuit/network.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace tapeout::circuit {

Network::Network(const Aig& aig)
    : aig_(aig), end_(aig.variables()), refs_(aig.variables(), 0), alias_(aig.variables()), readers_(aig.variables()),
      heads_(std::bit_ceil(2 * aig.gates.size() + 64), 0), next_(aig.variables(), 0) {
    for (std::size_t v = 0; v < alias_.size(); ++v)
        alias_[v] = lit_of(v);
    for (const Gate& gate : aig.gates) {
        ++refs_[gate.a >> 1];
        ++refs_[gate.b >> 1];
    }
    for (const Lit output : aig.outputs)
        ++refs_[output >> 1];
    // Constants and inputs are always there.
    for (std::size_t v = 0; v < aig.first_gate(); ++v)
        ++refs_[v];
}

Lit Network::resolved(Lit lit) const {
    while (alias_[lit >> 1] != (lit & ~Lit{1}))
        lit = alias_[lit >> 1] ^ (lit & 1);
    return lit;
}

std::size_t Network::bucket(Lit a, Lit b) const {
    return ((std::uint64_t{a} << 32 | b) * 0x9E3779B97F4A7C15ull >> 32) & (heads_.size() - 1);
}

void Network::insert(std::uint32_t variable) {
    const Gate gate = aig_.gate(variable);
    std::uint32_t& head = heads_[bucket(gate.a, gate.b)];
    next_[variable] = head;
    head = variable;
    readers_[gate.a >> 1].push_back(variable);
    readers_[gate.b >> 1].push_back(variable);
}

Lit Network::find(Lit a, Lit b) const {
    if (a > b)
        std::swap(a, b);
    if (a == 0 || (a ^ 1) == b)
        return 0;
    if (a == 1 || a == b)
        return b;
    for (std::uint32_t v = heads_[bucket(a, b)]; v; v = next_[v])
        if (aig_.gate(v).a == a && aig_.gate(v).b == b && v != hidden_)
            return lit_of(v);
    return Strash::kNone;
}

Lit Network::and_(Lit a, Lit b) {
    const Lit found = find(a, b);
    if (found != Strash::kNone)
        return found;
    const auto v = static_cast<std::uint32_t>(aig_.variables());
    aig_.gates.push_back({std::min(a, b), std::max(a, b)});
    refs_.push_back(0);
    alias_.push_back(lit_of(v));
    readers_.emplace_back();
    next_.push_back(0);
    insert(v);
    return lit_of(v);
}

std::size_t Network::ref(Lit lit) {
    const std::uint32_t v = lit >> 1;
    if (refs_[v]++ || !aig_.is_gate(v))
        return 0;
    const Gate gate = aig_.gate(v);
    return 1 + ref(gate.a) + ref(gate.b);
}

std::size_t Network::deref(Lit lit) {
    const std::uint32_t v = lit >> 1;
    if (--refs_[v] || !aig_.is_gate(v))
        return 0;
    const Gate gate = aig_.gate(v);
    return 1 + deref(gate.a) + deref(gate.b);
}

std::size_t Network::drop_fanins(std::uint32_t variable) {
    const Gate gate = aig_.gate(variable);
    return 1 + deref(gate.a) + deref(gate.b);
}

void Network::take_back_fanins(std::uint32_t variable) {
    const Gate gate = aig_.gate(variable);
    ref(gate.b);
    ref(gate.a);
}

bool Network::visit(std::uint32_t variable) {
    if (!alive(variable))
        return false;
    Gate& gate = aig_.gates[variable - aig_.first_gate()];
    // References to a replaced fan-in were handed on when it was replaced.
    Lit a = resolved(gate.a), b = resolved(gate.b);
    if (a > b)
        std::swap(a, b);
    gate = {a, b};
    const Lit found = find(a, b);
    if (found == Strash::kNone) {
        insert(variable);
        return true;
    }
    replace(variable, found);
    return false;
}

void Network::replace(std::uint32_t variable, Lit by) {
    const std::uint32_t count = refs_[variable];
    ref(by);
    refs_[by >> 1] += count - 1;
    refs_[variable] = 0;
    drop_fanins(variable);
    alias_[variable] = by;
}

Aig Network::result() const {
    // New gates stand behind older ones that read them: number again, from the outputs.
    Aig made;
    made.inputs = aig_.inputs;
    std::vector<Lit> map(aig_.variables(), Strash::kNone);
    for (std::size_t v = 0; v < aig_.first_gate(); ++v)
        map[v] = lit_of(v);
    std::vector<std::uint32_t> stack;
    for (const Lit output : aig_.outputs) {
        stack.push_back(resolved(output) >> 1);
        while (!stack.empty()) {
            const std::uint32_t v = stack.back();
            if (map[v] != Strash::kNone) {
                stack.pop_back();
                continue;
            }
            const Lit a = resolved(aig_.gate(v).a), b = resolved(aig_.gate(v).b);
            bool ready = true;
            for (const Lit lit : {a, b})
                if (map[lit >> 1] == Strash::kNone) {
                    stack.push_back(lit >> 1);
                    ready = false;
                }
            if (!ready)
                continue;
            stack.pop_back();
            map[v] = lit_of(made.variables());
            made.gates.push_back({map[a >> 1] ^ (a & 1), map[b >> 1] ^ (b & 1)});
        }
        const Lit lit = resolved(output);
        made.outputs.push_back(map[lit >> 1] ^ (lit & 1));
    }
    return strash(made);
}

} // namespace tapeout::circuit
