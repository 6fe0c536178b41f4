// `sbxfs config check` and `sbxfs config show`: the configuration as a mount would take it, without one.
#pragma once

#include <string>

namespace sbxfs {

// 0 when it can be used; else 1, after file, line and what is wrong.
int ConfigCheckCommand(const std::string& file);
// All that is in effect, defaults too, as TOML; secrets as <set>.
int ConfigShowCommand(const std::string& file);

}  // namespace sbxfs
