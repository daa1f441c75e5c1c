#include "sim/hazards.h"

#include <bit>
#include <iterator>

namespace tapeout::sim {

void Clock::join(const Clock& other) {
    epoch = std::max(epoch, other.epoch);
    for (size_t i = 0; i < seen.size(); ++i)
        seen[i] = std::max(seen[i], other.seen[i]);
}

Epochs::Epochs(int cores, int cores_per_cluster) : cores_(cores), cores_per_cluster_(cores_per_cluster) {
    known_.emplace_back(static_cast<size_t>(cores * kThreads), 0u);
}

int64_t Epochs::add(const std::vector<Clock>& arrivals) {
    std::vector<uint32_t> next(static_cast<size_t>(cores_ * kThreads), 0u);
    int64_t newest = first_;
    for (const Clock& clock : arrivals)
        newest = std::max(newest, clock.epoch);
    next = known_[static_cast<size_t>(newest - first_)];
    for (int core = 0; core < cores_; ++core) {
        const Clock& clock = arrivals[static_cast<size_t>(core)];
        const size_t start = static_cast<size_t>(cluster_of(core) * cores_per_cluster_ * kThreads);
        for (size_t i = 0; i < clock.seen.size(); ++i)
            next[start + i] = std::max(next[start + i], clock.seen[i]);
    }
    known_.push_back(std::move(next));
    return first_ + static_cast<int64_t>(known_.size()) - 1;
}

void Epochs::forget_before(int64_t epoch) {
    for (; first_ < epoch; ++first_)
        known_.pop_front();
}

uint32_t Epochs::seen(int64_t epoch, int core, int thread) const {
    return known_[static_cast<size_t>(epoch - first_)][static_cast<size_t>(core * kThreads + thread)];
}

bool Epochs::ordered(const Who& who, const Clock& clock, int core) const {
    if (cluster_of(who.core) == cluster_of(core))
        return clock.seen[static_cast<size_t>(local_thread(who.core, who.thread))] >= who.step;
    return seen(clock.epoch, who.core, who.thread) >= who.step;
}

void Epochs::refresh(Clock& clock, int core) const {
    const auto& known = known_[static_cast<size_t>(clock.epoch - first_)];
    const size_t start = static_cast<size_t>(cluster_of(core) * cores_per_cluster_ * kThreads);
    for (size_t i = 0; i < clock.seen.size(); ++i)
        clock.seen[i] = std::max(clock.seen[i], known[start + i]);
}

Race AccessList::add(const Box& box, bool write, const Who& who, const Clock& clock, const Epochs& epochs) {
    for (size_t bits = 0; bits < by_length_.size(); ++bits) {
        ByBase& records = by_length_[bits];
        if (records.empty())
            continue;
        const int64_t reach = int64_t{1} << std::min<size_t>(bits, 62);
        for (auto at = records.lower_bound(box.base - reach); at != records.end() && at->first < box.end;) {
            const auto next = std::next(at);
            const Record& record = at->second;
            if (record.box.end <= box.base) {
                at = next;
                continue;
            }
            if (epochs.ordered(record.who, clock, who.core)) {
                // Whatever is not after the new access is not after the old one either: the new one can stand for both.
                if ((write || !record.write) && box.covers(record.box)) {
                    records.erase(at);
                    --size_;
                }
            } else if (write || record.write) {
                const int64_t address = common_byte(record.box, box);
                if (address >= 0)
                    return {record.who, record.write, address};
            }
            at = next;
        }
    }
    by_length_[static_cast<size_t>(std::bit_width(static_cast<uint64_t>(box.end - box.base)))].emplace(
        box.base, Record{box, who, write});
    ++size_;
    return {};
}

} // namespace tapeout::sim
