// `.mount/info.json`: the mount as its daemon sees it, for `sbxfs status` and `umount` and for whoever
// watches it. From memory. Any thread.
#pragma once

#include <string>

#include "fs/mount_context.h"

namespace sbxfs {

std::string MountInfoJson(MountContext& mount);

}  // namespace sbxfs
