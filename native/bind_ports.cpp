// Python face of black boxes in port form (src/tapeout/circuit/ports.py): conversions only.

#include "circuit/port_oracle.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <tuple>

namespace nb = nanobind;
using tapeout::circuit::Move;
using tapeout::circuit::Oracle;
using tapeout::circuit::PortOracle;

namespace {

using Moves = std::vector<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>>;
using Arrays = std::vector<std::tuple<unsigned, std::vector<std::uint32_t>, std::vector<std::uint32_t>>>;
using Ports = std::vector<
    std::tuple<std::uint32_t, std::vector<std::uint32_t>, std::vector<std::int16_t>, std::uint32_t, std::int32_t>>;

std::vector<Move> to_moves(const Moves& moves) {
    std::vector<Move> result;
    for (const auto& [from, to, width] : moves)
        result.push_back({from, to, width});
    return result;
}

std::vector<PortOracle::Port> to_ports(const Ports& ports) {
    std::vector<PortOracle::Port> result;
    for (const auto& [array, bits, table, value, enable] : ports)
        result.push_back({array, bits, table, value, enable});
    return result;
}

void make(PortOracle* self, Oracle& inner, std::size_t input_bits, std::size_t output_bits, const Moves& inputs,
          const Moves& outputs, const Arrays& arrays, const Ports& reads, const Ports& writes,
          const std::vector<std::uint32_t>& copies) {
    std::vector<PortOracle::Array> entries;
    for (const auto& [width, in, out] : arrays)
        entries.push_back({width, in, out});
    new (self) PortOracle(inner, input_bits, output_bits, to_moves(inputs), to_moves(outputs), std::move(entries),
                          to_ports(reads), to_ports(writes), copies);
}

} // namespace

void bind_ports(nb::module_& m) {
    nb::class_<PortOracle, Oracle>(m, "PortOracle", "A black box in port form; see native/circuit/port_oracle.h.")
        .def("__init__", &make, nb::arg("inner"), nb::arg("input_bits"), nb::arg("output_bits"), nb::arg("inputs"),
             nb::arg("outputs"), nb::arg("arrays"), nb::arg("reads"), nb::arg("writes"), nb::arg("copies"),
             nb::keep_alive<1, 2>());
}
