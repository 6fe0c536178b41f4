// One command, from its Start until it is forgotten.
//
//     kWaiting --begin--> kRunning --timeout, timer--> kEnding --> kDone
//        |                    '------------end----------------------^
//        '--cancelled, could not start------------------------------'
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/output.h"
#include "sandbox/supervisor/protocol.h"
#include "sandbox/supervisor/runtime.h"
#include "sandbox/supervisor/tree.h"

namespace sbxfs::supervisor {

enum class Phase : uint8_t { kWaiting, kRunning, kEnding, kDone };
enum class EndCause : uint8_t { kNone, kTimeout, kTimer };

// What a Start asked for; given back when the command has begun.
struct StartOrder {
    Str shell;
    Str cwd;
    Str user;
    Str script;
    bool login = false;
    Environment env;  // only what the Start adds
};

// How it went, on the way to DoneFields.
struct Ending {
    Outcome outcome = Outcome::kLost;
    uint32_t code = 0;
    uint8_t shell = 0;  // kShellEnded
    Str reason;
    Str cwd;
};

// From a wait status.
Ending EndingOf(int wait_status);
Ending NotStarted(long error, View reason);

struct Command {
    uint64_t n = 0;
    Lane lane = Lane::kSerial;
    Phase phase = Phase::kWaiting;
    EndCause cause = EndCause::kNone;
    bool has_files = false;   // its directory is there
    bool pushing = false;     // this connection wants its output
    bool forgotten = false;   // waits for its last writer
    bool wanted = false;      // though forgotten: what its last writers print is still to be told
    bool root_gone = false;   // while kEnding: its shell was reaped
    bool tell_known = false;  // frames that this connection still has to get
    bool tell_started = false;
    bool tell_done = false;
    bool killed_before = false;  // by a kSignal SIGKILL
    uint8_t fresh = 0;           // kShellFresh, when it was the first in a new shell
    Str fresh_reason;
    int watch[2] = {-1, -1};  // inotify's numbers, of stdout and stderr
    uint64_t output_limit = 0;
    uint64_t timeout_ms = 0;
    uint64_t signalled = 0;  // bits of the signals kSignal sent
    Box<StartOrder> order;
    Tree tree;
    Fd spawned;  // of a parallel command, until exec
    int64_t started_us = 0;
    uint64_t started_ms = 0;
    int64_t deadline_ms = kNever;   // timeout
    int64_t kill_ms = kNever;       // while kEnding: no more mercy
    int64_t next_look_ms = kNever;  // while kEnding, and for `unheard`
    int unheard = 0;                // a signal that found no process yet
    int64_t unheard_until_ms = kNever;
    OutputStream out[2];
    DoneFields done;  // its texts are the two below
    Str reason;
    Str cwd;
};

}  // namespace sbxfs::supervisor
