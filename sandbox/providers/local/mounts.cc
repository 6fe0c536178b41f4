#include "sandbox/providers/local/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/files.h"
#include "base/strings.h"

namespace sbxfs {
namespace {

unsigned Recursive(Depth depth) {
    return depth == Depth::kWithSubmounts ? static_cast<unsigned>(AT_RECURSIVE) : 0U;
}

Status SetAttributes(int tree, Depth depth, mount_attr attributes, std::string_view what) {
    if (::mount_setattr(tree, "", AT_EMPTY_PATH | Recursive(depth), &attributes,
                        sizeof attributes) != 0) {
        return SystemError(errno, what);
    }
    return Ok();
}

// What the kernel wrote about the failure into the file system context ("e overlay: ...").
std::string KernelWords(int context) {
    std::string words;
    std::array<char, 512> line{};
    for (;;) {
        const ssize_t got = ::read(context, line.data(), line.size());
        if (got <= 0) return words;
        if (!words.empty()) words += "; ";
        words += Printable(Trim({line.data(), static_cast<std::size_t>(got)}));
    }
}

Error ContextError(int context, int code, const std::string& what) {
    const std::string words = KernelWords(context);
    Error error = SystemError(code, what);
    if (words.empty()) return error;
    return {error.code(), error.what() + " (" + words + ")", error.blame()};
}

// \040 and friends of mountinfo (proc(5)).
std::string Unescape(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::string_view digits = text.substr(i + 1, 3);
        const bool escape = text[i] == '\\' && digits.size() == 3 &&
                            digits.find_first_not_of("01234567") == std::string_view::npos;
        if (!escape) {
            plain += text[i];
            continue;
        }
        plain +=
            static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
        i += 3;
    }
    return plain;
}

}  // namespace

Result<UniqueFd> CloneTree(const std::string& path, Depth depth) {
    UniqueFd tree(::open_tree(AT_FDCWD, path.c_str(),
                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | Recursive(depth)));
    if (!tree) return SystemError(errno, "open_tree " + path);
    return tree;
}

Result<UniqueFd> CloneTree(int fd, Depth depth) {
    UniqueFd tree(::open_tree(
        fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | Recursive(depth)));
    if (!tree) return SystemError(errno, "open_tree");
    return tree;
}

Status MapIds(int tree, int userns, Depth depth) {
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<std::uint64_t>(userns);
    return SetAttributes(tree, depth, attributes, "id-mapped mount");
}

Status MakeReadOnly(int tree, Depth depth) {
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    return SetAttributes(tree, depth, attributes, "read-only mount");
}

Status Attach(int tree, const std::string& path) {
    if (::move_mount(tree, "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
        return SystemError(errno, "mounting " + path);
    }
    return Ok();
}

Status AttachInRoot(int tree, int root, const std::string& path) {
    const UniqueFd target = TRY(OpenInRoot(root, path, 0));
    if (::move_mount(tree, "", target.get(), "",
                     MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
        return SystemError(errno, "mounting " + path + " in the sandbox");
    }
    return Ok();
}

Result<UniqueFd> OpenInRoot(int root, const std::string& path, int flags) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(O_PATH | O_CLOEXEC | flags);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    // glibc has no wrapper.
    UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
    if (!fd) return SystemError(errno, path + " in the sandbox");
    return fd;
}

Result<UniqueFd> MakeFileSystem(const std::string& type, const MountOptions& options) {
    const UniqueFd context(::fsopen(type.c_str(), FSOPEN_CLOEXEC));
    if (!context) return SystemError(errno, "file system " + type);
    for (const auto& [key, value] : options) {
        const bool flag = value.empty();
        if (::fsconfig(context.get(), flag ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING, key.c_str(),
                       flag ? nullptr : value.c_str(), 0) != 0) {
            return ContextError(context.get(), errno, type + " option " + key);
        }
    }
    if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        return ContextError(context.get(), errno, "mounting " + type);
    }
    UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
    if (!mount) return ContextError(context.get(), errno, "mounting " + type);
    return mount;
}

Status MakeMountsPrivate() {
    if (::unshare(CLONE_NEWNS) != 0) return SystemError(errno, "own mount namespace");
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        return SystemError(errno, "making mounts private");
    }
    return Ok();
}

std::vector<MountPoint> MountPointsBelow(const std::string& prefix) {
    const auto text = ReadWholeFile("/proc/self/mountinfo");
    return text ? ParseMountPointsBelow(*text, prefix) : std::vector<MountPoint>();
}

std::vector<MountPoint> ParseMountPointsBelow(std::string_view mountinfo, std::string_view prefix) {
    const std::string under = std::string(prefix) + "/";
    std::map<std::string, std::string> points;  // sorted: a parent comes before what is below it
    for (const std::string& line : Split(mountinfo, '\n')) {
        const std::vector<std::string> fields = Split(line, ' ');
        constexpr std::size_t kMountPoint = 4;
        const auto dash = std::find(fields.begin(), fields.end(), "-");
        if (fields.size() <= kMountPoint || fields.end() - dash < 2) continue;
        const std::string point = Unescape(fields[kMountPoint]);
        if (point.starts_with(under)) points[point] = *(dash + 1);  // the uppermost is listed last
    }
    std::vector<MountPoint> sorted;
    for (const auto& [path, type] : points)
        sorted.push_back({path, type});
    return sorted;
}

}  // namespace sbxfs
