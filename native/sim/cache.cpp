#include "sim/cache.h"

#include "sim/hash.h"

#include <algorithm>
#include <bit>

namespace tapeout::sim {

namespace {

size_t index(int64_t i) {
    return static_cast<size_t>(i);
}

int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

// Bits `first` to `last` of a line.
uint64_t bits(int64_t first, int64_t last) {
    return (~uint64_t{0} >> (63 - (last - first))) << first;
}

void put(CacheAccess& access, int64_t die, int64_t bytes) {
    for (auto& [known, total] : access.background) {
        if (known == die) {
            total += bytes;
            return;
        }
    }
    access.background.emplace_back(die, bytes);
}

} // namespace

uint64_t CacheAccess::outcome() const {
    uint64_t word = mix(static_cast<uint64_t>(missing));
    for (const auto& [die, bytes] : background)
        word = mix(word ^ static_cast<uint64_t>(die) << 48 ^ static_cast<uint64_t>(bytes));
    return mix(word ^ static_cast<uint64_t>(fetched));
}

LineCache::LineCache(int64_t capacity_bytes, const ChipParams& chip)
    : granule_(chip.granule_bytes), interleave_(chip.interleave_bytes), dies_(chip.dies),
      room_(capacity_bytes / chip.granule_bytes) {}

// visit(line, first, last, head, tail): the granules of a run that lie in one line; whether the run begins in the
// middle of the first, or ends in the middle of the last.
template <typename F>
void LineCache::each_line(const Runs& runs, F visit) const {
    runs.each([&](int64_t at) {
        const int64_t end = at + runs.bytes; // the byte behind
        const int64_t last = floor_div(end - 1, granule_);
        for (int64_t first = floor_div(at, granule_); first <= last;) {
            const int64_t line = floor_div(first, kGranules), stop = std::min(last, line * kGranules + kGranules - 1);
            const bool head = at > first * granule_, tail = end < (stop + 1) * granule_;
            visit(line, first - line * kGranules, stop - line * kGranules, head, tail);
            first = stop + 1;
        }
    });
}

void LineCache::load(const Runs& runs, int64_t number, CacheAccess& access) {
    int64_t missing = 0;
    each_line(runs, [&](int64_t line_number, int64_t first, int64_t last, bool, bool) {
        Line& line = touch(line_number);
        const uint64_t asked = bits(first, last), absent = asked & ~line.valid;
        if (asked != absent && line.fill != number)
            access.fill = std::max(access.fill, line.fill);
        if (!absent)
            return;
        missing += std::popcount(absent);
        line.valid |= absent;
        line.fill = number;
    });
    used_ += missing;
    access.missing = missing * granule_;
}

void LineCache::store(const Runs& runs, bool add, CacheAccess& access) {
    each_line(runs, [&](int64_t line_number, int64_t first, int64_t last, bool head, bool tail) {
        Line& line = touch(line_number);
        const uint64_t written = bits(first, last), absent = written & ~line.valid;
        uint64_t partly = add ? written : 0;
        partly |= head ? bits(first, first) : 0;
        partly |= tail ? bits(last, last) : 0;
        if (const int64_t fetched = std::popcount(partly & absent) * granule_) {
            access.fetched += fetched;
            put(access, home(line), fetched);
        }
        used_ += std::popcount(absent);
        line.valid |= written;
        line.dirty |= written;
    });
}

void LineCache::drop(const Runs& runs) {
    each_line(runs, [&](int64_t number, int64_t first, int64_t last, bool, bool) {
        Line* line = find(number);
        if (!line)
            return;
        used_ -= std::popcount(line->valid & bits(first, last));
        line->valid &= ~bits(first, last);
    });
}

void LineCache::make_room(CacheAccess& access) {
    while (used_ > room_) {
        const Line& line = lines_[index(oldest_)];
        if (const int64_t written = std::popcount(line.dirty) * granule_) {
            access.written += written;
            put(access, home(line), written);
        }
        used_ -= std::popcount(line.valid);
        remove(oldest_);
    }
}

int64_t LineCache::home(const Line& line) const {
    const int64_t block = floor_div(line.number * kGranules * granule_, interleave_);
    return dies_ > 1 ? (block % dies_ + dies_) % dies_ : 0;
}

LineCache::Line* LineCache::find(int64_t number) {
    if (latest_ >= 0 && lines_[index(latest_)].number == number)
        return &lines_[index(latest_)];
    const auto found = places_.find(number);
    if (found == places_.end())
        return nullptr;
    latest_ = found->second;
    return &lines_[index(latest_)];
}

// The line, now the most recently used; a new one is empty.
LineCache::Line& LineCache::touch(int64_t number) {
    if (Line* line = find(number)) {
        if (latest_ != newest_) {
            unlink(latest_);
            link_newest(latest_);
        }
        return *line;
    }
    if (spare_.empty()) {
        spare_.push_back(static_cast<int32_t>(lines_.size()));
        lines_.emplace_back();
    }
    latest_ = spare_.back();
    spare_.pop_back();
    lines_[index(latest_)] = {.number = number};
    places_.emplace(number, latest_);
    link_newest(latest_);
    return lines_[index(latest_)];
}

void LineCache::unlink(int32_t place) {
    const Line& line = lines_[index(place)];
    (line.older < 0 ? oldest_ : lines_[index(line.older)].newer) = line.newer;
    (line.newer < 0 ? newest_ : lines_[index(line.newer)].older) = line.older;
}

void LineCache::link_newest(int32_t place) {
    Line& line = lines_[index(place)];
    line.older = newest_;
    line.newer = -1;
    (newest_ < 0 ? oldest_ : lines_[index(newest_)].newer) = place;
    newest_ = place;
}

void LineCache::remove(int32_t place) {
    unlink(place);
    places_.erase(lines_[index(place)].number);
    spare_.push_back(place);
    if (latest_ == place)
        latest_ = -1;
}

Caches::Caches(const ChipParams& chip) : cluster_cores_(static_cast<int>(chip.cores_per_cluster)) {
    for (const Shared& shared : chip.shared) {
        if (shared.hardware && caches_.empty()) {
            keeps_stores_ = shared.scope == Scope::chip;
            for (int64_t i = keeps_stores_ ? 1 : chip.clusters(); i > 0; --i)
                caches_.emplace_back(shared.bytes, chip);
        }
    }
}

CacheAccess Caches::load(int core, const Runs& runs) {
    CacheAccess access;
    LineCache& cache = caches_[keeps_stores_ ? 0 : index(core / cluster_cores_)];
    cache.load(runs, ++accesses_, access);
    cache.make_room(access);
    return access;
}

CacheAccess Caches::store(const Runs& runs, bool add) {
    CacheAccess access;
    ++accesses_;
    if (keeps_stores_) {
        caches_[0].store(runs, add, access);
        caches_[0].make_room(access);
        return access;
    }
    for (LineCache& cache : caches_)
        cache.drop(runs);
    return access;
}

} // namespace tapeout::sim
