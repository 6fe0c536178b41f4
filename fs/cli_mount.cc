#include "fs/cli_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "fs/config.h"
#include "fs/daemon.h"
#include "fs/mount_options.h"
#include "fs/mounts.h"
#include "sandbox/state_dir.h"

namespace sbxfs {
namespace {

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

// fusermount3 refuses it too, but says what to do in words of its own.
Status MayShare(const MountOptions& options) {
    if (!options.allow_other || ::geteuid() == 0) return Ok();
    const Result<std::string> text = ReadWholeFile("/etc/fuse.conf", 1U << 20);
    if (!text && text.error().code() != Errno{ENOENT}) return Ok();  // it may read what we may not
    const std::vector<std::string> lines = Split(text ? *text : "", '\n');
    const bool allowed = std::any_of(lines.begin(), lines.end(), [](const std::string& line) {
        return Trim(line) == "user_allow_other";
    });
    if (allowed) return Ok();
    return Error(Errno{EPERM},
                 "allow_other is for root, unless the administrator lets everybody have it: with a "
                 "line 'user_allow_other' in /etc/fuse.conf");
}

// What the daemon itself uses must not be behind the mount it serves: it would wait for its own answer, and with it
// everybody else.
Status MustBeOutside(const std::string& mountpoint, const std::string& what,
                     const std::string& path, const std::string& remedy) {
    std::error_code error;
    const std::string real = std::filesystem::weakly_canonical(path, error).string();
    const std::string below = mountpoint == "/" ? mountpoint : mountpoint + "/";
    if (error || !(real + "/").starts_with(below)) return Ok();
    return Error(Errno{EINVAL}, what + " " + Printable(path, 4096) + " is below the mount point " +
                                    mountpoint + ", which will hide it: " + remedy);
}

Status NothingOfOursIsHidden(const DaemonOptions& options) {
    const std::string& mountpoint = options.mountpoint;
    const std::string state = options.mount.state_dir.empty()
                                  ? TRY(StateDir::DefaultFor(mountpoint))
                                  : options.mount.state_dir;
    (void)TRY(MustBeOutside(mountpoint, "the state directory", state,
                            "choose another with -o state_dir=DIR, or mount elsewhere"));
    for (const std::string& config : {options.mount.config, options.config.file}) {
        if (config.empty()) continue;
        (void)TRY(MustBeOutside(mountpoint, "the configuration", config,
                                "name one elsewhere with -c FILE, or mount elsewhere"));
    }
    std::error_code error;
    const std::string program = std::filesystem::read_symlink("/proc/self/exe", error).string();
    return MustBeOutside(mountpoint, "the program", program, "mount elsewhere");
}

}  // namespace

int MountCommand(const MountRequest& request) {
    if (std::find(request.options.begin(), request.options.end(), "help") !=
        request.options.end()) {
        for (const OptionHelp& option : MountOptionsHelp())
            (void)std::printf("%-22s  %s\n", std::string(option.form).c_str(),
                              std::string(option.text).c_str());
        return 0;
    }
    if (request.mountpoint.empty()) {
        return Fail(Error(Errno{EINVAL}, "say where to mount: sbxfs mount MOUNTPOINT"), kBadUse);
    }
    const Result<MountOptions> parsed = ParseMountOptions(request.options, request.sloppy);
    if (!parsed) return Fail(parsed.error(), kBadUse);
    if (const Status may = MayShare(*parsed); !may) return Fail(may.error(), kBadUse);

    DaemonOptions options;
    options.mount = *parsed;
    if (!request.config.empty()) {
        // A reload reads it again, when "here" is another place.
        std::error_code error;
        options.mount.config = std::filesystem::absolute(request.config, error).string();
    }
    Result<Config> config = LoadConfig(options.mount.config);
    if (!config) return Fail(config.error(), kBadUse);
    if (request.fake) return 0;
    const Result<std::string> mountpoint = PrepareMountPoint(request.mountpoint);
    if (!mountpoint) return Fail(mountpoint.error(), kMountFailed);

    options.config = std::move(*config);
    options.source = request.source;
    options.mountpoint = *mountpoint;
    options.debug = request.debug;
    options.foreground = request.foreground || request.debug;
    if (const Status fine = NothingOfOursIsHidden(options); !fine)
        return Fail(fine.error(), kBadUse);
    if (!options.foreground) return StartBehind(options);
    const Status status = RunDaemon(options, {});
    return status ? 0 : Fail(status.error(), kMountFailed);
}

}  // namespace sbxfs
