#include "circuit/additive.h"

#include "circuit/evaluate.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kFirst = 8, kRows = 48; // rows all pairs are measured in; and those of one set
constexpr std::size_t kInputs = 512;          // more have too many pairs
constexpr std::size_t kSets = 2, kAttempts = 6;
constexpr std::size_t kHolds = 1024; // rows in which the inputs have to be additive before more is learned
constexpr std::size_t kParts = 2, kPartTests = 256;
constexpr std::size_t kDegree = 8; // other inputs that a contribution depends on, where diagrams are large
constexpr std::size_t kStrong = 8;
constexpr std::size_t kGatesPerPair = 12, kGatesPerBit = 64;
constexpr std::size_t kMoreCarried = 5; // quarters of the exact set's size
constexpr std::size_t kCarried = 4;     // narrower words are never off by more than one

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

// Literals of a circuit's variables in another graph of the same inputs, where its gates are made.
std::vector<Lit> copy_gates(Strash& into, const std::vector<Gate>& gates) {
    std::vector<Lit> made;
    for (std::size_t variable = 0; variable < into.aig.first_gate(); ++variable)
        made.push_back(lit_of(variable));
    for (const Gate& gate : gates)
        made.push_back(into.and_(made[gate.a / 2] ^ (gate.a & 1), made[gate.b / 2] ^ (gate.b & 1)));
    return made;
}

} // namespace

Value to_value(const Word* row, std::size_t width) {
    Value value = row[0];
    if (width > 64)
        value |= Value{row[1]} << 64;
    return value;
}

void from_value(Value value, Word* row, std::size_t width) {
    row[0] = static_cast<Word>(value);
    if (width > 64)
        row[1] = static_cast<Word>(value >> 64);
}

ContributionQuestion::ContributionQuestion(Question& word, Group group, std::vector<Word> clear, int input)
    : Question(word), word_(word), arithmetic_{group, word.outputs()}, clear_(std::move(clear)), input_(input) {
    queries_ = 0;
}

void ContributionQuestion::ask(const Rows& rows, Rows& answers) {
    const std::size_t count = rows.size(), wide = word_.width();
    asked_ = Rows(rows.width(), input_ < 0 ? count : 2 * count);
    for (std::size_t row = 0; row < count; ++row) {
        for (std::size_t w = 0; w < rows.width(); ++w)
            asked_[row][w] = rows[row][w] & ~clear_[w];
        if (input_ < 0)
            continue;
        std::copy_n(asked_[row], rows.width(), asked_[count + row]);
        set_bit(asked_[count + row], static_cast<std::size_t>(input_), true);
    }
    word_.ask(asked_, got_);
    queries_ += asked_.size();
    if (answers.width() != wide || answers.size() != count)
        answers = Rows(wide, count);
    for (std::size_t row = 0; row < count; ++row) {
        Value value = to_value(got_[row], arithmetic_.width);
        if (input_ >= 0)
            value = arithmetic_.subtract(to_value(got_[count + row], arithmetic_.width), value);
        from_value(value, answers[row], arithmetic_.width);
    }
}

Additive::Additive(Question& question, const RegionTask& task, std::vector<int> support, const Rows& rows,
                   bool thorough)
    : question_(question), task_(task), support_(std::move(support)), arithmetic_{Group::sum, question.outputs()},
      thorough_(thorough) {
    const std::size_t n = support_.size();
    if (n < 2 || n > kInputs || arithmetic_.width > kValueBits)
        return;
    draw_rows(rows);
    pairs_.sum.resize(n * n);
    pairs_.exclusive = pairs_.carry = measured_ = pairs_.sum;
    std::vector<std::pair<int, int>> all;
    for (int a = 0; a < static_cast<int>(n); ++a)
        for (int b = a + 1; b < static_cast<int>(n); ++b)
            all.emplace_back(a, b);
    measure(0, kFirst, all);
    sets_ = confirmed(&Pairs::sum);
    if (sets_.empty() || sets_[0].size() < n) {
        auto other = confirmed(&Pairs::exclusive);
        if (!other.empty() && (sets_.empty() || other[0].size() > sets_[0].size())) {
            sets_ = std::move(other);
            arithmetic_.group = Group::exclusive;
        }
    }
    const auto& edges = arithmetic_.group == Group::sum ? pairs_.sum : pairs_.exclusive;
    strong_ = !sets_.empty() && strong(edges, sets_[0]);
    if (arithmetic_.width < kCarried || (!sets_.empty() && sets_[0].size() == n))
        return;
    const auto nearly = confirmed(&Pairs::carry);
    carried_ = !nearly.empty() && strong(pairs_.carry, nearly[0]) &&
               (sets_.empty() || nearly[0].size() > kMoreCarried * sets_[0].size() / 4);
}

// Lively and uniform rows by turns.
void Additive::draw_rows(const Rows& lively) {
    const std::size_t n = support_.size(), wide = question_.input_width();
    Random random(task_.seed ^ 0xadd171f3);
    rows_ = Rows(wide, kRows);
    const std::size_t used = question_.input_bits() % 64;
    for (std::size_t row = 0; row < kRows; ++row) {
        if (row % 2 && lively.size()) {
            std::copy_n(lively[row / 2 % lively.size()], wide, rows_[row]);
            continue;
        }
        for (std::size_t w = 0; w < wide; ++w)
            rows_[row][w] = (random.word() & ~task_.mask[w]) | task_.value[w];
        if (used)
            rows_[row][wide - 1] &= (Word{1} << used) - 1;
    }
    Rows answers, changed;
    question_.ask(rows_, answers);
    base_ = values(answers);
    for (std::size_t i = 0; i < n; ++i) {
        changed = rows_;
        for (std::size_t row = 0; row < kRows; ++row)
            flip_bit(changed[row], static_cast<std::size_t>(support_[i]));
        question_.ask(changed, answers);
        flipped_.push_back(values(answers));
    }
}

Additive::Values Additive::values(const Rows& answers) const {
    Values result(answers.size());
    for (std::size_t row = 0; row < answers.size(); ++row)
        result[row] = to_value(answers[row], arithmetic_.width);
    return result;
}

void Additive::measure(std::size_t first, std::size_t last, const std::vector<std::pair<int, int>>& pairs) {
    const std::size_t n = support_.size();
    const Value all = arithmetic_.all();
    Rows asked(rows_.width(), pairs.size()), got;
    for (std::size_t row = first; row < last; ++row) {
        for (std::size_t p = 0; p < pairs.size(); ++p) {
            std::copy_n(rows_[row], rows_.width(), asked[p]);
            flip_bit(asked[p], static_cast<std::size_t>(support_[static_cast<std::size_t>(pairs[p].first)]));
            flip_bit(asked[p], static_cast<std::size_t>(support_[static_cast<std::size_t>(pairs[p].second)]));
        }
        question_.ask(asked, got);
        for (std::size_t p = 0; p < pairs.size(); ++p) {
            const auto a = static_cast<std::size_t>(pairs[p].first), b = static_cast<std::size_t>(pairs[p].second);
            const Value both = to_value(got[p], arithmetic_.width), x = flipped_[a][row], y = flipped_[b][row];
            const Value second = (both - x - y + base_[row]) & all;
            const std::size_t ab = a * n + b, ba = b * n + a;
            if (second)
                pairs_.sum[ab] = pairs_.sum[ba] = 1;
            if (second > 1 && second != all)
                pairs_.carry[ab] = pairs_.carry[ba] = 1;
            if (both ^ x ^ y ^ base_[row])
                pairs_.exclusive[ab] = pairs_.exclusive[ba] = 1;
        }
    }
}

// The inputs of `first` that have no edges between them, then others, those with few edges first.
Additive::Set Additive::extend(const std::vector<char>& edges, const std::vector<int>& first) const {
    const std::size_t n = support_.size();
    Set set;
    std::vector<char> open(n, 1);
    const auto take = [&](std::size_t input) {
        set.push_back(static_cast<int>(input));
        open[input] = 0;
        for (std::size_t other = 0; other < n; ++other)
            open[other] = open[other] && !edges[input * n + other];
    };
    for (const int input : first)
        if (open[static_cast<std::size_t>(input)])
            take(static_cast<std::size_t>(input));
    while (true) {
        std::size_t best = n, least = n;
        for (std::size_t input = 0; input < n; ++input) {
            if (!open[input])
                continue;
            std::size_t count = 0;
            for (std::size_t other = 0; other < n; ++other)
                count += open[other] && edges[input * n + other];
            if (count < least) {
                least = count;
                best = input;
            }
        }
        if (best == n)
            break;
        take(best);
    }
    std::sort(set.begin(), set.end());
    return set;
}

// Large sets without edges: from each input word, and from nothing.
std::vector<Additive::Set> Additive::independent(const std::vector<char>& edges) const {
    std::vector<Set> sets;
    for (const Span& span : task_.words) {
        std::vector<int> first;
        for (std::size_t i = 0; i < support_.size(); ++i)
            if (support_[i] >= span.first && support_[i] < span.first + span.width)
                first.push_back(static_cast<int>(i));
        if (first.size() > 1)
            sets.push_back(extend(edges, first));
    }
    sets.push_back(extend(edges, {}));
    std::stable_sort(sets.begin(), sets.end(), [](const Set& a, const Set& b) { return a.size() > b.size(); });
    std::vector<Set> distinct;
    for (Set& set : sets)
        if (set.size() > 1 && distinct.size() < kSets && !std::count(distinct.begin(), distinct.end(), set))
            distinct.push_back(std::move(set));
    return distinct;
}

// Sets in which all pairs were measured in all rows. An edge that shows late changes what is proposed next; in the end
// those without edges are left.
std::vector<Additive::Set> Additive::confirmed(std::vector<char> Pairs::* edges) {
    const std::size_t n = support_.size();
    std::vector<Set> sets;
    for (std::size_t attempt = 0; attempt < kAttempts; ++attempt) {
        sets = independent(pairs_.*edges);
        const bool promising = std::any_of(sets.begin(), sets.end(), [&](const Set& set) {
            return thorough_ || set.size() == n ||
                   strong(pairs_.*edges, set);
        });
        if (!promising)
            return {};
        std::vector<std::pair<int, int>> fresh;
        for (const Set& set : sets)
            for (std::size_t i = 0; i < set.size(); ++i)
                for (std::size_t k = i + 1; k < set.size(); ++k) {
                    char& seen = measured_[static_cast<std::size_t>(set[i]) * n + static_cast<std::size_t>(set[k])];
                    if (!seen)
                        fresh.emplace_back(set[i], set[k]);
                    seen = 1;
                }
        measure(kFirst, kRows, fresh);
        const auto refuted = std::erase_if(sets, [&](const Set& set) {
            return std::any_of(set.begin(), set.end(), [&](int a) {
                return std::any_of(set.begin(), set.end(), [&](int b) {
                    return (pairs_.*edges)[static_cast<std::size_t>(a) * n + static_cast<std::size_t>(b)];
                });
            });
        });
        if (refuted == 0)
            break;
    }
    return sets;
}

std::size_t Additive::degree(const std::vector<char>& edges, int input) const {
    const auto first = edges.begin() + input * static_cast<std::ptrdiff_t>(support_.size());
    return static_cast<std::size_t>(std::count(first, first + static_cast<std::ptrdiff_t>(support_.size()), 1));
}

// Whether many of the set have many others outside of it that decide about what they add.
bool Additive::strong(const std::vector<char>& edges, const Set& set) const {
    std::vector<char> inside(support_.size());
    for (const int input : set)
        inside[static_cast<std::size_t>(input)] = 1;
    return std::count_if(set.begin(), set.end(), [&](int input) {
               std::size_t count = 0;
               for (std::size_t other = 0; other < support_.size(); ++other)
                   count += !inside[other] && edges[static_cast<std::size_t>(input) * support_.size() + other];
               return count >= kDegree;
           }) >= static_cast<std::ptrdiff_t>(kStrong);
}

bool Additive::large(std::size_t gates) const {
    std::size_t pairs = 0;
    for (const int input : sets_[0])
        pairs += degree(arithmetic_.group == Group::sum ? pairs_.sum : pairs_.exclusive, input);
    return gates > kGatesPerPair * pairs + kGatesPerBit * (support_.size() + arithmetic_.width);
}

std::optional<Form> Additive::constants() {
    Form form(arithmetic_);
    if (!support_.empty() && (sets_.empty() || sets_[0].size() < support_.size()))
        return std::nullopt;
    const std::size_t wide = question_.input_width();
    Rows asked(wide, support_.size() + 1), answers;
    for (std::size_t row = 0; row < asked.size(); ++row) {
        for (std::size_t w = 0; w < wide; ++w)
            asked[row][w] = task_.value[w];
        if (row)
            set_bit(asked[row], static_cast<std::size_t>(support_[row - 1]), true);
    }
    question_.ask(asked, answers);
    const Values found = values(answers);
    form.add_constant(found[0]);
    for (std::size_t i = 0; i < support_.size(); ++i)
        form.add(lit_of(1 + static_cast<std::size_t>(support_[i])), arithmetic_.subtract(found[i + 1], found[0]),
                 support_[i]);
    return form;
}

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
    if (learned.split >= 0 || learned.outputs.size() != arithmetic_.width)
        return std::nullopt;
    const std::vector<Lit> made = copy_gates(gates, learned.fanins);
    std::vector<Lit> word;
    for (const Lit output : learned.outputs)
        word.push_back(made[output / 2] ^ (output & 1));
    return Form(arithmetic_, word, whole);
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

std::optional<SumCircuit> Additive::learn(const Learner& learner, const Draw& draw, Word most_queries) {
    most_queries_ = most_queries;
    Rows rows;
    draw(rows, kHolds);
    std::erase_if(sets_, [&](const Set& set) { return !holds(set, rows); });
    Strash known(question_.input_bits());
    for (const auto& circuit : task_.known)
        copy_gates(known, circuit);
    std::optional<SumCircuit> best;
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
            SumCircuit circuit;
            circuit.outputs = emit(made, *form, shared, &circuit.trace);
            circuit.gates = std::move(made.aig.gates);
            copy_gates(all, circuit.gates);
            if (!best || all.aig.gates.size() < least) {
                best = std::move(circuit);
                least = all.aig.gates.size();
            }
        }
    }
    return best;
}

Rows refute(Question& question, const SumCircuit& circuit, const Draw& draw, std::size_t count, std::size_t most) {
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
