#include "fs/caller.h"

#include <string>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

constexpr unsigned long kPfSignaled = 0x400;  // include/linux/sched.h: killed by a signal

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
    const std::size_t at = status->find("\nTgid:");
    if (at == std::string::npos) return facts;
    const std::size_t end = status->find('\n', at + 1);
    facts.group = ParseNumber<pid_t>(Trim(std::string_view(*status).substr(at + 6, end - at - 6)))
                      .value_or(0);
    if (const Result<std::string> stat = ReadWholeFile(base + "/stat")) {
        facts.killed = (StatField(*stat, 9) & kPfSignaled) != 0;
    }
    return facts;
}

}  // namespace sbxfs
