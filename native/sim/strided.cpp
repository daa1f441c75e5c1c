// Walking strided views: merging dimensions, copying elements.
#include "sim/vector.h"

#include <algorithm>
#include <cstring>

namespace tapeout::sim {

namespace {

void erase_dim(Dims& dims, int at) {
    for (int i = at; i + 1 < dims.count; ++i)
        dims[i] = dims[i + 1];
    --dims.count;
}

template <int size>
void copy_row(uint8_t* dst, int64_t dst_stride, const uint8_t* src, int64_t src_stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
        std::memcpy(dst + i * dst_stride, src + i * src_stride, size);
}

// A transposing plane: short tiles, so that the lines of both sides stay in the first cache.
template <int size>
void copy_plane(const Dims& dims, int outer, uint8_t* dst, const Dims& ds, const uint8_t* src, const Dims& ss) {
    const int inner = dims.count - 1;
    constexpr int64_t kTile = 32;
    for (int64_t i = 0; i < dims[outer]; i += kTile) {
        const int64_t rows = std::min(kTile, dims[outer] - i);
        for (int64_t j = 0; j < dims[inner]; j += kTile) {
            const int64_t cols = std::min(kTile, dims[inner] - j);
            for (int64_t r = i; r < i + rows; ++r) {
                copy_row<size>(dst + r * ds[outer] + j * ds[inner], ds[inner], src + r * ss[outer] + j * ss[inner],
                               ss[inner], cols);
            }
        }
    }
}

void copy_planes(const Dims& dims, int d, uint8_t* dst, const Dims& ds, const uint8_t* src, const Dims& ss,
                 int64_t size) {
    if (d < dims.count - 2) {
        for (int64_t i = 0; i < dims[d]; ++i)
            copy_planes(dims, d + 1, dst + i * ds[d], ds, src + i * ss[d], ss, size);
        return;
    }
    switch (size) {
    case 1:
        return copy_plane<1>(dims, d, dst, ds, src, ss);
    case 2:
        return copy_plane<2>(dims, d, dst, ds, src, ss);
    case 4:
        return copy_plane<4>(dims, d, dst, ds, src, ss);
    default:
        return copy_plane<8>(dims, d, dst, ds, src, ss);
    }
}

void copy_runs(const Dims& dims, int d, uint8_t* dst, const Dims& ds, const uint8_t* src, const Dims& ss, int64_t run) {
    if (d >= dims.count || d >= kMaxDims) {
        std::memmove(dst, src, static_cast<size_t>(run));
        return;
    }
    for (int64_t i = 0; i < dims[d]; ++i)
        copy_runs(dims, d + 1, dst + i * ds[d], ds, src + i * ss[d], ss, run);
}

} // namespace

int collapse(Dims& dims, int first, int last, Dims** strides, int count) {
    const int before = dims.count;
    const auto erase = [&](int at) {
        erase_dim(dims, at);
        for (int s = 0; s < count; ++s)
            erase_dim(*strides[s], at);
        --last;
    };
    for (int d = last - 1; d >= first; --d) {
        if (dims[d] == 1)
            erase(d);
    }
    for (int d = last - 2; d >= first; --d) {
        bool one = true;
        for (int s = 0; s < count; ++s)
            one = one && (*strides[s])[d] == (*strides[s])[d + 1] * dims[d + 1];
        if (!one)
            continue;
        dims[d + 1] *= dims[d];
        erase(d);
    }
    return before - dims.count;
}

int collapse(Dims& dims, int first, int last, std::initializer_list<Dims*> strides) {
    std::vector<Dims*> list(strides);
    return collapse(dims, first, last, list.data(), static_cast<int>(list.size()));
}

void copy_elements(const Dims& given, uint8_t* dst, const Dims& given_dst, const uint8_t* src, const Dims& given_src,
                   int64_t size) {
    Dims dims = given, ds = given_dst, ss = given_src;
    if (!dims.product())
        return;
    collapse(dims, 0, dims.count, {&ds, &ss});
    if (!dims.count || (ds[dims.count - 1] == size && ss[dims.count - 1] == size)) {
        const int64_t run = dims.count ? dims[dims.count - 1] * size : size;
        dims.count = std::max(0, dims.count - 1);
        return copy_runs(dims, 0, dst, ds, src, ss, run);
    }
    if (dims.count == 1) { // a plane of one row
        dims.count = 2;
        dims[1] = dims[0];
        ds[1] = ds[0];
        ss[1] = ss[0];
        dims[0] = 1;
    }
    copy_planes(dims, 0, dst, ds, src, ss, size);
}

void run(const CopyCall& call) {
    copy_elements(call.dims, call.dst.at, call.dst.strides, call.src.at, call.src.strides, dtype_bytes(call.dst.type));
}

} // namespace tapeout::sim
