// And-inverter graphs as Python hands them over.
#pragma once

#include "circuit/aig.h"

#include <cstdint>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>
#include <stdexcept>
#include <string>
#include <tuple>

namespace tapeout::circuit {

using Fanins =
    nanobind::ndarray<const std::uint32_t, nanobind::shape<-1, 2>, nanobind::c_contig, nanobind::device::cpu>;
using Literals = nanobind::ndarray<const std::uint32_t, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using AigFields = std::tuple<std::size_t, Fanins, Literals>; // inputs, fan-ins, outputs

// Checks what the core relies on: literals that exist, and topological order.
inline Aig to_aig(std::size_t inputs, const Fanins& fanins, const Literals& outputs) {
    Aig aig;
    aig.inputs = inputs;
    aig.gates.resize(fanins.shape(0));
    for (std::size_t i = 0; i < aig.gates.size(); ++i) {
        const Gate gate{fanins(i, 0), fanins(i, 1)};
        if ((gate.a >> 1) >= 1 + inputs + i || (gate.b >> 1) >= 1 + inputs + i)
            throw std::invalid_argument("a fan-in of node " + std::to_string(i) + " does not stand before it");
        aig.gates[i] = gate;
    }
    aig.outputs.assign(outputs.data(), outputs.data() + outputs.size());
    for (const Lit output : aig.outputs)
        if ((output >> 1) >= aig.variables())
            throw std::invalid_argument("an output names a node that is not there");
    return aig;
}

inline Aig to_aig(const AigFields& fields) {
    return to_aig(std::get<0>(fields), std::get<1>(fields), std::get<2>(fields));
}

} // namespace tapeout::circuit
