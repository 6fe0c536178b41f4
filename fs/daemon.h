// The process behind a mount: puts state, sandboxes, file system and session together in the right order
// and takes them apart in the reverse one. Used by `sbxfs mount`, in its own process or in front.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_function.h"
#include "fs/config.h"
#include "fs/mount_options.h"

namespace sbxfs {

struct DaemonOptions {
    Config config;
    MountOptions mount;  // mount.config is where a reload reads; empty: in the usual places
    std::string source = "sbxfs";
    std::string mountpoint;  // absolute, without links
    bool foreground = false;
    bool debug = false;
};

// Runs until unmounted. `ready` is called once the mount answers; an error before that means nothing was
// mounted.
Status RunDaemon(const DaemonOptions& options, UniqueFunction<void()> ready);

}  // namespace sbxfs
