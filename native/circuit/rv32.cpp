// Packing of the processor's words into rows. Offsets are compile-time, so that a field costs one or two shifts.

#include "circuit/rv32.h"

#include "circuit/rv32_step.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace tapeout::circuit {
namespace {

using Row = std::uint64_t;

constexpr unsigned kRegisterBits = 31 * 32;

// Where words stand. What is before the registers is the same in both forms.
template <bool Machine, bool Ports>
struct Layout {
    // Inputs.
    static constexpr unsigned instruction = 0, pc = 32, load_data = 64, reservation = 96, reserved = 128;
    static constexpr unsigned mode_in = 129, csrs_in = mode_in + 6, lines = csrs_in + 5 * 32;
    static constexpr unsigned registers_in = Machine ? lines + 2 : mode_in;
    static constexpr unsigned input_bits = registers_in + (Ports ? 64 : kRegisterBits);
    // Outputs.
    static constexpr unsigned pc_next = 0, address = 32, store_data = 64, store_mask = 96, load = 100,
                              reservation_next = 101, reserved_next = 133, trap = 134;
    static constexpr unsigned mode_out = 135, csrs_out = mode_out + 6;
    static constexpr unsigned registers_out = Machine ? csrs_out + 5 * 32 : mode_out;
    static constexpr unsigned output_bits = registers_out + (Ports ? 33 : kRegisterBits);
};

constexpr std::uint32_t mask(unsigned width) {
    return width == 32 ? ~0u : (1u << width) - 1;
}

// Fields of a row. `width` is at most 32.
template <unsigned Offset, unsigned Width = 32>
std::uint32_t get(const Row* row) {
    constexpr unsigned shift = Offset % 64;
    Row value = row[Offset / 64] >> shift;
    if constexpr (shift + Width > 64)
        value |= row[Offset / 64 + 1] << (64 - shift);
    return static_cast<std::uint32_t>(value) & mask(Width);
}

// The field must be zero before.
template <unsigned Offset, unsigned Width = 32>
void put(Row* row, std::uint32_t value) {
    constexpr unsigned shift = Offset % 64;
    row[Offset / 64] |= static_cast<Row>(value) << shift;
    if constexpr (shift + Width > 64)
        row[Offset / 64 + 1] |= static_cast<Row>(value) >> (64 - shift);
}

template <unsigned Offset>
bool get_bit(const Row* row) {
    return row[Offset / 64] >> Offset % 64 & 1;
}

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

// Copies the register file, which ends both rows, to where it stands in the output. `out` is zero from there on.
template <unsigned From, unsigned To>
void copy_registers(const Row* in, Row* out) {
    constexpr unsigned in_words = (From + kRegisterBits + 63) / 64;
    constexpr unsigned head = 64 - To % 64; // bits of the first output word
    // 64 bits of the file, from bit `at` on; zeros behind its end.
    const auto bits = [in](unsigned at) {
        const unsigned word = (From + at) / 64, shift = (From + at) % 64;
        Row value = in[word] >> shift;
        if (shift && word + 1 < in_words)
            value |= in[word + 1] << (64 - shift);
        return at + 64 > kRegisterBits ? value & (~Row{0} >> (at + 64 - kRegisterBits)) : value;
    };
    out[To / 64] |= bits(0) << To % 64;
    unsigned word = To / 64 + 1;
    for (unsigned at = head; at < kRegisterBits; at += 64)
        out[word++] = bits(at);
}

template <class L>
void get_machine(const Row* row, rv32::Hart& hart, rv32::Inputs& in) {
    const std::uint32_t mode = get<L::mode_in, 6>(row);
    hart.machine_mode = mode & 1;
    hart.mie = mode >> 1 & 1;
    hart.mpie = mode >> 2 & 1;
    hart.mpp = mode >> 3 & 1;
    hart.msie = mode >> 4 & 1;
    hart.mtie = mode >> 5 & 1;
    hart.mtvec = get<L::csrs_in>(row);
    hart.mscratch = get<L::csrs_in + 32>(row);
    hart.mepc = get<L::csrs_in + 64>(row);
    hart.mcause = get<L::csrs_in + 96>(row);
    hart.mtval = get<L::csrs_in + 128>(row);
    in.software_interrupt = get_bit<L::lines>(row);
    in.timer_interrupt = get_bit<L::lines + 1>(row);
}

template <class L>
void put_machine(Row* row, const rv32::Hart& hart) {
    put<L::mode_out, 6>(row, hart.machine_mode | hart.mie << 1 | hart.mpie << 2 | hart.mpp << 3 | hart.msie << 4 |
                                 hart.mtie << 5);
    put<L::csrs_out>(row, hart.mtvec);
    put<L::csrs_out + 32>(row, hart.mscratch);
    put<L::csrs_out + 64>(row, hart.mepc);
    put<L::csrs_out + 96>(row, hart.mcause);
    put<L::csrs_out + 128>(row, hart.mtval);
}

template <class L>
void put_effects(Row* row, const rv32::Hart& hart, const rv32::Effects& effects) {
    put<L::pc_next>(row, hart.pc);
    put<L::address>(row, effects.address);
    put<L::store_data>(row, effects.store_data);
    put<L::store_mask, 4>(row, effects.store_mask);
    put<L::load, 1>(row, effects.load);
    put<L::reservation_next>(row, hart.reservation);
    put<L::reserved_next, 1>(row, hart.reserved);
    put<L::trap, 1>(row, effects.trap);
}

std::uint32_t read_register(const Row* row, unsigned registers, unsigned number) {
    return number ? get_at(row, registers + 32 * (number - 1)) : 0;
}

template <bool Machine, bool Multiply, bool Ports>
void answer(const Row* row, Row* result) {
    using L = Layout<Machine, Ports>;
    rv32::Hart hart;
    rv32::Inputs in;
    in.instruction = get<L::instruction>(row);
    in.load_data = get<L::load_data>(row);
    hart.pc = get<L::pc>(row);
    hart.reservation = get<L::reservation>(row);
    hart.reserved = get_bit<L::reserved>(row);
    if constexpr (Machine)
        get_machine<L>(row, hart, in);
    if constexpr (Ports) {
        in.rs1 = get<L::registers_in>(row);
        in.rs2 = get<L::registers_in + 32>(row);
    } else {
        in.rs1 = read_register(row, L::registers_in, in.instruction >> 15 & 31);
        in.rs2 = read_register(row, L::registers_in, in.instruction >> 20 & 31);
    }

    const rv32::Effects effects = rv32::Step<Machine, Multiply>::run(hart, in);

    Row out[(L::output_bits + 63) / 64] = {};
    put_effects<L>(out, hart, effects);
    if constexpr (Machine)
        put_machine<L>(out, hart);
    if constexpr (Ports) {
        put<L::registers_out>(out, effects.rd);
        put<L::registers_out + 32, 1>(out, effects.rd_write);
    } else {
        copy_registers<L::registers_in, L::registers_out>(row, out);
        const unsigned number = in.instruction >> 7 & 31;
        if (effects.rd_write && number)
            replace_at(out, L::registers_out + 32 * (number - 1), effects.rd);
    }
    std::copy(std::begin(out), std::end(out), result);
}

template <bool Machine, bool Multiply, bool Ports>
void evaluate_rows(const Row* in, Row* out, std::size_t rows) {
    using L = Layout<Machine, Ports>;
    for (std::size_t i = 0; i < rows; ++i)
        answer<Machine, Multiply, Ports>(in + i * ((L::input_bits + 63) / 64), out + i * ((L::output_bits + 63) / 64));
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
