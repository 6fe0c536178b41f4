// How requests come in and answers go out: what libfuse reads and writes with, in the daemon and in the
// protocol tests. One session at a time. Private to the fuse_*.cc files and the protocol tests.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

namespace sbxfs {

// For fuse_session_custom_io() of a new session.
fuse_custom_io FuseChannel();

}  // namespace sbxfs
