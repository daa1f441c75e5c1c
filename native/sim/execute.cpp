#include "sim/execute.h"

#include "sim/elementwise.h"
#include "sim/numeric.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace tapeout::sim {

namespace {

// Stands for the stride of a dimension of one element, whatever it is.
constexpr int64_t kNoStep = std::numeric_limits<int64_t>::min();

const char* queue_name(int thread) {
    constexpr std::array<const char*, kThreads> names = {"LD", "ST", "MV", "MM", "VE", "control"};
    return names[static_cast<size_t>(thread)];
}

} // namespace

void Executor::run(const Command& command, Slots slots, const Who& who, const Clock& clock) {
    who_ = who;
    clock_ = &clock;
    accesses_.clear();
    switch (command.opcode) {
    case Opcode::Load:
    case Opcode::Store:
        return dma(std::get<Dma>(command.body), command.opcode == Opcode::Load, slots);
    case Opcode::Copy:
        return copy(std::get<Copy>(command.body), slots);
    case Opcode::Drain:
        return drain(std::get<Drain>(command.body), slots);
    case Opcode::MatMul:
        return matmul(std::get<MatMul>(command.body), slots);
    case Opcode::Vector:
        return vector(std::get<Vector>(command.body), slots);
    default:
        return;
    }
}

int64_t Executor::read_scalar(const View& source, Slots slots, const Who& who, const Clock& clock) {
    who_ = who;
    clock_ = &clock;
    accesses_.clear();
    Space& space = storage_.local(who.core, source.memory);
    const uint8_t* at = note(space, source.base.value(slots), {}, {}, dtype_bytes(source.dtype), false, true);
    check_before();
    int64_t value = 0;
    load(source.dtype, at, 0, &value, 1);
    return value;
}

// ---- views and checks

uint8_t* Executor::note(Space& space, int64_t address, const Dims& dims, const Dims& strides, int64_t size, bool write,
                        bool read) {
    const Box box = make_box(address - space.address, dims, strides, size);
    if (!box.empty() && (box.base < 0 || box.end > space.bytes)) {
        throw Fault{(write ? "write out of bounds of " : "read out of bounds of ") + space.name + " (" +
                        std::to_string(space.bytes) + " bytes, accessed up to " + std::to_string(box.end) + ")",
                    space.address + box.base};
    }
    if (write && space.read_only && !box.empty())
        throw Fault{"store into a constant of " + space.name, space.address + box.base};
    Access& access = accesses_.emplace_back(Access{&space, box, write, read, address, size, strides});
    for (int d = 0; d < dims.count; ++d) {
        if (dims[d] == 1)
            access.strides[d] = kNoStep;
    }
    return space.data + (address - space.address);
}

uint8_t* Executor::view(const View& v, const Dims& dims, Slots slots, Role role, bool write, bool read) {
    Space& space = storage_.local(who_.core, v.memory);
    if (options_.check && !(chip_.memories[static_cast<size_t>(v.memory)].reach >> role & 1))
        throw Fault{space.name + " is out of reach of role " + kRoleNames[role]};
    return note(space, v.base.value(slots), dims, v.strides, dtype_bytes(v.dtype), write, read);
}

Operand Executor::operand(const Source& s, const Dims& dims, Slots slots, size_t number) {
    if (!s.immediate)
        return {view(s.view, dims, slots, kRoleVe, false, true), s.view.dtype, s.view.strides};
    Operand result;
    result.at = immediates_[number].data();
    result.type = s.dtype();
    result.strides.count = dims.count;
    encode_element(result.type, s.value, result.at);
    return result;
}

bool Executor::same_elements(const Access& a, const Access& b) {
    const auto end = a.strides.values.begin() + a.strides.count;
    const bool repeats = std::find(a.strides.values.begin(), end, 0) != end; // then each round would read the last
    return a.first == b.first && a.size == b.size && a.strides == b.strides && !repeats;
}

// Element by element a result may take the place of a source exactly; where they overlap otherwise the order of
// elements would show.
void Executor::no_overlap(bool in_place) {
    if (!options_.check)
        return;
    for (const Access& w : accesses_) {
        for (const Access& r : accesses_) {
            if (&w == &r || !w.write || w.space != r.space || (in_place && same_elements(w, r)))
                continue;
            const int64_t at = common_byte(w.box, r.box);
            if (at >= 0)
                throw Fault{"the command overwrites its own source in " + w.space->name, w.space->address + at};
        }
    }
}

void Executor::check_before() {
    if (!options_.check)
        return;
    for (const Access& a : accesses_) {
        if (a.read && !a.space->initialised) {
            const int64_t missing = a.space->written.first_unmarked(a.box);
            if (missing >= 0)
                throw Fault{"reads bytes of " + a.space->name + " that were never written", a.space->address + missing};
        }
    }
    for (const Access& a : accesses_) {
        if (a.space->read_only || a.box.empty())
            continue;
        const Race race = a.space->accesses.add(a.box, a.write, who_, *clock_, epochs_);
        if (race.address < 0) {
            if (a.space->accesses.crowded())
                crowded_.push_back(a.space);
            continue;
        }
        std::string other = "LoadScalar";
        if (race.other.command >= 0) {
            const Command& c = program_.commands[static_cast<size_t>(race.other.command)];
            other = kOpcodeNames[static_cast<size_t>(c.opcode)];
        }
        throw Fault{std::string("race in ") + a.space->name + ": " + queue_name(who_.thread) + " of core " +
                        std::to_string(who_.core) + (a.write ? " writes" : " reads") + " what " + other + " in " +
                        queue_name(race.other.thread) + " of core " + std::to_string(race.other.core) +
                        (race.other_writes ? " writes" : " reads") + ", and nothing orders them",
                    a.space->address + race.address};
    }
}

void Executor::mark_after() {
    if (!options_.check)
        return;
    for (const Access& a : accesses_) {
        if (a.write && !a.space->initialised)
            a.space->written.mark(a.box);
    }
}

// ---- compute commands

void Executor::copy(const Copy& c, Slots slots) {
    CopyCall call;
    call.dims = c.dims;
    call.src = {view(c.src, c.dims, slots, kRoleMv, false, true), c.src.dtype, c.src.strides};
    call.dst = {view(c.dst, c.dims, slots, kRoleMv, true, false), c.dst.dtype, c.dst.strides};
    no_overlap(true);
    check_before();
    sim::run(call);
    mark_after();
}

void Executor::drain(const Drain& d, Slots slots) {
    DrainCall call;
    call.dims = d.dims;
    call.acc = {view(d.acc, d.dims, slots, kRoleMv, false, true), d.acc.dtype, d.acc.strides};
    const auto parameter = [&](const Source& s, size_t number) {
        if (s.immediate)
            return operand(s, d.dims, slots, number);
        return Operand{view(s.view, d.dims, slots, kRoleMv, false, true), s.view.dtype, s.view.strides};
    };
    call.scale = parameter(d.scale, 0);
    call.bias = parameter(d.bias, 1);
    call.dst = {view(d.dst, d.dims, slots, kRoleMv, true, false), d.dst.dtype, d.dst.strides};
    call.lo = static_cast<float>(d.lo);
    call.hi = static_cast<float>(d.hi);
    call.zero = d.zero;
    no_overlap(true);
    check_before();
    vector_unit_.run(call);
    mark_after();
}

void Executor::matmul(const MatMul& m, Slots slots) {
    GemmCall call;
    call.m = m.m;
    call.n = m.n;
    call.k = m.k;
    call.a_type = m.a.dtype;
    call.b_type = m.b.dtype;
    call.a_strides = m.a.strides;
    call.b_strides = m.b.strides;
    call.c_strides = m.c.strides;
    call.accumulate = m.accumulate.value(slots) != 0;
    call.group = chip_.geometry[static_cast<size_t>(m.a.dtype)].k0;
    if (call.group < 1)
        throw Fault{std::string("the matrix unit has no geometry for ") + kDTypeNames[static_cast<size_t>(m.a.dtype)]};
    if (is_float(m.a.dtype) != is_float(m.b.dtype) || m.c.dtype != (is_float(m.a.dtype) ? DType::f32 : DType::i32))
        throw Fault{"the matrix unit takes two floats into f32 or two integers into i32"};
    Dims a = m.m, b = m.k, c = m.m;
    for (int i = 0; i < m.k.count; ++i)
        a[a.count++] = m.k[i];
    b[b.count++] = m.n;
    c[c.count++] = m.n;
    call.a = view(m.a, a, slots, kRoleA, false, true);
    call.b = view(m.b, b, slots, kRoleB, false, true);
    call.c = view(m.c, c, slots, kRoleC, true, call.accumulate);
    no_overlap(false);
    check_before();
    if (options_.exact)
        gemm_.exact(call);
    else
        gemm_.fast(call);
    mark_after();
}

void Executor::vector(const Vector& v, Slots slots) {
    VectorCall call;
    call.op = v.op;
    call.compute = v.compute;
    call.dims = v.dims;
    call.reduced = v.reduced;
    call.accumulate = v.accumulate.value(slots) != 0 && v.op >= VectorOp::reduce_sum && v.op < VectorOp::arg_max;
    Dims key;
    key.count = 1;
    key[0] = 2;
    for (size_t i = 0; i < v.srcs.size(); ++i) {
        if (v.op == VectorOp::philox && i == 0) {
            View words = v.srcs[0].view;
            words.strides = {};
            words.strides.count = 1;
            words.strides[0] = 4;
            call.srcs.push_back({view(words, key, slots, kRoleVe, false, true), DType::u32, words.strides});
        } else {
            call.srcs.push_back(operand(v.srcs[i], v.dims, slots, i));
        }
    }
    if (v.op == VectorOp::sort && v.srcs.size() > 1)
        accesses_.back().write = true;
    call.dst = {view(v.dst, v.dims, slots, kRoleVe, true, call.accumulate), v.dst.dtype, v.dst.strides};
    no_overlap(v.op < VectorOp::reduce_sum || v.op >= VectorOp::scan_sum);
    check_before();
    vector_unit_.run(call);
    mark_after();
}

} // namespace tapeout::sim
