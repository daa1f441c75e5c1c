#include "circuit/extract.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kWidest = 64; // literals of a tree that take part; pairs are quadratic in them

struct Tree {
    std::uint32_t root; // variable
    std::vector<Lit> leaves;
    bool never = false; // holds a literal and its complement
};

class Extractor {
public:
    Extractor(const Aig& aig, std::uint64_t seed);
    void run();
    Aig result();

private:
    void collect(std::uint32_t root);
    std::uint64_t key(Lit a, Lit b) const { return std::uint64_t{std::min(a, b)} << 32 | std::max(a, b); }
    void count(std::uint32_t tree, Lit lit, int by);
    void replace_pair(Lit a, Lit b);
    Lit make(const std::vector<Lit>& leaves);
    Lit built(Lit lit);
    std::uint64_t rank(std::uint64_t pair) const { return (pair ^ seed_) * 0x9E3779B97F4A7C15ull; }

    struct Entry {
        int count;
        std::uint64_t rank, pair;
        bool operator<(const Entry& o) const { return count != o.count ? count < o.count : rank < o.rank; }
    };

    const Aig& aig_;
    std::uint64_t seed_;
    std::vector<std::uint32_t> refs_;
    std::vector<char> is_root_;
    std::vector<Tree> trees_;
    std::vector<std::vector<std::uint32_t>> users_; // trees by literal; may name trees that lost it
    std::unordered_map<std::uint64_t, int> counts_;
    std::priority_queue<Entry> queue_;
    std::vector<Gate> pairs_; // extracted; variables behind those of the graph
    Strash made_;
    std::vector<Lit> map_;              // by variable, also of pairs
    std::vector<std::uint32_t> levels_; // of made_
};

Extractor::Extractor(const Aig& aig, std::uint64_t seed)
    : aig_(aig), seed_(seed), refs_(aig.variables(), 0), is_root_(aig.variables(), 0), users_(2 * aig.variables()),
      made_(aig.inputs, aig.gates.size()), map_(aig.variables(), Strash::kNone) {
    for (const Gate& gate : aig.gates)
        for (const Lit lit : {gate.a, gate.b}) {
            ++refs_[lit >> 1];
            if (lit & 1)
                is_root_[lit >> 1] = 1;
        }
    for (const Lit output : aig.outputs)
        is_root_[output >> 1] = 1;
    for (std::size_t v = aig.first_gate(); v < aig.variables(); ++v)
        if (is_root_[v] || refs_[v] != 1) {
            is_root_[v] = 1;
            collect(static_cast<std::uint32_t>(v));
        }
}

void Extractor::collect(std::uint32_t root) {
    Tree tree{root, {}};
    std::vector<Lit> stack{lit_of(root)};
    bool top = true;
    while (!stack.empty()) {
        const Lit lit = stack.back();
        stack.pop_back();
        if (top || (!(lit & 1) && aig_.is_gate(lit >> 1) && !is_root_[lit >> 1])) {
            stack.push_back(aig_.gate(lit >> 1).a);
            stack.push_back(aig_.gate(lit >> 1).b);
        } else {
            tree.leaves.push_back(lit);
        }
        top = false;
    }
    std::sort(tree.leaves.begin(), tree.leaves.end());
    tree.leaves.erase(std::unique(tree.leaves.begin(), tree.leaves.end()), tree.leaves.end());
    for (std::size_t i = 0; i + 1 < tree.leaves.size(); ++i)
        tree.never = tree.never || (tree.leaves[i] ^ 1) == tree.leaves[i + 1];
    trees_.push_back(std::move(tree));
}

// Changes the counts of all pairs of `lit` with the other literals of a tree.
void Extractor::count(std::uint32_t tree, Lit lit, int by) {
    for (const Lit other : trees_[tree].leaves) {
        if (other == lit)
            continue;
        const std::uint64_t pair = key(lit, other);
        const int now = counts_[pair] += by;
        if (by > 0 && now > 1)
            queue_.push({now, rank(pair), pair});
    }
}

void Extractor::replace_pair(Lit a, Lit b) {
    const Lit made = lit_of(aig_.variables() + pairs_.size());
    pairs_.push_back({a, b});
    users_.resize(users_.size() + 2);
    const Lit rarer = users_[a].size() < users_[b].size() ? a : b;
    const std::vector<std::uint32_t> users = users_[rarer];
    for (const std::uint32_t t : users) {
        std::vector<Lit>& leaves = trees_[t].leaves;
        const auto at_a = std::find(leaves.begin(), leaves.end(), a);
        if (at_a == leaves.end() || std::find(leaves.begin(), leaves.end(), b) == leaves.end())
            continue;
        count(t, a, -1);
        leaves.erase(at_a);
        count(t, b, -1);
        *std::find(leaves.begin(), leaves.end(), b) = made;
        users_[made].push_back(t);
        count(t, made, 1);
    }
}

void Extractor::run() {
    for (std::uint32_t t = 0; t < trees_.size(); ++t) {
        const std::vector<Lit>& leaves = trees_[t].leaves;
        if (trees_[t].never || leaves.size() > kWidest)
            continue;
        for (std::size_t i = 0; i < leaves.size(); ++i) {
            users_[leaves[i]].push_back(t);
            for (std::size_t j = i + 1; j < leaves.size(); ++j)
                ++counts_[key(leaves[i], leaves[j])];
        }
    }
    for (const auto& [pair, n] : counts_)
        if (n > 1)
            queue_.push({n, rank(pair), pair});
    while (!queue_.empty()) {
        const Entry entry = queue_.top();
        queue_.pop();
        const int now = counts_[entry.pair];
        if (now < 2)
            continue;
        if (now != entry.count) {
            if (now < entry.count)
                queue_.push({now, entry.rank, entry.pair});
            continue;
        }
        replace_pair(static_cast<Lit>(entry.pair >> 32), static_cast<Lit>(entry.pair));
    }
}

// The AND of literals of made_, the two lowest first.
Lit Extractor::make(const std::vector<Lit>& leaves) {
    using Item = std::pair<std::uint32_t, Lit>;
    std::priority_queue<Item, std::vector<Item>, std::greater<>> open;
    const auto push = [&](Lit lit) {
        while (levels_.size() < made_.aig.variables()) {
            const std::size_t v = levels_.size();
            levels_.push_back(made_.aig.is_gate(v)
                                  ? 1 + std::max(levels_[made_.aig.gate(v).a >> 1], levels_[made_.aig.gate(v).b >> 1])
                                  : 0);
        }
        open.emplace(levels_[lit >> 1], lit);
    };
    for (const Lit lit : leaves)
        push(lit);
    while (open.size() > 1) {
        const Lit a = open.top().second;
        open.pop();
        const Lit b = open.top().second;
        open.pop();
        push(made_.and_(a, b));
    }
    return open.empty() ? 1 : open.top().second;
}

// Pairs are made when they are first wanted; what they are made of is there by then.
Lit Extractor::built(Lit lit) {
    const std::size_t v = lit >> 1;
    if (map_[v] == Strash::kNone) {
        const Gate pair = pairs_[v - aig_.variables()];
        const Lit a = built(pair.a), b = built(pair.b);
        map_[v] = made_.and_(a, b);
    }
    return map_[v] ^ (lit & 1);
}

Aig Extractor::result() {
    map_.resize(aig_.variables() + pairs_.size(), Strash::kNone);
    for (std::size_t v = 0; v < aig_.first_gate(); ++v)
        map_[v] = lit_of(v);
    for (const Tree& tree : trees_) {
        std::vector<Lit> leaves;
        for (const Lit lit : tree.leaves)
            leaves.push_back(built(lit));
        map_[tree.root] = tree.never ? 0 : make(leaves);
    }
    for (const Lit output : aig_.outputs)
        made_.aig.outputs.push_back(map_[output >> 1] ^ (output & 1));
    return strash(made_.aig);
}

} // namespace

Aig extract_pass(const Aig& aig, std::uint64_t seed) {
    Extractor extractor(aig, seed);
    extractor.run();
    return extractor.result();
}

} // namespace tapeout::circuit
