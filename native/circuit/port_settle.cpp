// Rows in port form that no state of the whole box causes, or whose answer leaves open what was written.

#include "circuit/port_batch.h"

#include <algorithm>
#include <bit>

namespace tapeout::circuit {
namespace {

constexpr std::size_t kMoves = 64; // codes tried when an index is moved

} // namespace

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
    if (reads_[p].alone)
        return move_plain(cases, which, p, own, moved);
    std::vector<std::uint32_t> failed;
    Batch trials(in_width_, out_width_);
    for (const std::uint32_t i : which) {
        Entries entries;
        locate(cases.rows[i], entries);
        Word shared;
        if (!conflict(cases.rows[i], entries, p, shared))
            shared = content(cases.rows[i], reads_[p]);
        trials.push(cases.rows[i], i, cases.seeds[i]);
        Word* row = trials.rows[trials.rows.size() - 1];
        if (movable(cases.rows[i], p, row)) {
            set_field(row, reads_[p].value, reads_[p].width, shared);
        } else {
            trials.pop();
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
        moved.push(trials.rows[t], i, cases.seeds[i]);
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
        take(cases, i, moved, t);
        cases.unsure[i] = cases.moved[i] != 0;
    }
}

// Row `t` of another batch stands for row `i` from now on.
void PortOracle::take(Batch& cases, std::size_t i, const Batch& other, std::size_t t) const {
    std::copy_n(other.rows[t], in_width_, cases.rows[i]);
    std::copy_n(other.answers[t], out_width_, cases.answers[i]);
    std::copy_n(other.whole.data() + t * whole_in_, whole_in_, cases.whole.data() + i * whole_in_);
    std::copy_n(other.answer.data() + t * whole_out_, whole_out_, cases.answer.data() + i * whole_out_);
    cases.entries[i] = other.entries[t];
    cases.doubts[i] = other.doubts[t];
}

// The same as `move_read` for a port that shares no index bit: the whole box's rows differ in few places, and so do
// its answers.
std::vector<std::uint32_t> PortOracle::move_plain(const Batch& cases, const std::vector<std::uint32_t>& which,
                                                  std::size_t p, const std::vector<Word>& own, Batch& moved) const {
    struct Target {
        std::size_t code;
        std::int16_t entry;
    };
    const Source& read = reads_[p];
    std::vector<std::uint32_t> failed, tried;
    std::vector<Target> targets;
    std::vector<Word>& whole = moved.whole;
    whole.reserve(which.size() * whole_in_);
    for (const std::uint32_t i : which) {
        const Entries& entries = cases.entries[i];
        const std::size_t code = read.code(cases.rows[i]);
        Target target{0, -1};
        for (std::size_t step = 1; step < std::min(read.table.size(), kMoves) && target.entry < 0; ++step) {
            const std::int16_t entry = read.table[code ^ step];
            bool clear = entry >= 0;
            for (std::size_t q = 0; q < ports() && clear; ++q)
                clear = q == p || entries[q] != entry || port(q).array != read.array;
            if (clear)
                target = {code ^ step, entry};
        }
        if (target.entry < 0) {
            failed.push_back(i);
            continue;
        }
        const Word* from = cases.whole.data() + i * whole_in_;
        const Word shared = entries[p] < 0 ? 0 : get_field(from, read.in[entries[p]], read.width);
        tried.push_back(i);
        targets.push_back(target);
        whole.insert(whole.end(), from, from + whole_in_);
        Word* row = whole.data() + whole.size() - whole_in_;
        read.whole_code.put(row, target.code);
        set_field(row, read.in[target.entry], read.width, shared);
    }
    moved.answer.resize(tried.size() * whole_out_);
    if (!tried.empty())
        inner_.evaluate(whole.data(), moved.answer.data(), tried.size());
    std::size_t kept = 0;
    for (std::size_t t = 0; t < tried.size(); ++t) {
        const std::uint32_t i = tried[t];
        const Word* was = cases.answer.data() + i * whole_out_;
        Word* is = moved.answer.data() + t * whole_out_;
        const std::int16_t entry = targets[t].entry;
        set_field(is, read.out[entry], read.width, get_field(was, read.out[entry], read.width));
        Word differ = 0;
        for (std::size_t w = 0; w < whole_out_; ++w)
            differ |= (was[w] ^ is[w]) & compared_[w];
        if (differ) {
            failed.push_back(i);
            continue;
        }
        Word* row = whole.data() + kept++ * whole_in_;
        std::copy_n(whole.data() + t * whole_in_, whole_in_, row);
        set_field(row, read.in[entry], read.width, own[i]);
        moved.push(cases.rows[i], i, cases.seeds[i]);
        Word* short_row = moved.rows[kept - 1];
        read.code.put(short_row, targets[t].code);
        set_field(short_row, read.value, read.width, own[i]);
        moved.entries.push_back(cases.entries[i]);
        moved.entries.back()[p] = entry;
    }
    moved.answers.resize(kept);
    moved.doubts.assign(kept, 0);
    if (kept)
        inner_.evaluate(whole.data(), moved.answer.data(), kept);
    for (std::size_t t = 0; t < kept; ++t) {
        outputs_(moved.answer.data() + t * whole_out_, moved.answers[t]);
        extract(moved, t);
    }
    return failed;
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
            swapped.push(cases.rows[i], i, cases.seeds[i]);
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
    trial.push(cases.rows[i], static_cast<std::uint32_t>(i), cases.seeds[i]);
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
        trials.push(cases.rows[i], static_cast<std::uint32_t>(i), cases.seeds[i]);
        Word* moved = trials.rows[trials.rows.size() - 1];
        if (!separate(cases.rows[i], entries, k, moved) || moves_conflict(cases.rows[i], entries, moved)) {
            trials.pop();
            settle_stored(cases, i, k);
        }
    }
    ask(trials);
    ask_complemented(trials);
    for (std::size_t t = 0; t < trials.rows.size(); ++t) {
        const std::uint32_t i = trials.origin[t];
        if (!agrees(cases, i, trials, t, k)) {
            settle_stored(cases, i, k);
            continue;
        }
        take(cases, i, trials, t);
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
        back.push(cases.rows[i], static_cast<std::uint32_t>(i), cases.seeds[i]);
        for (std::size_t k = 0; k < writes_.size(); ++k)
            if (cases.moved[i] >> k & 1)
                writes_[k].code.put(back.rows[back.rows.size() - 1], writes_[k].code(batch.rows[cases.origin[i]]));
    }
    ask(back);
    for (std::size_t t = 0; t < back.rows.size(); ++t) {
        const std::uint32_t i = back.origin[t];
        if (!same(cases.answers[i], back.answers[t], rest_mask_, false))
            take(cases, i, back, t);
    }
}

// Moves indices where the rows as they were asked leave something open.
void PortOracle::settle(Batch& batch, bool writes) const {
    Batch cases(in_width_, out_width_);
    std::size_t open = 0;
    for (std::size_t i = 0; i < batch.rows.size(); ++i)
        open += batch.doubts[i] || batch.conflicts[i];
    cases.whole.reserve(open * whole_in_);
    cases.answer.reserve(open * whole_out_);
    for (std::size_t i = 0; i < batch.rows.size(); ++i) {
        if (!batch.doubts[i] && !batch.conflicts[i])
            continue;
        cases.push(batch.rows[i], static_cast<std::uint32_t>(i), batch.seeds[i]);
        cases.answers.push(batch.answers[i]);
        cases.doubts.push_back(batch.doubts[i]);
        cases.entries.push_back(batch.entries[i]);
        const Word *whole = batch.whole.data() + i * whole_in_, *answer = batch.answer.data() + i * whole_out_;
        cases.whole.insert(cases.whole.end(), whole, whole + whole_in_);
        cases.answer.insert(cases.answer.end(), answer, answer + whole_out_);
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
    if (writes) {
        cases.conflicts.assign(cases.rows.size(), 0); // they are settled
        ask_complemented(cases);
    }
    for (std::size_t n = 0; n < cases.rows.size(); ++n) {
        Word* answer = batch.answers[cases.origin[n]];
        batch.conflicts[cases.origin[n]] = true; // nothing is left to ask
        for (std::size_t w = 0; w < out_width_; ++w)
            answer[w] = (answer[w] & copies_mask_[w]) | (cases.answers[n][w] & ~copies_mask_[w]);
    }
}

} // namespace tapeout::circuit
