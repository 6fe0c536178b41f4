#include "sandbox/providers/local/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/strings.h"
#include "sandbox/providers/local/mounts.h"
#include "sandbox/providers/local/remover.h"

namespace sbxfs {
namespace {

constexpr std::array<std::string_view, 7> kProgramDirs = {"usr",   "bin",   "sbin",  "lib",
                                                          "lib32", "lib64", "libx32"};

Status MakeOwned(int dir, const std::string& name, mode_t mode, Owner owner) {
    if (::mkdirat(dir, name.c_str(), mode) != 0) return SystemError(errno, "mkdir layer/" + name);
    if (::fchownat(dir, name.c_str(), owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return SystemError(errno, "chown layer/" + name);
    }
    return Ok();
}

}  // namespace

ProgramTrees FindProgramTrees(const std::string& root) {
    ProgramTrees trees;
    for (const std::string_view name : kProgramDirs) {
        const std::string path = root + "/" + std::string(name);
        struct stat found {};
        if (::lstat(path.c_str(), &found) != 0) continue;
        if (S_ISDIR(found.st_mode)) trees.directories.emplace_back(name);
        if (!S_ISLNK(found.st_mode)) continue;
        std::array<char, PATH_MAX> target{};
        const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
        if (size > 0)
            trees.links.emplace_back(name,
                                     std::string(target.data(), static_cast<std::size_t>(size)));
    }
    return trees;
}

Result<LowerTree> CloneLower(const std::string& name, std::optional<int> userns) {
    LowerTree lower;
    lower.name = name;
    // A mount namespace below another may not separate what it got as one: there, everything or
    // nothing.
    const Depth depth = userns ? Depth::kThisMount : Depth::kWithSubmounts;
    lower.tree = TRY(CloneTree("/" + name, depth));
    if (userns) {
        const Status mapped = MapIds(lower.tree.get(), *userns, depth);
        lower.ids_mapped = mapped.has_value();
        if (!mapped) lower.why = mapped.error().what();
    }
    for (const MountPoint& point : MountPointsBelow("/" + name)) {
        // Another daemon answers there, perhaps ourselves; and what belongs to its user is not ours to show.
        if (point.type.starts_with("fuse") || point.type == "autofs") continue;
        Result<UniqueFd> submount = CloneTree(point.path, depth);
        if (!submount) continue;  // covered by another mount
        if (userns) (void)MapIds(submount->get(), *userns, depth);
        if (!MakeReadOnly(submount->get(), depth)) continue;
        lower.submounts.emplace_back(point.path, *std::move(submount));
    }
    return lower;
}

Status MakeUpper(int layer, const std::string& name, Owner owner) {
    (void)TRY(MakeOwned(layer, name, 0700, Owner{::geteuid(), ::getegid()}));
    (void)TRY(MakeOwned(layer, name + "/work", 0700, Owner{::geteuid(), ::getegid()}));
    return MakeOwned(layer, name + "/upper", 0755, owner);
}

Status RenewWork(int layer, const std::string& name) {
    const UniqueFd dir(
        ::openat(layer, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!dir) return SystemError(errno, "open layer/" + name);
    (void)TRY(RemoveTree(dir.get(), "work"));
    return MakeOwned(layer, name + "/work", 0700, Owner{::geteuid(), ::getegid()});
}

Result<ShownTree> ShowTree(LowerTree lower, const OverlayPaths& paths, bool user_xattr) {
    ShownTree shown;
    shown.name = lower.name;
    shown.ids_mapped = lower.ids_mapped;
    shown.why = lower.why;
    (void)TRY(Attach(lower.tree.get(), paths.lower));
    std::vector<std::string> lowers = {paths.lower};
    if (!lower.ids_mapped && !paths.skeleton.empty()) lowers.insert(lowers.begin(), paths.skeleton);
    Result<UniqueFd> overlay = MountOverlay(lowers, paths.layer, user_xattr);
    if (overlay) {
        shown.writable = true;
        (void)TRY(AttachInRoot(overlay->get(), paths.root, lower.name));
    } else {
        shown.why = overlay.error().what();
        const UniqueFd plain = TRY(CloneTree(paths.lower, Depth::kWithSubmounts));
        (void)TRY(MakeReadOnly(plain.get(), Depth::kWithSubmounts));
        (void)TRY(AttachInRoot(plain.get(), paths.root, lower.name));
    }
    for (const auto& [point, submount] : lower.submounts) {
        (void)AttachInRoot(submount.get(), paths.root, point.substr(1));
    }
    return shown;
}

Result<UniqueFd> MountOverlay(const std::vector<std::string>& lowers, const std::string& layer,
                              bool user_xattr) {
    MountOptions options = {
        {"source", "sbxfs"},
        {"lowerdir", Join(lowers, ":")},
        {"upperdir", layer + "/upper"},
        {"workdir", layer + "/work"},
        // Else every unmount, so every destroy, would sync the whole file system below.
        {"volatile", ""}};
    // trusted.* attributes are for the machine's root alone (overlayfs.rst, "User xattr").
    if (user_xattr) options.emplace_back("userxattr", "");
    return MakeFileSystem("overlay", options);
}

}  // namespace sbxfs
