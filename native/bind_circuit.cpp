// Python face of the circuit half (src/tapeout/circuit, src/tapeout/cpu): conversions only.

#include "circuit/oracle.h"
#include "circuit/rv32.h"

#include <memory>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <string>

namespace nb = nanobind;
namespace circuit = tapeout::circuit;

namespace {

using Rows = nb::ndarray<const uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Answers = nb::ndarray<nb::numpy, uint64_t, nb::ndim<2>>;

Answers evaluate(circuit::Oracle& oracle, const Rows& rows) {
    const size_t words_in = circuit::row_words(oracle.input_bits());
    const size_t words_out = circuit::row_words(oracle.output_bits());
    if (rows.shape(1) != words_in) {
        const std::string what = "rows have " + std::to_string(rows.shape(1)) + " words of 64 bits, the oracle reads " +
                                 std::to_string(words_in);
        throw nb::value_error(what.c_str());
    }
    auto answers = std::make_unique_for_overwrite<uint64_t[]>(rows.shape(0) * words_out);
    if (oracle.concurrent()) {
        nb::gil_scoped_release release;
        oracle.evaluate(rows.data(), answers.get(), rows.shape(0));
    } else { // held, so that no other thread of Python asks meanwhile
        oracle.evaluate(rows.data(), answers.get(), rows.shape(0));
    }
    uint64_t* data = answers.release();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<uint64_t*>(p); });
    return Answers(data, {rows.shape(0), words_out}, owner);
}

std::unique_ptr<circuit::Oracle> rv32_oracle(const std::string& variant, bool ports) {
    return std::make_unique<circuit::Rv32Oracle>(circuit::rv32_variant(variant), ports);
}

} // namespace

void bind_circuit(nb::module_& m) {
    nb::class_<circuit::Oracle>(m, "Oracle",
                                "A black box from rows of bits to rows of bits; see native/circuit/oracle.h.")
        .def_prop_ro("input_bits", &circuit::Oracle::input_bits, "Bits of a question.")
        .def_prop_ro("output_bits", &circuit::Oracle::output_bits, "Bits of an answer.")
        .def_prop_ro("concurrent", &circuit::Oracle::concurrent, "May be asked by several threads at once.")
        .def("evaluate", &evaluate, nb::arg("rows"),
             "Answers rows [n, ceil(input_bits / 64)] with [n, ceil(output_bits / 64)]; ValueError for another width.");
    m.def("rv32_oracle", &rv32_oracle, nb::arg("variant"), nb::arg("ports"),
          "The processor's step; see tapeout.cpu.rv32.");
}
