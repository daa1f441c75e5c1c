#include "sim/program.h"

#include <bit>
#include <utility>

namespace tapeout::sim {

int64_t Affine::value(std::span<const int64_t> slots) const {
    int64_t sum = constant;
    for (const Term& t : terms) {
        int64_t digit = slots[static_cast<size_t>(t.slot)];
        if (t.div != 1)
            digit = digit / t.div - (digit % t.div < 0);
        if (t.mod) {
            digit %= t.mod;
            if (digit < 0)
                digit += t.mod;
        }
        sum += t.coef * digit;
    }
    return sum;
}

namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kMaxWords = int64_t{1} << 40; // beyond any length that a program can have

class Decoder {
public:
    Decoder(std::span<const int64_t> words, Program& program) : words_(words), program_(program) {}

    int64_t word() {
        if (at_ >= words_.size())
            throw BadProgram("program words end early");
        return words_[at_++];
    }

    void done() const {
        if (at_ != words_.size())
            throw BadProgram("program has words past its end");
    }

    int64_t number(int64_t low, int64_t high, const char* what) {
        const int64_t value = word();
        if (value < low || value > high) {
            throw BadProgram(std::string("bad ") + what + " " + std::to_string(value) + " at word " +
                             std::to_string(at_ - 1));
        }
        return value;
    }

    bool flag() { return number(0, 1, "flag") != 0; }
    double real() { return std::bit_cast<double>(word()); }
    DType dtype() { return static_cast<DType>(number(0, kDTypes - 1, "element type")); }
    int slot() { return static_cast<int>(number(0, program_.slots - 1, "slot")); }
    size_t length() { return static_cast<size_t>(number(0, static_cast<int64_t>(words_.size()), "length")); }

    Dims dims() {
        Dims result;
        result.count = static_cast<int>(number(0, kMaxDims, "number of dimensions"));
        for (int i = 0; i < result.count; ++i)
            result[i] = word();
        return result;
    }

    Dims sizes() {
        const size_t start = at_;
        Dims result = dims();
        for (int i = 0; i < result.count; ++i) {
            if (result[i] < 0)
                throw BadProgram("negative size at word " + std::to_string(start + 1 + static_cast<size_t>(i)));
        }
        return result;
    }

    Affine affine() {
        Affine result;
        result.constant = word();
        result.terms.resize(length());
        for (Term& t : result.terms) {
            t.slot = slot();
            t.coef = word();
            t.div = number(1, kMaxWords, "divisor");
            t.mod = number(0, kMaxWords, "modulus");
        }
        return result;
    }

    View view(int rank) {
        View result;
        result.memory = static_cast<int>(number(0, 255, "memory"));
        result.base = affine();
        result.strides = dims();
        result.dtype = dtype();
        if (result.strides.count != rank)
            throw BadProgram("a view's strides do not match the command's dimensions");
        return result;
    }

    Source source(int rank) {
        Source result;
        result.immediate = flag();
        if (result.immediate) {
            result.value = real();
            result.view.dtype = dtype();
        } else {
            result.view = view(rank);
        }
        return result;
    }

    std::vector<Wait> waits() {
        std::vector<Wait> result(length());
        for (Wait& w : result)
            w = {semaphore(), number(0, kMaxWords, "count")};
        return result;
    }

    std::vector<Post> posts() {
        std::vector<Post> result(length());
        for (Post& p : result) {
            p.semaphore = semaphore();
            p.count = number(0, kMaxWords, "count");
            p.cluster = flag();
        }
        return result;
    }

    Tensor tensor() {
        Tensor t;
        t.space = static_cast<int>(number(0, 255, "space"));
        t.base = word();
        t.dtype = dtype();
        t.extents = sizes();
        t.strides = dims();
        t.fill = real();
        if (t.extents.count != t.strides.count)
            throw BadProgram("a tensor's strides do not match its extents");
        return t;
    }

    void nodes(int loop) {
        for (size_t i = length(); i > 0; --i)
            node(loop);
    }

private:
    int semaphore() {
        return static_cast<int>(number(0, static_cast<int64_t>(program_.semaphores.size()) - 1, "semaphore"));
    }

    Step& add_step(StepKind kind, int loop) {
        Step& step = program_.steps.emplace_back();
        step.kind = kind;
        step.loop = loop;
        return step;
    }

    int here() const { return static_cast<int>(program_.steps.size()); }
    Step& step_at(int i) { return program_.steps[static_cast<size_t>(i)]; }

    void node(int loop) {
        const auto opcode = static_cast<Opcode>(number(0, static_cast<int64_t>(kOpcodeNames.size()) - 1, "opcode"));
        switch (opcode) {
        case Opcode::Loop:
            return loop_node(loop);
        case Opcode::If:
            return if_node(loop);
        case Opcode::While:
            return while_node(loop);
        case Opcode::Barrier: {
            Step& step = add_step(StepKind::Barrier, loop);
            step.chip = flag();
            for (size_t i = length(); i > 0; --i)
                step.queues |= static_cast<uint8_t>(1 << number(0, kQueues - 1, "queue"));
            return;
        }
        case Opcode::Set: {
            Step& step = add_step(StepKind::Set, loop);
            step.slot = slot();
            step.value = affine();
            return;
        }
        case Opcode::LoadScalar: {
            Step& step = add_step(StepKind::LoadScalar, loop);
            step.slot = slot();
            step.source = view(0);
            step.waits = waits();
            return;
        }
        default:
            return command(opcode, loop);
        }
    }

    void loop_node(int parent) {
        const int loop = static_cast<int>(program_.loops.size());
        const int begin = here();
        const int counter = slot();
        program_.loops.push_back({counter, parent});
        Step& first = add_step(StepKind::LoopBegin, loop);
        first.slot = counter;
        first.value = affine();
        nodes(loop);
        Step& last = add_step(StepKind::LoopEnd, loop);
        last.slot = counter;
        last.target = begin + 1;
        step_at(begin).target = here();
    }

    void if_node(int loop) {
        const int branch = here();
        add_step(StepKind::Branch, loop).value = affine();
        nodes(loop);
        const int jump = here();
        add_step(StepKind::Jump, loop);
        step_at(branch).target = here();
        nodes(loop);
        step_at(jump).target = here();
    }

    void while_node(int loop) {
        const int branch = here();
        add_step(StepKind::Branch, loop).value = affine();
        nodes(loop);
        add_step(StepKind::Jump, loop).target = branch;
        step_at(branch).target = here();
    }

    void command(Opcode opcode, int loop) {
        Command c;
        c.opcode = opcode;
        c.loop = loop;
        c.waits = waits();
        c.posts = posts();
        c.kernel = static_cast<int>(number(0, kMaxWords, "kernel"));
        switch (opcode) {
        case Opcode::Load:
        case Opcode::Store:
            c.queue = opcode == Opcode::Load ? Queue::LD : Queue::ST;
            c.body = dma(opcode == Opcode::Load);
            break;
        case Opcode::Copy:
            c.queue = Queue::MV;
            c.body = copy();
            break;
        case Opcode::Drain:
            c.queue = Queue::MV;
            c.body = drain();
            break;
        case Opcode::MatMul:
            c.queue = Queue::MM;
            c.body = matmul();
            break;
        case Opcode::Vector:
            c.queue = Queue::VE;
            c.body = vector();
            break;
        default:
            c.queue = static_cast<Queue>(number(0, kQueues - 1, "queue"));
            break;
        }
        add_step(StepKind::Issue, loop).command = static_cast<int>(program_.commands.size());
        program_.commands.push_back(std::move(c));
    }

    Dma dma(bool load) {
        Dma d;
        d.tensor = static_cast<int>(number(0, static_cast<int64_t>(program_.tensors.size()) - 1, "tensor"));
        d.origin.resize(length());
        for (Affine& a : d.origin)
            a = affine();
        d.extents = sizes();
        d.offset = affine();
        const int rank = program_.tensors[static_cast<size_t>(d.tensor)].extents.count;
        if (static_cast<int>(d.origin.size()) != rank || d.extents.count != rank) {
            throw BadProgram("a DMA box does not have the rank of its tensor");
        }
        d.local = view(rank);
        (load ? d.multicast : d.add) = flag();
        program_.multicasts |= d.multicast;
        d.indexed = flag();
        if (d.indexed) {
            d.index_dim = static_cast<int>(number(0, rank - 1, "index dimension"));
            d.index_list = view(1);
        }
        return d;
    }

    Copy copy() {
        Copy c;
        c.dims = sizes();
        c.dst = view(c.dims.count);
        c.src = view(c.dims.count);
        if (dtype_bytes(c.dst.dtype) != dtype_bytes(c.src.dtype))
            throw BadProgram("Copy between different element sizes");
        return c;
    }

    Drain drain() {
        Drain d;
        d.dims = sizes();
        d.dst = view(d.dims.count);
        d.acc = view(d.dims.count);
        d.scale = source(d.dims.count);
        d.bias = source(d.dims.count);
        d.lo = real();
        d.hi = real();
        d.zero = word();
        if (d.acc.dtype != DType::f32 && d.acc.dtype != DType::i32)
            throw BadProgram("Drain from other than f32 or i32");
        return d;
    }

    MatMul matmul() {
        MatMul m;
        m.m = sizes();
        m.n = number(0, kMaxWords, "columns");
        m.k = sizes();
        if (m.m.count > 3 || m.k.count > 3)
            throw BadProgram("MatMul with more than 3 row or depth dimensions");
        m.a = view(m.m.count + m.k.count);
        m.b = view(m.k.count + 1);
        m.c = view(m.m.count + 1);
        m.accumulate = affine();
        return m;
    }

    Vector vector() {
        Vector v;
        v.op = static_cast<VectorOp>(number(0, kVectorOps - 1, "vector operation"));
        v.compute = static_cast<Compute>(number(0, 2, "compute type"));
        v.dims = sizes();
        v.dst = view(v.dims.count);
        v.srcs.resize(length());
        for (Source& s : v.srcs)
            s = source(v.dims.count);
        v.reduced = static_cast<int>(number(0, v.dims.count, "reduced dimensions"));
        v.accumulate = affine();
        return v;
    }

    std::span<const int64_t> words_;
    Program& program_;
    size_t at_ = 0;
};

} // namespace

Program decode_program(std::span<const int64_t> nodes, std::span<const int64_t> tensors,
                       std::vector<int64_t> semaphores, int slots, int cores) {
    Program program;
    program.semaphores = std::move(semaphores);
    program.slots = slots;
    program.cores = cores;
    Decoder descriptors(tensors, program);
    for (size_t i = descriptors.length(); i > 0; --i)
        program.tensors.push_back(descriptors.tensor());
    descriptors.done();
    Decoder tree(nodes, program);
    if (tree.word() != kVersion)
        throw BadProgram("program has another encoding version");
    tree.nodes(-1);
    tree.done();
    program.steps.emplace_back();
    return program;
}

ChipParams ChipParams::from_fields(const std::unordered_map<std::string, std::vector<int64_t>>& fields) {
    const auto list = [&](const char* name) -> const std::vector<int64_t>& {
        const auto found = fields.find(name);
        if (found == fields.end())
            throw BadProgram(std::string("chip parameter missing: ") + name);
        return found->second;
    };
    const auto one = [&](const char* name) { return list(name).at(0); };
    const auto port = [&](const char* name) { return Port{list(name).at(0), list(name).at(1)}; };

    ChipParams p;
    p.dies = one("dies");
    p.clusters_per_die = one("clusters_per_die");
    p.cores_per_cluster = one("cores_per_cluster");
    const auto& memories = list("memories"); // bytes, bytes per cycle, reach; for each
    for (size_t i = 0; i + 2 < memories.size(); i += 3) {
        p.memories.push_back({memories[i], memories[i + 1], static_cast<uint8_t>(memories[i + 2])});
    }
    p.stationary = static_cast<Stationary>(one("stationary"));
    p.load_cycles = one("load_cycles");
    p.load_overlapped = one("load_overlapped");
    p.fill_cycles = one("fill_cycles");
    const auto& geometry = list("geometry"); // m0, n0, k0; for each element type
    for (size_t i = 0; i < p.geometry.size(); ++i) {
        p.geometry[i] = {geometry.at(3 * i), geometry.at(3 * i + 1), geometry.at(3 * i + 2)};
    }
    for (size_t i = 0; i < p.lanes.size(); ++i)
        p.lanes[i] = list("lanes").at(i);
    p.special_factor = one("special_factor");
    p.vector_startup_cycles = one("vector_startup_cycles");
    p.drain_elements_per_cycle = one("drain_elements_per_cycle");
    p.move_startup_cycles = one("move_startup_cycles");
    p.dma_rate_milli = one("dma_rate_milli");
    p.dma_setup_cycles = one("dma_setup_cycles");
    p.burst_bytes = one("burst_bytes");
    p.outstanding_bursts = one("outstanding_bursts");
    p.issue_cycles = one("issue_cycles");
    p.queue_depth = one("queue_depth");
    p.barrier_cycles = one("barrier_cycles");
    p.cluster_port = port("cluster_port");
    p.die_link = port("die_link");
    p.multicast = one("multicast") != 0;
    const auto& shared = list("shared"); // bytes, rate, latency, scope, hardware; for each
    for (size_t i = 0; i + 4 < shared.size(); i += 5) {
        if (!shared[i + 4])
            p.spaces.push_back(static_cast<int>(p.shared.size()));
        p.shared.push_back(
            {shared[i], {shared[i + 1], shared[i + 2]}, static_cast<Scope>(shared[i + 3]), shared[i + 4] != 0});
    }
    p.dram_rate_milli = one("dram_rate_milli");
    p.granule_bytes = one("granule_bytes");
    p.dram_latency_cycles = one("dram_latency_cycles");
    p.interleave_bytes = one("interleave_bytes");
    return p;
}

} // namespace tapeout::sim
