#include "sim/hazards.h"

#include <algorithm>

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
    for (size_t i = ranges_.size(); i > 0; --i) {
        const Range range = ranges_[i - 1];
        if (range.base >= box.end || box.base >= range.end)
            continue;
        const Record& record = records_[i - 1];
        if (epochs.ordered(record.who, clock, who.core)) {
            // Whatever is not after the new access is not after the old one either: the new one can stand for both.
            if ((write || !record.write) && box.covers(record.box))
                remove(i - 1);
        } else if (write || record.write) {
            const int64_t address = common_byte(record.box, box);
            if (address >= 0)
                return {record.who, record.write, address};
        }
    }
    ranges_.push_back({box.base, box.end});
    records_.push_back({box, who, write});
    return {};
}

void AccessList::remove(size_t i) {
    ranges_[i] = ranges_.back();
    records_[i] = records_.back();
    ranges_.pop_back();
    records_.pop_back();
}

} // namespace tapeout::sim
