// The process behind a mount: puts state, sandboxes, file system and session together in the right order
// and takes them apart in the reverse one. Used by `sbxfs mount`, in its own process or in front.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "fs/config.h"

namespace sbxfs {

struct DaemonOptions {
    Config config;
    std::string mountpoint;  // absolute, without links
    std::string state_dir;   // empty: the default for the mount point
    bool foreground = false;
    bool debug = false;
    std::vector<std::string> mount_options;  // for the kernel
    Duration op_timeout = std::chrono::seconds(30);
};

// Runs until unmounted. `ready` is called once the mount answers; an error before that means nothing was
// mounted.
Status RunDaemon(const DaemonOptions& options, UniqueFunction<void()> ready);

}  // namespace sbxfs
