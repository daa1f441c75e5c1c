// Control processors, queues, semaphores and barriers of all cores: who runs next, and what comes before what.
#pragma once

#include "sim/execute.h"
#include "sim/functional.h"
#include "sim/semaphore.h"

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <vector>

namespace tapeout::sim {

class FunctionalMachine {
public:
    FunctionalMachine(const Program& program, const ChipParams& chip, Storage& storage, const Options& options);
    FunctionalResult run();

private:
    using SharedClock = std::shared_ptr<const Clock>;
    struct Entry {
        int command;
        SharedClock issued;         // what comes before its issue
        std::vector<int64_t> slots; // as they were then
    };
    struct QueueState {
        std::deque<Entry> entries;
        Clock clock; // what comes before the next command
        SharedClock joined;
        uint32_t steps = 0;
    };
    struct Core {
        int pc = 0;
        std::vector<int64_t> slots, turns; // turns: left to do, by loop
        std::array<QueueState, kQueues> queues;
        std::vector<Semaphore> semaphores;
        SharedClock clock; // of control
        uint32_t steps = 0;
        bool arrived = false; // at the barrier at pc
    };

    void run_in_order();
    void run_at_random();
    bool run_core(int core);
    bool drain_all(int core);
    bool drain(int core, int queue);

    // One step of control, or one command; false if it has to wait.
    bool step(int core);
    bool issue(int core, const Step& step);
    bool barrier(int core, const Step& step);
    bool load_scalar(int core, const Step& step);
    bool execute(int core, int queue);

    bool can_take(const Core& core, const std::vector<Wait>& waits) const;
    void take(int core, const std::vector<Wait>& waits, int thread, Clock* clock);
    void post(int core, const std::vector<Post>& posts, int queue);
    void post_one(int core, int semaphore, int64_t count, int poster, int queue);
    void release(int first, int last, bool chip);
    void sweep_common(size_t least);
    void sweep(Space& space, int first, int last);
    Clock floor(int first, int last) const;

    bool finished() const;
    bool ended(const Core& core) const;
    void check_balance() const;
    [[noreturn]] void fail(const Fault& fault, int core, int thread, int command, int loop,
                           const std::vector<int64_t>& slots) const;
    [[noreturn]] void fail_blocked() const;
    std::string blocked_on(const Core& core, int core_number) const;

    const Program& program_;
    const ChipParams& chip_;
    Storage& storage_;
    const Options& options_;
    int per_cluster_;
    Epochs epochs_;
    Executor executor_;
    std::vector<Core> cores_;
    std::vector<std::vector<int64_t>> spare_; // slot vectors for reuse
    FunctionalResult result_;
    std::mt19937_64 random_;
    int64_t idle_steps_ = 0;
};

} // namespace tapeout::sim
