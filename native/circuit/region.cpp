#include "circuit/region.h"

#include "circuit/additive.h"
#include "circuit/alternative.h"
#include "circuit/fold.h"
#include "circuit/gating.h"
#include "circuit/orders.h"
#include "circuit/selection.h"
#include "circuit/signs.h"

#include <algorithm>
#include <optional>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kFirst = 512,
                      kRows = 1024; // rows influence is measured on: before and after the active words are known
constexpr std::size_t kTrial = 128, kPool = 256; // suffixes for trying orders, and for the diagram
constexpr std::size_t kSteps = 40, kOutgrown = 3, kRounds = 40;
constexpr std::size_t kLively = 64;        // rows in which many inputs matter, to test around
constexpr Word kManyQueries = 150'000'000; // a job that has asked so much is better split
constexpr Word kSomeQueries = 40'000'000;  // with a fair split at hand
constexpr Word kFewQueries = 10'000'000;   // with a clear one; and to see whether a word is a choice, or a half simple
constexpr std::size_t kEfforts = 4;
constexpr double kClearSplit = 0.7, kPoorSplit = 0.85; // what is left to be known by then
constexpr double kClose = 0.15;                        // splits that are near the best
constexpr std::size_t kOfEachWord = 2;
constexpr std::size_t kControls = 12;    // besides words of data
constexpr std::size_t kModest = 80;      // inputs whose halves may well be simple
constexpr std::size_t kSmall = 10;       // inputs whose diagrams are small in any order
constexpr std::size_t kMost = 64;        // counterexamples of one round
constexpr std::size_t kSumBits = 4;      // narrower words have small diagrams, or none is a sum
constexpr std::size_t kDense = 20;       // inputs of a product whose diagrams are too large
constexpr Word kPartQueries = 2'000'000; // for a part of a sum, before diagrams were tried
constexpr std::size_t kSumTests = 16;    // as many rows a sum is tested on as an edge, times this

class Job {
public:
    // `direct`: learn the question itself, do not look for a selection.
    Job(Question& question, const RegionTask& task, bool direct = false)
        : task_(task),
          most_queries_(question.queries() + std::min(task.most_queries, direct ? kFewQueries : kManyQueries)),
          question_(question), region_(question.input_width()),
          sampler_(task.words, question.input_width(), region_, task.seed), hints_(question.input_width(), 0),
          lively_(question.input_width(), 0), direct_(direct) {
        region_.mask = task.mask;
        region_.value = task.value;
        for (std::size_t bit = 0; bit < question.input_bits(); ++bit)
            if (!region_.fixed(bit))
                candidates_.push_back(static_cast<int>(bit));
        for (std::size_t i = 0; i < task.hints.size(); ++i)
            add_hint(task.hints[i]);
    }

    RegionResult run() {
        survey();
        if (!direct_)
            select();
        if (!solved_)
            add_up(false);
        if (!solved_ && !result_.waiting && direct_ && !dense_)
            try_all();
        if (!solved_ && !result_.waiting && !direct_)
            learn_or_split();
        result_.support = influence_.support;
        result_.hints = hints_;
        result_.lively = lively_;
        result_.queries = question_.queries();
        return std::move(result_);
    }

private:
    // The clearer a split is, the less is tried before it is taken.
    void learn_or_split() {
        auto splits = rank_splits(question_, rows_, influence_);
        if (splits.empty())
            splits.emplace_back();
        const Split& best = splits.front();
        const Word before = question_.queries();
        most_queries_ = before + (best.left < kClearSplit ? kFewQueries : kSomeQueries);
        const bool dense = dense_ && best.bit >= 0; // no diagram holds it
        const bool data = best.left >= kClearSplit &&
                          control_bits(task_.words, influence_.support).size() <= kControls; // what is left is of words
        if (data)
            alternate();
        if (!solved_ && !dense)
            try_all();
        if (!solved_ && data)
            fold();
        if (result_.waiting)
            return;
        std::optional<Split> split;
        if (const auto control = solved_ || !data ? std::nullopt : fold_control())
            split = Split{*control, best.left};
        if (!solved_ && !split && (best.left >= kClearSplit || influence_.support.size() <= kModest))
            split = look_ahead(splits);
        if (!solved_ && !split && best.left >= kClearSplit)
            add_up(true);
        most_queries_ = before + kManyQueries;
        while (!solved_ && !split && !dense && best.left >= kPoorSplit && ++effort_ < kEfforts &&
               question_.queries() < most_queries_) {
            survey();
            try_all();
        }
        if (!solved_) {
            result_.split = split.value_or(best).bit;
            result_.left = split.value_or(best).left;
        }
    }

    // Learns the choice where the word is one of two simple words.
    void select() {
        const auto selection = find_selection(rows_, answers_, influence_, question_.outputs());
        if (!selection)
            return;
        std::vector<std::vector<int>> partners;
        for (const auto& cluster : clusters_) {
            partners.emplace_back();
            for (const int member : cluster)
                partners.back().push_back(influence_.support[static_cast<std::size_t>(member)]);
        }
        SelectorQuestion choice(question_, *selection, partners);
        RegionTask task = task_;
        task.hints = hints_;
        RegionResult found = Job(choice, task, true).run();
        Rows rows, answers;
        draw(rows, 4 * task_.tests); // the two words themselves
        choice.ask(rows, answers);
        if (choice.broken() || found.split >= 0 || !found.solved())
            return;
        Strash gates(question_.input_bits());
        const Lit first = gates.place(found.circuit.gates, found.circuit.outputs)[0];
        const auto source = [](Source from) {
            return from.bit == Source::kZero  ? Lit{0}
                   : from.bit == Source::kOne ? Lit{1}
                                              : lit_of(1 + static_cast<std::size_t>(from.bit));
        };
        for (std::size_t o = 0; o < question_.outputs(); ++o)
            result_.circuit.outputs.push_back(
                gates.mux(first, source(selection->first[o]), source(selection->second[o])));
        result_.circuit.gates = std::move(gates.aig.gates);
        result_.nodes = found.nodes;
        result_.order = found.order;
        result_.cut = found.cut;
        result_.rounds += found.rounds;
        solved_ = true;
    }

    // Learns the step that the word repeats for each bit of an input word.
    void fold() {
        if (question_.outputs() < kSumBits)
            return;
        Rows rows = lively_, answers;
        rows.append(rows_);
        const auto gating = find_gating(question_, task_, rows, influence_.support);
        if (!gating)
            return;
        rows = behind(*gating, std::move(rows));
        question_.ask(rows, answers);
        const RegionTask inner = behind(*gating, task_);
        const auto words = whole_words(task_.words, influence_.support);
        Fold found(question_, inner, influence_.support);
        if (found.find(rows, answers) && found.learn(behind(*gating, drawing())))
            holds(with_gating(*gating, question_.input_bits(), found.circuit()), drawing());
        for (const Span& span : words) {
            const auto recorded = recorded_over(question_, span, rows, answers);
            result_.waiting = result_.waiting ||
                              (!recorded.empty() && std::count(recorded.begin(), recorded.end(), 0) == 0) ||
                              nearly_all(odd_in(question_, span, rows, answers));
        }
        result_.waiting = result_.waiting && !solved_ && task_.wait;
    }

    // A control one half of which allows what the other one does not: that the word is a fold, or joins one.
    std::optional<int> fold_control() {
        const std::size_t half = rows_.size() / 8; // as many rows at least
        const auto words = whole_words(task_.words, influence_.support);
        const auto controls = control_bits(task_.words, influence_.support);
        if (question_.outputs() < kSumBits)
            return std::nullopt;
        std::optional<int> best;
        std::size_t most = rows_.size() / 32;
        for (const Span& span : words)
            for (const auto& allowed :
                 {folds_over(question_, span, rows_, answers_), recorded_over(question_, span, rows_, answers_),
                  odd_in(question_, span, rows_, answers_)}) {
                if (allowed.empty())
                    continue;
                for (const int bit : controls) {
                    std::size_t rows[2] = {}, not_allowed[2] = {};
                    for (std::size_t row = 0; row < rows_.size(); ++row) {
                        const bool value = get_bit(rows_[row], static_cast<std::size_t>(bit));
                        ++rows[value];
                        not_allowed[value] += !allowed[row];
                    }
                    const std::size_t other = not_allowed[0] ? 0 : 1;
                    if (not_allowed[!other] == 0 && rows[0] > half && rows[1] > half && not_allowed[other] > most) {
                        most = not_allowed[other];
                        best = bit;
                    }
                }
            }
        return best;
    }

    // Learns the other word, and where the word is that one, if it is some input bits elsewhere.
    void alternate() {
        if (question_.outputs() < kSumBits)
            return;
        const auto found = find_alternative(question_, rows_, answers_, influence_, task_.words);
        if (!found)
            return;
        RegionTask held = task_;
        held.hints = Rows(question_.input_width(), 0); // those of other words hide the order; the whole is tested
        WiredQuestion choice(question_, found->wired);
        const RegionResult where = learn_simple(choice, held);
        if (!where.solved())
            return;
        for (const int bit : found->wired) {
            set_bit(held.mask.data(), static_cast<std::size_t>(bit), true);
            set_bit(held.value.data(), static_cast<std::size_t>(bit), found->held);
        }
        const RegionResult other = learn_simple(question_, held);
        if (!other.solved())
            return;
        Strash gates(question_.input_bits());
        const Lit chosen = gates.place(where.circuit.gates, where.circuit.outputs)[0];
        Circuit circuit;
        const std::vector<Lit> word = place(gates, other.circuit, circuit.fold);
        for (std::size_t o = 0; o < word.size(); ++o)
            circuit.outputs.push_back(
                gates.mux(chosen, lit_of(1 + static_cast<std::size_t>(found->wired[o])), word[o]));
        circuit.gates = std::move(gates.aig.gates);
        if (!holds(circuit, drawing()))
            return;
        result_.nodes = where.nodes + other.nodes;
        result_.rounds += where.rounds + other.rounds;
    }

    // Learns the word as a sum of what single inputs add to it: at once where diagrams would be large, or after they
    // failed.
    void add_up(bool late) {
        if (!late && question_.outputs() < kSumBits)
            return;
        Additive sum(question_, task_, influence_.support, lively_, late);
        if (sum.found() && (late || sum.strong()))
            add_up(sum, late);
        if (solved_ || !sum.carried())
            return;
        result_.waiting = task_.wait && !late;
        dense_ = influence_.support.size() > kDense;
    }

    void add_up(Additive& sum, bool late) {
        const Draw drawn = drawing();
        const auto circuit = sum.learn(learn_part, drawn, late ? task_.most_queries : kPartQueries);
        if (!circuit || (!late && sum.large(circuit->gates.size())))
            return;
        dense_ = !holds(*circuit, drawn) && influence_.support.size() > kDense;
        result_.additive = solved_;
    }

    // Rows of the region. What else is learned does not depend on whether they were drawn.
    Draw drawing() {
        Sampler sampler = sampler_;
        sampler.set_hints(&hints_, &lively_);
        return [this, sampler](Rows& rows, std::size_t count) mutable {
            rows = Rows(question_.input_width(), count);
            sampler.fill(rows);
        };
    }

    // Takes the circuit if no row refutes it; else the rows that do become hints.
    bool holds(const Circuit& circuit, const Draw& drawn) {
        const Rows wrong = refute(question_, circuit, drawn, kSumTests * task_.tests, kMost);
        for (std::size_t i = 0; i < wrong.size(); ++i)
            add_hint(wrong[i]);
        if (wrong.size())
            return false;
        result_.circuit = circuit;
        return solved_ = true;
    }

    // Where inputs of several words compete: the first split both of whose halves are learned with few queries, if any.
    std::optional<Split> look_ahead(const std::vector<Split>& splits) {
        std::vector<Split> tried; // the best of each word
        std::vector<std::size_t> seen(task_.words.size());
        for (const Split& split : splits) {
            const std::size_t word = word_of(split.bit, task_.words);
            if (split.left < splits[0].left + kClose && ++seen[word] <= kOfEachWord)
                tried.push_back(split);
        }
        if (std::count_if(seen.begin(), seen.end(), [](std::size_t count) { return count > 0; }) < 2)
            return std::nullopt;
        const auto solves = [&](const Split& split, bool value) {
            RegionTask half = task_;
            set_bit(half.mask.data(), static_cast<std::size_t>(split.bit), true);
            set_bit(half.value.data(), static_cast<std::size_t>(split.bit), value);
            half.hints = hints_;
            Job job(question_, half, true);
            return job.run().solved();
        };
        for (const Split& split : tried)
            if (solves(split, false) && solves(split, true))
                return split;
        return std::nullopt;
    }

    void try_all() {
        done_ = false;
        grown_ = 0;
        std::size_t outgrown = 0;
        for (std::size_t step = 0;
             step < kSteps && outgrown < (direct_ ? 1 : kOutgrown) && !done_ && question_.queries() < most_queries_;
             ++step) {
            attempt();
            if (done_)
                break;
            if (why_ == Why::outgrown) {
                ++outgrown;
                survey();
            } else {
                learn_more();
            }
        }
    }

    void add_hint(const Word* row) {
        hints_.push(row);
        region_.force(hints_[hints_.size() - 1]);
    }

    void draw(Rows& rows, std::size_t count) {
        rows = Rows(question_.input_width(), count);
        sampler_.fill(rows);
    }

    // Rows, answers, support and partners, with all that is known so far.
    void survey() {
        sampler_.set_hints(&hints_);
        draw(rows_, kFirst);
        rows_.append(hints_);
        question_.ask(rows_, answers_);
        Influence first;
        first.extend(question_, rows_, answers_, candidates_);
        influence_ = std::move(first);
        sampler_.set_focus({influence_.support, result_.partners});
        draw(rows_, kRows); // more of the words that turned out to matter
        rows_.append(hints_);
        question_.ask(rows_, answers_);
        influence_ = {};
        influence_.extend(question_, rows_, answers_, candidates_);
        group();
    }

    // Only what the new hints show.
    void learn_more() {
        Rows fresh(question_.input_width(), 0), answers;
        for (std::size_t i = surveyed_; i < hints_.size(); ++i)
            fresh.push(hints_[i]);
        question_.ask(fresh, answers);
        rows_.append(fresh);
        answers_.append(answers);
        influence_.extend(question_, rows_, answers_, candidates_);
        group();
    }

    void group() {
        surveyed_ = hints_.size();
        keep_lively();
        clusters_ = find_partners(question_, rows_, answers_, influence_);
        result_.partners.clear();
        for (const auto& cluster : clusters_)
            if (cluster.size() > 1) {
                auto& place = result_.partners.emplace_back();
                for (const int member : cluster)
                    place.push_back(influence_.support[static_cast<std::size_t>(member)]);
            }
        sampler_.set_focus({influence_.support, result_.partners});
    }

    // The rows in which most inputs matter: where a comparison hangs in the balance, and whatever else is rare.
    void keep_lively() {
        const auto order = liveliest_first(influence_, rows_.size(), question_.width());
        lively_ = Rows(question_.input_width(), 0);
        for (std::size_t i = 0; i < std::min(order.size(), kLively); ++i)
            lively_.push(rows_[order[i]]);
    }

    struct Choice {
        std::vector<int> order; // input bits
        std::vector<std::vector<Word>> outputs;
        Shape shape;
        std::size_t cost = 0;
    };

    // The order, and the cut, that give the smallest circuit.
    std::optional<Choice> choose_order(std::size_t limit) {
        std::optional<Choice> best;
        Rows trial, ignored(question_.input_width(), 0);
        draw(trial, kTrial);
        for (std::size_t i = 0; i < hints_.size() && i < kTrial; ++i)
            trial.push(hints_[hints_.size() - 1 - i]);
        round_up(trial);
        std::vector<std::vector<double>> decides;
        for (std::size_t v = 0; v < influence_.support.size(); ++v)
            decides.push_back(interplay(question_, rows_, influence_, v, 24));
        const std::size_t enough = 2 * (influence_.support.size() + question_.outputs()) + 12;
        for (const auto& proposal : propose_orders(influence_, clusters_, decides, task_.words))
            for (const int cut : {-1, 0}) {
                if (best && best->cost <= enough)
                    return best;
                Choice choice;
                choice.shape.cut = cut;
                choice.shape.max_nodes = limit;
                for (const int member : proposal) {
                    choice.order.push_back(influence_.support[static_cast<std::size_t>(member)]);
                    choice.outputs.push_back(influence_.outputs[static_cast<std::size_t>(member)]);
                }
                const auto diagram =
                    Diagram::learn(question_, region_, choice.order, choice.outputs, trial, choice.shape, ignored);
                ++result_.orders;
                if (!diagram || (cut < 0 && diagram->cut() == 0)) // the second try is the same
                    continue;
                Strash gates(question_.input_bits());
                diagram->emit(gates);
                choice.cost = gates.aig.gates.size();
                if (!best || choice.cost < best->cost)
                    best = std::move(choice);
            }
        return best;
    }

    void round_up(Rows& rows) {
        const std::size_t first = rows.size();
        if (first % 64 == 0)
            return;
        rows.resize((first + 63) / 64 * 64);
        sampler_.fill(rows, first);
    }

    // Gates that a diagram of a simple function does not need.
    std::size_t soft_limit() const { return 10 * (influence_.support.size() + question_.outputs()) + 64; }

    void attempt() {
        // Where no input is a clear control, new samples may show a better order; the last effort takes a large
        // diagram.
        const std::size_t soft = soft_limit() * (effort_ + 1 < kEfforts ? 1 : 4);
        const bool small = influence_.support.size() <= kSmall; // no split makes it simpler
        auto choice = choose_order(small ? std::size_t{1} << 16 : soft);
        if (!choice || (choice->cost > soft && !small)) {
            done_ = true;
            return;
        }
        choice->shape.max_nodes *= 2;
        Rows pool;
        draw(pool, kPool);
        pool.append(hints_);
        round_up(pool);
        std::size_t tests = 256;
        for (std::size_t round = 0; round < kRounds && question_.queries() < most_queries_; ++round) {
            Rows found(question_.input_width(), 0), outside = found;
            const auto diagram =
                Diagram::learn(question_, region_, choice->order, choice->outputs, pool, choice->shape, outside);
            why_ = Why::outgrown; // survey again: the counterexamples show what was missed
            if (!diagram || explore(outside))
                return;
            bool clean = true;
            while (clean && !solved_) {
                Rows fresh;
                sampler_.set_hints(&hints_, &lively_);
                draw(fresh, tests);
                sampler_.set_hints(&hints_);
                ++result_.rounds;
                clean = diagram->verify(question_, fresh, found, outside, kMost);
                for (std::size_t i = 0; i < found.size(); ++i)
                    add_hint(found[i]);
                if (explore(outside))
                    return;
                pool.append(found);
                round_up(pool);
                if (clean && tests >= task_.tests) {
                    Strash gates(question_.input_bits());
                    diagram->emit(gates);
                    if (!small &&
                        gates.aig.gates.size() > soft) { // it grew: look for an order that suits what is known now
                        done_ = ++grown_ > 2;
                        return;
                    }
                    accept(*diagram);
                } else if (clean)
                    tests *= 4;
            }
            if (solved_)
                return;
        }
    }

    // Whether there are pairs that show that inputs matter which were thought not to; they become hints.
    bool explore(const Rows& pairs) {
        for (std::size_t i = 0; i < pairs.size() && i < kMost; i += 2)
            between(pairs[i], pairs[i + 1]);
        if (pairs.size())
            why_ = Why::outside;
        return pairs.size() > 0;
    }

    // Two rows with different answers: the rows on the way between which the answer changes at one bit.
    void between(const Word* from, const Word* to) {
        Rows path(question_.input_width(), 0), answers;
        std::vector<Word> row(from, from + question_.input_width());
        path.push(row.data());
        for (std::size_t bit = 0; bit < question_.input_bits(); ++bit)
            if (get_bit(row.data(), bit) != get_bit(to, bit)) {
                flip_bit(row.data(), bit);
                path.push(row.data());
            }
        question_.ask(path, answers);
        for (std::size_t i = 0; i + 1 < path.size(); ++i)
            if (!std::equal(answers[i], answers[i] + question_.width(), answers[i + 1])) {
                add_hint(path[i]); // one of the two is on the rare side
                add_hint(path[i + 1]);
            }
    }

    void accept(const Diagram& diagram) {
        Strash gates(question_.input_bits());
        result_.circuit.outputs = diagram.emit(gates);
        result_.circuit.gates = std::move(gates.aig.gates);
        result_.nodes = diagram.size();
        result_.order = diagram.order();
        result_.cut = diagram.cut();
        solved_ = done_ = true;
    }

    const RegionTask& task_;
    Word most_queries_;
    Question& question_;
    Region region_;
    Sampler sampler_;
    Rows rows_, answers_, hints_, lively_;
    Influence influence_;
    std::vector<std::vector<int>> clusters_;
    std::vector<int> candidates_;
    RegionResult result_;
    std::size_t effort_ = 0;
    enum class Why { outgrown, outside } why_ = Why::outgrown;
    std::size_t grown_ = 0;    // times that a diagram was right but too large
    std::size_t surveyed_ = 0; // hints that influence_ has seen
    bool solved_ = false, done_ = false, direct_;
    bool dense_ = false; // like a product: diagrams would be exponential
};

} // namespace

RegionResult learn_part(Question& question, const RegionTask& task) {
    return Job(question, task, true).run();
}

RegionResult learn_simple(Question& question, RegionTask& task) {
    RegionResult result;
    for (std::size_t effort = 0; effort < kEfforts && !result.solved(); ++effort) {
        task.seed = mix(task.seed);
        result = learn_part(question, task);
    }
    return result;
}

RegionResult learn_region(Oracle& oracle, const RegionTask& task) {
    Question question(oracle, task.outputs);
    return Job(question, task).run();
}

Hash region_signature(Oracle& oracle, const RegionTask& task, std::size_t count) {
    Question question(oracle, task.outputs);
    const Region nowhere(question.input_width());
    Region region(question.input_width());
    region.mask = task.mask;
    region.value = task.value;
    Sampler sampler(task.words, question.input_width(), nowhere, task.seed);
    Rows rows(question.input_width(), count), answers;
    sampler.fill(rows);
    for (std::size_t i = 0; i < count; ++i)
        region.force(rows[i]);
    question.ask(rows, answers);
    Hash hash;
    for (std::size_t i = 0; i < count * question.width(); ++i)
        hash.add(answers.data()[i]);
    return hash;
}

} // namespace tapeout::circuit
