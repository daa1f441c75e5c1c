#include "circuit/port_batch.h"

#include <algorithm>
#include <stdexcept>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kChunk = 256;           // rows of both forms stay in the cache
constexpr std::size_t kSerialChunk = 1 << 14; // a box that is slow to call gets more at once

} // namespace

PortOracle::PortOracle(Oracle& inner, std::size_t input_bits, std::size_t output_bits, const std::vector<Move>& inputs,
                       const std::vector<Move>& outputs, std::vector<Array> arrays, const std::vector<Port>& reads,
                       const std::vector<Port>& writes, const std::vector<std::uint32_t>& copies)
    : inner_(inner), input_bits_(input_bits), output_bits_(output_bits), in_width_(row_words(input_bits)),
      out_width_(row_words(output_bits)), whole_in_(row_words(inner.input_bits())),
      whole_out_(row_words(inner.output_bits())), inputs_(inputs), outputs_(outputs), arrays_(std::move(arrays)),
      background_(whole_in_), array_mask_(whole_in_), rest_mask_(out_width_), copies_mask_(out_width_) {
    if (reads.size() + writes.size() > kPorts)
        throw std::invalid_argument("more than " + std::to_string(kPorts) + " ports");
    const auto to_whole = [&inputs](std::vector<std::uint32_t> bits) {
        for (std::uint32_t& bit : bits) {
            const auto move = std::find_if(inputs.begin(), inputs.end(), [bit](const Move& candidate) {
                return candidate.from <= bit && bit < candidate.from + candidate.width;
            });
            if (move == inputs.end())
                throw std::invalid_argument("an index bit is not in the whole box's rows");
            bit += move->to - move->from;
        }
        return bits;
    };
    for (const Port& read : reads)
        reads_.emplace_back(read, arrays_[read.array], to_whole(read.bits));
    for (const Port& write : writes)
        writes_.emplace_back(write, arrays_[write.array], to_whole(write.bits));
    for (std::size_t p = 0; p < reads_.size(); ++p)
        for (std::size_t q = 0; q < ports(); ++q)
            for (const std::uint32_t bit : port(q).bits)
                if (q != p && std::count(reads_[p].bits.begin(), reads_[p].bits.end(), bit))
                    reads_[p].alone = false;
    compared_.assign(whole_out_, ~Word{0});
    for (const Move& move : outputs)
        for (const std::uint32_t bit : copies)
            if (move.to <= bit && bit < move.to + move.width)
                set_bit(compared_.data(), move.from + bit - move.to, false);
    Random random(1);
    for (Word& word : background_)
        word = random.word();
    for (const Array& array : arrays_)
        for (const std::uint32_t at : array.in)
            set_field(array_mask_.data(), at, array.width, low_bits(array.width));
    for (std::size_t bit = 0; bit < output_bits; ++bit)
        set_bit(rest_mask_.data(), bit, true);
    for (const std::uint32_t bit : copies) {
        set_bit(rest_mask_.data(), bit, false);
        set_bit(copies_mask_.data(), bit, true);
    }
    for (const Source& write : writes_) {
        set_field(rest_mask_.data(), write.value, write.width, 0);
        if (write.enable >= 0)
            set_bit(rest_mask_.data(), static_cast<std::size_t>(write.enable), false);
    }
}

void PortOracle::locate(const Word* row, Entries& entries) const {
    std::size_t p = 0;
    for (const Source& read : reads_)
        entries[p++] = read.entry(row);
    for (const Source& write : writes_)
        entries[p++] = write.entry(row);
}

// Locates and builds all rows of a batch, and marks those whose read ports do not all see their values.
void PortOracle::prepare(Batch& batch) const {
    struct Read { // what the loop needs, beside each other
        const std::int16_t* table;
        const std::uint32_t* in;
        std::uint32_t value, array;
        unsigned width;
    };
    Read reads[kPorts];
    const std::size_t count = batch.rows.size(), read_count = reads_.size(), width = in_width_, whole_width = whole_in_;
    for (std::size_t p = 0; p < read_count; ++p)
        reads[p] = {reads_[p].table.data(), reads_[p].in, reads_[p].value, reads_[p].array, reads_[p].width};
    const Word *background = background_.data(), *mask = array_mask_.data();
    const bool fresh = batch.origin.empty();
    if (fresh)
        batch.seeds.resize(count);
    batch.conflicts.resize(count);
    batch.entries.resize(count);
    batch.whole.resize(count * whole_width);
    for (std::size_t i = 0; i < count; ++i) {
        const Word* row = batch.rows[i];
        Word* whole = batch.whole.data() + i * whole_width;
        Entries& entries = batch.entries[i];
        if (fresh) {
            Word sum = 0, factor = 0x9e3779b97f4a7c15u;
            for (std::size_t w = 0; w < width; ++w, factor += 0x6a09e667f3bcc908u)
                sum += (row[w] ^ row[w] >> 31) * factor; // the factors are odd: no bit is lost
            batch.seeds[i] = mix(sum);
        }
        const Word hash = batch.seeds[i];
        for (std::size_t w = 0; w < whole_width; ++w)
            whole[w] = (background[w] ^ hash) & mask[w];
        inputs_(row, whole);
        Word values[kPorts];
        bool open = false;
        for (std::size_t p = 0; p < read_count; ++p) {
            const Read& read = reads[p];
            const std::int16_t entry = read.table[reads_[p].code(row)];
            const Word value = get_field(row, read.value, read.width);
            entries[p] = entry;
            values[p] = value;
            if (entry < 0) {
                open |= value != 0;
                continue;
            }
            bool first = true; // the first port to name an entry wins
            for (std::size_t q = 0; q < p; ++q)
                if (entries[q] == entry && reads[q].array == read.array) {
                    open |= values[q] != value;
                    first = false;
                }
            if (first)
                set_field(whole, read.in[entry], read.width, value);
        }
        for (std::size_t k = 0; k < writes_.size(); ++k)
            entries[read_count + k] = writes_[k].entry(row);
        batch.conflicts[i] = open;
    }
}

// The write ports' part of an answer. What is not seen to change counts as held until `ask_complemented`.
void PortOracle::extract(Batch& batch, std::size_t i) const {
    const Entries& entries = batch.entries[i];
    const Word *whole = batch.whole.data() + i * whole_in_, *answer = batch.answer.data() + i * whole_out_;
    Word* out = batch.answers[i];
    std::uint32_t doubts = 0;
    for (std::size_t k = 0; k < writes_.size(); ++k) {
        const Source& write = writes_[k];
        const std::int16_t entry = entries[reads_.size() + k];
        if (entry < 0) {
            doubts |= 1u << k;
            continue;
        }
        bool written_before = false, read = false;
        for (std::size_t p = 0; p < reads_.size() + k; ++p)
            if (entries[p] == entry && port(p).array == write.array)
                (p < reads_.size() ? read : written_before) = true;
        if (written_before) { // until it is settled, the first port has it all
            doubts |= 1u << k;
            continue;
        }
        const Word next = get_field(answer, write.out[entry], write.width);
        if (write.enable < 0) {
            set_field(out, write.value, write.width, next);
            continue;
        }
        if (next != get_field(whole, write.in[entry], write.width)) {
            set_field(out, write.value, write.width, next);
            set_bit(out, static_cast<std::size_t>(write.enable), true);
        } else if (read) {
            doubts |= 1u << k;
        }
    }
    batch.doubts[i] = doubts;
}

void PortOracle::ask(Batch& batch, bool writes) const {
    const std::size_t count = batch.rows.size();
    batch.answers.resize(0);
    batch.answers.resize(count);
    batch.doubts.assign(count, 0);
    if (!count)
        return;
    prepare(batch);
    batch.answer.resize(count * whole_out_);
    inner_.evaluate(batch.whole.data(), batch.answer.data(), count);
    for (std::size_t i = 0; i < count; ++i) {
        outputs_(batch.answer.data() + i * whole_out_, batch.answers[i]);
        if (writes || batch.conflicts[i])
            extract(batch, i);
    }
}

// An entry that no port reads keeps its content, or is given the same: with another content it shows which.
void PortOracle::ask_complemented(Batch& batch) const {
    const auto each_held = [&](std::size_t i, const auto& visit) {
        for (std::size_t k = 0; k < writes_.size(); ++k) {
            const Source& write = writes_[k];
            const std::int16_t entry = batch.entries[i][reads_.size() + k];
            if (entry >= 0 && write.enable >= 0 && !(batch.doubts[i] >> k & 1) &&
                !get_bit(batch.answers[i], static_cast<std::size_t>(write.enable)))
                visit(write, entry);
        }
    };
    std::vector<std::uint32_t> held;
    for (std::uint32_t i = 0; i < batch.rows.size(); ++i) {
        bool any = false;
        if (!batch.conflicts[i])
            each_held(i, [&any](const Source&, std::int16_t) { any = true; });
        if (any)
            held.push_back(i);
    }
    if (held.empty())
        return;
    std::vector<Word> whole(held.size() * whole_in_), answer(held.size() * whole_out_);
    for (std::size_t n = 0; n < held.size(); ++n) {
        Word* row = whole.data() + n * whole_in_;
        std::copy_n(batch.whole.data() + held[n] * whole_in_, whole_in_, row);
        each_held(held[n], [row](const Source& write, std::int16_t entry) {
            set_field(row, write.in[entry], write.width,
                      ~get_field(row, write.in[entry], write.width) & low_bits(write.width));
        });
    }
    inner_.evaluate(whole.data(), answer.data(), held.size());
    for (std::size_t n = 0; n < held.size(); ++n)
        each_held(held[n], [&](const Source& write, std::int16_t entry) {
            const Word next = get_field(answer.data() + n * whole_out_, write.out[entry], write.width);
            if (next == get_field(whole.data() + n * whole_in_, write.in[entry], write.width))
                return;
            set_field(batch.answers[held[n]], write.value, write.width, next);
            set_bit(batch.answers[held[n]], static_cast<std::size_t>(write.enable), true);
        });
}

void PortOracle::evaluate_for(const std::vector<int>& outputs, const std::uint64_t* in, std::uint64_t* out,
                              std::size_t rows) {
    const bool rest = std::all_of(outputs.begin(), outputs.end(), [this](int bit) {
        return get_bit(rest_mask_.data(), static_cast<std::size_t>(bit));
    });
    answer(in, out, rows, !rest);
}

void PortOracle::answer(const Word* in, Word* out, std::size_t rows, bool writes) const {
    const std::size_t chunk = inner_.concurrent() ? kChunk : kSerialChunk;
    Batch batch(in_width_, out_width_);
    for (std::size_t begin = 0; begin < rows; begin += chunk) {
        const std::size_t count = std::min(chunk, rows - begin);
        batch.rows.resize(count);
        std::copy_n(in + begin * in_width_, count * in_width_, batch.rows.data());
        ask(batch, writes);
        settle(batch, writes);
        if (writes)
            ask_complemented(batch);
        std::copy_n(batch.answers.data(), count * out_width_, out + begin * out_width_);
    }
}

} // namespace tapeout::circuit
