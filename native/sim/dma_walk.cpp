#include "sim/dma_walk.h"

#include <algorithm>
#include <numeric>

namespace tapeout::sim {

namespace {

int64_t floor_mod(int64_t a, int64_t b) {
    const int64_t rest = a % b;
    return rest < 0 ? rest + b : rest;
}

// Granules that one run is charged; a write pays twice for those that it covers partly, an adding one for
// all.
int64_t granules(int64_t phase, int64_t run, int64_t granule, bool store, bool add) {
    const int64_t end = phase + run;
    const int64_t touched = (end + granule - 1) / granule;
    if (!store)
        return touched;
    if (add)
        return 2 * touched;
    const bool head = phase != 0, tail = end % granule != 0;
    return touched + (touched == 1 ? (head || tail) : head + tail);
}

} // namespace

DmaWalk::DmaWalk(const Program& program, int64_t granule_bytes)
    : program_(program), granule_(granule_bytes), known_(program.commands.size()) {}

Footprint DmaWalk::footprint(int number, std::span<const int64_t> slots) {
    const Command& command = program_.commands[static_cast<size_t>(number)];
    const Dma& dma = std::get<Dma>(command.body);
    const Tensor& tensor = program_.tensors[static_cast<size_t>(dma.tensor)];
    const int64_t unit = dtype_bytes(tensor.dtype);
    Shape shape;
    shape.counts.count = dma.extents.count;
    Footprint box;
    box.first = tensor.base + dma.offset.value(slots);
    box.bytes = unit;
    for (int d = 0; d < dma.extents.count; ++d) {
        int64_t count = dma.extents[d];
        if (!dma.indexed || d != dma.index_dim) {
            const int64_t origin = dma.origin[static_cast<size_t>(d)].value(slots), low = std::max<int64_t>(origin, 0);
            count = std::min(origin + count, tensor.extents[d]) - low;
            box.first += low * tensor.strides[d];
        }
        if (count <= 0)
            return {};
        box.bytes *= count;
        shape.counts[d] = count;
    }
    box.counts = shape.counts;
    shape.phase = floor_mod(box.first, granule_);
    Known& known = known_[static_cast<size_t>(number)];
    if (!(known.latest == shape)) {
        const auto [found, added] = known.older.try_emplace(shape, 0);
        if (added)
            found->second = charge(command, shape);
        known.latest = shape;
        known.charged = found->second;
    }
    box.charged = known.charged;
    return box;
}

Runs DmaWalk::runs(int number, const Footprint& box) const {
    return runs_of(program_.commands[static_cast<size_t>(number)], box.counts, box.first);
}

Runs DmaWalk::runs_of(const Command& command, const Dims& counts, int64_t first) const {
    const Dma& dma = std::get<Dma>(command.body);
    const Tensor& tensor = program_.tensors[static_cast<size_t>(dma.tensor)];
    Runs runs{first, dtype_bytes(tensor.dtype), counts, tensor.strides};
    if (dma.indexed)
        runs.strides[dma.index_dim] = 0;
    const int joins = dma.indexed ? dma.index_dim + 1 : 0; // the index's rows are runs of their own
    for (int& left = runs.counts.count; left > joins; --left) {
        if (runs.counts[left - 1] != 1 && runs.strides[left - 1] != runs.bytes)
            break;
        runs.bytes *= runs.counts[left - 1];
    }
    return runs;
}

int64_t DmaWalk::charge(const Command& command, const Shape& shape) const {
    const Runs runs = runs_of(command, shape.counts, 0);
    return charge_of_runs(command, runs.counts, runs.strides, runs.bytes, shape.phase);
}

// Runs with the same place in their granule cost the same: counts them by place, dimension by dimension.
int64_t DmaWalk::charge_of_runs(const Command& command, const Dims& counts, const Dims& strides, int64_t run,
                                int64_t phase) const {
    const bool store = command.opcode == Opcode::Store, add = std::get<Dma>(command.body).add;
    std::vector<int64_t> places(static_cast<size_t>(granule_), 0);
    places[static_cast<size_t>(phase)] = 1;
    for (int d = 0; d < counts.count; ++d) {
        const int64_t step = floor_mod(strides[d], granule_), period = granule_ / std::gcd(granule_, step);
        std::vector<int64_t> moved(places.size(), 0);
        for (int64_t place = 0; place < granule_; ++place) {
            const int64_t runs = places[static_cast<size_t>(place)];
            for (int64_t i = 0; runs && i < std::min(period, counts[d]); ++i) {
                const int64_t times = (counts[d] - i + period - 1) / period;
                moved[static_cast<size_t>((place + i * step) % granule_)] += runs * times;
            }
        }
        places = moved;
    }
    int64_t total = 0;
    for (int64_t place = 0; place < granule_; ++place) {
        if (const int64_t runs = places[static_cast<size_t>(place)])
            total += runs * granules(place, run, granule_, store, add);
    }
    return total * granule_;
}

} // namespace tapeout::sim
