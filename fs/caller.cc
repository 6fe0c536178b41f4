#include "fs/caller.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr unsigned long kPfSignaled = 0x400;  // include/linux/sched.h: killed by a signal
constexpr unsigned long kTermSignal = 0x7f;   // of a wait(2) status

// The value of a line "Key:\t123..." of /proc/TID/status.
template <class T>
std::optional<T> StatusField(std::string_view status, std::string_view key) {
    const std::size_t at = status.find("\n" + std::string(key) + ":");
    if (at == std::string_view::npos) return std::nullopt;
    std::string_view line = status.substr(at + key.size() + 2);
    line = Trim(line.substr(0, line.find('\n')));
    return ParseNumber<T>(line.substr(0, line.find_first_of(" \t")));
}

// Field `wanted` (1-based, proc(5)) of /proc/TID/stat. The second field is a command name in
// parentheses that may contain anything, so counting starts behind the last one.
unsigned long StatField(const std::string& stat, int wanted) {
    const std::size_t paren = stat.rfind(')');
    if (paren == std::string::npos) return 0;
    const std::vector<std::string> fields = Split(Trim(stat.substr(paren + 1)), ' ');
    const auto index = static_cast<std::size_t>(wanted - 3);
    return index < fields.size() ? ParseNumber<unsigned long>(fields[index]).value_or(0) : 0;
}

}  // namespace

CallerFacts LookUpCaller(pid_t tid) {
    CallerFacts facts;
    if (tid == 0) return facts;
    const std::string base = "/proc/" + std::to_string(tid);
    const Result<std::string> status = ReadWholeFile(base + "/status");
    if (!status) return facts;
    facts.group = StatusField<pid_t>(*status, "Tgid").value_or(0);
    // Who still has memory is not on its way out. And of somebody in execve(2), whose descriptors are being closed,
    // `stat` is not to be read: that waits until the execve is over, which waits for us. Test:
    // Refusals.test_a_program_started_with_the_file_open_hangs_nobody.
    if (status->find("\nVmSize:") != std::string::npos) return facts;
    const Result<std::string> stat = ReadWholeFile(base + "/stat");
    if (!stat || (StatField(*stat, 9) & kPfSignaled) == 0) return facts;
    // exit(2) in one thread ends the others as a signal would, and it is the last of them that closes what
    // is open. The exit status tells the two apart; it is shown as 0 to who may not see it.
    const uid_t me = ::geteuid();
    const bool may_see = me == 0 || StatusField<uid_t>(*status, "Uid") == me;
    facts.killed = !may_see || (StatField(*stat, 52) & kTermSignal) != 0;
    return facts;
}

}  // namespace sbxfs
