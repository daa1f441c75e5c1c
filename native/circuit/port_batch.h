// Rows in port form while they are asked; of the parts of PortOracle only.
#pragma once

#include "circuit/port_oracle.h"

#include <vector>

namespace tapeout::circuit {

struct PortOracle::Batch {
    Batch(std::size_t in_width, std::size_t out_width) : rows(in_width, 0), answers(out_width, 0) {}
    Rows rows, answers;
    std::vector<std::uint32_t> origin; // the row of another batch that this one is about
    std::vector<std::uint32_t> doubts;
    std::vector<std::uint32_t> moved; // write ports whose index is not that of the row as it was
    std::vector<char> conflicts;      // the read ports do not all see their values
    std::vector<char> unsure;         // a read was moved after them
    std::vector<Entries> entries;
    std::vector<Word> whole, answer; // of the whole box
    std::vector<Word> seeds;         // what the entries that no port names hold; of a moved row as of the row itself
    void push(const Word* row, std::uint32_t from, Word seed) {
        rows.push(row);
        origin.push_back(from);
        seeds.push_back(seed);
    }
    void pop() {
        rows.resize(rows.size() - 1);
        origin.pop_back();
        seeds.pop_back();
    }
};

} // namespace tapeout::circuit
