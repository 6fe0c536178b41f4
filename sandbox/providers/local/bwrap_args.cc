#include "sandbox/providers/local/bwrap_args.h"

#include <linux/capability.h>

#include <initializer_list>
#include <string_view>

#include "sandbox/providers/local/root_view.h"
#include "sandbox/providers/local/sshd_config.h"

namespace sbxfs {
namespace {

// What root of a range-mapped sandbox may do inside: what a container engine gives by default, and
// no more. None of it reaches further than the sandbox's own user namespace; mknod makes no devices
// there.
struct Capability {
    std::string_view name;
    int number;
};
constexpr Capability kRootCapabilities[] = {
    {"CAP_CHOWN", CAP_CHOWN},
    {"CAP_DAC_OVERRIDE", CAP_DAC_OVERRIDE},
    {"CAP_FOWNER", CAP_FOWNER},
    {"CAP_FSETID", CAP_FSETID},
    {"CAP_KILL", CAP_KILL},
    {"CAP_SETGID", CAP_SETGID},
    {"CAP_SETUID", CAP_SETUID},
    {"CAP_SETPCAP", CAP_SETPCAP},
    {"CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE},
    {"CAP_NET_RAW", CAP_NET_RAW},
    {"CAP_SYS_CHROOT", CAP_SYS_CHROOT},
    {"CAP_MKNOD", CAP_MKNOD},
    {"CAP_AUDIT_WRITE", CAP_AUDIT_WRITE},
    {"CAP_SETFCAP", CAP_SETFCAP},
};

}  // namespace

std::vector<int> RootCapabilities() {
    std::vector<int> numbers;
    for (const Capability& each : kRootCapabilities)
        numbers.push_back(each.number);
    return numbers;
}

std::string BwrapArgs(const BwrapPlan& plan) {
    std::string args;
    const auto add = [&args](std::initializer_list<std::string_view> words) {
        for (const std::string_view word : words) {
            args += word;
            args += '\0';
        }
    };
    add({"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"});
    if (plan.own_network) add({"--unshare-net"});  // bubblewrap brings its loopback up
    if (!plan.range_mapped) {
        add({"--unshare-user", "--uid", std::to_string(plan.login.uid)});
        add({"--gid", std::to_string(plan.login.gid)});
    }
    add({"--cap-drop", "ALL"});
    if (plan.range_mapped) {
        for (const Capability& each : kRootCapabilities)
            add({"--cap-add", each.name});
    }
    // No --die-with-parent: a sandbox outlives the daemon.
    add({"--hostname", plan.hostname, "--new-session", "--as-pid-1"});
    add({"--info-fd", std::to_string(plan.info_fd)});
    add({"--clearenv", "--setenv", "PATH", kSandboxPath, "--setenv", "LANG", "C.UTF-8"});
    add({"--bind", kViewRoot, "/", "--proc", "/proc", "--dev", "/dev", "--chdir", "/"});
    return args;
}

}  // namespace sbxfs
