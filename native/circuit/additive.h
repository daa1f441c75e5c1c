// Words in which some inputs are additive: each adds to the word what the other inputs say, whatever the others of
// its kind hold. So f(x) = f(x with A = 0) + sum over i in A of x_i * d_i(the inputs outside A), where d_i is a word of
// fewer inputs that is learned in turn. A product is the case d_i = 2^i * b; its diagrams are exponential in any order.
//
// Inputs i and j are additive together where the second difference f(x) - f(x^i) - f(x^j) + f(x^i^j) is 0 in all rows:
// measured for all pairs, in the integers modulo 2^n and under exclusive or.
#pragma once

#include "circuit/derived.h"
#include "circuit/form.h"
#include "circuit/region.h"

#include <functional>
#include <optional>
#include <vector>

namespace tapeout::circuit {

// Draws rows of the region.
using Draw = std::function<void(Rows&, std::size_t)>;

class Additive {
public:
    // Learns a word of fewer inputs, whatever it is.
    using Learner = std::function<RegionResult(Question&, const RegionTask&)>;
    // `rows` are some in which many inputs matter; uniform ones are drawn beside them.
    // Not `thorough`: only where a set is strong(), or all of the support.
    Additive(Question& question, const RegionTask& task, std::vector<int> support, const Rows& rows, bool thorough);
    // There are such inputs.
    bool found() const { return !sets_.empty(); }
    // What each of them adds depends on many others: diagrams would be large.
    bool strong() const { return strong_; }
    // The word is not additive, but off by one at most: it takes in carries of a word that is not seen.
    bool carried() const { return carried_; }
    // A circuit that is large for what was measured: a table, read bit by bit.
    bool large(std::size_t gates) const;
    // The circuit with the fewest gates that the task's known circuits do not have; to be verified. Nothing where the
    // inputs are not additive in rows drawn by `draw`, or some word of fewer inputs takes more than `most_queries`.
    std::optional<Circuit> learn(const Learner& learner, const Draw& draw, Word most_queries);
    // The word as a sum of single inputs, where all of them are additive.
    std::optional<Form> constants();

private:
    struct Pairs { // what was seen of each pair of inputs; indices into support_
        std::vector<char> sum, exclusive, carry;
    };
    using Set = std::vector<int>;
    using Values = std::vector<Value>;

    void draw_rows(const Rows& lively);
    Values values(const Rows& answers) const;
    void measure(std::size_t first, std::size_t last, const std::vector<std::pair<int, int>>& pairs);
    std::vector<Set> independent(const std::vector<char>& edges) const;
    Set extend(const std::vector<char>& edges, const std::vector<int>& first) const;
    std::vector<Set> confirmed(std::vector<char> Pairs::* edges);
    std::size_t without_carries(const Set& set) const;
    bool prune(const std::vector<char>& edges, Set& set) const;
    std::size_t degree(const std::vector<char>& edges, int input) const;
    bool strong(const std::vector<char>& edges, const Set& set) const;
    bool holds(const Set& set, const Rows& rows);
    std::vector<Word> bits_of(const Set& set) const;
    std::optional<Form> decompose(Strash& gates, const Set& set, const Learner& learner);
    std::optional<Form> solve(Strash& gates, Question& part, const Set& rest, const Learner& learner, bool whole);
    struct Factor {
        int input;
        Value factor;
    };
    std::vector<std::vector<Factor>> classes(const Set& set, const std::vector<Values>& differences,
                                             Form& constants) const;

    Question& question_;
    const RegionTask& task_;
    std::vector<int> support_;
    Arithmetic arithmetic_;
    Rows rows_;
    Values base_;
    std::vector<Values> flipped_; // [input][row]
    Pairs pairs_;
    std::vector<Set> sets_; // candidates, the best first
    bool thorough_;
    std::vector<char> measured_; // pairs that were measured in all rows
    bool strong_ = false, carried_ = false;
    Word most_queries_ = 0;
    std::size_t parts_ = 0; // words of fewer inputs that were learned
};

// Inputs of a word in which it is held to be a sum, asked as the word of one input's contribution, or of what is left
// when all are 0.
class ContributionQuestion final : public DerivedQuestion {
public:
    // `input` -1: what is left. Inputs in `clear` are held at 0.
    ContributionQuestion(Question& word, Group group, std::vector<Word> clear, int input);
    void ask(const Rows& rows, Rows& answers) override;

private:
    Arithmetic arithmetic_;
    std::vector<Word> clear_;
    int input_;
    Rows asked_;
};

// An output word of a row as a number, and back.
Value to_value(const Word* row, std::size_t width);
void from_value(Value value, Word* row, std::size_t width);

// Rows (of `count`, drawn by `draw`) in which the circuit answers otherwise than the question.
Rows refute(Question& question, const Circuit& circuit, const Draw& draw, std::size_t count, std::size_t most);

} // namespace tapeout::circuit
