// Times as AWS writes them. Pure; any thread.
#pragma once

#include <optional>
#include <string>

#include "base/clock.h"

namespace sbxfs::aws {

// "2026-11-21T19:25:00Z", with or without a fraction, or an offset such as "+00:00".
std::optional<SystemTime> ParseIso8601(const std::string& text);

}  // namespace sbxfs::aws
