// Races: which accesses nothing puts in order (docs/timing.md, "What is an error").
//
// Every queue of a core and its control processor is a thread of numbered steps. A clock says, for each thread, up to
// which step everything is known to come before. Within a cluster clocks are full; between clusters order comes only
// from chip barriers, so there a clock holds just the number of the last barrier passed ("epoch").
#pragma once

#include "sim/box.h"
#include "sim/program.h"

#include <cstdint>
#include <deque>
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
    bool crowded() const { return ranges_.size() > limit_; }
    size_t size() const { return ranges_.size(); }

    // Drops what `done(who)` says comes before everything still to be issued.
    template <class Done>
    void sweep(Done done) {
        for (size_t i = ranges_.size(); i > 0; --i) {
            if (done(records_[i - 1].who))
                remove(i - 1);
        }
        limit_ = std::max(kLeast, 2 * ranges_.size());
    }

private:
    static constexpr size_t kLeast = 64;
    struct Range {
        int64_t base, end;
    };
    struct Record {
        Box box;
        Who who;
        bool write;
    };
    void remove(size_t i);

    std::vector<Range> ranges_; // of `records_`, apart, because most comparisons end at them
    std::vector<Record> records_;
    size_t limit_ = kLeast;
};

} // namespace tapeout::sim
