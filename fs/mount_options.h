// The -o options of `sbxfs mount` (contract 7). Pure.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sbxfs {

struct MountOptions {
    std::string config;
    std::string state_dir;
    Duration op_timeout = std::chrono::seconds(30);
    std::vector<std::string> kernel;  // passed on: ro, allow_other, noexec
};

// `lists` are OPT[,OPT] each. EINVAL naming an unknown option and the nearest known one, unless `sloppy`.
Result<MountOptions> ParseMountOptions(const std::vector<std::string>& lists, bool sloppy);

// One line per option, for `-o help`.
std::string MountOptionsHelp();

}  // namespace sbxfs
