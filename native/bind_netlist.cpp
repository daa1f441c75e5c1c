// Python face of the netlist core (src/tapeout/circuit): conversions only.

#include "bind_aig.h"
#include "circuit/deadline.h"
#include "circuit/evaluate.h"
#include "circuit/improve.h"
#include "circuit/prove.h"

#include <algorithm>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <optional>
#include <stdexcept>
#include <tuple>

namespace nb = nanobind;
namespace circuit = tapeout::circuit;

namespace {

using circuit::AigFields;
using circuit::Fanins;
using circuit::Literals;
using circuit::to_aig;
using Rows = nb::ndarray<const std::uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using RowsOut = nb::ndarray<std::uint64_t, nb::numpy, nb::ndim<2>, nb::c_contig>;

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

using Verdicts = std::vector<int>; // by output: 0 open, 1 equal, 2 different

// Verdicts, the witness of each different output (bits of the inputs, else empty), cases, conflicts.
using ProofFields = std::tuple<Verdicts, std::vector<std::vector<int>>, std::size_t, std::uint64_t>;

ProofFields prove(const AigFields& a, const AigFields& b, const std::vector<bool>& skip,
                  std::vector<std::uint32_t> widths, std::uint64_t seed, double seconds, unsigned threads,
                  std::uint64_t gate_conflicts, std::uint64_t output_conflicts,
                  const std::optional<nb::typed<nb::callable, void(std::vector<int>)>>& progress) {
    const circuit::Aig first = to_aig(a), second = to_aig(b);
    if (first.inputs != second.inputs || first.outputs.size() != second.outputs.size() ||
        skip.size() != first.outputs.size())
        throw std::invalid_argument("the graphs have different inputs or outputs");
    const auto numbers = [](const std::vector<circuit::Verdict>& verdicts) {
        Verdicts out;
        for (const circuit::Verdict verdict : verdicts)
            out.push_back(static_cast<int>(verdict));
        return out;
    };
    circuit::Proof proof;
    {
        const nb::gil_scoped_release release;
        circuit::Prover prover(first, second, {skip.begin(), skip.end()},
                               {std::move(widths), seed, seconds, threads, gate_conflicts, output_conflicts});
        proof = prover.run([&](const std::vector<circuit::Verdict>& verdicts) {
            const nb::gil_scoped_acquire acquire;
            if (PyErr_CheckSignals())
                throw nb::python_error();
            if (progress)
                (*progress)(numbers(verdicts));
        });
    }
    std::vector<std::vector<int>> witnesses;
    for (const circuit::Vector& witness : proof.witnesses)
        witnesses.emplace_back(witness.begin(), witness.end());
    return {numbers(proof.verdicts), std::move(witnesses), proof.cases, proof.conflicts};
}

using GateArray = nb::ndarray<std::uint32_t, nb::numpy, nb::shape<-1, 2>, nb::c_contig>;
using LiteralArray = nb::ndarray<std::uint32_t, nb::numpy, nb::ndim<1>, nb::c_contig>;
using AigArrays = std::tuple<GateArray, LiteralArray>;

std::uint32_t* new_literals(std::size_t count, nb::capsule& owner) {
    auto* data = new std::uint32_t[std::max<std::size_t>(1, count)];
    owner = nb::capsule(data, [](void* p) noexcept { delete[] static_cast<std::uint32_t*>(p); });
    return data;
}

AigArrays to_arrays(const circuit::Aig& aig) {
    nb::capsule gates_owner, outputs_owner;
    std::uint32_t* gates = new_literals(2 * aig.gates.size(), gates_owner);
    for (std::size_t i = 0; i < aig.gates.size(); ++i) {
        gates[2 * i] = aig.gates[i].a;
        gates[2 * i + 1] = aig.gates[i].b;
    }
    std::uint32_t* outputs = new_literals(aig.outputs.size(), outputs_owner);
    std::copy(aig.outputs.begin(), aig.outputs.end(), outputs);
    return {GateArray(gates, {aig.gates.size(), 2}, gates_owner),
            LiteralArray(outputs, {aig.outputs.size()}, outputs_owner)};
}

AigArrays strash(const AigFields& fields) {
    const circuit::Aig aig = to_aig(fields);
    return to_arrays(circuit::strash(aig));
}

AigArrays sweep(const AigFields& fields, std::vector<std::uint32_t> widths, std::uint64_t seed, std::uint64_t conflicts,
                double seconds) {
    const circuit::Aig aig = circuit::strash(to_aig(fields));
    circuit::Aig swept;
    {
        const nb::gil_scoped_release release;
        const circuit::Deadline deadline(seconds);
        circuit::Sweeper sweeper(aig, {conflicts, std::move(widths), seed}, false, deadline.passed());
        sweeper.sweep();
        swept = sweeper.result();
    }
    return to_arrays(swept);
}

AigArrays minimise_round(circuit::Minimiser& minimiser, double seconds) {
    {
        const nb::gil_scoped_release release;
        const circuit::Deadline deadline(seconds);
        minimiser.round(deadline.passed());
    }
    return to_arrays(minimiser.best());
}

} // namespace

void bind_netlist(nb::module_& m) {
    nb::class_<circuit::Evaluator, circuit::Oracle>(m, "Evaluator", "An and-inverter graph ready to evaluate rows.")
        .def(
            "__init__",
            [](circuit::Evaluator* self, std::size_t inputs, const Fanins& fanins, const Literals& outputs) {
                new (self) circuit::Evaluator(to_aig(inputs, fanins, outputs));
            },
            nb::arg("inputs"), nb::arg("fanins"), nb::arg("outputs"))
        .def("run", &run, nb::arg("rows"), nb::arg("threads") = 0,
             "Output rows of input rows; see tapeout.circuit.evaluate.");
    m.def("strash", &strash, nb::arg("aig"), "Gates and outputs without equal and unused gates.");
    m.def("sweep", &sweep, nb::arg("aig"), nb::arg("widths"), nb::arg("seed"), nb::arg("conflicts"), nb::arg("seconds"),
          "Gates and outputs with equal functions merged; see tapeout.circuit.minimise.");
    nb::class_<circuit::Minimiser>(m, "Minimiser", "A graph that gets smaller in rounds.")
        .def(
            "__init__",
            [](circuit::Minimiser* self, const AigFields& fields, std::vector<std::uint32_t> widths,
               std::uint64_t seed) { new (self) circuit::Minimiser(to_aig(fields), std::move(widths), seed); },
            nb::arg("aig"), nb::arg("widths"), nb::arg("seed"))
        .def("round", &minimise_round, nb::arg("seconds"),
             "Gates and outputs after one more round; see tapeout.circuit.minimise.");
    m.def("prove_equal", &prove, nb::arg("a"), nb::arg("b"), nb::arg("skip"), nb::arg("widths"), nb::arg("seed"),
          nb::arg("seconds"), nb::arg("threads"), nb::arg("gate_conflicts"), nb::arg("output_conflicts"),
          nb::arg("progress").none(), "Proves outputs of two graphs equal; see tapeout.circuit.equivalence.");
}
