// Looks for a diagram of a word on a region: an order of the inputs and a cut that make it small, then repair until no
// row refutes it.
#pragma once

#include "circuit/diagram.h"
#include "circuit/survey.h"

#include <optional>
#include <vector>

namespace tapeout::circuit {

class DiagramSearch {
public:
    DiagramSearch(Question& question, const RegionTask& task, Survey& survey)
        : question_(question), task_(task), survey_(survey) {}

    // Whether one is found; it is told in `result`. `most_queries`: of the question, at which no further step is made.
    // `patience`: how often a diagram may outgrow what it should need. `large`: a large one is taken.
    bool run(Word most_queries, std::size_t patience, bool large, RegionResult& result);

private:
    struct Choice {
        std::vector<int> order; // input bits
        std::vector<std::vector<Word>> outputs;
        Shape shape;
        std::size_t cost = 0;
    };
    // What ended a step.
    enum class Step { solved, hopeless, outgrown, inputs_missed };

    Step attempt(bool large, Word most_queries, RegionResult& result);
    std::optional<Choice> choose_order(std::size_t limit, RegionResult& result);
    bool explore(const Rows& pairs);

    Question& question_;
    const RegionTask& task_;
    Survey& survey_;
    std::size_t grown_ = 0; // times that a diagram was right but too large
};

} // namespace tapeout::circuit
