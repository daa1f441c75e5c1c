// Python face of the published algorithm (src/tapeout/circuit/bsd.py): conversions only.

#include "circuit/bsd.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
namespace circuit = tapeout::circuit;

namespace {

using Outcome = nb::typed<nb::dict, nb::str, nb::any>;
using Fanins = nb::ndarray<std::uint32_t, nb::numpy, nb::shape<-1, 2>, nb::c_contig>;

Outcome describe(const circuit::BsdOutput& output) {
    Outcome result;
    result["nodes"] = output.nodes;
    result["order"] = output.order;
    result["widths"] = output.widths;
    result["queries"] = output.queries;
    result["orders"] = output.orders;
    result["speculated"] = output.speculated;
    result["merged"] = output.merged;
    result["forced"] = output.forced;
    result["cut"] = output.cut;
    result["merge_error"] = output.merge_error;
    result["validation_errors"] = output.validation_errors;
    result["exhaustive"] = output.exhaustive;
    return result;
}

Fanins to_array(const std::vector<circuit::Gate>& gates) {
    auto* data = new std::uint32_t[2 * gates.size() + 1];
    const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::uint32_t*>(p); });
    for (std::size_t i = 0; i < gates.size(); ++i) {
        data[2 * i] = gates[i].a;
        data[2 * i + 1] = gates[i].b;
    }
    return Fanins(data, {gates.size(), 2}, owner);
}

// Ctrl-C reaches the learner through here; `progress` may be None.
bool go_on(const nb::object& progress, std::size_t done, std::size_t total) {
    const nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0)
        throw nb::python_error();
    if (!progress.is_none())
        progress(done, total);
    return true;
}

nb::tuple learn(circuit::Oracle& oracle, std::uint64_t seed, std::size_t samples, std::size_t orders,
                std::size_t max_width, std::size_t max_depth, double accuracy, double budget_s,
                std::uint64_t budget_queries, unsigned threads, const nb::object& progress) {
    const circuit::BsdOptions options{seed,     samples,  orders,         max_width, max_depth,
                                      accuracy, budget_s, budget_queries, threads};
    circuit::BsdResult done;
    {
        const nb::gil_scoped_release release;
        done = circuit::learn_bsd(oracle, options, [&progress](std::size_t finished, std::size_t total) {
            return go_on(progress, finished, total);
        });
    }
    nb::list outputs;
    for (const circuit::BsdOutput& output : done.outputs)
        outputs.append(describe(output));
    return nb::make_tuple(to_array(done.aig.gates), done.aig.outputs, outputs, done.queries);
}

} // namespace

void bind_bsd(nb::module_& m) {
    m.attr("BSD_VALIDATION") = circuit::kBsdValidation;
    m.def("learn_bsd", &learn, nb::arg("oracle"), nb::arg("seed"), nb::arg("samples"), nb::arg("orders"),
          nb::arg("max_width"), nb::arg("max_depth"), nb::arg("accuracy"), nb::arg("budget_s"),
          nb::arg("budget_queries"), nb::arg("threads"), nb::arg("progress").none(),
          nb::sig("def learn_bsd(oracle: Oracle, seed: int, samples: int, orders: int, max_width: int, max_depth: int, "
                  "accuracy: float, budget_s: float, budget_queries: int, threads: int, progress: object | None) -> "
                  "tuple[numpy.typing.NDArray[numpy.uint32], list[int], list[dict[str, typing.Any]], int]"),
          "Fan-ins, output literals, how each output was learned, and all queries; see tapeout.circuit.bsd.");
}
