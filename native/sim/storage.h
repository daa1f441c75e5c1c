// The bytes of a simulated chip: DRAM segments, shared memories, local memories of every core.
#pragma once

#include "sim/box.h"
#include "sim/hazards.h"
#include "sim/program.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tapeout::sim {

// DRAM that the caller owns, used in place.
struct Segment {
    int64_t address = 0;
    uint8_t* data = nullptr;
    int64_t bytes = 0;
    bool written = false; // its bytes count as initialised
    bool read_only = false;
};

// One memory or segment, with what the checks know of it.
struct Space {
    std::string name;
    int64_t address = 0; // of the first byte
    int64_t bytes = 0;
    uint8_t* data = nullptr;
    bool initialised = false;
    bool read_only = false;
    ByteMap written;
    AccessList accesses;

    Space(std::string its_name, int64_t at, int64_t size)
        : name(std::move(its_name)), address(at), bytes(size), written(size) {}
};

// What goes wrong within a command; the scheduler adds command, core and loop counters.
struct Fault {
    std::string what;
    int64_t address = -1; // -1: none
};

class Storage {
public:
    Storage(const ChipParams& chip, int cores, std::vector<Segment> dram);

    Space& local(int core, int memory);
    // The space that holds all of [base, end) of tensor space `space` as seen from `core`; throws Fault.
    Space& find(int space, int core, int64_t base, int64_t end);
    // The memories that several cores reach: DRAM segments and shared memories.
    std::vector<Space*> common();
    std::vector<Space>& locals() { return locals_; }

private:
    struct Free {
        void operator()(uint8_t* p) const;
    };
    using Bytes = std::unique_ptr<uint8_t, Free>;
    void allocate(Space& space);

    const ChipParams& chip_;
    std::vector<Space> segments_, locals_;   // locals_: core * memories + memory
    std::vector<std::vector<Space>> shared_; // by tensor space - 1, then by cluster (or one for the chip)
    std::vector<Bytes> owned_;
};

} // namespace tapeout::sim
