// What a program that cannot go on, or ended wrongly, is told.
#include "sim/functional_machine.h"

namespace tapeout::sim {

namespace {

constexpr std::array<const char*, kQueues> kQueueNames = {"LD", "ST", "MV", "MM", "VE"};

} // namespace

void FunctionalMachine::fail(const Fault& fault, int core, int thread, int command, int loop,
                             const std::vector<int64_t>& slots) const {
    SimFault error;
    error.what = fault.what;
    error.core = core;
    error.thread = thread;
    error.command = command;
    error.address = fault.address;
    for (int l = loop; l >= 0; l = program_.loops[static_cast<size_t>(l)].parent) {
        const int slot = program_.loops[static_cast<size_t>(l)].slot;
        error.loops.insert(error.loops.begin(), {slot, slots[static_cast<size_t>(slot)]});
    }
    throw error;
}

void FunctionalMachine::check_balance() const {
    for (size_t c = 0; c < cores_.size(); ++c) {
        for (size_t s = 0; s < cores_[c].semaphores.size(); ++s) {
            const Semaphore& semaphore = cores_[c].semaphores[s];
            if (semaphore.value == semaphore.initial)
                continue;
            SimFault error;
            error.what = "unbalanced: semaphore " + std::to_string(s) + " of core " + std::to_string(c) +
                         " ends with " + std::to_string(semaphore.value) + " instead of its initial " +
                         std::to_string(semaphore.initial);
            error.core = static_cast<int>(c);
            throw error;
        }
    }
}

std::string FunctionalMachine::blocked_on(const Core& core, int number) const {
    const auto missing = [&](const std::vector<Wait>& waits) {
        for (const Wait& w : waits) {
            const int64_t held = core.semaphores[static_cast<size_t>(w.semaphore)].value;
            if (held < w.count) {
                return "waits for " + std::to_string(w.count) + " of semaphore " + std::to_string(w.semaphore) +
                       ", which holds " + std::to_string(held);
            }
        }
        return std::string("waits");
    };
    for (size_t q = 0; q < core.queues.size(); ++q) {
        if (!core.queues[q].entries.empty()) {
            const int command = core.queues[q].entries.front().command;
            return std::string(kQueueNames[q]) + " of core " + std::to_string(number) + " " +
                   missing(program_.commands[static_cast<size_t>(command)].waits);
        }
    }
    const Step& step = program_.steps[static_cast<size_t>(core.pc)];
    const std::string control = "control of core " + std::to_string(number) + " ";
    if (step.kind == StepKind::Barrier)
        return control + "waits at a " + (step.chip ? "chip" : "cluster") + " barrier that another core does not reach";
    return control + missing(step.waits);
}

// The first core that is blocked by a command speaks for all; one at a barrier only if there is no other.
void FunctionalMachine::fail_blocked() const {
    int chosen = -1;
    const Entry* head = nullptr;
    int thread = kControl;
    for (size_t c = 0; c < cores_.size() && !head; ++c) {
        if (chosen < 0 && !ended(cores_[c]))
            chosen = static_cast<int>(c);
        for (size_t q = 0; q < kQueues && !head; ++q) {
            if (!cores_[c].queues[q].entries.empty()) {
                head = &cores_[c].queues[q].entries.front();
                thread = static_cast<int>(q);
                chosen = static_cast<int>(c);
            }
        }
    }
    const Core& core = cores_[static_cast<size_t>(chosen)];
    const Fault fault{"deadlock: " + blocked_on(core, chosen)};
    if (head) {
        const Command& command = program_.commands[static_cast<size_t>(head->command)];
        fail(fault, chosen, thread, head->command, command.loop, head->slots);
    }
    fail(fault, chosen, thread, -1, program_.steps[static_cast<size_t>(core.pc)].loop, core.slots);
}

} // namespace tapeout::sim
