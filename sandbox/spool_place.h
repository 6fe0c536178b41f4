// Where the supervisor's spool of a sandbox lies. On a machine of its own a sandbox has one place for
// it; on a machine that stays, several sandboxes of several mounts have one directory each, named by
// their tokens, in a common one that is nobody else's: ~/.sbxfs/TOKEN. Pure.
#pragma once

#include <string>
#include <string_view>

#include "sandbox/provider.h"

namespace sbxfs {

inline constexpr std::string_view kSpoolParent = ".sbxfs";

// As a login sees it: relative ones are below its home directory.
std::string SpoolDirOf(const ConnectInfo& connect);

// The directory that holds the spools of all sandboxes there; empty where the spool is not in one.
std::string SpoolParentOf(std::string_view spool_dir);

// Whether `path` is that directory of a login's home, or lies in it.
bool IsBelowSpoolParent(std::string_view path);

}  // namespace sbxfs
