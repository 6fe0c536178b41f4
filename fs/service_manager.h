// What a daemon tells the service manager that started it (sd_notify(3)): READY, STATUS, RELOADING, STOPPING.
// The protocol is one datagram to the socket that $NOTIFY_SOCKET names; libsystemd would be a library, and on
// every machine without systemd a package, for one sendto(2). Owned by RunDaemon; any thread may tell.
#pragma once

#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace sbxfs {

class ServiceManager {
 public:
    // `address` as in $NOTIFY_SOCKET: an absolute path, or '@' and an abstract name. Empty, or anything else:
    // nobody listens, and Tell does nothing.
    explicit ServiceManager(std::string address);
    // Takes $NOTIFY_SOCKET out of the environment, so that no program started by us speaks in our name.
    // Before threads start.
    static ServiceManager FromEnvironment();

    // "READY=1\nSTATUS=mounted": assignments, a line each. Never waits, never fails: it is only told.
    void Tell(std::string_view assignments) const;
    // RELOADING with the time of CLOCK_MONOTONIC, which Type=notify-reload wants to see.
    void TellReloading() const;

 private:
    std::string address_;
    UniqueFd socket_;
};

}  // namespace sbxfs
