// What happens when a dead-man timer runs out, step by step, since each step waits for the one
// before.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/commands.h"
#include "sandbox/supervisor/shell_lane.h"
#include "sandbox/supervisor/timers.h"

namespace sbxfs::supervisor {

class Expiry {
 public:
    Expiry(Commands& commands, ShellLane& shell) : commands_(commands), shell_(shell) {}

    void Begin(Timers::Due due, TimerAction action, int64_t now_ms);
    void Tick(int64_t now_ms);
    int64_t NextTick() const { return next_ms_; }

 private:
    void EndCommands();

    Commands& commands_;
    ShellLane& shell_;
    TimerAction action_ = TimerAction::kEndCommands;
    int step_ = 0;
    int64_t next_ms_ = kNever;
};

}  // namespace sbxfs::supervisor
