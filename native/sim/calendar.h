// The timing executor's event queue: a wheel of one-cycle buckets, a small heap for the present cycle, and a
// heap for what is further away than the wheel. Constant time for bursts, which come within a few hundred
// cycles.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace tapeout::sim {

inline constexpr int64_t kTicksPerCycle = 960;

constexpr int64_t ceil_div(int64_t a, int64_t b) {
    return a / b + (a % b > 0);
}

// Rule 7: the order at one moment.
enum class Phase : uint8_t { completion, control, start, burst };

// `major` orders by tick in the cycle, phase, core, queue; `minor` by command and burst.
struct Event {
    uint64_t major = 0;
    uint64_t minor = 0;
    int64_t cycle = 0;
    int32_t next = -1; // in a bucket's list
    uint32_t hop = 0;

    static uint64_t order(int64_t tick_in_cycle, Phase phase, int core, int queue) {
        return static_cast<uint64_t>(tick_in_cycle) << 32 | static_cast<uint64_t>(phase) << 28 |
               static_cast<uint64_t>(core) << 4 | static_cast<uint64_t>(queue);
    }
    int64_t tick() const { return cycle * kTicksPerCycle + static_cast<int64_t>(major >> 32); }
    Phase phase() const { return static_cast<Phase>(major >> 28 & 15); }
    int core() const { return static_cast<int>(major >> 4 & 0xffffff); }
    int queue() const { return static_cast<int>(major & 15); }
    uint32_t number() const { return static_cast<uint32_t>(minor >> 32); } // the command's in its queue
    uint32_t burst() const { return static_cast<uint32_t>(minor); }
};

class Calendar {
public:
    Calendar() : heads_(kBuckets, -1) {}

    int64_t now() const { return now_; } // in cycles

    void push(const Event& event) {
        if (event.cycle == now_) {
            present_.insert(std::upper_bound(present_.begin(), present_.end(), event, later), event);
        } else if (event.cycle - now_ < kBuckets) {
            put(event);
        } else {
            far_.push_back(event);
            std::push_heap(far_.begin(), far_.end(), much_later);
        }
    }

    // The least event of all; false when there is none.
    bool pop(Event& event) {
        if (present_.empty() && !advance())
            return false;
        event = present_.back();
        present_.pop_back();
        return true;
    }

    // Every event under way, in order.
    std::vector<Event> all() const {
        std::vector<Event> events(present_);
        for (const int32_t head : heads_) {
            for (int32_t i = head; i >= 0; i = pool_[static_cast<size_t>(i)].next)
                events.push_back(pool_[static_cast<size_t>(i)]);
        }
        events.insert(events.end(), far_.begin(), far_.end());
        std::sort(events.begin(), events.end(),
                  [](const Event& a, const Event& b) { return a.cycle != b.cycle ? a.cycle < b.cycle : later(b, a); });
        return events;
    }

    // Moves the present and every event by so many cycles.
    void shift(int64_t cycles) {
        std::vector<Event> events = all();
        present_.clear();
        far_.clear();
        pool_.clear();
        free_ = -1;
        std::fill(heads_.begin(), heads_.end(), -1);
        std::fill(std::begin(occupied_), std::end(occupied_), 0);
        now_ += cycles;
        for (Event& event : events) {
            event.cycle += cycles;
            push(event);
        }
    }

private:
    static constexpr int64_t kBuckets = 4096;

    static bool later(const Event& a, const Event& b) {
        return a.major != b.major ? a.major > b.major : a.minor > b.minor;
    }
    static bool much_later(const Event& a, const Event& b) { return a.cycle > b.cycle; }

    void put(const Event& event) {
        int32_t at = free_;
        if (at >= 0) {
            free_ = pool_[static_cast<size_t>(at)].next;
        } else {
            at = static_cast<int32_t>(pool_.size());
            pool_.emplace_back();
        }
        const auto bucket = static_cast<size_t>(event.cycle % kBuckets);
        Event& stored = pool_[static_cast<size_t>(at)];
        stored = event;
        stored.next = heads_[bucket];
        heads_[bucket] = at;
        occupied_[bucket / 64] |= uint64_t{1} << bucket % 64;
    }

    // Makes the next cycle that has an event the present one.
    bool advance() {
        int64_t next = next_bucket();
        if (!far_.empty() && (next < 0 || far_.front().cycle < next))
            next = far_.front().cycle;
        if (next < 0)
            return false;
        now_ = next;
        while (!far_.empty() && far_.front().cycle - now_ < kBuckets) {
            std::pop_heap(far_.begin(), far_.end(), much_later);
            put(far_.back());
            far_.pop_back();
        }
        take_bucket();
        return true;
    }

    void take_bucket() {
        const auto bucket = static_cast<size_t>(now_ % kBuckets);
        for (int32_t i = heads_[bucket]; i >= 0;) {
            Event& event = pool_[static_cast<size_t>(i)];
            present_.push_back(event);
            const int32_t next = event.next;
            event.next = free_;
            free_ = i;
            i = next;
        }
        heads_[bucket] = -1;
        occupied_[bucket / 64] &= ~(uint64_t{1} << bucket % 64);
        std::sort(present_.begin(), present_.end(), later);
    }

    // The first cycle after the present one whose bucket holds something, -1 if there is none.
    int64_t next_bucket() const {
        const auto from = static_cast<size_t>((now_ + 1) % kBuckets);
        constexpr size_t words = kBuckets / 64;
        for (size_t step = 0; step <= words; ++step) {
            const size_t word = (from / 64 + step) % words;
            uint64_t bits = occupied_[word];
            if (step == 0)
                bits &= ~uint64_t{0} << from % 64;
            else if (step == words)
                bits &= (uint64_t{1} << from % 64) - 1;
            if (bits) {
                const auto bucket = static_cast<int64_t>(word * 64 + static_cast<size_t>(std::countr_zero(bits)));
                return now_ + 1 + (bucket - static_cast<int64_t>(from) + kBuckets) % kBuckets;
            }
        }
        return -1;
    }

    int64_t now_ = 0;
    std::vector<Event> present_, far_, pool_;
    std::vector<int32_t> heads_;
    int32_t free_ = -1;
    uint64_t occupied_[kBuckets / 64] = {};
};

} // namespace tapeout::sim
