#include "circuit/aig.h"

#include <bit>

namespace tapeout::circuit {

namespace {

// Trivial results of a <= b; kNone where a gate is needed.
Lit simplify(Lit a, Lit b) {
    if (a == 0 || (a ^ 1) == b)
        return 0;
    if (a == 1 || a == b)
        return b;
    return Strash::kNone;
}

} // namespace

Strash::Strash(std::size_t inputs, std::size_t expected_gates) : table_(std::bit_ceil(2 * expected_gates + 64), 0) {
    aig.inputs = inputs;
    aig.gates.reserve(expected_gates);
}

std::size_t Strash::slot(Lit a, Lit b) const {
    const std::uint64_t key = (std::uint64_t{a} << 32 | b) * 0x9E3779B97F4A7C15ull;
    const std::size_t mask = table_.size() - 1;
    std::size_t at = (key >> 32) & mask;
    while (const std::uint32_t variable = table_[at]) {
        const Gate& gate = aig.gate(variable);
        if (gate.a == a && gate.b == b)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

void Strash::grow() {
    table_.assign(table_.size() * 2, 0);
    for (std::size_t v = aig.first_gate(); v < aig.variables(); ++v)
        table_[slot(aig.gate(v).a, aig.gate(v).b)] = static_cast<std::uint32_t>(v);
}

Lit Strash::and_(Lit a, Lit b) {
    if (a > b)
        std::swap(a, b);
    if (const Lit simple = simplify(a, b); simple != kNone)
        return simple;
    std::size_t at = slot(a, b);
    if (table_[at])
        return lit_of(table_[at]);
    if (2 * (aig.gates.size() + 1) > table_.size()) {
        grow();
        at = slot(a, b);
    }
    table_[at] = static_cast<std::uint32_t>(aig.variables());
    aig.gates.push_back({a, b});
    return lit_of(table_[at]);
}

std::vector<Lit> Strash::place(const std::vector<Gate>& gates, const std::vector<Lit>& outputs) {
    std::vector<Lit> inputs(aig.inputs);
    for (std::size_t input = 0; input < aig.inputs; ++input)
        inputs[input] = lit_of(1 + input);
    return place(gates, outputs, inputs);
}

std::vector<Lit> Strash::place(const std::vector<Gate>& gates, const std::vector<Lit>& outputs,
                               const std::vector<Lit>& inputs) {
    std::vector<Lit> made{Lit{0}};
    made.insert(made.end(), inputs.begin(), inputs.end());
    const auto literal = [&](Lit at) { return made[at / 2] ^ (at & 1); };
    for (const Gate& gate : gates)
        made.push_back(and_(literal(gate.a), literal(gate.b)));
    std::vector<Lit> result;
    for (const Lit output : outputs)
        result.push_back(literal(output));
    return result;
}

Lit Strash::find(Lit a, Lit b) const {
    if (a > b)
        std::swap(a, b);
    if (const Lit simple = simplify(a, b); simple != kNone)
        return simple;
    const std::uint32_t variable = table_[slot(a, b)];
    return variable ? lit_of(variable) : kNone;
}

std::vector<char> cone(const Aig& aig, const std::vector<Lit>& roots) {
    std::vector<char> reach(aig.variables(), 0);
    for (const Lit root : roots)
        reach[root >> 1] = 1;
    for (std::size_t v = aig.variables(); v-- > aig.first_gate();)
        if (reach[v])
            reach[aig.gate(v).a >> 1] = reach[aig.gate(v).b >> 1] = 1;
    return reach;
}

Aig strash(const Aig& aig) {
    const std::vector<char> reach = cone(aig, aig.outputs);
    Strash made(aig.inputs, aig.gates.size());
    std::vector<Lit> map(aig.variables());
    for (std::size_t v = 0; v < aig.first_gate(); ++v)
        map[v] = lit_of(v);
    const auto mapped = [&](Lit lit) { return map[lit >> 1] ^ (lit & 1); };
    for (std::size_t v = aig.first_gate(); v < aig.variables(); ++v)
        if (reach[v])
            map[v] = made.and_(mapped(aig.gate(v).a), mapped(aig.gate(v).b));
    for (const Lit output : aig.outputs)
        made.aig.outputs.push_back(mapped(output));
    // Merging can leave gates without a reader; once more where it did.
    const std::vector<char> used = cone(made.aig, made.aig.outputs);
    for (std::size_t v = made.aig.first_gate(); v < made.aig.variables(); ++v)
        if (!used[v])
            return strash(made.aig);
    return made.aig;
}

} // namespace tapeout::circuit
