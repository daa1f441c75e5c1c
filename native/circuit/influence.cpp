#include "circuit/influence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tapeout::circuit {

namespace {

constexpr double kPartner = 0.2;    // share of changes undone that makes two bits partners
constexpr double kShare = 0.6;      // of the best partner's share
constexpr std::size_t kProbes = 16; // rows in which each bit's partners are looked for
constexpr std::size_t kCluster = 4, kUniversal = 8;
constexpr std::size_t kSplitProbes = 128, kLivelyProbes = 64; // rows a split is judged by, and how many of them lively

int popcount(const std::vector<Word>& words) {
    int count = 0;
    for (const Word word : words)
        count += std::popcount(word);
    return count;
}

// Per output bit: in which share of the rows it changes.
std::vector<double> shares(const std::vector<Word>& changes, std::size_t rows, std::size_t wide, std::size_t outputs) {
    std::vector<double> result(outputs);
    Word block[64];
    for (std::size_t start = 0; start < rows; start += 64)
        for (std::size_t w = 0; w < wide; ++w) {
            for (std::size_t k = 0; k < 64; ++k)
                block[k] = start + k < rows ? changes[(start + k) * wide + w] : 0;
            transpose64(block);
            for (std::size_t o = w * 64; o < std::min(outputs, w * 64 + 64); ++o)
                result[o] += std::popcount(block[o - w * 64]);
        }
    for (double& share : result)
        share /= static_cast<double>(rows);
    return result;
}

} // namespace

void Influence::extend(Question& question, const Rows& rows, const Rows& answers, const std::vector<int>& candidates) {
    const std::size_t wide = question.width(), count = rows.size();
    Influence before = std::move(*this);
    *this = {};
    Rows flipped, changed;
    for (const int bit : candidates) {
        const auto at = std::lower_bound(before.support.begin(), before.support.end(), bit);
        const bool known = at != before.support.end() && *at == bit;
        const std::size_t first = before.asked_.contains(bit) ? before.rows_ : 0;
        std::vector<Word> delta = known
                                      ? std::move(before.changes[static_cast<std::size_t>(at - before.support.begin())])
                                      : std::vector<Word>();
        delta.resize(count * wide);
        flipped = Rows(rows.width(), count - first);
        std::copy_n(rows[first], flipped.size() * rows.width(), flipped.data());
        for (std::size_t row = first; row < count; ++row)
            flip_bit(flipped[row - first], static_cast<std::size_t>(bit));
        question.ask(flipped, changed);
        for (std::size_t row = first; row < count; ++row)
            for (std::size_t w = 0; w < wide; ++w)
                delta[row * wide + w] = answers[row][w] ^ changed[row - first][w];
        std::vector<Word> seen(wide);
        std::size_t hits = 0;
        for (std::size_t row = 0; row < count; ++row) {
            Word any = 0;
            for (std::size_t w = 0; w < wide; ++w) {
                seen[w] |= delta[row * wide + w];
                any |= delta[row * wide + w];
            }
            hits += any != 0;
        }
        if (hits == 0)
            continue;
        support.push_back(bit);
        rate.push_back(static_cast<double>(hits) / static_cast<double>(count));
        strength.push_back(shares(delta, count, wide, question.outputs()));
        this->count.push_back(popcount(seen));
        outputs.push_back(std::move(seen));
        changes.push_back(std::move(delta));
    }
    asked_.insert(candidates.begin(), candidates.end());
    rows_ = count;
}

std::vector<std::size_t> liveliest_first(const Influence& influence, std::size_t rows, std::size_t wide) {
    std::vector<std::size_t> order(rows), activity(rows);
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t v = 0; v < influence.support.size(); ++v)
            activity[row] += influence.changed(v, row, wide);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return activity[a] > activity[b]; });
    return order;
}

std::vector<std::vector<int>> find_partners(Question& question, const Rows& rows, const Rows& answers,
                                            const Influence& influence) {
    const std::size_t n = influence.support.size(), wide = question.width();
    const auto changes = [&](std::size_t input, std::size_t row) { return influence.changed(input, row, wide); };
    const std::vector<std::size_t> lively = liveliest_first(influence, rows.size(), wide); // these say most
    std::vector<double> restored(n * n); // share of the rows in which both matter where flipping b undoes flipping a;
    // a comparison needs the wide sense of mattering: of two equal bits, only one can change the outcome at a time
    Rows asked(rows.width(), 0), got;
    for (std::size_t a = 0; a < n; ++a) {
        std::vector<std::size_t> probes, both(n), undone(n);
        for (std::size_t i = 0; i < lively.size() && probes.size() < kProbes; ++i)
            if (changes(a, lively[i]))
                probes.push_back(lively[i]);
        for (std::size_t row = a % 3; row < rows.size() && probes.size() < 2 * kProbes; row += 3) // and any rows
            if (changes(a, row))
                probes.push_back(row);
        asked.resize(probes.size() * n);
        for (std::size_t p = 0; p < probes.size(); ++p)
            for (std::size_t b = 0; b < n; ++b) {
                Word* row = asked[p * n + b];
                std::copy_n(rows[probes[p]], rows.width(), row);
                flip_bit(row, static_cast<std::size_t>(influence.support[a]));
                flip_bit(row, static_cast<std::size_t>(influence.support[b]));
            }
        question.ask(asked, got);
        for (std::size_t p = 0; p < probes.size(); ++p)
            for (std::size_t b = 0; b < n; ++b)
                if (b != a) { // b matters in the row, or in the row with a flipped
                    const Word* before = answers[probes[p]];
                    const Word* change = influence.changes[a].data() + probes[p] * wide;
                    const Word* after = got[p * n + b];
                    bool restores = true, matters = changes(b, probes[p]);
                    for (std::size_t w = 0; w < wide; ++w) {
                        restores = restores && after[w] == before[w];
                        matters = matters || after[w] != (before[w] ^ change[w]);
                    }
                    both[b] += matters;
                    undone[b] += restores;
                }
        for (std::size_t b = 0; b < n; ++b)
            restored[a * n + b] = static_cast<double>(undone[b]) / (static_cast<double>(both[b]) + 0.5);
    }
    const auto mutual = [&](int a, int b) {
        return std::min(restored[static_cast<std::size_t>(a) * n + static_cast<std::size_t>(b)],
                        restored[static_cast<std::size_t>(b) * n + static_cast<std::size_t>(a)]);
    };
    std::vector<double> best(n); // of each bit: a partner much worse than the best one is chance
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b < n; ++b)
            best[a] = std::max(best[a], mutual(static_cast<int>(a), static_cast<int>(b)));
    const auto partners = [&](int a, int b) {
        return mutual(a, b) > std::max(kPartner, kShare * std::max(best[static_cast<std::size_t>(a)],
                                                                   best[static_cast<std::size_t>(b)]));
    };
    // What undoes everything (an input that inverts the outcome) is nobody's partner.
    std::vector<bool> universal(n);
    for (int a = 0; a < static_cast<int>(n); ++a) {
        std::size_t count = 0;
        for (int b = 0; b < static_cast<int>(n); ++b)
            count += b != a && mutual(a, b) > kPartner;
        universal[static_cast<std::size_t>(a)] = count > kUniversal && 2 * count > n / 2;
    }
    struct Pair {
        double score;
        int a, b;
    };
    std::vector<Pair> pairs;
    for (int a = 0; a < static_cast<int>(n); ++a)
        for (int b = a + 1; b < static_cast<int>(n); ++b)
            if (partners(a, b) && !universal[static_cast<std::size_t>(a)] && !universal[static_cast<std::size_t>(b)])
                pairs.push_back({mutual(a, b), a, b});
    std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& x, const Pair& y) { return x.score > y.score; });
    std::vector<int> of(n);
    std::iota(of.begin(), of.end(), 0);
    std::vector<std::vector<int>> clusters(n);
    for (std::size_t i = 0; i < n; ++i)
        clusters[i] = {static_cast<int>(i)};
    for (const Pair& pair : pairs) {
        auto& left = clusters[static_cast<std::size_t>(of[static_cast<std::size_t>(pair.a)])];
        auto& right = clusters[static_cast<std::size_t>(of[static_cast<std::size_t>(pair.b)])];
        if (&left == &right || left.size() + right.size() > kCluster)
            continue;
        const bool all = std::all_of(left.begin(), left.end(), [&](int a) {
            return std::all_of(right.begin(), right.end(), [&](int b) { return partners(a, b); });
        });
        if (!all)
            continue;
        const int home = of[static_cast<std::size_t>(pair.a)];
        for (const int b : right)
            of[static_cast<std::size_t>(b)] = home;
        left.insert(left.end(), right.begin(), right.end());
        right.clear();
    }
    // An operand that comes from one of two words has a partner in each, and these know nothing of each other.
    for (const Pair& pair : pairs)
        for (const auto& [single, other] : {std::pair(pair.a, pair.b), std::pair(pair.b, pair.a)}) {
            auto& from = clusters[static_cast<std::size_t>(of[static_cast<std::size_t>(single)])];
            auto& to = clusters[static_cast<std::size_t>(of[static_cast<std::size_t>(other)])];
            if (from.size() != 1 || to.size() < 2 || to.size() >= kCluster)
                continue;
            of[static_cast<std::size_t>(single)] = of[static_cast<std::size_t>(other)];
            to.push_back(single);
            from.clear();
        }
    std::erase_if(clusters, [](const auto& cluster) { return cluster.empty(); });
    return clusters;
}

namespace {

// Every probe with `input` flipped, together with each of the support: row p * n + u, of which u = input is flipped
// alone.
void ask_flipped(Question& question, const Rows& rows, const std::vector<std::size_t>& probes,
                 const Influence& influence, std::size_t input, Rows& asked, Rows& got) {
    const std::size_t n = influence.support.size();
    for (std::size_t p = 0; p < probes.size(); ++p)
        for (std::size_t u = 0; u < n; ++u) {
            Word* row = asked[p * n + u];
            std::copy_n(rows[probes[p]], rows.width(), row);
            flip_bit(row, static_cast<std::size_t>(influence.support[input]));
            if (u != input)
                flip_bit(row, static_cast<std::size_t>(influence.support[u]));
        }
    question.ask(asked, got);
}

} // namespace

std::vector<double> interplay(Question& question, const Rows& rows, const Influence& influence, std::size_t input,
                              std::size_t most) {
    const std::size_t n = influence.support.size(), wide = question.width();
    std::vector<std::size_t> probes;
    std::vector<double> result(n);
    for (std::size_t i = 0; i < rows.size() && probes.size() < most; ++i)
        if (influence.changed(input, i, wide))
            probes.push_back(i);
    Rows asked(rows.width(), probes.size() * n), got;
    ask_flipped(question, rows, probes, influence, input, asked, got);
    for (std::size_t p = 0; p < probes.size(); ++p)
        for (std::size_t u = 0; u < n; ++u)
            if (u != input) {
                const bool after = !std::equal(got[p * n + u], got[p * n + u] + wide, got[p * n + input]);
                result[u] += after != influence.changed(u, probes[p], wide);
            }
    for (double& share : result)
        share /= static_cast<double>(probes.size());
    return result;
}

namespace {

void count_bits(const Word* changes, std::size_t wide, std::uint32_t* seen) {
    for (std::size_t w = 0; w < wide; ++w)
        for (Word left = changes[w]; left; left &= left - 1)
            ++seen[w * 64 + static_cast<std::size_t>(std::countr_zero(left))];
}

// What is seen in some rows of one half: per input and output, in how many of them it matters.
struct Seen {
    std::vector<std::uint32_t> counts;
    std::size_t rows = 0;
    explicit Seen(std::size_t size) : counts(size) {}
    // How much is left to know: dependencies, rare ones nearly in full.
    double left() const {
        double sum = 0;
        for (const std::uint32_t count : counts)
            sum += std::sqrt(std::sqrt(static_cast<double>(count)));
        return rows ? sum / std::sqrt(std::sqrt(static_cast<double>(rows))) : 0;
    }
};

// What two halves leave to be known, as a share of twice what is seen in both together.
double share_left(const Seen& zero, const Seen& one) {
    Seen both = zero;
    both.rows += one.rows;
    for (std::size_t i = 0; i < both.counts.size(); ++i)
        both.counts[i] += one.counts[i];
    return (zero.left() + one.left()) / (2 * both.left() + 1e-9);
}

// Of the liveliest rows in which the input is `value`.
Seen liveliest(const Rows& rows, const std::vector<std::size_t>& order, const Influence& influence, std::size_t input,
               bool value, std::size_t wide) {
    const std::size_t n = influence.support.size();
    Seen seen(n * wide * 64);
    for (std::size_t i = 0; i < order.size() && seen.rows < kLivelyProbes; ++i) {
        if (get_bit(rows[order[i]], static_cast<std::size_t>(influence.support[input])) != value)
            continue;
        ++seen.rows;
        for (std::size_t u = 0; u < n; ++u)
            if (u != input)
                count_bits(influence.changes[u].data() + order[i] * wide, wide, &seen.counts[u * wide * 64]);
    }
    return seen;
}

} // namespace

std::vector<Split> rank_splits(Question& question, const Rows& rows, const Influence& influence) {
    const std::size_t n = influence.support.size(), wide = question.width(), outputs = wide * 64;
    const std::vector<std::size_t> order = liveliest_first(influence, rows.size(), wide);
    std::vector<std::size_t> probes(order.begin(),
                                    order.begin() + static_cast<std::ptrdiff_t>(std::min(kLivelyProbes, order.size())));
    for (std::size_t row = 0; row < rows.size() && probes.size() < kSplitProbes; row += 1 + rows.size() / kSplitProbes)
        probes.push_back(row);
    Rows asked(rows.width(), probes.size() * n), got;
    std::vector<Word> change(wide);
    std::vector<Split> splits;
    for (std::size_t c = 0; c < n; ++c) {
        ask_flipped(question, rows, probes, influence, c, asked, got);
        Seen seen[2] = {Seen(n * outputs), Seen(n * outputs)};
        for (std::size_t p = 0; p < probes.size(); ++p) {
            const bool one = get_bit(rows[probes[p]], static_cast<std::size_t>(influence.support[c]));
            for (std::size_t u = 0; u < n; ++u) {
                if (u == c)
                    continue;
                count_bits(influence.changes[u].data() + probes[p] * wide, wide, &seen[one].counts[u * outputs]);
                for (std::size_t w = 0; w < wide; ++w)
                    change[w] = got[p * n + u][w] ^ got[p * n + c][w];
                count_bits(change.data(), wide, &seen[!one].counts[u * outputs]);
            }
        }
        seen[0].rows = seen[1].rows = probes.size();
        // Rows that were picked for being lively die of any change to the operands of a comparison: so the liveliest
        // of each half have to agree.
        splits.push_back(
            {influence.support[c],
             std::max(share_left(seen[0], seen[1]), share_left(liveliest(rows, order, influence, c, false, wide),
                                                               liveliest(rows, order, influence, c, true, wide)))});
    }
    std::stable_sort(splits.begin(), splits.end(), [](const Split& a, const Split& b) { return a.left < b.left; });
    return splits;
}

} // namespace tapeout::circuit
