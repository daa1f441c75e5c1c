#include "sim/steady.h"

#include <algorithm>
#include <utility>

namespace tapeout::sim {

namespace {

constexpr int64_t kFewTurns = 4;                // loops with fewer turns left are not worth an anchor
constexpr int64_t kWordsPerEvent = 2;           // words of state that may be written per event simulated
constexpr size_t kLongestLog = size_t{1} << 24; // steps; beyond that anchors are given up

size_t index(int64_t i) {
    return static_cast<size_t>(i);
}

template <typename C, typename F>
void each_count(C& counts, F visit) {
    for (auto& core : counts.cores) {
        for (auto& q : core.queue) {
            for (auto* count : {&q.commands, &q.busy, &q.wait_semaphore, &q.wait_engine, &q.full})
                visit(*count);
        }
        visit(core.wait_barrier);
        visit(core.wait_scalar);
    }
    for (auto& k : counts.kernels) {
        for (size_t queue = 0; queue < kQueues; ++queue) {
            visit(k.commands[queue]);
            visit(k.busy[queue]);
        }
        for (auto* count : {&k.read_bytes, &k.read_charged, &k.written_bytes, &k.written_charged})
            visit(*count);
    }
    visit(counts.cache_hit_bytes);
    visit(counts.cache_missed_bytes);
    visit(counts.skipped_turns);
}

} // namespace

SteadyLoops::SteadyLoops(Machine& machine)
    : m_(machine), anchors_(machine.program_.loops.size()), steps_(machine.cores_.size()) {}

void SteadyLoops::note(int core, const Step& step, const Footprint& box) {
    steps_[index(core)].push_back(m_.worth(step, box));
}

void SteadyLoops::started(int core, int queue, const Look& look) {
    if (!m_.caches_.empty())
        starts_.push_back({core, queue, look});
}

bool SteadyLoops::affordable(size_t words) const {
    return words_ + static_cast<int64_t>(words) <= events_ * kWordsPerEvent;
}

void SteadyLoops::turn(int loop) {
    const Control& control = m_.cores_[0].control;
    const int64_t turn = control.turn(loop);
    Anchor& anchor = anchors_[index(loop)];
    forget_inside(loop);
    if (turn == 1)
        anchor = {};
    if (std::none_of(anchors_.begin(), anchors_.end(), [](const Anchor& a) { return a.valid; })) {
        for (std::vector<uint64_t>& log : steps_)
            log.clear();
        starts_.clear();
    } else if (steps_[0].size() > kLongestLog / steps_.size() || starts_.size() > kLongestLog) {
        for (Anchor& other : anchors_)
            other.valid = false;
    }
    if (control.trips(loop) - turn < kFewTurns || !affordable(index(last_size_)))
        return;
    const uint64_t fingerprint = MachineState(m_).fingerprint();
    if (anchor.valid && anchor.fingerprint == fingerprint && turn >= anchor.next_try) {
        if (skip(anchor, loop)) {
            anchor.valid = false;
            return;
        }
    }
    if (!anchor.valid || turn - anchor.turn >= anchor.reach)
        save(anchor, fingerprint, turn);
}

void SteadyLoops::forget_inside(int loop) {
    for (size_t inner = 0; inner < anchors_.size(); ++inner) {
        int around = m_.program_.loops[inner].parent;
        while (around >= 0 && around != loop)
            around = m_.program_.loops[index(around)].parent;
        if (around == loop)
            anchors_[inner].valid = false;
    }
}

void SteadyLoops::save(Anchor& anchor, uint64_t fingerprint, int64_t turn) {
    anchor.reach = anchor.valid ? 2 * anchor.reach : 1;
    anchor.valid = true;
    anchor.fingerprint = fingerprint;
    anchor.state = MachineState(m_).words();
    words_ += last_size_ = static_cast<int64_t>(anchor.state.size());
    anchor.turn = turn;
    anchor.cycle = m_.calendar_.now();
    anchor.next_try = anchor.failures = 0;
    anchor.steps.clear();
    for (const std::vector<uint64_t>& log : steps_)
        anchor.steps.push_back(log.size());
    anchor.starts = starts_.size();
    anchor.counts.clear();
    each_count(m_.counts_, [&](int64_t count) { anchor.counts.push_back(count); });
    anchor.busy.clear();
    for (const Resource& resource : m_.fabric_.resources)
        anchor.busy.push_back(resource.busy);
    anchor.last_end = m_.last_end_;
}

// True if turns were skipped.
bool SteadyLoops::skip(Anchor& anchor, int loop) {
    const Control& control = m_.cores_[0].control;
    Period period{control.turn(loop) - anchor.turn, m_.calendar_.now() - anchor.cycle, 0};
    period.times = (control.trips(loop) - 1 - control.turn(loop)) / period.turns;
    const std::vector<int64_t> state = MachineState(m_).words();
    words_ += last_size_ = static_cast<int64_t>(state.size());
    if (state != anchor.state) {
        anchor.next_try = control.turn(loop) + ++anchor.failures;
        return false;
    }
    std::vector<Walker> walkers;
    for (int core = 0; core < m_.program_.cores && period.times > 0; ++core) {
        walkers.push_back(walker(core));
        const int64_t times = walk(anchor, core, walkers.back(), period.times);
        if (times < period.times) { // again from the beginning, with what is possible
            period.times = times;
            walkers.clear();
            core = -1;
        }
    }
    if (period.times > 0 && !m_.caches_.empty()) {
        Caches caches = m_.caches_;
        Backlog left = backlog();
        const int64_t times = replay(anchor, period.times, caches, left);
        if (times < period.times) {
            period.times = times;
            caches = Caches(m_.caches_);
            left = backlog();
            replay(anchor, times, caches, left);
            for (int core = 0; core < m_.program_.cores; ++core) {
                walkers[index(core)] = walker(core);
                walk(anchor, core, walkers[index(core)], times);
            }
        }
        if (times > 0)
            adopt_caches(std::move(caches), std::move(left));
    }
    if (period.times <= 0)
        return false;
    for (size_t core = 0; core < walkers.size(); ++core)
        m_.cores_[core].control = std::move(walkers[core].control);
    repeat(anchor, period);
    return true;
}

SteadyLoops::Walker SteadyLoops::walker(int core) const {
    const Core& state = m_.cores_[index(core)];
    return {state.control, core ? state.step : nullptr};
}

// One step ahead; false where control can not know the way.
bool SteadyLoops::advance(Walker& walker, Footprint& box) const {
    if (walker.step && walker.step->kind == StepKind::LoadScalar && !walker.control.load_scalar(*walker.step))
        return false;
    walker.step = &walker.control.next();
    if (walker.step->kind == StepKind::Issue) {
        const Opcode opcode = m_.program_.commands[index(walker.step->command)].opcode;
        if (opcode == Opcode::Load || opcode == Opcode::Store)
            box = m_.value(walker.control, walker.step->command);
    }
    return true;
}

// How many times, up to `times`, a core's steps ahead repeat those since the anchor; walks as many steps.
int64_t SteadyLoops::walk(const Anchor& anchor, int core, Walker& walker, int64_t times) const {
    const std::vector<uint64_t>& log = steps_[index(core)];
    const size_t first = anchor.steps[index(core)];
    Footprint box;
    for (int64_t done = 0; done < times; ++done) {
        for (size_t step = first; step < log.size(); ++step) {
            if (!advance(walker, box) || m_.worth(*walker.step, box) != log[step])
                return done;
        }
    }
    return times;
}

SteadyLoops::Backlog SteadyLoops::backlog() const {
    Backlog all(m_.cores_.size());
    for (size_t number = 0; number < all.size(); ++number) {
        const Core& core = m_.cores_[number];
        const auto add = [&](int command, const Footprint& box) {
            const Command& c = m_.program_.commands[index(command)];
            if (c.opcode == Opcode::Load || c.opcode == Opcode::Store)
                all[number][static_cast<size_t>(c.queue)].push_back({command, box});
        };
        for (size_t q = 0; q < 2; ++q) {
            for (uint32_t n = core.queues[q].started; n != core.queues[q].issued; ++n)
                add(core.queues[q].at(n).command, core.queues[q].at(n).box);
        }
        if (number && core.step && core.step->kind == StepKind::Issue)
            add(core.step->command, core.box);
    }
    return all;
}

// Whether a DMA command does to its cache what it did a period ago, and waits for the load that it waited for then.
// A load that began more than `longest_flight` accesses ago has come.
bool SteadyLoops::same_way(const Start& start, int64_t longest_flight, const CacheAccess& access,
                           int64_t number) const {
    const int64_t age = access.fill ? number - access.fill : 0;
    const bool has_come = !start.look.waits && (age == 0 || age > longest_flight);
    return access.outcome() == start.look.outcome && (age == start.look.age || has_come);
}

// The same for the caches' directories: every start of the period has the same outcome, on its own lines.
int64_t SteadyLoops::replay(const Anchor& anchor, int64_t times, Caches& caches, Backlog& backlog) const {
    int64_t longest_flight = 0;
    for (size_t i = anchor.starts; i < starts_.size(); ++i)
        longest_flight = std::max(longest_flight, starts_[i].look.flight);
    std::vector<Walker> walkers;
    for (size_t core = 0; core < m_.cores_.size(); ++core)
        walkers.push_back(walker(static_cast<int>(core)));
    Footprint box;
    for (int64_t done = 0; done < times; ++done) {
        for (size_t core = 0; core < walkers.size(); ++core) {
            for (size_t step = anchor.steps[core]; step < steps_[core].size(); ++step) {
                advance(walkers[core], box);
                if (walkers[core].step->kind != StepKind::Issue)
                    continue;
                const Command& command = m_.program_.commands[index(walkers[core].step->command)];
                if (command.opcode == Opcode::Load || command.opcode == Opcode::Store)
                    backlog[core][static_cast<size_t>(command.queue)].push_back({walkers[core].step->command, box});
            }
        }
        for (size_t i = anchor.starts; i < starts_.size(); ++i) {
            std::deque<Pending>& queue = backlog[index(starts_[i].core)][index(starts_[i].queue)];
            const Pending& next = queue.front();
            const Command& command = m_.program_.commands[index(next.command)];
            const Dma& dma = std::get<Dma>(command.body);
            const bool cached = next.box.bytes && !dma.indexed && !m_.program_.tensors[index(dma.tensor)].space;
            bool same = true;
            if (cached) {
                const Runs runs = m_.walk_.runs(next.command, next.box);
                const bool store = command.opcode == Opcode::Store;
                const CacheAccess access = store ? caches.store(runs, dma.add) : caches.load(starts_[i].core, runs);
                same = (store && !caches.keeps_stores()) ||
                       same_way(starts_[i], longest_flight, access, caches.accesses());
            }
            queue.pop_front();
            if (!same)
                return done;
        }
    }
    return times;
}

// The directories and the commands still to start are those of the period's end; the loads under way are as they were.
void SteadyLoops::adopt_caches(Caches caches, Backlog backlog) {
    m_.flights_.renumber(caches.accesses() - m_.caches_.accesses());
    m_.caches_ = std::move(caches);
    for (size_t number = 0; number < backlog.size(); ++number) {
        Core& core = m_.cores_[number];
        for (size_t q = 0; q < 2; ++q) {
            std::deque<Pending>& left = backlog[number][q];
            for (uint32_t n = core.queues[q].started; n != core.queues[q].issued; ++n) {
                Entry& entry = core.queues[q].at(n);
                if (!left.empty() && m_.program_.commands[index(entry.command)].opcode != Opcode::Nop) {
                    entry.box = left.front().box;
                    left.pop_front();
                }
            }
            if (!left.empty())
                core.box = left.front().box;
        }
    }
}

// Everything that the period changed changes as much again, so many times.
void SteadyLoops::repeat(const Anchor& anchor, const Period& period) {
    size_t at = 0;
    each_count(m_.counts_, [&](int64_t& count) { count += (count - anchor.counts[at++]) * period.times; });
    m_.counts_.skipped_turns += period.turns * period.times;
    for (size_t i = 0; i < anchor.busy.size(); ++i) {
        Resource& resource = m_.fabric_.resources[i];
        resource.busy += (resource.busy - anchor.busy[i]) * period.times;
    }
    for (size_t kernel = 0; kernel < anchor.last_end.size(); ++kernel) {
        if (m_.last_end_[kernel] != anchor.last_end[kernel])
            m_.last_end_[kernel] += period.cycles * period.times;
    }
    const bool outer = std::count_if(anchors_.begin(), anchors_.end(), [](const Anchor& a) { return a.valid; }) > 1;
    const auto extend = [&](auto& log, size_t first) {
        const size_t last = log.size();
        for (int64_t i = 0; outer && i < period.times && log.size() <= kLongestLog; ++i) {
            for (size_t item = first; item < last; ++item) {
                const auto copy = log[item];
                log.push_back(copy);
            }
        }
    };
    for (size_t core = 0; core < steps_.size(); ++core)
        extend(steps_[core], anchor.steps[core]);
    extend(starts_, anchor.starts);
    MachineState(m_).shift(period.cycles * period.times);
}

} // namespace tapeout::sim
