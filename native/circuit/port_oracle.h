// A black box with arrays in its state, asked in port form: in place of an array's entries it takes the value of the
// entry that each read port names, and answers with the value, and whether there is one, that each write port stores.
//
// A port's index is some input bits; a table says which entry each code names (none: reads of it give 0, writes to it
// are lost). Where ports name the same entry with different values, or no entry, the whole box cannot be asked; such
// rows are filled so that the function stays simple. The index of a port is moved to an entry that nothing else names:
// where that alone changes nothing, the bits matter as an index only, and the moved row is asked with the port's own
// value; where it does, the bits are an immediate or a code, and the row is asked as it is with the value of the first
// port. Writes to no entry, and those that cannot be told from holding, are looked at in moved rows as well.
// All other entries hold hashes of the row, so that a dependence on them shows.
#pragma once

#include "circuit/bit_fields.h"
#include "circuit/oracle.h"

#include <array>
#include <cstdint>
#include <vector>

namespace tapeout::circuit {

class PortOracle final : public Oracle {
public:
    struct Array {
        unsigned width;                     // of an entry, 64 at most
        std::vector<std::uint32_t> in, out; // where each entry stands in the whole box's rows
    };
    struct Port {
        std::uint32_t array;
        std::vector<std::uint32_t> bits; // of a row in port form; none: always the same entry
        std::vector<std::int16_t> table; // code to entry, -1: none
        std::uint32_t value;             // where its value stands in a row (read) or answer (write) in port form
        std::int32_t enable;             // write: where its enable stands, -1: it stores in every step
    };

    // `copies` are output bits in port form that are always an index bit: they say nothing about what the bit does.
    // `inputs` move from port form to the whole box's rows, `outputs` from its answers to port form. An array word
    // that stands in neither belongs to an array.
    PortOracle(Oracle& inner, std::size_t input_bits, std::size_t output_bits, const std::vector<Move>& inputs,
               const std::vector<Move>& outputs, std::vector<Array> arrays, const std::vector<Port>& reads,
               const std::vector<Port>& writes, const std::vector<std::uint32_t>& copies);

    std::size_t input_bits() const override { return input_bits_; }
    std::size_t output_bits() const override { return output_bits_; }
    bool concurrent() const override { return inner_.concurrent(); }
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override {
        answer(in, out, rows, true);
    }
    void evaluate_for(const std::vector<int>& outputs, const std::uint64_t* in, std::uint64_t* out,
                      std::size_t rows) override;

private:
    struct Source : Port {
        Gather code, whole_code; // of rows in port form, of the whole box's rows
        bool alone = true;       // no other port has one of its bits
        unsigned width;
        const std::uint32_t *in, *out; // of the array's entries
        std::int16_t entry(const Word* row) const { return table[code(row)]; }
        Source(const Port& port, const Array& array, const std::vector<std::uint32_t>& whole_bits)
            : Port(port), code(port.bits), whole_code(whole_bits), width(array.width), in(array.in.data()),
              out(array.out.data()) {}
    };
    struct Batch; // rows in port form, with what is known of them
    static constexpr std::size_t kPorts = 16;
    using Entries = std::array<std::int16_t, kPorts>; // of the read ports, then of the write ports

    void locate(const Word* row, Entries& entries) const;
    void prepare(Batch& batch) const;
    void answer(const Word* in, Word* out, std::size_t rows, bool writes) const;
    // Asks rows as they are, the first port's value where they conflict. Doubts: a bit for each write port whose
    // answer is not certain. Without `writes` the write ports' part is not looked at in rows without a conflict.
    void ask(Batch& batch, bool writes = true) const;
    void extract(Batch& batch, std::size_t i) const;
    void ask_complemented(Batch& batch) const;
    void settle(Batch& batch, bool writes) const;
    void settle_read(Batch& cases, std::size_t port) const;
    void settle_earlier(Batch& cases, const std::vector<std::uint32_t>& failed, std::size_t port) const;
    std::vector<std::uint32_t> move_read(const Batch& cases, const std::vector<std::uint32_t>& which, std::size_t port,
                                         const std::vector<Word>& own, Batch& moved) const;
    std::vector<std::uint32_t> move_plain(const Batch& cases, const std::vector<std::uint32_t>& which, std::size_t port,
                                          const std::vector<Word>& own, Batch& moved) const;
    void take(Batch& cases, std::size_t i, const Batch& other, std::size_t t) const;
    void adopt(Batch& cases, const Batch& moved, const std::vector<std::uint32_t>& origin) const;
    bool unchanged(const Batch& cases, std::size_t i, const Batch& trials, std::size_t t) const;
    void settle_write(Batch& cases, std::size_t port) const;
    std::size_t shared_write(const Word* row) const;
    void settle_stored(Batch& cases, std::size_t i, std::size_t write) const;
    void settle_held(Batch& cases) const;
    bool moves_conflict(const Word* row, const Entries& entries, const Word* moved) const;
    void settle_moved(Batch& cases, const Batch& batch) const;
    bool same(const Word* a, const Word* b, const std::vector<Word>& mask, bool outside) const;
    bool conflict(const Word* row, const Entries& entries, std::size_t port, Word& shared) const;
    bool movable(const Word* row, std::size_t port, Word* moved) const;
    bool separate(const Word* row, const Entries& entries, std::size_t write, Word* moved) const;
    bool agrees(const Batch& cases, std::size_t i, const Batch& trials, std::size_t t, std::size_t write) const;
    const Source& port(std::size_t p) const { return p < reads_.size() ? reads_[p] : writes_[p - reads_.size()]; }
    std::size_t ports() const { return reads_.size() + writes_.size(); }
    static Word content(const Word* row, const Source& read) { return get_field(row, read.value, read.width); }

    Oracle& inner_;
    std::size_t input_bits_, output_bits_, in_width_, out_width_, whole_in_, whole_out_;
    Copier inputs_, outputs_;
    std::vector<Array> arrays_;
    std::vector<Source> reads_, writes_;
    std::vector<Word> background_, array_mask_; // of the whole box's rows
    std::vector<Word> rest_mask_;               // answers in port form without the write ports and copies
    std::vector<Word> copies_mask_;
    std::vector<Word> compared_; // the whole box's answers without copies
};

} // namespace tapeout::circuit
