// Races: which accesses nothing puts in order (docs/timing.md, "What is an error").
//
// Every queue of a core and its control processor is a thread of numbered steps. A clock says, for each thread, up to
// which step everything is known to come before. Within a cluster clocks are full; between clusters order comes only
// from chip barriers, so there a clock holds just the number of the last barrier passed ("epoch").
#pragma once

#include "sim/box.h"
#include "sim/program.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace tapeout::sim {

inline constexpr int kThreads = kQueues + 1; // of a core: its queues, then control
inline constexpr int kControl = kQueues;

struct Clock {
    int64_t epoch = 0;
    std::vector<uint32_t> seen; // by thread of the cluster: core within the cluster * kThreads + thread

    void join(const Clock& other);
};

// One access: who, at which step of its thread, by which command (for messages).
struct Who {
    int core = 0;
    int thread = 0;
    uint32_t step = 0;
    int command = -1;
};

// Chip barriers so far: what of each thread of the chip came before each of them.
class Epochs {
public:
    explicit Epochs(int cores, int cores_per_cluster);
    // A barrier that joins these clocks of all cores; returns its number.
    int64_t add(const std::vector<Clock>& arrivals);
    // Forgets what barriers before `epoch` knew.
    void forget_before(int64_t epoch);
    uint32_t seen(int64_t epoch, int core, int thread) const;
    // Whether `who` comes before whatever has the clock `clock` in `core`.
    bool ordered(const Who& who, const Clock& clock, int core) const;
    // Takes over into `clock` what its epoch says of the core's own cluster.
    void refresh(Clock& clock, int core) const;
    int cluster_of(int core) const { return core / cores_per_cluster_; }
    int local_thread(int core, int thread) const { return core % cores_per_cluster_ * kThreads + thread; }

private:
    int cores_, cores_per_cluster_;
    int64_t first_ = 0; // epoch of the first one kept
    std::deque<std::vector<uint32_t>> known_;
};

struct Race {
    Who other;
    bool other_writes = false;
    int64_t address = -1; // -1: no race
};

// The accesses to one memory (or DRAM segment) that a later one may still collide with.
class AccessList {
public:
    // Checks an access against those held and adds it.
    Race add(const Box& box, bool write, const Who& who, const Clock& clock, const Epochs& epochs);
    bool crowded() const { return size_ > limit_; }
    size_t size() const { return size_; }

    // Drops what `done(who)` says comes before everything still to be issued.
    template <class Done>
    void sweep(Done done) {
        for (ByBase& records : by_length_)
            size_ -= std::erase_if(records, [&](const auto& record) { return done(record.second.who); });
        limit_ = std::max(kLeast, 2 * size_);
    }

private:
    static constexpr size_t kLeast = 64;
    struct Record {
        Box box;
        Who who;
        bool write;
    };
    // Records by the base of their boxes, one map for each power of two that bounds their length: what overlaps a box
    // begins at most so much before it. A gather has as many boxes as rows.
    using ByBase = std::multimap<int64_t, Record>;

    std::array<ByBase, 64> by_length_;
    size_t size_ = 0, limit_ = kLeast;
};

} // namespace tapeout::sim
