// Loads and stores: boxes clipped to their tensor, gathered and scattered rows, multicast.
#include "sim/execute.h"
#include "sim/numeric.h"

#include <algorithm>
#include <cstring>

namespace tapeout::sim {

namespace {

// dst += src element by element, in order.
template <class Number>
void add_row(DType type, uint8_t* dst, int64_t dst_stride, const uint8_t* src, int64_t src_stride, int64_t count) {
    constexpr int64_t kChunk = 256;
    Number sum[kChunk], term[kChunk];
    // Elements that share bytes must be added one after another.
    const int64_t step = dst_stride >= dtype_bytes(type) ? kChunk : 1;
    for (int64_t i = 0; i < count; i += step) {
        const int64_t n = std::min(step, count - i);
        load(type, dst + i * dst_stride, dst_stride, sum, n);
        load(type, src + i * src_stride, src_stride, term, n);
        for (int64_t j = 0; j < n; ++j) {
            if constexpr (std::is_same_v<Number, int64_t>)
                sum[j] = static_cast<int64_t>(static_cast<uint64_t>(sum[j]) + static_cast<uint64_t>(term[j]));
            else
                sum[j] += term[j];
        }
        store(type, sum, dst + i * dst_stride, dst_stride, n);
    }
}

void add_doubles(uint8_t* dst, int64_t dst_stride, const uint8_t* src, int64_t src_stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        double sum, term;
        std::memcpy(&sum, dst + i * dst_stride, sizeof(sum));
        std::memcpy(&term, src + i * src_stride, sizeof(term));
        sum += term;
        std::memcpy(dst + i * dst_stride, &sum, sizeof(sum));
    }
}

void add_elements(DType type, const Dims& dims, int d, uint8_t* dst, const Dims& ds, const uint8_t* src,
                  const Dims& ss) {
    if (d < dims.count - 1) {
        for (int64_t i = 0; i < dims[d]; ++i)
            add_elements(type, dims, d + 1, dst + i * ds[d], ds, src + i * ss[d], ss);
        return;
    }
    const int64_t count = d < dims.count ? dims[d] : 1;
    const int64_t to = d < dims.count ? ds[d] : 0, from = d < dims.count ? ss[d] : 0;
    if (type == DType::f64)
        add_doubles(dst, to, src, from, count);
    else if (is_float(type))
        add_row<float>(type, dst, to, src, from, count);
    else
        add_row<int64_t>(type, dst, to, src, from, count);
}

} // namespace

void Executor::dma(const Dma& d, bool load, Slots slots) {
    const Tensor& t = program_.tensors[static_cast<size_t>(d.tensor)];
    if (d.local.dtype != t.dtype && dtype_bytes(d.local.dtype) != dtype_bytes(t.dtype))
        throw Fault{"element sizes of tensor and local view differ"};
    moves_.clear();
    targets_.clear();
    outside_ = false;
    targets_.push_back(view(d.local, d.extents, slots, load ? kRoleLd : kRoleSt, load, !load));
    if (d.multicast) {
        const auto per_cluster = static_cast<int>(chip_.cores_per_cluster);
        const int first = who_.core / per_cluster * per_cluster;
        for (int core = first; core < std::min(first + per_cluster, program_.cores); ++core) {
            if (core == who_.core)
                continue;
            Space& space = storage_.local(core, d.local.memory);
            targets_.push_back(
                note(space, d.local.base.value(slots), d.extents, d.local.strides, dtype_bytes(t.dtype), true, false));
        }
    }
    std::vector<int64_t> origin(d.origin.size());
    for (size_t i = 0; i < origin.size(); ++i)
        origin[i] = d.origin[i].value(slots);
    const int64_t base = t.base + d.offset.value(slots);
    if (d.indexed)
        rows(d, load, slots, std::move(origin), base);
    else
        move_box(d, load, origin, base, 0, -1);
    check_before();
    if (load && outside_)
        fill(d);
    for (const Move& move : moves_)
        transfer(d, load, move.extents, move.local, move.remote);
    mark_after();
}

// One box for each run of the list whose coordinates follow each other.
void Executor::rows(const Dma& d, bool load, Slots slots, std::vector<int64_t> origin, int64_t base) {
    Dims count;
    count.count = 1;
    count[0] = d.extents[d.index_dim];
    View packed = d.index_list;
    packed.strides = {};
    packed.strides.count = 1;
    packed.strides[0] = dtype_bytes(packed.dtype);
    const uint8_t* list = view(packed, count, slots, kRoleVe, false, true);
    if (options_.check) { // before its numbers are used as addresses
        const Access& a = accesses_.back();
        const int64_t missing = a.space->initialised ? -1 : a.space->written.first_unmarked(a.box);
        if (missing >= 0)
            throw Fault{"the index list lies in bytes that were never written", missing};
    }
    list_.resize(static_cast<size_t>(count[0]));
    sim::load(packed.dtype, list, packed.strides[0], list_.data(), count[0]);
    const auto dim = static_cast<size_t>(d.index_dim);
    const int64_t start = origin[dim];
    for (int64_t i = 0; i < count[0];) {
        int64_t end = i + 1;
        while (end < count[0] && list_[static_cast<size_t>(end)] == list_[static_cast<size_t>(end - 1)] + 1)
            ++end;
        origin[dim] = start + list_[static_cast<size_t>(i)];
        move_box(d, load, origin, base, i, end - i);
        i = end;
    }
}

// Notes the part of the box that lies inside the tensor. `count` >= 0: of the indexed dimension just `count` elements,
// that are `first` and following ones in local memory.
void Executor::move_box(const Dma& d, bool load, const std::vector<int64_t>& origin, int64_t base, int64_t first,
                        int64_t count) {
    const Tensor& t = program_.tensors[static_cast<size_t>(d.tensor)];
    Move move;
    move.extents = d.extents;
    move.local = targets_[0];
    int64_t address = base;
    for (int i = 0; i < d.extents.count; ++i) {
        const bool listed = count >= 0 && i == d.index_dim;
        const int64_t extent = listed ? count : d.extents[i], start = origin[static_cast<size_t>(i)];
        const int64_t low = std::max<int64_t>(0, -start), high = std::min(extent, t.extents[i] - start);
        outside_ |= low > 0 || high < extent;
        if (high <= low)
            return;
        move.extents[i] = high - low;
        move.local += (low + (listed ? first : 0)) * d.local.strides[i];
        address += (start + low) * t.strides[i];
    }
    const int64_t size = dtype_bytes(t.dtype);
    const Box box = make_box(address, move.extents, t.strides, size);
    if (box.empty())
        return;
    Space& space = storage_.find(t.space, who_.core, box.base, box.end);
    move.remote = note(space, address, move.extents, t.strides, size, !load, load || d.add);
    moves_.push_back(move);
}

void Executor::transfer(const Dma& d, bool load, const Dims& extents, uint8_t* local, uint8_t* remote) {
    const Tensor& t = program_.tensors[static_cast<size_t>(d.tensor)];
    const int64_t size = dtype_bytes(t.dtype);
    if (!load && d.add)
        return add_elements(t.dtype, extents, 0, remote, t.strides, local, d.local.strides);
    if (!load)
        return copy_elements(extents, remote, t.strides, local, d.local.strides, size);
    for (uint8_t* target : targets_)
        copy_elements(extents, target + (local - targets_[0]), d.local.strides, remote, t.strides, size);
}

void Executor::fill(const Dma& d) {
    const Tensor& t = program_.tensors[static_cast<size_t>(d.tensor)];
    uint8_t element[8];
    encode_element(t.dtype, t.fill, element);
    Dims none;
    none.count = d.extents.count;
    const bool bytes = std::all_of(element, element + dtype_bytes(t.dtype), [&](uint8_t b) { return b == element[0]; });
    const Box box = make_box(0, d.extents, d.local.strides, dtype_bytes(t.dtype));
    for (uint8_t* target : targets_) {
        if (!bytes) {
            copy_elements(d.extents, target, d.local.strides, element, none, dtype_bytes(t.dtype));
            continue;
        }
        for_runs(box, [&](int64_t at, int64_t run) {
            std::memset(target + at, element[0], static_cast<size_t>(run));
            return true;
        });
    }
}

} // namespace tapeout::sim
