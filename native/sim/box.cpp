#include "sim/box.h"

#include <algorithm>
#include <bit>

namespace tapeout::sim {

bool Box::operator==(const Box& other) const {
    return base == other.base && run == other.run && end == other.end && dims == other.dims &&
           std::equal(dim.begin(), dim.begin() + dims, other.dim.begin());
}

bool Box::covers(const Box& other) const {
    return (dims == 0 && base <= other.base && other.end <= end) || *this == other;
}

Box make_box(int64_t base, const Dims& extents, const Dims& strides, int64_t element_bytes) {
    Box box;
    box.base = box.end = base;
    if (!extents.product())
        return box;
    std::array<Box::Dim, kMaxDims> found{};
    int count = 0;
    for (int d = 0; d < extents.count; ++d) {
        int64_t stride = strides[d];
        if (extents[d] == 1 || stride == 0)
            continue;
        if (stride < 0) {
            box.base += (extents[d] - 1) * stride;
            stride = -stride;
        }
        Box::Dim next{stride, extents[d]};
        int at = count++;
        for (; at > 0 && found[static_cast<size_t>(at - 1)].stride > stride; --at)
            found[static_cast<size_t>(at)] = found[static_cast<size_t>(at - 1)];
        found[static_cast<size_t>(at)] = next;
    }
    // From the smallest stride up: into the run, or into the dimension below where it continues that one's steps.
    box.run = element_bytes;
    std::array<Box::Dim, kMaxDims> kept{};
    int used = 0;
    for (int i = 0; i < count; ++i) {
        const Box::Dim& next = found[static_cast<size_t>(i)];
        Box::Dim* below = used ? &kept[static_cast<size_t>(used - 1)] : nullptr;
        if (!used && next.stride <= box.run)
            box.run += next.stride * (next.count - 1);
        else if (below && next.stride % below->stride == 0 && next.stride / below->stride <= below->count)
            below->count += next.stride / below->stride * (next.count - 1);
        else
            kept[static_cast<size_t>(used++)] = next;
    }
    box.dims = used;
    box.end = box.base + box.run;
    for (int i = 0; i < used; ++i) {
        box.dim[static_cast<size_t>(i)] = kept[static_cast<size_t>(used - 1 - i)];
        box.end += kept[static_cast<size_t>(i)].stride * (kept[static_cast<size_t>(i)].count - 1);
    }
    return box;
}

namespace {

// Part of a box: from dimension `d` on, at `base`, hull [base, end).
struct Part {
    const Box* box;
    int d;
    int64_t base, end;

    bool is_run() const { return d == box->dims; }
    const Box::Dim& dim() const { return box->dim[static_cast<size_t>(d)]; }
    int64_t inner_span() const { return end - base - dim().stride * (dim().count - 1); }
    Part at(int64_t i) const {
        const int64_t start = base + i * dim().stride;
        return {box, d + 1, start, start + inner_span()};
    }
};

int64_t common(Part a, Part b) {
    if (a.base >= b.end || b.base >= a.end)
        return -1;
    if (a.is_run() && b.is_run())
        return std::max(a.base, b.base);
    if (a.is_run() || (!b.is_run() && a.dim().stride < b.dim().stride))
        std::swap(a, b);
    const int64_t stride = a.dim().stride, span = a.inner_span();
    if (!b.is_run() && b.dim().stride == stride) {
        // Only the distance of the two indices counts: i of a minus j of b.
        const int64_t b_span = b.inner_span(), offset = b.base - a.base;
        const int64_t low = std::max(1 - b.dim().count, (offset - span) / stride - 1);
        const int64_t high = std::min(a.dim().count - 1, (offset + b_span) / stride + 1);
        for (int64_t delta = low; delta <= high; ++delta) {
            const int64_t i = std::max<int64_t>(delta, 0), j = i - delta;
            const int64_t found = common(a.at(i), b.at(j));
            if (found >= 0)
                return found;
        }
        return -1;
    }
    const int64_t first = std::max<int64_t>(0, (b.base - a.base - span) / stride);
    const int64_t last = std::min(a.dim().count - 1, (b.end - a.base) / stride);
    for (int64_t i = first; i <= last; ++i) {
        const int64_t found = common(a.at(i), b);
        if (found >= 0)
            return found;
    }
    return -1;
}

// Mask of bits [from, to) of a word, 0 <= from < to <= 64.
uint64_t bits(int64_t from, int64_t to) {
    return (~uint64_t{0} << from) & (~uint64_t{0} >> (64 - to));
}

// A bit range as words: `partial(word, mask)` for the ends, `whole(first, last)` for the words between, until one of
// them returns false.
template <class Partial, class Whole>
bool split(int64_t from, int64_t to, Partial partial, Whole whole) {
    const int64_t first = from / 64, last = to / 64;
    if (first == last)
        return partial(static_cast<size_t>(first), bits(from % 64, to % 64));
    const int64_t start = from % 64 ? first + 1 : first;
    if (from % 64 && !partial(static_cast<size_t>(first), bits(from % 64, 64)))
        return false;
    if (start < last && !whole(static_cast<size_t>(start), static_cast<size_t>(last)))
        return false;
    return to % 64 == 0 || partial(static_cast<size_t>(last), bits(0, to % 64));
}

// Number of the first word in [first, last) with a bit missing, `last` if there is none.
size_t first_incomplete(const uint64_t* words, size_t first, size_t last) {
    for (; first + 8 <= last; first += 8) {
        uint64_t all = ~uint64_t{0};
        for (size_t i = 0; i < 8; ++i)
            all &= words[first + i];
        if (~all)
            break;
    }
    while (first < last && !~words[first])
        ++first;
    return first;
}

} // namespace

int64_t common_byte(const Box& a, const Box& b) {
    if (a.empty() || b.empty())
        return -1;
    return common({&a, 0, a.base, a.end}, {&b, 0, b.base, b.end});
}

void ByteMap::mark(const Box& box) {
    if (words_.empty())
        words_.resize(static_cast<size_t>(bytes_ / 64 + 1));
    for_runs(box, [&](int64_t address, int64_t count) {
        return split(
            address, address + count,
            [&](size_t word, uint64_t mask) {
                words_[word] |= mask;
                return true;
            },
            [&](size_t first, size_t last) {
                std::fill(words_.data() + first, words_.data() + last, ~uint64_t{0});
                return true;
            });
    });
}

int64_t ByteMap::first_unmarked(const Box& box) const {
    if (words_.empty())
        return box.empty() ? -1 : box.base;
    int64_t found = -1;
    const auto check = [&](size_t word, uint64_t mask) {
        const uint64_t missing = mask & ~words_[word];
        if (missing)
            found = static_cast<int64_t>(word) * 64 + std::countr_zero(missing);
        return !missing;
    };
    for_runs(box, [&](int64_t address, int64_t count) {
        return split(address, address + count, check, [&](size_t first, size_t last) {
            const size_t word = first_incomplete(words_.data(), first, last);
            return word == last || check(word, ~uint64_t{0});
        });
    });
    return found;
}

} // namespace tapeout::sim
