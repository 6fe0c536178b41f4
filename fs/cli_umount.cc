#include "fs/cli_umount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/spawn.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "fs/cli_mount.h"
#include "fs/mounts.h"

namespace sbxfs {
namespace {

constexpr int kEndOfDaemonMs = 90'000;  // on_unmount=destroy has a minute for its sandboxes

int Fail(const std::string& what, int code) {
    (void)std::fprintf(stderr, "sbxfs: %s\n", what.c_str());
    return code;
}

// The path of a mount as mountinfo has it, without asking the mount.
Result<std::string> FindMount(const std::string& mountpoint) {
    std::vector<std::string> mounts;
    for (SbxfsMount& mount : AllSbxfsMounts())
        mounts.push_back(std::move(mount.path));
    std::array<char, 4096> resolved{};
    // A living root resolves; a dead one does not, but its parent does.
    const char* real = ::realpath(mountpoint.c_str(), resolved.data());
    const Result<std::string> absolute = AbsoluteMountPoint(mountpoint);
    for (const std::string& candidate :
         {std::string(real != nullptr ? real : ""), absolute ? *absolute : ""}) {
        if (std::find(mounts.begin(), mounts.end(), candidate) != mounts.end()) return candidate;
    }
    return Error(Errno{EINVAL}, "no sbxfs is mounted on " + Printable(mountpoint) +
                                    (mounts.empty() ? "" : "; there are: " + Join(mounts, ", ")));
}

// The daemon behind a mount, to see its end; nothing when it cannot be told from here (another user's mount,
// another pid namespace, or it is gone).
UniqueFd DaemonOf(const std::string& mount) {
    const Result<std::string> text = ReadWholeFile(mount + "/.mount/info.json");
    const auto info = text ? Json::Parse(*text) : std::nullopt;
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
    const std::vector<std::string> usable = UsableMounts();
    if (std::find(usable.begin(), usable.end(), mount) == usable.end()) return kMountFailed;
    return Fail(InUse(mount), kMountFailed);
}

}  // namespace

int UmountCommand(const UmountRequest& request) {
    const Result<std::string> mount = FindMount(request.mountpoint);
    if (!mount) return Fail(mount.error().what(), kBadUse);
    const std::vector<std::string> usable = UsableMounts();
    const bool ours = std::find(usable.begin(), usable.end(), *mount) != usable.end();
    const UniqueFd daemon = ours ? DaemonOf(*mount) : UniqueFd();
    if (ours && !request.discard && !request.lazy) {
        if (const Status sent = SendWhatWaits(*mount); !sent)
            return Fail(sent.error().what(), kMountFailed);
    }
    const int code = ::geteuid() == 0 ? UnmountAsRoot(*mount, request.lazy)
                                      : UnmountAsUser(*mount, request.lazy);
    if (code != 0 || !daemon || request.lazy) return code;
    // Whoever unmounts may want to mount again, or to upgrade: only then is it over.
    pollfd ended{.fd = daemon.get(), .events = POLLIN, .revents = 0};
    int polled = 0;
    while ((polled = ::poll(&ended, 1, kEndOfDaemonMs)) < 0 && errno == EINTR) {
    }
    if (polled == 0) {
        (void)std::fprintf(stderr, "sbxfs: %s is unmounted, but its daemon has not ended yet\n",
                           mount->c_str());
    }
    return 0;
}

}  // namespace sbxfs
