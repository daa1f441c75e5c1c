// A core's control processor: walks the program's steps, keeps slots and loop counters. Copyable, so that the
// skipping of steady loops can walk ahead. Also what the compute commands cost (isa/commands.py has the
// formulas).
#pragma once

#include "sim/program.h"

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace tapeout::sim {

// A fault of the simulated program; the Python side makes a SimError of it.
struct TimingFault : std::runtime_error {
    TimingFault(const std::string& what, int64_t at_cycle, int at_command = -1)
        : std::runtime_error(what), cycle(at_cycle), command(at_command) {}
    int64_t cycle; // -1: not known
    int command;   // -1: none
};

class Control {
public:
    Control(const Program& program, int core, std::span<const int64_t> scalars);

    // Goes on to the next step that takes time (Issue, Barrier, LoadScalar, End) and returns it; with
    // `stop_at_turns` also a LoopEnd after which the loop goes on. The step itself is then behind.
    const Step& next(bool stop_at_turns = false);

    // Gives the scalar that `step`, a LoadScalar, reads; false where there is none left.
    bool load_scalar(const Step& step);

    std::span<const int64_t> slots() const { return slots_; }
    int64_t turn(int loop) const { return turns_[static_cast<size_t>(loop)].done; }
    int64_t trips(int loop) const { return turns_[static_cast<size_t>(loop)].trips; }

private:
    struct Turns {
        int64_t done = 0, trips = 0;
    };

    const Program* program_;
    std::span<const int64_t> scalars_;
    size_t at_ = 0, scalar_ = 0;
    std::vector<int64_t> slots_;
    std::vector<Turns> turns_; // by loop
};

// Cycles that a compute command holds its engine; 0 for DMA and Nop. Throws BadProgram for what the chip can
// not do.
int64_t command_cycles(const Command& command, const ChipParams& chip);

} // namespace tapeout::sim
