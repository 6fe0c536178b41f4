// Whether a local sandbox is still there, and if not, why, from its box alone: a flock, a pid, a
// note. A handful of small file operations on the state directory's disk; any thread.
#pragma once

#include <string>
#include <string_view>

#include "sandbox/provider.h"

namespace sbxfs {

Health HealthOf(const std::string& state_dir, const std::string& token);

// Pure: what an init's note means. Empty or unknown: it was killed.
Health HealthFromNote(std::string_view note);

}  // namespace sbxfs
