// What every mount needs of the machine, whatever its sandboxes are. For the message of a mount that failed, and for
// `sbxfs doctor`. Any thread.
#pragma once

#include "base/result.h"

namespace sbxfs {

// ENODEV: no /dev/fuse. EACCES: not for this user.
Status CheckFuseDevice();
// Ordinary users mount by fusermount3. ENOENT: it is not installed.
Status CheckFuseHelper();

}  // namespace sbxfs
