// `sbxfs umount`, also as umount(8)'s helper: what was accepted reaches the sandboxes first, then the mount
// goes, then its daemon ends. Exit codes are those of mount(8).
#pragma once

#include <string>

namespace sbxfs {

struct UmountRequest {
    std::string mountpoint;
    bool discard = false;  // give up what has not reached a sandbox
    bool lazy = false;     // umount -l: out of the tree now, the rest when nobody uses it any more
};

int UmountCommand(const UmountRequest& request);

}  // namespace sbxfs
