#include "circuit/evaluate.h"

#include "circuit/slices.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace tapeout::circuit {

namespace {

struct alignas(Lanes) Slot {
    std::uint64_t words[kLaneWords];
};

struct Block {
    const Evaluator::Step* steps;
    std::size_t step_count;
    const Lit* outputs;
    std::size_t output_count;
    std::size_t inputs;
};

// Slot 0 is false, slots 1 ... inputs hold the inputs at the start. Behind them there is room for whole columns of 64.
TAPEOUT_CLONES
void run_block(const Block& block, const std::uint64_t* in, std::uint64_t* out, std::size_t count, Lanes* slots) {
    const std::size_t in_words = row_words(block.inputs), out_words = row_words(block.output_count);
    Lanes column[64];
    slots[0] = Lanes{};
    for (std::size_t c = 0; c < in_words; ++c) {
        load_slices(in, in_words, c, count, column);
        std::copy_n(column, std::min<std::size_t>(64, block.inputs - 64 * c), slots + 1 + 64 * c);
    }
    const Lanes flips[2] = {Lanes{}, ~Lanes{}};
    for (std::size_t i = 0; i < block.step_count; ++i) {
        const Evaluator::Step step = block.steps[i];
        slots[step.to] = (slots[step.a >> 1] ^ flips[step.a & 1]) & (slots[step.b >> 1] ^ flips[step.b & 1]);
    }
    for (std::size_t c = 0; c < out_words; ++c) {
        for (std::size_t bit = 0; bit < 64; ++bit) {
            const std::size_t o = 64 * c + bit;
            column[bit] = o < block.output_count ? slots[block.outputs[o] >> 1] ^ flips[block.outputs[o] & 1] : Lanes{};
        }
        store_slices(column, out, out_words, c, count);
    }
}

// Gates in the order of a depth-first walk from the outputs: what is computed is used soon.
std::vector<std::uint32_t> depth_first(const Aig& aig) {
    std::vector<std::uint32_t> order, stack;
    std::vector<char> state(aig.variables(), 0); // 1: fan-ins are on the stack, 2: done
    for (const Lit output : aig.outputs) {
        stack.push_back(output >> 1);
        while (!stack.empty()) {
            const std::uint32_t v = stack.back();
            if (!aig.is_gate(v) || state[v] == 2) {
                stack.pop_back();
            } else if (state[v] == 1) {
                stack.pop_back();
                state[v] = 2;
                order.push_back(v);
            } else {
                state[v] = 1;
                stack.push_back(aig.gate(v).b >> 1);
                stack.push_back(aig.gate(v).a >> 1);
            }
        }
    }
    return order;
}

} // namespace

Evaluator::Evaluator(const Aig& aig) : inputs_(aig.inputs) {
    const std::vector<std::uint32_t> order = depth_first(aig);
    std::vector<std::uint32_t> last(aig.variables(), 0); // step of the last use, 1-based
    for (std::size_t i = 0; i < order.size(); ++i)
        for (const Lit lit : {aig.gate(order[i]).a, aig.gate(order[i]).b})
            last[lit >> 1] = static_cast<std::uint32_t>(i + 1);
    for (const Lit output : aig.outputs)
        last[output >> 1] = ~std::uint32_t{0};
    last[0] = ~std::uint32_t{0};
    std::vector<std::uint32_t> slot(aig.variables()), free;
    for (std::size_t v = 0; v < aig.first_gate(); ++v)
        slot[v] = static_cast<std::uint32_t>(v);
    slots_ = aig.first_gate();
    const auto operand = [&](Lit lit) { return 2 * slot[lit >> 1] + (lit & 1); };
    steps_.reserve(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        const Gate gate = aig.gate(order[i]);
        Step step{0, operand(gate.a), operand(gate.b)};
        for (const Lit lit : {gate.a, gate.b})
            if (last[lit >> 1] == i + 1) {
                free.push_back(slot[lit >> 1]);
                last[lit >> 1] = 0; // a gate may name one variable twice
            }
        if (free.empty())
            free.push_back(static_cast<std::uint32_t>(slots_++));
        step.to = slot[order[i]] = free.back();
        free.pop_back();
        steps_.push_back(step);
    }
    for (const Lit output : aig.outputs)
        outputs_.push_back(operand(output));
}

void Evaluator::run(const std::uint64_t* in, std::uint64_t* out, std::size_t rows, unsigned threads) const {
    const std::size_t blocks = (rows + kLanes - 1) / kLanes;
    const Block block{steps_.data(), steps_.size(), outputs_.data(), outputs_.size(), inputs_};
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        std::vector<Slot> slots(slots_);
        for (std::size_t b; (b = next++) < blocks;)
            run_block(block, in + b * kLanes * row_words(inputs_), out + b * kLanes * row_words(outputs_.size()),
                      std::min(kLanes, rows - b * kLanes), reinterpret_cast<Lanes*>(slots.data()));
    };
    if (!threads)
        threads = std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::jthread> others;
    for (std::size_t t = 1; t < std::min<std::size_t>(threads, blocks); ++t)
        others.emplace_back(work);
    work();
}

} // namespace tapeout::circuit
