// Words that are folds over the bits of an input word, from the top: what the word is for the upper bits may stand in
// their place. So (2 p + c) mod b is (2 (p mod b) + c) mod b, and the whole division is one step, repeated.
//
// The step needs to be right only where a repetition leads, x = 2 s + c with s = f(s). There it is simple though the
// whole is not: x itself, or else a sum of the inputs, or one constant (0 by a zero, for some). Which of them is asked
// of all rows, as f(x) = x, and as f(x) being the sum.
#pragma once

#include "circuit/additive.h"
#include "circuit/form.h"
#include "circuit/region.h"

#include <optional>
#include <vector>

namespace tapeout::circuit {

class Fold {
public:
    // `word`: what is folded. It has no more bits than the input word that it is a fold over, and at most 64.
    Fold(Question& word, const RegionTask& task, std::vector<int> support);
    // Whether all rows allow that it is a fold over some input word.
    bool find(const Rows& rows, const Rows& answers);
    // The step, with rows drawn by `draw`; to be verified by the whole.
    bool learn(const Draw& draw);
    // The fold of all bits.
    Circuit circuit() const;

    // Whether all rows allow that the word is what each step of a fold shows (a quotient, its remainder unseen), with a
    // state that is x, but for another input word that is added or subtracted where a step shows a 1.
    bool find_shown(const Rows& rows, const Rows& answers);
    // The circuit of that, to be verified by the whole; nothing where what is shown is not simple.
    std::optional<Circuit> learn_shown();

    // Whether `word` (in all rows) has the bits that a flag shows in each step: bit k of the quotient. The flag is that
    // `word` is not 0 for the step's x.
    bool records(Question& word, const Rows& rows);
    // The circuit of such a word; nothing where the flag is not simple.
    std::optional<Circuit> recorded(Question& word, const RegionTask& task);

private:
    Word value(const Word* row) const;
    void set_value(Word* row, Word value) const;
    Word state(const Word* answer) const;
    // Rows with the word over which is folded shifted down by one, and their answers.
    void ask_above(const Rows& rows, Rows& above, Rows& answers);
    Rows steps(const Rows& rows);
    bool kept(const Word* row, const Word* answer) const;
    std::optional<Form> fit(const Rows& rows);
    RegionTask step_task(RegionTask task) const;
    bool shown_with(const Span& word, bool subtract, const Rows& rows, const Rows& answers);
    // All steps, one behind the other; the last bits of the step are shown.
    Circuit repeated(const Circuit& step, std::size_t shown) const;

    Question& word_;
    const RegionTask& task_;
    std::vector<int> support_;
    Span over_{0, 0};
    std::size_t outputs_;
    Circuit step_;
    std::optional<Word> exception_; // what the step is where it is neither x nor the sum
    Span changed_by_{0, 0};         // find_shown
    bool subtracted_ = false;
};

// Row by row: whether it allows that the word is a fold over the input word `span`. Empty where none can be.
std::vector<char> folds_over(Question& word, const Span& span, const Rows& rows, const Rows& answers);

// Row by row: whether it allows that each bit of the input word shows one bit of the word, h(a / 2) = h(a) / 2.
std::vector<char> recorded_over(Question& word, const Span& span, const Rows& rows, const Rows& answers);

} // namespace tapeout::circuit
