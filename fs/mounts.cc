#include "fs/mounts.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/files.h"
#include "base/strings.h"
#include "fs/mount_probe.h"

namespace sbxfs {
namespace {

// mountinfo writes blank, tab, newline and backslash as octal escapes (proc(5)).
std::string Unescape(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 3 >= text.size()) {
            out += text[i];
            continue;
        }
        const int value = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
        out += static_cast<char>(value);
        i += 3;
    }
    return out;
}

}  // namespace

std::vector<SbxfsMount> ParseSbxfsMounts(const std::string& mountinfo) {
    std::vector<SbxfsMount> mounts;
    for (const std::string& line : Split(mountinfo, '\n')) {
        // "36 35 98:0 /root /mount/point options [optional...] - fstype source superoptions"
        const std::vector<std::string> fields = Split(line, ' ');
        const auto dash = std::find(fields.begin(), fields.end(), "-");
        if (fields.size() < 10 || dash == fields.end() || dash + 1 == fields.end()) continue;
        if (*(dash + 1) != "fuse.sbxfs") continue;
        SbxfsMount mount{Unescape(fields[4]), fields[2]};
        for (const std::string& option : Split(fields.back(), ',')) {
            if (option == "allow_other") mount.for_all = true;
            if (option.starts_with("user_id="))
                mount.user = ParseNumber<uid_t>(option.substr(8)).value_or(0);
        }
        mounts.push_back(std::move(mount));
    }
    return mounts;
}

std::vector<SbxfsMount> AllSbxfsMounts() {
    const Result<std::string> text = ReadWholeFile("/proc/self/mountinfo");
    return text ? ParseSbxfsMounts(*text) : std::vector<SbxfsMount>();
}

bool IsTrusted(const SbxfsMount& mount) {
    return mount.user == ::geteuid() || (mount.for_all && mount.user == 0);
}

std::vector<std::string> TrustedMounts() {
    std::vector<std::string> paths;
    for (const SbxfsMount& mount : AllSbxfsMounts()) {
        if (IsTrusted(mount)) paths.push_back(mount.path);
    }
    return paths;
}

Result<SbxfsMount> FindMount(const std::string& path) {
    const std::vector<SbxfsMount> mounts = AllSbxfsMounts();
    const auto at = [&mounts](const std::string& place) {
        // Of several on one point the uppermost.
        const auto found =
            std::find_if(mounts.rbegin(), mounts.rend(),
                         [&place](const SbxfsMount& mount) { return mount.path == place; });
        return found == mounts.rend() ? std::optional<SbxfsMount>() : *found;
    };
    if (const Result<std::string> absolute = AbsoluteMountPoint(path)) {
        if (auto found = at(*absolute)) return *std::move(found);
    }
    std::array<char, 4096> resolved{};
    if (::realpath(path.c_str(), resolved.data()) != nullptr) {
        if (auto found = at(resolved.data())) return *std::move(found);
    }
    std::vector<std::string> names;
    for (const SbxfsMount& mount : mounts)
        names.push_back(mount.path);
    return Error(Errno{EINVAL}, "no sbxfs is mounted on " + Printable(path, 4096) +
                                    (names.empty() ? "" : "; there are: " + Join(names, ", ")));
}

Result<std::string> ChooseMount(const std::string& asked, const std::string& verb,
                                const std::string& box) {
    if (!asked.empty()) return asked;
    std::array<char, 4096> here{};
    if (::getcwd(here.data(), here.size()) == nullptr) here[0] = '\0';
    for (const SbxfsMount& mount : AllSbxfsMounts()) {
        if (!(std::string(here.data()) + "/").starts_with(mount.path + "/")) continue;
        if (IsTrusted(mount)) return mount.path;
        return Error(Errno{EPERM}, mount.path + " is of user " + std::to_string(mount.user) +
                                       ": if you trust them, sbxfs " + verb + " -m " + mount.path +
                                       " " + box);
    }
    std::vector<std::string> mounts = TrustedMounts();
    const std::string all = Join(mounts, ", ");
    // One whose daemon is gone or stopped is not meant, and must not stop us.
    std::erase_if(mounts, [](const std::string& mount) {
        return !ProbeFiles({mount + "/.mount/version"}, kPatience);
    });
    if (mounts.size() == 1) return mounts.front();
    if (mounts.empty() && !all.empty()) {
        return Error(Errno{ENOTCONN}, "no daemon answers on " + all +
                                          ": see sbxfs status, or mount it again with sbxfs mount "
                                          "MOUNTPOINT");
    }
    if (mounts.empty()) {
        return Error(Errno{ENOENT}, "nothing is mounted; start with: sbxfs mount MOUNTPOINT");
    }
    return Error(Errno{EINVAL}, "several mounts are there (" + Join(mounts, ", ") + "): sbxfs " +
                                    verb + " -m MOUNTPOINT " + box);
}

Result<std::string> AbsoluteMountPoint(const std::string& path) {
    std::string clean = path;
    while (clean.size() > 1 && clean.back() == '/')
        clean.pop_back();
    const std::size_t slash = clean.rfind('/');
    const std::string last = slash == std::string::npos ? clean : clean.substr(slash + 1);
    const std::string parent = slash == std::string::npos ? "." : clean.substr(0, slash + 1);
    if (last.empty() || last == "." || last == "..") {
        return Error(Errno{EINVAL}, "'" + Printable(path) + "' cannot be a mount point");
    }
    std::array<char, 4096> resolved{};
    if (::realpath(parent.c_str(), resolved.data()) == nullptr) {
        const int code = errno;
        const Error why = SystemError(code, "mount point " + Printable(path), Blame::kCaller);
        if (code != ENOENT) return why;
        return Error(why.code(), why.what() + ": make the directory first", why.blame());
    }
    const std::string base = resolved.data();
    return (base == "/" ? "" : base) + "/" + last;
}

Status Detach(const std::string& mountpoint) {
    if (::geteuid() == 0) {
        if (::umount2(mountpoint.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return Ok();
        return SystemError(errno, "unmounting " + mountpoint, Blame::kCaller);
    }
    std::string path = mountpoint;
    std::array<char*, 6> argv = {const_cast<char*>("fusermount3"),
                                 const_cast<char*>("-u"),
                                 const_cast<char*>("-z"),
                                 const_cast<char*>("--"),
                                 path.data(),
                                 nullptr};
    pid_t child = 0;
    const int code = ::posix_spawnp(&child, "fusermount3", nullptr, nullptr, argv.data(), environ);
    if (code != 0) {
        return Error(Errno{code}, "fusermount3 could not be run: apt install fuse3");
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status == 0) return Ok();
    return Error(Errno{EBUSY}, "fusermount3 could not unmount " + mountpoint);
}

Result<std::string> PrepareMountPoint(const std::string& mountpoint) {
    std::string path = TRY(AbsoluteMountPoint(mountpoint));
    const std::vector<SbxfsMount> mounts = AllSbxfsMounts();
    const bool ours = std::any_of(mounts.begin(), mounts.end(),
                                  [&path](const SbxfsMount& mount) { return mount.path == path; });
    struct stat found {};
    const int code = ::stat(path.c_str(), &found) == 0 ? 0 : errno;
    // ECONNABORTED: its daemon, just killed, was still on its way out when we asked.
    if (ours && (code == ENOTCONN || code == ECONNABORTED)) {
        (void)TRY(Detach(path));  // its daemon is gone: what it left in the way goes too
        if (::stat(path.c_str(), &found) != 0) return SystemError(errno, "mount point " + path);
    } else if (ours) {
        return Error(Errno{EBUSY}, "there is a living sbxfs on " + path + ": sbxfs umount " + path);
    } else if (code != 0) {
        Error error = SystemError(code, "mount point " + path, Blame::kCaller);
        if (code == ENOENT) return Error(Errno{code}, error.what() + ": make the directory first");
        return error;
    }
    if (!S_ISDIR(found.st_mode))
        return Error(Errno{ENOTDIR}, "mount point " + path + " is not a directory");
    // The path itself may be a link: mountinfo and our own checks want it without.
    std::array<char, 4096> resolved{};
    if (::realpath(path.c_str(), resolved.data()) == nullptr) {
        return SystemError(errno, "mount point " + path);
    }
    return std::string(resolved.data());
}

}  // namespace sbxfs
