#include "circuit/circuit.h"

#include <algorithm>

namespace tapeout::circuit {

std::vector<Lit> place(Strash& gates, const Circuit& circuit, std::optional<FoldTrace>& fold,
                       const std::vector<Lit>& inputs) {
    std::vector<Lit> literals = circuit.outputs;
    fold = circuit.fold;
    if (fold)
        for (const auto* word : {&fold->inputs, &fold->state, &fold->record})
            literals.insert(literals.end(), word->begin(), word->end());
    literals = inputs.empty() ? gates.place(circuit.gates, literals) : gates.place(circuit.gates, literals, inputs);
    auto from = literals.begin() + static_cast<std::ptrdiff_t>(circuit.outputs.size());
    if (fold)
        for (auto* word : {&fold->inputs, &fold->state, &fold->record}) {
            std::copy_n(from, word->size(), word->begin());
            from += static_cast<std::ptrdiff_t>(word->size());
        }
    literals.resize(circuit.outputs.size());
    return literals;
}

} // namespace tapeout::circuit
