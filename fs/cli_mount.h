// `sbxfs mount` and `sbxfs umount`, also as mount(8)'s helpers. Exit codes are those of mount(8).
#pragma once

#include <string>
#include <vector>

namespace sbxfs {

struct MountRequest {
    std::string mountpoint;
    std::string config;
    std::vector<std::string> options;  // each OPT[,OPT]
    bool foreground = false;
    bool debug = false;
    bool sloppy = false;
};

int MountCommand(const MountRequest& request);
int UmountCommand(const std::string& mountpoint, bool discard);

}  // namespace sbxfs
