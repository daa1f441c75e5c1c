#include "circuit/watched_oracle.h"

#include "circuit/oracle_error.h"

#include <algorithm>
#include <vector>

namespace tapeout::circuit {

WatchedOracle::Asking::Asking(WatchedOracle& watched) : watched_(watched) {
    const std::lock_guard lock(watched_.mutex_);
    place_ = watched_.begins_.insert(Clock::now());
    number_ = watched_.batches_++;
}

WatchedOracle::Asking::~Asking() {
    const std::lock_guard lock(watched_.mutex_);
    watched_.begins_.erase(place_);
}

void WatchedOracle::evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) {
    const Asking asking(*this);
    oracle_.evaluate(in, out, rows);
    if (asking.number() % kEvery || !rows)
        return;
    const std::size_t count = std::min(rows, kAgain), width = row_words(output_bits());
    const std::size_t first = asking.number() / kEvery * kAgain % (rows - count + 1);
    std::vector<std::uint64_t> again(count * width);
    oracle_.evaluate(in + first * row_words(input_bits()), again.data(), count);
    if (!std::equal(again.begin(), again.end(), out + first * width))
        throw OracleError(
            "not deterministic: questions were answered differently when they were asked again", "oracle",
            "give a black box whose answer depends on its inputs only; make state an input and an output");
}

double WatchedOracle::waiting_s() const {
    const std::lock_guard lock(mutex_);
    return begins_.empty() ? 0 : std::chrono::duration<double>(Clock::now() - *begins_.begin()).count();
}

} // namespace tapeout::circuit
