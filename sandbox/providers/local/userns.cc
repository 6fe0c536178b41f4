#include "sandbox/providers/local/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/files.h"
#include "base/strings.h"
#include "sandbox/providers/local/process_record.h"

namespace sbxfs {
namespace {

Status WriteProc(const std::string& path, const std::string& text) {
    const UniqueFd fd = TRY(OpenFile(path, O_WRONLY));
    // One write(2): the kernel takes a map in a single piece (user_namespaces(7)).
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        return SystemError(errno, "write " + path);
    }
    return Ok();
}

std::string ToText(const IdRange& map) {
    return std::to_string(map.inside) + " " + std::to_string(map.outside) + " " +
           std::to_string(map.count);
}

Result<UniqueFd> MapAndOpen(pid_t child, const IdRange& uids, const IdRange& gids) {
    const std::string proc = "/proc/" + std::to_string(child);
    (void)TRY(WriteProc(proc + "/uid_map", ToText(uids)));
    (void)TRY(WriteProc(proc + "/gid_map", ToText(gids)));
    return OpenFile(proc + "/ns/user", O_RDONLY);
}

// The child of MakeUserNamespace: makes the namespace, says so, and stays until `leave` ends. The
// end also comes when the parent is killed, so nobody is left behind.
[[noreturn]] void HoldNamespace(int report, int leave) {
    const int code = ::unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
    (void)!::write(report, &code, sizeof code);
    char ignored = 0;
    (void)!::read(leave, &ignored, 1);
    ::_exit(0);
}

std::string Sysctl(const std::string& name) {
    const auto text = ReadWholeFile("/proc/sys/" + name, 256);
    return text ? std::string(Trim(*text)) : std::string();
}

}  // namespace

Result<UniqueFd> MakeUserNamespace(const IdRange& uids, const IdRange& gids) {
    std::array<int, 2> report{};
    std::array<int, 2> leave{};
    if (::pipe2(report.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    const UniqueFd report_out(report[0]);
    UniqueFd report_in(report[1]);
    if (::pipe2(leave.data(), O_CLOEXEC) != 0) return SystemError(errno, "pipe");
    UniqueFd leave_out(leave[0]);
    UniqueFd leave_in(leave[1]);

    const pid_t child = PlainFork();
    if (child < 0) return SystemError(errno, "fork");
    if (child == 0) {
        leave_in.reset();
        HoldNamespace(report_in.get(), leave_out.get());
    }
    report_in.reset();
    leave_out.reset();

    int code = 0;
    const ssize_t got = ::read(report_out.get(), &code, sizeof code);
    if (got != sizeof code) code = EIO;
    Result<UniqueFd> userns =
        code == 0 ? MapAndOpen(child, uids, gids) : SystemError(code, "own user namespace");
    leave_in.reset();
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    return userns;
}

Status EnterAsRoot(int userns) {
    if (::setns(userns, CLONE_NEWUSER) != 0)
        return SystemError(errno, "entering the user namespace");
    if (::setgroups(0, nullptr) != 0 || ::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0) {
        return SystemError(errno, "becoming root of the user namespace");
    }
    return Ok();
}

Status LimitCapabilities(const std::vector<int>& allowed) {
    // The inheritable set first, while the bounding set still allows it: root keeps across exec(2)
    // what is in either, and bubblewrap must mount before it gives up all but the ones allowed.
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0) return SystemError(errno, "capget");
    for (__user_cap_data_struct& set : sets)
        set.inheritable = set.permitted;
    if (::syscall(SYS_capset, &header, sets.data()) != 0) return SystemError(errno, "capset");
    for (int number = 0; ::prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; ++number) {
        if (std::find(allowed.begin(), allowed.end(), number) != allowed.end()) continue;
        if (::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0) {
            return SystemError(errno, "dropping capability " + std::to_string(number));
        }
    }
    return Ok();
}

Status BecomeRootOfOwnNamespace() {
    const IdRange uids{0, ::geteuid(), 1};
    const IdRange gids{0, ::getegid(), 1};
    if (::unshare(CLONE_NEWUSER) != 0) return SystemError(errno, "own user namespace");
    // A group may be mapped by its owner only when setgroups(2) is given up first
    // (user_namespaces(7)).
    (void)TRY(WriteProc("/proc/self/setgroups", "deny"));
    (void)TRY(WriteProc("/proc/self/uid_map", ToText(uids)));
    return WriteProc("/proc/self/gid_map", ToText(gids));
}

Status CheckUserNamespaces(uid_t uid) {
    if (Sysctl("user/max_user_namespaces") == "0") {
        return Error(Errno{EOPNOTSUPP},
                     "user namespaces are switched off on this machine; as root: sysctl -w "
                     "user.max_user_namespaces=15000");
    }
    if (uid == 0) return Ok();
    if (Sysctl("kernel/unprivileged_userns_clone") == "0") {
        return Error(Errno{EOPNOTSUPP},
                     "only root may make user namespaces here; as root: sysctl -w "
                     "kernel.unprivileged_userns_clone=1");
    }
    if (Sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1") {
        return Error(Errno{EOPNOTSUPP},
                     "AppArmor keeps ordinary users from user namespaces here; as root: sysctl -w "
                     "kernel.apparmor_restrict_unprivileged_userns=0");
    }
    return Ok();
}

}  // namespace sbxfs
