// Removes a tree that a hostile sandbox may have arranged: nothing is followed, no mount is
// crossed, depth costs neither stack nor descriptors, and directories nobody may read are opened up
// first. Nothing may run in the tree any more. Helper only (a million files take seconds).
#pragma once

#include <string>

#include "base/result.h"

namespace sbxfs {

// Removes `name` in the directory `parent`, whatever it is. Success when it is not there.
Status RemoveTree(int parent, const std::string& name);

}  // namespace sbxfs
