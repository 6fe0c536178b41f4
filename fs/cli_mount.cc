#include "fs/cli_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "fs/config.h"
#include "fs/daemon.h"
#include "fs/mount_options.h"
#include "fs/mounts.h"

namespace sbxfs {
namespace {

// mount(8)
constexpr int kBadUse = 1;
constexpr int kSystemError = 2;
constexpr int kMountFailed = 32;

int Fail(const Error& error, int code) {
    (void)std::fprintf(stderr, "sbxfs: %s\n", error.what().c_str());
    return code;
}

// In the child: everything the daemon says to the one who started it goes through `to_parent`: "ok", or an
// error's sentence.
[[noreturn]] void RunBehind(const DaemonOptions& options, UniqueFd to_parent) {
    (void)::setsid();
    const int report = to_parent.get();
    const Status status = RunDaemon(options, [report] {
        (void)WriteAll(report, "ok");
        (void)::close(report);
        const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
        for (const int fd : {0, 1, 2})
            (void)::dup2(null.get(), fd);
    });
    (void)to_parent.release();  // closed by the callback, or by exit
    if (!status) (void)!::write(report, status.error().what().data(), status.error().what().size());
    ::_exit(status ? 0 : kMountFailed);
}

int StartBehind(const DaemonOptions& options) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Fail(SystemError(errno, "pipe"), kSystemError);
    UniqueFd from_child(ends[0]);
    UniqueFd to_parent(ends[1]);
    (void)std::fflush(nullptr);
    const pid_t child = ::fork();  // before any thread is started: threads do not survive it
    if (child < 0) return Fail(SystemError(errno, "fork"), kSystemError);
    if (child == 0) {
        from_child.reset();
        RunBehind(options, std::move(to_parent));
    }
    to_parent.reset();
    std::string report;
    std::array<char, 4096> chunk{};
    for (;;) {
        const ssize_t got = ::read(from_child.get(), chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        report.append(chunk.data(), static_cast<std::size_t>(got));
    }
    if (report != "ok") {
        if (report.empty()) report = "the daemon ended before it could say why; run it with -f";
        return Fail(Error(Errno{EIO}, report), kMountFailed);
    }
    // Live is when it answers.
    struct stat root {};
    if (::stat(options.mountpoint.c_str(), &root) != 0) {
        return Fail(SystemError(errno, "the new mount does not answer"), kMountFailed);
    }
    return 0;
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

}  // namespace

int MountCommand(const MountRequest& request) {
    if (std::find(request.options.begin(), request.options.end(), "help") !=
        request.options.end()) {
        (void)std::fputs(MountOptionsHelp().c_str(), stdout);
        return 0;
    }
    if (request.mountpoint.empty()) {
        return Fail(Error(Errno{EINVAL}, "say where to mount: sbxfs mount MOUNTPOINT"), kBadUse);
    }
    const Result<MountOptions> parsed = ParseMountOptions(request.options, request.sloppy);
    if (!parsed) return Fail(parsed.error(), kBadUse);
    Result<Config> config = LoadConfig(request.config.empty() ? parsed->config : request.config);
    if (!config) return Fail(config.error(), kBadUse);
    const Result<std::string> mountpoint = PrepareMountPoint(request.mountpoint);
    if (!mountpoint) return Fail(mountpoint.error(), kMountFailed);

    DaemonOptions options;
    options.config = std::move(*config);
    options.mountpoint = *mountpoint;
    options.state_dir = parsed->state_dir;
    options.debug = request.debug;
    options.foreground = request.foreground || request.debug;
    options.mount_options = parsed->kernel;
    options.op_timeout = parsed->op_timeout;
    if (!options.foreground) return StartBehind(options);
    const Status status = RunDaemon(options, {});
    return status ? 0 : Fail(status.error(), kMountFailed);
}

int UmountCommand(const std::string& mountpoint, bool) {
    const Result<std::string> path = FindMount(mountpoint);
    if (!path) return Fail(path.error(), kBadUse);
    const Error in_use(Errno{EBUSY},
                       *path +
                           " is in use: a process has a file open there, or works in it "
                           "(see: fuser -m " +
                           *path + ")");
    if (::geteuid() == 0) {
        if (::umount2(path->c_str(), UMOUNT_NOFOLLOW) == 0) return 0;
        if (errno == EBUSY) return Fail(in_use, kMountFailed);
        return Fail(SystemError(errno, "unmounting " + *path), kMountFailed);
    }
    (void)std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        ::execlp("fusermount3", "fusermount3", "-u", "--", path->c_str(), nullptr);
        (void)std::fprintf(stderr, "sbxfs: fusermount3 is missing: apt install fuse3\n");
        ::_exit(127);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status == 0) return 0;
    // It has said what it knows. Of one's own mount there is one common reason more to tell.
    const std::vector<std::string> usable = UsableMounts();
    const bool own = std::find(usable.begin(), usable.end(), *path) != usable.end();
    const bool ran = WIFEXITED(status) && WEXITSTATUS(status) != 127;
    return own && ran ? Fail(in_use, kMountFailed) : kMountFailed;
}

}  // namespace sbxfs
