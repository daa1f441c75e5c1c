// One diagram of one output: expanded layer by layer, then walked or written as multiplexers.
#pragma once

#include "circuit/bsd.h"
#include "circuit/random.h"

#include <span>
#include <stdexcept>
#include <vector>

namespace tapeout::circuit {

// Asks one output of a black box in batches, and keeps count.
class BsdAsker {
public:
    BsdAsker(Oracle& oracle, std::size_t output);
    std::size_t words() const { return words_; }
    // A row to be written by the caller; asked by the next flush.
    std::uint64_t* push();
    bool full() const { return rows_ == kRows; }
    // Answers of the rows pushed since the last flush, in order.
    const std::vector<std::uint8_t>& flush();

    std::uint64_t queries = 0;

private:
    static constexpr std::size_t kRows = 4096;
    Oracle& oracle_;
    std::size_t output_, words_, out_words_, rows_ = 0;
    std::vector<std::uint64_t> in_, out_;
    std::vector<std::uint8_t> answers_;
};

// When to end: asked before each layer.
struct BsdLimits {
    std::chrono::steady_clock::time_point deadline;
    std::uint64_t queries; // of this output
    const std::atomic<bool>& stop;
};

class BsdStopped : public std::runtime_error {
public:
    BsdStopped() : std::runtime_error("stopped") {}
};

class BsdDiagram {
public:
    // 0 and 1 are constants; else 2 * (1 + node of the next layer) + complement.
    using Edge = std::uint32_t;
    struct Node {
        Edge edges[2];
    };
    struct Layer {
        std::uint32_t variable;
        std::vector<Node> nodes;
    };

    // Builds the diagram. An empty `order` chooses the most influential input of each layer, each influence multiplied
    // by a random factor in [1 - jitter, 1 + jitter].
    BsdDiagram(BsdAsker& asker, const BsdOptions& options, const BsdLimits& limits, std::span<const double> influence,
               std::vector<std::uint32_t> order, double jitter, std::uint64_t stream);

    bool evaluate(const std::uint64_t* row) const;
    // The output's literal in a graph whose inputs are the black box's.
    Lit write(Strash& graph) const;
    // Multiplexers, order, widths and what was speculated.
    BsdOutput describe() const;

    std::size_t nodes() const;
    bool complete() const { return stats_.cut == 0; }
    const std::vector<std::uint32_t>& order() const { return order_; }

private:
    struct Growing; // a node that is not expanded yet
    struct Classes;

    std::vector<Growing> start(const BsdLimits& limits);
    std::uint32_t choose(const std::vector<Growing>& nodes, double jitter, std::size_t depth);
    void expand(std::vector<Growing>& nodes, std::uint32_t variable, std::size_t depth);
    void ask(const std::vector<Growing>& nodes, std::uint32_t variable, Classes& classes);
    void reduce(Classes& classes);
    static void compact(Classes& classes, std::vector<Edge>& becomes);
    void fill_completions(std::size_t depth);
    bool over(const BsdLimits& limits) const;

    BsdAsker& asker_;
    const BsdOptions& options_;
    std::span<const double> influence_;
    std::uint64_t stream_;
    std::vector<std::uint32_t> order_;     // of the layers
    std::vector<std::uint32_t> remaining_; // inputs without a layer
    std::vector<std::uint64_t> completions_;
    std::size_t count_ = 0; // completions
    bool whole_ = false;    // the completions are all there are
    double allowed_ = 0;    // error that merging may still add

    Edge root_ = 0;
    std::vector<Layer> layers_;
    std::vector<std::uint8_t> majority_; // of the nodes behind the last layer
    BsdOutput stats_;
};

} // namespace tapeout::circuit
