#include "sim/timing.h"

#include "sim/steady.h"

#include <algorithm>
#include <utility>

namespace tapeout::sim {

namespace {

constexpr int kControl = kQueues; // the control processor's bit in Core::waiting

size_t index(int64_t i) {
    return static_cast<size_t>(i);
}

} // namespace

Machine::Machine(const Program& program, const ChipParams& chip, int64_t channel_rate_milli, int kernels,
                 std::vector<std::vector<int64_t>> scalars, bool trace, bool skip)
    : program_(program), chip_(chip), cluster_cores_(static_cast<int>(chip.cores_per_cluster)), trace_(trace),
      engine_{"engine", chip.dma_rate_milli, 0, 0}, full_burst_(engine_.service(chip.burst_bytes)),
      fabric_(chip, channel_rate_milli), walk_(program, chip.granule_bytes), caches_(chip),
      scalars_(std::move(scalars)) {
    if (program.cores > chip.cores())
        throw BadProgram("the program runs on more cores than the chip has");
    for (const Command& command : program.commands) {
        cycles_.push_back(command_cycles(command, chip));
        kernels = std::max(kernels, command.kernel + 1);
    }
    scalars_.resize(index(program.cores));
    cores_.reserve(index(program.cores));
    for (int core = 0; core < program.cores; ++core) {
        Core& state = cores_.emplace_back(Control(program, core, scalars_[index(core)]));
        state.semaphores = program.semaphores;
        state.waiting.resize(program.semaphores.size());
    }
    arrived_.resize(index(chip.dies * chip.clusters_per_die + 1));
    counts_.cores.resize(cores_.size());
    counts_.kernels.resize(index(kernels));
    first_start_.assign(index(kernels), -1);
    last_end_.assign(index(kernels), -1);
    if (skip && !trace)
        steady_ = std::make_unique<SteadyLoops>(*this);
}

Machine::~Machine() = default;

void Machine::run() {
    for (int core = 0; core < program_.cores; ++core)
        wake(core, 0);
    for (Event event; calendar_.pop(event);) {
        if (steady_)
            steady_->count_event();
        switch (event.phase()) {
        case Phase::completion:
            complete(event.core(), event.queue());
            break;
        case Phase::control:
            go_on(event.core());
            break;
        case Phase::start:
            start(event.core(), event.queue());
            break;
        case Phase::burst:
            arrive(event);
            break;
        }
    }
    for (int core = 0; core < program_.cores; ++core)
        check_ended(core);
    for (int64_t die = 0; die < chip_.dies; ++die) // what is still written back
        end_ = std::max(end_, ceil_div(fabric_.channel(die).free, kTicksPerCycle));
}

void Machine::check_ended(int core) const {
    const Core& state = cores_[index(core)];
    const std::string who = "deadlock: core " + std::to_string(core);
    for (const QueueState& queue : state.queues) {
        if (queue.started == queue.issued)
            continue;
        const int command = queue.at(queue.started).command;
        for (const Wait& wait : program_.commands[index(command)].waits) {
            const int64_t held = state.semaphores[index(wait.semaphore)];
            if (held < wait.count)
                throw TimingFault(who + " waits for semaphore " + std::to_string(wait.semaphore) + ", which holds " +
                                      std::to_string(held) + " of " + std::to_string(wait.count),
                                  calendar_.now(), command);
        }
    }
    if (state.mode != Mode::ended)
        throw TimingFault(who + " waits at a " + (state.mode == Mode::scalar_wait ? "scalar" : "barrier") +
                              " for what never comes",
                          calendar_.now());
}

// ---- control: rules 1 to 3

void Machine::wake(int core, int64_t cycle) {
    calendar_.push({.major = Event::order(0, Phase::control, core, 0), .cycle = cycle});
}

void Machine::go_on(int core) {
    Core& state = cores_[index(core)];
    while (state.mode != Mode::ended && ready(core, state)) {
        end_ = std::max(end_, calendar_.now());
        next_step(core, state);
    }
}

// Lets the step under way come as far as it can; true when it is behind.
bool Machine::ready(int core, Core& state) {
    const int64_t now = calendar_.now();
    CoreCounts& counts = counts_.cores[index(core)];
    switch (state.mode) {
    case Mode::full: {
        const auto queue = static_cast<size_t>(program_.commands[index(state.step->command)].queue);
        if (state.queues[queue].open() >= chip_.queue_depth)
            return false;
        counts.queue[queue].full += now - state.since;
        begin_issue(core, state);
        return state.resume <= now && ready(core, state);
    }
    case Mode::issuing:
        if (now < state.resume)
            return false;
        if (state.step)
            deliver(core, state);
        return true;
    case Mode::scalar_issuing:
    case Mode::barrier_issuing:
        if (now < state.resume)
            return false;
        state.mode = state.mode == Mode::scalar_issuing ? Mode::scalar_wait : Mode::draining;
        state.since = now;
        return ready(core, state);
    case Mode::scalar_wait:
        if (!take(state, state.step->waits, kControl))
            return false;
        counts.wait_scalar += now - state.since;
        if (!state.control.load_scalar(*state.step))
            throw TimingFault("core " + std::to_string(core) + " reads a scalar that the functional run did not give",
                              now);
        return true;
    case Mode::draining:
        for (size_t queue = 0; queue < kQueues; ++queue) {
            if ((state.step->queues >> queue & 1) && state.queues[queue].open())
                return false;
        }
        state.mode = Mode::at_barrier;
        state.resume = kUnknown;
        arrive_at_barrier(core, *state.step);
        return ready(core, state);
    case Mode::at_barrier:
        if (now < state.resume)
            return false;
        counts.wait_barrier += now - state.since;
        return true;
    case Mode::ended:
        break;
    }
    return false;
}

void Machine::begin_issue(int core, Core& state) {
    state.mode = Mode::issuing;
    state.resume = calendar_.now() + chip_.issue_cycles;
    if (chip_.issue_cycles)
        wake(core, state.resume);
}

void Machine::next_step(int core, Core& state) {
    const bool anchors = steady_ && core == 0;
    const Step* step = &state.control.next(anchors);
    while (step->kind == StepKind::LoopEnd) {
        steady_->turn(step->loop);
        step = &state.control.next(anchors);
    }
    state.step = step;
    state.since = calendar_.now();
    if (step->kind == StepKind::Issue) {
        const Opcode opcode = program_.commands[index(step->command)].opcode;
        if (opcode == Opcode::Load || opcode == Opcode::Store)
            state.box = value(state.control, step->command);
        state.mode = Mode::full;
    } else if (step->kind == StepKind::End) {
        state.mode = Mode::ended;
    } else {
        begin_issue(core, state);
        state.mode = step->kind == StepKind::Barrier ? Mode::barrier_issuing : Mode::scalar_issuing;
    }
    if (steady_)
        steady_->note(core, *step, state.box);
}

Footprint Machine::value(const Control& control, int command) {
    return walk_.footprint(command, control.slots());
}

// What the timing of a step depends on, as one number: equal worth, equal treatment.
uint64_t Machine::worth(const Step& step, const Footprint& box) const {
    uint64_t word = mix(static_cast<uint64_t>(&step - program_.steps.data()));
    if (step.kind != StepKind::Issue)
        return word;
    const Command& command = program_.commands[index(step.command)];
    if (command.opcode == Opcode::Load || command.opcode == Opcode::Store) {
        word = mix(word ^ static_cast<uint64_t>(box.bytes));
        word = mix(word ^ static_cast<uint64_t>(box.charged));
        word = mix(word ^ static_cast<uint64_t>(home_of(std::get<Dma>(command.body), box)));
    }
    return word;
}

void Machine::deliver(int core, Core& state) {
    const Command& command = program_.commands[index(state.step->command)];
    QueueState& queue = state.queues[static_cast<size_t>(command.queue)];
    if (queue.open() == queue.ring.size()) { // grows up to the queue's depth
        QueueState grown = queue;
        grown.ring.assign(std::max<size_t>(4, 2 * queue.ring.size()), {});
        for (uint32_t number = queue.completed; number != queue.issued; ++number)
            grown.at(number) = std::move(queue.at(number));
        queue = std::move(grown);
    }
    Entry& entry = queue.at(queue.issued);
    entry.command = state.step->command;
    entry.number = queue.issued++;
    entry.entered = calendar_.now();
    entry.start = entry.released = entry.done = -1;
    if (command.opcode == Opcode::Load || command.opcode == Opcode::Store)
        entry.box = state.box;
    ++counts_.cores[index(core)].queue[static_cast<size_t>(command.queue)].commands;
    ++counts_.kernels[index(command.kernel)].commands[static_cast<size_t>(command.queue)];
    if (queue.started + 1 == queue.issued && queue.free_at != kUnknown)
        push_start(core, static_cast<int>(command.queue), std::max(calendar_.now(), queue.free_at));
}

void Machine::arrive_at_barrier(int core, const Step& step) {
    const int size = step.chip ? program_.cores : cluster_cores_;
    const int first = core / size * size, last = std::min(first + size, program_.cores);
    int& arrived = step.chip ? arrived_.back() : arrived_[index(core / cluster_cores_)];
    if (++arrived < last - first)
        return;
    arrived = 0;
    for (int other = first; other < last; ++other) {
        cores_[index(other)].resume = calendar_.now() + chip_.barrier_cycles;
        if (other != core || chip_.barrier_cycles)
            wake(other, cores_[index(other)].resume);
    }
}

// Rule 4: all counts together or none; then `waiter` is told when one is posted.
bool Machine::take(Core& state, std::span<const Wait> waits, int waiter) {
    for (const Wait& wait : waits) {
        if (state.semaphores[index(wait.semaphore)] < wait.count) {
            state.waiting[index(wait.semaphore)] |= static_cast<uint8_t>(1 << waiter);
            return false;
        }
    }
    for (const Wait& wait : waits)
        state.semaphores[index(wait.semaphore)] -= wait.count;
    return true;
}

// ---- queues: rules 4 to 7

void Machine::push_start(int core, int queue, int64_t cycle) {
    calendar_.push({.major = Event::order(0, Phase::start, core, queue), .cycle = cycle});
}

void Machine::start(int core, int number) {
    Core& state = cores_[index(core)];
    QueueState& queue = state.queues[index(number)];
    const int64_t now = calendar_.now();
    if (queue.started == queue.issued || queue.free_at > now)
        return;
    Entry& entry = queue.at(queue.started);
    const Command& command = program_.commands[index(entry.command)];
    if (!take(state, command.waits, number))
        return;
    QueueCounts& counts = counts_.cores[index(core)].queue[index(number)];
    const int64_t engine_at = std::max(entry.entered, queue.free_at);
    counts.wait_semaphore += now - engine_at;
    counts.wait_engine += engine_at - std::max(entry.entered, std::min(queue.head_since, engine_at));
    ++queue.started;
    queue.head_since = entry.start = now;
    queue.free_at = kUnknown;
    int64_t& first = first_start_[index(command.kernel)];
    first = first < 0 ? now : first;
    if (command.opcode == Opcode::Load || command.opcode == Opcode::Store) {
        start_transfer(core, number, entry);
    } else { // rule 5
        const int64_t end = now + cycles_[index(entry.command)];
        release(core, number, entry, end);
        done(core, number, entry, end);
    }
}

void Machine::release(int core, int number, Entry& entry, int64_t cycle) {
    QueueState& queue = cores_[index(core)].queues[index(number)];
    entry.released = queue.free_at = cycle;
    counts_.cores[index(core)].queue[index(number)].busy += cycle - entry.start;
    counts_.kernels[index(program_.commands[index(entry.command)].kernel)].busy[index(number)] += cycle - entry.start;
    if (queue.started != queue.issued)
        push_start(core, number, cycle);
}

// Rule 4: completes once the ones ahead have.
void Machine::done(int core, int number, Entry& entry, int64_t cycle) {
    entry.done = cycle;
    if (entry.number == cores_[index(core)].queues[index(number)].completed)
        calendar_.push({.major = Event::order(0, Phase::completion, core, number), .cycle = cycle});
}

void Machine::complete(int core, int number) {
    Core& state = cores_[index(core)];
    QueueState& queue = state.queues[index(number)];
    const int64_t now = calendar_.now();
    Entry& entry = queue.at(queue.completed++);
    if (queue.open()) {
        Entry& next = queue.at(queue.completed);
        if (next.done >= 0)
            done(core, number, next, std::max(now, next.done));
    }
    const Command& command = program_.commands[index(entry.command)];
    end_ = std::max(end_, now);
    last_end_[index(command.kernel)] = now;
    entry.fill.reset();
    entry.brings.reset();
    if (trace_)
        events_.push_back({core, number, command.kernel, static_cast<int64_t>(command.opcode), entry.command,
                           entry.entered, entry.start, entry.released, now});
    for (const Post& p : command.posts)
        post(core, p);
    const bool frees =
        state.mode == Mode::full && static_cast<int>(program_.commands[index(state.step->command)].queue) == number;
    if (frees || (state.mode == Mode::draining && (state.step->queues >> number & 1)))
        wake(core, now);
}

void Machine::post(int core, const Post& post) {
    if (!post.cluster)
        return add(core, post.semaphore, post.count);
    const int first = core / cluster_cores_ * cluster_cores_;
    const int semaphore = post.semaphore + core - first;
    if (index(semaphore) >= program_.semaphores.size())
        throw TimingFault("a post to the cluster needs semaphore " + std::to_string(semaphore) +
                              ", which the program has not",
                          calendar_.now());
    for (int other = first; other < std::min(first + cluster_cores_, program_.cores); ++other)
        add(other, semaphore, post.count);
}

void Machine::add(int core, int semaphore, int64_t count) {
    Core& state = cores_[index(core)];
    state.semaphores[index(semaphore)] += count;
    const uint8_t waiting = std::exchange(state.waiting[index(semaphore)], uint8_t{0});
    for (int queue = 0; waiting && queue < kQueues; ++queue) {
        if (waiting >> queue & 1)
            push_start(core, queue, calendar_.now());
    }
    if (waiting >> kControl & 1)
        wake(core, calendar_.now());
}

} // namespace tapeout::sim
