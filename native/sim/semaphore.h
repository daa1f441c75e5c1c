// Counting semaphores that know which post each unit came from.
#pragma once

#include "sim/hazards.h"

#include <cstdint>
#include <deque>

namespace tapeout::sim {

// The n-th unit taken is the n-th unit posted (docs/timing.md, rule 8), so a taker knows what its units come after.
struct Semaphore {
    struct Posted {
        int64_t total; // units posted up to and with this post, the initial ones included
        Clock clock;
    };
    int64_t initial = 0, value = 0, posted = 0, taken = 0;
    int source = -1, taker = -1; // core * kThreads + thread
    std::deque<Posted> posts;    // those with units left

    explicit Semaphore(int64_t start) : initial(start), value(start), posted(start) {}

    void post(int64_t count, const Clock* clock) {
        value += count;
        posted += count;
        if (clock)
            posts.push_back({posted, *clock});
    }

    // Joins what the last unit taken comes after into `clock`; the one source's posts are ordered, so that is enough.
    void take(int64_t count, Clock* clock) {
        value -= count;
        taken += count;
        while (!posts.empty() && posts.front().total < taken)
            posts.pop_front();
        if (clock && count && taken > initial && !posts.empty())
            clock->join(posts.front().clock);
    }
};

} // namespace tapeout::sim
