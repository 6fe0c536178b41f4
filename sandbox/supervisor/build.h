// What this program calls itself: a hash of its sources, given by the build.
#pragma once

namespace sbxfs::supervisor {

#ifndef SBXFS_SUPERVISOR_BUILD
#define SBXFS_SUPERVISOR_BUILD "unknown"
#endif
inline constexpr char kBuild[] = SBXFS_SUPERVISOR_BUILD;

}  // namespace sbxfs::supervisor
