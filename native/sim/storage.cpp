#include "sim/storage.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace tapeout::sim {

void Storage::Free::operator()(uint8_t* p) const {
    std::free(p);
}

Storage::Storage(const ChipParams& chip, int cores, std::vector<Segment> dram) : chip_(chip) {
    std::sort(dram.begin(), dram.end(), [](const Segment& a, const Segment& b) { return a.address < b.address; });
    int64_t end = 0;
    for (const Segment& s : dram) {
        if (s.address < end)
            throw BadProgram("DRAM segments overlap at address " + std::to_string(s.address));
        end = s.address + s.bytes;
        Space& space = segments_.emplace_back("DRAM", s.address, s.bytes);
        space.data = s.data;
        space.initialised = s.written;
        space.read_only = s.read_only;
    }
    for (int core = 0; core < cores; ++core) {
        for (size_t m = 0; m < chip.memories.size(); ++m)
            locals_.emplace_back("memory " + std::to_string(m), 0, chip.memories[m].bytes);
    }
    const auto per_cluster = static_cast<int>(chip.cores_per_cluster);
    for (const int number : chip.spaces) {
        const Shared& level = chip.shared[static_cast<size_t>(number)];
        auto& instances = shared_.emplace_back();
        const int64_t bytes = level.bytes * (level.scope == Scope::distributed ? chip.clusters() : 1);
        for (int i = 0; i < (level.scope == Scope::cluster ? (cores + per_cluster - 1) / per_cluster : 1); ++i)
            instances.emplace_back("shared memory " + std::to_string(number), 0, bytes);
    }
}

// Zeroed pages come from the system only when they are touched.
void Storage::allocate(Space& space) {
    Bytes& bytes = owned_.emplace_back(static_cast<uint8_t*>(std::calloc(static_cast<size_t>(space.bytes + 64), 1)));
    if (!bytes)
        throw std::bad_alloc();
    space.data = bytes.get();
}

Space& Storage::local(int core, int memory) {
    if (static_cast<size_t>(memory) >= chip_.memories.size())
        throw Fault{"the chip has no memory " + std::to_string(memory)};
    Space& space = locals_[static_cast<size_t>(core) * chip_.memories.size() + static_cast<size_t>(memory)];
    if (!space.data)
        allocate(space);
    return space;
}

Space& Storage::find(int space, int core, int64_t base, int64_t end) {
    if (space > 0) {
        if (static_cast<size_t>(space) > shared_.size())
            throw Fault{"the chip has no shared memory for tensor space " + std::to_string(space)};
        auto& instances = shared_[static_cast<size_t>(space - 1)];
        Space& found =
            instances.size() == 1 ? instances[0] : instances[static_cast<size_t>(core / chip_.cores_per_cluster)];
        if (base < 0 || end > found.bytes)
            throw Fault{"access out of bounds of " + found.name, base < 0 ? base : std::max(base, found.bytes)};
        if (!found.data)
            allocate(found);
        return found;
    }
    auto after = std::upper_bound(segments_.begin(), segments_.end(), base,
                                  [](int64_t address, const Space& s) { return address < s.address; });
    if (after == segments_.begin())
        throw Fault{"access to DRAM outside of all its segments", base};
    Space& found = *--after;
    if (end > found.address + found.bytes)
        throw Fault{"access to DRAM outside of all its segments", std::max(base, found.address + found.bytes)};
    return found;
}

std::vector<Space*> Storage::common() {
    std::vector<Space*> all;
    for (Space& s : segments_)
        all.push_back(&s);
    for (auto& instances : shared_) {
        for (Space& s : instances)
            all.push_back(&s);
    }
    return all;
}

} // namespace tapeout::sim
