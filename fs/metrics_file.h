// The text of .mount/metrics: all that is counted (base/metrics.h), and what there is of this mount and of the process
// at the moment it is read. Asks nobody: no sandbox hears of it, and nothing but short locks is waited for. Any thread.
#pragma once

#include <string>

#include "fs/mount_context.h"

namespace sbxfs {

std::string MetricsOf(MountContext& mount);

}  // namespace sbxfs
