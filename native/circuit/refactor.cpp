#include "circuit/refactor.h"

#include <algorithm>
#include <bit>

namespace tapeout::circuit {

namespace {

constexpr std::uint64_t kLow[6] = {0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F,
                                   0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF};
constexpr std::size_t kCone = 60; // gates between a gate and its cut

} // namespace

// From the fan-ins down: the leaf whose own fan-ins add least is opened, while the cut stays small.
void Refactorer::find_cut(std::uint32_t variable) {
    const Gate top = network_.graph().gate(variable);
    leaves_ = {top.a >> 1};
    if (top.b >> 1 != top.a >> 1)
        leaves_.push_back(top.b >> 1);
    for (std::size_t steps = 0; steps < kCone; ++steps) {
        std::size_t best = leaves_.size(), least = 3;
        for (std::size_t i = 0; i < leaves_.size(); ++i) {
            if (!network_.graph().is_gate(leaves_[i]))
                continue;
            const Gate gate = network_.graph().gate(leaves_[i]);
            std::size_t adds = 0;
            for (const Lit lit : {gate.a, gate.b})
                adds += std::find(leaves_.begin(), leaves_.end(), lit >> 1) == leaves_.end();
            if (adds < least || (adds == least && network_.refs(leaves_[i]) < network_.refs(leaves_[best]))) {
                least = adds;
                best = i;
            }
        }
        if (best == leaves_.size() || leaves_.size() + least - 1 > limit_)
            return;
        const Gate gate = network_.graph().gate(leaves_[best]);
        leaves_.erase(leaves_.begin() + static_cast<std::ptrdiff_t>(best));
        for (const Lit lit : {gate.a, gate.b})
            if (std::find(leaves_.begin(), leaves_.end(), lit >> 1) == leaves_.end())
                leaves_.push_back(lit >> 1);
    }
}

Refactorer::Table Refactorer::input(std::size_t i) const {
    Table t{};
    for (std::size_t w = 0; w < words_; ++w)
        t[w] = i < 6 ? ~kLow[i] : (w >> (i - 6) & 1) ? ~std::uint64_t{0} : 0;
    return t;
}

Refactorer::Table Refactorer::cofactor(const Table& f, std::size_t i, bool value) const {
    Table t{};
    for (std::size_t w = 0; w < words_; ++w) {
        if (i < 6) {
            const std::uint64_t half = value ? f[w] >> (1u << i) & kLow[i] : f[w] & kLow[i];
            t[w] = half | half << (1u << i);
        } else {
            const std::size_t bit = std::size_t{1} << (i - 6);
            t[w] = f[value ? w | bit : w & ~bit];
        }
    }
    return t;
}

bool Refactorer::depends(const Table& f, std::size_t i) const {
    return cofactor(f, i, false) != cofactor(f, i, true);
}

bool Refactorer::is(const Table& f, bool value) const {
    return std::all_of(f.begin(), f.begin() + static_cast<std::ptrdiff_t>(words_),
                       [value](std::uint64_t word) { return word == (value ? ~std::uint64_t{0} : 0); });
}

Refactorer::Table Refactorer::inverted(const Table& f) const {
    Table t{};
    for (std::size_t w = 0; w < words_; ++w)
        t[w] = ~f[w];
    return t;
}

Refactorer::Table Refactorer::function(std::uint32_t variable) {
    // The cone in order of discovery is not topological: a depth-first walk with tables for what is done.
    std::vector<std::pair<std::uint32_t, Table>> done;
    for (std::size_t i = 0; i < leaves_.size(); ++i)
        done.emplace_back(leaves_[i], input(i));
    const auto find = [&](std::uint32_t v) -> const Table* {
        for (const auto& [u, table] : done)
            if (u == v)
                return &table;
        return nullptr;
    };
    done.emplace_back(0, Table{});
    std::vector<std::uint32_t> stack{variable};
    while (!stack.empty()) {
        const std::uint32_t v = stack.back();
        if (find(v)) {
            stack.pop_back();
            continue;
        }
        const Gate gate = network_.graph().gate(v);
        const Table *a = find(gate.a >> 1), *b = find(gate.b >> 1);
        if (!a)
            stack.push_back(gate.a >> 1);
        if (!b)
            stack.push_back(gate.b >> 1);
        if (!a || !b)
            continue;
        Table t{};
        for (std::size_t w = 0; w < words_; ++w)
            t[w] = ((gate.a & 1) ? ~(*a)[w] : (*a)[w]) & ((gate.b & 1) ? ~(*b)[w] : (*b)[w]);
        done.emplace_back(v, t);
        stack.pop_back();
    }
    return *find(variable);
}

Refactorer::Table Refactorer::cover_table(const Cover& cover) const {
    Table sum{};
    for (const Cube& cube : cover) {
        Table product;
        product.fill(~std::uint64_t{0});
        for (std::size_t i = 0; i < leaves_.size(); ++i)
            if (cube.has >> i & 1) {
                const Table x = input(i);
                for (std::size_t w = 0; w < words_; ++w)
                    product[w] &= (cube.value >> i & 1) ? x[w] : ~x[w];
            }
        for (std::size_t w = 0; w < words_; ++w)
            sum[w] |= product[w];
    }
    return sum;
}

// A cover of a function between `lower` and `upper` that depend on the first `inputs` inputs; returns its table.
Refactorer::Table Refactorer::irredundant(const Table& lower, const Table& upper, std::size_t inputs,
                                          Cover& cover) const {
    if (is(lower, false))
        return Table{};
    if (is(upper, true)) {
        cover.push_back({});
        return inverted(Table{});
    }
    std::size_t i = inputs;
    do
        --i;
    while (!depends(lower, i) && !depends(upper, i));
    const Table lower0 = cofactor(lower, i, false), lower1 = cofactor(lower, i, true);
    const Table upper0 = cofactor(upper, i, false), upper1 = cofactor(upper, i, true);
    const auto without = [&](const Table& x, const Table& y) {
        Table t{};
        for (std::size_t w = 0; w < words_; ++w)
            t[w] = x[w] & ~y[w];
        return t;
    };
    Cover cover0, cover1, cover2;
    const Table t0 = irredundant(without(lower0, upper1), upper0, i, cover0);
    const Table t1 = irredundant(without(lower1, upper0), upper1, i, cover1);
    Table rest{}, common{}, out{};
    const Table rest0 = without(lower0, t0), rest1 = without(lower1, t1);
    for (std::size_t w = 0; w < words_; ++w) {
        rest[w] = rest0[w] | rest1[w];
        common[w] = upper0[w] & upper1[w];
    }
    const Table t2 = irredundant(rest, common, i, cover2);
    const Table x = input(i);
    for (std::size_t w = 0; w < words_; ++w)
        out[w] = t2[w] | (t0[w] & ~x[w]) | (t1[w] & x[w]);
    const auto bit = static_cast<std::uint16_t>(1u << i);
    for (Cube cube : cover0) {
        cube.has |= bit;
        cover.push_back(cube);
    }
    for (Cube cube : cover1) {
        cube.has |= bit;
        cube.value |= bit;
        cover.push_back(cube);
    }
    cover.insert(cover.end(), cover2.begin(), cover2.end());
    return out;
}

// The AND, unless it would be one gate too many.
std::optional<Lit> Refactorer::both(Lit a, Lit b) {
    const Lit found = network_.find(a, b);
    if (found != Strash::kNone && network_.alive(found >> 1))
        return found;
    if (--room_ < 0)
        return std::nullopt;
    return network_.and_(a, b);
}

// Takes off an input that is an operand of the outermost operation.
std::optional<Lit> Refactorer::peel(const Table& f, bool& peeled) {
    peeled = true;
    for (std::size_t i = 0; i < leaves_.size(); ++i) {
        const Table f0 = cofactor(f, i, false), f1 = cofactor(f, i, true);
        if (f0 == f1)
            continue;
        const Lit x = lit_of(leaves_[i]);
        for (const bool value : {false, true}) {
            const Table& here = value ? f1 : f0;
            const Table& there = value ? f0 : f1;
            const Lit off = value ? x ^ 1 : x; // the literal that is true where `there` counts
            if (is(here, false) || is(here, true)) {
                const std::optional<Lit> rest = make(there);
                if (!rest)
                    return rest;
                const bool one = is(here, true);
                const std::optional<Lit> out = both(off, one ? *rest ^ 1 : *rest);
                return out && one ? *out ^ 1 : out;
            }
        }
        if (f0 == inverted(f1)) {
            const std::optional<Lit> rest = make(f0);
            if (!rest)
                return rest;
            const std::optional<Lit> p = both(x, *rest), q = p ? both(x ^ 1, *rest ^ 1) : p;
            return q ? both(*p ^ 1, *q ^ 1) : q;
        }
    }
    peeled = false;
    return std::nullopt;
}

// F = l Q + R for the literal l that most products have; of F or its complement, whichever has fewer literals.
std::optional<Lit> Refactorer::factor(const Table& f) {
    Cover on, off;
    irredundant(f, f, leaves_.size(), on);
    const Table g = inverted(f);
    irredundant(g, g, leaves_.size(), off);
    const auto literals = [](const Cover& cover) {
        int n = 0;
        for (const Cube& cube : cover)
            n += std::popcount(cube.has);
        return n;
    };
    const bool flip = literals(off) < literals(on);
    const Cover& cover = flip ? off : on;
    std::size_t best = 0, most = 0;
    bool value = false;
    for (std::size_t i = 0; i < leaves_.size(); ++i)
        for (const bool v : {false, true}) {
            const std::size_t n =
                static_cast<std::size_t>(std::count_if(cover.begin(), cover.end(), [&](const Cube& c) {
                    return (c.has >> i & 1) && (c.value >> i & 1) == v;
                }));
            if (n > most) {
                most = n;
                best = i;
                value = v;
            }
        }
    Cover quotient, rest;
    for (Cube cube : cover)
        if ((cube.has >> best & 1) && (cube.value >> best & 1) == value) {
            cube.has &= static_cast<std::uint16_t>(~(1u << best));
            cube.value &= cube.has;
            quotient.push_back(cube);
        } else {
            rest.push_back(cube);
        }
    const std::optional<Lit> q = make(cover_table(quotient)), r = q ? make(cover_table(rest)) : q;
    if (!r)
        return r;
    const std::optional<Lit> product = both(lit_of(leaves_[best], !value), *q);
    const std::optional<Lit> none = product ? both(*product ^ 1, *r ^ 1) : product;
    return none ? *none ^ (flip ? 0 : 1) : none;
}

std::optional<Lit> Refactorer::make(const Table& f) {
    if (is(f, false) || is(f, true))
        return is(f, true) ? 1 : 0;
    const Table g = inverted(f);
    for (const auto& [table, lit] : made_) {
        if (table == f)
            return lit;
        if (table == g)
            return lit ^ 1;
    }
    bool peeled = false;
    std::optional<Lit> out = peel(f, peeled);
    if (!peeled)
        out = factor(f);
    if (out)
        made_.emplace_back(f, *out);
    return out;
}

bool Refactorer::refactor(std::uint32_t variable) {
    find_cut(variable);
    if (leaves_.size() < 4)
        return false;
    std::sort(leaves_.begin(), leaves_.end());
    for (const std::uint32_t leaf : leaves_)
        network_.ref(lit_of(leaf));
    network_.hide(variable);
    const int saved = static_cast<int>(network_.drop_fanins(variable));
    bool better = false;
    Lit made = 0;
    if (saved >= 2) {
        words_ = leaves_.size() <= 6 ? 1 : std::size_t{1} << (leaves_.size() - 6);
        made_.clear();
        for (std::size_t i = 0; i < leaves_.size(); ++i)
            made_.emplace_back(input(i), lit_of(leaves_[i]));
        room_ = neutral_ ? saved : saved - 1;
        if (const std::optional<Lit> found = make(function(variable))) {
            made = *found;
            const int added = static_cast<int>(network_.ref(made));
            network_.deref(made);
            better = neutral_ ? added <= saved : added < saved;
        }
    }
    network_.take_back_fanins(variable);
    if (better)
        network_.replace(variable, made);
    network_.hide(0);
    for (const std::uint32_t leaf : leaves_)
        network_.deref(lit_of(leaf));
    return better;
}

} // namespace tapeout::circuit
