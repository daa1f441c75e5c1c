// Shared resources of the timing executor and the ways through them (rules 11 to 14 of docs/timing.md).
#pragma once

#include "sim/calendar.h"
#include "sim/dma_walk.h"
#include "sim/program.h"

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace tapeout::sim {

// A good mixing step for hashes (finaliser of splitmix64).
constexpr uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

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
    const Route& hit_route(int core) const { return hit_[static_cast<size_t>(core / cluster_cores_)]; }
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
    void add_cluster(const ChipParams& chip, int cluster, const std::vector<int>& channels);
    void find_own();
    std::vector<Route> slices(const ChipParams& chip, size_t shared, int cluster, bool store);

    size_t dies_, spaces_;
    int cluster_cores_;
    std::vector<std::vector<int>> levels_;  // resource by shared level and cluster (or 0), -1: not yet made
    std::vector<int> links_;                // by source die and destination die
    std::vector<std::array<int, 2>> ports_; // of every cluster, in and out
    std::vector<std::vector<Route>> space_;
    std::vector<Route> hit_, dram_;
};

// A load that brings a tile, for the bursts of later hits that have to wait for it.
struct Fill {
    int64_t arrived = -1; // tick at which all its bursts have arrived, -1: not yet known
    std::vector<Event> held;
};

// What a load is known by: tensor, origin, extents, offset.
struct TileKey {
    std::array<int64_t, 2 * kMaxDims + 2> words{};
    bool operator==(const TileKey&) const = default;
    uint64_t hash() const;
};

struct TileHash {
    size_t operator()(const TileKey& key) const { return static_cast<size_t>(key.hash()); }
};

// What the present slots make of a DMA command.
struct Valued {
    Footprint box;
    TileKey key; // only where there is a cache
};

// A hardware-managed level: whole tiles, the least recently used first out.
class TileCache {
public:
    struct Tile {
        TileKey key;
        Footprint box;
        std::shared_ptr<Fill> fill;
        uint64_t used; // number of the access that used it last
    };

    explicit TileCache(int64_t capacity) : capacity_(capacity) {}
    TileCache(const TileCache& other);
    TileCache(TileCache&&) = default;
    TileCache& operator=(TileCache&&) = default;
    TileCache& operator=(const TileCache&) = delete;
    ~TileCache() = default;

    // The tile, now the most recently used, or null; `age`: accesses since its last use.
    const Tile* find(const TileKey& key, uint64_t& age);
    void keep(const TileKey& key, const Footprint& box, std::shared_ptr<Fill> fill);
    // Removes what overlaps the box; the result says which tiles went, by their ages.
    uint64_t drop(const Footprint& box);

    std::list<Tile>& tiles() { return tiles_; } // the most recently used first
    const std::list<Tile>& tiles() const { return tiles_; }

private:
    using Place = std::list<Tile>::iterator;
    // Tiles by the lowest byte of their boxes, one map for each power of two that bounds their length: what overlaps
    // a box begins at most so much before it.
    using ByFirst = std::multimap<int64_t, Place>;
    void remove(Place tile);
    ByFirst& lengths(const Footprint& box);

    int64_t capacity_, used_ = 0;
    uint64_t accesses_ = 0;
    std::array<ByFirst, 64> by_length_;
    std::list<Tile> tiles_;
    std::unordered_map<TileKey, Place, TileHash> by_key_;
};

// The caches of a chip: none, one, or one for each cluster.
class Caches {
public:
    explicit Caches(const ChipParams& chip);

    struct Access {
        bool hit = false;
        std::shared_ptr<Fill> fill; // of the tile: on a hit to wait for, on a miss to bring
        uint64_t outcome = 0;       // equal outcomes from equal caches leave equal caches
    };
    Access load(int core, const Dma& dma, const Valued& valued, std::shared_ptr<Fill> fill);
    uint64_t store(const Valued& valued);

    bool empty() const { return caches_.empty(); }
    std::vector<TileCache>& all() { return caches_; }
    const std::vector<TileCache>& all() const { return caches_; }

private:
    int cluster_cores_;
    std::vector<TileCache> caches_;
};

} // namespace tapeout::sim
