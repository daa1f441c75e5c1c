#include "sim/control.h"

#include "sim/calendar.h"

#include <algorithm>
#include <bit>

namespace tapeout::sim {

namespace {

constexpr int64_t kEndless = int64_t{1} << 28; // steps in no time after which a loop counts as endless

size_t index(int64_t i) {
    return static_cast<size_t>(i);
}

} // namespace

Control::Control(const Program& program, int core, std::span<const int64_t> scalars)
    : program_(&program), scalars_(scalars), slots_(index(program.slots)), turns_(program.loops.size()) {
    slots_[0] = core;
}

const Step& Control::next(bool stop_at_turns) {
    for (int64_t count = 0; count < kEndless; ++count) {
        const Step& step = program_->steps[at_++];
        switch (step.kind) {
        case StepKind::LoopBegin: {
            const int64_t trips = step.value.value(slots_);
            turns_[index(step.loop)] = {0, trips};
            if (trips > 0)
                slots_[index(step.slot)] = 0;
            else
                at_ = index(step.target);
            break;
        }
        case StepKind::LoopEnd: {
            Turns& turns = turns_[index(step.loop)];
            if (++turns.done < turns.trips) {
                slots_[index(step.slot)] = turns.done;
                at_ = index(step.target);
                if (stop_at_turns)
                    return step;
            }
            break;
        }
        case StepKind::Branch:
            if (step.value.value(slots_) <= 0)
                at_ = index(step.target);
            break;
        case StepKind::Jump:
            at_ = index(step.target);
            break;
        case StepKind::Set:
            slots_[index(step.slot)] = step.value.value(slots_);
            break;
        case StepKind::End:
            --at_;
            return step;
        case StepKind::Issue:
        case StepKind::Barrier:
        case StepKind::LoadScalar:
            return step;
        }
    }
    throw TimingFault("a loop without commands never ends", -1);
}

bool Control::load_scalar(const Step& step) {
    if (scalar_ >= scalars_.size())
        return false;
    slots_[index(step.slot)] = scalars_[scalar_++];
    return true;
}

namespace {

const Memory& memory_of(const View& view, const ChipParams& chip) {
    if (index(view.memory) >= chip.memories.size())
        throw BadProgram("a command names local memory " + std::to_string(view.memory) + ", which the chip has not");
    return chip.memories[index(view.memory)];
}

DType as_signed(DType type) {
    const bool is_unsigned = type >= DType::u64 && type <= DType::u8;
    return is_unsigned ? static_cast<DType>(static_cast<int>(type) - 4) : type;
}

int64_t matmul_cycles(const MatMul& m, const ChipParams& chip) {
    const Geometry unit = chip.geometry[index(static_cast<int64_t>(m.a.dtype))];
    if (!unit.m0 || as_signed(m.a.dtype) != as_signed(m.b.dtype))
        throw BadProgram(std::string("the matrix unit has no geometry for ") +
                         kDTypeNames[index(static_cast<int64_t>(m.a.dtype))]);
    const int64_t rows = m.m.product(), cols = m.n, depth = m.k.product();
    const int64_t tiles_m = ceil_div(rows, unit.m0), tiles_n = ceil_div(cols, unit.n0),
                  tiles_k = ceil_div(depth, unit.k0);
    int64_t passes = 1, stream = tiles_m * tiles_n * tiles_k;
    switch (chip.stationary) {
    case Stationary::weight:
        passes = tiles_k * tiles_n, stream = tiles_m;
        break;
    case Stationary::output:
        passes = tiles_m * tiles_n, stream = tiles_k;
        break;
    case Stationary::input:
        passes = tiles_m * tiles_k, stream = tiles_n;
        break;
    case Stationary::none:
        break;
    }
    const int64_t load = chip.load_cycles, fill = chip.fill_cycles;
    const int64_t array = chip.load_overlapped ? load + (passes - 1) * std::max(stream, load) + stream + fill
                                               : passes * (load + stream + fill);
    const bool again = chip.stationary == Stationary::weight || chip.stationary == Stationary::output;
    const int64_t a_bytes = rows * depth * dtype_bytes(m.a.dtype) * (again ? tiles_n : 1);
    const int64_t b_bytes =
        cols * depth * dtype_bytes(m.b.dtype) * (chip.stationary == Stationary::weight ? 1 : tiles_m);
    return std::max({array, ceil_div(a_bytes, memory_of(m.a, chip).bytes_per_cycle),
                     ceil_div(b_bytes, memory_of(m.b, chip).bytes_per_cycle)});
}

int64_t operand_bytes(const View& view, const Dims& dims) {
    int64_t bytes = dtype_bytes(view.dtype);
    for (int d = 0; d < dims.count; ++d) {
        if (d < view.strides.count && view.strides[d])
            bytes *= dims[d];
    }
    return bytes;
}

bool is_special(VectorOp op) {
    switch (op) {
    case VectorOp::exp:
    case VectorOp::log:
    case VectorOp::sqrt:
    case VectorOp::rsqrt:
    case VectorOp::sin:
    case VectorOp::cos:
    case VectorOp::tanh:
    case VectorOp::erf:
    case VectorOp::div:
    case VectorOp::rem:
    case VectorOp::pow:
    case VectorOp::atan2:
    case VectorOp::philox:
    case VectorOp::sort:
        return true;
    default:
        return false;
    }
}

int64_t vector_cycles(const Vector& v, const ChipParams& chip) {
    const int64_t lanes = chip.lanes[index(static_cast<int64_t>(v.compute))];
    if (!lanes)
        throw BadProgram("the vector unit has no lanes for a command's compute type");
    int64_t work = 1;
    for (int d = 0; d + 1 < v.dims.count; ++d)
        work *= v.dims[d];
    if (v.dims.count) {
        const int64_t row = v.dims[v.dims.count - 1];
        work *= ceil_div(row, lanes);
        if (v.op == VectorOp::sort) { // a bitonic network
            const int64_t stages =
                std::max<int64_t>(1, std::bit_width(static_cast<uint64_t>(std::max<int64_t>(row, 1) - 1)));
            work *= stages * (stages + 1) / 2;
        }
    }
    if (is_special(v.op))
        work *= chip.special_factor;
    int64_t bytes = operand_bytes(v.dst, v.dims);
    for (const Source& source : v.srcs) {
        if (!source.immediate)
            bytes = std::max(bytes, operand_bytes(source.view, v.dims));
    }
    return chip.vector_startup_cycles + std::max(work, ceil_div(bytes, memory_of(v.dst, chip).bytes_per_cycle));
}

int64_t move_cycles(const View& from, const View& to, const Dims& dims, bool drain, const ChipParams& chip) {
    const int64_t elements = dims.product();
    const int64_t rate = std::min(memory_of(from, chip).bytes_per_cycle, memory_of(to, chip).bytes_per_cycle);
    const int64_t wide = std::max(dtype_bytes(from.dtype), dtype_bytes(to.dtype));
    const int64_t work = drain ? ceil_div(elements, chip.drain_elements_per_cycle) : 0;
    return chip.move_startup_cycles + std::max(ceil_div(elements * wide, rate), work);
}

} // namespace

int64_t command_cycles(const Command& command, const ChipParams& chip) {
    switch (command.opcode) {
    case Opcode::MatMul:
        return matmul_cycles(std::get<MatMul>(command.body), chip);
    case Opcode::Vector:
        return vector_cycles(std::get<Vector>(command.body), chip);
    case Opcode::Copy: {
        const Copy& copy = std::get<Copy>(command.body);
        return move_cycles(copy.src, copy.dst, copy.dims, false, chip);
    }
    case Opcode::Drain: {
        const Drain& drain = std::get<Drain>(command.body);
        return move_cycles(drain.acc, drain.dst, drain.dims, true, chip);
    }
    default:
        return 0;
    }
}

} // namespace tapeout::sim
