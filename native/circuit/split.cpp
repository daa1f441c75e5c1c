// Which input to set for a proof by cases.

#include "circuit/prove.h"
#include "circuit/slices.h"

#include <algorithm>
#include <limits>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kPlanes = 24;

// Each of the 512 lanes is one assignment of one input; a gate is known 0, known 1, or open in a lane.
struct Known {
    Lanes zero, one;
};

struct Spread {
    const Gate* gates;
    std::size_t count, first;
    const Lit* outputs;
    std::size_t output_count;
    Known* known;  // by variable; of the inputs given
    Lanes* needed; // by variable
    Lanes* planes; // kPlanes: how many gates are left in each lane, bit by bit
};

TAPEOUT_INLINE Known at(const Known* known, Lit lit) {
    const Known k = known[lit >> 1];
    return (lit & 1) ? Known{k.one, k.zero} : k;
}

TAPEOUT_CLONES
void count_left(const Spread& s) {
    s.known[0] = {~Lanes{}, Lanes{}};
    for (std::size_t i = 0; i < s.count; ++i) {
        const Known a = at(s.known, s.gates[i].a), b = at(s.known, s.gates[i].b);
        s.known[s.first + i] = {a.zero | b.zero, a.one & b.one};
    }
    std::fill_n(s.needed, s.first + s.count, Lanes{});
    std::fill_n(s.planes, kPlanes, Lanes{});
    for (std::size_t i = 0; i < s.output_count; ++i)
        s.needed[s.outputs[i] >> 1] = ~Lanes{};
    for (std::size_t i = s.count; i-- > 0;) {
        const Gate gate = s.gates[i];
        const Known own = s.known[s.first + i], a = at(s.known, gate.a), b = at(s.known, gate.b);
        const Lanes open = s.needed[s.first + i] & ~own.zero & ~own.one;
        s.needed[gate.a >> 1] |= open;
        s.needed[gate.b >> 1] |= open;
        // With a fan-in that is 1 the gate is a wire.
        Lanes carry = open & ~a.one & ~b.one;
        for (std::size_t p = 0; p < kPlanes; ++p) {
            const Lanes sum = s.planes[p] ^ carry;
            carry &= s.planes[p];
            s.planes[p] = sum;
            if (p % 4 == 3) {
                std::uint64_t any = 0;
                for (std::size_t w = 0; w < kLaneWords; ++w)
                    any |= carry[w];
                if (!any)
                    break;
            }
        }
    }
}

} // namespace

std::uint32_t best_split(const Aig& graph) {
    const std::vector<char> reach = cone(graph, graph.outputs);
    std::vector<std::uint32_t> inputs;
    for (std::uint32_t v = 1; v <= graph.inputs; ++v)
        if (reach[v])
            inputs.push_back(v);
    std::vector<Slot> memory(3 * graph.variables() + kPlanes);
    auto* const lanes = reinterpret_cast<Lanes*>(memory.data());
    const Spread spread{graph.gates.data(),
                        graph.gates.size(),
                        graph.first_gate(),
                        graph.outputs.data(),
                        graph.outputs.size(),
                        reinterpret_cast<Known*>(lanes),
                        lanes + 2 * graph.variables(),
                        lanes + 3 * graph.variables()};
    std::uint32_t best = 0;
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    for (std::size_t from = 0; from < inputs.size(); from += kLanes / 2) {
        const std::size_t count = std::min(kLanes / 2, inputs.size() - from);
        std::fill_n(memory.begin(), 2 * graph.first_gate(), Slot{});
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t value = 0; value < 2; ++value)
                memory[2 * inputs[from + i] + value].words[i / 32] |= std::uint64_t{1} << (2 * i + value) % 64;
        count_left(spread);
        const Slot* planes = &memory[3 * graph.variables()];
        for (std::size_t i = 0; i < count; ++i) {
            std::uint64_t left = 0;
            for (std::size_t value = 0; value < 2; ++value)
                for (std::size_t p = 0; p < kPlanes; ++p)
                    left += (planes[p].words[i / 32] >> (2 * i + value) % 64 & 1) << p;
            if (left < least) {
                least = left;
                best = inputs[from + i];
            }
        }
    }
    return best;
}

Aig cofactor(const Aig& graph, std::uint32_t input, bool value) {
    Strash made(graph.inputs, graph.gates.size());
    std::vector<Lit> map(graph.variables());
    for (std::size_t v = 0; v < graph.first_gate(); ++v)
        map[v] = lit_of(v);
    map[input] = value ? 1 : 0;
    const auto mapped = [&](Lit lit) { return map[lit >> 1] ^ (lit & 1); };
    for (std::size_t v = graph.first_gate(); v < graph.variables(); ++v)
        map[v] = made.and_(mapped(graph.gate(v).a), mapped(graph.gate(v).b));
    for (const Lit output : graph.outputs)
        made.aig.outputs.push_back(mapped(output));
    return strash(made.aig);
}

} // namespace tapeout::circuit
