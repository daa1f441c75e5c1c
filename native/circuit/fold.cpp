#include "circuit/fold.h"

#include "circuit/alternative.h"
#include "circuit/derived.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr int kMostBits = 64;
constexpr std::size_t kStepRows = 4096, kPairs = 96; // rows of steps; those in which one input's weight is looked for
constexpr std::size_t kStepTests = 1024;
constexpr Word kStepSeed =
    0xf01d; // the same step is learned the same way wherever it is used, so that gates are shared

// One bit: whether a word is 0.
class NonZeroQuestion final : public Predicate {
public:
    explicit NonZeroQuestion(Question& word) : Predicate(word) {}
    void ask(const Rows& rows, Rows& answers) override {
        word_.ask(rows, got_);
        tell(rows, answers, [&](std::size_t row) {
            return std::any_of(got_[row], got_[row] + word_.width(), [](Word word) { return word != 0; });
        });
    }
};

// One bit: whether a word is that one of two of its input's words.
class EitherQuestion final : public Predicate {
public:
    using Value = std::function<Word(const Word* row)>;
    EitherQuestion(Question& word, Value one, Value other)
        : Predicate(word), one_(std::move(one)), other_(std::move(other)) {}
    void ask(const Rows& rows, Rows& answers) override {
        word_.ask(rows, got_);
        tell(rows, answers,
             [&](std::size_t row) { return got_[row][0] == one_(rows[row]) || got_[row][0] == other_(rows[row]); });
    }

private:
    Value one_, other_;
};

// What a form says of a row.
Word total(const Form& form, const Word* row, std::size_t width) {
    auto sum = static_cast<Word>(form.constant());
    for (const Form::Term& term : form.terms())
        if (get_bit(row, term.literal / 2 - 1) != (term.literal & 1))
            sum += static_cast<Word>(term.weight);
    return sum & low_bits(width);
}

// The commonest answer, and how many rows have it.
std::pair<Word, std::size_t> commonest(const Rows& answers) {
    std::vector<Word> values(answers.data(), answers.data() + answers.size());
    std::sort(values.begin(), values.end());
    std::pair<Word, std::size_t> best{0, 0};
    for (auto from = values.begin(); from != values.end();) {
        const auto to = std::upper_bound(from, values.end(), *from);
        if (const auto count = static_cast<std::size_t>(to - from); count > best.second)
            best = {*from, count};
        from = to;
    }
    return best;
}

} // namespace

Fold::Fold(Question& word, const RegionTask& task, std::vector<int> support)
    : word_(word), task_(task), support_(std::move(support)), outputs_(word.outputs()) {}

Word Fold::value(const Word* row) const {
    return get_bits(row, over_.first, over_.width);
}

void Fold::set_value(Word* row, Word value) const {
    set_bits(row, over_.first, over_.width, value);
}

Word Fold::state(const Word* answer) const {
    return answer[0] & low_bits(outputs_);
}

void Fold::ask_above(const Rows& rows, Rows& above, Rows& answers) {
    above = rows;
    for (std::size_t row = 0; row < rows.size(); ++row)
        set_value(above[row], value(rows[row]) >> 1);
    word_.ask(above, answers);
}

// Each row's step: the state of its upper bits, and its lowest bit. Empty where a state does not fit.
Rows Fold::steps(const Rows& rows) {
    Rows result, answers;
    ask_above(rows, result, answers);
    for (std::size_t row = 0; row < rows.size(); ++row) {
        const Word before = state(answers[row]);
        if (over_.width < 64 && before >> (over_.width - 1))
            return Rows(rows.width(), 0);
        set_value(result[row], before << 1 | (value(rows[row]) & 1));
    }
    return result;
}

bool Fold::find(const Rows& rows, const Rows& answers) {
    for (const Span& span : whole_words(task_.words, support_)) {
        const std::vector<char> allowed = folds_over(word_, span, rows, answers);
        if (!allowed.empty() && std::count(allowed.begin(), allowed.end(), 0) == 0) {
            over_ = span;
            return true;
        }
    }
    return false;
}

// Of rows that hold a step's x: what does not fit into it is 0.
RegionTask Fold::step_task(RegionTask task) const {
    for (int bit = static_cast<int>(outputs_) + 1; bit < over_.width; ++bit) {
        set_bit(task.mask.data(), static_cast<std::size_t>(over_.first + bit), true);
        set_bit(task.value.data(), static_cast<std::size_t>(over_.first + bit), false);
    }
    task.hints = Rows(word_.input_width(), 0);
    task.seed = kStepSeed;
    task.tests = kStepTests;
    return task;
}

bool Fold::learn(const Draw& draw) {
    Rows drawn;
    draw(drawn, kStepRows);
    Random random(task_.seed);
    for (std::size_t row = 0; row < drawn.size(); ++row)
        if (random.chance(0.5))
            set_value(drawn[row], value(drawn[row]) >> random.below(static_cast<std::uint32_t>(over_.width)));
    const Rows rows = steps(drawn);
    const auto form = rows.size() ? fit(rows) : std::nullopt;
    if (!form)
        return false;
    std::vector<int> wired;
    for (std::size_t o = 0; o < outputs_; ++o)
        wired.push_back(over_.first + static_cast<int>(o));
    WiredQuestion question(word_, wired);
    RegionTask step = step_task(task_);
    const RegionResult keeps = learn_simple(question, step);
    if (!keeps.solved())
        return false;
    Strash gates(word_.input_bits());
    const std::vector<Lit> other = emit(gates, *form, false);
    const Lit kept = gates.place(keeps.circuit.gates, keeps.circuit.outputs)[0];
    Lit added{1};
    if (exception_) {
        EitherQuestion ordinary(
            word_, [&](const Word* row) { return value(row) & low_bits(outputs_); },
            [&](const Word* row) { return total(*form, row, outputs_); });
        const RegionResult holds = learn_simple(ordinary, step);
        if (!holds.solved())
            return false;
        added = gates.place(holds.circuit.gates, holds.circuit.outputs)[0];
    }
    step_ = {};
    for (std::size_t o = 0; o < outputs_; ++o) {
        const Lit constant{exception_ ? static_cast<Lit>(*exception_ >> o & 1) : 0};
        const Lit changed = gates.mux(added, other[o], constant);
        step_.outputs.push_back(gates.mux(kept, lit_of(1 + static_cast<std::size_t>(wired[o])), changed));
    }
    step_.gates = std::move(gates.aig.gates);
    return true;
}

bool Fold::kept(const Word* row, const Word* answer) const {
    return state(answer) == (value(row) & low_bits(outputs_));
}

// The sum of inputs that the step is where it is not x: what each adds shows where flipping it leads to such a row.
std::optional<Form> Fold::fit(const Rows& rows) {
    Rows all, others(rows.width(), 0), totals(1, 0), apart(rows.width(), 0);
    word_.ask(rows, all);
    Rows changed(rows.width(), 0), answers(1, 0);
    for (std::size_t row = 0; row < rows.size(); ++row)
        if (!kept(rows[row], all[row])) {
            changed.push(rows[row]);
            answers.push(all[row]);
        }
    const auto [common, count] = commonest(answers); // may be an exception; what is not has its value here as well
    const bool aside = changed.size() - count >= kPairs;
    for (std::size_t row = 0; row < changed.size(); ++row)
        if (aside && answers[row][0] == common) {
            apart.push(changed[row]);
        } else {
            others.push(changed[row]);
            totals.push(answers[row]);
        }
    if (others.size() < kPairs)
        return std::nullopt;
    Form form(Arithmetic{Group::sum, outputs_});
    std::vector<std::pair<int, Word>> weights;
    std::vector<int> unknown;
    for (const int bit : support_) {
        const bool beyond = bit >= over_.first + static_cast<int>(outputs_) + 1 && bit < over_.first + over_.width;
        if (beyond || get_bit(task_.mask.data(), static_cast<std::size_t>(bit)))
            continue;
        Rows flipped(rows.width(), kPairs), got, above, before;
        for (std::size_t p = 0; p < kPairs; ++p) {
            std::copy_n(others[p * others.size() / kPairs], rows.width(), flipped[p]);
            flip_bit(flipped[p], static_cast<std::size_t>(bit));
        }
        word_.ask(flipped, got);
        ask_above(flipped, above, before);
        bool found = false;
        for (std::size_t p = 0; p < kPairs && !found; ++p) {
            found = state(before[p]) == value(above[p]) && !kept(flipped[p], got[p]) && !(aside && got[p][0] == common);
            if (!found)
                continue;
            const Word change = state(got[p]) - state(totals[p * others.size() / kPairs]);
            weights.emplace_back(bit, get_bit(flipped[p], static_cast<std::size_t>(bit)) ? change : Word{0} - change);
        }
        if (!found) // one row with it may still tell
            unknown.push_back(bit);
    }
    const auto partial = [&](const Word* row) {
        Word sum = 0;
        for (const auto& [bit, weight] : weights)
            sum += get_bit(row, static_cast<std::size_t>(bit)) ? weight : 0;
        return sum;
    };
    const auto open = [&](const Word* row) {
        return std::count_if(unknown.begin(), unknown.end(),
                             [&](int bit) { return get_bit(row, static_cast<std::size_t>(bit)); });
    };
    std::size_t plain = 0;
    while (plain < others.size() && open(others[plain]) > 0)
        ++plain;
    if (plain == others.size())
        return std::nullopt;
    const Word constant = state(totals[plain]) - partial(others[plain]);
    for (std::size_t row = 0; row < others.size() && !unknown.empty(); ++row)
        if (open(others[row]) == 1) {
            const auto at = std::find_if(unknown.begin(), unknown.end(),
                                         [&](int bit) { return get_bit(others[row], static_cast<std::size_t>(bit)); });
            const Word weight = state(totals[row]) - partial(others[row]) - constant;
            weights.emplace_back(*at, weight);
            unknown.erase(at);
        }
    form.add_constant(constant & low_bits(outputs_));
    for (const auto& [bit, weight] : weights)
        form.add(lit_of(1 + static_cast<std::size_t>(bit)), weight & low_bits(outputs_), bit);
    for (std::size_t row = 0; row < others.size(); ++row)
        if (total(form, others[row], outputs_) != state(totals[row]))
            return std::nullopt;
    for (std::size_t row = 0; row < apart.size(); ++row)
        if (total(form, apart[row], outputs_) != (common & low_bits(outputs_)))
            exception_ = common & low_bits(outputs_);
    return form;
}

Circuit Fold::circuit() const {
    return repeated(step_, 0);
}

Circuit Fold::repeated(const Circuit& step, std::size_t shown) const {
    const auto first = static_cast<std::size_t>(over_.first), width = static_cast<std::size_t>(over_.width);
    Strash gates(word_.input_bits());
    std::vector<Lit> inputs(word_.input_bits());
    for (std::size_t bit = 0; bit < inputs.size(); ++bit)
        inputs[bit] = lit_of(1 + bit);
    FoldTrace trace{over_, step.gates, step.outputs, {}, inputs, std::vector<Lit>(outputs_), {}};
    trace.shown.assign(step.outputs.end() - static_cast<std::ptrdiff_t>(shown), step.outputs.end());
    trace.next.resize(outputs_);
    trace.record.resize(shown * width);
    for (std::size_t bit = width; bit-- > 0;) {
        std::vector<Lit> x{lit_of(1 + first + bit)};
        x.insert(x.end(), trace.state.begin(), trace.state.end());
        x.resize(width);
        std::copy(x.begin(), x.end(), inputs.begin() + over_.first);
        const std::vector<Lit> made = gates.place(step.gates, step.outputs, inputs);
        trace.state.assign(made.begin(), made.begin() + static_cast<std::ptrdiff_t>(outputs_));
        if (shown)
            trace.record[bit] = made.back();
    }
    Circuit result{{}, shown ? trace.record : trace.state, {}, std::move(trace)};
    result.gates = std::move(gates.aig.gates);
    return result;
}

bool Fold::records(Question& word, const Rows& rows) {
    if (word.outputs() != static_cast<std::size_t>(over_.width))
        return false;
    Rows answers, above, before, got;
    word.ask(rows, answers);
    ask_above(rows, above, before);
    word.ask(above, before);
    const Rows asked = steps(rows);
    if (asked.size() != rows.size())
        return false;
    word.ask(asked, got);
    const Word upper = low_bits(static_cast<std::size_t>(over_.width) - 1);
    for (std::size_t row = 0; row < rows.size(); ++row)
        if ((before[row][0] & upper) != (answers[row][0] >> 1 & upper) || (got[row][0] != 0) != (answers[row][0] & 1))
            return false;
    return true;
}

std::optional<Circuit> Fold::recorded(Question& word, const RegionTask& task) {
    NonZeroQuestion flag(word);
    RegionTask step = step_task(task);
    const RegionResult shown = learn_simple(flag, step);
    if (!shown.solved())
        return std::nullopt;
    Strash gates(word_.input_bits());
    Circuit both;
    both.outputs = gates.place(step_.gates, step_.outputs);
    both.outputs.push_back(gates.place(shown.circuit.gates, shown.circuit.outputs)[0]);
    both.gates = std::move(gates.aig.gates);
    return repeated(both, 1);
}

bool Fold::find_shown(const Rows& rows, const Rows& answers) {
    const std::vector<Span> words = whole_words(task_.words, support_);
    for (const Span& span : words) {
        const std::vector<char> allowed = recorded_over(word_, span, rows, answers);
        if (allowed.empty() || std::count(allowed.begin(), allowed.end(), 0) > 0)
            continue;
        over_ = span;
        for (const Span& other : words)
            for (const bool subtract : {true, false})
                if (other.first != span.first && other.width <= span.width &&
                    shown_with(other, subtract, rows, answers)) {
                    changed_by_ = other;
                    subtracted_ = subtract;
                    return true;
                }
    }
    return false;
}

// All steps of all rows, asked one after the other.
bool Fold::shown_with(const Span& other, bool subtract, const Rows& rows, const Rows& answers) {
    const Word mask = low_bits(static_cast<std::size_t>(over_.width));
    std::vector<Word> states(rows.size());
    Rows asked = rows, got;
    for (int bit = over_.width; bit-- > 0;) {
        for (std::size_t row = 0; row < rows.size(); ++row) {
            states[row] = (states[row] << 1 | (value(rows[row]) >> bit & 1)) & mask;
            set_value(asked[row], states[row]);
        }
        word_.ask(asked, got);
        for (std::size_t row = 0; row < rows.size(); ++row) {
            if ((got[row][0] != 0) != (answers[row][0] >> bit & 1))
                return false;
            const Word change = got[row][0] ? get_bits(rows[row], other.first, other.width) : 0;
            states[row] = (subtract ? states[row] - change : states[row] + change) & mask;
        }
    }
    return true;
}

std::optional<Circuit> Fold::learn_shown() {
    NonZeroQuestion flag(word_);
    RegionTask task = step_task(task_);
    const RegionResult shown = learn_simple(flag, task);
    if (!shown.solved())
        return std::nullopt;
    Strash gates(word_.input_bits());
    const Lit one = gates.place(shown.circuit.gates, shown.circuit.outputs)[0];
    Form form(Arithmetic{Group::sum, outputs_});
    std::vector<Lit> x;
    for (std::size_t bit = 0; bit < outputs_; ++bit) {
        x.push_back(lit_of(1 + static_cast<std::size_t>(over_.first) + bit));
        form.add(x[bit], Value{1} << bit, over_.first);
    }
    for (int bit = 0; bit < changed_by_.width; ++bit) {
        const Word weight = Word{1} << bit;
        form.add(lit_of(1 + static_cast<std::size_t>(changed_by_.first + bit)),
                 (subtracted_ ? Word{0} - weight : weight) & low_bits(outputs_), changed_by_.first);
    }
    const std::vector<Lit> changed = emit(gates, form, false);
    Circuit step;
    for (std::size_t bit = 0; bit < outputs_; ++bit)
        step.outputs.push_back(gates.mux(one, changed[bit], x[bit]));
    step.outputs.push_back(one);
    step.gates = std::move(gates.aig.gates);
    return repeated(step, 1);
}

std::vector<char> folds_over(Question& word, const Span& span, const Rows& rows, const Rows& answers) {
    const std::size_t outputs = word.outputs();
    if (span.width > kMostBits || span.width < static_cast<int>(outputs))
        return {};
    const Word mask = low_bits(outputs);
    Rows asked = rows, above, got, zero = rows, none;
    for (std::size_t row = 0; row < rows.size(); ++row) {
        set_bits(asked[row], span.first, span.width, get_bits(rows[row], span.first, span.width) >> 1);
        set_bits(zero[row], span.first, span.width, 0);
    }
    word.ask(asked, above);
    word.ask(zero, none);
    std::vector<char> allowed(rows.size());
    for (std::size_t row = 0; row < rows.size(); ++row) {
        const Word state = above[row][0] & mask;
        allowed[row] = span.width == 64 || !(state >> (span.width - 1));
        set_bits(asked[row], span.first, span.width, state << 1 | (get_bits(rows[row], span.first, 1)));
    }
    word.ask(asked, got);
    for (std::size_t row = 0; row < rows.size(); ++row)
        allowed[row] = allowed[row] && (none[row][0] & mask) == 0 && !((got[row][0] ^ answers[row][0]) & mask);
    return allowed;
}

std::vector<char> recorded_over(Question& word, const Span& span, const Rows& rows, const Rows& answers) {
    if (span.width > kMostBits || static_cast<std::size_t>(span.width) != word.outputs())
        return {};
    Rows above = rows, got;
    for (std::size_t row = 0; row < rows.size(); ++row)
        set_bits(above[row], span.first, span.width, get_bits(rows[row], span.first, span.width) >> 1);
    word.ask(above, got);
    const Word upper = low_bits(static_cast<std::size_t>(span.width) - 1);
    std::vector<char> allowed(rows.size());
    for (std::size_t row = 0; row < rows.size(); ++row)
        allowed[row] = (got[row][0] & upper) == (answers[row][0] >> 1 & upper);
    return allowed;
}

} // namespace tapeout::circuit
