// Questions that are answered by asking another one: a word that is made of it, or one bit about it.
#pragma once

#include "circuit/rows.h"

namespace tapeout::circuit {

// Counts what it asks of the word, not what others do.
class DerivedQuestion : public Question {
public:
    std::size_t outputs() const override { return word_.outputs(); }
    std::size_t width() const override { return row_words(outputs()); }
    Word queries() const override { return word_.queries() - before_; }

protected:
    explicit DerivedQuestion(Question& word) : Question(word), word_(word), before_(word.queries()) {}

    Question& word_;
    Rows got_; // the word's answers

private:
    Word before_;
};

// A question of one bit.
class Predicate : public DerivedQuestion {
public:
    std::size_t outputs() const final { return 1; }

protected:
    using DerivedQuestion::DerivedQuestion;

    // Answers with what `holds` says of each row, by its number.
    template <typename Holds>
    static void tell(const Rows& rows, Rows& answers, const Holds& holds) {
        if (answers.width() != 1 || answers.size() != rows.size())
            answers = Rows(1, rows.size());
        for (std::size_t row = 0; row < rows.size(); ++row)
            answers[row][0] = holds(row);
    }
};

} // namespace tapeout::circuit
