#include "sandbox/providers/local/landlock.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "base/unique_fd.h"

namespace sbxfs {
namespace {

// linux/landlock.h of 6.12, which older systems do not have.
struct RulesetAttributes {
    std::uint64_t handled_access_fs = 0;
    std::uint64_t handled_access_net = 0;
    std::uint64_t scoped = 0;
};
constexpr std::uint64_t kScopeAbstractUnixSocket = 1;

}  // namespace

Status LeaveAbstractSocketsAlone() {
    // Nothing of the file system is handled: mounting, which any such rule would forbid, goes on.
    const RulesetAttributes attributes{0, 0, kScopeAbstractUnixSocket};
    const UniqueFd ruleset(static_cast<int>(
        ::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
    if (!ruleset) {
        return Error(Errno{EOPNOTSUPP},
                     "this kernel cannot scope abstract sockets (Linux 6.12 can)");
    }
    if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
        return SystemError(errno, "landlock_restrict_self");
    }
    return Ok();
}

}  // namespace sbxfs
