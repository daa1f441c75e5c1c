#include "circuit/joined.h"

#include "circuit/additive.h"
#include "circuit/fold.h"
#include "circuit/gating.h"
#include "circuit/signs.h"

#include <algorithm>
#include <numeric>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kRows = 256, kLively = 64; // rows influence is measured on; those kept
constexpr std::size_t kTests = 16;               // rows tested, times the task's

std::vector<int> all_outputs(const std::vector<JoinedPart>& parts) {
    std::vector<int> outputs;
    for (const JoinedPart& part : parts)
        outputs.insert(outputs.end(), part.outputs.begin(), part.outputs.end());
    return outputs;
}

// The inputs that matter, and the rows in which most of them do.
std::vector<int> survey(Question& question, const Region& region, const Rows& rows, Rows& lively) {
    Rows answers, flipped, changed;
    question.ask(rows, answers);
    std::vector<int> support;
    std::vector<std::size_t> activity(rows.size()), order(rows.size());
    for (std::size_t bit = 0; bit < question.input_bits(); ++bit) {
        if (region.fixed(bit))
            continue;
        flipped = rows;
        for (std::size_t row = 0; row < rows.size(); ++row)
            flip_bit(flipped[row], bit);
        question.ask(flipped, changed);
        std::size_t hits = 0;
        for (std::size_t row = 0; row < rows.size(); ++row) {
            const bool hit = !std::equal(answers[row], answers[row] + answers.width(), changed[row]);
            activity[row] += hit;
            hits += hit;
        }
        if (hits)
            support.push_back(static_cast<int>(bit));
    }
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return activity[a] > activity[b]; });
    for (std::size_t i = 0; i < std::min(kLively, rows.size()); ++i)
        lively.push(rows[order[i]]);
    return support;
}

} // namespace

JoinedQuestion::JoinedQuestion(Oracle& oracle, const std::vector<JoinedPart>& parts)
    : Question(oracle, all_outputs(parts)), parts_(parts) {
    for (const JoinedPart& part : parts) {
        questions_.emplace_back(oracle, part.outputs);
        outputs_ += part.outputs.size();
    }
}

void JoinedQuestion::ask(const Rows& rows, Rows& answers) {
    answers = Rows(width(), rows.size());
    std::size_t place = 0;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
        asked_ = rows;
        for (std::size_t row = 0; row < rows.size(); ++row)
            for (std::size_t w = 0; w < rows.width(); ++w)
                asked_[row][w] = (asked_[row][w] & ~parts_[p].mask[w]) | parts_[p].value[w];
        questions_[p].ask(asked_, got_);
        queries_ += rows.size();
        const std::size_t bits = parts_[p].outputs.size();
        for (std::size_t row = 0; row < rows.size(); ++row)
            for (std::size_t bit = 0; bit < bits; ++bit)
                if (get_bit(got_[row], bit))
                    set_bit(answers[row], place + bit, true);
        place += bits;
    }
}

namespace {

// The word of the last part as what each step of a fold shows, which is the word of the first.
std::optional<Circuit> learn_recorded(JoinedQuestion& folded, JoinedQuestion& word, const RegionTask& task,
                                      const std::vector<JoinedPart>& parts, const std::vector<int>& support,
                                      const Draw& draw) {
    RegionTask step = task;
    step.mask = parts[0].mask;
    step.value = parts[0].value;
    step.outputs = parts[0].outputs;
    Fold fold(folded, step, support);
    Rows rows, answers;
    draw(rows, kRows);
    folded.ask(rows, answers);
    if (!fold.find(rows, answers) || !fold.records(word, rows) || !fold.learn(draw))
        return std::nullopt;
    return fold.recorded(word, task);
}

// The word of the last part as that of the part before up to signs.
std::optional<Circuit> learn_signed(JoinedQuestion& other, JoinedQuestion& word, const RegionTask& task,
                                    const Circuit& low, const std::vector<int>& support, const Draw& draw) {
    Rows rows;
    draw(rows, kRows);
    const auto signs = find_signs(word, other, rows, whole_words(task.words, support));
    if (!signs)
        return std::nullopt;
    Circuit holds;
    if (signs->constant) {
        SignedQuestion question(word, other, *signs);
        RegionTask where = task;
        where.hints = Rows(word.input_width(), 0);
        const RegionResult learned = learn_part(question, where);
        if (!learned.solved())
            return std::nullopt;
        holds = learned.circuit;
    }
    return with_signs(*signs, word.input_bits(), low, signs->constant ? &holds : nullptr);
}

// Either of them, where some controls let the word through.
std::optional<Circuit> learn_gated(Oracle& oracle, const RegionTask& task, std::vector<JoinedPart> parts,
                                   const Circuit& low, const std::vector<int>& support, const Rows& rows,
                                   const Draw& draw, Word& queries) {
    JoinedQuestion word(oracle, {parts.back()});
    const auto gating = find_gating(word, task, rows, support);
    if (!gating) {
        queries += word.queries();
        return std::nullopt;
    }
    for (JoinedPart& part : parts) {
        RegionTask region = task;
        region.mask = part.mask;
        region.value = part.value;
        region = behind(*gating, region);
        part.mask = region.mask;
        part.value = region.value;
    }
    const RegionTask inner = behind(*gating, task);
    const Draw through = behind(*gating, draw);
    JoinedQuestion other(oracle, {parts[parts.size() - 2]}), let_through(oracle, {parts.back()});
    auto circuit = learn_signed(other, let_through, inner, low, support, through);
    if (!circuit && parts.size() == 2)
        circuit = learn_recorded(other, let_through, inner, parts, support, through);
    if (circuit)
        circuit = with_gating(*gating, word.input_bits(), *circuit);
    if (circuit && refute(word, *circuit, draw, kTests * task.tests, 1).size())
        circuit.reset();
    queries += word.queries() + other.queries() + let_through.queries();
    return circuit;
}

} // namespace

RegionResult learn_joined(Oracle& oracle, const RegionTask& task, std::vector<JoinedPart> parts, const Circuit& low) {
    parts.push_back({task.outputs, task.mask, task.value});
    JoinedQuestion question(oracle, parts);
    Region region(question.input_width());
    region.mask = task.mask;
    region.value = task.value;
    Sampler sampler(task.words, question.input_width(), region, task.seed);
    Rows rows(question.input_width(), kRows), lively(question.input_width(), 0);
    sampler.fill(rows);
    rows.append(task.hints);
    for (std::size_t row = kRows; row < rows.size(); ++row)
        region.force(rows[row]);
    RegionResult result;
    result.support = survey(question, region, rows, lively);
    sampler.set_hints(nullptr, &lively);
    sampler.set_focus({result.support, {}});
    const auto draw = [&](Rows& drawn, std::size_t count) {
        drawn = Rows(question.input_width(), count);
        sampler.fill(drawn);
    };
    Rows seen = lively;
    seen.append(rows);
    result.hints = task.hints;
    result.lively = lively;
    Word queries = 0; // beside those of the whole
    if (auto circuit = learn_gated(oracle, task, parts, low, result.support, seen, draw, queries)) {
        result.circuit = std::move(*circuit);
        result.queries = question.queries() + queries;
        return result;
    }
    const auto circuit = [&]() -> std::optional<Circuit> {
        Additive sum(question, task, result.support, lively, false);
        if (!sum.found() || !sum.strong())
            return std::nullopt;
        return sum.learn(learn_part, draw, task.most_queries);
    }();
    if (circuit && refute(question, *circuit, draw, kTests * task.tests, 1).size() == 0) {
        result.circuit = *circuit;
        auto& outputs = result.circuit.outputs; // of all parts
        outputs.erase(outputs.begin(), outputs.end() - static_cast<std::ptrdiff_t>(task.outputs.size()));
        result.additive = true;
    }
    result.queries = question.queries() + queries;
    return result;
}

} // namespace tapeout::circuit
