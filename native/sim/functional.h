// The functional executor: what a program computes, in any order that its semaphores and barriers allow.
#pragma once

#include "sim/execute.h"
#include "sim/program.h"
#include "sim/storage.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace tapeout::sim {

struct FunctionalResult {
    std::vector<std::vector<int64_t>> scalars; // by core: what each LoadScalar read, in order
    int64_t commands = 0;
};

// A fault with all that is known of where it happened; numbers are -1 where they do not apply.
struct SimFault {
    std::string what;
    int core = -1;
    int command = -1;                           // in Program::commands
    int thread = -1;                            // queue, or kControl
    std::vector<std::pair<int, int64_t>> loops; // slot and counter of the loops around it, from the outermost
    int64_t address = -1;
};

// Throws SimFault and BadProgram.
FunctionalResult run_functional(const Program& program, const ChipParams& chip, std::vector<Segment> dram,
                                const Options& options);

} // namespace tapeout::sim
