// Packing of the processor's words into rows.

#include "circuit/rv32.h"

#include "circuit/rv32_step.h"

#include <stdexcept>
#include <string>

namespace tapeout::circuit {
namespace {

using Row = std::uint64_t;

constexpr unsigned kRegisterBits = 31 * 32;

// Where the registers begin and what a row takes in all. What is before the registers is the same in both forms.
template <bool Machine, bool Ports>
struct Layout {
    static constexpr unsigned machine_bits = 6 + 5 * 32;
    static constexpr unsigned registers_in = 4 * 32 + 1 + (Machine ? machine_bits + 2 : 0);
    static constexpr unsigned registers_out = 3 * 32 + 4 + 1 + 32 + 2 + (Machine ? machine_bits : 0);
    static constexpr unsigned input_bits = registers_in + (Ports ? 64 : kRegisterBits);
    static constexpr unsigned output_bits = registers_out + (Ports ? 33 : kRegisterBits);
    static constexpr unsigned input_words = (input_bits + 63) / 64;
    static constexpr unsigned output_words = (output_bits + 63) / 64;
};

// Takes the fields of a row one behind the other. Inlined, every position is a constant.
class Reader {
public:
    explicit Reader(const Row* row) : row_(row) {}

    // Width is at most 32.
    template <unsigned Width = 32>
    std::uint32_t get() {
        const unsigned shift = at_ % 64;
        Row value = row_[at_ / 64] >> shift;
        if (shift + Width > 64)
            value |= row_[at_ / 64 + 1] << (64 - shift);
        at_ += Width;
        return static_cast<std::uint32_t>(value & ((Row{1} << Width) - 1));
    }
    bool bit() { return get<1>(); }

private:
    const Row* row_;
    unsigned at_ = 0;
};

// Puts fields one behind the other; every word of the row is stored once, for a later load of two words that were
// stored in parts would have to wait for the cache.
class Writer {
public:
    explicit Writer(Row* row) : row_(row) {}

    template <unsigned Width = 32>
    void put(std::uint32_t value) {
        const unsigned shift = at_ % 64;
        word_ |= static_cast<Row>(value) << shift;
        if (shift + Width >= 64) {
            row_[at_ / 64] = word_;
            word_ = shift ? static_cast<Row>(value) >> (64 - shift) : 0;
        }
        at_ += Width;
    }
    void bit(bool value) { put<1>(value); }

    // Bits of the last word that is not stored yet.
    Row rest() const { return word_; }
    void finish() {
        if (at_ % 64)
            row_[at_ / 64] = word_;
    }

private:
    Row* row_;
    Row word_ = 0;
    unsigned at_ = 0;
};

// 32-bit fields at offsets known only at run time.
std::uint32_t get_at(const Row* row, unsigned offset) {
    const unsigned shift = offset % 64;
    Row value = row[offset / 64] >> shift;
    if (shift > 32)
        value |= row[offset / 64 + 1] << (64 - shift);
    return static_cast<std::uint32_t>(value);
}

void replace_at(Row* row, unsigned offset, std::uint32_t value) {
    const unsigned shift = offset % 64;
    Row& low = row[offset / 64];
    low = (low & ~(static_cast<Row>(~0u) << shift)) | static_cast<Row>(value) << shift;
    if (shift > 32) {
        Row& high = row[offset / 64 + 1];
        high = (high & ~(static_cast<Row>(~0u) >> (64 - shift))) | static_cast<Row>(value) >> (64 - shift);
    }
}

// Copies the register file, which ends both rows, to where it stands in the output, behind the bits of `head`.
template <unsigned From, unsigned To>
void copy_registers(const Row* in, Row head, Row* out) {
    constexpr unsigned in_words = (From + kRegisterBits + 63) / 64;
    constexpr unsigned first = 64 - To % 64; // register bits in the first output word
    // 64 bits of the file, from bit `at` on; zeros behind its end.
    const auto bits = [in](unsigned at) {
        const unsigned word = (From + at) / 64, shift = (From + at) % 64;
        Row value = in[word] >> shift;
        if (shift && word + 1 < in_words)
            value |= in[word + 1] << (64 - shift);
        return at + 64 > kRegisterBits ? value & (~Row{0} >> (at + 64 - kRegisterBits)) : value;
    };
    out[To / 64] = head | bits(0) << To % 64;
    unsigned word = To / 64 + 1;
    for (unsigned at = first; at < kRegisterBits; at += 64)
        out[word++] = bits(at);
}

void read_machine(Reader& row, rv32::Hart& hart, rv32::Inputs& in) {
    hart.machine_mode = row.bit();
    hart.mie = row.bit();
    hart.mpie = row.bit();
    hart.mpp = row.bit();
    hart.msie = row.bit();
    hart.mtie = row.bit();
    hart.mtvec = row.get();
    hart.mscratch = row.get();
    hart.mepc = row.get();
    hart.mcause = row.get();
    hart.mtval = row.get();
    in.software_interrupt = row.bit();
    in.timer_interrupt = row.bit();
}

void write_machine(Writer& row, const rv32::Hart& hart) {
    row.bit(hart.machine_mode);
    row.bit(hart.mie);
    row.bit(hart.mpie);
    row.bit(hart.mpp);
    row.bit(hart.msie);
    row.bit(hart.mtie);
    row.put(hart.mtvec);
    row.put(hart.mscratch);
    row.put(hart.mepc);
    row.put(hart.mcause);
    row.put(hart.mtval);
}

void write_effects(Writer& row, const rv32::Hart& hart, const rv32::Effects& effects) {
    row.put(hart.pc);
    row.put(effects.address);
    row.put(effects.store_data);
    row.put<4>(effects.store_mask);
    row.bit(effects.load);
    row.put(hart.reservation);
    row.bit(hart.reserved);
    row.bit(effects.trap);
}

std::uint32_t read_register(const Row* row, unsigned registers, unsigned number) {
    return number ? get_at(row, registers + 32 * (number - 1)) : 0;
}

template <bool Machine, bool Multiply, bool Ports>
void answer(const Row* question, Row* result) {
    using L = Layout<Machine, Ports>;
    rv32::Hart hart;
    rv32::Inputs in;
    Reader row(question);
    in.instruction = row.get();
    hart.pc = row.get();
    in.load_data = row.get();
    hart.reservation = row.get();
    hart.reserved = row.bit();
    if constexpr (Machine)
        read_machine(row, hart, in);
    if constexpr (Ports) {
        in.rs1 = row.get();
        in.rs2 = row.get();
    } else {
        in.rs1 = read_register(question, L::registers_in, in.instruction >> 15 & 31);
        in.rs2 = read_register(question, L::registers_in, in.instruction >> 20 & 31);
    }

    rv32::Effects effects;
    rv32::Step<Machine, Multiply>::run(hart, in, effects);

    Writer out(result);
    write_effects(out, hart, effects);
    if constexpr (Machine)
        write_machine(out, hart);
    if constexpr (Ports) {
        out.put(effects.rd);
        out.bit(effects.rd_write);
        out.finish();
    } else {
        copy_registers<L::registers_in, L::registers_out>(question, out.rest(), result);
        const unsigned number = in.instruction >> 7 & 31;
        if (effects.rd_write && number)
            replace_at(result, L::registers_out + 32 * (number - 1), effects.rd);
    }
}

template <bool Machine, bool Multiply, bool Ports>
void evaluate_rows(const Row* in, Row* out, std::size_t rows) {
    using L = Layout<Machine, Ports>;
    for (std::size_t i = 0; i < rows; ++i)
        answer<Machine, Multiply, Ports>(in + i * L::input_words, out + i * L::output_words);
}

template <bool Ports>
auto choose(Rv32Variant variant) {
    switch (variant) {
    case Rv32Variant::ia:
        return &evaluate_rows<false, false, Ports>;
    case Rv32Variant::ia_machine:
        return &evaluate_rows<true, false, Ports>;
    default:
        return &evaluate_rows<true, true, Ports>;
    }
}

template <bool Machine>
std::size_t bits_in(bool ports) {
    return ports ? Layout<Machine, true>::input_bits : Layout<Machine, false>::input_bits;
}

template <bool Machine>
std::size_t bits_out(bool ports) {
    return ports ? Layout<Machine, true>::output_bits : Layout<Machine, false>::output_bits;
}

} // namespace

Rv32Variant rv32_variant(std::string_view name) {
    if (name == "rv32ia")
        return Rv32Variant::ia;
    if (name == "rv32ia-machine")
        return Rv32Variant::ia_machine;
    if (name == "rv32ima-machine")
        return Rv32Variant::ima_machine;
    throw std::invalid_argument("no processor variant " + std::string(name));
}

Rv32Oracle::Rv32Oracle(Rv32Variant variant, bool ports)
    : input_bits_(variant == Rv32Variant::ia ? bits_in<false>(ports) : bits_in<true>(ports)),
      output_bits_(variant == Rv32Variant::ia ? bits_out<false>(ports) : bits_out<true>(ports)),
      run_(ports ? choose<true>(variant) : choose<false>(variant)) {}

} // namespace tapeout::circuit
