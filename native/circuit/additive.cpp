#include "circuit/additive.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kFirst = 8, kRows = 48; // rows all pairs are measured in; and those of one set
constexpr std::size_t kInputs = 512;          // more have too many pairs
constexpr std::size_t kSets = 2, kAttempts = 6;
constexpr std::size_t kDegree = 6; // other inputs that a contribution depends on, where diagrams are large
constexpr std::size_t kStrong = 8;
constexpr std::size_t kGatesPerPair = 12, kGatesPerBit = 64;
constexpr std::size_t kMoreCarried = 5; // quarters of what is exact in it
constexpr std::size_t kCarried = 4;     // narrower words are never off by more than one

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
    : DerivedQuestion(word), arithmetic_{group, word.outputs()}, clear_(std::move(clear)), input_(input) {}

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
    bool disjoint = false; // a sum without carries, as of a shift: diagrams are smaller
    if (sets_.empty() || sets_[0].size() < n) {
        auto other = confirmed(&Pairs::exclusive);
        disjoint = !sets_.empty() && !other.empty() && other[0].size() >= sets_[0].size();
        if (!other.empty() && (sets_.empty() || disjoint)) {
            sets_ = std::move(other);
            arithmetic_.group = Group::exclusive;
        }
    }
    const auto& edges = arithmetic_.group == Group::sum ? pairs_.sum : pairs_.exclusive;
    strong_ = !sets_.empty() && !disjoint && strong(edges, sets_[0]);
    if (arithmetic_.width < kCarried || (!sets_.empty() && sets_[0].size() == n))
        return;
    const auto nearly = confirmed(&Pairs::carry);
    carried_ = !nearly.empty() && strong(pairs_.carry, nearly[0]) &&
               nearly[0].size() > kMoreCarried * without_carries(nearly[0]) / 4;
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
// what is left of the sets has none.
std::vector<Additive::Set> Additive::confirmed(std::vector<char> Pairs::* edges) {
    const std::size_t n = support_.size();
    const auto promising = [&](const Set& set) {
        return set.size() > 1 && (thorough_ || set.size() == n || strong(pairs_.*edges, set));
    };
    std::vector<Set> sets;
    for (std::size_t attempt = 0; attempt < kAttempts; ++attempt) {
        sets = independent(pairs_.*edges);
        if (std::none_of(sets.begin(), sets.end(), promising))
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
        bool refuted = false;
        for (Set& set : sets)
            refuted = prune(pairs_.*edges, set) || refuted;
        if (!refuted)
            break;
    }
    std::erase_if(sets, [&](const Set& set) { return !promising(set); });
    std::stable_sort(sets.begin(), sets.end(), [](const Set& a, const Set& b) { return a.size() > b.size(); });
    return sets;
}

// Takes out those with most edges inside the set until there are none; whether there were.
bool Additive::prune(const std::vector<char>& edges, Set& set) const {
    for (bool pruned = false;; pruned = true) {
        std::size_t most = 0;
        auto worst = set.begin();
        for (auto at = set.begin(); at != set.end(); ++at) {
            const auto inside = static_cast<std::size_t>(std::count_if(set.begin(), set.end(), [&](int other) {
                return edges[static_cast<std::size_t>(*at) * support_.size() + static_cast<std::size_t>(other)];
            }));
            if (inside > most) {
                most = inside;
                worst = at;
            }
        }
        if (most == 0)
            return pruned;
        set.erase(worst);
    }
}

// How many of the set are additive together without being off by one. Outside of it there may be more: what adds
// nothing but carries is additive with everything in most rows.
std::size_t Additive::without_carries(const Set& set) const {
    Set exact;
    for (const int input : set)
        if (std::none_of(exact.begin(), exact.end(), [&](int other) {
                return pairs_.sum[static_cast<std::size_t>(input) * support_.size() + static_cast<std::size_t>(other)];
            }))
            exact.push_back(input);
    return exact.size();
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

} // namespace tapeout::circuit
