// Skipping of steady loops (last section of docs/timing.md).
//
// Whenever core 0 ends a turn of a loop, the machine's state, with all times relative to now, may be compared with
// that at an earlier turn's end, the anchor. Where they are equal and every core's next steps are worth the same as
// those since the anchor, step by step, the machine will do in the next period what it did in this one: so the
// periods that follow are only walked by the control processors (and the caches' directories), not simulated.
#pragma once

#include "sim/timing.h"

#include <cstdint>
#include <deque>
#include <vector>

namespace tapeout::sim {

class SteadyLoops {
public:
    explicit SteadyLoops(Machine& machine);

    // Core 0 ends a turn of a loop that goes on.
    void turn(int loop);
    // A core begins a step.
    void note(int core, const Step& step, const Footprint& box);
    // A DMA command starts; what the caches made of it.
    void started(int core, int queue, const Look& look);
    void count_event() { ++events_; }

private:
    struct Start {
        int32_t core, queue;
        Look look;
    };
    struct Anchor {
        bool valid = false;
        uint64_t fingerprint = 0;
        std::vector<int64_t> state;
        int64_t turn = 0, cycle = 0, reach = 1; // replaced `reach` turns later
        int64_t next_try = 0, failures = 0;
        std::vector<size_t> steps; // where the logs stood
        size_t starts = 0;
        std::vector<int64_t> counts, busy, last_end;
    };
    struct Period {
        int64_t turns, cycles, times;
    };
    // A core's control walking ahead.
    struct Walker {
        Control control;
        const Step* step; // under way, null if it is over
    };
    // DMA commands that a queue still has to start.
    struct Pending {
        int command;
        Footprint box;
    };
    using Backlog = std::vector<std::array<std::deque<Pending>, 2>>; // by core, then LD and ST

    bool affordable(size_t words) const;
    void save(Anchor& anchor, uint64_t fingerprint, int64_t turn);
    bool skip(Anchor& anchor, int loop);

    Walker walker(int core) const;
    bool advance(Walker& walker, Footprint& box) const;
    int64_t walk(const Anchor& anchor, int core, Walker& walker, int64_t times) const;
    int64_t replay(const Anchor& anchor, int64_t times, Caches& caches, Backlog& backlog) const;
    Backlog backlog() const;
    bool same_way(const Start& start, int64_t longest_flight, const CacheAccess& access, int64_t number) const;
    void adopt_caches(Caches caches, Backlog backlog);
    void repeat(const Anchor& anchor, const Period& period);
    void forget_inside(int loop);

    Machine& m_;
    std::vector<Anchor> anchors_;                    // by loop
    std::vector<std::vector<uint64_t>> steps_;       // by core: worths of the steps since the oldest anchor
    std::vector<Start> starts_;                      // DMA starts since then, where there are caches
    int64_t events_ = 0, words_ = 0, last_size_ = 0; // events simulated, words of state written, of the latest state
};

// The machine's state as words, times relative to now: equal words, equal future but for what control brings.
class MachineState {
public:
    explicit MachineState(Machine& machine) : m_(machine) {}

    // A cheap part of it.
    uint64_t fingerprint() const;
    std::vector<int64_t> words();
    // Moves the machine's clock, and everything in it that is still to come.
    void shift(int64_t cycles);

private:
    void put_core(size_t number);
    void put_queue(const QueueState& queue);
    void put_entry(const QueueState& queue, uint32_t number);
    void put_transfer(const Entry& entry);
    void put_events(const std::vector<Event>& events);
    void put_fill(const std::shared_ptr<Fill>& fill);
    void shift_queue(QueueState& queue, int64_t cycles);
    void put(int64_t word) { words_.push_back(word); }
    int64_t ahead(int64_t cycle) const; // cycles until then, 0 where past
    int64_t ticks_ahead(int64_t tick) const;

    Machine& m_;
    std::vector<int64_t> words_;
    std::vector<const Fill*> fills_; // of loads under way, in the order of their loads
};

} // namespace tapeout::sim
