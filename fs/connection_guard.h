// Ends the mount's connection when the daemon is killed, from outside it. A thread that has the kernel drop pages waits
// for a page where no signal reaches it; whoever has that page waits for the daemon. Killed then, the daemon never
// finishes dying, keeps its end of the connection open, and all who wait for it wait for ever
// (mount.killed). What frees them is a 1 in the connection's file `abort` (fusectl), from a process that is told of
// the death of the daemon's *main thread*: a pipe or a pidfd would tell of the last one's only.
//
// The process is this program again (`sbxfs connection-guard`), shown by ps(1) as sbxfs-guard. It has that one file,
// no environment, no file of the mount and none of the state directory. The kernel forgets what the file was of when
// the connection is gone, so that a later one of the same number has nothing to fear.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sbxfs {

class ConnectionGuard {
 public:
    // For the mount on `mountpoint`, made just now. By the thread whose death it is about: the main thread. Fails where
    // fusectl is not to be had; the mount is good without.
    static Result<std::unique_ptr<ConnectionGuard>> Start(const std::string& mountpoint);
    // Ends the process and reaps it.
    ~ConnectionGuard();
    ConnectionGuard(const ConnectionGuard&) = delete;
    ConnectionGuard& operator=(const ConnectionGuard&) = delete;

    // Waits until it would hear of a death. Once, before the first request is taken.
    Status AwaitWatching();

 private:
    ConnectionGuard(pid_t pid, UniqueFd word) : pid_(pid), word_(std::move(word)) {}

    const pid_t pid_;
    UniqueFd word_;  // where it says that it watches
};

// What that process does. Returns the exit code.
int ConnectionGuardMain();

}  // namespace sbxfs
