#include "sim/functional_machine.h"

#include <algorithm>
#include <limits>

namespace tapeout::sim {

namespace {

// Control steps without any command after which a program counts as running away.
constexpr int64_t kMaxIdleSteps = int64_t{1} << 28;

int rounded_cores(int cores, int64_t per_cluster) {
    const auto size = static_cast<int>(per_cluster);
    return (cores + size - 1) / size * size;
}

} // namespace

FunctionalMachine::FunctionalMachine(const Program& program, const ChipParams& chip, Storage& storage,
                                     const Options& options)
    : program_(program), chip_(chip), storage_(storage), options_(options),
      per_cluster_(static_cast<int>(chip.cores_per_cluster)),
      epochs_(rounded_cores(program.cores, chip.cores_per_cluster), per_cluster_),
      executor_(program, chip, storage, epochs_, options_), random_(options.seed) {
    Clock zero;
    if (options_.check)
        zero.seen.assign(static_cast<size_t>(per_cluster_ * kThreads), 0u);
    const auto start = std::make_shared<const Clock>(zero);
    cores_.resize(static_cast<size_t>(program.cores));
    result_.scalars.resize(cores_.size());
    for (size_t i = 0; i < cores_.size(); ++i) {
        Core& core = cores_[i];
        core.slots.assign(static_cast<size_t>(program.slots), 0);
        core.slots[0] = static_cast<int64_t>(i);
        core.turns.assign(program.loops.size(), 0);
        for (const int64_t initial : program.semaphores)
            core.semaphores.emplace_back(initial);
        core.clock = start;
        for (QueueState& q : core.queues)
            q.clock = zero;
    }
}

FunctionalResult FunctionalMachine::run() {
    if (options_.fuzz)
        run_at_random();
    else
        run_in_order();
    if (!finished())
        fail_blocked();
    check_balance();
    return std::move(result_);
}

bool FunctionalMachine::ended(const Core& core) const {
    return program_.steps[static_cast<size_t>(core.pc)].kind == StepKind::End;
}

bool FunctionalMachine::finished() const {
    return std::all_of(cores_.begin(), cores_.end(), [&](const Core& core) {
        return ended(core) && std::all_of(core.queues.begin(), core.queues.end(),
                                          [](const QueueState& q) { return q.entries.empty(); });
    });
}

// ---- which order

// Each core as far as it can go: what a command reads was mostly just written and is still in the host's caches.
void FunctionalMachine::run_in_order() {
    for (bool moved = true; moved;) {
        moved = false;
        for (int core = 0; core < program_.cores; ++core)
            moved |= run_core(core);
    }
}

bool FunctionalMachine::run_core(int core) {
    bool moved = false;
    for (bool more = true; more;) {
        more = false;
        while (step(core))
            more = true;
        more |= drain_all(core);
        moved |= more;
    }
    return moved;
}

bool FunctionalMachine::drain_all(int core) {
    bool moved = false;
    for (int q = 0; q < kQueues; ++q)
        moved |= drain(core, q);
    return moved;
}

bool FunctionalMachine::drain(int core, int queue) {
    bool moved = false;
    while (execute(core, queue))
        moved = true;
    return moved;
}

void FunctionalMachine::run_at_random() {
    const auto actions = static_cast<uint64_t>(program_.cores) * kThreads;
    for (bool moved = true; moved;) {
        moved = false;
        const uint64_t start = random_() % actions;
        for (uint64_t i = 0; i < actions && !moved; ++i) {
            const auto action = static_cast<int>((start + i) % actions);
            const int core = action / kThreads, thread = action % kThreads;
            moved = thread == kControl ? step(core) : execute(core, thread);
        }
    }
}

// ---- control

bool FunctionalMachine::step(int number) {
    Core& core = cores_[static_cast<size_t>(number)];
    const Step& step = program_.steps[static_cast<size_t>(core.pc)];
    const auto value = [&] { return step.value.value(core.slots); };
    if (++idle_steps_ > kMaxIdleSteps)
        fail({"control runs on without issuing a command"}, number, kControl, -1, step.loop, core.slots);
    switch (step.kind) {
    case StepKind::Issue:
        return issue(number, step);
    case StepKind::Barrier:
        return barrier(number, step);
    case StepKind::LoadScalar:
        return load_scalar(number, step);
    case StepKind::End:
        return false;
    case StepKind::LoopBegin: {
        const int64_t trips = value();
        if (trips <= 0) {
            core.pc = step.target;
            return true;
        }
        core.turns[static_cast<size_t>(step.loop)] = trips - 1;
        core.slots[static_cast<size_t>(step.slot)] = 0;
        break;
    }
    case StepKind::LoopEnd:
        if (core.turns[static_cast<size_t>(step.loop)]-- > 0) {
            ++core.slots[static_cast<size_t>(step.slot)];
            core.pc = step.target;
            return true;
        }
        break;
    case StepKind::Branch:
        if (value() <= 0) {
            core.pc = step.target;
            return true;
        }
        break;
    case StepKind::Jump:
        core.pc = step.target;
        return true;
    case StepKind::Set:
        core.slots[static_cast<size_t>(step.slot)] = value();
        break;
    }
    ++core.pc;
    return true;
}

bool FunctionalMachine::issue(int number, const Step& step) {
    Core& core = cores_[static_cast<size_t>(number)];
    const Command& command = program_.commands[static_cast<size_t>(step.command)];
    const auto queue = static_cast<size_t>(command.queue);
    auto& entries = core.queues[queue].entries;
    if (static_cast<int64_t>(entries.size()) >= chip_.queue_depth)
        return false;
    std::vector<int64_t> slots;
    if (!spare_.empty()) {
        slots = std::move(spare_.back());
        spare_.pop_back();
    }
    slots.assign(core.slots.begin(), core.slots.end());
    entries.push_back({step.command, core.clock, std::move(slots)});
    ++core.pc;
    idle_steps_ = 0;
    if (!options_.fuzz)
        drain(number, static_cast<int>(queue));
    return true;
}

bool FunctionalMachine::load_scalar(int number, const Step& step) {
    Core& core = cores_[static_cast<size_t>(number)];
    if (!can_take(core, step.waits))
        return false;
    idle_steps_ = 0;
    Clock clock = *core.clock;
    try {
        take(number, step.waits, kControl, options_.check ? &clock : nullptr);
        const Who who{number, kControl, ++core.steps, -1};
        if (options_.check)
            clock.seen[static_cast<size_t>(epochs_.local_thread(number, kControl))] = who.step;
        const int64_t value = executor_.read_scalar(step.source, core.slots, who, clock);
        core.slots[static_cast<size_t>(step.slot)] = value;
        result_.scalars[static_cast<size_t>(number)].push_back(value);
    } catch (const Fault& fault) {
        fail(fault, number, kControl, -1, step.loop, core.slots);
    }
    if (options_.check)
        core.clock = std::make_shared<const Clock>(std::move(clock));
    ++core.pc;
    return true;
}

bool FunctionalMachine::barrier(int number, const Step& step) {
    Core& core = cores_[static_cast<size_t>(number)];
    if (core.arrived)
        return false;
    for (int q = 0; q < kQueues; ++q) {
        if ((step.queues >> q & 1) && !core.queues[static_cast<size_t>(q)].entries.empty())
            return false;
    }
    core.arrived = true;
    idle_steps_ = 0;
    const int first = step.chip ? 0 : number / per_cluster_ * per_cluster_;
    const int last = step.chip ? program_.cores : std::min(first + per_cluster_, program_.cores);
    for (int i = first; i < last; ++i) {
        const Core& other = cores_[static_cast<size_t>(i)];
        if (!other.arrived || program_.steps[static_cast<size_t>(other.pc)].chip != step.chip)
            return true;
    }
    release(first, last, step.chip);
    return true;
}

// All have arrived: what came before in any of them comes before everything that any of them issues from now on.
void FunctionalMachine::release(int first, int last, bool chip) {
    std::vector<Clock> arrivals;
    for (int i = first; i < last; ++i) {
        Core& core = cores_[static_cast<size_t>(i)];
        if (options_.check) {
            Clock& clock = arrivals.emplace_back(*core.clock);
            const Step& step = program_.steps[static_cast<size_t>(core.pc)];
            for (int q = 0; q < kQueues; ++q) {
                if (step.queues >> q & 1)
                    clock.join(core.queues[static_cast<size_t>(q)].clock);
            }
        }
        core.arrived = false;
        ++core.pc;
    }
    if (!options_.check)
        return;
    const int64_t epoch = chip ? epochs_.add(arrivals) : 0;
    SharedClock shared;
    for (int i = first; i < last; ++i) {
        if (i % per_cluster_ == 0 || i == first) {
            Clock joined = arrivals[static_cast<size_t>(i - first)];
            for (int j = i + 1; j < std::min(last, i + per_cluster_); ++j)
                joined.join(arrivals[static_cast<size_t>(j - first)]);
            joined.epoch = std::max(joined.epoch, epoch);
            epochs_.refresh(joined, i);
            shared = std::make_shared<const Clock>(std::move(joined));
        }
        cores_[static_cast<size_t>(i)].clock = shared;
    }
    if (chip)
        sweep_common(32);
}

// ---- queues

bool FunctionalMachine::execute(int number, int queue) {
    Core& core = cores_[static_cast<size_t>(number)];
    QueueState& state = core.queues[static_cast<size_t>(queue)];
    if (state.entries.empty())
        return false;
    Entry& entry = state.entries.front();
    const Command& command = program_.commands[static_cast<size_t>(entry.command)];
    if (!can_take(core, command.waits))
        return false;
    const Who who{number, queue, ++state.steps, entry.command};
    try {
        if (options_.check) {
            if (state.joined != entry.issued)
                state.clock.join(*entry.issued);
            state.joined = entry.issued;
            state.clock.seen[static_cast<size_t>(epochs_.local_thread(number, queue))] = who.step;
        }
        take(number, command.waits, queue, options_.check ? &state.clock : nullptr);
        executor_.run(command, entry.slots, who, state.clock);
        post(number, command.posts, queue);
    } catch (const Fault& fault) {
        fail(fault, number, queue, entry.command, command.loop, entry.slots);
    } catch (const BadProgram& error) {
        fail({error.what()}, number, queue, entry.command, command.loop, entry.slots);
    }
    ++result_.commands;
    spare_.push_back(std::move(entry.slots));
    state.entries.pop_front();
    for (Space* space : executor_.take_crowded()) {
        const bool local =
            space >= storage_.locals().data() && space < storage_.locals().data() + storage_.locals().size();
        const int cluster = number / per_cluster_ * per_cluster_;
        if (local && !program_.multicasts)
            sweep(*space, number, number + 1);
        else if (local)
            sweep(*space, cluster, std::min(cluster + per_cluster_, program_.cores));
        else
            sweep(*space, 0, program_.cores);
    }
    return true;
}

bool FunctionalMachine::can_take(const Core& core, const std::vector<Wait>& waits) const {
    return std::all_of(waits.begin(), waits.end(), [&](const Wait& w) {
        return core.semaphores[static_cast<size_t>(w.semaphore)].value >= w.count;
    });
}

namespace {

std::string thread_name(int id) {
    constexpr std::array<const char*, kThreads> names = {"LD", "ST", "MV", "MM", "VE", "control"};
    return std::string(names[static_cast<size_t>(id % kThreads)]) + " of core " + std::to_string(id / kThreads);
}

} // namespace

void FunctionalMachine::take(int number, const std::vector<Wait>& waits, int thread, Clock* clock) {
    Core& core = cores_[static_cast<size_t>(number)];
    const int id = number * kThreads + thread;
    for (const Wait& w : waits) {
        Semaphore& s = core.semaphores[static_cast<size_t>(w.semaphore)];
        if (s.taker >= 0 && s.taker != id && options_.check) {
            throw Fault{"semaphore " + std::to_string(w.semaphore) + " of core " + std::to_string(number) +
                        " has two takers: " + thread_name(s.taker) + " and " + thread_name(id)};
        }
        s.taker = id;
        s.take(w.count, clock);
    }
}

void FunctionalMachine::post(int number, const std::vector<Post>& posts, int queue) {
    const int first = number / per_cluster_ * per_cluster_;
    for (const Post& p : posts) {
        if (!p.cluster) {
            post_one(number, p.semaphore, p.count, number, queue);
            continue;
        }
        for (int core = first; core < std::min(first + per_cluster_, program_.cores); ++core)
            post_one(core, p.semaphore + number - first, p.count, number, queue);
    }
}

void FunctionalMachine::post_one(int number, int semaphore, int64_t count, int poster, int queue) {
    Core& core = cores_[static_cast<size_t>(number)];
    if (static_cast<size_t>(semaphore) >= core.semaphores.size())
        throw Fault{"posts semaphore " + std::to_string(semaphore) + ", which does not exist"};
    Semaphore& s = core.semaphores[static_cast<size_t>(semaphore)];
    const int id = poster * kThreads + queue;
    if (s.source >= 0 && s.source != id && options_.check) {
        throw Fault{"semaphore " + std::to_string(semaphore) + " of core " + std::to_string(number) +
                    " has two sources: " + thread_name(s.source) + " and " + thread_name(id)};
    }
    s.source = id;
    s.post(count,
           options_.check ? &cores_[static_cast<size_t>(poster)].queues[static_cast<size_t>(queue)].clock : nullptr);
}

// ---- what the race check may forget

// What is known to come before anything that the cores [first, last) may still do; first is the start of a cluster
// or a single core.
Clock FunctionalMachine::floor(int first, int last) const {
    Clock least;
    least.epoch = std::numeric_limits<int64_t>::max();
    least.seen.assign(static_cast<size_t>(per_cluster_ * kThreads), std::numeric_limits<uint32_t>::max());
    const auto lower = [&](const Clock& clock) {
        least.epoch = std::min(least.epoch, clock.epoch);
        for (size_t i = 0; i < least.seen.size(); ++i)
            least.seen[i] = std::min(least.seen[i], clock.seen[i]);
    };
    for (int i = first; i < last; ++i) {
        const Core& core = cores_[static_cast<size_t>(i)];
        if (!ended(core))
            lower(*core.clock);
        for (const QueueState& q : core.queues) {
            if (q.entries.empty() && ended(core))
                continue;
            Clock next = q.clock;
            next.join(q.entries.empty() ? *core.clock : *q.entries.front().issued);
            lower(next);
        }
    }
    return least;
}

void FunctionalMachine::sweep(Space& space, int first, int last) {
    std::vector<Clock> floors; // by cluster from the first one on
    int64_t epoch = std::numeric_limits<int64_t>::max();
    for (int i = first; i < last; i = (i / per_cluster_ + 1) * per_cluster_) {
        floors.push_back(floor(i, std::min(last, (i / per_cluster_ + 1) * per_cluster_)));
        epoch = std::min(epoch, floors.back().epoch);
    }
    const int cluster = first / per_cluster_;
    space.accesses.sweep([&](const Who& who) {
        const auto own = static_cast<size_t>(epochs_.cluster_of(who.core) - cluster);
        if (floors[own].seen[static_cast<size_t>(epochs_.local_thread(who.core, who.thread))] < who.step)
            return false;
        return floors.size() == 1 || epoch == std::numeric_limits<int64_t>::max() ||
               epochs_.seen(epoch, who.core, who.thread) >= who.step;
    });
}

void FunctionalMachine::sweep_common(size_t least) {
    for (Space* space : storage_.common()) {
        if (space->accesses.size() > least)
            sweep(*space, 0, program_.cores);
    }
    int64_t epoch = std::numeric_limits<int64_t>::max();
    for (const Core& core : cores_) {
        if (!ended(core))
            epoch = std::min(epoch, core.clock->epoch);
        for (const QueueState& q : core.queues) {
            if (!q.entries.empty())
                epoch = std::min(epoch, q.entries.front().issued->epoch);
        }
    }
    if (epoch != std::numeric_limits<int64_t>::max())
        epochs_.forget_before(epoch);
}

} // namespace tapeout::sim
