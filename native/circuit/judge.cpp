#include "circuit/judge.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <exception>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace tapeout::circuit {

namespace {

using Bits = std::uint64_t;

Bits ones(unsigned width) {
    return width >= 64 ? ~Bits{0} : (Bits{1} << width) - 1;
}

// xoshiro256++ (Blackman and Vigna: Scrambled linear pseudorandom number generators, 2019), which the learner's
// generators have nothing in common with. Its state is filled by the finaliser of MurmurHash3 (Appleby).
class Xoshiro {
public:
    Xoshiro(Bits seed, Bits stream, Bits part) {
        Bits key = 0x243f6a8885a308d3u;
        for (const Bits value : {seed, stream, part})
            key = scatter(key ^ value) + 0x13198a2e03707344u;
        for (Bits& word : state_)
            word = key = scatter(key + 0xa4093822299f31d0u);
    }
    Bits next() {
        const Bits result = std::rotl(state_[0] + state_[3], 23) + state_[0];
        const Bits moved = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= moved;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }
    unsigned below(Bits limit) { return static_cast<unsigned>((next() >> 32) * limit >> 32); }

private:
    static Bits scatter(Bits x) {
        x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
        x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
        return x ^ x >> 33;
    }
    Bits state_[4];
};

// Takes bits off a random number, a few at a time.
class Dice {
public:
    explicit Dice(Bits value) : value_(value) {}
    unsigned take(unsigned bits) {
        const auto result = static_cast<unsigned>(value_ & ones(bits));
        value_ >>= bits;
        return result;
    }

private:
    Bits value_;
};

// A value at a corner: near a power of two, a small number of either sign, a number of any length, a pattern of bytes.
Bits corner(Xoshiro& random, unsigned width) {
    Dice dice(random.next());
    const Bits sign = dice.take(1) ? ~Bits{0} : 0;
    const Bits power = Bits{1} << dice.take(6) % width;
    switch (dice.take(3)) {
    case 0:
        return sign;
    case 1: // one bit, or all but one
        return power ^ sign;
    case 2: // the numbers around a power of two, or around its negative
        return ((power + dice.take(2)) ^ sign) - 1;
    case 3: // a carry or a borrow that goes up to a bit
        return (power - 1) ^ sign;
    case 4: // small
        return dice.take(5) ^ sign;
    case 5: // of any length
        return (random.next() & (power * 2 - 1)) ^ sign;
    case 6: { // the same byte everywhere
        const Bits bytes[8] = {0x00, 0xff, 0x80, 0x7f, 0x55, 0xaa, 0x0f, 0x01};
        return bytes[dice.take(3)] * 0x0101010101010101u;
    }
    default:
        return random.next();
    }
}

// Operand bits of an instruction: by chance, few ones, few zeros, or all the same.
Bits operand_bits(Xoshiro& random) {
    switch (random.next() >> 61) {
    case 0:
        return 0;
    case 1:
        return ~Bits{0};
    case 2:
        return random.next() & random.next() & random.next();
    case 3:
        return random.next() | random.next() | random.next();
    default:
        return random.next();
    }
}

Bits constant_of(const Encoding& code, Bits instruction) {
    Bits value = 0;
    unsigned end = 0;
    for (const ConstantField& field : code.constant) {
        value |= (instruction >> field.from & ones(field.width)) << field.to;
        end = std::max(end, field.to + field.width);
    }
    if (code.is_signed && end && value >> (end - 1) & 1)
        value |= ~ones(end);
    return value;
}

// A field of a row of at most 64 bits.
Bits get(const Bits* row, std::size_t at, unsigned width) {
    const unsigned shift = at % 64;
    Bits value = row[at / 64] >> shift;
    if (shift + width > 64)
        value |= row[at / 64 + 1] << (64 - shift);
    return value & ones(width);
}

void put(Bits* row, std::size_t at, unsigned width, Bits value) {
    const unsigned shift = at % 64;
    value &= ones(width);
    row[at / 64] = (row[at / 64] & ~(ones(width) << shift)) | value << shift;
    if (shift + width > 64)
        row[at / 64 + 1] = (row[at / 64 + 1] & ~(ones(width) >> (64 - shift))) | value >> (64 - shift);
}

class Drawer {
public:
    Drawer(const JudgePlan& plan, JudgeRows kind, Bits seed, Bits chunk)
        : plan_(plan), kind_(kind), chunk_(chunk), random_(seed, static_cast<Bits>(kind), chunk),
          bits_(std::accumulate(plan.inputs.begin(), plan.inputs.end(), std::size_t{0})), width_(row_words(bits_)),
          widest_(std::min(64u, *std::max_element(plan.inputs.begin(), plan.inputs.end()))) {
        for (std::size_t at = 0; const unsigned width : plan.inputs) {
            starts_.push_back(at);
            at += width;
        }
    }

    std::size_t bits() const { return bits_; }

    // Fills `count` rows; `operations` gets which operation each was drawn for.
    void fill(Bits* rows, std::uint32_t* operations, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i, rows += width_) {
            operations[i] = 0;
            if (kind_ == JudgeRows::uniform)
                uniform(rows);
            else if (kind_ == JudgeRows::walking)
                operations[i] = walk(rows, chunk_ * kJudgeChunk + i);
            else
                operations[i] = structured(rows, kind_ == JudgeRows::damaged);
            agree(rows);
        }
    }

private:
    void uniform(Bits* row) {
        for (std::size_t w = 0; w < width_; ++w)
            row[w] = random_.next();
        if (bits_ % 64)
            row[width_ - 1] &= ones(bits_ % 64);
    }

    // The row before with the next bit flipped; a new row when all bits were.
    std::uint32_t walk(Bits* row, Bits place) {
        const std::size_t bit = place % (bits_ + 1); // the last of them flips nothing
        if (base_.empty() || bit == 0) {
            base_.assign(width_, 0);
            base_operation_ = 0;
            const unsigned how = random_.below(8);
            if (how == 0)
                uniform(base_.data());
            else if (how == 1)
                flip_all(base_.data(), random_.next() & 1);
            else
                base_operation_ = structured(base_.data(), false);
        }
        std::copy(base_.begin(), base_.end(), row);
        if (bit < bits_)
            row[bit / 64] ^= Bits{1} << bit % 64;
        return base_operation_;
    }

    void flip_all(Bits* row, bool value) const {
        std::fill_n(row, width_, value ? ~Bits{0} : 0);
        if (bits_ % 64)
            row[width_ - 1] &= ones(bits_ % 64);
    }

    // Words at corners, related to a value that they share, and to the constant of the instruction.
    std::uint32_t structured(Bits* row, bool damage) {
        std::uint32_t operation = 0;
        Bits instruction = 0, constant = 0;
        if (plan_.instruction >= 0) {
            operation = random_.below(plan_.operations.size());
            const auto& codes = plan_.operations[operation];
            const Encoding& code = codes[codes.size() > 1 ? random_.below(codes.size()) : 0];
            instruction = (operand_bits(random_) & ~code.mask) | code.match;
            constant = constant_of(code, instruction);
            if (damage)
                instruction ^= damage_of(plan_.inputs[static_cast<std::size_t>(plan_.instruction)]);
        }
        Dice dice(random_.next());
        const unsigned related = dice.take(3); // of eight words; 7: all are the shared value
        const Bits cleared = dice.take(1) ? ~Bits{3} : ~Bits{0};
        const Bits shared = (dice.take(1) ? random_.next() : corner(random_, widest_)) & cleared;
        std::fill_n(row, width_, 0);
        std::size_t at = 0;
        for (std::size_t w = 0; w < plan_.inputs.size(); ++w) {
            const unsigned width = plan_.inputs[w];
            if (static_cast<int>(w) == plan_.instruction)
                put(row, at, width, instruction);
            else
                for (unsigned done = 0; done < width; done += 64)
                    put(row, at + done, std::min(64u, width - done),
                        value(std::min(64u, width - done), related, cleared, shared, constant));
            at += width;
        }
        return operation;
    }

    Bits damage_of(unsigned width) {
        Bits flips = Bits{1} << random_.below(width);
        if (random_.next() & 1)
            flips |= Bits{1} << random_.below(width);
        return flips;
    }

    Bits value(unsigned width, unsigned related, Bits cleared, Bits shared, Bits constant) {
        if (width == 1)
            return random_.next() >> 63;
        Dice dice(random_.next());
        if (dice.take(3) >= related)
            return corner(random_, width) & cleared;
        const Bits low = ones(width / 2), bit = Bits{1} << dice.take(6) % width;
        switch (related == 7 ? dice.take(5) : dice.take(4)) {
        case 0:
            return shared + 1;
        case 1:
            return shared - 1;
        case 2:
            return ~shared;
        case 3:
            return -shared;
        case 4:
            return shared ^ bit;
        case 5: // equal halves
            return (shared & low) | (random_.next() & ~low);
        case 6:
            return (shared & ~low) | (random_.next() & low);
        case 7: // both moved
            return dice.take(1) ? shared << 8 : (shared & ones(width)) >> 8;
        case 8: // what the sum with the constant makes the shared value, or next to it
            return shared - constant;
        case 9:
            return shared - constant + (Bits{dice.take(2)} - 1);
        case 10: // an operand that is the constant, next to it, or its opposite
            return constant + (Bits{dice.take(2)} - 1);
        case 11:
            return dice.take(1) ? ~constant : -constant;
        default:
            return shared;
        }
    }

    // Makes what the read ports deliver go together.
    void agree(Bits* row) const {
        for (std::size_t i = 0; i < plan_.reads.size(); ++i) {
            const ReadPort& port = plan_.reads[i];
            const unsigned width = plan_.inputs[port.word];
            const Bits index = get(row, port.index.bit, port.index.width);
            if (!index)
                put(row, starts_[port.word], width, 0);
            for (std::size_t j = 0; j < i && index; ++j)
                if (get(row, plan_.reads[j].index.bit, plan_.reads[j].index.width) == index)
                    put(row, starts_[port.word], width, get(row, starts_[plan_.reads[j].word], width));
        }
    }

    const JudgePlan& plan_;
    JudgeRows kind_;
    Bits chunk_;
    Xoshiro random_;
    std::size_t bits_, width_;
    unsigned widest_;
    std::vector<std::size_t> starts_; // of the words
    std::vector<Bits> base_;
    std::uint32_t base_operation_ = 0;
};

void check_plan(const JudgePlan& plan, const Oracle& oracle, const Aig& circuit) {
    const auto sum = [](const std::vector<unsigned>& widths) {
        return std::accumulate(widths.begin(), widths.end(), std::size_t{0});
    };
    if (sum(plan.inputs) != oracle.input_bits() || sum(plan.outputs) != oracle.output_bits() ||
        circuit.inputs != oracle.input_bits() || circuit.outputs.size() != oracle.output_bits())
        throw std::invalid_argument("the words, the oracle and the circuit have different widths");
    if (!oracle.input_bits() || !oracle.output_bits())
        throw std::invalid_argument("a circuit without inputs or outputs needs no judge");
    for (const ReadPort& port : plan.reads)
        if (port.word >= plan.inputs.size() || plan.inputs[port.word] > 64 || port.index.width > 64 ||
            port.index.bit + port.index.width > oracle.input_bits())
            throw std::invalid_argument("a read port is not in the rows");
    for (const WritePort& port : plan.writes)
        if (port.index.width > 64 || port.index.bit + port.index.width > oracle.input_bits() ||
            std::any_of(port.words.begin(), port.words.end(), [&](unsigned w) { return w >= plan.outputs.size(); }))
            throw std::invalid_argument("a write port is not in the rows");
    if (plan.instruction < 0)
        return;
    const auto word = static_cast<std::size_t>(plan.instruction);
    if (word >= plan.inputs.size() || plan.inputs[word] > 64 || plan.operations.empty())
        throw std::invalid_argument("no word of up to 64 bits holds the operations");
    for (const auto& codes : plan.operations)
        if (codes.empty())
            throw std::invalid_argument("an operation has no encoding");
}

} // namespace

void Tally::add(const Tally& other) {
    rows += other.rows;
    wrong += other.wrong;
    const auto sum = [](std::vector<std::uint64_t>& to, const std::vector<std::uint64_t>& from) {
        to.resize(std::max(to.size(), from.size()));
        std::transform(from.begin(), from.end(), to.begin(), to.begin(), std::plus<>{});
    };
    sum(wrong_by_output, other.wrong_by_output);
    sum(rows_by_operation, other.rows_by_operation);
    sum(wrong_by_operation, other.wrong_by_operation);
    if (first.empty())
        first = other.first;
}

Judge::Judge(Oracle& oracle, const Aig& circuit, JudgePlan plan, std::uint64_t seed)
    : oracle_(oracle), circuit_(circuit), plan_(std::move(plan)), seed_(seed) {
    check_plan(plan_, oracle, circuit);
    std::size_t at = 0;
    for (const unsigned width : plan_.outputs) {
        std::vector<std::uint64_t> mask(row_words(oracle.output_bits()));
        for (std::size_t bit = at; bit < at + width; ++bit)
            mask[bit / 64] |= Bits{1} << bit % 64;
        output_masks_.push_back(std::move(mask));
        at += width;
    }
}

std::vector<std::uint64_t> Judge::rows(JudgeRows kind, std::uint64_t chunk) const {
    Drawer drawer(plan_, kind, seed_, chunk);
    std::vector<std::uint64_t> result(kJudgeChunk * row_words(drawer.bits()));
    std::vector<std::uint32_t> operations(kJudgeChunk);
    drawer.fill(result.data(), operations.data(), kJudgeChunk);
    return result;
}

void Judge::count_wrong(const Bits* row, const Bits* meant, const Bits* given, std::uint32_t operation,
                        Tally& tally) const {
    bool any = false;
    for (std::size_t w = 0; w < output_masks_.size(); ++w) {
        Bits differ = 0;
        for (std::size_t e = 0; e < output_masks_[w].size(); ++e)
            differ |= (meant[e] ^ given[e]) & output_masks_[w][e];
        for (const WritePort& port : plan_.writes)
            if (!get(row, port.index.bit, port.index.width) &&
                std::find(port.words.begin(), port.words.end(), w) != port.words.end())
                differ = 0;
        tally.wrong_by_output[w] += differ != 0;
        any |= differ != 0;
    }
    if (!any)
        return;
    ++tally.wrong;
    ++tally.wrong_by_operation[operation];
    if (tally.first.empty())
        tally.first.assign(row, row + row_words(oracle_.input_bits()));
}

// A batch at a time, so that questions and answers stay in the cache.
Tally Judge::judge_chunk(JudgeRows kind, std::uint64_t chunk, std::vector<std::uint64_t> (&buffers)[3]) const {
    constexpr std::size_t kBatch = 4096;
    const std::size_t in = row_words(oracle_.input_bits()), out = row_words(oracle_.output_bits());
    buffers[0].resize(kBatch * in);
    buffers[1].resize(kBatch * out);
    buffers[2].resize(kBatch * out);
    auto& [asked, meant, given] = buffers;
    std::uint32_t operations[kBatch];
    Tally tally;
    tally.wrong_by_output.resize(plan_.outputs.size());
    tally.rows_by_operation.resize(std::max<std::size_t>(1, plan_.operations.size()));
    tally.wrong_by_operation.resize(tally.rows_by_operation.size());
    Drawer drawer(plan_, kind, seed_, chunk);
    for (std::size_t done = 0; done < kJudgeChunk; done += kBatch) {
        drawer.fill(asked.data(), operations, kBatch);
        oracle_.evaluate(asked.data(), meant.data(), kBatch);
        circuit_.run(asked.data(), given.data(), kBatch, 1);
        for (std::size_t i = 0; i < kBatch; ++i) {
            ++tally.rows_by_operation[operations[i]];
            const Bits *a = meant.data() + i * out, *b = given.data() + i * out;
            if (std::equal(a, a + out, b))
                continue;
            count_wrong(asked.data() + i * in, a, b, operations[i], tally);
        }
    }
    tally.rows = kJudgeChunk;
    return tally;
}

Tally Judge::run(JudgeRows kind, std::uint64_t first, std::uint64_t chunks, unsigned threads) {
    if (!threads)
        threads = std::max(1u, std::thread::hardware_concurrency());
    if (!oracle_.concurrent())
        threads = 1;
    std::vector<Tally> tallies(chunks);
    std::atomic<std::uint64_t> next{0};
    std::exception_ptr failure;
    std::atomic<bool> failed{false};
    const auto work = [&] {
        std::vector<std::uint64_t> buffers[3];
        try {
            for (std::uint64_t i; !failed && (i = next++) < chunks;)
                tallies[i] = judge_chunk(kind, first + i, buffers);
        } catch (...) { // the oracle's; the first one is told
            if (!failed.exchange(true))
                failure = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> others;
        for (unsigned t = 1; t < threads; ++t)
            others.emplace_back(work);
        work();
    }
    if (failure)
        std::rethrow_exception(failure);
    Tally total;
    for (const Tally& tally : tallies)
        total.add(tally);
    return total;
}

} // namespace tapeout::circuit
