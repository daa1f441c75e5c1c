#include "sim/functional.h"

#include "sim/functional_machine.h"

#include <utility>

namespace tapeout::sim {

FunctionalResult run_functional(const Program& program, const ChipParams& chip, std::vector<Segment> dram,
                                const Options& options) {
    Storage storage(chip, program.cores, std::move(dram));
    return FunctionalMachine(program, chip, storage, options).run();
}

} // namespace tapeout::sim
