// What README.md says in the mount and in each sandbox, for people and for agents that have nothing but
// the path.
#pragma once

#include <string>

#include "fs/mount_context.h"

namespace sbxfs {

inline constexpr const char* kContractVersion = "1";  // .mount/version

std::string MountReadme(const MountSettings& settings);
std::string SandboxReadme(const MountSettings& settings, const Sandbox& sandbox);

}  // namespace sbxfs
