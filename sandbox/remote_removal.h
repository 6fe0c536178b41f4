// Removes a directory of a sandbox with all that is in it, over its link. Follows no link. Loop
// thread only.
#pragma once

#include <string>

#include "base/loop.h"
#include "sandbox/remote_files.h"

namespace sbxfs {

// `done` runs once, with the first error; what is not there is as good as removed. `files` lives
// until then, or fails what it was asked when it dies.
void RemoveRemoteTree(RemoteFiles& files, const std::string& path, Done done);

}  // namespace sbxfs
