// Shared resources of the timing executor and the ways through them (rules 11 to 14 of docs/timing.md).
#pragma once

#include "sim/calendar.h"
#include "sim/program.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tapeout::sim {

// First come, first served; times in ticks.
struct Resource {
    std::string name;
    int64_t rate_milli = 0; // thousandths of a byte per cycle, 0: unlimited
    int64_t free = 0;
    int64_t busy = 0;
    int64_t usual_bytes = 0, usual_ticks = 0; // most bursts are of one size

    int64_t service(int64_t bytes) const {
        return rate_milli ? ceil_div(bytes * kTicksPerCycle * 1000, rate_milli) : 0;
    }
    int64_t serve(int64_t arrival, int64_t bytes) {
        if (!rate_milli)
            return arrival;
        if (bytes != usual_bytes) {
            usual_bytes = bytes;
            usual_ticks = service(bytes);
        }
        busy += usual_ticks;
        return free = (arrival > free ? arrival : free) + usual_ticks;
    }
};

// The shared resources that a burst passes after its engine; those without a limit are left out, except a
// cache on a hit, where a burst may have to wait (`hold`).
struct Route {
    uint32_t hops = 0;
    std::array<int32_t, 4> resource{};
    int64_t latency_ticks = 0;
    uint32_t hold = ~0u;
    bool own = false; // the first resource serves one queue only and is not the last: it is as good as its engine
};

// All shared resources of a chip, and its routes.
class Fabric {
public:
    // `channel_rate_milli` is the rate of one die's DRAM channel.
    Fabric(const ChipParams& chip, int64_t channel_rate_milli);

    std::vector<Resource> resources;

    // The way to a tensor space, or the ways to every cluster's slice of it.
    const std::vector<Route>& space_routes(int core, bool store, int space) const {
        return space_[at(core, store, static_cast<size_t>(space - 1), spaces_)];
    }
    // The way to the cache and no further.
    const Route& cache_route(int core, bool store) const { return cache_[at(core, store, 0, 1)]; }
    Resource& channel(int64_t die) { return resources[static_cast<size_t>(channels_[static_cast<size_t>(die)])]; }
    // The ways to every die's channel, by die.
    const Route* dram_routes(int core, bool store) const { return &dram_[at(core, store, 0, dies_)]; }

private:
    size_t at(int core, bool store, size_t item, size_t items) const {
        return (static_cast<size_t>(core / cluster_cores_) * 2 + store) * items + item;
    }
    int add(std::string name, int64_t rate_milli);
    int level(const ChipParams& chip, size_t shared, int cluster);
    void append(Route& route, int resource, int64_t latency_cycles) const;
    void append_link(const ChipParams& chip, Route& route, bool store, int64_t here, int64_t home) const;
    void add_cluster(const ChipParams& chip, int cluster);
    void find_own();
    std::vector<Route> slices(const ChipParams& chip, size_t shared, int cluster, bool store);

    size_t dies_, spaces_;
    int cluster_cores_;
    std::vector<std::vector<int>> levels_;  // resource by shared level and cluster (or 0), -1: not yet made
    std::vector<int> links_;                // by source die and destination die
    std::vector<std::array<int, 2>> ports_; // of every cluster, in and out
    std::vector<std::vector<Route>> space_;
    std::vector<Route> cache_, dram_;
    std::vector<int> channels_; // by die
};

// A load that brings something to a cache, for the bursts of later hits that have to wait for it.
struct Fill {
    int64_t arrived = -1; // tick at which all its bursts have arrived, -1: not yet known
    std::vector<Event> held;
};

} // namespace tapeout::sim
