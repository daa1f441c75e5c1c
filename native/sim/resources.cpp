#include "sim/resources.h"

#include <utility>

namespace tapeout::sim {

namespace {

std::string numbered(std::string text, int64_t number) {
    text += std::to_string(number);
    return text;
}

} // namespace

Fabric::Fabric(const ChipParams& chip, int64_t channel_rate_milli)
    : dies_(static_cast<size_t>(chip.dies)), spaces_(chip.spaces.size()),
      cluster_cores_(static_cast<int>(chip.cores_per_cluster)) {
    const auto clusters = static_cast<int>(chip.dies * chip.clusters_per_die);
    levels_.assign(chip.shared.size(), std::vector<int>(static_cast<size_t>(clusters), -1));
    for (int64_t from = 0; from < chip.dies; ++from) {
        for (int64_t to = 0; to < chip.dies; ++to) {
            const std::string name = numbered(numbered("die ", from) + " to ", to);
            links_.push_back(from == to ? -1 : add(name, chip.die_link.rate_milli));
        }
    }
    for (int64_t die = 0; die < chip.dies; ++die)
        channels_.push_back(add(numbered("dram ", die), channel_rate_milli));
    for (int cluster = 0; cluster < clusters; ++cluster) {
        const std::string name = numbered("cluster ", cluster);
        const int64_t rate = chip.cluster_port.rate_milli;
        ports_.push_back({add(name + " in", rate), add(name + " out", rate)});
    }
    for (int cluster = 0; cluster < clusters; ++cluster)
        add_cluster(chip, cluster);
    if (cluster_cores_ == 1)
        find_own();
}

// Where a core has a port for itself, bursts come to it as they leave the engine, one command after the other.
void Fabric::find_own() {
    const auto each = [&](auto visit) { // every route with the queue that takes it
        for (size_t i = 0; i < space_.size(); ++i) {
            for (Route& route : space_[i])
                visit(route, i / spaces_);
        }
        for (size_t i = 0; i < cache_.size(); ++i)
            visit(cache_[i], i);
        for (size_t i = 0; i < dram_.size(); ++i)
            visit(dram_[i], i / dies_);
    };
    constexpr size_t kNone = SIZE_MAX, kMany = SIZE_MAX - 1;
    std::vector<size_t> user(resources.size(), kNone); // of each resource
    each([&](const Route& route, size_t queue) {
        for (uint32_t hop = 0; hop < route.hops; ++hop) {
            size_t& known = user[static_cast<size_t>(route.resource[hop])];
            known = hop == 0 && route.hops > 1 && (known == kNone || known == queue) ? queue : kMany;
        }
    });
    each([&](Route& route, size_t queue) {
        route.own = route.hops > 0 && user[static_cast<size_t>(route.resource[0])] == queue;
    });
}

int Fabric::add(std::string name, int64_t rate_milli) {
    resources.push_back({std::move(name), rate_milli, 0, 0});
    return static_cast<int>(resources.size()) - 1;
}

int Fabric::level(const ChipParams& chip, size_t shared, int cluster) {
    const Shared& memory = chip.shared[shared];
    const bool one = memory.scope == Scope::chip;
    int& resource = levels_[shared][one ? 0 : static_cast<size_t>(cluster)];
    if (resource < 0) {
        const std::string name = numbered("shared ", static_cast<int64_t>(shared));
        resource = add(one ? name : numbered(name + " ", cluster), memory.port.rate_milli);
    }
    return resource;
}

void Fabric::append(Route& route, int resource, int64_t latency_cycles) const {
    if (resources[static_cast<size_t>(resource)].rate_milli)
        route.resource[route.hops++] = resource;
    route.latency_ticks += latency_cycles * kTicksPerCycle;
}

// Die link between a core's die and the home of data on another.
void Fabric::append_link(const ChipParams& chip, Route& route, bool store, int64_t here, int64_t home) const {
    const int64_t from = store ? here : home, to = store ? home : here;
    if (home != here)
        append(route, links_[static_cast<size_t>(from * chip.dies + to)], chip.die_link.latency_cycles);
}

// The ways to the slices of a distributed memory, by the cluster that holds them.
std::vector<Route> Fabric::slices(const ChipParams& chip, size_t shared, int cluster, bool store) {
    std::vector<Route> ways;
    for (int home = 0; home < static_cast<int>(ports_.size()); ++home) {
        Route& way = ways.emplace_back();
        if (home != cluster) {
            append(way, ports_[static_cast<size_t>(cluster)][store], chip.cluster_port.latency_cycles);
            append_link(chip, way, store, cluster / chip.clusters_per_die, home / chip.clusters_per_die);
            append(way, ports_[static_cast<size_t>(home)][!store], chip.cluster_port.latency_cycles);
        }
        append(way, level(chip, shared, home), chip.shared[shared].port.latency_cycles);
    }
    return ways;
}

void Fabric::add_cluster(const ChipParams& chip, int cluster) {
    int cache = -1;
    for (size_t s = 0; s < chip.shared.size() && cache < 0; ++s)
        cache = chip.shared[s].hardware ? static_cast<int>(s) : -1;
    for (const bool store : {false, true}) {
        Route way;
        append(way, ports_[static_cast<size_t>(cluster)][store], chip.cluster_port.latency_cycles);
        for (const int number : chip.spaces) {
            const auto shared = static_cast<size_t>(number);
            const Scope scope = chip.shared[shared].scope;
            if (scope == Scope::distributed) {
                space_.push_back(slices(chip, shared, cluster, store));
                continue;
            }
            Route route = scope == Scope::chip ? way : Route{};
            append(route, level(chip, shared, cluster), chip.shared[shared].port.latency_cycles);
            space_.push_back({route});
        }
        if (cache >= 0) {
            const auto shared = static_cast<size_t>(cache);
            const int resource = level(chip, shared, cluster);
            const int64_t latency = chip.shared[shared].port.latency_cycles;
            Route hit = way;
            hit.latency_ticks += latency * kTicksPerCycle;
            hit.hold = hit.hops;
            hit.resource[hit.hops++] = resource;
            cache_.push_back(hit);
            append(way, resource, latency);
        }
        const int64_t here = cluster / chip.clusters_per_die;
        for (int64_t home = 0; home < chip.dies; ++home) {
            Route route = way;
            append_link(chip, route, store, here, home);
            append(route, channels_[static_cast<size_t>(home)], chip.dram_latency_cycles);
            dram_.push_back(route);
        }
    }
}

} // namespace tapeout::sim
