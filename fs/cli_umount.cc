#include "fs/cli_umount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/spawn.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "fs/cli_mount.h"
#include "fs/mount_probe.h"
#include "fs/mounts.h"

namespace sbxfs {
namespace {

constexpr int kEndOfDaemonMs = 90'000;  // on_unmount=destroy has a minute for its sandboxes

int Fail(const std::string& what, int code) {
    (void)std::fprintf(stderr, "sbxfs: %s\n", what.c_str());
    return code;
}

// The daemon that a mount's info.json names, to see its end; nothing when it cannot be told from here (another pid
// namespace, or it is gone).
UniqueFd DaemonOf(const std::string& mount_info) {
    const auto info = Json::Parse(mount_info);
    const auto pid = info ? info->GetNumber("pid") : std::nullopt;
    if (!pid || *pid <= 1) return {};
    const Result<std::string> name = ReadWholeFile("/proc/" + std::to_string(*pid) + "/comm", 64);
    if (!name || Trim(*name) != "sbxfs") return {};
    return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(*pid), 0)));
}

// What was written and not acknowledged goes out first: the mount's root answers fsync(2) when it has, within
// op_timeout. Only those who can look into the mount can ask.
Status SendWhatWaits(const std::string& mount) {
    const UniqueFd root(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root || ::fsync(root.get()) == 0 || errno == ENOTCONN) return Ok();
    const int code = errno;
    const Result<std::string> refusals = ReadWholeFile(mount + "/.mount/last_error");
    const std::string why =
        refusals ? refusals->substr(0, refusals->find('\n')) : std::string(ErrnoText(Errno{code}));
    return Error(Errno{code},
                 "not everything has reached its sandbox, so " + mount + " stays mounted: " + why +
                     ". Try again, or give it up with: sbxfs umount --discard " + mount);
}

std::string InUse(const std::string& mount) {
    return mount + " is in use: a process has a file open there, or works in it (see: fuser -m " +
           mount + ")";
}

int UnmountAsRoot(const std::string& mount, bool lazy) {
    const int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
    if (::umount2(mount.c_str(), flags) == 0) return 0;
    if (errno == EBUSY) return Fail(InUse(mount), kMountFailed);
    return Fail(SystemError(errno, "unmounting " + mount).what(), kMountFailed);
}

int UnmountAsUser(const std::string& mount, bool lazy) {
    (void)std::fflush(nullptr);
    std::vector<std::string> argv = {"fusermount3", "-u"};
    if (lazy) argv.emplace_back("-z");
    argv.insert(argv.end(), {"--", mount});
    const Result<pid_t> child = Spawn({.argv = std::move(argv),
                                       .in = STDIN_FILENO,
                                       .out = STDOUT_FILENO,
                                       .err = STDERR_FILENO,
                                       .environment = std::nullopt});
    if (!child) return Fail("fusermount3 could not be run: apt install fuse3", kMountFailed);
    int status = 0;
    while (::waitpid(*child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status == 0) return 0;
    // It has said what it knows. Of one's own mount there is one common reason more to tell.
    const std::vector<std::string> own = TrustedMounts();
    if (std::find(own.begin(), own.end(), mount) == own.end()) return kMountFailed;
    return Fail(InUse(mount), kMountFailed);
}

}  // namespace

int UmountCommand(const UmountRequest& request) {
    const Result<SbxfsMount> found = FindMount(request.mountpoint);
    if (!found) return Fail(found.error().what(), kBadUse);
    const std::string& mount = found->path;
    UniqueFd daemon;
    bool lazy = request.lazy;
    if (IsTrusted(*found) && !request.lazy) {
        const auto info = ProbeFiles({mount + "/.mount/info.json"}, kPatience);
        if (info) daemon = DaemonOf(info->front());
        if (!info && info.error().code() == Errno{ETIMEDOUT}) {
            if (!request.discard) {
                return Fail(mount +
                                " stays mounted: its daemon does not answer, so nobody knows "
                                "whether everything has reached its sandbox. Give it up with: "
                                "sbxfs umount --discard " +
                                mount,
                            kMountFailed);
            }
            lazy = true;  // who waits for the daemon uses the mount until it goes on
        }
        if (!request.discard) {
            if (const Status sent = SendWhatWaits(mount); !sent)
                return Fail(sent.error().what(), kMountFailed);
        }
    }
    const int code = ::geteuid() == 0 ? UnmountAsRoot(mount, lazy) : UnmountAsUser(mount, lazy);
    if (code != 0 || !daemon) return code;
    // Whoever unmounts may want to mount again, or to upgrade: only then is it over.
    pollfd ended{.fd = daemon.get(), .events = POLLIN, .revents = 0};
    int polled = 0;
    while ((polled = ::poll(&ended, 1, kEndOfDaemonMs)) < 0 && errno == EINTR) {
    }
    if (polled == 0) {
        (void)std::fprintf(stderr, "sbxfs: %s is unmounted, but its daemon has not ended yet\n",
                           mount.c_str());
    }
    return 0;
}

}  // namespace sbxfs
