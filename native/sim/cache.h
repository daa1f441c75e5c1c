// Hardware-managed caches of the timing executor (rule 14 of docs/timing.md).
#pragma once

#include "sim/dma_walk.h"
#include "sim/program.h"

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tapeout::sim {

// What a cache makes of a command; what is fetched and written back is listed by die.
struct CacheAccess {
    int64_t missing = 0; // bytes that a load brings
    int64_t fill = 0;    // the latest load that brought something to a line that it hits, 0: none
    std::vector<std::pair<int64_t, int64_t>> background; // die, bytes
    int64_t fetched = 0, written = 0;                    // bytes in the background

    uint64_t outcome() const; // equal outcomes take equal time, but for the wait for `fill`
};

// Lines of kGranules granules, of which some are there; the line least recently used goes first.
class LineCache {
public:
    static constexpr int64_t kGranules = 64;

    LineCache(int64_t capacity_bytes, const ChipParams& chip);

    void load(const Runs& runs, int64_t number, CacheAccess& access);
    void store(const Runs& runs, bool add, CacheAccess& access);
    void drop(const Runs& runs); // what a store past the cache changes
    void make_room(CacheAccess& access);

private:
    struct Line {
        int64_t number = 0;
        uint64_t valid = 0, dirty = 0;
        int64_t fill = 0; // number of the load that brought something last
        int32_t older = -1, newer = -1;
    };
    template <typename F>
    void each_line(const Runs& runs, F visit) const;
    Line* find(int64_t number);
    Line& touch(int64_t number);
    void unlink(int32_t place);
    void link_newest(int32_t place);
    void remove(int32_t place);
    int64_t home(const Line& line) const;

    int64_t granule_, interleave_, dies_;
    int64_t room_, used_ = 0; // granules
    int32_t newest_ = -1, oldest_ = -1, latest_ = -1;
    std::vector<Line> lines_;
    std::vector<int32_t> spare_;
    std::unordered_map<int64_t, int32_t> places_; // by line number
};

// The caches of a chip: none, one that keeps stores, or one for each cluster that does not.
class Caches {
public:
    explicit Caches(const ChipParams& chip);

    CacheAccess load(int core, const Runs& runs);
    CacheAccess store(const Runs& runs, bool add);

    bool empty() const { return caches_.empty(); }
    bool keeps_stores() const { return keeps_stores_; }
    int64_t accesses() const { return accesses_; } // the number of the latest

private:
    int cluster_cores_;
    bool keeps_stores_ = false;
    int64_t accesses_ = 0;
    std::vector<LineCache> caches_;
};

} // namespace tapeout::sim
