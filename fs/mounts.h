// The mounts of this machine, from /proc/self/mountinfo: never by looking into them, which might hang.
// Any process, any thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace sbxfs {

// A mount of file system type fuse.sbxfs.
struct SbxfsMount {
    std::string path;
    std::string device;  // "0:42", the same for each mount of one file system
    uid_t user = 0;      // who mounted it
    bool for_all = false;
};

// Those of a mountinfo text, in the order they were mounted.
std::vector<SbxfsMount> ParseSbxfsMounts(const std::string& mountinfo);
// Those of this mount namespace.
std::vector<SbxfsMount> AllSbxfsMounts();
// Paths of those that this user may look into and can believe: his own, and root's where root shares them. What another
// user mounts and shares (fuse(4), allow_other) need not even be sbxfs: it is used only where it is named.
std::vector<std::string> TrustedMounts();

// The mount on a path, found by its name first: to resolve that may mean to ask a mount that does not answer. EINVAL,
// naming those there are, when none is.
Result<SbxfsMount> FindMount(const std::string& path);
bool IsTrusted(const SbxfsMount& mount);

// The mount a subcommand is about: the one asked for, else the one the caller stands in, else the only one of
// TrustedMounts() that answers. The error names those there are and how to say which: `sbxfs VERB -m MOUNTPOINT BOX`.
Result<std::string> ChooseMount(const std::string& asked, const std::string& verb,
                                const std::string& box);

// The absolute path: the parent resolved, the last component kept, because resolving that would ask a mount
// that may hang.
Result<std::string> AbsoluteMountPoint(const std::string& path);

// Makes `mountpoint` ready: an existing empty directory that nothing of ours is mounted on. A stale mount
// of ours (its daemon was killed) is taken away; a living one is EBUSY. Returns the path without links.
Result<std::string> PrepareMountPoint(const std::string& mountpoint);

// Detaches a mount, as root or by fusermount3.
Status Detach(const std::string& mountpoint);

}  // namespace sbxfs
