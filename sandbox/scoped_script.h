// A serial command with a directory or variables of its own: they hold for that command alone,
// though its shell serves the commands after it too.
#pragma once

#include <string>
#include <string_view>

#include "sandbox/records.h"

namespace sbxfs {

// Whether a shell can have a variable of this name (XBD 3.235).
bool IsShellName(std::string_view name);

// `script` in a subshell that first enters spec.cwd and exports spec.env, on the script's own first
// line, so that line numbers in messages stay true. Without either: `script` itself. Names in
// spec.env are shell names.
std::string ScopedScript(const CommandSpec& spec, std::string script);

}  // namespace sbxfs
