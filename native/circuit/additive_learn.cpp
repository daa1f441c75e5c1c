// Learning what each additive input adds, once it is known which inputs are: see additive.h.

#include "circuit/additive.h"
#include "circuit/evaluate.h"

#include <algorithm>
#include <bit>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kHolds = 1024; // rows in which the inputs have to be additive before more is learned
constexpr std::size_t kParts = 2, kPartTests = 256;

int trailing_zeros(Value value) {
    const auto low = static_cast<Word>(value);
    return low ? std::countr_zero(low) : 64 + std::countr_zero(static_cast<Word>(value >> 64));
}

// The inverse of an odd number modulo 2^128, by Newton's iteration.
Value inverse(Value odd) {
    Value result = odd; // right modulo 8
    for (int bits = 3; bits < 128; bits *= 2)
        result *= 2 - odd * result;
    return result;
}

} // namespace

// Contributions that are multiples of one of them, over the integers; shifted ones under exclusive or. Constant ones
// join `constants`.
std::vector<std::vector<Additive::Factor>> Additive::classes(const Set& set, const std::vector<Values>& differences,
                                                             Form& constants) const {
    std::vector<std::size_t> left;
    for (std::size_t k = 0; k < set.size(); ++k) {
        const Values& d = differences[k];
        const int bit = support_[static_cast<std::size_t>(set[k])];
        if (std::all_of(d.begin(), d.end(), [&](Value value) { return value == d[0]; }))
            constants.add(lit_of(1 + static_cast<std::size_t>(bit)), d[0], bit);
        else
            left.push_back(k);
    }
    std::vector<std::vector<Factor>> result;
    const Value all = arithmetic_.all();
    while (!left.empty()) {
        std::size_t reference = left[0], row = 0;
        int lowest = static_cast<int>(kValueBits);
        for (const std::size_t k : left)
            for (std::size_t r = 0; r < differences[k].size(); ++r)
                if (differences[k][r] && trailing_zeros(differences[k][r]) < lowest) {
                    lowest = trailing_zeros(differences[k][r]);
                    reference = k;
                    row = r;
                }
        const Values& of = differences[reference];
        const std::size_t known = arithmetic_.width - static_cast<std::size_t>(lowest);
        const Value factors = known >= kValueBits ? ~Value{0} : (Value{1} << known) - 1;
        const Value inverted = inverse(of[row] >> lowest);
        auto& members = result.emplace_back();
        members.push_back({set[reference], 1});
        std::vector<std::size_t> others;
        for (const std::size_t k : left) {
            if (k == reference)
                continue;
            const Values& d = differences[k];
            Value factor = (d[row] >> lowest) * inverted & factors;
            if (arithmetic_.group == Group::exclusive)
                factor = d[row] ? Value{1} << (trailing_zeros(d[row]) - lowest) : 0;
            else if (factor >> (known - 1) & 1)
                factor -= Value{1} << known; // the shorter one of the two with the same effect
            bool same = true;
            for (std::size_t r = 0; r < d.size() && same; ++r)
                same = d[r] == (of[r] * factor & all);
            if (same)
                members.push_back({set[k], factor});
            else
                others.push_back(k);
        }
        left = std::move(others);
    }
    return result;
}

std::optional<Form> Additive::solve(Strash& gates, Question& part, const Set& rest, const Learner& learner,
                                    bool whole) {
    std::vector<int> support;
    Rows flipped, before, after;
    part.ask(rows_, before);
    RegionTask task = task_;
    task.hints = Rows(question_.input_width(), 0);
    task.seed = mix(task_.seed + 0xadd);
    task.tests = std::max<std::size_t>(kPartTests, task.tests / 8); // the whole is verified in the end
    for (const int input : rest) {
        const int bit = support_[static_cast<std::size_t>(input)];
        flipped = rows_;
        for (std::size_t row = 0; row < flipped.size(); ++row)
            flip_bit(flipped[row], static_cast<std::size_t>(bit));
        part.ask(flipped, after);
        if (!std::equal(before.data(), before.data() + before.size() * before.width(), after.data()))
            support.push_back(bit);
    }
    Additive inner(part, task, support, rows_, false);
    if (auto form = inner.constants())
        return form->arithmetic().group == arithmetic_.group
                   ? form
                   : std::optional<Form>(Form(arithmetic_, emit(gates, *form, false), whole));
    task.most_queries = most_queries_;
    if (++parts_ > kParts)
        return std::nullopt;
    const RegionResult learned = learner(part, task);
    if (learned.split >= 0 || learned.circuit.outputs.size() != arithmetic_.width)
        return std::nullopt;
    return Form(arithmetic_, gates.place(learned.circuit.gates, learned.circuit.outputs), whole);
}

std::vector<Word> Additive::bits_of(const Set& set) const {
    std::vector<Word> bits(question_.input_width());
    for (const int input : set)
        set_bit(bits.data(), static_cast<std::size_t>(support_[static_cast<std::size_t>(input)]), true);
    return bits;
}

// Whether each row's word is the sum of what each input of the set adds alone.
bool Additive::holds(const Set& set, const Rows& rows) {
    const std::vector<Word> clear = bits_of(set);
    Rows answers;
    question_.ask(rows, answers);
    const Values whole = values(answers);
    ContributionQuestion(question_, arithmetic_.group, clear, -1).ask(rows, answers);
    Values total = values(answers);
    for (const int input : set) {
        const int bit = support_[static_cast<std::size_t>(input)];
        ContributionQuestion(question_, arithmetic_.group, clear, bit).ask(rows, answers);
        const Values added = values(answers);
        for (std::size_t row = 0; row < rows.size(); ++row)
            if (get_bit(rows[row], static_cast<std::size_t>(bit)))
                total[row] = arithmetic_.add(total[row], added[row]);
    }
    return total == whole;
}

std::optional<Form> Additive::decompose(Strash& gates, const Set& set, const Learner& learner) {
    if (set.size() == support_.size())
        return constants();
    const std::vector<Word> clear = bits_of(set);
    Set rest;
    for (int input = 0; input < static_cast<int>(support_.size()); ++input)
        if (!std::binary_search(set.begin(), set.end(), input))
            rest.push_back(input);
    std::vector<Values> differences;
    Rows answers;
    for (const int input : set) {
        ContributionQuestion(question_, arithmetic_.group, clear, support_[static_cast<std::size_t>(input)])
            .ask(rows_, answers);
        differences.push_back(values(answers));
    }
    Form form(arithmetic_);
    for (const auto& members : classes(set, differences, form)) {
        ContributionQuestion part(question_, arithmetic_.group, clear,
                                  support_[static_cast<std::size_t>(members[0].input)]);
        auto factor = solve(gates, part, rest, learner, members.size() == 1);
        if (!factor)
            return std::nullopt;
        if (members.size() > 1 && factor->digits() > factor->columns())
            factor = Form(arithmetic_, emit(gates, *factor, false), false);
        for (const auto& [input, multiple] : members) {
            const int bit = support_[static_cast<std::size_t>(input)];
            form.add_product(gates, *factor, multiple, lit_of(1 + static_cast<std::size_t>(bit)), bit);
        }
    }
    ContributionQuestion left(question_, arithmetic_.group, clear, -1);
    left.ask(rows_, answers);
    const Values at_zero = values(answers);
    if (std::all_of(at_zero.begin(), at_zero.end(), [&](Value value) { return value == at_zero[0]; })) {
        form.add_constant(at_zero[0]);
        return form;
    }
    const auto base = solve(gates, left, rest, learner, true);
    if (!base)
        return std::nullopt;
    form.add_product(gates, *base, 1, Lit{1}, -1);
    return form;
}

std::optional<Circuit> Additive::learn(const Learner& learner, const Draw& draw, Word most_queries) {
    most_queries_ = most_queries;
    Rows rows;
    draw(rows, kHolds);
    std::erase_if(sets_, [&](const Set& set) { return !holds(set, rows); });
    Strash known(question_.input_bits());
    for (const auto& circuit : task_.known)
        known.place(circuit);
    std::optional<Circuit> best;
    std::size_t least = 0;
    for (const Set& set : sets_) {
        Strash gates(question_.input_bits());
        parts_ = 0;
        const auto form = decompose(gates, set, learner);
        if (!form)
            continue;
        for (const bool shared : {false, true}) {
            if (shared && task_.known.empty())
                continue;
            Strash made = gates, all = known;
            Circuit circuit;
            circuit.outputs = emit(made, *form, shared, &circuit.sum);
            circuit.gates = std::move(made.aig.gates);
            all.place(circuit.gates);
            if (!best || all.aig.gates.size() < least) {
                best = std::move(circuit);
                least = all.aig.gates.size();
            }
        }
    }
    return best;
}

Rows refute(Question& question, const Circuit& circuit, const Draw& draw, std::size_t count, std::size_t most) {
    constexpr std::size_t kBatch = 4096;
    Aig aig;
    aig.inputs = question.input_bits();
    aig.gates = circuit.gates;
    aig.outputs = circuit.outputs;
    const Evaluator evaluator(aig);
    Rows wrong(question.input_width(), 0), rows, answers;
    for (std::size_t start = 0; start < count && wrong.size() < most; start += kBatch) {
        draw(rows, kBatch);
        question.ask(rows, answers);
        Rows made(answers.width(), rows.size());
        evaluator.run(rows.data(), made.data(), rows.size(), 1);
        for (std::size_t row = 0; row < rows.size() && wrong.size() < most; ++row)
            if (!std::equal(made[row], made[row] + made.width(), answers[row]))
                wrong.push(rows[row]);
    }
    return wrong;
}

} // namespace tapeout::circuit
