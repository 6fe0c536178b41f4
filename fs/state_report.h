// `kill -USR1`: the daemon's state, as lines of its log: who waits for what, sandboxes, caches, changes that have not
// arrived. Not from a signal's handler: it locks and allocates like anything else.
#pragma once

#include "fs/mount_context.h"

namespace sbxfs {

void LogState(MountContext& mount);

}  // namespace sbxfs
