// Starting a program without a shell: the only place that knows posix_spawn(3). The child leads a session of
// its own, has the default signals, and inherits three descriptors and nothing else. Any thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace sbxfs {

struct SpawnRequest {
    std::vector<std::string> argv;  // not empty; found in PATH when its first word has no '/'
    int in = -1;                    // become stdin, stdout and stderr there
    int out = -1;
    int err = -1;
    std::optional<std::vector<std::string>> environment;  // absent: ours
};

// The child's pid; the caller waits for it. The errno of posix_spawnp(3) otherwise.
Result<pid_t> Spawn(const SpawnRequest& request);

}  // namespace sbxfs
