#include "circuit/region.h"

#include "circuit/additive.h"
#include "circuit/alternative.h"
#include "circuit/fold.h"
#include "circuit/gating.h"
#include "circuit/orders.h"
#include "circuit/search.h"
#include "circuit/selection.h"
#include "circuit/signs.h"
#include "circuit/survey.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace tapeout::circuit {

namespace {

constexpr Word kManyQueries = 150'000'000; // a job that has asked so much is better split
constexpr Word kSomeQueries = 40'000'000;  // with a fair split at hand
constexpr Word kFewQueries = 10'000'000;   // with a clear one; and to see whether a word is a choice, or a half simple
constexpr std::size_t kEfforts = 4, kSomeEfforts = 3, kOutgrown = 3; // the last effort takes large diagrams
constexpr double kClearSplit = 0.7, kPoorSplit = 0.85;               // what is left to be known by then
constexpr double kClose = 0.15;                                      // splits that are near the best
constexpr std::size_t kOfEachWord = 2;
constexpr std::size_t kControls = 12;    // besides words of data
constexpr std::size_t kModest = 80;      // inputs whose halves may well be simple
constexpr std::size_t kMost = 64;        // rows that refute a circuit
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
          question_(question), survey_(question, task), search_(question, task, survey_), direct_(direct) {}

    RegionResult run() {
        survey_.renew();
        if (!direct_)
            select();
        if (!solved_)
            add_up(false);
        if (!solved_ && !result_.waiting && direct_ && !dense_)
            try_all();
        if (!solved_ && !result_.waiting && !direct_)
            learn_or_split();
        result_.support = survey_.support();
        result_.partners = survey_.partners();
        result_.hints = survey_.hints();
        result_.lively = survey_.lively();
        result_.queries = question_.queries();
        return std::move(result_);
    }

private:
    // The clearer a split is, the less is tried before it is taken.
    void learn_or_split() {
        const auto splits = ranked();
        const auto controls = control_bits(task_.words, survey_.support());
        const auto decides = [&](const Split& split) {
            return std::count(controls.begin(), controls.end(), split.bit) > 0;
        };
        const Split& best = splits.front();
        const Word before = question_.queries();
        most_queries_ = before + (best.left < kClearSplit ? kFewQueries : kSomeQueries);
        const bool dense = dense_ && best.bit >= 0; // no diagram holds it
        const bool data =
            (best.left >= kClearSplit || !decides(best)) && controls.size() <= kControls; // what is left is of words
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
        if (!split && !dense && best.left >= kPoorSplit)
            try_again(kSomeEfforts);
        if (!solved_ && !split && (best.left >= kClearSplit || survey_.support().size() <= kModest))
            split = look_ahead(splits);
        if (!solved_ && !split && best.left >= kClearSplit)
            add_up(true);
        Split likely = best;
        if (split && !decides(*split)) // it works, but more is tried before
            likely = *std::exchange(split, std::nullopt);
        if (!split && !dense && likely.left >= kPoorSplit)
            try_again(kEfforts);
        if (!solved_) {
            result_.split = split.value_or(likely).bit;
            result_.left = split.value_or(likely).left;
        }
    }

    // Splits, the best first. Rows that mattered elsewhere are mostly near to equalities, where all bits of a word
    // matter whatever the controls are: where no split is clear, rows without them may show one.
    std::vector<Split> ranked() {
        auto splits = rank_splits(question_, survey_.rows(), survey_.influence());
        if (splits.empty())
            return {Split{}};
        if (splits.front().left >= kPoorSplit && survey_.hints().size() > 0) {
            RegionTask plain = task_;
            plain.hints = Rows(question_.input_width(), 0);
            Survey fresh(question_, plain);
            fresh.renew();
            auto others = rank_splits(question_, fresh.rows(), fresh.influence());
            if (!others.empty() && others.front().left < splits.front().left)
                return others;
        }
        return splits;
    }

    // Learns the choice where the word is one of two simple words.
    void select() {
        const auto selection =
            find_selection(survey_.rows(), survey_.answers(), survey_.influence(), question_.outputs());
        if (!selection)
            return;
        std::vector<std::vector<int>> partners;
        for (const auto& cluster : survey_.clusters()) {
            partners.emplace_back();
            for (const int member : cluster)
                partners.back().push_back(survey_.support()[static_cast<std::size_t>(member)]);
        }
        SelectorQuestion choice(question_, *selection, partners);
        RegionTask task = task_;
        task.hints = survey_.hints();
        RegionResult found = Job(choice, task, true).run();
        Rows rows, answers;
        survey_.draw(rows, 4 * task_.tests); // the two words themselves
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
        Rows rows = survey_.lively(), answers;
        rows.append(survey_.rows());
        const auto gating = find_gating(question_, task_, rows, survey_.support());
        if (!gating)
            return;
        rows = behind(*gating, std::move(rows));
        question_.ask(rows, answers);
        const RegionTask inner = behind(*gating, task_);
        const auto words = whole_words(task_.words, survey_.support());
        Fold found(question_, inner, survey_.support());
        if (found.find(rows, answers) && found.learn(behind(*gating, survey_.drawing())))
            holds(with_gating(*gating, question_.input_bits(), found.circuit()), survey_.drawing());
        for (const Span& span : words) {
            const auto recorded = recorded_over(question_, span, rows, answers);
            result_.waiting = result_.waiting ||
                              (!recorded.empty() && std::count(recorded.begin(), recorded.end(), 0) == 0) ||
                              nearly_all(odd_in(question_, span, rows, answers));
        }
        result_.waiting = result_.waiting && !solved_ && task_.wait;
        if (solved_ || result_.waiting || !found.find_shown(rows, answers))
            return;
        if (const auto circuit = found.learn_shown())
            holds(with_gating(*gating, question_.input_bits(), *circuit), survey_.drawing());
    }

    // A control one half of which allows what the other one does not: that the word is a fold, or joins one.
    std::optional<int> fold_control() {
        const Rows &rows = survey_.rows(), &answers = survey_.answers();
        const std::size_t half = rows.size() / 8; // as many rows at least
        const auto words = whole_words(task_.words, survey_.support());
        const auto controls = control_bits(task_.words, survey_.support());
        if (question_.outputs() < kSumBits)
            return std::nullopt;
        std::optional<int> best;
        std::size_t most = rows.size() / 32;
        for (const Span& span : words)
            for (const auto& allowed :
                 {folds_over(question_, span, rows, answers), recorded_over(question_, span, rows, answers),
                  odd_in(question_, span, rows, answers)}) {
                if (allowed.empty())
                    continue;
                for (const int bit : controls) {
                    std::size_t seen[2] = {}, not_allowed[2] = {};
                    for (std::size_t row = 0; row < rows.size(); ++row) {
                        const bool value = get_bit(rows[row], static_cast<std::size_t>(bit));
                        ++seen[value];
                        not_allowed[value] += !allowed[row];
                    }
                    const std::size_t other = not_allowed[0] ? 0 : 1;
                    if (not_allowed[!other] == 0 && seen[0] > half && seen[1] > half && not_allowed[other] > most) {
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
        const auto found =
            find_alternative(question_, survey_.rows(), survey_.answers(), survey_.influence(), task_.words);
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
        if (!holds(circuit, survey_.drawing()))
            return;
        result_.nodes = where.nodes + other.nodes;
        result_.rounds += where.rounds + other.rounds;
    }

    // Learns the word as a sum of what single inputs add to it: at once where diagrams would be large, or after they
    // failed.
    void add_up(bool late) {
        if (!late && question_.outputs() < kSumBits)
            return;
        Additive sum(question_, task_, survey_.support(), survey_.lively(), late);
        if (sum.found() && (late || sum.strong()))
            add_up(sum, late);
        if (solved_ || !sum.carried())
            return;
        result_.waiting = task_.wait && !late;
        dense_ = survey_.support().size() > kDense;
    }

    void add_up(Additive& sum, bool late) {
        const Draw drawn = survey_.drawing();
        const auto circuit = sum.learn(learn_part, drawn, late ? task_.most_queries : kPartQueries);
        if (!circuit || (!late && sum.large(circuit->gates.size())))
            return;
        dense_ = !holds(*circuit, drawn) && survey_.support().size() > kDense;
        result_.additive = solved_;
    }

    // Takes the circuit if no row refutes it; else the rows that do become hints.
    bool holds(const Circuit& circuit, const Draw& drawn) {
        const Rows wrong = refute(question_, circuit, drawn, kSumTests * task_.tests, kMost);
        for (std::size_t i = 0; i < wrong.size(); ++i)
            survey_.add_hint(wrong[i]);
        if (wrong.size())
            return false;
        result_.circuit = circuit;
        return solved_ = true;
    }

    void try_all() { solved_ = search_.run(most_queries_, direct_ ? 1 : kOutgrown, effort_ + 1 >= kEfforts, result_); }

    // Looks for a diagram in other samples, until so many efforts were made.
    void try_again(std::size_t efforts) {
        most_queries_ = question_.queries() + kManyQueries;
        while (!solved_ && effort_ + 1 < efforts && question_.queries() < most_queries_) {
            ++effort_;
            survey_.renew();
            try_all();
        }
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
            half.hints = survey_.hints();
            Job job(question_, half, true);
            return job.run().solved();
        };
        for (const Split& split : tried)
            if (solves(split, false) && solves(split, true))
                return split;
        return std::nullopt;
    }

    const RegionTask& task_;
    Word most_queries_;
    Question& question_;
    Survey survey_;
    DiagramSearch search_;
    RegionResult result_;
    std::size_t effort_ = 0;
    bool solved_ = false, direct_;
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
