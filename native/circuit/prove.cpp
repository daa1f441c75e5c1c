#include "circuit/prove.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace tapeout::circuit {

namespace {

constexpr auto kProgressInterval = std::chrono::milliseconds(100);
// Twice the effort every so many levels: cases that stay hard get more than halving takes away.
constexpr int kEffortLevels = 6;

std::vector<Lit> append(Strash& to, const Aig& from) {
    std::vector<Lit> map(from.variables());
    for (std::size_t v = 0; v < from.first_gate(); ++v)
        map[v] = lit_of(v);
    const auto mapped = [&](Lit lit) { return map[lit >> 1] ^ (lit & 1); };
    for (std::size_t v = from.first_gate(); v < from.variables(); ++v)
        map[v] = to.and_(mapped(from.gate(v).a), mapped(from.gate(v).b));
    std::vector<Lit> outputs;
    for (const Lit output : from.outputs)
        outputs.push_back(mapped(output));
    return outputs;
}

} // namespace

Prover::Prover(const Aig& a, const Aig& b, std::vector<char> skip, ProveOptions options)
    : options_(std::move(options)), open_cases_(a.outputs.size(), 0) {
    proof_.verdicts.assign(a.outputs.size(), Verdict::kEqual);
    proof_.witnesses.resize(a.outputs.size());
    Strash both(a.inputs, a.gates.size() + b.gates.size());
    const std::vector<Lit> of_a = append(both, a), of_b = append(both, b);
    Case whole;
    whole.given.assign(a.inputs, 0);
    for (std::uint32_t i = 0; i < a.outputs.size(); ++i) {
        if (skip[i] || of_a[i] == of_b[i])
            continue;
        proof_.verdicts[i] = Verdict::kOpen;
        open_cases_[i] = 1;
        whole.outputs.push_back(i);
        both.aig.outputs.push_back(of_a[i]);
        both.aig.outputs.push_back(of_b[i]);
    }
    whole.graph = strash(both.aig);
    if (!whole.outputs.empty())
        waiting_.push_back(std::move(whole));
}

// One case of the output is done; the last one proves it.
void Prover::close(std::uint32_t output) {
    const std::lock_guard lock(mutex_);
    if (--open_cases_[output] == 0 && proof_.verdicts[output] == Verdict::kOpen)
        proof_.verdicts[output] = Verdict::kEqual;
}

void Prover::refute(const Case& item, std::uint32_t output, const Vector& witness) {
    const std::lock_guard lock(mutex_);
    if (proof_.verdicts[output] == Verdict::kDifferent)
        return;
    proof_.verdicts[output] = Verdict::kDifferent;
    proof_.witnesses[output] = witness;
    for (std::size_t i = 0; i < item.given.size(); ++i)
        if (item.given[i])
            proof_.witnesses[output][i] = item.given[i] > 0;
}

void Prover::settle(Case& item) {
    {
        const std::lock_guard lock(mutex_);
        ++proof_.cases;
    }
    const int shift = std::min(item.depth / kEffortLevels, 20);
    const SweepOptions options{options_.gate_conflicts << shift, options_.widths,
                               options_.seed + static_cast<std::uint64_t>(item.depth), item.depth ? 4 : 16};
    Sweeper sweeper(item.graph, options, true, stop_);
    sweeper.sweep();
    std::vector<std::size_t> rest;
    for (std::size_t pair = 0; pair < item.outputs.size(); ++pair) {
        const Answer answer = stop_ ? Answer::kUnknown : sweeper.ask(pair, options_.output_conflicts << shift);
        if (answer == Answer::kUnsat)
            close(item.outputs[pair]);
        else if (answer == Answer::kSat)
            refute(item, item.outputs[pair], sweeper.witness(pair));
        else
            rest.push_back(pair);
    }
    {
        const std::lock_guard lock(mutex_);
        proof_.conflicts += sweeper.counts().conflicts;
    }
    if (rest.empty() || stop_)
        return;
    Aig swept = sweeper.result();
    Case left;
    std::vector<Lit> outputs;
    for (const std::size_t pair : rest) {
        left.outputs.push_back(item.outputs[pair]);
        outputs.push_back(swept.outputs[2 * pair]);
        outputs.push_back(swept.outputs[2 * pair + 1]);
    }
    swept.outputs = std::move(outputs);
    left.graph = strash(swept);
    left.given = item.given;
    left.depth = item.depth + 1;
    divide(left);
}

void Prover::divide(const Case& rest) {
    const std::uint32_t input = best_split(rest.graph);
    if (!input)
        return; // constants that differ were refuted by the first pattern
    Case halves[2];
    for (int value = 0; value < 2; ++value) {
        halves[value].graph = cofactor(rest.graph, input, value == 1);
        halves[value].outputs = rest.outputs;
        halves[value].given = rest.given;
        halves[value].given[input - 1] = value ? 1 : -1;
        halves[value].depth = rest.depth;
    }
    const std::lock_guard lock(mutex_);
    for (const std::uint32_t output : rest.outputs)
        ++open_cases_[output];
    // The larger half waits on top: what is hard shows early.
    if (halves[0].graph.gates.size() > halves[1].graph.gates.size())
        std::swap(halves[0], halves[1]);
    for (Case& half : halves)
        waiting_.push_back(std::move(half));
    changed_.notify_all();
}

void Prover::work() {
    for (;;) {
        Case item;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return stop_ || !waiting_.empty() || !busy_; });
            if (stop_ || waiting_.empty())
                break;
            item = std::move(waiting_.back());
            waiting_.pop_back();
            ++busy_;
        }
        settle(item);
        {
            const std::lock_guard lock(mutex_);
            --busy_;
        }
        changed_.notify_all();
    }
    changed_.notify_all();
}

Proof Prover::run(const std::function<void(const std::vector<Verdict>&)>& progress) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                             std::chrono::duration<double>(std::min(options_.seconds, 1e8)));
    unsigned count = options_.threads ? options_.threads : std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::jthread> workers;
    const auto halt = [this] {
        const std::lock_guard lock(mutex_);
        stop_ = true;
        changed_.notify_all();
    };
    for (unsigned i = 0; i < count; ++i)
        workers.emplace_back([this] { work(); });
    try {
        for (;;) {
            std::unique_lock lock(mutex_);
            const auto idle = [this] { return !busy_ && waiting_.empty(); };
            changed_.wait_for(lock, kProgressInterval, idle);
            const bool ended = idle();
            const std::vector<Verdict> now = proof_.verdicts;
            lock.unlock();
            if (progress)
                progress(now);
            if (ended)
                break;
            if (Clock::now() >= deadline)
                break;
        }
    } catch (...) {
        halt();
        throw;
    }
    halt();
    workers.clear();
    return proof_;
}

} // namespace tapeout::circuit
