// libfuse's callbacks: each only translates and calls FileSystem. Private to the fuse_*.cc files and the
// protocol tests.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

namespace sbxfs {

// The userdata of the session is a FileSystem.
const fuse_lowlevel_ops& FuseOps();

}  // namespace sbxfs
