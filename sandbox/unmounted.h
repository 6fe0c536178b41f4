// Sandboxes that nobody serves at the moment: the journals of this user's default state directories whose
// daemon does not run. For the command line; reads the disk.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/records.h"

namespace sbxfs {

struct Unmounted {
    std::string state_dir;
    std::string mountpoint;                // where it was mounted last; empty: not known
    std::vector<SandboxRecord> sandboxes;  // those that are not gone; never empty
};

struct Unserved {
    std::vector<Unmounted> found;
    std::map<std::string, Error> unread;  // state directories that could not be read, and why
};
Unserved FindUnmounted();

}  // namespace sbxfs
