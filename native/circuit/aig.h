// And-inverter graphs in the numbering of src/tapeout/circuit/netlist.py: literal = 2 * variable + complement, variable
// 0 is false, variables 1 ... inputs are the inputs, AND nodes follow in topological order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tapeout::circuit {

using Lit = std::uint32_t;

struct Gate {
    Lit a;
    Lit b;
};

inline Lit lit_of(std::size_t variable, bool complement = false) {
    return static_cast<Lit>(2 * variable + (complement ? 1 : 0));
}

struct Aig {
    std::size_t inputs = 0;
    std::vector<Gate> gates;
    std::vector<Lit> outputs;

    std::size_t first_gate() const { return 1 + inputs; }
    std::size_t variables() const { return first_gate() + gates.size(); }
    bool is_gate(std::size_t variable) const { return variable >= first_gate(); }
    const Gate& gate(std::size_t variable) const { return gates[variable - first_gate()]; }
};

// Builds a graph in which equal gates exist once. `find` looks without building.
class Strash {
public:
    explicit Strash(std::size_t inputs, std::size_t expected_gates = 0);
    Lit and_(Lit a, Lit b);
    Lit or_(Lit a, Lit b) { return and_(a ^ 1, b ^ 1) ^ 1; }
    Lit xor_(Lit a, Lit b) { // one form for all four phases
        const Lit phase = (a ^ b) & 1, x = a & ~Lit{1}, y = b & ~Lit{1};
        return or_(and_(x, y ^ 1), and_(x ^ 1, y)) ^ phase;
    }
    Lit mux(Lit select, Lit then, Lit other) {
        if (then == other)
            return then;
        return then == (other ^ 1) ? xor_(select, other) : or_(and_(select, then), and_(select ^ 1, other));
    }
    // Makes a circuit of the same inputs again; returns what became of its literals.
    std::vector<Lit> place(const std::vector<Gate>& gates, const std::vector<Lit>& outputs = {});
    // The same with literals in the place of its inputs.
    std::vector<Lit> place(const std::vector<Gate>& gates, const std::vector<Lit>& outputs,
                           const std::vector<Lit>& inputs);
    // The literal of a & b if it is trivial or exists; kNone if a gate would have to be made.
    Lit find(Lit a, Lit b) const;

    static constexpr Lit kNone = ~Lit{0};
    Aig aig;

private:
    std::size_t slot(Lit a, Lit b) const;
    void grow();

    std::vector<std::uint32_t> table_; // variable of a gate, 0 where free
};

// The same function without gates that no output needs, equal gates merged.
Aig strash(const Aig& aig);

// Sets reach[variable] for all that the literals depend on.
std::vector<char> cone(const Aig& aig, const std::vector<Lit>& roots);

} // namespace tapeout::circuit
