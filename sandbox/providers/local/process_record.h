// A process that is found again later without mistaking another for it: its pid, the kernel's start
// time and the boot. A pid alone is reused; a pid with the same start tick in the same boot is not.
// Values; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sbxfs {

struct ProcessRecord {
    pid_t pid = 0;
    std::uint64_t start = 0;  // field 22 of /proc/PID/stat, clock ticks since boot
    std::string boot;         // /proc/sys/kernel/random/boot_id

    bool operator==(const ProcessRecord&) const = default;

    // "PID START BOOT\n"
    std::string ToText() const;
    static std::optional<ProcessRecord> FromText(std::string_view text);
    // ESRCH when there is no such process.
    static Result<ProcessRecord> Of(pid_t pid);

    // A pidfd for exactly this process; nothing when it has gone.
    std::optional<UniqueFd> Open() const;
};

// This boot's id, or empty where the kernel does not tell.
std::string BootId();

// pidfd_open(2) and pidfd_send_signal(2); errno tells. (The header of glibc 2.36 declares both as
// C++ functions.)
UniqueFd OpenPidfd(pid_t pid);
int SignalPidfd(int pidfd, int signal);

// fork(2) as the kernel has it, for a process of one thread. A sanitizer's runtime starts a thread of its own in the
// child of the library's fork(), and a process with two threads may not make a user namespace.
pid_t PlainFork();

// SIGKILL through the pidfd, then waits until the process has ended; for the init of a pid
// namespace that is when every process in it has. ETIMEDOUT after `limit_ms`.
Status KillAndWait(int pidfd, int limit_ms);

}  // namespace sbxfs
