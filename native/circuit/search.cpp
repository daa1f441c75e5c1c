#include "circuit/search.h"

#include "circuit/orders.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kTrial = 128, kPool = 256; // suffixes for trying orders, and for the diagram
constexpr std::size_t kSteps = 40, kRounds = 40;
constexpr std::size_t kSmall = 10; // inputs whose diagrams are small in any order
constexpr std::size_t kMost = 64;  // counterexamples of one round
constexpr std::size_t kGrown = 2;

} // namespace

bool DiagramSearch::run(Word most_queries, std::size_t patience, bool large, RegionResult& result) {
    grown_ = 0;
    std::size_t outgrown = 0;
    for (std::size_t step = 0; step < kSteps && outgrown < patience && question_.queries() < most_queries; ++step)
        switch (attempt(large, most_queries, result)) {
        case Step::solved:
            return true;
        case Step::hopeless:
            return false;
        case Step::outgrown: // the counterexamples show what was missed
            ++outgrown;
            survey_.renew();
            break;
        case Step::inputs_missed:
            survey_.learn_more();
        }
    return false;
}

// The order, and the cut, that give the smallest circuit.
std::optional<DiagramSearch::Choice> DiagramSearch::choose_order(std::size_t limit, RegionResult& result) {
    const Influence& influence = survey_.influence();
    std::optional<Choice> best;
    Rows trial, ignored(question_.input_width(), 0);
    survey_.draw(trial, kTrial);
    const Rows& hints = survey_.hints();
    for (std::size_t i = 0; i < hints.size() && i < kTrial; ++i)
        trial.push(hints[hints.size() - 1 - i]);
    survey_.round_up(trial);
    std::vector<std::vector<double>> decides;
    for (std::size_t v = 0; v < influence.support.size(); ++v)
        decides.push_back(interplay(question_, survey_.rows(), influence, v, 24));
    const std::size_t enough = 2 * (influence.support.size() + question_.outputs()) + 12;
    for (const auto& proposal : propose_orders(influence, survey_.clusters(), decides, task_.words))
        for (const int cut : {-1, 0}) {
            if (best && best->cost <= enough)
                return best;
            Choice choice;
            choice.shape.cut = cut;
            choice.shape.max_nodes = limit;
            for (const int member : proposal) {
                choice.order.push_back(influence.support[static_cast<std::size_t>(member)]);
                choice.outputs.push_back(influence.outputs[static_cast<std::size_t>(member)]);
            }
            const auto diagram =
                Diagram::learn(question_, survey_.region(), choice.order, choice.outputs, trial, choice.shape, ignored);
            ++result.orders;
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

DiagramSearch::Step DiagramSearch::attempt(bool large, Word most_queries, RegionResult& result) {
    const auto& support = survey_.support();
    // Gates that a diagram of a simple function does not need. Where no input is a clear control, new samples may show
    // a better order; the last effort takes a large diagram.
    const std::size_t soft = (10 * (support.size() + question_.outputs()) + 64) * (large ? 4 : 1);
    const bool small = support.size() <= kSmall; // no split makes it simpler
    auto choice = choose_order(small ? std::size_t{1} << 16 : soft, result);
    if (!choice || (choice->cost > soft && !small))
        return Step::hopeless;
    choice->shape.max_nodes *= 2;
    Rows pool;
    survey_.draw(pool, kPool);
    pool.append(survey_.hints());
    survey_.round_up(pool);
    std::size_t tests = 256;
    for (std::size_t round = 0; round < kRounds && question_.queries() < most_queries; ++round) {
        Rows found(question_.input_width(), 0), outside = found;
        const auto diagram =
            Diagram::learn(question_, survey_.region(), choice->order, choice->outputs, pool, choice->shape, outside);
        if (!diagram)
            return Step::outgrown;
        if (explore(outside))
            return Step::inputs_missed;
        for (bool clean = true; clean;) {
            Rows fresh;
            survey_.draw(fresh, tests, true);
            ++result.rounds;
            clean = diagram->verify(question_, fresh, found, outside, kMost);
            for (std::size_t i = 0; i < found.size(); ++i)
                survey_.add_hint(found[i]);
            if (explore(outside))
                return Step::inputs_missed;
            pool.append(found);
            survey_.round_up(pool);
            if (!clean)
                break;
            if (tests < task_.tests) {
                tests *= 4;
                continue;
            }
            Strash gates(question_.input_bits());
            const std::vector<Lit> outputs = diagram->emit(gates);
            if (!small && gates.aig.gates.size() > soft) // it grew: look for an order that suits what is known now
                return ++grown_ > kGrown ? Step::hopeless : Step::outgrown;
            result.circuit = {std::move(gates.aig.gates), outputs, {}, std::nullopt};
            result.nodes = diagram->size();
            result.order = diagram->order();
            result.cut = diagram->cut();
            return Step::solved;
        }
    }
    return Step::outgrown;
}

// Whether there are pairs that show that inputs matter which were thought not to; they become hints.
bool DiagramSearch::explore(const Rows& pairs) {
    for (std::size_t i = 0; i < pairs.size() && i < kMost; i += 2)
        survey_.between(pairs[i], pairs[i + 1]);
    return pairs.size() > 0;
}

} // namespace tapeout::circuit
