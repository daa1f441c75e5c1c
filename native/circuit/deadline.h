// A flag that becomes true at a point in time.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace tapeout::circuit {

class Deadline {
public:
    explicit Deadline(double seconds)
        : timer_([this, seconds](std::stop_token token) {
              std::unique_lock lock(mutex_);
              const auto time = std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e8));
              if (!ended_.wait_for(lock, token, time, [&token] { return token.stop_requested(); }))
                  passed_ = true;
          }) {}

    const std::atomic<bool>& passed() const { return passed_; }

private:
    std::atomic<bool> passed_{false};
    std::mutex mutex_;
    std::condition_variable_any ended_;
    std::jthread timer_; // last: it uses the others
};

} // namespace tapeout::circuit
