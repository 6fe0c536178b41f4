#include "sandbox/providers/local/process_record.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {

std::string ProcessRecord::ToText() const {
    return std::to_string(pid) + " " + std::to_string(start) + " " + boot + "\n";
}

std::optional<ProcessRecord> ProcessRecord::FromText(std::string_view text) {
    const std::vector<std::string> words = Split(Trim(text), ' ');
    if (words.size() != 3) return std::nullopt;
    const auto pid = ParseNumber<pid_t>(words[0]);
    const auto start = ParseNumber<std::uint64_t>(words[1]);
    if (!pid || *pid <= 1 || !start) return std::nullopt;
    return ProcessRecord{*pid, *start, words[2]};
}

Result<ProcessRecord> ProcessRecord::Of(pid_t pid) {
    const auto stat = ReadWholeFile("/proc/" + std::to_string(pid) + "/stat", 8192);
    if (!stat) return Error(Errno{ESRCH}, "no process " + std::to_string(pid), Blame::kRemote);
    // The command's name may hold blanks and brackets: the fields begin after the last ')'
    // (proc(5)).
    const std::size_t end = stat->rfind(')');
    if (end == std::string::npos) return Error(Errno{EIO}, "unreadable /proc/PID/stat");
    const std::vector<std::string> fields = Split(Trim(stat->substr(end + 1)), ' ');
    constexpr std::size_t kStart = 22 - 3;  // the first field here is number 3
    const auto start = fields.size() > kStart ? ParseNumber<std::uint64_t>(fields[kStart])
                                              : std::optional<std::uint64_t>();
    if (!start) return Error(Errno{EIO}, "unreadable /proc/PID/stat");
    return ProcessRecord{pid, *start, BootId()};
}

std::optional<UniqueFd> ProcessRecord::Open() const {
    if (boot != BootId()) return std::nullopt;
    UniqueFd pidfd = OpenPidfd(pid);
    if (!pidfd) return std::nullopt;
    // The descriptor first, the comparison after: whatever it names can no longer change.
    const auto now = Of(pid);
    if (!now || *now != *this) return std::nullopt;
    return pidfd;
}

std::string BootId() {
    const auto id = ReadWholeFile("/proc/sys/kernel/random/boot_id", 256);
    return id ? std::string(Trim(*id)) : std::string();
}

pid_t PlainFork() {
    return static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

UniqueFd OpenPidfd(pid_t pid) {
    return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

int SignalPidfd(int pidfd, int signal) {
    return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

Status KillAndWait(int pidfd, int limit_ms) {
    if (SignalPidfd(pidfd, SIGKILL) != 0 && errno != ESRCH) {
        return SystemError(errno, "killing the sandbox's init");
    }
    using std::chrono::steady_clock;
    const auto deadline = steady_clock::now() + std::chrono::milliseconds(limit_ms);
    for (;;) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - steady_clock::now());
        pollfd wait{.fd = pidfd, .events = POLLIN, .revents = 0};
        const int ready =
            ::poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready > 0) return Ok();
        if (ready == 0) {
            return Error(Errno{ETIMEDOUT},
                         "a killed process does not end; the machine may be stuck", Blame::kRemote);
        }
        if (errno != EINTR) return SystemError(errno, "poll");
    }
}

}  // namespace sbxfs
