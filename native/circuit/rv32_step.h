// One step of the control processor, as a simulator does it: decode, then carry out the architectural effects.
//
// What every word means and every choice the manual leaves open: docs/processor.md. Knows nothing of rows of bits.
// The RISC-V Instruction Set Manual: volume I 20191213 (chapters 2, 7, 8, 9, 24), volume II 20211203 (chapter 3).
#pragma once

#include <cstdint>

namespace tapeout::circuit::rv32 {

// The state that is not in the register file. From `machine_mode` on: only with Zicsr and the two modes.
struct Hart {
    uint32_t pc = 0;
    uint32_t reservation = 0;
    bool reserved = false;
    bool machine_mode = true;
    bool mie = false, mpie = false, mpp = false;
    bool msie = false, mtie = false;
    uint32_t mtvec = 0, mscratch = 0, mepc = 0, mcause = 0, mtval = 0;
};

// What the step sees of registers, bus and interrupt lines.
struct Inputs {
    uint32_t instruction = 0;
    uint32_t load_data = 0;
    uint32_t rs1 = 0, rs2 = 0;
    bool software_interrupt = false, timer_interrupt = false;
};

// What the step asks of registers and bus.
struct Effects {
    uint32_t address = 0;
    uint32_t store_data = 0;
    uint32_t store_mask = 0;
    bool load = false;
    bool trap = false;
    uint32_t rd = 0;
    bool rd_write = false;
};

enum Cause : uint32_t {
    kMisalignedJump = 0,
    kIllegalInstruction = 2,
    kBreakpoint = 3,
    kMisalignedLoad = 4,
    kMisalignedStore = 6,
    kEcallFromUser = 8,
    kEcallFromMachine = 11,
    kSoftwareInterrupt = 0x80000003,
    kTimerInterrupt = 0x80000007,
};

template <bool Machine, bool Multiply>
class Step {
public:
    // Executes one instruction on `hart`; `out` must be fresh. (Returned by value it would be copied, which halves the
    // speed.)
    static void run(Hart& hart, const Inputs& in, Effects& out) { Step(hart, in, out).execute(); }

private:
    Step(Hart& hart, const Inputs& in, Effects& out) : hart_(hart), in_(in), out_(out), word_(in.instruction) {}

    uint32_t funct3() const { return word_ >> 12 & 7; }
    uint32_t funct7() const { return word_ >> 25; }
    uint32_t rd_field() const { return word_ >> 7 & 31; }
    uint32_t rs1_field() const { return word_ >> 15 & 31; }
    uint32_t rs2_field() const { return word_ >> 20 & 31; }
    uint32_t imm_i() const { return static_cast<uint32_t>(static_cast<int32_t>(word_) >> 20); }
    uint32_t imm_s() const { return (imm_i() & ~31u) | rd_field(); }
    uint32_t imm_u() const { return word_ & 0xfffff000; }
    uint32_t imm_b() const { return (imm_s() & ~0x801u) | (word_ << 4 & 0x800) | (word_ >> 31 ? 0xfffff000u : 0); }
    uint32_t imm_j() const {
        return (word_ >> 31 ? 0xfff00000u : 0) | (word_ & 0xff000) | (word_ >> 9 & 0x800) | (word_ >> 20 & 0x7fe);
    }

    void write(uint32_t value) {
        out_.rd = value;
        out_.rd_write = true;
    }

    // Called before any effect of the instruction, or instead of it.
    void trap(uint32_t cause, uint32_t value) {
        out_.trap = true;
        next_ = hart_.pc;
        if constexpr (Machine) {
            hart_.mepc = hart_.pc;
            hart_.mcause = cause;
            hart_.mtval = value;
            hart_.mpie = hart_.mie;
            hart_.mie = false;
            hart_.mpp = hart_.machine_mode;
            hart_.machine_mode = true;
            next_ = hart_.mtvec;
        }
    }
    void illegal() { trap(kIllegalInstruction, word_); }

    void execute() {
        hart_.pc &= ~3u;
        next_ = hart_.pc + 4;
        if constexpr (Machine) {
            hart_.mtvec &= ~3u;
            hart_.mepc &= ~3u;
            const bool software = in_.software_interrupt && hart_.msie;
            const bool timer = in_.timer_interrupt && hart_.mtie;
            if ((software || timer) && (!hart_.machine_mode || hart_.mie)) {
                trap(software ? kSoftwareInterrupt : kTimerInterrupt, 0);
                hart_.pc = next_;
                return;
            }
        }
        dispatch();
        hart_.pc = next_;
    }

    void dispatch() {
        switch (word_ & 0x7f) {
        case 0x37: // LUI
            return write(imm_u());
        case 0x17: // AUIPC
            return write(hart_.pc + imm_u());
        case 0x6f: // JAL
            return jump(hart_.pc + imm_j());
        case 0x67: // JALR
            return funct3() == 0 ? jump((in_.rs1 + imm_i()) & ~1u) : illegal();
        case 0x63:
            return branch();
        case 0x03:
            return load();
        case 0x23:
            return store();
        case 0x13:
            return operate_immediate();
        case 0x33:
            return operate();
        case 0x0f: // FENCE, FENCE.I
            return funct3() <= 1 ? void() : illegal();
        case 0x2f:
            return atomic();
        case 0x73:
            return system();
        default:
            return illegal();
        }
    }

    void jump(uint32_t target) {
        if (target & 3)
            return trap(kMisalignedJump, target);
        write(hart_.pc + 4);
        next_ = target;
    }

    void branch() {
        bool taken;
        switch (funct3() >> 1) {
        case 0:
            taken = in_.rs1 == in_.rs2;
            break;
        case 2:
            taken = static_cast<int32_t>(in_.rs1) < static_cast<int32_t>(in_.rs2);
            break;
        case 3:
            taken = in_.rs1 < in_.rs2;
            break;
        default:
            return illegal();
        }
        if (taken == static_cast<bool>(funct3() & 1))
            return;
        const uint32_t target = hart_.pc + imm_b();
        if (target & 3)
            return trap(kMisalignedJump, target);
        next_ = target;
    }

    void load() {
        const uint32_t width = funct3();
        if (width == 3 || width > 5)
            return illegal();
        const uint32_t address = in_.rs1 + imm_i();
        if (address & ((1u << (width & 3)) - 1))
            return trap(kMisalignedLoad, address);
        out_.load = true;
        out_.address = address & ~3u;
        const uint32_t data = in_.load_data >> 8 * (address & 3);
        switch (width) {
        case 0:
            return write(static_cast<uint32_t>(static_cast<int8_t>(data)));
        case 1:
            return write(static_cast<uint32_t>(static_cast<int16_t>(data)));
        case 4:
            return write(data & 0xff);
        case 5:
            return write(data & 0xffff);
        default:
            return write(data);
        }
    }

    void store() {
        const uint32_t width = funct3();
        if (width > 2)
            return illegal();
        const uint32_t address = in_.rs1 + imm_s();
        const uint32_t bytes = 1u << width;
        if (address & (bytes - 1))
            return trap(kMisalignedStore, address);
        const uint32_t lane = address & 3;
        out_.address = address & ~3u;
        out_.store_mask = ((1u << bytes) - 1) << lane;
        out_.store_data = (width == 2 ? in_.rs2 : in_.rs2 & ((1u << 8 * bytes) - 1)) << 8 * lane;
    }

    // ADD, SLL, SLT, SLTU, XOR, SRL, OR, AND by funct3; `alternate` makes SRA of SRL.
    static uint32_t arithmetic(uint32_t funct3, uint32_t a, uint32_t b, bool alternate) {
        switch (funct3) {
        case 0:
            return a + b;
        case 1:
            return a << (b & 31);
        case 2:
            return static_cast<int32_t>(a) < static_cast<int32_t>(b);
        case 3:
            return a < b;
        case 4:
            return a ^ b;
        case 5:
            return alternate ? static_cast<uint32_t>(static_cast<int32_t>(a) >> (b & 31)) : a >> (b & 31);
        case 6:
            return a | b;
        default:
            return a & b;
        }
    }

    void operate_immediate() {
        const bool arithmetic_shift = funct3() == 5 && funct7() == 0x20;
        if ((funct3() & 3) == 1 && funct7() != 0 && !arithmetic_shift)
            return illegal();
        write(arithmetic(funct3(), in_.rs1, imm_i(), arithmetic_shift));
    }

    void operate() {
        const uint32_t a = in_.rs1, b = in_.rs2;
        switch (funct7()) {
        case 0x00:
            return write(arithmetic(funct3(), a, b, false));
        case 0x20:
            if (funct3() == 0)
                return write(a - b);
            return funct3() == 5 ? write(arithmetic(5, a, b, true)) : illegal();
        case 0x01:
            if constexpr (Multiply)
                return write(multiply_divide(funct3(), a, b));
            [[fallthrough]];
        default:
            return illegal();
        }
    }

    static uint32_t multiply_divide(uint32_t funct3, uint32_t a, uint32_t b) {
        const auto sa = static_cast<int32_t>(a), sb = static_cast<int32_t>(b);
        const bool overflow = a == 0x80000000 && b == 0xffffffff;
        switch (funct3) {
        case 0: // MUL
            return a * b;
        case 1: // MULH
            return static_cast<uint32_t>(static_cast<int64_t>(sa) * sb >> 32);
        case 2: // MULHSU
            return static_cast<uint32_t>(static_cast<int64_t>(sa) * static_cast<int64_t>(b) >> 32);
        case 3: // MULHU
            return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
        case 4: // DIV
            return b == 0 ? ~0u : overflow ? a : static_cast<uint32_t>(sa / sb);
        case 5: // DIVU
            return b == 0 ? ~0u : a / b;
        case 6: // REM
            return b == 0 ? a : overflow ? 0 : static_cast<uint32_t>(sa % sb);
        default: // REMU
            return b == 0 ? a : a % b;
        }
    }

    void atomic() {
        const uint32_t operation = word_ >> 27;
        constexpr uint32_t kLoadReserved = 2, kLegal = 0x1111111f; // bit i: operation i exists
        if (funct3() != 2 || !(kLegal >> operation & 1) || (operation == kLoadReserved && rs2_field() != 0))
            return illegal();
        const uint32_t address = in_.rs1;
        if (address & 3)
            return trap(operation == kLoadReserved ? kMisalignedLoad : kMisalignedStore, address);
        if (operation == kLoadReserved) {
            hart_.reservation = address;
            hart_.reserved = true;
        } else if (operation == 3) {
            return store_conditional(address);
        } else {
            out_.store_mask = 15;
            out_.store_data = modify(operation, in_.load_data, in_.rs2);
        }
        out_.load = true;
        out_.address = address;
        write(in_.load_data);
    }

    void store_conditional(uint32_t address) {
        const bool success = hart_.reserved && hart_.reservation == address;
        hart_.reserved = false;
        if (success) {
            out_.address = address;
            out_.store_mask = 15;
            out_.store_data = in_.rs2;
        }
        write(!success);
    }

    static uint32_t modify(uint32_t operation, uint32_t memory, uint32_t b) {
        const auto sm = static_cast<int32_t>(memory), sb = static_cast<int32_t>(b);
        switch (operation) {
        case 0: // AMOADD
            return memory + b;
        case 1: // AMOSWAP
            return b;
        case 4: // AMOXOR
            return memory ^ b;
        case 8: // AMOOR
            return memory | b;
        case 12: // AMOAND
            return memory & b;
        case 16: // AMOMIN
            return sm < sb ? memory : b;
        case 20: // AMOMAX
            return sm > sb ? memory : b;
        case 24: // AMOMINU
            return memory < b ? memory : b;
        default: // AMOMAXU
            return memory > b ? memory : b;
        }
    }

    void system() {
        if (word_ == 0x00000073)
            return trap(hart_.machine_mode ? kEcallFromMachine : kEcallFromUser, 0);
        if (word_ == 0x00100073)
            return trap(kBreakpoint, hart_.pc);
        if constexpr (Machine) {
            if (word_ == 0x10500073) // WFI
                return;
            if (word_ == 0x30200073 && hart_.machine_mode)
                return machine_return();
            if (funct3() & 3)
                return access_csr();
        }
        illegal();
    }

    void machine_return() {
        next_ = hart_.mepc;
        hart_.machine_mode = hart_.mpp;
        hart_.mie = hart_.mpie;
        hart_.mpie = true;
        hart_.mpp = false;
    }

    void access_csr() {
        const uint32_t number = word_ >> 20;
        const uint32_t operand = funct3() & 4 ? rs1_field() : in_.rs1;
        const uint32_t kind = funct3() & 3; // 1: write, 2: set, 3: clear
        const bool writes = kind == 1 || rs1_field() != 0;
        uint32_t old;
        // Numbers whose two upper bits are 11 are read only.
        if (!hart_.machine_mode || !read_csr(number, old) || (writes && number >> 10 == 3))
            return illegal();
        if (writes)
            write_csr(number, kind == 1 ? operand : kind == 2 ? old | operand : old & ~operand);
        write(old);
    }

    // False if there is no such register.
    bool read_csr(uint32_t number, uint32_t& value) const {
        switch (number) {
        case 0x300: // mstatus
            value = hart_.mie * 0x8u | hart_.mpie * 0x80u | hart_.mpp * 0x1800u;
            return true;
        case 0x301: // misa: RV32, A, I, U, and M
            value = Multiply ? 0x40101101 : 0x40100101;
            return true;
        case 0x304: // mie
            value = hart_.msie * 0x8u | hart_.mtie * 0x80u;
            return true;
        case 0x305:
            value = hart_.mtvec;
            return true;
        case 0x340:
            value = hart_.mscratch;
            return true;
        case 0x341:
            value = hart_.mepc;
            return true;
        case 0x342:
            value = hart_.mcause;
            return true;
        case 0x343:
            value = hart_.mtval;
            return true;
        case 0x344: // mip
            value = in_.software_interrupt * 0x8u | in_.timer_interrupt * 0x80u;
            return true;
        case 0xf11: // mvendorid, marchid, mimpid, mhartid
        case 0xf12:
        case 0xf13:
        case 0xf14:
            value = 0;
            return true;
        default:
            return false;
        }
    }

    // misa and mip ignore what is written.
    void write_csr(uint32_t number, uint32_t value) {
        switch (number) {
        case 0x300:
            hart_.mie = value >> 3 & 1;
            hart_.mpie = value >> 7 & 1;
            hart_.mpp = (value >> 11 & 3) == 3;
            break;
        case 0x304:
            hart_.msie = value >> 3 & 1;
            hart_.mtie = value >> 7 & 1;
            break;
        case 0x305:
            hart_.mtvec = value & ~3u;
            break;
        case 0x340:
            hart_.mscratch = value;
            break;
        case 0x341:
            hart_.mepc = value & ~3u;
            break;
        case 0x342:
            hart_.mcause = value;
            break;
        case 0x343:
            hart_.mtval = value;
            break;
        default:
            break;
        }
    }

    Hart& hart_;
    const Inputs& in_;
    Effects& out_;
    const uint32_t word_;
    uint32_t next_ = 0;
};

} // namespace tapeout::circuit::rv32
