// A decoded program: what both executors run. The words come from src/tapeout/isa/encode.py, which defines them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace tapeout::sim {

// ---- element types and operations; the order is that of DType, VECTOR_OPS and COMPUTE in Python (a test compares)

enum class DType : uint8_t { f64, f32, f16, bf16, f8e4m3, f8e5m2, i64, i32, i16, i8, u64, u32, u16, u8, b1 };
inline constexpr int kDTypes = 15;
inline constexpr std::array<const char*, kDTypes> kDTypeNames = {
    "f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "b1"};

constexpr int dtype_bytes(DType t) {
    constexpr std::array<uint8_t, kDTypes> bytes = {8, 4, 2, 2, 1, 1, 8, 4, 2, 1, 8, 4, 2, 1, 1};
    return bytes[static_cast<size_t>(t)];
}
constexpr bool is_float(DType t) {
    return t <= DType::f8e5m2;
}
constexpr bool is_signed(DType t) {
    return t <= DType::i8;
}

enum class Compute : uint8_t { f32, i32, i64 };

enum class VectorOp : uint8_t {
    copy,
    neg,
    abs,
    sign,
    floor,
    ceil,
    round,
    exp,
    log,
    sqrt,
    rsqrt,
    sin,
    cos,
    tanh,
    erf,
    not_,
    add,
    sub,
    mul,
    div,
    rem,
    pow,
    max,
    min,
    and_,
    or_,
    xor_,
    shl,
    shr,
    atan2,
    eq,
    ne,
    lt,
    le,
    gt,
    ge,
    select,
    fma,
    clamp,
    reduce_sum,
    reduce_prod,
    reduce_max,
    reduce_min,
    reduce_and,
    reduce_or,
    arg_max,
    arg_min,
    scan_sum,
    scan_prod,
    scan_max,
    scan_min,
    iota,
    philox,
    sort,
};
inline constexpr int kVectorOps = 54;
inline constexpr std::array<const char*, kVectorOps> kVectorOpNames = {
    "copy",        "neg",        "abs",        "sign",       "floor",     "ceil",    "round",   "exp",
    "log",         "sqrt",       "rsqrt",      "sin",        "cos",       "tanh",    "erf",     "not",
    "add",         "sub",        "mul",        "div",        "rem",       "pow",     "max",     "min",
    "and",         "or",         "xor",        "shl",        "shr",       "atan2",   "eq",      "ne",
    "lt",          "le",         "gt",         "ge",         "select",    "fma",     "clamp",   "reduce_sum",
    "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "arg_max", "arg_min", "scan_sum",
    "scan_prod",   "scan_max",   "scan_min",   "iota",       "philox",    "sort"};

enum class Queue : uint8_t { LD, ST, MV, MM, VE };
inline constexpr int kQueues = 5;

// ---- operands

// Up to six sizes or strides, from the outermost to the innermost.
inline constexpr int kMaxDims = 6;
struct Dims {
    int count = 0;
    std::array<int64_t, kMaxDims> values{};

    int64_t& operator[](int i) { return values[static_cast<size_t>(i)]; }
    int64_t operator[](int i) const { return values[static_cast<size_t>(i)]; }
    int64_t product() const {
        int64_t result = 1;
        for (int i = 0; i < count; ++i)
            result *= (*this)[i];
        return result;
    }
    bool operator==(const Dims&) const = default;
};

// coef * ((slot // div) % mod); mod 0 means no modulus. Division rounds down, as in Python.
struct Term {
    int slot;
    int64_t coef, div, mod;
};

struct Affine {
    int64_t constant = 0;
    std::vector<Term> terms;

    int64_t value(std::span<const int64_t> slots) const;
};

struct View {
    int memory = 0;
    Affine base;
    Dims strides;
    DType dtype = DType::f32;
};

// A view, or a number in the command itself.
struct Source {
    bool immediate = false;
    double value = 0;
    View view;

    DType dtype() const { return view.dtype; }
};

struct Wait {
    int semaphore;
    int64_t count;
};

struct Post {
    int semaphore;
    int64_t count;
    bool cluster;
};

struct Tensor {
    int space = 0;
    int64_t base = 0;
    DType dtype = DType::f32;
    Dims extents, strides;
    double fill = 0;
};

// ---- commands

enum class Opcode : uint8_t {
    Load,
    Store,
    Copy,
    Drain,
    MatMul,
    Vector,
    Nop,
    Loop,
    If,
    While,
    Barrier,
    Set,
    LoadScalar
};
inline constexpr std::array<const char*, 13> kOpcodeNames = {
    "Load", "Store", "Copy", "Drain", "MatMul", "Vector", "Nop", "Loop", "If", "While", "Barrier", "Set", "LoadScalar"};

// Load and Store.
struct Dma {
    int tensor = 0;
    std::vector<Affine> origin;
    Dims extents;
    Affine offset;
    View local;
    bool multicast = false; // Load only
    bool add = false;       // Store only
    bool indexed = false;
    int index_dim = 0;
    View index_list;
};

struct Copy {
    Dims dims;
    View dst, src;
};

struct Drain {
    Dims dims;
    View dst, acc;
    Source scale, bias;
    double lo = 0, hi = 0;
    int64_t zero = 0;
};

struct MatMul {
    Dims m;
    int64_t n = 0;
    Dims k;
    View a, b, c;
    Affine accumulate;
};

struct Vector {
    VectorOp op = VectorOp::copy;
    Compute compute = Compute::f32;
    Dims dims;
    View dst;
    std::vector<Source> srcs;
    int reduced = 0;
    Affine accumulate;
};

struct Nop {};

struct Command {
    Opcode opcode = Opcode::Nop;
    Queue queue = Queue::LD;
    std::vector<Wait> waits;
    std::vector<Post> posts;
    int kernel = 0;
    int loop = -1; // the innermost loop around it (number in Program::loops), -1 outside all
    std::variant<Nop, Dma, Copy, Drain, MatMul, Vector> body;
};

// ---- the tree as straight code with jumps, which a core's control processor walks with one program counter

enum class StepKind : uint8_t {
    Issue,      // command `command`
    LoopBegin,  // trips of loop `loop` = value; if none, goto `target` (past LoopEnd); slot = 0
    LoopEnd,    // if turns are left: slot += 1, goto `target` (past LoopBegin)
    Branch,     // if value <= 0 goto `target`
    Jump,       // goto `target`; backwards at the end of a While
    Barrier,    // `chip`, `queues` (bit q: queue q)
    Set,        // slots[slot] = value
    LoadScalar, // slots[slot] = integer at `source`, after `waits`
    End,
};

struct Step {
    StepKind kind = StepKind::End;
    int command = -1;
    int loop = -1; // LoopBegin, LoopEnd: the loop itself; others: the innermost loop around
    int slot = -1;
    int target = -1;
    bool chip = false;
    uint8_t queues = 0;
    Affine value;
    View source;
    std::vector<Wait> waits;
};

struct LoopInfo {
    int slot;
    int parent; // the loop around it, -1: none
};

struct Program {
    std::vector<Step> steps; // the last one is End
    std::vector<Command> commands;
    std::vector<LoopInfo> loops;
    std::vector<Tensor> tensors;
    std::vector<int64_t> semaphores; // initial values, the same in every core
    int slots = 1;
    int cores = 1;
    bool multicasts = false; // some Load does
};

// Thrown for words that are no program; the Python side has verified programs that it wrote itself.
struct BadProgram : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// `nodes` and `tensors` are the words of encode_nodes and encode_tensors. Throws BadProgram.
Program decode_program(std::span<const int64_t> nodes, std::span<const int64_t> tensors,
                       std::vector<int64_t> semaphores, int slots, int cores);

// ---- chip parameters

enum Role : uint8_t { kRoleLd, kRoleSt, kRoleMv, kRoleA, kRoleB, kRoleC, kRoleVe }; // chip.spec.ROLES
inline constexpr std::array<const char*, 7> kRoleNames = {"ld", "st", "mv", "a", "b", "c", "ve"};

struct Memory {
    int64_t bytes, bytes_per_cycle;
    uint8_t reach; // bit r: role r
};

struct Geometry {
    int64_t m0 = 0, n0 = 0, k0 = 0; // 0: the unit has none for this type
};

enum class Stationary : uint8_t { weight, output, input, none };

// Rates of shared resources are in thousandths of a byte per cycle, 0: unlimited.
struct Port {
    int64_t rate_milli = 0, latency_cycles = 0;
};

// Who shares a memory: each cluster has its own, the chip has one, or the clusters hold a slice each of one for all.
enum class Scope : uint8_t { cluster, chip, distributed };

struct Shared {
    int64_t bytes; // of one cluster's, where each has one
    Port port;
    Scope scope;
    bool hardware; // a cache before DRAM, else an address space
};

// chip.spec.Chip as plain numbers (sim/chip_params.py); `from_fields` throws BadProgram where a field is missing.
struct ChipParams {
    int64_t dies = 1, clusters_per_die = 1, cores_per_cluster = 1;
    std::vector<Memory> memories;
    Stationary stationary = Stationary::none;
    int64_t load_cycles = 0, load_overlapped = 1, fill_cycles = 0;
    std::array<Geometry, kDTypes> geometry; // by DType; unsigned types have that of the signed ones
    std::array<int64_t, 3> lanes{};         // by Compute
    int64_t special_factor = 1, vector_startup_cycles = 0;
    int64_t drain_elements_per_cycle = 1, move_startup_cycles = 0;
    int64_t dma_rate_milli = 0, dma_setup_cycles = 0, burst_bytes = 1, outstanding_bursts = 1;
    int64_t issue_cycles = 0, queue_depth = 1, barrier_cycles = 0;
    Port cluster_port, die_link;
    bool multicast = false;
    std::vector<Shared> shared;  // all, in the chip file's order
    std::vector<int> spaces;     // numbers in `shared` of the software-managed ones; tensor space s is spaces[s-1]
    int64_t dram_rate_milli = 0; // of the whole chip
    int64_t granule_bytes = 1, dram_latency_cycles = 0, interleave_bytes = 4096;

    int64_t clusters() const { return dies * clusters_per_die; }
    int64_t cores() const { return clusters() * cores_per_cluster; }
    static ChipParams from_fields(const std::unordered_map<std::string, std::vector<int64_t>>& fields);
};

} // namespace tapeout::sim
