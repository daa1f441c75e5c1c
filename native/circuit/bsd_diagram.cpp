#include "circuit/bsd_diagram.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <unordered_map>

namespace tapeout::circuit {

namespace {

using Edge = BsdDiagram::Edge;
using Signature = std::vector<std::uint64_t>;

constexpr std::uint32_t kNoVariable = ~std::uint32_t{0};
constexpr std::size_t kInfluenceRows = 64; // questions behind the choice of a layer's input, for each candidate

Edge edge_to(std::size_t node, bool complement) {
    return static_cast<Edge>(2 * (1 + node) + (complement ? 1 : 0));
}

void flip_bit(std::uint64_t* row, std::size_t bit) {
    row[bit / 64] ^= std::uint64_t{1} << (bit % 64);
}

std::size_t ones_of(const Signature& signature) {
    std::size_t ones = 0;
    for (const std::uint64_t word : signature)
        ones += static_cast<std::size_t>(std::popcount(word));
    return ones;
}

std::size_t distance(const Signature& a, const Signature& b) {
    std::size_t ones = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        ones += static_cast<std::size_t>(std::popcount(a[i] ^ b[i]));
    return ones;
}

std::uint64_t hash_of(const Signature& signature) {
    std::uint64_t hash = 0;
    for (const std::uint64_t word : signature)
        hash = mix_bits(hash ^ word) + 1;
    return hash;
}

} // namespace

BsdAsker::BsdAsker(Oracle& oracle, std::size_t output)
    : oracle_(oracle), output_(output), words_(row_words(oracle.input_bits())),
      out_words_(row_words(oracle.output_bits())), in_(kRows * words_), out_(kRows * out_words_) {}

std::uint64_t* BsdAsker::push() {
    return in_.data() + words_ * rows_++;
}

const std::vector<std::uint8_t>& BsdAsker::flush() {
    answers_.resize(rows_);
    if (rows_)
        oracle_.evaluate(in_.data(), out_.data(), rows_);
    for (std::size_t row = 0; row < rows_; ++row)
        answers_[row] = out_[row * out_words_ + output_ / 64] >> (output_ % 64) & 1;
    queries += rows_;
    rows_ = 0;
    return answers_;
}

struct BsdDiagram::Growing {
    std::vector<std::uint64_t> access; // the inputs that lead here, the others 0
    double weight = 0;                 // share of uniform inputs that come by
    double ones = 0;                   // share of the function's values
    bool complement = false;           // the function is the complement of what the access vector leads to
};

// The sub-functions that a layer's edges lead to, told apart by signature.
struct BsdDiagram::Classes {
    std::vector<Signature> signatures; // complemented so that bit 0 is 0
    std::vector<Growing> nodes;
    std::vector<Edge> edges; // two for each expanded node
    std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> by_hash;
    std::size_t speculated = 0;

    // The edge to the sub-function behind `access`.
    Edge add(Signature signature, std::size_t count, std::vector<std::uint64_t> access, double weight) {
        const std::size_t ones = ones_of(signature);
        if (ones == 0 || ones == count) {
            ++speculated;
            return ones ? 1 : 0;
        }
        const bool complement = signature[0] & 1;
        if (complement) {
            for (std::uint64_t& word : signature)
                word = ~word;
            if (count % 64)
                signature.back() &= (std::uint64_t{1} << (count % 64)) - 1;
        }
        std::vector<std::uint32_t>& same = by_hash[hash_of(signature)];
        for (const std::uint32_t index : same)
            if (signatures[index] == signature) {
                nodes[index].weight += weight;
                return edge_to(index, complement);
            }
        same.push_back(static_cast<std::uint32_t>(nodes.size()));
        const double share = static_cast<double>(complement ? count - ones : ones) / static_cast<double>(count);
        nodes.push_back({std::move(access), weight, share, complement});
        signatures.push_back(std::move(signature));
        return edge_to(nodes.size() - 1, complement);
    }
};

bool BsdDiagram::over(const BsdLimits& limits) const {
    if (limits.stop.load(std::memory_order_relaxed))
        throw BsdStopped();
    return std::chrono::steady_clock::now() >= limits.deadline;
}

// Completions of a layer: all of them if they are few, else random ones, the same for all its nodes.
void BsdDiagram::fill_completions(std::size_t depth) {
    const std::size_t words = asker_.words();
    whole_ = remaining_.size() < 20 && (std::size_t{1} << remaining_.size()) <= options_.samples;
    count_ = whole_ ? std::size_t{1} << remaining_.size() : options_.samples;
    completions_.assign(count_ * words, 0);
    Random random(options_.seed, stream_, 2 * depth);
    for (std::size_t i = 0; i < count_; ++i) {
        std::uint64_t bits = 0;
        for (std::size_t k = 0; k < remaining_.size(); ++k) {
            if (k % 64 == 0)
                bits = whole_ ? i : random.next();
            if (bits >> (k % 64) & 1)
                flip_bit(completions_.data() + i * words, remaining_[k]);
        }
    }
}

BsdDiagram::BsdDiagram(BsdAsker& asker, const BsdOptions& options, const BsdLimits& limits,
                       std::span<const double> influence, std::vector<std::uint32_t> order, double jitter,
                       std::uint64_t stream)
    : asker_(asker), options_(options), influence_(influence), stream_(stream), remaining_(influence.size()) {
    std::iota(remaining_.begin(), remaining_.end(), 0U);
    const std::size_t inputs = remaining_.size();
    const std::size_t deepest = options.max_depth ? std::min(options.max_depth, inputs) : inputs;
    const double share = (1 - options.accuracy) / static_cast<double>(std::max<std::size_t>(1, deepest));
    std::vector<Growing> nodes = start(limits);
    while (!nodes.empty() && layers_.size() < deepest && !over(limits)) {
        const std::size_t questions = nodes.size() * 2 * options.samples + (inputs + 1) * kInfluenceRows;
        if (asker_.queries + questions > limits.queries)
            break;
        allowed_ += share;
        const std::size_t depth = layers_.size();
        expand(nodes, depth < order.size() ? order[depth] : choose(nodes, jitter, depth), depth);
    }
    for (const Growing& node : nodes) {
        majority_.push_back(node.ones > 0.5);
        stats_.merge_error += node.weight * std::min(node.ones, 1 - node.ones);
    }
    stats_.cut = nodes.size();
    stats_.exhaustive = stats_.exhaustive && !stats_.cut && !stats_.merged && !stats_.forced;
}

// The whole function: a constant, or the one node of the first layer.
std::vector<BsdDiagram::Growing> BsdDiagram::start(const BsdLimits& limits) {
    std::vector<Growing> whole(1);
    whole[0].access.assign(asker_.words(), 0);
    whole[0].weight = 1;
    fill_completions(remaining_.size());
    stats_.exhaustive = whole_;
    if (over(limits) || asker_.queries + count_ > limits.queries) {
        root_ = edge_to(0, false); // nothing can be asked: cut before it begins
        stats_.exhaustive = false;
        return whole;
    }
    Classes classes;
    ask(whole, kNoVariable, classes);
    stats_.speculated += whole_ ? 0 : classes.speculated;
    root_ = classes.edges[0];
    return std::move(classes.nodes);
}

std::uint32_t BsdDiagram::choose(const std::vector<Growing>& nodes, double jitter, std::size_t depth) {
    if (remaining_.size() == 1)
        return remaining_[0];
    const std::size_t words = asker_.words();
    Random random(options_.seed, stream_, 2 * depth + 1);
    std::vector<std::uint64_t> rows(kInfluenceRows * words);
    for (std::size_t i = 0; i < kInfluenceRows; ++i) {
        std::uint64_t* row = rows.data() + i * words;
        const std::size_t at = nodes.size() > kInfluenceRows ? random.below(nodes.size()) : i % nodes.size();
        std::copy_n(nodes[at].access.data(), words, row);
        for (const std::uint32_t variable : remaining_)
            if (random.next() & 1)
                flip_bit(row, variable);
    }
    std::vector<std::uint8_t> answers;
    const auto drain = [&] {
        const auto& got = asker_.flush();
        answers.insert(answers.end(), got.begin(), got.end());
    };
    for (std::size_t candidate = 0; candidate <= remaining_.size(); ++candidate)
        for (std::size_t i = 0; i < kInfluenceRows; ++i) {
            std::uint64_t* row = asker_.push();
            std::copy_n(rows.data() + i * words, words, row);
            if (candidate)
                flip_bit(row, remaining_[candidate - 1]);
            if (asker_.full())
                drain();
        }
    drain();
    std::uint32_t best = remaining_[0];
    double most = -1;
    for (std::size_t candidate = 0; candidate < remaining_.size(); ++candidate) {
        double changed = influence_[remaining_[candidate]];
        for (std::size_t i = 0; i < kInfluenceRows; ++i)
            changed += answers[(candidate + 1) * kInfluenceRows + i] != answers[i];
        changed *= 1 + jitter * (2 * random.unit() - 1);
        if (changed > most) {
            most = changed;
            best = remaining_[candidate];
        }
    }
    return best;
}

// The edges of both branches of each node on `variable`, or to the nodes themselves without one.
void BsdDiagram::ask(const std::vector<Growing>& nodes, std::uint32_t variable, Classes& classes) {
    const std::size_t words = asker_.words();
    const std::size_t branches = variable == kNoVariable ? 1 : 2;
    const auto access_of = [&](std::size_t edge) {
        std::vector<std::uint64_t> access = nodes[edge / branches].access;
        if (edge % branches)
            flip_bit(access.data(), variable);
        return access;
    };
    Signature signature((count_ + 63) / 64);
    std::size_t filled = 0;
    const auto drain = [&] {
        for (const std::uint8_t answer : asker_.flush()) {
            signature[filled / 64] |= std::uint64_t{answer} << (filled % 64);
            if (++filled < count_)
                continue;
            const std::size_t edge = classes.edges.size();
            const double weight = nodes[edge / branches].weight / static_cast<double>(branches);
            classes.edges.push_back(classes.add(signature, count_, access_of(edge), weight));
            std::fill(signature.begin(), signature.end(), 0);
            filled = 0;
        }
    };
    for (std::size_t edge = 0; edge < nodes.size() * branches; ++edge) {
        const std::vector<std::uint64_t> access = access_of(edge);
        for (std::size_t i = 0; i < count_; ++i) {
            std::uint64_t* row = asker_.push();
            for (std::size_t word = 0; word < words; ++word)
                row[word] = access[word] | completions_[i * words + word];
            if (asker_.full())
                drain();
        }
    }
    drain();
}

void BsdDiagram::expand(std::vector<Growing>& nodes, std::uint32_t variable, std::size_t depth) {
    order_.push_back(variable);
    std::erase(remaining_, variable);
    fill_completions(depth);
    Classes classes;
    ask(nodes, variable, classes);
    stats_.speculated += whole_ ? 0 : classes.speculated;
    if (options_.accuracy < 1 || classes.nodes.size() > options_.max_width)
        reduce(classes);
    Layer layer{variable, std::vector<Node>(nodes.size())};
    for (std::size_t i = 0; i < nodes.size(); ++i)
        for (std::size_t branch = 0; branch < 2; ++branch)
            layer.nodes[i].edges[branch] = classes.edges[2 * i + branch] ^ (nodes[i].complement ? 1U : 0U);
    layers_.push_back(std::move(layer));
    nodes = std::move(classes.nodes);
}

// Merges sub-functions by Boolean distance, the rarest first: within the accuracy target, then down to the width cap.
void BsdDiagram::reduce(Classes& classes) {
    const std::size_t size = classes.nodes.size();
    std::vector<std::uint32_t> rarest(size);
    std::iota(rarest.begin(), rarest.end(), 0U);
    std::stable_sort(rarest.begin(), rarest.end(), [&](std::uint32_t a, std::uint32_t b) {
        return classes.nodes[a].weight != classes.nodes[b].weight ? classes.nodes[a].weight < classes.nodes[b].weight
                                                                  : a > b;
    });
    std::vector<Edge> becomes(size); // of each class: itself, or what it was merged into
    for (std::size_t i = 0; i < size; ++i)
        becomes[i] = edge_to(i, false);
    const auto alive = [&](std::size_t i) { return becomes[i] == edge_to(i, false); };
    std::size_t left = size;
    for (const bool forced : {false, true})
        for (const std::uint32_t at : rarest) {
            if (!alive(at) || (forced && left <= options_.max_width))
                continue;
            const Signature& own = classes.signatures[at];
            const std::size_t ones = ones_of(own);
            Edge nearest = ones <= count_ - ones ? 0 : 1;
            std::size_t least = std::min(ones, count_ - ones);
            for (std::size_t other = 0; other < size; ++other) {
                if (other == at || !alive(other))
                    continue;
                const std::size_t apart = distance(own, classes.signatures[other]);
                if (std::min(apart, count_ - apart) < least) {
                    least = std::min(apart, count_ - apart);
                    nearest = edge_to(other, apart > count_ - apart);
                }
            }
            const double error = classes.nodes[at].weight * static_cast<double>(least) / static_cast<double>(count_);
            if (!forced && error > allowed_)
                continue;
            allowed_ -= forced ? 0 : error;
            stats_.merge_error += error;
            ++(forced ? stats_.forced : stats_.merged);
            becomes[at] = nearest;
            if (nearest >= 2)
                classes.nodes[nearest / 2 - 1].weight += classes.nodes[at].weight;
            --left;
        }
    compact(classes, becomes);
}

// Follows merged classes to what they became, and numbers the others anew.
void BsdDiagram::compact(Classes& classes, std::vector<Edge>& becomes) {
    const std::size_t size = becomes.size();
    const auto resolve = [&](Edge edge) {
        while (edge >= 2 && becomes[edge / 2 - 1] != (edge & ~1U))
            edge = becomes[edge / 2 - 1] ^ (edge & 1);
        return edge;
    };
    std::vector<std::uint32_t> number(size);
    std::vector<Growing> kept;
    for (std::size_t i = 0; i < size; ++i)
        if (becomes[i] == edge_to(i, false)) {
            number[i] = static_cast<std::uint32_t>(kept.size());
            kept.push_back(std::move(classes.nodes[i]));
        }
    for (Edge& edge : classes.edges) {
        const Edge to = resolve(edge);
        edge = to < 2 ? to : edge_to(number[to / 2 - 1], to & 1);
    }
    classes.nodes = std::move(kept);
}

bool BsdDiagram::evaluate(const std::uint64_t* row) const {
    Edge edge = root_;
    for (const Layer& layer : layers_) {
        if (edge < 2)
            break;
        const bool value = row[layer.variable / 64] >> (layer.variable % 64) & 1;
        edge = layer.nodes[edge / 2 - 1].edges[value] ^ (edge & 1);
    }
    return edge < 2 ? edge : majority_[edge / 2 - 1] ^ (edge & 1);
}

Lit BsdDiagram::write(Strash& graph) const {
    std::vector<Lit> below(majority_.begin(), majority_.end()); // literals 0 and 1 are the constants
    const auto literal = [&](Edge edge) { return edge < 2 ? edge : below[edge / 2 - 1] ^ (edge & 1); };
    for (std::size_t at = layers_.size(); at-- > 0;) {
        const Layer& layer = layers_[at];
        const Lit select = lit_of(1 + layer.variable);
        std::vector<Lit> here(layer.nodes.size());
        for (std::size_t i = 0; i < here.size(); ++i) {
            const Lit low = literal(layer.nodes[i].edges[0]);
            const Lit high = literal(layer.nodes[i].edges[1]);
            here[i] = low == high ? low : graph.or_(graph.and_(select, high), graph.and_(select ^ 1, low));
        }
        below = std::move(here);
    }
    return literal(root_);
}

std::size_t BsdDiagram::nodes() const {
    std::size_t total = 0;
    for (const Layer& layer : layers_)
        for (const Node& node : layer.nodes)
            total += node.edges[0] != node.edges[1];
    return total;
}

BsdOutput BsdDiagram::describe() const {
    BsdOutput output = stats_;
    output.nodes = nodes();
    output.order = order_;
    for (const Layer& layer : layers_)
        output.widths.push_back(static_cast<std::uint32_t>(layer.nodes.size()));
    return output;
}

} // namespace tapeout::circuit
