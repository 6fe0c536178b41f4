// The dead-man timers: the sandbox's lifetime, and how long it may be idle. On the monotonic clock,
// so that a sandbox whose wall clock is moved still ends.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/protocol.h"
#include "sandbox/supervisor/runtime.h"

namespace sbxfs::supervisor {

class Timers {
 public:
    void Set(int64_t now_ms, uint64_t lifetime_ms, uint64_t idle_ms, TimerAction action);
    void Use(int64_t now_ms) { idle_since_ms_ = now_ms; }
    uint64_t LifetimeLeft(int64_t now_ms) const;
    uint64_t IdleLeft(int64_t now_ms) const;

    enum class Due { kNothing, kIdle, kLifetime };
    // `busy`: a command runs, so the idle clock stands still.
    Due Check(int64_t now_ms, bool busy);
    int64_t NextTick(bool busy) const;
    TimerAction action() const { return action_; }

 private:
    int64_t lifetime_end_ms_ = kNever;
    int64_t idle_ms_ = kNever;
    int64_t idle_since_ms_ = 0;
    TimerAction action_ = TimerAction::kEndCommands;
};

}  // namespace sbxfs::supervisor
