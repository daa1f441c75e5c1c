// DMA in the timing executor: rules 9 to 15 of docs/timing.md.
#include "sim/steady.h"
#include "sim/timing.h"

#include <algorithm>

namespace tapeout::sim {

std::shared_ptr<Fill> Flights::find(int64_t number, int64_t tick) const {
    const auto found = std::lower_bound(all_.begin(), all_.end(), number,
                                        [](const auto& flight, int64_t wanted) { return flight.first < wanted; });
    const bool under_way = found != all_.end() && found->first == number && !has_come(*found->second, tick);
    return under_way ? found->second : nullptr;
}

int64_t Flights::first(int64_t tick, int64_t none) {
    while (!all_.empty() && has_come(*all_.front().second, tick))
        all_.pop_front();
    return all_.empty() ? none : all_.front().first;
}

void Flights::renumber(int64_t more) {
    for (auto& flight : all_)
        flight.first += more;
}

namespace {

size_t index(int64_t i) {
    return static_cast<size_t>(i);
}

} // namespace

void Machine::start_transfer(int core, int queue, Entry& entry) {
    const int64_t ready = calendar_.now() + chip_.dma_setup_cycles;
    if (entry.box.bytes == 0) { // rule 9: wholly outside
        if (steady_)
            steady_->started(core, queue, {});
        release(core, queue, entry, ready);
        done(core, queue, entry, ready);
        return;
    }
    const Look look = choose_way(core, entry);
    if (steady_)
        steady_->started(core, queue, look);
    entry.bursts = ceil_div(entry.far, chip_.burst_bytes) + ceil_div(entry.size - entry.far, chip_.burst_bytes);
    entry.planned = entry.sent = entry.landed = entry.all_arrived = 0;
    entry.engine_free = ready * kTicksPerCycle;
    entry.arrived.resize(index(std::min(chip_.outstanding_bursts, entry.bursts)));
    entry.leaves.resize(entry.arrived.size());
    plan(core, queue, entry);
    send(core, queue, entry);
}

// Rules 9 and 12 to 14: bytes on the way, and which way; counts what DRAM moves, and keeps the caches.
Look Machine::choose_way(int core, Entry& entry) {
    const Command& command = program_.commands[index(entry.command)];
    const Dma& dma = std::get<Dma>(command.body);
    const Footprint& box = entry.box;
    const bool store = command.opcode == Opcode::Store;
    entry.homes = homes_of(dma);
    entry.home = home_of(dma, box);
    entry.near = nullptr;
    if (const int space = program_.tensors[index(dma.tensor)].space) {
        entry.far = entry.size = box.bytes * (dma.add ? 2 : 1);
        entry.routes = fabric_.space_routes(core, store, space).data();
        return {};
    }
    entry.far = entry.size = box.charged;
    entry.routes = fabric_.dram_routes(core, store);
    if (!caches_.empty() && !dma.indexed) {
        const Look look = use_cache(core, entry, dma, store);
        if (entry.near)
            return look;
    }
    KernelCounts& counts = counts_.kernels[index(command.kernel)];
    (store ? counts.written_bytes : counts.read_bytes) += box.bytes;
    (store ? counts.written_charged : counts.read_charged) += box.charged;
    return {};
}

// Rule 14; a store that a cache does not keep goes on as it is.
Look Machine::use_cache(int core, Entry& entry, const Dma& dma, bool store) {
    const Runs runs = walk_.runs(entry.command, entry.box);
    const CacheAccess access = store ? caches_.store(runs, dma.add) : caches_.load(core, runs);
    if (store && !caches_.keeps_stores())
        return {};
    const int64_t now = calendar_.now() * kTicksPerCycle, number = caches_.accesses();
    KernelCounts& counts = counts_.kernels[index(program_.commands[index(entry.command)].kernel)];
    for (const auto& [die, bytes] : access.background)
        fabric_.channel(die).serve(now, bytes);
    const int64_t bytes = entry.box.bytes, brought = std::min(bytes, access.missing);
    counts.read_bytes += access.fetched + brought;
    counts.read_charged += access.fetched + access.missing;
    counts.written_bytes += access.written;
    counts.written_charged += access.written;
    entry.near = &fabric_.cache_route(core, store);
    entry.far = access.missing;
    entry.size = store ? bytes * (dma.add ? 2 : 1) : std::max(bytes, access.missing);
    Look look{.outcome = access.outcome(), .flight = number - flights_.first(now, number)};
    if (store)
        return look;
    counts_.cache_hit_bytes += bytes - brought;
    counts_.cache_missed_bytes += brought;
    if (access.fill) {
        entry.fill = flights_.find(access.fill, now);
        look.age = number - access.fill;
        look.waits = entry.fill != nullptr;
    }
    if (access.missing) {
        entry.brings = std::make_shared<Fill>();
        flights_.add(number, entry.brings);
    }
    return look;
}

// Rule 12: when bursts leave the engine (and a port that is the queue's own), as far as it is known.
void Machine::plan(int core, int queue, Entry& entry) {
    const int64_t window = chip_.outstanding_bursts;
    while (entry.planned < entry.bursts) {
        const int64_t burst = entry.planned;
        const size_t place = index(burst % window);
        int64_t ready = entry.engine_free;
        if (burst >= window) {
            if (entry.arrived[place] < 0)
                return;
            ready = std::max(ready, entry.arrived[place]);
        }
        entry.engine_free =
            ready +
            (burst_bytes(entry, burst) == chip_.burst_bytes ? full_burst_ : engine_.service(burst_bytes(entry, burst)));
        entry.arrived[place] = -1;
        const Route& way = route(entry, static_cast<uint32_t>(burst));
        entry.leaves[place] =
            way.own ? fabric_.resources[index(way.resource[0])].serve(entry.engine_free, burst_bytes(entry, burst))
                    : entry.engine_free;
        ++entry.planned;
    }
    release(core, queue, entry, ceil_div(entry.engine_free, kTicksPerCycle));
}

// Only one burst of a command is on its way to the first shared resource at a time: the next follows from there.
void Machine::send(int core, int queue, Entry& entry) {
    entry.sending = entry.sent < entry.planned;
    if (!entry.sending)
        return;
    const int64_t burst = entry.sent++, leaves = entry.leaves[index(burst % chip_.outstanding_bursts)];
    calendar_.push({.major = Event::order(leaves % kTicksPerCycle, Phase::burst, core, queue),
                    .minor = static_cast<uint64_t>(entry.number) << 32 | static_cast<uint64_t>(burst),
                    .cycle = leaves / kTicksPerCycle,
                    .hop = route(entry, static_cast<uint32_t>(burst)).own});
}

// A burst is at the shared resource number `event.hop` of its route.
void Machine::arrive(Event& event) {
    const int core = event.core(), queue = event.queue();
    Entry& entry = cores_[index(core)].queues[index(queue)].at(event.number());
    const uint32_t burst = event.burst();
    if (entry.sending && entry.sent == int64_t{burst} + 1)
        send(core, queue, entry);
    const Route& way = route(entry, burst);
    int64_t tick = event.tick();
    if (event.hop == way.hold && entry.fill && hold(event, *entry.fill))
        return;
    if (event.hop < way.hops) {
        Resource& resource = fabric_.resources[index(way.resource[event.hop])];
        tick = resource.serve(tick, burst_bytes(entry, burst));
        ++event.hop;
    }
    if (event.hop == way.hops) {
        land(core, queue, entry, burst, tick + way.latency_ticks);
    } else {
        push_burst(event, tick);
    }
}

// Rule 14: a hit's burst does not go through the cache's port before what it depends on has come.
bool Machine::hold(Event& event, Fill& fill) {
    if (fill.arrived >= 0 && fill.arrived <= event.tick())
        return false;
    if (fill.arrived < 0)
        fill.held.push_back(event);
    else
        push_burst(event, fill.arrived);
    return true;
}

void Machine::push_burst(Event event, int64_t tick) {
    event.major = Event::order(tick % kTicksPerCycle, Phase::burst, event.core(), event.queue());
    event.cycle = tick / kTicksPerCycle;
    calendar_.push(event);
}

void Machine::land(int core, int queue, Entry& entry, uint32_t burst, int64_t tick) {
    const int64_t window = chip_.outstanding_bursts;
    entry.arrived[index(burst % window)] = tick;
    entry.all_arrived = std::max(entry.all_arrived, tick);
    ++entry.landed;
    if (entry.planned < entry.bursts) {
        plan(core, queue, entry);
        if (!entry.sending)
            send(core, queue, entry);
    }
    if (entry.landed < entry.bursts)
        return;
    if (entry.brings) {
        entry.brings->arrived = entry.all_arrived;
        for (const Event& held : entry.brings->held)
            push_burst(held, entry.all_arrived);
        entry.brings->held.clear();
    }
    done(core, queue, entry, ceil_div(entry.all_arrived, kTicksPerCycle));
}

} // namespace tapeout::sim
