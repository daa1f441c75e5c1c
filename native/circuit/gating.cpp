#include "circuit/gating.h"

#include "circuit/derived.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kSeen = 8; // rows that are tried as the one in which the gate is open

void copy_bits(Word* row, const Word* from, const std::vector<int>& bits) {
    for (const int bit : bits)
        set_bit(row, static_cast<std::size_t>(bit), get_bit(from, static_cast<std::size_t>(bit)));
}

// One bit: whether the answer, with the data of one row, is what that row has.
class OpenQuestion final : public Predicate {
public:
    OpenQuestion(Question& word, std::vector<int> controls, const Word* row, const Word* answer)
        : Predicate(word), controls_(std::move(controls)), row_(row, row + word.input_width()),
          answer_(answer, answer + word.width()) {}
    void ask(const Rows& rows, Rows& answers) override {
        asked_ = rows;
        for (std::size_t row = 0; row < rows.size(); ++row) {
            std::copy(row_.begin(), row_.end(), asked_[row]);
            copy_bits(asked_[row], rows[row], controls_);
        }
        word_.ask(asked_, got_);
        tell(rows, answers, [&](std::size_t row) { return std::equal(answer_.begin(), answer_.end(), got_[row]); });
    }

private:
    std::vector<int> controls_;
    std::vector<Word> row_, answer_;
    Rows asked_;
};

} // namespace

std::optional<Gating> find_gating(Question& word, const RegionTask& task, const Rows& rows,
                                  const std::vector<int>& support) {
    Gating gating;
    gating.controls = control_bits(task.words, support);
    if (gating.controls.empty())
        return gating;
    const std::size_t wide = word.width();
    Rows answers, through;
    word.ask(rows, answers);
    for (std::size_t at = 0; at < std::min(kSeen, rows.size()); ++at) {
        Rows asked = rows;
        for (std::size_t row = 0; row < rows.size(); ++row)
            copy_bits(asked[row], rows[at], gating.controls);
        word.ask(asked, through);
        std::vector<Word> otherwise;
        bool good = true;
        for (std::size_t row = 0; row < rows.size() && good; ++row) {
            if (std::equal(answers[row], answers[row] + wide, through[row]))
                continue;
            if (otherwise.empty())
                otherwise.assign(answers[row], answers[row] + wide);
            good = std::equal(otherwise.begin(), otherwise.end(), answers[row]);
        }
        if (!good || otherwise.empty() || std::equal(otherwise.begin(), otherwise.end(), answers[at]))
            continue;
        OpenQuestion open(word, gating.controls, rows[at], answers[at]);
        RegionTask where = task;
        where.hints = Rows(word.input_width(), 0);
        const RegionResult learned = learn_part(open, where);
        if (!learned.solved())
            continue;
        gating.on.assign(rows[at], rows[at] + rows.width());
        gating.otherwise = std::move(otherwise);
        gating.open = learned.circuit;
        return gating;
    }
    return std::nullopt;
}

RegionTask behind(const Gating& gating, RegionTask task) {
    for (const int bit : gating.controls) {
        const auto at = static_cast<std::size_t>(bit);
        set_bit(task.mask.data(), at, true);
        set_bit(task.value.data(), at, get_bit(gating.on.data(), at));
    }
    task.hints = behind(gating, std::move(task.hints));
    return task;
}

Rows behind(const Gating& gating, Rows rows) {
    if (!gating.controls.empty())
        for (std::size_t row = 0; row < rows.size(); ++row)
            copy_bits(rows[row], gating.on.data(), gating.controls);
    return rows;
}

Draw behind(const Gating& gating, Draw draw) {
    return [&gating, draw = std::move(draw)](Rows& rows, std::size_t count) {
        draw(rows, count);
        rows = behind(gating, std::move(rows));
    };
}

Circuit with_gating(const Gating& gating, std::size_t inputs, const Circuit& word) {
    if (gating.controls.empty())
        return word;
    Strash gates(inputs);
    Circuit result;
    result.outputs = place(gates, word, result.fold);
    const Lit open = gates.place(gating.open.gates, gating.open.outputs)[0];
    for (std::size_t o = 0; o < result.outputs.size(); ++o)
        result.outputs[o] =
            gates.mux(open, result.outputs[o], static_cast<Lit>(get_bit(gating.otherwise.data(), o) ? 1 : 0));
    result.gates = std::move(gates.aig.gates);
    return result;
}

} // namespace tapeout::circuit
