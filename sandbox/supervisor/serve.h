// The supervisor itself: one event loop, started by the first attach of a spool, alive until
// kShutdown, SIGTERM or the sandbox's end.
#pragma once

#include "sandbox/supervisor/runtime.h"

namespace sbxfs::supervisor {

struct ServeOptions {
    Fd dir;    // the spool: open, ours, private
    Fd lock;   // holds the flock while we live
    Fd ready;  // told "ok", or an error line, when attaches may connect
    Inherited inherited;
    char** environment = nullptr;
    int grace_ms = 10000;
};

[[noreturn]] void Serve(ServeOptions options);

// Where attach finds it, relative to the spool.
inline constexpr char kSocketName[] = "socket";

}  // namespace sbxfs::supervisor
