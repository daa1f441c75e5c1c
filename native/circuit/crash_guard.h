// A black box inside this process may crash it, or end it. Then at least one line should say so.
#pragma once

#include <string>

namespace tapeout::circuit {

// From now on: on a fatal signal, or where somebody calls exit(), writes `line` and what happened to standard error and
// ends the process with `code`.
void guard_crashes(const std::string& line, int code);
// Signals as they were before.
void unguard_crashes();

} // namespace tapeout::circuit
