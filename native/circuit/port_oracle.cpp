#include "circuit/port_oracle.h"

#include <algorithm>
#include <stdexcept>

namespace tapeout::circuit {

struct PortOracle::Batch {
    Batch(std::size_t in_width, std::size_t out_width) : rows(in_width, 0), answers(out_width, 0) {}
    Rows rows, answers;
    std::vector<std::uint32_t> origin; // the row of another batch that this one is about
    std::vector<std::uint32_t> doubts;
    std::vector<std::uint32_t> moved; // write ports whose index is not that of the row as it was
    std::vector<char> conflicts;      // the read ports do not all see their values
    std::vector<char> unsure;         // a read was moved after them
    std::vector<Entries> entries;
    std::vector<Word> whole, answer; // of the whole box
    void push(const Word* row, std::uint32_t from) {
        rows.push(row);
        origin.push_back(from);
    }
};

namespace {

constexpr std::size_t kChunk = 512;           // rows of both forms stay in the cache
constexpr std::size_t kSerialChunk = 1 << 14; // a box that is slow to call gets more at once
constexpr std::size_t kMoves = 64;            // codes tried when an index is moved

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
    for (const Port& read : reads)
        reads_.emplace_back(read, arrays_[read.array]);
    for (const Port& write : writes)
        writes_.emplace_back(write, arrays_[write.array]);
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

void PortOracle::build(const Word* row, const Entries& entries, Word* whole) const {
    Word hash = 0, factor = 0x9e3779b97f4a7c15u;
    for (std::size_t i = 0; i < in_width_; ++i, factor += 0x6a09e667f3bcc908u)
        hash += (row[i] ^ row[i] >> 31) * factor; // the factors are odd: no bit is lost
    hash = mix(hash);
    const Word *background = background_.data(), *mask = array_mask_.data();
    for (std::size_t i = 0, n = whole_in_; i < n; ++i)
        whole[i] = (background[i] ^ hash) & mask[i];
    inputs_(row, whole);
    for (std::size_t p = reads_.size(); p-- > 0;) { // backwards: the first port wins
        const Source& read = reads_[p];
        if (entries[p] >= 0)
            set_field(whole, read.in[entries[p]], read.width, content(row, read));
    }
}

// The write ports' part of an answer; rows that have to be asked again to be certain go to `again`.
void PortOracle::extract(Batch& batch, std::size_t i, std::vector<std::uint32_t>& again) const {
    const Entries& entries = batch.entries[i];
    const Word *whole = batch.whole.data() + i * whole_in_, *answer = batch.answer.data() + i * whole_out_;
    Word* out = batch.answers[i];
    std::uint32_t doubts = 0;
    bool held_unread = false;
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
        } else {
            held_unread = true;
        }
    }
    batch.doubts[i] = doubts;
    if (held_unread)
        again.push_back(static_cast<std::uint32_t>(i));
}

void PortOracle::ask(Batch& batch, bool writes) const {
    const std::size_t count = batch.rows.size();
    batch.answers.resize(0);
    batch.answers.resize(count);
    batch.doubts.assign(count, 0);
    batch.conflicts.assign(count, 0);
    if (!count)
        return;
    batch.entries.resize(count);
    batch.whole.resize(count * whole_in_);
    batch.answer.resize(count * whole_out_);
    for (std::size_t i = 0; i < count; ++i) {
        const Word* row = batch.rows[i];
        Entries& entries = batch.entries[i];
        locate(row, entries);
        build(row, entries, batch.whole.data() + i * whole_in_);
        Word shared;
        for (std::size_t p = 0; p < reads_.size() && !batch.conflicts[i]; ++p)
            batch.conflicts[i] = conflict(row, entries, p, shared);
    }
    inner_.evaluate(batch.whole.data(), batch.answer.data(), count);
    std::vector<std::uint32_t> again;
    for (std::size_t i = 0; i < count; ++i) {
        outputs_(batch.answer.data() + i * whole_out_, batch.answers[i]);
        if (writes || batch.conflicts[i])
            extract(batch, i, again);
    }
    if (!again.empty())
        ask_complemented(batch, again);
}

// An entry that no port reads keeps its content, or is given the same: with another content it shows which.
void PortOracle::ask_complemented(Batch& batch, const std::vector<std::uint32_t>& held) const {
    std::vector<Word> whole(held.size() * whole_in_), answer(held.size() * whole_out_);
    const auto each_held = [&](std::size_t i, const auto& visit) {
        for (std::size_t k = 0; k < writes_.size(); ++k) {
            const Source& write = writes_[k];
            const std::int16_t entry = batch.entries[i][reads_.size() + k];
            if (entry >= 0 && write.enable >= 0 && !(batch.doubts[i] >> k & 1) &&
                !get_bit(batch.answers[i], static_cast<std::size_t>(write.enable)))
                visit(write, entry);
        }
    };
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

// Whether the read port names no entry, or one that an earlier port gives another value, which is then `shared`.
bool PortOracle::conflict(const Word* row, const Entries& entries, std::size_t port, Word& shared) const {
    const Source& read = reads_[port];
    const Word value = content(row, read);
    shared = 0;
    if (entries[port] < 0)
        return value != 0;
    for (std::size_t p = 0; p < port; ++p)
        if (entries[p] == entries[port] && reads_[p].array == read.array) {
            shared = content(row, reads_[p]);
            return value != shared;
        }
    return false;
}

// Changes the index of a port in `moved`, a copy of the row, so that it names an entry that nothing else does.
bool PortOracle::movable(const Word* row, std::size_t p, Word* moved) const {
    const Source& source = port(p);
    const std::size_t code = source.code(row);
    Entries before;
    locate(row, before);
    for (std::size_t step = 1; step < std::min(source.table.size(), kMoves); ++step) {
        if (source.table[code ^ step] < 0)
            continue;
        source.code.put(moved, code ^ step);
        Entries after;
        locate(moved, after);
        bool clear = true;
        for (std::size_t q = 0; q < ports() && clear; ++q) {
            const bool same = port(q).bits == source.bits && port(q).array == source.array;
            if (!same && after[q] == before[q])
                continue;
            if (after[q] < 0)
                clear = same;
            for (std::size_t r = 0; r < ports() && clear; ++r)
                clear = after[r] != after[q] || port(r).array != port(q).array || port(r).bits == port(q).bits;
        }
        if (clear)
            return true;
    }
    std::copy_n(row, in_width_, moved);
    return false;
}

// A write port whose entry an earlier one names too: which of the two stored is not known. Else the number of ports.
std::size_t PortOracle::shared_write(const Word* row) const {
    Entries entries;
    locate(row, entries);
    for (std::size_t p = reads_.size() + 1; p < ports(); ++p)
        for (std::size_t q = reads_.size(); q < p; ++q)
            if (entries[p] >= 0 && entries[p] == entries[q] && port(p).array == port(q).array)
                return p - reads_.size();
    return writes_.size();
}

// Whether moving an index left the answer as it was; where two write ports are at one entry, by what is stored.
bool PortOracle::unchanged(const Batch& cases, std::size_t i, const Batch& trials, std::size_t t) const {
    std::size_t k = shared_write(cases.rows[i]);
    if (k == writes_.size() && cases.doubts[i])
        k = static_cast<std::size_t>(std::countr_zero(cases.doubts[i]));
    return k < writes_.size() ? agrees(cases, i, trials, t, k)
                              : same(cases.answers[i], trials.answers[t], copies_mask_, true);
}

// Moves the index of a read port that delivers what the entry holds. Where that changes nothing, the moved row with the
// port's own value is asked; the others are returned.
std::vector<std::uint32_t> PortOracle::move_read(const Batch& cases, const std::vector<std::uint32_t>& which,
                                                 std::size_t p, const std::vector<Word>& own, Batch& moved) const {
    std::vector<std::uint32_t> failed;
    Batch trials(in_width_, out_width_);
    for (const std::uint32_t i : which) {
        Entries entries;
        locate(cases.rows[i], entries);
        Word shared;
        if (!conflict(cases.rows[i], entries, p, shared))
            shared = content(cases.rows[i], reads_[p]);
        trials.push(cases.rows[i], i);
        Word* row = trials.rows[trials.rows.size() - 1];
        if (movable(cases.rows[i], p, row)) {
            set_field(row, reads_[p].value, reads_[p].width, shared);
        } else {
            trials.rows.resize(trials.rows.size() - 1);
            trials.origin.pop_back();
            failed.push_back(i);
        }
    }
    ask(trials);
    for (std::size_t t = 0; t < trials.rows.size(); ++t) {
        const std::uint32_t i = trials.origin[t];
        if (!unchanged(cases, i, trials, t)) {
            failed.push_back(i);
            continue;
        }
        set_field(trials.rows[t], reads_[p].value, reads_[p].width, own[i]);
        moved.push(trials.rows[t], i);
    }
    ask(moved);
    return failed;
}

void PortOracle::settle_read(Batch& cases, std::size_t p) const {
    std::vector<std::uint32_t> which;
    std::vector<Word> own(cases.rows.size());
    for (std::uint32_t i = 0; i < cases.rows.size(); ++i) {
        Entries entries;
        Word shared;
        locate(cases.rows[i], entries);
        if (!conflict(cases.rows[i], entries, p, shared))
            continue;
        which.push_back(i);
        own[i] = content(cases.rows[i], reads_[p]);
    }
    Batch moved(in_width_, out_width_);
    const std::vector<std::uint32_t> failed = move_read(cases, which, p, own, moved);
    adopt(cases, moved, {});
    settle_earlier(cases, failed, p);
}

void PortOracle::adopt(Batch& cases, const Batch& moved, const std::vector<std::uint32_t>& origin) const {
    for (std::size_t t = 0; t < moved.rows.size(); ++t) {
        const std::uint32_t i = origin.empty() ? moved.origin[t] : origin[moved.origin[t]];
        std::copy_n(moved.rows[t], in_width_, cases.rows[i]);
        std::copy_n(moved.answers[t], out_width_, cases.answers[i]);
        cases.doubts[i] = moved.doubts[t];
        cases.unsure[i] = cases.moved[i] != 0;
    }
}

// The index of port `p` cannot be moved. If another port's value stands in its place and matters, that port's may.
void PortOracle::settle_earlier(Batch& cases, const std::vector<std::uint32_t>& failed, std::size_t p) const {
    for (std::size_t q = 0; q < p; ++q) {
        Batch swapped(in_width_, out_width_);
        std::vector<Word> own;
        for (const std::uint32_t i : failed) {
            Entries entries;
            Word shared;
            locate(cases.rows[i], entries);
            if (entries[q] < 0 || entries[q] != entries[p] || reads_[q].array != reads_[p].array ||
                !conflict(cases.rows[i], entries, p, shared))
                continue;
            own.push_back(content(cases.rows[i], reads_[q]));
            swapped.push(cases.rows[i], i);
            set_field(swapped.rows[swapped.rows.size() - 1], reads_[q].value, reads_[q].width,
                      content(cases.rows[i], reads_[p]));
        }
        ask(swapped);
        std::vector<std::uint32_t> which;
        for (std::uint32_t s = 0; s < swapped.rows.size(); ++s)
            if (!same(swapped.answers[s], cases.answers[swapped.origin[s]], copies_mask_, true))
                which.push_back(s);
        Batch moved(in_width_, out_width_);
        move_read(swapped, which, q, own, moved);
        adopt(cases, moved, swapped.origin);
    }
}

// A copy of the row where the write port's entry is named by no other port.
bool PortOracle::separate(const Word* row, const Entries& entries, std::size_t k, Word* moved) const {
    const std::size_t p = reads_.size() + k;
    if (!writes_[k].bits.empty())
        return movable(row, p, moved);
    const auto here = [&](std::size_t q) {
        return q != p && entries[q] == entries[p] && port(q).array == writes_[k].array;
    };
    std::size_t first = reads_.size(); // the port stays: the other write ports must move, or else the reads
    while (first < ports() && !here(first))
        ++first;
    const bool writes = first < ports();
    std::vector<Word> from(row, row + in_width_);
    for (std::size_t q = writes ? reads_.size() : 0; q < (writes ? ports() : reads_.size()); ++q) {
        if (!here(q))
            continue;
        Entries now;
        locate(from.data(), now);
        if (now[q] != entries[p])
            continue; // moved along with another
        if (!movable(from.data(), q, moved))
            return false;
        std::copy_n(moved, in_width_, from.data());
    }
    return true;
}

// Whether answers are the same in the bits of a mask, or outside of it.
bool PortOracle::same(const Word* a, const Word* b, const std::vector<Word>& mask, bool outside) const {
    for (std::size_t w = 0; w < out_width_; ++w)
        if ((a[w] ^ b[w]) & (outside ? ~mask[w] : mask[w]))
            return false;
    return true;
}

// Whether the moved row did the same as the row itself, as far as that shows.
bool PortOracle::agrees(const Batch& cases, std::size_t i, const Batch& trials, std::size_t t, std::size_t k) const {
    const Word *was = cases.answers[i], *is = trials.answers[t];
    if (!same(was, is, rest_mask_, false))
        return false;
    Entries entries;
    locate(cases.rows[i], entries);
    const std::int32_t entry = entries[reads_.size() + k];
    const std::uint32_t array = writes_[k].array;
    const auto stores = [](const Word* answer, const Source& write) {
        return write.enable < 0 || get_bit(answer, static_cast<std::size_t>(write.enable));
    };
    // What the entry held, where a port tells; what it holds then by either answer.
    bool known = false;
    Word held = 0;
    for (std::size_t p = reads_.size(); p-- > 0;)
        if (entry >= 0 && entries[p] == entry && reads_[p].array == array) {
            known = true;
            held = content(cases.rows[i], reads_[p]);
        }
    bool stored[2] = {false, false};
    Word after[2] = {held, held};
    for (std::size_t m = 0; m < writes_.size(); ++m) {
        const Source& write = writes_[m];
        const bool here = m == k || (entry >= 0 && entries[reads_.size() + m] == entry && write.array == array);
        const Word values[2] = {get_field(was, write.value, write.width), get_field(is, write.value, write.width)};
        if (here) {
            for (int side = 0; side < 2; ++side)
                if (stores(side ? is : was, write)) {
                    stored[side] = true;
                    after[side] = values[side];
                }
        } else if (!(cases.doubts[i] >> m & 1) && (stores(was, write) != stores(is, write) || values[0] != values[1])) {
            return false;
        }
    }
    if (entry < 0)
        return true;
    return (stored[0] == stored[1] || known) && after[0] == after[1];
}

// Whether a read port that conflicts with others, and so does not see its own value, was moved.
bool PortOracle::moves_conflict(const Word* row, const Entries& entries, const Word* moved) const {
    Entries now;
    locate(moved, now);
    Word shared;
    for (std::size_t p = 0; p < reads_.size(); ++p)
        if (now[p] != entries[p] && conflict(row, entries, p, shared))
            return true;
    return false;
}

// The entry that the port names is read, and holds or is given the same: with another content it may show which.
void PortOracle::settle_stored(Batch& cases, std::size_t i, std::size_t k) const {
    const Source& write = writes_[k];
    Entries entries;
    locate(cases.rows[i], entries);
    const std::int16_t entry = entries[reads_.size() + k];
    if (entry < 0 || write.enable < 0)
        return;
    Batch trial(in_width_, out_width_);
    trial.push(cases.rows[i], static_cast<std::uint32_t>(i));
    bool read = false;
    Word held = 0;
    for (std::size_t p = ports(); p-- > 0;) {
        if (p == reads_.size() + k || entries[p] != entry || port(p).array != write.array)
            continue;
        if (p >= reads_.size())
            return; // another port's write
        read = true;
        held = content(cases.rows[i], reads_[p]);
        set_field(trial.rows[0], reads_[p].value, write.width, ~held & low_bits(write.width));
    }
    if (!read)
        return;
    ask(trial);
    const auto enable = static_cast<std::size_t>(write.enable);
    if (!same(cases.answers[i], trial.answers[0], rest_mask_, false) || !get_bit(trial.answers[0], enable) ||
        get_field(trial.answers[0], write.value, write.width) != held)
        return;
    set_field(cases.answers[i], write.value, write.width, held);
    set_bit(cases.answers[i], enable, true);
}

// A port that stores in every step stores what it read where nothing is written, also in rows that conflict.
void PortOracle::settle_held(Batch& cases) const {
    for (std::size_t i = 0; i < cases.rows.size(); ++i) {
        Entries entries;
        locate(cases.rows[i], entries);
        for (const Source& write : writes_)
            for (std::size_t p = 0; p < reads_.size(); ++p) {
                Word shared;
                if (write.enable >= 0 || reads_[p].array != write.array || reads_[p].bits != write.bits ||
                    !conflict(cases.rows[i], entries, p, shared))
                    continue;
                if (entries[p] < 0 || get_field(cases.answers[i], write.value, write.width) == shared)
                    set_field(cases.answers[i], write.value, write.width, content(cases.rows[i], reads_[p]));
            }
    }
}

void PortOracle::settle_write(Batch& cases, std::size_t k) const {
    Batch trials(in_width_, out_width_);
    for (std::size_t i = 0; i < cases.rows.size(); ++i) {
        if (!(cases.doubts[i] >> k & 1))
            continue;
        Entries entries;
        locate(cases.rows[i], entries);
        trials.push(cases.rows[i], static_cast<std::uint32_t>(i));
        Word* moved = trials.rows[trials.rows.size() - 1];
        if (!separate(cases.rows[i], entries, k, moved) || moves_conflict(cases.rows[i], entries, moved)) {
            trials.rows.resize(trials.rows.size() - 1);
            trials.origin.pop_back();
            settle_stored(cases, i, k);
        }
    }
    ask(trials);
    for (std::size_t t = 0; t < trials.rows.size(); ++t) {
        const std::uint32_t i = trials.origin[t];
        if (!agrees(cases, i, trials, t, k)) {
            settle_stored(cases, i, k);
            continue;
        }
        std::copy_n(trials.rows[t], in_width_, cases.rows[i]);
        std::copy_n(trials.answers[t], out_width_, cases.answers[i]);
        cases.doubts[i] = trials.doubts[t];
        cases.moved[i] |= 1u << k;
    }
}

// A write's index that was moved while it did not matter may matter with the reads' own values (the offset of a branch
// that is taken only then): such rows are asked with that index as it was.
void PortOracle::settle_moved(Batch& cases, const Batch& batch) const {
    Batch back(in_width_, out_width_);
    for (std::size_t i = 0; i < cases.rows.size(); ++i) {
        if (!cases.unsure[i])
            continue;
        back.push(cases.rows[i], static_cast<std::uint32_t>(i));
        for (std::size_t k = 0; k < writes_.size(); ++k)
            if (cases.moved[i] >> k & 1)
                writes_[k].code.put(back.rows[back.rows.size() - 1], writes_[k].code(batch.rows[cases.origin[i]]));
    }
    ask(back);
    for (std::size_t t = 0; t < back.rows.size(); ++t) {
        const std::uint32_t i = back.origin[t];
        if (!same(cases.answers[i], back.answers[t], rest_mask_, false))
            std::copy_n(back.answers[t], out_width_, cases.answers[i]);
    }
}

// Moves indices where the rows as they were asked leave something open.
void PortOracle::settle(Batch& batch) const {
    Batch cases(in_width_, out_width_);
    for (std::size_t i = 0; i < batch.rows.size(); ++i) {
        if (!batch.doubts[i] && !batch.conflicts[i])
            continue;
        cases.push(batch.rows[i], static_cast<std::uint32_t>(i));
        cases.answers.push(batch.answers[i]);
        cases.doubts.push_back(batch.doubts[i]);
    }
    if (cases.rows.size() == 0)
        return;
    cases.moved.resize(cases.rows.size());
    cases.unsure.resize(cases.rows.size());
    // Writes first: what a row does must show before it is compared with moved rows.
    for (std::size_t k = 0; k < writes_.size(); ++k)
        settle_write(cases, k);
    for (std::size_t p = 0; p < reads_.size(); ++p)
        settle_read(cases, p);
    settle_moved(cases, batch);
    for (std::size_t k = 0; k < writes_.size(); ++k)
        settle_write(cases, k);
    settle_held(cases);
    for (std::size_t n = 0; n < cases.rows.size(); ++n) {
        Word* answer = batch.answers[cases.origin[n]];
        for (std::size_t w = 0; w < out_width_; ++w)
            answer[w] = (answer[w] & copies_mask_[w]) | (cases.answers[n][w] & ~copies_mask_[w]);
    }
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
        settle(batch);
        std::copy_n(batch.answers.data(), count * out_width_, out + begin * out_width_);
    }
}

} // namespace tapeout::circuit
