// `init`: PID 1 of a local sandbox. It waits until its launcher has written down that it exists,
// starts one sshd for each connection on a socket that was made outside, reaps, and ends the
// sandbox when its lifetime is over.
#pragma once

#include <stdint.h>

namespace sbxfs::supervisor {

struct InitOptions {
    int listen_fd = -1;  // a listening Unix socket; the sandbox never sees its path
    int go_fd = -1;      // one byte: recorded, go. Its end: the launcher died, nothing may be left
    int note_fd = -1;  // told why the sandbox ended: "expired lifetime", "expired idle", "stopped"
    int lock_fd = -1;  // open as long as we live
    uint64_t lifetime_ms = 0;  // 0: none
    char** program = nullptr;  // what serves a connection, on its descriptors 0 and 1
    char** environment = nullptr;
};

int Init(const InitOptions& options);

}  // namespace sbxfs::supervisor
