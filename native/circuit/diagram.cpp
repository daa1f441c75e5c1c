#include "circuit/diagram.h"

#include <algorithm>
#include <map>

namespace tapeout::circuit {

Diagram::Diagram(const Question& question, const Region& region, std::vector<int> order)
    : order_(std::move(order)), outputs_(question.outputs()), accesses_(question.input_width(), 1),
      masks_(question.input_width(), order_.size() + 1), free_(question.input_width()) {
    for (std::size_t level = 0; level < order_.size(); ++level) {
        std::copy_n(masks_[level], masks_.width(), masks_[level + 1]);
        set_bit(masks_[level + 1], static_cast<std::size_t>(order_[level]), true);
    }
    for (std::size_t w = 0; w < free_.size(); ++w)
        free_[w] = ~(masks_[order_.size()][w] | region.mask[w]);
}

std::optional<Diagram> Diagram::learn(Question& question, const Region& region, const std::vector<int>& order,
                                      const std::vector<std::vector<Word>>& outputs, const Rows& pool,
                                      const Shape& shape, Rows& outside) {
    Diagram diagram(question, region, order);
    diagram.last_.assign(diagram.outputs_, 0);
    for (std::size_t level = 0; level < order.size(); ++level)
        for (std::size_t output = 0; output < diagram.outputs_; ++output)
            if (get_bit(outputs[level].data(), output))
                diagram.last_[output] = level + 1;
    diagram.learn_states(question, pool, shape, outside);
    if (!diagram.learn_nodes(question, pool, shape, outside))
        return std::nullopt;
    return diagram;
}

int Diagram::with_one(int access, std::size_t level) {
    const std::vector<Word> row(accesses_[static_cast<std::size_t>(access)],
                                accesses_[static_cast<std::size_t>(access)] + accesses_.width());
    accesses_.push(row.data());
    const std::size_t at = accesses_.size() - 1;
    set_bit(accesses_[at], static_cast<std::size_t>(order_[level]), true);
    return static_cast<int>(at);
}

// The prefix, then the suffix; inputs that the order does not have come from `outside`.
void Diagram::compose(int access, std::size_t level, const Word* suffix, const Word* outside, Word* row) const {
    const Word* prefix = accesses_[static_cast<std::size_t>(access)];
    const Word* above = masks_[level];
    for (std::size_t w = 0; w < free_.size(); ++w)
        row[w] = (prefix[w] & above[w]) | (suffix[w] & ~above[w] & ~free_[w]) | (outside[w] & free_[w]);
}

Diagram::Slices Diagram::ask(Question& question, const std::vector<int>& accesses, std::size_t level,
                             const Rows& suffixes, bool scramble) const {
    const std::size_t count = suffixes.size(), blocks = count / 64, wide = question.width();
    Rows asked(suffixes.width(), count), answers;
    Slices slices(accesses.size() * outputs_ * blocks);
    Word block[64];
    for (std::size_t a = 0; a < accesses.size(); ++a) {
        for (std::size_t k = 0; k < count; ++k)
            compose(accesses[a], level, suffixes[k], suffixes[scramble ? (k + 1 + a) % count : k], asked[k]);
        question.ask(asked, answers);
        for (std::size_t b = 0; b < blocks; ++b)
            for (std::size_t w = 0; w < wide; ++w) {
                for (std::size_t k = 0; k < 64; ++k)
                    block[k] = answers[b * 64 + k][w];
                transpose64(block);
                for (std::size_t o = w * 64; o < std::min(outputs_, w * 64 + 64); ++o)
                    slices[(a * outputs_ + o) * blocks + b] = block[o - w * 64];
            }
    }
    return slices;
}

// ---- joint states

// Whether an output that should be known by a level is the same for all suffixes.
bool Diagram::settled(const Word* slice, int access, std::size_t level, const Rows& pool, Rows& outside) const {
    const Word first = slice[0] & 1 ? ~Word{0} : 0;
    for (std::size_t b = 0; b < pool.size() / 64; ++b)
        if (slice[b] != first) {
            const std::size_t k = b * 64 + static_cast<std::size_t>(std::countr_zero(slice[b] ^ first));
            std::vector<Word> row(free_.size());
            for (const std::size_t at : {std::size_t{0}, k}) {
                compose(access, level, pool[at], pool[at], row.data());
                outside.push(row.data());
            }
            return false;
        }
    return true;
}

void Diagram::learn_states(Question& question, const Rows& pool, const Shape& shape, Rows& outside) {
    const std::size_t blocks = pool.size() / 64, depth = order_.size();
    known_.assign(outputs_, {});
    levels_.assign(1, std::vector<State>(1));
    const auto note = [&](std::size_t level, int access, const Slices& slices, std::size_t at) {
        for (std::size_t o = 0; o < outputs_; ++o)
            if (last_[o] == level) {
                const Word* slice = &slices[(at * outputs_ + o) * blocks];
                known_[o].push_back(slice[0] & 1);
                settled(slice, access, level, pool, outside);
            }
    };
    note(0, 0, ask(question, {0}, 0, pool, false), 0);
    const std::size_t limit = shape.cut < 0 ? depth : std::min(depth, static_cast<std::size_t>(shape.cut));
    for (cut_ = 0; cut_ < limit; ++cut_) {
        std::vector<int> children;
        for (State& state : levels_[cut_]) {
            state.access[1] = with_one(state.access[0], cut_);
            children.insert(children.end(), state.access, state.access + 2);
        }
        const Slices slices = ask(question, children, cut_ + 1, pool, false);
        Classes classes;
        std::vector<State> below;
        for (std::size_t c = 0; c < children.size(); ++c) {
            Hash hash;
            for (std::size_t o = 0; o < outputs_; ++o)
                if (last_[o] > cut_)
                    for (std::size_t b = 0; b < blocks; ++b)
                        hash.add(slices[(c * outputs_ + o) * blocks + b]);
            const auto [at, fresh] = classes.try_emplace(hash, static_cast<int>(below.size()));
            levels_[cut_][c / 2].next[c % 2] = at->second;
            if (fresh) {
                below.emplace_back().access[0] = children[c];
                note(cut_ + 1, children[c], slices, c);
            }
        }
        levels_.push_back(std::move(below));
        if (levels_.back().size() > shape.max_states) {
            choose_cut();
            break;
        }
    }
}

// Back to the last level behind which the states did not yet double: what doubles with every input is data, not
// control.
void Diagram::choose_cut() {
    ++cut_;
    while (cut_ > 0 && levels_[cut_].size() >= 2 * levels_[cut_ - 1].size())
        --cut_;
    levels_.resize(cut_ + 1);
    for (std::size_t o = 0; o < outputs_; ++o)
        if (last_[o] > cut_)
            known_[o].clear();
}

// ---- nodes of single outputs

Diagram::Edge Diagram::classify(const Word* slice, std::size_t words, int access, int output, Classes& classes,
                                std::vector<Node>& level) const {
    const bool complement = slice[0] & 1;
    const Word flip = complement ? ~Word{0} : 0;
    Hash hash;
    bool constant = true;
    for (std::size_t w = 0; w < words; ++w) {
        constant = constant && slice[w] == flip;
        hash.add(slice[w] ^ flip);
    }
    if (constant)
        return {-1, complement};
    const auto [at, fresh] = classes.try_emplace(hash, static_cast<int>(level.size()));
    if (fresh) {
        Node& node = level.emplace_back();
        node.access[0] = access;
        node.output = output;
        node.complement = complement;
    }
    return {at->second, complement};
}

bool Diagram::learn_nodes(Question& question, const Rows& pool, const Shape& shape, Rows& outside) {
    const std::size_t blocks = pool.size() / 64, depth = order_.size();
    if (std::all_of(last_.begin(), last_.end(), [&](std::size_t last) { return last <= cut_; }))
        return true;
    const auto& states = levels_[cut_];
    std::vector<int> accesses;
    for (const State& state : states)
        accesses.push_back(state.access[0]);
    Slices slices = ask(question, accesses, cut_, pool, false);
    Classes classes;
    nodes_.resize(1);
    roots_.assign(states.size(), std::vector<Edge>(outputs_));
    for (std::size_t s = 0; s < states.size(); ++s)
        for (std::size_t o = 0; o < outputs_; ++o)
            if (last_[o] > cut_)
                roots_[s][o] = classify(&slices[(s * outputs_ + o) * blocks], blocks, accesses[s], static_cast<int>(o),
                                        classes, nodes_[0]);
    std::size_t total = 0;
    for (std::size_t level = cut_; level < depth; ++level) {
        auto& here = nodes_[level - cut_];
        std::vector<Node> below;
        std::map<int, std::size_t> place; // of an access in `accesses`; its child with a 1 stands behind it
        accesses.clear();
        for (Node& node : here) {
            const auto [at, fresh] = place.try_emplace(node.access[0], accesses.size());
            if (fresh) {
                accesses.push_back(node.access[0]);
                accesses.push_back(with_one(node.access[0], level));
            }
            node.access[1] = accesses[at->second + 1];
        }
        slices = ask(question, accesses, level + 1, pool, false);
        classes.clear();
        for (Node& node : here) {
            const std::size_t at = place[node.access[0]];
            for (std::size_t bit = 0; bit < 2; ++bit) {
                const Word* slice = &slices[((at + bit) * outputs_ + static_cast<std::size_t>(node.output)) * blocks];
                if (level + 1 < depth) {
                    node.next[bit] = classify(slice, blocks, node.access[bit], node.output, classes, below);
                } else {
                    settled(slice, node.access[bit], depth, pool, outside);
                    node.next[bit] = {-1, static_cast<bool>(slice[0] & 1)};
                }
                node.next[bit].complement ^= node.complement;
            }
            total += node.next[0] != node.next[1];
        }
        if (total > shape.max_nodes || below.size() > shape.max_nodes)
            return false;
        nodes_.push_back(std::move(below));
    }
    return true;
}

// ---- verification

std::vector<Diagram::Claim> Diagram::claims(std::size_t level) const {
    std::vector<Claim> result;
    const auto edge = [&](int access, int output, Edge target, bool complement) {
        if (target.node < 0) {
            result.push_back({access, output, -1, 0, target.complement != complement});
            return;
        }
        const Node& node = nodes_[level - cut_][static_cast<std::size_t>(target.node)];
        if (node.access[0] != access || node.output != output)
            result.push_back(
                {access, output, node.access[0], node.output, (target.complement != complement) != node.complement});
    };
    if (level <= cut_) {
        if (level > 0)
            for (const State& state : levels_[level - 1])
                for (int bit = 0; bit < 2; ++bit) {
                    const int other = levels_[level][static_cast<std::size_t>(state.next[bit])].access[0];
                    if (other != state.access[bit])
                        for (std::size_t o = 0; o < outputs_; ++o)
                            if (last_[o] >= level)
                                result.push_back(
                                    {state.access[bit], static_cast<int>(o), other, static_cast<int>(o), false});
                }
        for (std::size_t s = 0; s < levels_[level].size(); ++s)
            for (std::size_t o = 0; o < outputs_; ++o)
                if (last_[o] == level)
                    result.push_back({levels_[level][s].access[0], static_cast<int>(o), -1, 0, known_[o][s]});
    }
    if (level == cut_)
        for (std::size_t s = 0; s < roots_.size(); ++s)
            for (std::size_t o = 0; o < outputs_; ++o)
                if (last_[o] > cut_)
                    edge(levels_[cut_][s].access[0], static_cast<int>(o), roots_[s][o], false);
    if (level > cut_ && level - cut_ < nodes_.size())
        for (const Node& node : nodes_[level - cut_ - 1])
            for (int bit = 0; bit < 2; ++bit)
                edge(node.access[bit], node.output, node.next[bit], node.complement);
    return result;
}

// Why a claim failed: the suffix tells the two apart, or an input outside the order matters.
void Diagram::explain(Question& question, const Claim& claim, std::size_t level, const Word* suffix,
                      const Word* others[2], Rows& found, Rows& outside) const {
    Rows asked(free_.size(), 4), answers;
    for (std::size_t side = 0; side < 2; ++side)
        for (std::size_t u = 0; u < 2; ++u)
            compose(side && claim.other >= 0 ? claim.other : claim.access, level, suffix, others[u],
                    asked[side * 2 + u]);
    question.ask(asked, answers);
    const auto value = [&](std::size_t side, std::size_t u) {
        if (side && claim.other < 0)
            return claim.complement;
        const int output = side ? claim.other_output : claim.output;
        return get_bit(answers[side * 2 + u], static_cast<std::size_t>(output)) != (side && claim.complement);
    };
    for (std::size_t u = 0; u < 2; ++u)
        if (value(0, u) != value(1, u)) {
            std::vector<Word> row(free_.size());
            for (std::size_t w = 0; w < row.size(); ++w)
                row[w] = (suffix[w] & ~free_[w]) | (others[u][w] & free_[w]);
            found.push(row.data());
            return;
        }
    for (std::size_t side = 0; side < 2; ++side)
        if (value(side, 0) != value(side, 1)) {
            outside.push(asked[side * 2]);
            outside.push(asked[side * 2 + 1]);
            return;
        }
}

bool Diagram::verify(Question& question, const Rows& suffixes, Rows& found, Rows& outside, std::size_t most) const {
    const std::size_t blocks = suffixes.size() / 64;
    bool good = true;
    for (std::size_t level = 0; level <= order_.size(); ++level) {
        const std::vector<Claim> all = claims(level);
        std::map<int, std::size_t> place;
        std::vector<int> accesses;
        const auto add = [&](int access) {
            if (access >= 0 && place.try_emplace(access, accesses.size()).second)
                accesses.push_back(access);
        };
        for (const Claim& claim : all) {
            add(claim.access);
            add(claim.other);
        }
        const Slices slices = ask(question, accesses, level, suffixes, true);
        const auto slice = [&](int access, int output) {
            return &slices[(place[access] * outputs_ + static_cast<std::size_t>(output)) * blocks];
        };
        for (const Claim& claim : all) {
            const Word* left = slice(claim.access, claim.output);
            const Word* right = claim.other < 0 ? nullptr : slice(claim.other, claim.other_output);
            for (std::size_t b = 0; b < blocks; ++b) {
                const Word wrong = left[b] ^ (right ? right[b] : 0) ^ (claim.complement ? ~Word{0} : 0);
                if (!wrong)
                    continue;
                good = false;
                if (found.size() + outside.size() >= most)
                    return false;
                const std::size_t k = b * 64 + static_cast<std::size_t>(std::countr_zero(wrong)), n = suffixes.size();
                const Word* others[2] = {suffixes[(k + 1 + place[claim.access]) % n],
                                         right ? suffixes[(k + 1 + place[claim.other]) % n] : suffixes[k]};
                explain(question, claim, level, suffixes[k], others, found, outside);
                break;
            }
        }
    }
    return good;
}

// ---- use

std::size_t Diagram::size() const {
    std::size_t total = 0;
    for (std::size_t level = 0; level + 1 < levels_.size(); ++level)
        total += levels_[level].size();
    for (const auto& level : nodes_)
        for (const Node& node : level)
            total += node.next[0] != node.next[1];
    return total;
}

void Diagram::evaluate(const Word* row, Word* answer) const {
    std::size_t state = 0;
    const auto finish = [&](std::size_t level) {
        for (std::size_t o = 0; o < outputs_; ++o)
            if (last_[o] == level)
                set_bit(answer, o, known_[o][state]);
    };
    finish(0);
    for (std::size_t level = 0; level < cut_; ++level) {
        state =
            static_cast<std::size_t>(levels_[level][state].next[get_bit(row, static_cast<std::size_t>(order_[level]))]);
        finish(level + 1);
    }
    for (std::size_t o = 0; o < outputs_; ++o) {
        if (last_[o] <= cut_)
            continue;
        Edge edge = roots_[state][o];
        for (std::size_t level = cut_; edge.node >= 0; ++level) {
            const Edge next = nodes_[level - cut_][static_cast<std::size_t>(edge.node)]
                                  .next[get_bit(row, static_cast<std::size_t>(order_[level]))];
            edge = {next.node, edge.complement != next.complement};
        }
        set_bit(answer, o, edge.complement);
    }
}

// Whether the walk is in one of a set of states at a level: a signal such as a carry. Where the sets already made at
// the level give it in one gate, they do; else it follows from sets of the level above.
Lit Diagram::state_set(Strash& gates, std::size_t level, std::uint64_t set,
                       std::vector<std::map<std::uint64_t, Lit>>& memo) const {
    const std::size_t count = levels_[level].size();
    const std::uint64_t all = count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
    if (set == 0 || set == all)
        return set ? Lit{1} : Lit{0};
    auto& here = memo[level];
    if (const auto at = here.find(set); at != here.end())
        return at->second;
    if (const auto at = here.find(all & ~set); at != here.end())
        return at->second ^ 1;
    std::uint64_t before[2] = {};
    for (std::size_t s = 0; s < levels_[level - 1].size(); ++s)
        for (int bit = 0; bit < 2; ++bit)
            if (set >> levels_[level - 1][s].next[bit] & 1)
                before[bit] |= std::uint64_t{1} << s;
    Lit result = Lit{0};
    bool done = false;
    if (before[0] != before[1]) {
        for (auto a = here.begin(); a != here.end() && !done; ++a)
            for (auto b = here.begin(); b != here.end() && !done; ++b)
                for (int phase = 0; phase < 4 && !done; ++phase) {
                    const std::uint64_t x = phase & 1 ? all & ~a->first : a->first,
                                        y = phase & 2 ? all & ~b->first : b->first;
                    const Lit lx = a->second ^ (phase & 1), ly = b->second ^ (phase >> 1);
                    if ((x & y) == set) {
                        result = gates.and_(lx, ly);
                        done = true;
                    } else if ((x | y) == set) {
                        result = gates.or_(lx, ly);
                        done = true;
                    }
                }
    }
    if (!done) {
        const Lit zero = state_set(gates, level - 1, before[0], memo),
                  one = state_set(gates, level - 1, before[1], memo);
        const Lit input = lit_of(1 + static_cast<std::size_t>(order_[level - 1]));
        if ((before[0] & ~before[1]) == 0) // one set holds the other: a gate less than a multiplexer
            result = gates.or_(zero, gates.and_(input, one));
        else if ((before[1] & ~before[0]) == 0)
            result = gates.or_(one, gates.and_(input ^ 1, zero));
        else
            result = gates.mux(input, one, zero);
    }
    here.emplace(set, result);
    return result;
}

std::vector<Lit> Diagram::emit(Strash& gates) const {
    std::vector<std::vector<Lit>> literals(nodes_.size());
    const auto literal = [&](std::size_t level, Edge edge) {
        return (edge.node < 0 ? Lit{0} : literals[level][static_cast<std::size_t>(edge.node)]) ^
               static_cast<Lit>(edge.complement);
    };
    for (std::size_t level = nodes_.size(); level-- > 0;)
        for (const Node& node : nodes_[level])
            literals[level].push_back(gates.mux(lit_of(1 + static_cast<std::size_t>(order_[level + cut_])),
                                                literal(level + 1, node.next[1]), literal(level + 1, node.next[0])));
    std::vector<std::map<std::uint64_t, Lit>> memo(levels_.size());
    std::vector<Lit> result(outputs_);
    std::vector<std::size_t> by_level(outputs_); // the last first: what they need of upper levels serves the others too
    for (std::size_t o = 0; o < outputs_; ++o)
        by_level[o] = o;
    std::stable_sort(by_level.begin(), by_level.end(),
                     [&](std::size_t a, std::size_t b) { return last_[a] > last_[b]; });
    for (const std::size_t o : by_level) {
        std::uint64_t set = 0;
        if (last_[o] <= cut_) {
            for (std::size_t s = 0; s < known_[o].size(); ++s)
                set |= std::uint64_t{known_[o][s]} << s;
            result[o] = state_set(gates, last_[o], set, memo);
            continue;
        }
        std::map<int, std::pair<std::uint64_t, std::uint64_t>>
            users; // node: states that lead to it, and to its complement
        for (std::size_t s = 0; s < roots_.size(); ++s)
            (roots_[s][o].complement ? users[roots_[s][o].node].second : users[roots_[s][o].node].first) |=
                std::uint64_t{1} << s;
        for (const auto& [node, sets] : users) {
            const Lit inverted = state_set(gates, cut_, sets.second, memo);
            const Lit value = gates.xor_(literal(0, {node, false}), inverted);
            result[o] = gates.or_(result[o],
                                  node < 0 ? inverted
                                           : gates.and_(state_set(gates, cut_, sets.first | sets.second, memo), value));
        }
    }
    return result;
}

} // namespace tapeout::circuit
