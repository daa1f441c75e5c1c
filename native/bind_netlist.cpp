// Python face of the netlist core (src/tapeout/circuit): conversions only.

#include "circuit/evaluate.h"

#include <algorithm>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <stdexcept>

namespace nb = nanobind;
namespace circuit = tapeout::circuit;

namespace {

using Fanins = nb::ndarray<const std::uint32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Literals = nb::ndarray<const std::uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const std::uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using RowsOut = nb::ndarray<std::uint64_t, nb::numpy, nb::ndim<2>, nb::c_contig>;

// Checks what the core relies on: literals that exist, and topological order.
circuit::Aig to_aig(std::size_t inputs, const Fanins& fanins, const Literals& outputs) {
    circuit::Aig aig;
    aig.inputs = inputs;
    aig.gates.resize(fanins.shape(0));
    for (std::size_t i = 0; i < aig.gates.size(); ++i) {
        const circuit::Gate gate{fanins(i, 0), fanins(i, 1)};
        if ((gate.a >> 1) >= 1 + inputs + i || (gate.b >> 1) >= 1 + inputs + i)
            throw std::invalid_argument("a fan-in of node " + std::to_string(i) + " does not stand before it");
        aig.gates[i] = gate;
    }
    aig.outputs.assign(outputs.data(), outputs.data() + outputs.size());
    for (const circuit::Lit output : aig.outputs)
        if ((output >> 1) >= aig.variables())
            throw std::invalid_argument("an output names a node that is not there");
    return aig;
}

RowsOut new_rows(std::size_t rows, std::size_t words) {
    auto* data = new std::uint64_t[std::max<std::size_t>(1, rows * words)];
    const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::uint64_t*>(p); });
    return RowsOut(data, {rows, words}, owner);
}

RowsOut run(const circuit::Evaluator& evaluator, const Rows& rows, unsigned threads) {
    if (rows.shape(1) != circuit::row_words(evaluator.input_bits()))
        throw std::invalid_argument("rows have the wrong width");
    const RowsOut out = new_rows(rows.shape(0), circuit::row_words(evaluator.output_bits()));
    const nb::gil_scoped_release release;
    evaluator.run(rows.data(), out.data(), rows.shape(0), threads);
    return out;
}

} // namespace

void bind_netlist(nb::module_& m) {
    nb::class_<circuit::Evaluator>(m, "Evaluator", "An and-inverter graph ready to evaluate rows.")
        .def(
            "__init__",
            [](circuit::Evaluator* self, std::size_t inputs, const Fanins& fanins, const Literals& outputs) {
                new (self) circuit::Evaluator(to_aig(inputs, fanins, outputs));
            },
            nb::arg("inputs"), nb::arg("fanins"), nb::arg("outputs"))
        .def("run", &run, nb::arg("rows"), nb::arg("threads") = 0,
             "Output rows of input rows; see tapeout.circuit.evaluate.");
}
