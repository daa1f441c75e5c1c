#include "circuit/resub.h"

#include <algorithm>
#include <bit>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kCovers = 40;   // literals of each kind that are combined
constexpr std::size_t kBranches = 2;  // of them that a larger replacement starts with
constexpr std::size_t kSelects = 40;  // divisors that are tried as a select or as a side of an XOR
constexpr std::size_t kKeptWords = 8; // patterns that are never replaced
constexpr Lit kNone = Strash::kNone;

std::uint32_t count(const Bits& bits) {
    std::uint32_t n = 0;
    for (const std::uint64_t word : bits)
        n += static_cast<std::uint32_t>(std::popcount(word));
    return n;
}

bool none(const Bits& bits) {
    return std::all_of(bits.begin(), bits.end(), [](std::uint64_t word) { return !word; });
}

template <typename Word>
Bits combine(Word word) {
    Bits out;
    for (std::size_t w = 0; w < kPatternWords; ++w)
        out[w] = word(w);
    return out;
}

} // namespace

PatternPool::PatternPool(std::size_t count, const std::vector<std::uint32_t>& widths, std::uint64_t seed)
    : patterns(count, widths, seed), inputs(count) {
    std::vector<Slot> slots(count);
    for (std::size_t w = 0; w < kPatternWords; w += kLaneWords) {
        patterns.structured(slots.data());
        for (std::size_t i = 0; i < count; ++i)
            std::copy_n(slots[i].words, kLaneWords, inputs[i].begin() + static_cast<std::ptrdiff_t>(w));
    }
}

std::size_t PatternPool::add(const std::vector<std::int8_t>& known) {
    std::vector<Slot> slots(inputs.size());
    patterns.near(known, slots.data());
    const std::size_t word = next;
    next = (next + 1) % (kPatternWords - kKeptWords);
    // A quarter each of: exact where known, one change, one change, several.
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const std::uint64_t* w = slots[i].words;
        inputs[i][word] = (w[0] & 0xFFFF) | (w[1] & 0xFFFF0000) | (w[2] & 0xFFFF00000000) | (w[3] & 0xFFFF000000000000);
    }
    return word;
}

Resubstituter::Resubstituter(Network& network, PatternPool& pool, const ResubOptions& options,
                             const std::atomic<bool>& stop)
    : network_(network), pool_(pool), options_(options), stop_(stop), solver_(network.graph(), stop),
      sims_(network.variables()), known_(network.variables()), stamps_(network.variables(), 0) {
    sims_[0].fill(0);
    for (std::size_t i = 0; i < pool.inputs.size(); ++i)
        sims_[1 + i] = pool.inputs[i];
}

Bits Resubstituter::bits(Lit lit) const {
    const std::uint64_t flip = (lit & 1) ? ~std::uint64_t{0} : 0;
    return combine([&](std::size_t w) { return sims_[lit >> 1][w] ^ flip; });
}

void Resubstituter::simulate(std::uint32_t variable) {
    const Gate gate = network_.graph().gate(variable);
    const std::uint64_t fa = (gate.a & 1) ? ~std::uint64_t{0} : 0, fb = (gate.b & 1) ? ~std::uint64_t{0} : 0;
    const Bits &a = sims_[gate.a >> 1], &b = sims_[gate.b >> 1];
    sims_[variable] = combine([&](std::size_t w) { return (a[w] ^ fa) & (b[w] ^ fb); });
    order_.push_back(variable);
}

void Resubstituter::simulate_new() {
    sims_.resize(network_.variables());
    stamps_.resize(network_.variables(), 0);
    for (; known_ < network_.variables(); ++known_)
        simulate(static_cast<std::uint32_t>(known_));
}

// Gates near the gate that are alive without it: below it, nearest first, and readers of those.
void Resubstituter::collect_divisors(std::uint32_t variable) {
    divisors_.clear();
    ++stamp_;
    std::vector<std::uint32_t> queue;
    const auto reach = [&](std::uint32_t v) {
        if (v && stamps_[v] != stamp_) {
            stamps_[v] = stamp_;
            queue.push_back(v);
        }
    };
    stamps_[variable] = stamp_;
    const Gate top = network_.graph().gate(variable);
    reach(top.a >> 1);
    reach(top.b >> 1);
    for (std::size_t i = 0; i < queue.size() && divisors_.size() < options_.divisors / 2; ++i) {
        const std::uint32_t v = queue[i];
        if (network_.alive(v))
            divisors_.push_back(v);
        if (network_.graph().is_gate(v)) {
            reach(network_.graph().gate(v).a >> 1);
            reach(network_.graph().gate(v).b >> 1);
        }
    }
    for (std::size_t i = 0; i < divisors_.size() && divisors_.size() < options_.divisors; ++i) {
        const std::vector<std::uint32_t>& readers = network_.readers(divisors_[i]);
        // What very many gates read says little about this one.
        for (std::size_t r = 0; r < std::min<std::size_t>(readers.size(), 16); ++r)
            if (const std::uint32_t v = readers[readers.size() - 1 - r]; stamps_[v] != stamp_ && network_.alive(v)) {
                stamps_[v] = stamp_;
                divisors_.push_back(v);
            }
    }
}

// A literal among the divisors that is 1 on `on` and 0 on `off`.
Lit Resubstituter::single(const Bits& on, const Bits& off, std::size_t from, std::size_t n) const {
    for (std::size_t i = from; i < std::min(from + n, divisors_.size()); ++i) {
        const Bits& d = sims_[divisors_[i]];
        bool as_is = true, flipped = true;
        for (std::size_t w = 0; w < kPatternWords && (as_is || flipped); ++w) {
            as_is = as_is && !(on[w] & ~d[w]) && !(off[w] & d[w]);
            flipped = flipped && !(on[w] & d[w]) && !(off[w] & ~d[w]);
        }
        if (as_is || flipped)
            return lit_of(divisors_[i], !as_is);
    }
    return kNone;
}

// Two literals of `covers` that are never both 1 on `apart`, as their AND.
Lit Resubstituter::pair(const Bits& apart, std::uint32_t total, const std::vector<Cover>& covers) const {
    for (std::size_t i = 0; i < covers.size(); ++i) {
        if (2 * covers[i].count < total)
            break; // sorted: no later pair can settle all
        const Bits first = bits(covers[i].lit);
        for (std::size_t j = i + 1; j < covers.size() && covers[i].count + covers[j].count >= total; ++j) {
            const std::uint64_t flip = (covers[j].lit & 1) ? ~std::uint64_t{0} : 0;
            const Bits& second = sims_[covers[j].lit >> 1];
            bool clear = true;
            for (std::size_t w = 0; w < kPatternWords && clear; ++w)
                clear = !(apart[w] & first[w] & (second[w] ^ flip));
            if (clear)
                return static_cast<Lit>(i << 16 | j);
        }
    }
    return kNone;
}

// Three gates: an XOR of two divisors, or a divisor that chooses between two.
Lit Resubstituter::exclusive(const Bits& on, const Bits& off) {
    for (std::size_t i = 0; i < std::min(kSelects, divisors_.size()); ++i) {
        const Bits s = sims_[divisors_[i]];
        const Bits on1 = combine([&](std::size_t w) { return on[w] & s[w]; });
        const Bits off1 = combine([&](std::size_t w) { return off[w] & s[w]; });
        const Lit then = single(on1, off1, 0, divisors_.size());
        if (then == kNone)
            continue;
        const Bits on0 = combine([&](std::size_t w) { return on[w] & ~s[w]; });
        const Bits off0 = combine([&](std::size_t w) { return off[w] & ~s[w]; });
        // The complement of `then` first: an XOR.
        const Bits t = bits(then);
        bool xor_ = true;
        for (std::size_t w = 0; w < kPatternWords && xor_; ++w)
            xor_ = !(on0[w] & t[w]) && !(off0[w] & ~t[w]);
        const Lit other = xor_ ? then ^ 1 : single(on0, off0, 0, divisors_.size());
        if (other == kNone)
            continue;
        const Lit select = lit_of(divisors_[i]);
        const Lit x = network_.and_(select, then), y = network_.and_(select ^ 1, other);
        return network_.and_(x ^ 1, y ^ 1) ^ 1;
    }
    return kNone;
}

// A literal, or at most `budget` new gates, that are 1 on `on` and 0 on `off`.
Lit Resubstituter::synthesise(const Bits& on, const Bits& off, int budget) {
    if (none(off))
        return 1;
    if (none(on))
        return 0;
    std::vector<Cover> above, below; // 1 wherever `on` is; the complements of those are 0 wherever `off` is
    for (const std::uint32_t v : divisors_) {
        const Bits& d = sims_[v];
        bool on1 = false, on0 = false, off1 = false, off0 = false;
        for (std::size_t w = 0; w < kPatternWords; ++w) {
            on1 = on1 || (on[w] & d[w]);
            on0 = on0 || (on[w] & ~d[w]);
            off1 = off1 || (off[w] & d[w]);
            off0 = off0 || (off[w] & ~d[w]);
            if (on1 && on0 && off1 && off0)
                break;
        }
        if (!on0 && !off1)
            return lit_of(v);
        if (!on1 && !off0)
            return lit_of(v, true);
        if (!on0 && off0)
            above.push_back({lit_of(v), 0});
        if (!on1 && off1)
            above.push_back({lit_of(v, true), 0});
        if (!off0 && on0)
            below.push_back({lit_of(v), 0});
        if (!off1 && on1)
            below.push_back({lit_of(v, true), 0});
    }
    if (budget < 1)
        return kNone;
    // The same problem twice: AND of literals above `on`, and complemented, an OR of literals clear of `off`.
    const auto rank = [&](std::vector<Cover>& covers, const Bits& side) {
        for (Cover& cover : covers) {
            const std::uint64_t flip = (cover.lit & 1) ? ~std::uint64_t{0} : 0;
            const Bits& d = sims_[cover.lit >> 1];
            cover.count = count(combine([&](std::size_t w) { return side[w] & ~(d[w] ^ flip); }));
        }
        std::stable_sort(covers.begin(), covers.end(),
                         [](const Cover& x, const Cover& y) { return x.count > y.count; });
        covers.resize(std::min(covers.size(), kCovers));
    };
    rank(above, off);
    rank(below, on);
    const std::uint32_t offs = count(off), ons = count(on);
    if (const Lit found = pair(off, offs, above); found != kNone)
        return network_.and_(above[found >> 16].lit, above[found & 0xFFFF].lit);
    if (const Lit found = pair(on, ons, below); found != kNone)
        return network_.and_(below[found >> 16].lit, below[found & 0xFFFF].lit) ^ 1;
    if (budget < 2)
        return kNone;
    for (std::size_t i = 0; i < kBranches; ++i) {
        if (i < above.size()) {
            const Bits l = bits(above[i].lit);
            const Lit rest = synthesise(on, combine([&](std::size_t w) { return off[w] & l[w]; }), budget - 1);
            if (rest != kNone)
                return network_.and_(above[i].lit, rest);
        }
        if (i < below.size()) {
            const Bits l = bits(below[i].lit);
            const Lit rest = synthesise(combine([&](std::size_t w) { return on[w] & l[w]; }), off, budget - 1);
            if (rest != kNone)
                return network_.and_(below[i].lit, rest ^ 1) ^ 1;
        }
    }
    return budget >= 3 ? exclusive(on, off) : kNone;
}

Answer Resubstituter::check(Lit own, Lit made) {
    for (const Lit flip : {0u, 1u}) {
        const Lit x = own ^ flip, y = made ^ flip ^ 1;
        std::vector<Lit> assumed;
        bool never = false;
        for (const Lit lit : {x, y}) {
            never = never || lit == 0;
            if (lit > 1)
                assumed.push_back(lit);
        }
        if (never)
            continue;
        const Answer answer = solver_.solve(assumed, options_.conflicts);
        if (answer == Answer::kSat) {
            std::vector<std::int8_t> known(pool_.inputs.size(), 0);
            for (const std::uint32_t v : solver_.cone_inputs())
                known[v - 1] = static_cast<std::int8_t>(solver_.model(v));
            const std::size_t word = pool_.add(known);
            for (std::size_t i = 0; i < pool_.inputs.size(); ++i)
                sims_[1 + i][word] = pool_.inputs[i][word];
            for (const std::uint32_t v : order_) {
                const Gate gate = network_.graph().gate(v);
                const std::uint64_t a = sims_[gate.a >> 1][word], b = sims_[gate.b >> 1][word];
                sims_[v][word] = ((gate.a & 1) ? ~a : a) & ((gate.b & 1) ? ~b : b);
            }
        }
        if (answer != Answer::kUnsat)
            return answer;
    }
    return Answer::kUnsat;
}

bool Resubstituter::resubstitute(std::uint32_t variable) {
    simulate(variable);
    if (stop_)
        return false;
    const int saved = static_cast<int>(network_.drop_fanins(variable));
    collect_divisors(variable);
    network_.take_back_fanins(variable);
    const int budget = std::min(saved - 1, options_.budget);
    network_.hide(variable);
    bool done = false;
    for (int attempt = 0; attempt < options_.refutations && !done; ++attempt) {
        const Bits on = sims_[variable];
        const Bits off = combine([&](std::size_t w) { return ~on[w]; });
        const Lit made = synthesise(on, off, budget);
        if (made == kNone)
            break;
        simulate_new();
        const Answer answer = check(lit_of(variable), made);
        if (answer == Answer::kSat) {
            ++refuted;
            continue;
        }
        if (answer == Answer::kUnknown) {
            ++undecided;
            break;
        }
        ++accepted;
        network_.replace(variable, made);
        done = true;
    }
    network_.hide(0);
    return done;
}

} // namespace tapeout::circuit
