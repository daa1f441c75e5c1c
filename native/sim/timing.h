// The timing executor: docs/timing.md at native speed. src/tapeout/sim/reference.py is the same in plain
// Python.
#pragma once

#include "sim/cache.h"
#include "sim/calendar.h"
#include "sim/control.h"
#include "sim/dma_walk.h"
#include "sim/hash.h"
#include "sim/program.h"
#include "sim/resources.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace tapeout::sim {

class SteadyLoops;

// ---- what a run reports; everything that grows with time is a sum, so that skipped periods can be added

struct QueueCounts {
    int64_t commands = 0;
    int64_t busy = 0;           // cycles in which a command held the engine
    int64_t wait_semaphore = 0; // cycles in which the engine was free and its next command waited for a semaphore
    int64_t wait_engine = 0;    // cycles in which the next command was there and the engine held
    int64_t full = 0;           // cycles in which control waited for a place in this queue
};

struct CoreCounts {
    std::array<QueueCounts, kQueues> queue;
    int64_t wait_barrier = 0;
    int64_t wait_scalar = 0;
};

struct KernelCounts {
    std::array<int64_t, kQueues> commands{}, busy{};
    int64_t read_bytes = 0, read_charged = 0, written_bytes = 0, written_charged = 0; // DRAM
};

struct TraceEvent {
    int64_t core, queue, kernel, opcode, command, entered, start, released, end;
};

struct Counts {
    std::vector<CoreCounts> cores;
    std::vector<KernelCounts> kernels;
    int64_t cache_hit_bytes = 0, cache_missed_bytes = 0; // of loads through a cache
    int64_t skipped_turns = 0;                           // loop turns that were not simulated one by one
};

// ---- the machine's parts

// A command in a queue; for DMA with its box and its bursts.
struct Entry {
    int command = -1;
    uint32_t number = 0;
    Footprint box;
    int64_t entered = 0, start = -1, released = -1, done = -1; // cycles; -1: not yet known
    // DMA under way
    int64_t size = 0;   // bytes on the way
    int64_t far = 0;    // of them on `routes`, in the first bursts; the rest comes from the cache, on `near`
    int64_t bursts = 0; // of which these have a known time to leave the engine, are on the way, have arrived:
    int64_t planned = 0, sent = 0, landed = 0;
    bool sending = false;          // the latest sent is on its way to the first shared resource
    int64_t engine_free = 0;       // tick
    int64_t all_arrived = 0;       // tick, so far
    const Route* routes = nullptr; // one for each home
    const Route* near = nullptr;
    int64_t homes = 1, home = 0;        // of the first burst
    std::vector<int64_t> leaves;        // tick at which the latest planned `outstanding_bursts` leave the engine
    std::vector<int64_t> arrived;       // and arrive, -1: not yet known
    std::shared_ptr<Fill> fill, brings; // that hits wait for; what this load brings
};

struct QueueState {
    std::vector<Entry> ring;
    uint32_t issued = 0, started = 0, completed = 0;
    int64_t free_at = 0;    // cycle at which the engine is free, kUnknown: not yet known
    int64_t head_since = 0; // cycle of the latest start: from then on the next command is the head

    Entry& at(uint32_t number) { return ring[number % ring.size()]; }
    const Entry& at(uint32_t number) const { return ring[number % ring.size()]; }
    uint32_t open() const { return issued - completed; }
};

inline constexpr int64_t kUnknown = INT64_MAX;

// Loads under way that bring something to a cache, by the number of their access.
class Flights {
public:
    void add(int64_t number, std::shared_ptr<Fill> fill) { all_.emplace_back(number, std::move(fill)); }
    // The load, null where it has come by `tick`.
    std::shared_ptr<Fill> find(int64_t number, int64_t tick) const;
    // Forgets what has come at the front; the number of the first left, or `none`.
    int64_t first(int64_t tick, int64_t none);
    // Skipped periods brought as many accesses.
    void renumber(int64_t more);
    const std::deque<std::pair<int64_t, std::shared_ptr<Fill>>>& all() const { return all_; }

private:
    static bool has_come(const Fill& fill, int64_t tick) { return fill.arrived >= 0 && fill.arrived <= tick; }

    std::deque<std::pair<int64_t, std::shared_ptr<Fill>>> all_; // in ascending order
};

// What a cache made of a DMA command, as far as time depends on it.
struct Look {
    uint64_t outcome = 0;
    int64_t age = 0;    // accesses since the load began that hits depend on, 0: none
    bool waits = false; // that load is under way
    int64_t flight = 0; // accesses since the first of all loads under way began
};

enum class Mode : uint8_t { issuing, full, scalar_issuing, scalar_wait, barrier_issuing, draining, at_barrier, ended };

struct Core {
    explicit Core(Control c) : control(std::move(c)) {}

    Control control;
    Mode mode = Mode::issuing;
    const Step* step = nullptr; // the step under way, null before the first
    Footprint box;              // of its command
    int64_t resume = 0;         // cycle at which it goes on (issuing modes, at_barrier)
    int64_t since = 0;          // cycle since which it waits
    std::array<QueueState, kQueues> queues;
    std::vector<int64_t> semaphores;
    std::vector<uint8_t> waiting; // by semaphore: queues whose head waits for it, one bit each, and kControlBit
};

class Machine {
public:
    // `scalars` by core. `skip`: skip steady loops; `trace`: keep every command's life.
    Machine(const Program& program, const ChipParams& chip, int64_t channel_rate_milli, int kernels,
            std::vector<std::vector<int64_t>> scalars, bool trace, bool skip);
    ~Machine();

    void run(); // throws TimingFault

    int64_t cycles() const { return end_; }
    const Counts& counts() const { return counts_; }
    const std::vector<TraceEvent>& events() const { return events_; }
    const std::vector<Resource>& resources() const { return fabric_.resources; }
    std::span<const int64_t> first_start() const { return first_start_; } // by kernel, -1: never
    std::span<const int64_t> last_end() const { return last_end_; }

private:
    friend class SteadyLoops;
    friend class MachineState;

    void check_ended(int core) const;

    // control
    void go_on(int core);
    bool ready(int core, Core& state);
    void next_step(int core, Core& state);
    void begin_issue(int core, Core& state);
    void deliver(int core, Core& state);
    void arrive_at_barrier(int core, const Step& step);
    void wake(int core, int64_t cycle);
    bool take(Core& state, std::span<const Wait> waits, int waiter);
    Footprint value(const Control& control, int command);
    uint64_t worth(const Step& step, const Footprint& box) const;

    // queues
    void push_start(int core, int queue, int64_t cycle);
    void start(int core, int queue);
    void release(int core, int queue, Entry& entry, int64_t cycle);
    void done(int core, int queue, Entry& entry, int64_t cycle);
    void complete(int core, int queue);
    void post(int core, const Post& post);
    void add(int core, int semaphore, int64_t count);

    // DMA
    void start_transfer(int core, int queue, Entry& entry);
    Look choose_way(int core, Entry& entry);
    Look use_cache(int core, Entry& entry, const Dma& dma, bool store);
    void plan(int core, int queue, Entry& entry);
    void send(int core, int queue, Entry& entry);
    void arrive(Event& event);
    bool hold(Event& event, Fill& fill);
    void push_burst(Event event, int64_t tick);
    void land(int core, int queue, Entry& entry, uint32_t burst, int64_t tick);
    const Route& route(const Entry& entry, uint32_t burst) const {
        if (burst >= far_bursts(entry))
            return *entry.near;
        return entry.routes[entry.homes > 1 ? (entry.home + burst) % entry.homes : 0];
    }
    int64_t far_bursts(const Entry& entry) const {
        return entry.near ? ceil_div(entry.far, chip_.burst_bytes) : entry.bursts;
    }
    int64_t burst_bytes(const Entry& entry, int64_t burst) const {
        const int64_t far = far_bursts(entry);
        const int64_t behind = burst < far ? (entry.near ? entry.far : entry.size) - burst * chip_.burst_bytes
                                           : entry.size - entry.far - (burst - far) * chip_.burst_bytes;
        return std::min(chip_.burst_bytes, behind);
    }
    // Over how many places the memory of a transfer is interleaved: dies, or the clusters of a distributed memory.
    int64_t homes_of(const Dma& dma) const {
        const int space = program_.tensors[static_cast<size_t>(dma.tensor)].space;
        if (!space)
            return chip_.dies;
        if (static_cast<size_t>(space) > chip_.spaces.size())
            throw BadProgram("a tensor lies in space " + std::to_string(space) + ", which the chip has not");
        const auto shared = static_cast<size_t>(chip_.spaces[static_cast<size_t>(space - 1)]);
        return chip_.shared[shared].scope == Scope::distributed ? chip_.clusters() : 1;
    }
    int64_t home_of(const Dma& dma, const Footprint& box) const { // of the first burst
        const int64_t homes = homes_of(dma);
        const int64_t block = box.first / chip_.interleave_bytes - (box.first % chip_.interleave_bytes < 0);
        return homes > 1 ? (block % homes + homes) % homes : 0;
    }

    const Program& program_;
    const ChipParams& chip_;
    const int cluster_cores_;
    const bool trace_;
    const Resource engine_; // what all DMA engines are like
    const int64_t full_burst_;
    Calendar calendar_;
    Fabric fabric_;
    DmaWalk walk_;
    Caches caches_;
    Flights flights_;
    std::vector<int64_t> cycles_; // by command
    std::vector<std::vector<int64_t>> scalars_;
    std::vector<Core> cores_;
    std::vector<int> arrived_; // cores at each cluster's barrier, the last entry: at the chip's
    Counts counts_;
    std::vector<int64_t> first_start_, last_end_;
    std::vector<TraceEvent> events_;
    int64_t end_ = 0;
    std::unique_ptr<SteadyLoops> steady_;
};

} // namespace tapeout::sim
