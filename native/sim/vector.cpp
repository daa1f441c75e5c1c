#include "sim/vector.h"

#include "sim/elementwise.h"
#include "sim/numeric.h"
#include "sim/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace tapeout::sim {

namespace {

constexpr int64_t kChunk = 1024;

template <class T>
void elementwise(VectorOp op, const Operands& x) {
    if constexpr (std::is_same_v<T, float>)
        elementwise_f32(op, x);
    else if constexpr (std::is_same_v<T, int32_t>)
        elementwise_i32(op, x);
    else
        elementwise_i64(op, x);
}

template <class T>
constexpr DType type_of() {
    return std::is_same_v<T, float> ? DType::f32 : (sizeof(T) == 4 ? DType::i32 : DType::i64);
}

// Size or stride of the innermost dimension, 0 where there is none.
int64_t last(const Dims& dims) {
    return dims.count > 0 ? dims[dims.count - 1] : 0;
}

bool aligned(const void* p, size_t size) {
    return reinterpret_cast<uintptr_t>(p) % size == 0;
}

// Visits the rows of a row-major walk over elements [start, start + count): body(byte offset, first, length).
template <class Body>
void for_rows(const Dims& dims, const Dims& strides, int64_t start, int64_t count, Body body) {
    const int inner = dims.count - 1;
    if (inner < 0)
        return body(0, int64_t{0}, count);
    std::array<int64_t, kMaxDims> at{};
    int64_t offset = 0, rest = start;
    for (int d = inner; d >= 0; --d) {
        at[static_cast<size_t>(d)] = rest % dims[d];
        rest /= dims[d];
        offset += at[static_cast<size_t>(d)] * strides[d];
    }
    for (int64_t done = 0; done < count;) {
        const int64_t length = std::min(dims[inner] - at[static_cast<size_t>(inner)], count - done);
        body(offset, done, length);
        done += length;
        offset += length * strides[inner];
        at[static_cast<size_t>(inner)] += length;
        for (int d = inner; d > 0 && at[static_cast<size_t>(d)] == dims[d]; --d) {
            offset += strides[d - 1] - dims[d] * strides[d];
            at[static_cast<size_t>(d)] = 0;
            ++at[static_cast<size_t>(d - 1)];
        }
    }
}

// Elements [start, start + count) as numbers: in place where the view holds just those, else converted into `buffer`.
template <class T>
const T* fetch(const Operand& x, const Dims& dims, int64_t start, int64_t count, T* buffer) {
    const T* direct = nullptr;
    for_rows(dims, x.strides, start, count, [&](int64_t offset, int64_t first, int64_t length) {
        const int64_t stride = last(x.strides);
        if (length == count && x.type == type_of<T>() && stride == sizeof(T) && aligned(x.at + offset, sizeof(T)))
            direct = reinterpret_cast<const T*>(x.at + offset);
        else
            load(x.type, x.at + offset, stride, buffer + first, length);
    });
    return direct ? direct : buffer;
}

template <class T>
void put(const Operand& x, const Dims& dims, int64_t start, int64_t count, const T* numbers) {
    for_rows(dims, x.strides, start, count, [&](int64_t offset, int64_t first, int64_t length) {
        store(x.type, numbers + first, x.at + offset, last(x.strides), length);
    });
}

template <class T>
struct Scratch {
    std::array<std::vector<T>, 4> chunks;
    T* chunk(int i, int64_t size = kChunk) {
        auto& c = chunks[static_cast<size_t>(i)];
        if (static_cast<int64_t>(c.size()) < size)
            c.resize(static_cast<size_t>(size));
        return c.data();
    }
};

void collapse_call(VectorCall& call, int first, int last) {
    std::array<Dims*, 5> strides{};
    int count = 0;
    strides[static_cast<size_t>(count++)] = &call.dst.strides;
    for (Operand& s : call.srcs) {
        if (count < 5)
            strides[static_cast<size_t>(count++)] = &s.strides;
    }
    collapse(call.dims, first, last, strides.data(), count);
}

template <class T>
void run_elementwise(VectorCall call, Scratch<T>& scratch) {
    collapse_call(call, 0, call.dims.count);
    const int64_t total = call.dims.product();
    const auto sources = static_cast<size_t>(source_count(call.op));
    Operands x{};
    x.logical = call.dst.type == DType::b1;
    x.unsigned_shift = !is_signed(call.srcs[0].type);
    for (int64_t start = 0; start < total; start += kChunk) {
        const int64_t count = std::min(kChunk, total - start);
        std::array<const T*, 3> in{};
        for (size_t s = 0; s < sources; ++s)
            in[s] = fetch(call.srcs[s], call.dims, start, count, scratch.chunk(static_cast<int>(s)));
        x.a = in[0];
        x.b = in[1];
        x.c = in[2];
        x.out = scratch.chunk(3);
        x.count = count;
        elementwise<T>(call.op, x);
        put(call.dst, call.dims, start, count, static_cast<const T*>(x.out));
    }
}

// ---- reductions

// The result of one output position goes where all reduced indices are 0.
template <class T>
void finish(const VectorCall& call, const Dims& outer, int64_t at, int64_t count, T* totals, Scratch<T>& scratch) {
    if (call.accumulate) {
        Operand held = call.dst;
        const T* old = fetch(held, outer, at, count, scratch.chunk(3));
        combine(call.op, old, totals, totals, count);
    }
    put(call.dst, outer, at, count, totals);
}

template <class T>
void run_reduce(VectorCall call, Scratch<T>& scratch) {
    const int outer_dims = call.dims.count - call.reduced;
    collapse_call(call, outer_dims, call.dims.count);
    call.reduced = call.dims.count - outer_dims;
    const int inner_dims = call.reduced;
    collapse_call(call, 0, outer_dims);
    const int kept = call.dims.count - inner_dims;
    Dims outer, inner;
    Operand src = call.srcs[0], row = src;
    outer.count = kept;
    inner.count = row.strides.count = inner_dims;
    for (int d = 0; d < kept; ++d)
        outer[d] = call.dims[d];
    for (int d = 0; d < inner_dims; ++d) {
        inner[d] = call.dims[kept + d];
        row.strides[d] = src.strides[kept + d];
    }
    src.strides.count = call.dst.strides.count = kept;
    const int64_t outputs = outer.product(), depth = inner.product();
    const int64_t size = dtype_bytes(src.type);
    const bool across = last(src.strides) == size && last(outer) >= 8 && last(row.strides) != size;
    if (across) { // one reduced index at a time, many outputs side by side
        constexpr int64_t kWide = 256;
        T* partials = scratch.chunk(0, kPartials * kWide);
        for (int64_t at = 0; at < outputs; at += kWide) {
            const int64_t count = std::min(kWide, outputs - at);
            std::fill_n(partials, kPartials * kWide, identity<T>(call.op));
            int64_t e = 0;
            for_rows(inner, row.strides, 0, depth, [&](int64_t offset, int64_t, int64_t length) {
                const int64_t stride = last(row.strides);
                for (int64_t i = 0; i < length; ++i, ++e) {
                    Operand slice = src;
                    slice.at = src.at + offset + i * stride;
                    const T* numbers = fetch(slice, outer, at, count, scratch.chunk(1));
                    T* partial = partials + (e % kPartials) * kWide;
                    combine(call.op, partial, numbers, partial, count);
                }
            });
            for (int64_t width = kPartials; width > 1; width /= 2) {
                for (int64_t i = 0; i < width / 2; ++i) {
                    combine(call.op, partials + 2 * i * kWide, partials + (2 * i + 1) * kWide, partials + i * kWide,
                            count);
                }
            }
            finish(call, outer, at, count, partials, scratch);
        }
        return;
    }
    T* totals = scratch.chunk(0);
    for (int64_t at = 0; at < outputs; at += kChunk) {
        const int64_t count = std::min(kChunk, outputs - at);
        for_rows(outer, src.strides, at, count, [&](int64_t offset, int64_t first, int64_t length) {
            const int64_t stride = last(src.strides);
            for (int64_t i = 0; i < length; ++i) {
                Operand start = row;
                start.at = src.at + offset + i * stride;
                std::array<T, kPartials> partials;
                partials.fill(identity<T>(call.op));
                for (int64_t e = 0; e < depth; e += kChunk) {
                    const int64_t n = std::min(kChunk, depth - e);
                    reduce_interleaved(call.op, fetch(start, inner, e, n, scratch.chunk(1)), n, partials.data());
                }
                totals[first + i] = fold(call.op, partials.data());
            }
        });
        finish(call, outer, at, count, totals, scratch);
    }
}

// Index of the first largest (smallest) element; a NaN beats every number.
template <class T>
void run_arg(const VectorCall& call, Scratch<T>& scratch) {
    const int kept = call.dims.count - call.reduced;
    Dims outer = call.dims, inner;
    Operand src = call.srcs[0], row = src, dst = call.dst;
    outer.count = src.strides.count = dst.strides.count = kept;
    inner.count = row.strides.count = call.reduced;
    for (int d = 0; d < call.reduced; ++d) {
        inner[d] = call.dims[kept + d];
        row.strides[d] = call.srcs[0].strides[kept + d];
    }
    const int64_t depth = inner.product(), outputs = outer.product();
    const bool largest = call.op == VectorOp::arg_max;
    for (int64_t o = 0; o < outputs; ++o) {
        for_rows(outer, src.strides, o, 1, [&](int64_t offset, int64_t, int64_t) { row.at = src.at + offset; });
        int64_t found = 0;
        T best{};
        for (int64_t e = 0; e < depth; e += kChunk) {
            const int64_t count = std::min(kChunk, depth - e);
            const T* numbers = fetch(row, inner, e, count, scratch.chunk(1));
            for (int64_t i = 0; i < count; ++i) {
                const bool better = largest ? numbers[i] > best : numbers[i] < best;
                const bool nan = numbers[i] != numbers[i] && best == best;
                if (e + i == 0 || better || nan) {
                    best = numbers[i];
                    found = e + i;
                }
            }
        }
        put(dst, outer, o, 1, &found);
    }
}

template <class T>
void run_scan(const VectorCall& call, Scratch<T>& scratch) {
    const int64_t length = call.dims.count > 0 ? last(call.dims) : 1;
    const int64_t rows = length ? call.dims.product() / length : 0;
    for (int64_t r = 0; r < rows; ++r) {
        T total = identity<T>(call.op);
        for (int64_t e = 0; e < length; e += kChunk) {
            const int64_t count = std::min(kChunk, length - e), start = r * length + e;
            const T* numbers = fetch(call.srcs[0], call.dims, start, count, scratch.chunk(0));
            T* out = scratch.chunk(3);
            for (int64_t i = 0; i < count; ++i) {
                if (e + i == 0)
                    total = numbers[0];
                else
                    combine(call.op, &total, numbers + i, &total, 1);
                out[i] = total;
            }
            put(call.dst, call.dims, start, count, out);
        }
    }
}

// ---- sources and sorting

template <class T>
void run_iota(const VectorCall& call, Scratch<T>& scratch) {
    const int64_t length = call.dims.count > 0 ? last(call.dims) : 1;
    const int64_t total = call.dims.product();
    for (int64_t start = 0; start < total; start += kChunk) {
        const int64_t count = std::min(kChunk, total - start);
        T* index = scratch.chunk(3);
        for (int64_t i = 0; i < count; ++i)
            index[i] = static_cast<T>((start + i) % length);
        const T* step = fetch(call.srcs[1], call.dims, start, count, scratch.chunk(1));
        elementwise<T>(VectorOp::mul, {index, step, nullptr, index, count});
        const T* base = fetch(call.srcs[0], call.dims, start, count, scratch.chunk(0));
        elementwise<T>(VectorOp::add, {base, index, nullptr, index, count});
        put(call.dst, call.dims, start, count, index);
    }
}

// Words go to the result as they are, whatever the compute type.
void run_philox(const VectorCall& call, Scratch<int64_t>& scratch) {
    std::array<uint32_t, 2> key;
    std::memcpy(key.data(), call.srcs[0].at, sizeof(key));
    const int64_t total = call.dims.product();
    for (int64_t start = 0; start < total; start += kChunk) {
        const int64_t count = std::min(kChunk, total - start);
        const int64_t* base = fetch(call.srcs[1], call.dims, start, count, scratch.chunk(0));
        int64_t* out = scratch.chunk(3);
        for (int64_t i = 0; i < count; ++i) {
            const uint64_t index = static_cast<uint64_t>(base[i]) + static_cast<uint64_t>(start + i);
            out[i] = philox_word(key[0], key[1], index);
        }
        put(call.dst, call.dims, start, count, out);
    }
}

template <class T>
bool sorts_before(T a, T b) {
    return a < b || (b != b && a == a);
}

// Keys of srcs[0] to dst; the elements of srcs[1], where there is one, move along in place.
template <class T>
void run_sort(const VectorCall& call, Scratch<T>& scratch) {
    const int64_t length = call.dims.count > 0 ? last(call.dims) : 1;
    const int64_t rows = length ? call.dims.product() / length : 0;
    std::vector<int64_t> order(static_cast<size_t>(length));
    std::vector<uint8_t> payload;
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t start = r * length;
        const T* keys = fetch(call.srcs[0], call.dims, start, length, scratch.chunk(0, length));
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t a, int64_t b) { return sorts_before(keys[a], keys[b]); });
        T* out = scratch.chunk(3, length);
        for (int64_t i = 0; i < length; ++i)
            out[i] = keys[order[static_cast<size_t>(i)]];
        put(call.dst, call.dims, start, length, out);
        if (call.srcs.size() < 2)
            continue;
        const Operand& moved = call.srcs[1];
        const int64_t size = dtype_bytes(moved.type), stride = last(moved.strides);
        for_rows(call.dims, moved.strides, start, length, [&](int64_t offset, int64_t, int64_t) {
            payload.resize(static_cast<size_t>(length * size));
            uint8_t* at = moved.at + offset;
            for (int64_t i = 0; i < length; ++i)
                std::memcpy(payload.data() + i * size, at + i * stride, static_cast<size_t>(size));
            for (int64_t i = 0; i < length; ++i) {
                std::memcpy(at + i * stride, payload.data() + order[static_cast<size_t>(i)] * size,
                            static_cast<size_t>(size));
            }
        });
    }
}

template <class T>
void run_any(const VectorCall& call, Scratch<T>& scratch) {
    switch (call.op) {
    case VectorOp::iota:
        return run_iota(call, scratch);
    case VectorOp::sort:
        return run_sort(call, scratch);
    case VectorOp::arg_max:
    case VectorOp::arg_min:
        return run_arg(call, scratch);
    default:
        break;
    }
    if (call.op >= VectorOp::scan_sum)
        return run_scan(call, scratch);
    if (call.op >= VectorOp::reduce_sum)
        return run_reduce(call, scratch);
    run_elementwise(call, scratch);
}

} // namespace

struct VectorUnit::Buffers {
    Scratch<float> f32;
    Scratch<int32_t> i32;
    Scratch<int64_t> i64;
};

VectorUnit::VectorUnit() : buffers_(std::make_unique<Buffers>()) {}
VectorUnit::~VectorUnit() = default;

void VectorUnit::run(const VectorCall& call) {
    if (!call.dims.product() && call.op < VectorOp::reduce_sum)
        return;
    if (call.op == VectorOp::philox)
        return run_philox(call, buffers_->i64);
    switch (call.compute) {
    case Compute::f32:
        return run_any(call, buffers_->f32);
    case Compute::i32:
        return run_any(call, buffers_->i32);
    case Compute::i64:
        return run_any(call, buffers_->i64);
    }
}

void VectorUnit::run(const DrainCall& given) {
    DrainCall call = given;
    collapse(call.dims, 0, call.dims.count,
             {&call.dst.strides, &call.acc.strides, &call.scale.strides, &call.bias.strides});
    Scratch<float>& scratch = buffers_->f32;
    const int64_t total = call.dims.product();
    for (int64_t start = 0; start < total; start += kChunk) {
        const int64_t count = std::min(kChunk, total - start);
        const float* acc = fetch(call.acc, call.dims, start, count, scratch.chunk(0));
        const float* scale = fetch(call.scale, call.dims, start, count, scratch.chunk(1));
        const float* bias = fetch(call.bias, call.dims, start, count, scratch.chunk(2));
        float* out = scratch.chunk(3);
        drain(acc, scale, bias, call.lo, call.hi, out, count);
        for_rows(call.dims, call.dst.strides, start, count, [&](int64_t offset, int64_t first, int64_t length) {
            const int64_t stride = last(call.dst.strides);
            store_rounded(call.dst.type, out + first, call.zero, call.dst.at + offset, stride, length);
        });
    }
}

uint32_t philox_word(uint32_t key0, uint32_t key1, uint64_t index) {
    const uint64_t block = index / 4;
    std::array<uint32_t, 4> x = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0};
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t{0xD2511F53} * x[0], b = uint64_t{0xCD9E8D57} * x[2];
        x = {static_cast<uint32_t>(b >> 32) ^ x[1] ^ key0, static_cast<uint32_t>(b),
             static_cast<uint32_t>(a >> 32) ^ x[3] ^ key1, static_cast<uint32_t>(a)};
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    return x[index % 4];
}

} // namespace tapeout::sim
