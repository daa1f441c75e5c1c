#include "circuit/bsd.h"

#include "circuit/bsd_diagram.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

namespace tapeout::circuit {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kInfluence = 256; // rows behind the influences that all outputs share
constexpr std::size_t kChunk = 4096;

// What is asked once for all outputs: validation rows with their answers, and each input's influence on each output.
struct Shared {
    std::size_t words = 0, out_words = 0;
    std::vector<std::uint64_t> rows, answers;
    std::vector<std::vector<double>> influence; // [output][input]
    std::uint64_t queries = 0;
};

void random_rows(std::uint64_t* rows, std::size_t count, std::size_t bits, Random& random) {
    const std::size_t words = row_words(bits);
    for (std::size_t i = 0; i < count * words; ++i) {
        rows[i] = random.next();
        if (bits % 64 && i % words == words - 1)
            rows[i] &= (std::uint64_t{1} << (bits % 64)) - 1;
    }
}

void measure_influence(Oracle& oracle, Shared& shared) {
    const std::size_t inputs = oracle.input_bits();
    std::vector<std::uint64_t> rows(kInfluence * shared.words), answers(kInfluence * shared.out_words);
    for (std::size_t input = 0; input < inputs; ++input) {
        std::copy_n(shared.rows.data(), rows.size(), rows.data());
        for (std::size_t i = 0; i < kInfluence; ++i)
            rows[i * shared.words + input / 64] ^= std::uint64_t{1} << (input % 64);
        oracle.evaluate(rows.data(), answers.data(), kInfluence);
        shared.queries += kInfluence;
        for (std::size_t i = 0; i < kInfluence; ++i)
            for (std::size_t word = 0; word < shared.out_words; ++word) {
                std::uint64_t changed =
                    answers[i * shared.out_words + word] ^ shared.answers[i * shared.out_words + word];
                for (; changed; changed &= changed - 1)
                    shared.influence[64 * word + static_cast<std::size_t>(std::countr_zero(changed))][input] +=
                        1.0 / kInfluence;
            }
    }
}

Shared ask_shared(Oracle& oracle, const BsdOptions& options) {
    Shared shared;
    shared.words = row_words(oracle.input_bits());
    shared.out_words = row_words(oracle.output_bits());
    shared.rows.resize(kBsdValidation * shared.words);
    shared.answers.resize(kBsdValidation * shared.out_words);
    Random random(options.seed, ~std::uint64_t{0});
    random_rows(shared.rows.data(), kBsdValidation, oracle.input_bits(), random);
    for (std::size_t at = 0; at < kBsdValidation; at += kChunk)
        oracle.evaluate(shared.rows.data() + at * shared.words, shared.answers.data() + at * shared.out_words, kChunk);
    shared.queries = kBsdValidation;
    shared.influence.assign(oracle.output_bits(), std::vector<double>(oracle.input_bits()));
    measure_influence(oracle, shared);
    return shared;
}

// Two inputs of a good order change places, or one moves elsewhere.
std::vector<std::uint32_t> vary(std::vector<std::uint32_t> order, Random& random) {
    const std::size_t size = order.size();
    for (std::size_t moves = 1 + random.below(3); moves > 0 && size > 1; --moves) {
        const std::size_t from = random.below(size), to = random.below(size);
        const std::uint32_t variable = order[from];
        order.erase(order.begin() + static_cast<std::ptrdiff_t>(from));
        order.insert(order.begin() + static_cast<std::ptrdiff_t>(to), variable);
    }
    return order;
}

struct Learned {
    std::unique_ptr<BsdDiagram> diagram;
    BsdOutput output;
};

// Tries orders for one output: by influence, by influence with chance, and variations of the best.
Learned learn_output(Oracle& oracle, const BsdOptions& options, const Shared& shared, std::size_t output,
                     const BsdLimits& limits) {
    BsdAsker asker(oracle, output);
    Learned best;
    std::size_t built = 0;
    for (; built < std::max<std::size_t>(1, options.orders); ++built) {
        if (built && (asker.queries >= limits.queries || Clock::now() >= limits.deadline))
            break;
        Random random(options.seed, output, built);
        const bool varied = built >= 2 && built % 2 == 0;
        std::vector<std::uint32_t> order;
        if (varied)
            order = vary(best.diagram->order(), random);
        auto diagram = std::make_unique<BsdDiagram>(asker, options, limits, shared.influence[output], std::move(order),
                                                    built ? 0.5 : 0.0, output * 1024 + built);
        std::size_t errors = 0;
        for (std::size_t i = 0; i < kBsdValidation; ++i) {
            const bool right = shared.answers[i * shared.out_words + output / 64] >> (output % 64) & 1;
            errors += diagram->evaluate(shared.rows.data() + i * shared.words) != right;
        }
        const auto rank = [](const BsdDiagram& d, std::size_t wrong) { return std::make_pair(wrong, d.nodes()); };
        if (!best.diagram || rank(*diagram, errors) < rank(*best.diagram, best.output.validation_errors)) {
            best.output = diagram->describe();
            best.output.validation_errors = errors;
            best.diagram = std::move(diagram);
        }
        if (best.output.nodes <= best.output.order.size() && errors == 0) { // a node a layer: no order does better
            ++built;
            break;
        }
    }
    best.output.orders = built;
    best.output.queries = asker.queries;
    return best;
}

// Hands the outputs to threads, in order; the first error in that order is the one that is thrown.
class Crew {
public:
    Crew(Oracle& oracle, const BsdOptions& options, const Shared& shared, Clock::time_point begin)
        : oracle_(oracle), options_(options), shared_(shared), begin_(begin), learned_(oracle.output_bits()),
          errors_(oracle.output_bits()) {}

    std::vector<Learned> run(const BsdProgress& progress) {
        unsigned count = options_.threads ? options_.threads : std::max(1U, std::thread::hardware_concurrency());
        if (!oracle_.concurrent())
            count = 1;
        running_ = std::min<std::size_t>(count, std::max<std::size_t>(1, learned_.size()));
        std::vector<std::jthread> threads;
        for (std::size_t i = running_; i > 0; --i)
            threads.emplace_back([this] { work(); });
        std::unique_lock lock(mutex_);
        while (!ended_.wait_for(lock, std::chrono::milliseconds(100), [this] { return running_ == 0; })) {
            lock.unlock();
            try {
                if (progress && !progress(done_, learned_.size()))
                    stop_ = true;
            } catch (...) { // the threads must end before it goes on
                stop_ = true;
                throw;
            }
            lock.lock();
        }
        lock.unlock();
        threads.clear();
        for (const std::exception_ptr& error : errors_)
            if (error)
                std::rethrow_exception(error);
        if (stop_)
            throw BsdStopped();
        return std::move(learned_);
    }

private:
    void work() {
        for (std::size_t at = next_++; at < learned_.size() && !stop_; at = next_++) {
            try {
                learned_[at] = learn_output(oracle_, options_, shared_, at, limits(at));
            } catch (...) {
                errors_[at] = std::current_exception();
                stop_ = true;
            }
            ++done_;
        }
        const std::lock_guard lock(mutex_);
        --running_;
        ended_.notify_all();
    }

    // Each output may take its share of the time and what those before it have left; queries are shared out evenly, so
    // that threads cannot change the result.
    BsdLimits limits(std::size_t at) const {
        const std::size_t outputs = learned_.size();
        auto deadline = Clock::time_point::max();
        if (options_.budget_s > 0) {
            const double share = static_cast<double>(std::min(outputs, at + 1)) / static_cast<double>(outputs);
            deadline = begin_ + std::chrono::duration_cast<Clock::duration>(
                                    std::chrono::duration<double>(options_.budget_s * share));
        }
        std::uint64_t queries = std::numeric_limits<std::uint64_t>::max();
        if (options_.budget_queries)
            queries =
                options_.budget_queries > shared_.queries ? (options_.budget_queries - shared_.queries) / outputs : 0;
        return {deadline, queries, stop_};
    }

    Oracle& oracle_;
    const BsdOptions& options_;
    const Shared& shared_;
    Clock::time_point begin_;
    std::vector<Learned> learned_;
    std::vector<std::exception_ptr> errors_;
    std::atomic<std::size_t> next_ = 0, done_ = 0;
    std::atomic<bool> stop_ = false;
    std::size_t running_ = 0;
    std::mutex mutex_;
    std::condition_variable ended_;
};

} // namespace

BsdResult learn_bsd(Oracle& oracle, const BsdOptions& options, const BsdProgress& progress) {
    const auto begin = Clock::now();
    const Shared shared = ask_shared(oracle, options);
    std::vector<Learned> learned = Crew(oracle, options, shared, begin).run(progress);
    BsdResult result;
    result.queries = shared.queries;
    Strash graph(oracle.input_bits());
    for (Learned& output : learned) {
        graph.aig.outputs.push_back(output.diagram->write(graph));
        result.queries += output.output.queries;
        result.outputs.push_back(std::move(output.output));
    }
    result.aig = std::move(graph.aig);
    return result;
}

} // namespace tapeout::circuit
