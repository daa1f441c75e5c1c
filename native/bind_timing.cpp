// Python face of the timing executor (src/tapeout/sim/timing.py): conversions only.

#include "sim/timing.h"

#include <memory>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>
#include <utility>

namespace nb = nanobind;
namespace sim = tapeout::sim;

namespace {

using Words = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Report = nb::typed<nb::dict, nb::str, nb::any>;
using Table = nb::ndarray<nb::numpy, int64_t, nb::ndim<2>>;

std::span<const int64_t> span_of(const Words& words) {
    return {words.data(), words.size()};
}

// A table of so many columns; the array owns it.
Table table(std::vector<int64_t> words, size_t columns) {
    auto owned = std::make_unique<std::vector<int64_t>>(std::move(words));
    int64_t* data = owned->data();
    const size_t rows = columns ? owned->size() / columns : 0;
    nb::capsule owner(owned.release(), [](void* p) noexcept { delete static_cast<std::vector<int64_t>*>(p); });
    return Table(data, {rows, columns}, owner);
}

// By core and queue: commands, busy, wait_semaphore, wait_engine, full.
Table queue_table(const sim::Counts& counts) {
    std::vector<int64_t> words;
    for (const sim::CoreCounts& core : counts.cores) {
        for (const sim::QueueCounts& q : core.queue)
            words.insert(words.end(), {q.commands, q.busy, q.wait_semaphore, q.wait_engine, q.full});
    }
    return table(std::move(words), 5);
}

// By kernel: first start, last end, bytes read, charged, written, charged, commands by queue, busy cycles by
// queue.
Table kernel_table(const sim::Machine& machine) {
    std::vector<int64_t> words;
    for (size_t i = 0; i < machine.counts().kernels.size(); ++i) {
        const sim::KernelCounts& k = machine.counts().kernels[i];
        words.insert(words.end(), {machine.first_start()[i], machine.last_end()[i], k.read_bytes, k.read_charged,
                                   k.written_bytes, k.written_charged});
        words.insert(words.end(), k.commands.begin(), k.commands.end());
        words.insert(words.end(), k.busy.begin(), k.busy.end());
    }
    return table(std::move(words), 6 + 2 * sim::kQueues);
}

Table event_table(const sim::Machine& machine) {
    std::vector<int64_t> words;
    words.reserve(machine.events().size() * 9);
    for (const sim::TraceEvent& e : machine.events()) {
        words.insert(words.end(),
                     {e.core, e.queue, e.kernel, e.opcode, e.command, e.entered, e.start, e.released, e.end});
    }
    return table(std::move(words), 9);
}

Report report(const sim::Machine& machine) {
    std::vector<std::string> names;
    std::vector<int64_t> busy, waits;
    for (const sim::Resource& resource : machine.resources()) {
        names.push_back(resource.name);
        busy.push_back(resource.busy);
    }
    for (const sim::CoreCounts& core : machine.counts().cores)
        waits.insert(waits.end(), {core.wait_barrier, core.wait_scalar});
    Report result;
    result["cycles"] = machine.cycles();
    result["queues"] = queue_table(machine.counts());
    result["control_waits"] = table(std::move(waits), 2);
    result["kernels"] = kernel_table(machine);
    result["resource_names"] = names;
    result["resource_busy"] = busy;
    result["cache_hit_bytes"] = machine.counts().cache_hit_bytes;
    result["cache_missed_bytes"] = machine.counts().cache_missed_bytes;
    result["skipped_turns"] = machine.counts().skipped_turns;
    result["events"] = event_table(machine);
    return result;
}

// On a fault of the program the dictionary has "fault", "cycle" and "command" instead.
Report run_timing(const Words& nodes, const Words& tensors, std::vector<int64_t> semaphores, int slots, int cores,
                  const std::unordered_map<std::string, std::vector<int64_t>>& chip_fields, int64_t channel_rate_milli,
                  int kernels, std::vector<std::vector<int64_t>> scalars, bool trace, bool skip) {
    const sim::Program program =
        sim::decode_program(span_of(nodes), span_of(tensors), std::move(semaphores), slots, cores);
    const sim::ChipParams chip = sim::ChipParams::from_fields(chip_fields);
    sim::Machine machine(program, chip, channel_rate_milli, kernels, std::move(scalars), trace, skip);
    try {
        nb::gil_scoped_release release;
        machine.run();
    } catch (const sim::TimingFault& fault) {
        Report result;
        result["fault"] = std::string(fault.what());
        result["cycle"] = fault.cycle;
        result["command"] = fault.command;
        return result;
    }
    return report(machine);
}

} // namespace

void bind_timing(nb::module_& m) {
    m.def("run_timing", &run_timing, nb::arg("nodes"), nb::arg("tensors"), nb::arg("semaphores"), nb::arg("slots"),
          nb::arg("cores"), nb::arg("chip"), nb::arg("channel_rate_milli"), nb::arg("kernels"), nb::arg("scalars"),
          nb::arg("trace"), nb::arg("skip"), "Times a program; see tapeout.sim.timing.");
}
