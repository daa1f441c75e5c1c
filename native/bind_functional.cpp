// Python face of the functional executor (src/tapeout/sim/machine.py): conversions only.

#include "sim/functional.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>
#include <optional>
#include <tuple>
#include <utility>

namespace nb = nanobind;
namespace sim = tapeout::sim;

namespace {

using Words = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ChipFields = std::unordered_map<std::string, std::vector<int64_t>>;
// address in DRAM, address of the host's bytes, bytes, written, read only
using SegmentFields = std::tuple<int64_t, uintptr_t, int64_t, bool, bool>;

std::span<const int64_t> span_of(const Words& words) {
    return {words.data(), words.size()};
}

using Outcome = nb::typed<nb::dict, nb::str, nb::any>;

Outcome report(const sim::SimFault& fault) {
    Outcome result;
    result["fault"] = fault.what;
    result["core"] = fault.core;
    result["command"] = fault.command;
    result["thread"] = fault.thread;
    result["address"] = fault.address;
    nb::list loops;
    for (const auto& [slot, count] : fault.loops)
        loops.append(nb::make_tuple(slot, count));
    result["loops"] = loops;
    return result;
}

// On a fault of the program the dictionary has "fault" and where it happened instead. The caller keeps the segments'
// arrays alive.
Outcome run_functional(const Words& nodes, const Words& tensors, std::vector<int64_t> semaphores, int slots, int cores,
                       const ChipFields& chip_fields, const std::vector<SegmentFields>& dram, bool exact, bool check,
                       std::optional<uint64_t> fuzz_seed) {
    const sim::Program program =
        sim::decode_program(span_of(nodes), span_of(tensors), std::move(semaphores), slots, cores);
    const sim::ChipParams chip = sim::ChipParams::from_fields(chip_fields);
    std::vector<sim::Segment> segments;
    for (const auto& [address, data, bytes, written, read_only] : dram)
        segments.push_back({address, reinterpret_cast<uint8_t*>(data), bytes, written, read_only});
    const sim::Options options{exact, check, fuzz_seed.has_value(), fuzz_seed.value_or(0)};
    sim::FunctionalResult done;
    try {
        nb::gil_scoped_release release;
        done = sim::run_functional(program, chip, std::move(segments), options);
    } catch (const sim::SimFault& fault) {
        return report(fault);
    }
    Outcome result;
    result["scalars"] = done.scalars;
    result["commands"] = done.commands;
    return result;
}

std::vector<std::string> names(std::span<const char* const> list) {
    return {list.begin(), list.end()};
}

} // namespace

void bind_functional(nb::module_& m) {
    m.def("run_functional", &run_functional, nb::arg("nodes"), nb::arg("tensors"), nb::arg("semaphores"),
          nb::arg("slots"), nb::arg("cores"), nb::arg("chip"), nb::arg("dram"), nb::arg("exact"), nb::arg("check"),
          nb::arg("fuzz_seed").none(), "Runs a program's values; see tapeout.sim.machine.");
    m.def("gemm_level", &sim::Gemm::level, "Instruction set level of the matrix product's kernel.");
    m.def(
        "codes",
        [] {
            return std::make_tuple(names(sim::kDTypeNames), names(sim::kVectorOpNames), names(sim::kOpcodeNames),
                                   names(sim::kRoleNames));
        },
        "Names behind the encoding's numbers: element types, vector operations, opcodes, roles.");
}
