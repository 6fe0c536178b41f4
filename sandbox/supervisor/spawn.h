// Starting a program: everything between fork and exec, and how the child tells that it failed
// before exec.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/accounts.h"
#include "sandbox/supervisor/environment.h"
#include "sandbox/supervisor/files.h"

namespace sbxfs::supervisor {

// What the login gave this program and its commands shall have again; we change it for ourselves.
struct Inherited {
    unsigned umask = 022;
    uint64_t soft_files = 1024;
    uint64_t hard_files = 1024;
    Str oom_score;  // as /proc/self/oom_score_adj has it; empty: was not touched
};

// Under this number a shell of another user finds the spool's commands, whose path it may not walk.
// High, so that scripts that close descriptors by number leave it alone.
inline constexpr int kCommandsFd = 200;

struct SpawnOrder {
    View program;           // a path
    Vec<const char*> argv;  // without the final nullptr
    Environment env;
    View cwd;
    const Account* account = nullptr;  // nullptr: who we are
    int in = -1;
    int out = -1;
    int err = -1;
    int commands = -1;  // becomes kCommandsFd
    int script = -1;    // stays open under its own number
};

enum class SpawnStep : int32_t { kFork = 0, kUser = 1, kDirectory = 2, kProgram = 3, kGone = 4 };

struct SpawnFailure {
    SpawnStep step = SpawnStep::kFork;
    int32_t error = 0;  // an errno
};

struct Spawned {
    long pid = 0;  // negative errno when there is no child
    Fd status;     // at its end: exec succeeded; otherwise one SpawnFailure. Never blocks
};

// The child is a session leader and dies with us (PR_SET_PDEATHSIG).
Spawned Spawn(SpawnOrder& order, const Inherited& inherited);

enum class SpawnNews { kNothingYet, kRunning, kFailed };
SpawnNews ReadSpawnStatus(int status, SpawnFailure* failure);

// One sentence with a remedy, for DoneFields::reason.
void AppendSpawnFailure(Str* to, const SpawnFailure& failure, View program, View cwd);

}  // namespace sbxfs::supervisor
