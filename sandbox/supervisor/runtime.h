// What the parts of a serving supervisor share: its spool, the environment of commands, the epoll
// set and what its tags mean. Made once by serve.cc, never destroyed. Single-threaded.
#pragma once

#include <stdint.h>

#include "sandbox/supervisor/environment.h"
#include "sandbox/supervisor/spawn.h"
#include "sandbox/supervisor/spool.h"

namespace sbxfs::supervisor {

// What an event of the epoll set is about; the tag's lower bits say which one.
enum class Source : uint64_t {
    kChildren,    // the signalfd
    kListener,    // a new attach
    kReports,     // the shells' FIFO
    kFiles,       // inotify on the commands' output
    kShellInput,  // room in the pipe to the persistent shell
    kSpawned,     // exec succeeded or failed; which: the command's number
    kConnection,  // which: the connection's slot and end
};

inline uint64_t Tag(Source source, uint64_t which = 0) {
    return static_cast<uint64_t>(source) << 56 | which;
}
inline Source SourceOf(uint64_t tag) {
    return static_cast<Source>(tag >> 56);
}
inline uint64_t WhichOf(uint64_t tag) {
    return tag & ((uint64_t{1} << 56) - 1);
}

// In milliseconds of the monotonic clock; nothing to wait for.
inline constexpr int64_t kNever = INT64_MAX;
inline int64_t Sooner(int64_t a, int64_t b) {
    return a < b ? a : b;
}

struct Runtime {
    int epoll = -1;
    int self = 0;   // our pid
    int lock = -1;  // of the spool
    uint32_t uid = 0;
    uint32_t gid = 0;
    Spool spool;
    Environment env;  // of commands, before what a Start adds
    Inherited inherited;
    Str home;
    Str default_shell;
    int grace_ms = 10000;  // between TERM and KILL of a command that timed out
    Fd null;               // /dev/null, for reading and writing

    // Negative errno: there is no room in the set.
    long Watch(int fd, uint32_t events, uint64_t tag);
    void Rewatch(int fd, uint32_t events, uint64_t tag);
    void Unwatch(int fd);
};

}  // namespace sbxfs::supervisor
