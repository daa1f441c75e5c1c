#include "circuit/crash_guard.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace tapeout::circuit {

namespace {

struct Fatal {
    int number;
    const char* name;
};
constexpr Fatal kFatal[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGFPE, "SIGFPE"}, {SIGILL, "SIGILL"}, {SIGABRT, "SIGABRT"}};
constexpr std::size_t kCount = sizeof(kFatal) / sizeof(kFatal[0]);

// Plain memory: what handles a signal may not allocate or lock.
char line_[1024];
int code_ = 2;
std::atomic<bool> armed_{false};
struct sigaction before_[kCount];

void say(const char* text) {
    if (write(STDERR_FILENO, text, std::strlen(text)) < 0)
        return; // nowhere to say it
}

void tell(const char* what) {
    say(line_);
    say(" (");
    say(what);
    say(")\n");
    _exit(code_);
}

void on_signal(int number) {
    for (const Fatal& fatal : kFatal)
        if (fatal.number == number)
            tell(fatal.name);
    _exit(code_);
}

void on_exit_called() {
    if (armed_)
        tell("it called exit");
}

} // namespace

void guard_crashes(const std::string& line, int code) {
    std::memset(line_, 0, sizeof line_);
    std::memcpy(line_, line.data(), std::min(line.size(), sizeof line_ - 1));
    code_ = code;
    static const bool registered = std::atexit(on_exit_called) == 0;
    if (!registered || armed_.exchange(true))
        return;
    struct sigaction action{};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < kCount; ++i)
        sigaction(kFatal[i].number, &action, &before_[i]);
}

void unguard_crashes() {
    if (!armed_.exchange(false))
        return;
    for (std::size_t i = 0; i < kCount; ++i)
        sigaction(kFatal[i].number, &before_[i], nullptr);
}

} // namespace tapeout::circuit
