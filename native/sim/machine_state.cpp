#include "sim/steady.h"

#include <algorithm>
#include <set>

namespace tapeout::sim {

namespace {

size_t index(int64_t i) {
    return static_cast<size_t>(i);
}

bool is_dma(const Command& command) {
    return command.opcode == Opcode::Load || command.opcode == Opcode::Store;
}

constexpr int64_t kNotYet = -1;

} // namespace

int64_t MachineState::ahead(int64_t cycle) const {
    return std::max<int64_t>(0, cycle - m_.calendar_.now());
}

int64_t MachineState::ticks_ahead(int64_t tick) const {
    return std::max<int64_t>(0, tick - m_.calendar_.now() * kTicksPerCycle);
}

uint64_t MachineState::fingerprint() const {
    uint64_t hash = 0;
    const auto add = [&](int64_t word) { hash = mix(hash ^ static_cast<uint64_t>(word)); };
    for (const Core& core : m_.cores_) {
        add(static_cast<int64_t>(core.mode));
        for (const QueueState& queue : core.queues) {
            const int64_t free = queue.free_at == kUnknown ? kNotYet : ahead(queue.free_at);
            add(free << 20 ^ int64_t{queue.open()} << 10 ^ int64_t{queue.issued - queue.started});
            for (uint32_t n = queue.completed; n != queue.issued; ++n) {
                const Entry& entry = queue.at(n);
                const bool started = n - queue.completed < queue.started - queue.completed;
                add(entry.command);
                if (is_dma(m_.program_.commands[index(entry.command)])) {
                    add(entry.box.charged);
                    add(started ? entry.landed ^ ticks_ahead(entry.engine_free) << 20 : 0);
                }
            }
        }
    }
    for (const Resource& resource : m_.fabric_.resources)
        add(ticks_ahead(resource.free));
    return hash;
}

std::vector<int64_t> MachineState::words() {
    words_.clear();
    fills_.clear();
    for (const Core& core : m_.cores_) {
        for (const QueueState& queue : core.queues) {
            for (uint32_t n = queue.completed; n != queue.started; ++n) {
                if (const Entry& entry = queue.at(n); entry.brings)
                    fills_.push_back(entry.brings.get());
            }
        }
    }
    for (size_t core = 0; core < m_.cores_.size(); ++core)
        put_core(core);
    for (const int arrived : m_.arrived_)
        put(arrived);
    for (const Resource& resource : m_.fabric_.resources)
        put(ticks_ahead(resource.free));
    put_events(m_.calendar_.all());
    return std::move(words_);
}

// Core 0 is between two steps, the others have one under way.
void MachineState::put_core(size_t number) {
    const Core& core = m_.cores_[number];
    if (number) {
        put(static_cast<int64_t>(core.mode));
        put(core.resume == kUnknown ? kNotYet : ahead(core.resume));
        const bool waits = core.mode != Mode::issuing && core.mode != Mode::ended;
        put(waits ? m_.calendar_.now() - core.since : 0);
        put(core.step ? static_cast<int64_t>(m_.worth(*core.step, core.box)) : 0);
    }
    words_.insert(words_.end(), core.semaphores.begin(), core.semaphores.end());
    words_.insert(words_.end(), core.waiting.begin(), core.waiting.end());
    for (const QueueState& queue : core.queues)
        put_queue(queue);
}

void MachineState::put_queue(const QueueState& queue) {
    const bool head = queue.started != queue.issued;
    put(queue.open());
    put(queue.issued - queue.started);
    put(queue.free_at == kUnknown ? kNotYet : ahead(queue.free_at));
    put(head ? m_.calendar_.now() - queue.head_since : 0);
    for (uint32_t n = queue.completed; n != queue.issued; ++n)
        put_entry(queue, n);
}

void MachineState::put_entry(const QueueState& queue, uint32_t number) {
    const Entry& entry = queue.at(number);
    const Command& command = m_.program_.commands[index(entry.command)];
    const bool dma = is_dma(command);
    put(entry.command);
    if (dma) {
        put(entry.box.bytes);
        put(entry.box.charged);
        put(m_.home_of(std::get<Dma>(command.body), entry.box));
    }
    if (number - queue.completed >= queue.started - queue.completed) { // not started
        put(m_.calendar_.now() - entry.entered);
        return;
    }
    put(entry.released < 0 ? m_.calendar_.now() - entry.start : kNotYet); // its busy time is still to be counted
    put(entry.done < 0 ? kNotYet : ahead(entry.done));
    if (dma && entry.box.bytes && entry.done < 0)
        put_transfer(entry);
}

void MachineState::put_transfer(const Entry& entry) {
    const int64_t window = m_.chip_.outstanding_bursts;
    for (const int64_t word :
         {entry.size, entry.far, int64_t{entry.near != nullptr}, entry.planned, entry.sent, entry.landed,
          int64_t{entry.sending}, ticks_ahead(entry.engine_free), ticks_ahead(entry.all_arrived), entry.homes})
        put(word);
    for (int64_t burst = std::max<int64_t>(0, entry.planned - window); burst < entry.planned; ++burst) {
        const int64_t arrived = entry.arrived[index(burst % window)];
        put(arrived < 0 ? kNotYet : ticks_ahead(arrived));
        put(burst < entry.sent ? kNotYet : ticks_ahead(entry.leaves[index(burst % window)]));
    }
    put_fill(entry.fill);
    if (entry.brings)
        put_events(entry.brings->held);
}

// Which of the loads under way it is, or when it will have come.
void MachineState::put_fill(const std::shared_ptr<Fill>& fill) {
    if (fill && fill->arrived < 0)
        put(-2 - (std::find(fills_.begin(), fills_.end(), fill.get()) - fills_.begin()));
    else
        put(fill ? ticks_ahead(fill->arrived) : kNotYet);
}

void MachineState::put_events(const std::vector<Event>& events) {
    put(static_cast<int64_t>(events.size()));
    for (const Event& event : events) {
        put(event.cycle - m_.calendar_.now());
        put(static_cast<int64_t>(event.major));
        put(event.hop);
        if (event.phase() == Phase::burst) {
            put(event.number() - m_.cores_[index(event.core())].queues[index(event.queue())].completed);
            put(event.burst());
        }
    }
}

void MachineState::shift(int64_t cycles) {
    const int64_t ticks = cycles * kTicksPerCycle;
    std::set<Fill*> fills;
    for (const auto& flight : m_.flights_.all())
        fills.insert(flight.second.get());
    for (Core& core : m_.cores_) {
        core.resume += core.resume == kUnknown ? 0 : cycles;
        core.since += cycles;
        for (QueueState& queue : core.queues) {
            shift_queue(queue, cycles);
            for (uint32_t n = queue.completed; n != queue.issued; ++n)
                fills.insert({queue.at(n).fill.get(), queue.at(n).brings.get()});
        }
    }
    for (Fill* fill : fills) {
        if (!fill)
            continue;
        fill->arrived += fill->arrived < 0 ? 0 : ticks;
        for (Event& event : fill->held)
            event.cycle += cycles;
    }
    for (Resource& resource : m_.fabric_.resources)
        resource.free += ticks;
    m_.calendar_.shift(cycles);
}

void MachineState::shift_queue(QueueState& queue, int64_t cycles) {
    const int64_t ticks = cycles * kTicksPerCycle;
    queue.free_at += queue.free_at == kUnknown ? 0 : cycles;
    queue.head_since += cycles;
    for (uint32_t n = queue.completed; n != queue.issued; ++n) {
        Entry& entry = queue.at(n);
        for (int64_t* time : {&entry.entered, &entry.start, &entry.released, &entry.done})
            *time += *time < 0 ? 0 : cycles;
        entry.engine_free += ticks;
        entry.all_arrived += ticks;
        for (int64_t& time : entry.arrived)
            time += time < 0 ? 0 : ticks;
        for (int64_t& time : entry.leaves)
            time += ticks;
    }
}

} // namespace tapeout::sim
