// Counts the wrong answers of a circuit on very many rows, drawn by rules that the learner's sampler does not share.
//
// A chunk of rows depends on the seed, its distribution and its number only: chunks may be judged in any order, on any
// number of threads, and a run that was ended goes on at the next chunk. Unlike the learner, the judge may be told what
// the function is: encodings of operations give each of them its share of the rows.
#pragma once

#include "circuit/aig.h"
#include "circuit/evaluate.h"
#include "circuit/oracle.h"

#include <cstdint>
#include <vector>

namespace tapeout::circuit {

constexpr std::size_t kJudgeChunk = 1 << 16; // rows

// Bits of an instruction that are part of a constant: `width` bits from `from` on go to bit `to` and on.
struct ConstantField {
    unsigned from, width, to;
};

// An operation's code: `instruction & mask == match`.
struct Encoding {
    std::uint64_t mask, match;
    std::vector<ConstantField> constant;
    bool is_signed;
};

// Bits of a row that name an entry of an array: those of a port. Entry 0 holds 0 and keeps nothing.
struct IndexField {
    unsigned bit, width;
};

// What a read port delivers: the input word `word`. A row belongs to a state of the whole circuit where ports that name
// one entry deliver one value, and 0 for entry 0.
struct ReadPort {
    IndexField index;
    unsigned word;
};

// Output words that nothing comes of where the index is 0.
struct WritePort {
    IndexField index;
    std::vector<unsigned> words;
};

struct JudgePlan {
    std::vector<unsigned> inputs, outputs;         // widths of the words
    int instruction = -1;                          // which input word, of at most 64 bits, holds the encodings
    std::vector<std::vector<Encoding>> operations; // each with the encodings it has
    std::vector<ReadPort> reads;                   // with any, rows are made such as states of the whole circuit give
    std::vector<WritePort> writes;
};

enum class JudgeRows {
    uniform,    // every bit by chance
    operations, // every operation equally often, operands at corners or related to each other
    damaged,    // the same with one or two bits of the instruction flipped
    walking,    // the same, and all-zero, all-one, uniform rows, each with one bit flipped, bit by bit
};

struct Tally {
    std::uint64_t rows = 0, wrong = 0;
    std::vector<std::uint64_t> wrong_by_output;                       // by output word
    std::vector<std::uint64_t> rows_by_operation, wrong_by_operation; // by what was drawn, before bits are flipped
    std::vector<std::uint64_t> first;                                 // the first wrong question, if there is one
    void add(const Tally& other);                                     // of chunks behind
};

class Judge {
public:
    // `oracle` must outlive the judge. std::invalid_argument for a plan that does not go with it.
    Judge(Oracle& oracle, const Aig& circuit, JudgePlan plan, std::uint64_t seed);
    // Judges chunks `first` to `first + chunks`, on `threads` threads where the oracle allows it.
    Tally run(JudgeRows kind, std::uint64_t first, std::uint64_t chunks, unsigned threads);
    // The questions of a chunk: kJudgeChunk rows.
    std::vector<std::uint64_t> rows(JudgeRows kind, std::uint64_t chunk) const;

private:
    void count_wrong(const std::uint64_t* row, const std::uint64_t* meant, const std::uint64_t* given,
                     std::uint32_t operation, Tally& tally) const;
    Tally judge_chunk(JudgeRows kind, std::uint64_t chunk, std::vector<std::uint64_t> (&buffers)[3]) const;

    Oracle& oracle_;
    Evaluator circuit_;
    JudgePlan plan_;
    std::uint64_t seed_;
    std::vector<std::vector<std::uint64_t>> output_masks_; // bits of each output word
};

} // namespace tapeout::circuit
