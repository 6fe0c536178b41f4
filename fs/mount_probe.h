// Reads of a mount that may not answer: its daemon can be stopped, and who waits for it then cannot be
// interrupted. The reading is done by a child, which can be killed. Subcommands only.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace sbxfs {

// How long a mount has for its answer: it comes from memory.
constexpr std::chrono::seconds kPatience(3);

// The contents of `paths` (absolute, one mount's), one a path. ETIMEDOUT when they take longer than `limit`, else the first error.
Result<std::vector<std::string>> ProbeFiles(const std::vector<std::string>& paths,
                                            std::chrono::milliseconds limit);

}  // namespace sbxfs
