// The parallel lane: each command its own process, session, directory and environment, started at
// once.
#pragma once

#include "sandbox/supervisor/commands.h"
#include "sandbox/supervisor/shells.h"

namespace sbxfs::supervisor {

class ParallelLane {
 public:
    ParallelLane(Runtime& runtime, Commands& commands) : runtime_(runtime), commands_(commands) {}

    // Ends the command at once when it cannot start.
    void Start(Command& command);
    // exec succeeded or failed.
    void OnSpawned(uint64_t n);
    // A child of ours ended; true when it was a command.
    bool OnExit(int pid, int wait_status);

 private:
    long WriteScript(Command& command, const Account* account, Fd* kept, Str* path);

    Runtime& runtime_;
    Commands& commands_;
};

}  // namespace sbxfs::supervisor
