// Runs single commands on the bytes of the chip, with their checks.
#pragma once

#include "sim/gemm.h"
#include "sim/storage.h"
#include "sim/vector.h"

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tapeout::sim {

struct Options {
    bool exact = false; // accumulation order of the numerics contract
    bool check = true;  // reach, uninitialised reads, races; bounds are always checked
    bool fuzz = false;
    uint64_t seed = 0;
};

class Executor {
public:
    Executor(const Program& program, const ChipParams& chip, Storage& storage, const Epochs& epochs,
             const Options& options)
        : program_(program), chip_(chip), storage_(storage), epochs_(epochs), options_(options) {}

    // Throws Fault. `clock` says what comes before the command; not read without checks.
    void run(const Command& command, std::span<const int64_t> slots, const Who& who, const Clock& clock);
    // The integer that a LoadScalar reads.
    int64_t read_scalar(const View& source, std::span<const int64_t> slots, const Who& who, const Clock& clock);

    // Memories whose list of accesses has grown long, since the last call.
    std::vector<Space*> take_crowded() { return std::exchange(crowded_, {}); }

private:
    struct Access {
        Space* space;
        Box box; // addresses within the space, from 0
        bool write;
        bool read;
        int64_t first, size; // address and bytes of element 0
        Dims strides;        // kNoStep where the extent is 1
    };
    using Slots = std::span<const int64_t>;

    void dma(const Dma& d, bool load, Slots slots);
    void rows(const Dma& d, bool load, Slots slots, std::vector<int64_t> origin, int64_t base);
    void move_box(const Dma& d, bool load, const std::vector<int64_t>& origin, int64_t base, int64_t first,
                  int64_t count);
    void transfer(const Dma& d, bool load, const Dims& extents, uint8_t* local, uint8_t* remote);
    void fill(const Dma& d);
    void copy(const Copy& c, Slots slots);
    void drain(const Drain& d, Slots slots);
    void matmul(const MatMul& m, Slots slots);
    void vector(const Vector& v, Slots slots);

    // Resolves a view, checks its bounds and notes the access.
    uint8_t* view(const View& v, const Dims& dims, Slots slots, Role role, bool write, bool read);
    Operand operand(const Source& s, const Dims& dims, Slots slots, size_t number);
    uint8_t* note(Space& space, int64_t address, const Dims& dims, const Dims& strides, int64_t size, bool write,
                  bool read);
    void no_overlap(bool in_place);
    static bool same_elements(const Access& a, const Access& b);
    void check_before();
    void mark_after();

    const Program& program_;
    const ChipParams& chip_;
    Storage& storage_;
    const Epochs& epochs_;
    const Options& options_;
    Who who_;
    const Clock* clock_ = nullptr;
    std::vector<Access> accesses_;
    std::array<std::array<uint8_t, 8>, 4> immediates_{};
    Gemm gemm_;
    VectorUnit vector_unit_;
    struct Move { // a part of a DMA command, run once everything is checked
        Dims extents;
        uint8_t* local;
        uint8_t* remote;
    };
    std::vector<Move> moves_;
    std::vector<uint8_t*> targets_; // local base of a load in each core that receives it
    std::vector<int64_t> list_;
    bool outside_ = false;
    std::vector<Space*> crowded_;
};

} // namespace tapeout::sim
