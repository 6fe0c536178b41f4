// The mount system calls of Linux 5.12 as functions that return an Error in words: trees are cloned
// and changed while detached, then put in place in one step, so no half-made mount is ever visible.
// Called by the helper's child, in its own mount namespace, never by the daemon.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sbxfs {

enum class Depth { kThisMount, kWithSubmounts };

// A detached copy of what `path` shows.
Result<UniqueFd> CloneTree(const std::string& path, Depth depth);
// The same of an open directory or file; it must belong to the caller's mount namespace.
Result<UniqueFd> CloneTree(int fd, Depth depth);

// Shows the ids of the files through the map of `userns` (mount_setattr(2), MOUNT_ATTR_IDMAP).
// EINVAL where the file system cannot.
Status MapIds(int tree, int userns, Depth depth);
Status MakeReadOnly(int tree, Depth depth);
Status Attach(int tree, const std::string& path);
// Onto `path` as the directory `root` shows it when it is "/": no link leads outside (openat2(2)).
Status AttachInRoot(int tree, int root, const std::string& path);
// O_PATH of `path` with the same rule; with `flags` such as O_DIRECTORY.
Result<UniqueFd> OpenInRoot(int root, const std::string& path, int flags);

// A new file system, not attached anywhere: fsopen, fsconfig, fsmount. An empty value is a flag.
// The error carries the kernel's own words where it gives some.
using MountOptions = std::vector<std::pair<std::string, std::string>>;
Result<UniqueFd> MakeFileSystem(const std::string& type, const MountOptions& options);

// Own mount namespace, nothing propagates to or from the host.
Status MakeMountsPrivate();

// Mount points of this process's namespace below `prefix` (not itself), as in /proc/self/mountinfo, parents first.
struct MountPoint {
    std::string path;
    std::string type;  // "ext4", "fuse.sshfs"

    bool operator==(const MountPoint&) const = default;
};
std::vector<MountPoint> MountPointsBelow(const std::string& prefix);
std::vector<MountPoint> ParseMountPointsBelow(std::string_view mountinfo, std::string_view prefix);

}  // namespace sbxfs
