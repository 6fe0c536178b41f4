// The mounts of this machine, from /proc/self/mountinfo: never by looking into them, which might hang.
// Any process, any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace sbxfs {

// Mount points of file system type fuse.sbxfs, in the order they were mounted.
std::vector<std::string> SbxfsMounts();
// The same, of a mountinfo text.
std::vector<std::string> SbxfsMountsOf(const std::string& mountinfo);

// Makes `mountpoint` ready: an existing empty directory that nothing of ours is mounted on. A stale mount
// of ours (its daemon was killed) is taken away; a living one is EBUSY. Returns the path without links.
Result<std::string> PrepareMountPoint(const std::string& mountpoint);

// Detaches a mount, as root or by fusermount3.
Status Detach(const std::string& mountpoint);

}  // namespace sbxfs
