#include "circuit/survey.h"

#include "circuit/orders.h"

#include <algorithm>

namespace tapeout::circuit {

namespace {

constexpr std::size_t kFirst = 512,
                      kRows = 1024; // rows influence is measured on: before and after the active words are known
constexpr std::size_t kLively = 64; // rows in which many inputs matter, to test around

} // namespace

Survey::Survey(Question& question, const RegionTask& task)
    : question_(question), region_(question.input_width()),
      sampler_(task.words, question.input_width(), region_, task.seed), hints_(question.input_width(), 0),
      lively_(question.input_width(), 0) {
    region_.mask = task.mask;
    region_.value = task.value;
    for (std::size_t bit = 0; bit < question.input_bits(); ++bit)
        if (!region_.fixed(bit))
            candidates_.push_back(static_cast<int>(bit));
    for (std::size_t i = 0; i < task.hints.size(); ++i)
        add_hint(task.hints[i]);
}

void Survey::renew() {
    draw(rows_, kFirst);
    rows_.append(hints_);
    question_.ask(rows_, answers_);
    influence_ = {};
    influence_.extend(question_, rows_, answers_, candidates_);
    sampler_.set_focus({influence_.support, partners_});
    draw(rows_, kRows); // more of the words that turned out to matter
    rows_.append(hints_);
    question_.ask(rows_, answers_);
    influence_ = {};
    influence_.extend(question_, rows_, answers_, candidates_);
    group();
}

void Survey::learn_more() {
    Rows fresh(question_.input_width(), 0), answers;
    for (std::size_t i = surveyed_; i < hints_.size(); ++i)
        fresh.push(hints_[i]);
    question_.ask(fresh, answers);
    rows_.append(fresh);
    answers_.append(answers);
    influence_.extend(question_, rows_, answers_, candidates_);
    group();
}

void Survey::add_hint(const Word* row) {
    hints_.push(row);
    region_.force(hints_[hints_.size() - 1]);
}

void Survey::between(const Word* from, const Word* to) {
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

void Survey::draw(Rows& rows, std::size_t count, bool near) {
    sampler_.set_hints(&hints_, near ? &lively_ : nullptr);
    rows = Rows(question_.input_width(), count);
    sampler_.fill(rows);
}

void Survey::round_up(Rows& rows) {
    const std::size_t first = rows.size();
    if (first % 64 == 0)
        return;
    sampler_.set_hints(&hints_);
    rows.resize((first + 63) / 64 * 64);
    sampler_.fill(rows, first);
}

Draw Survey::drawing() {
    Sampler sampler = sampler_;
    sampler.set_hints(&hints_, &lively_);
    return [this, sampler](Rows& rows, std::size_t count) mutable {
        rows = Rows(question_.input_width(), count);
        sampler.fill(rows);
    };
}

void Survey::group() {
    surveyed_ = hints_.size();
    const auto order = liveliest_first(influence_, rows_.size(), question_.width());
    lively_ = Rows(question_.input_width(), 0);
    for (std::size_t i = 0; i < std::min(order.size(), kLively); ++i)
        lively_.push(rows_[order[i]]);
    clusters_ = find_partners(question_, rows_, answers_, influence_);
    partners_.clear();
    for (const auto& cluster : clusters_)
        if (cluster.size() > 1) {
            auto& place = partners_.emplace_back();
            for (const int member : cluster)
                place.push_back(influence_.support[static_cast<std::size_t>(member)]);
        }
    sampler_.set_focus({influence_.support, partners_});
}

} // namespace tapeout::circuit
